"""Figures that can be checked by hand."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intent.annotation import AnnotatedSlot
from intent.data import Example, training_set
from intent.evaluation import (
    TOP_SLOT_ERRORS,
    Evaluation,
    SlotEvaluation,
    auroc,
    evaluate,
    evaluate_predictions,
    f1_interval,
    false_positive_rate,
    macro_f1_interval,
    wilson_interval,
)
from intent.interface import OUT_OF_SCOPE, Prediction, RankedIntent, Slot


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


def found(name: str, start: int, end: int, role: str | None = None) -> Slot:
    return Slot(name=name, value="", text="", start=start, end=end, role=role)


def tagged(*rows: tuple[Example, str, tuple[Slot, ...]]) -> Evaluation:
    """Of examples, the intents predicted for them and the slots found in them."""
    predictions = [
        Prediction(intent, 0.75, (RankedIntent(intent, 0.75),), True, slots=slots)
        for _, intent, slots in rows
    ]
    return evaluate_predictions(
        training_set(example for example, _, _ in rows), predictions, [], basis=""
    )


def slots_of(evaluation: Evaluation) -> SlotEvaluation:
    assert evaluation.slots is not None
    return evaluation.slots


CITY = AnnotatedSlot("city", 3, 7)
FLY = Example("to Rome now", "fly", "t.csv:2", (CITY, AnnotatedSlot("time", 8, 11)))
PLAIN = Example("to nowhere", "fly")


def test_slots_are_counted_over_all_and_by_name() -> None:
    slots = slots_of(
        tagged(
            (FLY, "fly", (found("city", 3, 7), found("time", 8, 11))),
            (FLY, "fly", (found("city", 0, 7),)),  # another boundary; the time is missed
            (FLY, "ship", (found("city", 3, 7), found("time", 8, 11))),
        )
    )
    assert slots.count == 6
    assert (slots.precision, slots.recall, slots.f1) == pytest.approx((4 / 5, 4 / 6, 8 / 11))
    assert (slots.precision_low, slots.precision_high) == wilson_interval(4, 5)
    assert (slots.recall_low, slots.recall_high) == wilson_interval(4, 6)
    assert (slots.f1_low, slots.f1_high) == f1_interval(4, wanted=6, given=5)
    city, time = slots.by_name
    assert (city.name, city.count, city.precision, city.recall) == ("city", 3, 2 / 3, 2 / 3)
    assert (time.name, time.count, time.precision, time.recall) == ("time", 3, 1, 2 / 3)
    assert time.f1 == 0.8


def test_a_sentence_is_right_when_its_intent_and_all_slots_are() -> None:
    right = (found("city", 3, 7), found("time", 8, 11))
    slots = slots_of(tagged((FLY, "fly", right), (FLY, "ship", right), (FLY, "fly", right[:1])))
    assert slots.sentence_accuracy == 1 / 3
    low_high = slots.sentence_accuracy_low, slots.sentence_accuracy_high
    assert low_high == wilson_interval(1, 3)


def test_where_no_example_has_slots_there_is_nothing_to_say_of_them() -> None:
    evaluation = tagged((PLAIN, "fly", (found("city", 3, 10),)))
    assert evaluation.slots is None
    assert evaluation.to_json()["slots"] is None


def test_beside_examples_with_slots_one_without_expects_none() -> None:
    whole = (found("city", 3, 7), found("time", 8, 11))
    left_alone = slots_of(tagged((FLY, "fly", whole), (PLAIN, "fly", ())))
    assert (left_alone.precision, left_alone.sentence_accuracy) == (1, 1)
    slots = slots_of(tagged((FLY, "fly", whole), (PLAIN, "fly", (found("place", 3, 10),))))
    assert (slots.precision, slots.recall, slots.sentence_accuracy) == (2 / 3, 1, 0.5)
    place = slots.by_name[1]
    assert (place.name, place.count, place.recall_low, place.recall_high) == ("place", 0, 0, 1)


def test_the_utterances_with_the_most_slot_errors_come_first() -> None:
    evaluation = tagged(
        (FLY, "fly", (found("city", 3, 7),)),
        (FLY, "fly", (found("city", 3, 7), found("time", 8, 11))),
        (PLAIN, "fly", (found("city", 3, 10), found("time", 0, 2, role="from"))),
    )
    plain, fly = slots_of(evaluation).errors
    assert (fly.text, fly.intent, fly.source) == ("to Rome now", "fly", "t.csv:2")
    assert [(slot.text, slot.is_right) for slot in fly.expected] == [("Rome", True), ("now", False)]
    assert [(slot.text, slot.is_right) for slot in fly.found] == [("Rome", True)]
    assert plain.expected == ()
    assert [(slot.text, slot.role) for slot in plain.found] == [("to", "from"), ("nowhere", None)]
    assert evaluation.to_json()["slots"]["errors"][1]["found"][0]["name"] == "city"
    many = slots_of(tagged(*[(FLY, "fly", ())] * (TOP_SLOT_ERRORS + 1)))
    assert len(many.errors) == TOP_SLOT_ERRORS


counts = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=30)


@given(counts)
def test_every_interval_of_slots_holds_its_figure(utterances: list[tuple[bool, ...]]) -> None:
    rows = [(FLY, "fly", (found("city", 3, 7),))]
    for has_city, has_time, has_other in utterances:
        here = [found("city", 3, 7)] * has_city + [found("time", 8, 11)] * has_time
        rows.append((FLY, "fly", (*here, *[found("other", 0, 2)] * has_other)))
    slots = slots_of(tagged(*rows))
    for score in (slots, *slots.by_name):
        assert 0 <= score.precision_low <= score.precision <= score.precision_high <= 1
        assert 0 <= score.recall_low <= score.recall <= score.recall_high <= 1
        assert 0 <= score.f1_low <= score.f1 <= score.f1_high <= 1
