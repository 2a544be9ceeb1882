"""How often somebody may ask."""

from hypothesis import given
from hypothesis import strategies as st

from app.api.rates import Rate


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_share_may_be_taken_at_once_and_comes_back_evenly() -> None:
    clock = Clock()
    rate = Rate(60, clock=clock)
    assert [rate.take("ada") for _ in range(60)] == [0.0] * 60
    wait = rate.take("ada")
    assert 0.9 < wait <= 1.0
    clock.now += wait
    assert rate.take("ada") == 0.0
    assert rate.take("ada") > 0
    clock.now += 10
    assert sum(rate.take("ada") == 0 for _ in range(30)) == 10


def test_names_have_their_own_shares() -> None:
    rate = Rate(1, clock=Clock())
    assert rate.take("ada") == rate.take("bob") == 0.0
    assert rate.take("ada") > 0


def test_whoever_was_refused_lost_nothing_by_asking() -> None:
    clock = Clock()
    rate = Rate(1, clock=clock)
    rate.take("ada")
    for _ in range(1000):
        assert rate.take("ada") > 0
        assert rate.wait("ada") > 0
    clock.now += 60.1
    assert rate.take("ada") == 0.0


def test_any_number_of_names_takes_no_more_memory_than_so_many() -> None:
    clock = Clock()
    rate = Rate(60, clock=clock, most_names=100)
    for name in range(10_000):
        rate.take(str(name))
    assert len(rate) == 100
    clock.now += 120  # all have their places back: nothing is left to remember
    rate.take("one more")
    assert len(rate) == 1


@given(st.lists(st.floats(0, 20), max_size=200), st.integers(1, 100))
def test_never_more_than_two_shares_in_a_minute(pauses: list[float], per_minute: int) -> None:
    clock = Clock()
    rate = Rate(per_minute, clock=clock)
    taken: list[float] = []
    for pause in pauses:
        clock.now += pause
        if rate.take("ada") == 0.0:
            taken.append(clock.now)
    for start in taken:
        assert sum(start <= one < start + 60 for one in taken) <= 2 * per_minute
