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
