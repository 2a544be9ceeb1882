"""Confidence that means what it says."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from intent.calibration import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    expected_calibration_error,
    fit_temperature,
    reliability,
)


def honest_logits(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose softmax is the true chance of each label."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return logits, labels


@given(st.floats(0.3, 4), st.integers(0, 10))
def test_the_temperature_undoes_exaggeration_and_lowers_the_loss(
    exaggeration: float, seed: int
) -> None:
    logits, labels = honest_logits(4_000, seed)
    exaggerated = logits * exaggeration
    temperature = fit_temperature(exaggerated, labels)
    assert temperature == pytest.approx(exaggeration, rel=0.15)
    calibrated = functional.cross_entropy(exaggerated / temperature, labels)
    assert calibrated <= functional.cross_entropy(exaggerated, labels) + 1e-4


def test_a_few_right_answers_do_not_promise_certainty() -> None:
    logits = torch.eye(4) * 3
    temperature = fit_temperature(logits, torch.arange(4))
    assert LOWEST_TEMPERATURE <= temperature <= HIGHEST_TEMPERATURE
    assert (logits / temperature).softmax(1).max() < 0.95


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=50))
def test_reliability_counts_every_prediction_once(judged: list[tuple[float, bool]]) -> None:
    bins = reliability([c for c, _ in judged], [right for _, right in judged])
    assert sum(found.count for found in bins) == len(judged)
    assert 0 <= expected_calibration_error(bins) <= 1


def test_the_calibration_error_is_the_mean_gap() -> None:
    bins = reliability([0.9, 0.9, 0.3, 0.3], [True, False, False, False])
    assert expected_calibration_error(bins) == pytest.approx((0.4 + 0.3) / 2)
