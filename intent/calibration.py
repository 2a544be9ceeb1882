"""Makes confidence mean what it says, and measures whether it does."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LOWEST_TEMPERATURE = 0.1
HIGHEST_TEMPERATURE = 10.0
BINS = 15


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The number to divide logits by (Guo et al. 2017), from utterances not trained on.

    logits: (N, I); labels: (N,). Targets are smoothed as in Platt (1999), so that a few
    utterances which happen to be all right do not promise certainty.
    """
    count, intents = logits.shape
    smoothing = 1 / (count + 2)
    targets = np.full((count, intents), smoothing / max(1, intents - 1))
    targets[np.arange(count), labels] = 1 - smoothing
    exact = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        scaled = exact / math.exp(log_temperature)
        return float((log_sum_exp(scaled) - (targets * scaled).sum(axis=1)).mean())

    low, high = math.log(LOWEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE)
    return math.exp(_minimize(loss, low, high))


def log_sum_exp(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, I) to (N,)"""
    largest = logits.max(axis=1)
    summed: NDArray[np.float64] = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    return summed


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """(N, I), rows that sum to 1."""
    return shares_and_certainties(logits, temperature)[0]


def shares_and_certainties(
    logits: NDArray[np.float32], temperature: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, I), rows that sum to 1, and (N,), their negative entropies in nats."""
    scaled = (logits - logits.max(axis=1, keepdims=True)) / np.float32(temperature)
    shares = np.exp(scaled)
    total = shares.sum(axis=1, keepdims=True)
    shares /= total
    certainties: NDArray[np.float32] = np.einsum("ni,ni->n", shares, scaled) - np.log(total[:, 0])
    return shares, certainties


def _minimize(loss: Callable[[float], float], low: float, high: float) -> float:
    """Golden-section search; the loss has one minimum, as it is convex in 1 / temperature."""
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    loss_left, loss_right = loss(left), loss(right)
    while high - low > 1e-4:
        if loss_left < loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - ratio * (high - low)
            loss_left = loss(left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + ratio * (high - low)
            loss_right = loss(right)
    return (low + high) / 2


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Predictions with a confidence above `lower` and up to `upper`."""

    lower: float
    upper: float
    count: int
    confidence: float
    accuracy: float


def reliability(
    confidences: Sequence[float], correct: Sequence[bool], *, bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
    """Bins of equal width; empty ones are left out."""
    members: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in zip(confidences, correct, strict=True):
        place = min(bins - 1, max(0, math.ceil(confidence * bins) - 1))
        members.setdefault(place, []).append((confidence, right))
    return tuple(
        ReliabilityBin(
            lower=place / bins,
            upper=(place + 1) / bins,
            count=len(found),
            confidence=sum(confidence for confidence, _ in found) / len(found),
            accuracy=sum(right for _, right in found) / len(found),
        )
        for place, found in sorted(members.items())
    )


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Mean gap between confidence and accuracy, weighted by utterances (Naeini et al. 2015)."""
    total = sum(found.count for found in bins)
    gaps = (found.count * abs(found.confidence - found.accuracy) for found in bins)
    return sum(gaps) / total if total else 0.0
