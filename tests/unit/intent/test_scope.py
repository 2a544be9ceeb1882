"""Which utterances look like the training data."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent.neighbours import Comparison, StoredExamples
from intent.scope import (
    FEWEST_NEGATIVES,
    LEAST_PASS_RATE,
    LEAST_SIGNAL,
    PASS_RATE,
    SIGNALS,
    WEIGHTS,
    ScopeDetector,
    ScopeScorer,
    choose_threshold,
    combine,
)

ENOUGH = math.ceil(1 / (1 - PASS_RATE)) - 1
scores = st.floats(-9, 9, width=32)


@given(st.lists(scores, min_size=1, max_size=ENOUGH - 1))
def test_a_handful_of_known_scores_does_not_say_how_low_the_next_may_be(known: list[float]) -> None:
    assert choose_threshold(np.array(known), np.empty(0)) < min(known)


@given(st.lists(scores, min_size=ENOUGH, max_size=300))
def test_without_strangers_hardly_any_known_utterance_is_refused(known: list[float]) -> None:
    inside = np.array(known)
    threshold = choose_threshold(inside, np.empty(0))
    assert (inside < threshold).mean() <= 1 - PASS_RATE
    assert threshold in known


@given(st.lists(scores, min_size=1, max_size=100), st.lists(scores, min_size=FEWEST_NEGATIVES))
def test_strangers_never_cost_more_than_the_share_allowed(
    known: list[float], strange: list[float]
) -> None:
    threshold = choose_threshold(np.array(known), np.array(strange))
    assert (np.array(known) < threshold).mean() <= 1 - LEAST_PASS_RATE


def test_strangers_below_everything_are_all_refused() -> None:
    known, strange = np.linspace(0, 1, 50), np.linspace(-2, -1, FEWEST_NEGATIVES)
    assert (strange < choose_threshold(known, strange)).all()


@given(st.lists(scores, min_size=SIGNALS, max_size=SIGNALS), st.integers(0, SIGNALS - 1))
def test_more_of_any_signal_is_never_stranger(signals: list[float], which: int) -> None:
    means, deviations = np.zeros(SIGNALS, np.float32), np.ones(SIGNALS, np.float32)
    more = np.array([signals, signals], np.float32)
    more[1, which] += 1
    lower, higher = combine(more, means, deviations)
    assert higher >= lower


def test_no_signal_outvotes_the_others() -> None:
    awful = np.zeros((1, SIGNALS), np.float32)
    awful[0, 0] = -1e6
    (score,) = combine(awful, np.zeros(SIGNALS, np.float32), np.ones(SIGNALS, np.float32))
    assert score == pytest.approx(LEAST_SIGNAL * WEIGHTS[0])


def test_features_that_point_between_intents_are_stranger_than_those_that_point_at_one() -> None:
    nothing = StoredExamples(np.empty((0, 2), np.int8), np.empty(0, np.int64), ())
    detector = ScopeDetector(
        nothing, nothing, np.empty(0, np.uint32), (0.0,) * SIGNALS, (1.0,) * SIGNALS, 0.0
    )
    # The same logits: the longer features needed more length for them.
    compared = [
        Comparison(
            np.zeros(2, np.float32),
            length,
            [0],
            [(0, 0)],
            [np.empty(0, np.float32)],
            [-1.0],
            0.5,
            0.5,
        )
        for length in (4.0, 8.0)
    ]
    signals = ScopeScorer(detector).signals(
        np.array([[3.0, 1.0]] * 2, np.float32),
        np.array([-0.1, -0.1], np.float32),
        compared,
        [[1.0], [1.0]],
    )
    at_one, between = ScopeScorer(detector).scores(signals)
    assert at_one > between
