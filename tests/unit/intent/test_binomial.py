"""Binomial tails, against sums that can be done by hand and by Python's own integers."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent.binomial import at_most, interval, lower_bound


@given(st.integers(1, 60), st.integers(0, 70), st.floats(0, 1))
def test_a_tail_is_the_sum_of_its_chances(trials: int, successes: int, chance: float) -> None:
    expected = sum(
        comb(trials, n) * chance**n * (1 - chance) ** (trials - n)
        for n in range(min(successes, trials) + 1)
    )
    assert at_most(successes, trials, np.array([chance]))[0] == pytest.approx(expected, abs=1e-9)


def test_a_tail_of_thousands_keeps_its_digits() -> None:
    ways = sum(comb(5_000, n) * 19 ** (5_000 - n) for n in range(201))
    exactly = float(Fraction(ways, 20**5_000))
    assert at_most(200, 5_000, np.array([0.05]))[0] == pytest.approx(exactly, rel=1e-9)


@given(st.integers(1, 300), st.data())
def test_the_lower_bound_leaves_at_most_the_error_below_it(
    trials: int, data: st.DataObject
) -> None:
    successes = data.draw(st.integers(0, trials))
    bound = lower_bound(successes, trials, error=0.01)
    assert 0 <= bound <= successes / trials
    if successes:
        above = 1 - at_most(successes - 1, trials, np.array([bound]))[0]
        assert above <= 0.01 + 1e-9


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.30850), (5, 100, 0.01643, 0.11283), (40, 40, 0.91190, 1.0), (0, 0, 0.0, 1.0)],
)
def test_intervals_are_those_of_clopper_and_pearson(
    successes: int, trials: int, low: float, high: float
) -> None:
    assert interval(successes, trials, confidence=0.95) == pytest.approx((low, high), abs=1e-5)
