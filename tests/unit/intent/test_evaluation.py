"""Figures that can be checked by hand."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intent.data import Example, training_set
from intent.evaluation import (
    auroc,
    evaluate,
    f1_interval,
    false_positive_rate,
    macro_f1_interval,
    wilson_interval,
)
from intent.interface import OUT_OF_SCOPE, Prediction, RankedIntent


class Parrot:
    """Predicts the utterance's first word; its length is the scope score."""

    def classify_batch(self, texts: Sequence[str]) -> list[Prediction]:
        ranked = [RankedIntent(text.split()[0], 0.75) for text in texts]
        return [
            Prediction(r.intent, r.confidence, (r,), len(text) > 5, float(len(text)))
            for r, text in zip(ranked, texts, strict=True)
        ]


def test_an_evaluation_counts_what_is_right_and_what_is_mixed_up() -> None:
    pairs = [("pay now", "pay"), ("pay later", "pay"), ("ship now", "ship"), ("pay it", "ship")]
    outside = [("joke", OUT_OF_SCOPE), ("sing a song", OUT_OF_SCOPE)]
    data = training_set(Example(*pair) for pair in pairs + outside)
    evaluation = evaluate(Parrot(), data, basis="four utterances")
    assert evaluation.accuracy == 0.75
    assert evaluation.accuracy_low < 0.75 < evaluation.accuracy_high
    assert evaluation.expected_calibration_error == 0
    assert evaluation.in_scope_rate == 1
    pay, ship = evaluation.intents
    assert (pay.precision, pay.recall, pay.f1) == (2 / 3, 1, 0.8)
    assert (ship.precision, ship.recall, ship.f1) == (1, 0.5, 2 / 3)
    assert evaluation.macro_f1 == pytest.approx((0.8 + 2 / 3) / 2)
    (confusion,) = evaluation.confusions
    assert (confusion.expected, confusion.predicted, confusion.count) == ("ship", "pay", 1)
    assert confusion.example == "pay it"
    assert evaluation.out_of_scope is not None
    assert evaluation.out_of_scope.auroc == 0.5
    assert evaluation.out_of_scope.let_through == 0.5
    assert json.loads(json.dumps(evaluation.to_json()))["basis"] == "four utterances"


def test_every_interval_holds_its_figure() -> None:
    names = ["pay", "ship", "return"]
    data = training_set(
        Example(f"{names[n % 3 if n % 5 else 0]} {n}", names[n % 3]) for n in range(60)
    )
    evaluation = evaluate(Parrot(), data, basis="")
    assert evaluation.macro_f1_low < evaluation.macro_f1 < evaluation.macro_f1_high
    for score in evaluation.intents:
        assert score.precision_low <= score.precision <= score.precision_high
        assert score.recall_low <= score.recall <= score.recall_high
        assert score.f1_low <= score.f1 <= score.f1_high


def test_an_intent_that_is_never_predicted_has_a_precision_of_nothing_known() -> None:
    data = training_set([Example("pay", "ship"), Example("pay", "pay")])
    _, ship = evaluate(Parrot(), data, basis="").intents
    assert (ship.precision, ship.precision_low, ship.precision_high) == (0, 0, 1)


scores = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=20)


@given(scores, scores)
def test_auroc_is_the_chance_of_the_right_order(inside: list[float], outside: list[float]) -> None:
    wins = sum((a > b) + (a == b) / 2 for a in inside for b in outside)
    assert auroc(inside, outside) == pytest.approx(wins / len(inside) / len(outside))


def test_the_false_positive_rate_is_taken_where_95_percent_pass() -> None:
    inside = [float(score) for score in range(100)]
    assert false_positive_rate(inside, [4.0, 5.0, 50.0, -1.0], true_positive_rate=0.95) == 0.5


@given(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_holds_the_share_and_stays_within_bounds(pair: tuple[int, int]) -> None:
    low, high = wilson_interval(*pair)
    assert 0 <= low <= pair[0] / pair[1] + 1e-9
    assert pair[0] / pair[1] - 1e-9 <= high <= 1


def test_wilsons_interval_as_published() -> None:
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_the_interval_of_f1_holds_it_and_stays_within_bounds(
    right: int, missed: int, falsely: int
) -> None:
    wanted, given_to = right + missed, right + falsely
    low, high = f1_interval(right, wanted, given_to)
    f1 = 2 * right / (wanted + given_to) if wanted + given_to else 0.0
    assert 0 <= low <= f1 + 1e-9
    assert f1 - 1e-9 <= high <= 1


def test_the_interval_of_f1_follows_from_wilsons() -> None:
    """8 of 12 utterances: Wilson's 0.3906 to 0.8619, and 2 s / (1 + s) of both."""
    assert f1_interval(8, wanted=10, given=10) == pytest.approx((0.5618, 0.9258), abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1))
def test_the_interval_of_the_mean_f1_is_always_the_same(pairs: list[tuple[str, str]]) -> None:
    expected, predicted = [e for e, _ in pairs], [p for _, p in pairs]
    low, high = macro_f1_interval(expected, predicted)
    assert 0 <= low <= high <= 1
    assert macro_f1_interval(expected, predicted) == (low, high)


def test_the_interval_of_the_mean_f1_narrows_with_more_utterances() -> None:
    expected, predicted = ["a", "a", "b", "b", "b"], ["a", "b", "b", "b", "a"]
    few = macro_f1_interval(expected * 4, predicted * 4)
    many = macro_f1_interval(expected * 100, predicted * 100)
    assert many[1] - many[0] < (few[1] - few[0]) / 3
