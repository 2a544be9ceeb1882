"""When a failing engine is left alone, and when it is asked again."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.breaker import Breaker, RetryBudget
from generator.interface import (
    GeneratorError,
    GeneratorOverloaded,
    GeneratorRefused,
    GeneratorTimeout,
    GeneratorUnavailable,
)

REST = 10.0
LATER = 1e9


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(failures=3, rest_seconds=REST, clock=clock)


def fail(breaker: Breaker, error: BaseException, deadline: float = LATER) -> None:
    with pytest.raises(type(error)), breaker.request(deadline):
        raise error


def opened(breaker: Breaker) -> Breaker:
    for _ in range(3):
        fail(breaker, GeneratorTimeout("late"))
    return breaker


def test_so_many_failures_in_a_row_open_it_and_one_success_in_between_does_not(
    breaker: Breaker,
) -> None:
    for _ in range(2):
        fail(breaker, GeneratorError("garbage"))
    with breaker.request(LATER):
        pass
    for _ in range(2):
        fail(breaker, GeneratorError("garbage"))
    assert breaker.is_closed
    fail(breaker, GeneratorError("garbage"))
    assert not breaker.is_closed
    with pytest.raises(GeneratorUnavailable, match=r"3 times in a row.*in 10 s"):
        breaker.check()


def test_after_the_rest_one_may_try_at_a_time(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += REST
    with breaker.request(LATER):
        with pytest.raises(GeneratorUnavailable):
            breaker.check()
        with pytest.raises(GeneratorUnavailable), breaker.request(LATER):
            pass
    assert breaker.is_closed
    with breaker.request(LATER), breaker.request(LATER):
        pass


def test_a_trial_that_fails_means_another_rest(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += REST
    fail(breaker, GeneratorUnavailable("still dead"))
    with pytest.raises(GeneratorUnavailable, match="4 times"):
        breaker.check()
    clock.now += REST
    breaker.check()


@pytest.mark.parametrize(
    "says_nothing",
    [
        lambda: GeneratorOverloaded("full"),
        lambda: GeneratorRefused("too long a prompt"),
        GeneratorExit,
        KeyboardInterrupt,
    ],
)
def test_who_is_full_or_refuses_or_is_left_has_not_failed(
    breaker: Breaker, clock: Clock, says_nothing: Callable[[], BaseException]
) -> None:
    for _ in range(5):
        fail(breaker, says_nothing())
    assert breaker.is_closed
    opened(breaker)
    clock.now += REST
    fail(breaker, says_nothing())  # as a trial: the next one may try
    breaker.check()
    assert not breaker.is_closed


def test_too_little_time_is_the_callers_affair(breaker: Breaker, clock: Clock) -> None:
    for _ in range(5):
        fail(breaker, GeneratorTimeout("late"), deadline=clock.now)
    assert breaker.is_closed


@given(st.lists(st.booleans(), max_size=300))
def test_retries_are_few_however_requests_and_failures_mix(requests: list[bool]) -> None:
    budget = RetryBudget(share=0.1, most=10)
    retries = 0
    for wants_a_retry in requests:
        budget.earn()
        retries += wants_a_retry and budget.spend()
        assert retries <= 10 + 0.1 * len(requests)
    if sum(requests) <= 10:
        assert retries == sum(requests)


def test_a_breaker_that_could_never_work_is_refused() -> None:
    for failures, rest in ((0, 1.0), (1, 0.0)):
        with pytest.raises(ValueError, match="breaker needs"):
            Breaker(failures=failures, rest_seconds=rest)
