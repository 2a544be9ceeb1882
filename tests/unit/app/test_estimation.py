"""What a sample tells of all turns, and how often it is true."""

import random
from collections.abc import Callable, Sequence

import pytest

from app.estimation import Stratum, estimate, strata, student_quantile
from intent.binomial import interval

SEEDS = 100
DAYS = 5
TURNS_A_DAY = 400
SHARE = 0.05


def stream(draw: random.Random) -> list[tuple[int, float, bool]]:
    """(day, what was saved, does it differ) of each instant turn; later days cost more, and one
    turn in ten saves next to nothing."""
    return [
        (day, 0.001 if draw.random() < 0.1 else (1 + day) * draw.gammavariate(2, 0.5), differs)
        for day in range(DAYS)
        for differs in [draw.random() < 0.07 for _ in range(TURNS_A_DAY)]
    ]


def kept(promise: Callable[[random.Random], bool]) -> int:
    return sum(promise(random.Random(seed)) for seed in range(SEEDS))


def test_the_truth_about_a_stream_with_known_costs_is_within_the_interval_as_often_as_it_says() -> (
    None
):
    def total_is_within(draw: random.Random) -> bool:
        turns = stream(draw)
        sampled = [one for one in turns if draw.random() < SHARE]
        found = estimate(strata(*sizes_and_values(turns, sampled)))
        assert found is not None
        return found.total_low <= sum(saved for _, saved, _ in turns) <= found.total_high

    def share_is_within(draw: random.Random) -> bool:
        sampled = [one for one in stream(draw) if draw.random() < SHARE]
        low, high = interval(sum(one[2] for one in sampled), len(sampled), confidence=0.95)
        return low <= 0.07 <= high

    assert kept(total_is_within) >= 90
    assert kept(share_is_within) >= 90


def sizes_and_values(
    turns: Sequence[tuple[int, float, bool]], sampled: Sequence[tuple[int, float, bool]]
) -> tuple[dict[int, int], dict[int, list[float]]]:
    sizes = {day: sum(one[0] == day for one in turns) for day in range(DAYS)}
    return sizes, {day: [one[1] for one in sampled if one[0] == day] for day in range(DAYS)}


def test_what_days_with_few_samples_saved_is_not_taken_for_all_days() -> None:
    cheap, dear = [1.0, 1.1] * 20, [10.0, 10.2] * 20
    found = estimate(strata({1: 10_000, 2: 100}, {1: cheap, 2: dear}))
    assert found is not None
    assert found.mean == pytest.approx((10_000 * 1.05 + 100 * 10.1) / 10_100)


def test_days_are_put_together_until_enough_of_them_was_sampled() -> None:
    sizes = {1: 5, 2: 700, 3: 900, 4: 300}
    found = strata(sizes, {2: [1.0] * 19, 3: [2.0] * 2, 4: [3.0]})
    assert [(one.size, len(one.values)) for one in found] == [(1905, 22)]
    assert strata(sizes, {2: [1.0] * 19}) == []


def test_of_next_to_nothing_nothing_is_said() -> None:
    assert estimate([]) is None


def test_what_was_sampled_wholly_is_known_exactly() -> None:
    values = [1.0, 2.0, 6.0] * 10
    found = estimate([Stratum(30, values)])
    assert found is not None
    assert found.mean_low == found.mean == found.mean_high == pytest.approx(3)


def test_skewed_costs_get_more_room_above() -> None:
    found = estimate([Stratum(100_000, [0.1] * 38 + [20.0, 30.0])])
    assert found is not None
    assert found.mean_high - found.mean > 1.5 * (found.mean - found.mean_low)


@pytest.mark.parametrize(("degrees", "exact"), [(4, 2.7764), (9, 2.2622), (100, 1.98397)])
def test_students_quantiles(degrees: float, exact: float) -> None:
    assert student_quantile(0.975, degrees) == pytest.approx(exact, rel=0.001)
