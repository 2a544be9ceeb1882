"""Figures that can be checked by hand."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intent.data import Example, training_set
from intent.evaluation import auroc, evaluate, false_positive_rate, wilson_interval
from intent.interface import OUT_OF_SCOPE, Prediction, RankedIntent


class Parrot:
    """Predicts the utterance's first word; its length is the scope score."""

    def judge(self, texts: Sequence[str]) -> list[tuple[Prediction, float]]:
        ranked = [RankedIntent(text.split()[0], 0.75) for text in texts]
        return [
            (Prediction(r.intent, r.confidence, (r,), len(text) > 5), float(len(text)))
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
