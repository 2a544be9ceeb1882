"""Exact tails of the binomial distribution, without SciPy."""

import math

import numpy as np
from numpy.typing import NDArray


def at_most(successes: int, trials: int, chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(X ≤ successes) for each chance of success, (C,) to (C,)."""
    if successes >= trials:
        return np.ones_like(chances)
    counts = np.arange(1, successes + 1)
    logs_of_ways = np.concatenate([[0.0], np.cumsum(np.log((trials - counts + 1) / counts))])
    inner = np.clip(chances, 1e-300, 1 - 1e-16)[:, None]
    counts = np.arange(successes + 1)
    logs = logs_of_ways + counts * np.log(inner) + (trials - counts) * np.log1p(-inner)
    return np.where(chances >= 1, 0.0, np.minimum(1.0, np.exp(logs).sum(axis=1)))


def lower_bound(successes: int, trials: int, *, error: float) -> float:
    """Chernoff's bound: the chance of success is smaller with a probability of at most `error`."""
    if not successes:
        return 0.0
    share, allowed = successes / trials, -math.log(error) / trials
    low, high = 0.0, share
    for _ in range(40):
        middle = (low + high) / 2
        if _divergence(share, middle) > allowed:
            low = middle
        else:
            high = middle
    return low


def _divergence(share: float, chance: float) -> float:
    """Of Kullback and Leibler, between two coins."""
    if chance <= 0:
        return math.inf
    told = share * math.log(share / chance)
    return told + ((1 - share) * math.log((1 - share) / (1 - chance)) if share < 1 else 0.0)


def interval(successes: int, trials: int, *, confidence: float) -> tuple[float, float]:
    """Of the chance of success; exact (Clopper and Pearson 1934), so never too short."""
    if not trials:
        return 0.0, 1.0
    error = (1 - confidence) / 2
    low = _crossing(successes - 1, trials, 1 - error) if successes else 0.0
    return low, _crossing(successes, trials, error) if successes < trials else 1.0


def _crossing(successes: int, trials: int, tail: float) -> float:
    """The chance at which so many successes or fewer have this probability."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if at_most(successes, trials, np.array([middle]))[0] > tail:
            low = middle
        else:
            high = middle
    return low
