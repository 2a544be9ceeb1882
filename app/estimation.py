"""What a sample tells of all turns, each time with an interval of 95 % confidence.

Means: stratified by day (Cochran 1977, ch. 5), with Student's t at Satterthwaite's degrees of
freedom. What replies cost is skewed, for which a plain t interval is too short above; Hall's
transformation (1992, JRSS B 54, 221-228) takes the skewness out. Shares: Clopper and Pearson.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

CONFIDENCE = 0.95
FEWEST = 20
"""Fewer say nothing of a mean; and so many at least are in a stratum."""


@dataclass(frozen=True, slots=True)
class Estimate:
    mean: float
    mean_low: float
    mean_high: float
    total: float
    total_low: float
    total_high: float
    sampled: int


@dataclass(frozen=True, slots=True)
class Stratum:
    size: int
    """Of how many the values are a sample, drawn at random."""
    values: Sequence[float]


def strata(sizes: Mapping[int, int], values: Mapping[int, Sequence[float]]) -> list[Stratum]:
    """By day; days that follow each other are one stratum until enough of it was sampled."""
    found: list[Stratum] = []
    size = 0
    sampled: list[float] = []
    for day in sorted(sizes):
        size += sizes[day]
        sampled += values.get(day, ())
        if len(sampled) >= FEWEST:
            found.append(Stratum(size, sampled))
            size, sampled = 0, []
    if found and (size or sampled):
        last = found.pop()
        found.append(Stratum(last.size + size, [*last.values, *sampled]))
    return found


def estimate(parts: Sequence[Stratum]) -> Estimate | None:
    """None where too little was sampled to say anything."""
    if not parts:
        return None
    whole = sum(part.size for part in parts)
    mean = variance = third = squares = 0.0
    for part in parts:
        count, weight = len(part.values), part.size / whole
        center = fmean(part.values)
        off = [value - center for value in part.values]
        spread = sum(one**2 for one in off) / (count - 1)
        mean += weight * center
        of_mean = weight**2 * spread / count * max(0.0, 1 - count / part.size)
        variance += of_mean
        squares += of_mean**2 / (count - 1)
        third += weight**3 * sum(one**3 for one in off) / count / count**2
    low = high = mean
    if variance > 0:
        error, skewness = math.sqrt(variance), third / variance**1.5
        quantile = student_quantile((1 + CONFIDENCE) / 2, variance**2 / squares)
        low = mean - error * _without_skewness(quantile, skewness)
        high = mean - error * _without_skewness(-quantile, skewness)
    sampled = sum(len(part.values) for part in parts)
    return Estimate(mean, low, high, whole * mean, whole * low, whole * high, sampled)


def student_quantile(chance: float, degrees: float) -> float:
    """Abramowitz and Stegun 26.7.5; from four degrees of freedom on within 0.2 %."""
    z = NormalDist().inv_cdf(chance)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, start=1))


def _without_skewness(quantile: float, skewness: float) -> float:
    """The quantile of a mean's Student statistic; `skewness` is the mean's own."""
    if abs(skewness) < 1e-6:
        return quantile
    return 3 / skewness * (math.cbrt(1 + skewness * (quantile - skewness / 6)) - 1)
