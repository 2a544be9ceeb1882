"""Confidence that means what it says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from intent.calibration import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    expected_calibration_error,
    fit_temperature,
    reliability,
    softmax,
)


def honest_logits(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits whose softmax is the true chance of each label."""
    draw = np.random.default_rng(seed)
    logits = 2 * draw.standard_normal((count, 5)).astype(np.float32)
    labels = (softmax(logits, 1.0).cumsum(axis=1) < draw.random((count, 1))).sum(axis=1)
    return logits, np.minimum(labels, 4)


def mean_loss(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    return float(-np.log(softmax(logits, 1.0)[np.arange(len(labels)), labels]).mean())


@given(st.floats(0.3, 4), st.integers(0, 10))
def test_the_temperature_undoes_exaggeration_and_lowers_the_loss(
    exaggeration: float, seed: int
) -> None:
    logits, labels = honest_logits(4_000, seed)
    exaggerated = logits * np.float32(exaggeration)
    temperature = fit_temperature(exaggerated, labels)
    assert temperature == pytest.approx(exaggeration, rel=0.15)
    calibrated = mean_loss(exaggerated / np.float32(temperature), labels)
    assert calibrated <= mean_loss(exaggerated, labels) + 1e-4


def test_a_few_right_answers_do_not_promise_certainty() -> None:
    logits = 3 * np.eye(4, dtype=np.float32)
    temperature = fit_temperature(logits, np.arange(4))
    assert LOWEST_TEMPERATURE <= temperature <= HIGHEST_TEMPERATURE
    assert softmax(logits, temperature).max() < 0.95


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8), st.floats(0.1, 10))
def test_shares_sum_to_one_and_keep_the_order(logits: list[float], temperature: float) -> None:
    row = np.array([logits], np.float32)
    shares = softmax(row, temperature)
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    assert shares[0, row[0].argmax()] == shares.max()


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=50))
def test_reliability_counts_every_prediction_once(judged: list[tuple[float, bool]]) -> None:
    bins = reliability([c for c, _ in judged], [right for _, right in judged])
    assert sum(found.count for found in bins) == len(judged)
    assert 0 <= expected_calibration_error(bins) <= 1


def test_the_calibration_error_is_the_mean_gap() -> None:
    bins = reliability([0.9, 0.9, 0.3, 0.3], [True, False, False, False])
    assert expected_calibration_error(bins) == pytest.approx((0.4 + 0.3) / 2)
