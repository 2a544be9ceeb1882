"""Whether messages are still like those that a version was calibrated on.

They may be any mixture of what was in scope and what was not, with the promised share in scope or
more: that is what the certificate takes for granted, so no mixture within it is drift. Two things
are tested, each against the mixture that explains it best: how the confidences are distributed,
and the share of instant answers. The statistic is Wald's, with the variance of both samples; as
the best mixture is sought, the chi-squared tail errs to the safe side.

Whoever looks again and again finds something sooner or later. So the k-th look at a version gets
only FALSE_ALARMS / (k (k + 1)) of the error, which adds up to FALSE_ALARMS over all looks at it,
however long it serves and however much the windows overlap (Bonferroni).
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intent.certificate import CONFIDENCE_EDGES, Calibration
from intent.interface import Promise

FALSE_ALARMS = 0.01
"""Of versions whose messages never change, how many are ever called drifted at most."""
FEWEST = 200
"""Fewer messages are not looked at, and with fewer utterances nothing is compared."""
FEWEST_OUTSIDE = 20
MOST_BINS = 10
MIXTURES = 21
USUAL_DEVIATIONS = 3.0

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Window:
    """What became of the last messages."""

    confidences: tuple[int, ...]
    """How many there were in each bin of CONFIDENCE_EDGES."""
    called_in_scope: int
    instant: int = 0
    """Of which the network was sure enough."""

    @property
    def messages(self) -> int:
        return sum(self.confidences)


@dataclass(frozen=True, slots=True)
class Shares:
    """Of the calibration utterances in and out of scope, those answered at once."""

    inside: float
    outside: float


@dataclass(frozen=True, slots=True)
class Moved:
    p_value: float
    """Of the best mixture."""
    expected: tuple[float, ...]
    """Shares in that mixture."""
    seen: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Drift:
    confidence: Moved
    edges: tuple[float, ...]
    """Between the bins that were compared."""
    instant: Moved | None
    """None where the calibration does not tell what the threshold would answer."""
    error: float
    """What this look may spend."""

    @property
    def moved(self) -> tuple[str, ...]:
        share = self.error / 2
        found = []
        if self.confidence.p_value <= share:
            found.append("confidence")
        if self.instant is not None and self.instant.p_value <= share:
            found.append("instant")
        return tuple(found)


def comparable(counted: Calibration) -> bool:
    return bool(
        counted.confidences and counted.inside >= FEWEST and counted.outside >= FEWEST_OUTSIDE
    )


def compare(
    counted: Calibration, promise: Promise, window: Window, answered: Shares | None, *, look: int
) -> Drift:
    """`look`: the how-manieth at this version, from 1 on. `counted` must be `comparable`."""
    rows = [np.array(row, np.float64) for row in counted.confidences]
    inside, outside = (rows[0] + rows[1]) / counted.inside, (rows[2] + rows[3]) / counted.outside
    least = promise.least_in_scope
    cuts = _cuts(least * inside + (1 - least) * outside)
    edges = tuple(CONFIDENCE_EDGES[cut - 1] for cut in cuts[1:])
    seen = _merged(np.array(window.confidences, np.float64) / window.messages, cuts)
    confidence = _best(
        counted, promise, window, _merged(inside, cuts), _merged(outside, cuts), seen
    )
    instant = None
    if answered is not None:
        share = window.instant / window.messages
        two = [np.array([one, 1 - one]) for one in (answered.inside, answered.outside, share)]
        instant = _best(counted, promise, window, *two)
    return Drift(confidence, edges, instant, FALSE_ALARMS / (look * (look + 1)))


def surely_answered(counted: Calibration, confidence: float) -> Shares | None:
    """Those called in scope with this confidence or more; None where no bin begins there."""
    place = bisect_left(CONFIDENCE_EDGES, confidence)
    if place == len(CONFIDENCE_EDGES) or CONFIDENCE_EDGES[place] != confidence:
        return None
    return Shares(
        sum(counted.confidences[0][place + 1 :]) / counted.inside,
        sum(counted.confidences[2][place + 1 :]) / counted.outside,
    )


def is_usual(counted: Calibration, promise: Promise, called_in_scope: int, messages: int) -> bool:
    """False where clearly fewer messages are called in scope than would be if the share in scope
    were the promised one and they resembled those it was calibrated on."""
    if not counted.inside or messages < FEWEST:
        return True
    share = promise.least_in_scope
    expected = share * counted.in_scope[0] / counted.inside
    if counted.outside:  # else nobody knows, and none of them is expected
        expected += (1 - share) * counted.in_scope[1] / counted.outside
    spread = math.sqrt(expected * (1 - expected) / messages)
    return called_in_scope / messages >= expected - USUAL_DEVIATIONS * spread


def _cuts(expected: Array) -> list[int]:
    """Where the merged bins begin: each holds a tenth, or what cannot be divided."""
    cuts, held = [0], 0.0
    for place, share in enumerate(expected[:-1].tolist(), start=1):
        held += share
        if held >= 1 / MOST_BINS and 1 - expected[:place].sum() >= 1 / MOST_BINS / 2:
            cuts.append(place)
            held = 0.0
    return cuts


def _merged(shares: Array, cuts: Sequence[int]) -> Array:
    return np.add.reduceat(shares, cuts)


def _best(
    counted: Calibration,
    promise: Promise,
    window: Window,
    inside: Array,
    outside: Array,
    seen: Array,
) -> Moved:
    """Against the mixture that is nearest to what was seen."""
    shares = np.linspace(promise.least_in_scope, 1, MIXTURES)[:, None]
    expected = shares * inside + (1 - shares) * outside
    spread = _spread(expected) / window.messages
    spread += shares[..., None] ** 2 * _spread(inside) / counted.inside
    spread += (1 - shares[..., None]) ** 2 * _spread(outside) / counted.outside
    off = (seen - expected)[:, :-1, None]
    distances = (off * np.linalg.solve(spread[:, :-1, :-1], off)).sum(axis=(1, 2))
    nearest = int(distances.argmin())
    return Moved(
        chi_squared_tail(float(distances[nearest]), len(seen) - 1),
        tuple(expected[nearest].tolist()),
        tuple(seen.tolist()),
    )


def _spread(shares: Array) -> Array:
    """Covariance of one draw, (…, B) to (…, B, B); a little more in each bin, so that an empty one
    is not taken for certain."""
    floor = 1e-4
    smooth = (shares + floor) / (1 + floor * shares.shape[-1])
    spread: Array = smooth[..., None] * (np.eye(shares.shape[-1]) - smooth[..., None, :])
    return spread


def chi_squared_tail(value: float, degrees: int) -> float:
    """P(X ≥ value); its finite sums."""
    if value <= 0 or not degrees:
        return 1.0
    half = value / 2
    if degrees % 2:
        tail = math.erfc(math.sqrt(half))
        powers = [n + 0.5 for n in range(degrees // 2)]
    else:
        tail = 0.0
        powers = [float(n) for n in range(degrees // 2)]
    logs = (power * math.log(half) - half - math.lgamma(power + 1) for power in powers)
    return min(1.0, tail + sum(map(math.exp, logs)))
