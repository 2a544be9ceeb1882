"""What is counted for a certificate, on which utterances, at which thresholds."""

import pytest

from intent.assurance import assurance
from intent.certificate import Calibration, certify
from intent.data import Example, TrainingSet, folds, training_set
from intent.interface import OUT_OF_SCOPE, Doubt, Prediction, Promise, RankedIntent
from intent.thresholds import ANSWERED, USUAL, ThresholdPlan, recount, unseen
from intent.training import Trained


def judged(intent: str, sure: float, *, in_scope: bool = True) -> Prediction:
    return Prediction(intent, sure, (RankedIntent(intent, sure),), in_scope, assurance=sure)


def spread(intent: str, count: int) -> list[Prediction]:
    return [judged(intent, (n + 0.5) / count) for n in range(count)]


def test_thresholds_are_placed_by_the_utterances_at_hand() -> None:
    data = training_set(Example(f"text {n}", "greet") for n in range(1_000))
    plan = ThresholdPlan.of((data, spread("greet", 1_000), []))
    assert list(plan.thresholds) == sorted(plan.thresholds, reverse=True)
    answered = [shares[0] for shares in plan.expected]
    assert answered == pytest.approx(list(ANSWERED), abs=2e-3)


def test_too_few_utterances_place_nothing() -> None:
    data = training_set([Example("hello", "greet")])
    assert ThresholdPlan.of((data, spread("greet", 1), [])).thresholds == USUAL


def test_counts_are_of_those_that_reach_a_threshold_and_their_intents_floor() -> None:
    plan = ThresholdPlan(
        thresholds=(0.9, 0.5), expected=((0.5, 0.0, 0.0), (1.0, 0.0, 0.0)), floors={"leave": 0.8}
    )
    data = training_set(
        [
            Example("hi", "greet"),
            Example("bye", "leave"),
            Example("so long", "leave"),
            Example("good day", "leave"),
            Example("sing", OUT_OF_SCOPE),
        ]
    )
    inside = [judged("greet", 0.95), judged("leave", 0.7), judged("leave", 0.85)]
    inside.append(judged("greet", 0.5))
    strange = [judged("greet", 0.6, in_scope=False)]
    counted = plan.count([(data, inside, strange)], basis="given", seen=3)
    assert (counted.answered, counted.wrong, counted.let_through) == ((1, 3), (0, 1), (0, 1))
    assert (counted.inside, counted.outside, counted.all_wrong) == (4, 1, 1)
    assert (counted.intents, counted.in_scope, counted.seen) == (2, (4, 0), 3)


def test_an_intent_that_is_often_mistaken_needs_more_assurance() -> None:
    """Never less: every other intent, and every threshold, stays as it was."""
    examples = [Example(f"good {n}", "greet") for n in range(150)]
    examples += [Example(f"bad {n}", "leave") for n in range(5)]
    predictions = [judged("greet", 0.9)] * 150 + [judged("moan", 0.3)] * 5
    plan = ThresholdPlan.of((training_set(examples), predictions, []))
    assert set(plan.floors) == {"moan"}
    assert plan.floors["moan"] > 0.3


def test_what_was_trained_on_and_what_is_pasted_twice_is_not_counted() -> None:
    data = training_set(
        [Example("Hello!", "greet"), Example("hi", "greet"), Example("HI", "greet")]
    )
    known = training_set([Example("hello", "greet"), Example("sing", OUT_OF_SCOPE)])
    assert [one.text for one in unseen(data, known).examples] == ["HI"]


def test_contradictory_labels_are_kept_and_counted() -> None:
    data = training_set([Example("stop", "cancel"), Example("stop", "leave")])
    fresh = unseen(data)
    predictions = [judged("cancel", 0.9)] * 2
    counted = ThresholdPlan().count([(fresh, predictions, [])], basis="given")
    assert (counted.contradictory, counted.all_wrong) == (2, 1)


def test_every_example_is_held_out_once_and_intents_keep_some() -> None:
    data = training_set(
        [Example(f"{intent} {n}", intent) for intent in ("a", "b") for n in range(7)]
        + [Example("a 0", "b"), Example("odd", OUT_OF_SCOPE)]
    )
    held_out: list[str] = []
    for kept, apart in folds(data, 3):
        assert {one.text for one in kept.examples}.isdisjoint(one.text for one in apart.examples)
        assert kept.intents == data.intents
        assert kept.size + apart.size == data.size
        held_out += [one.text for one in apart.examples + apart.out_of_scope]
    assert sorted(held_out) == sorted(one.text for one in data.examples + data.out_of_scope)


def test_a_finished_network_can_be_counted_anew(trained: Trained) -> None:
    before = trained.artifact
    new = training_set(
        [
            Example("where is my order", "track_order"),  # trained on
            Example("where would my hat be", "track_order"),
            Example("i would like to return a hat", "return_item"),
            Example("how tall is the moon", OUT_OF_SCOPE),
        ]
    )
    counted = recount(before, new).calibration
    assert counted is not None
    assert (counted.basis, counted.inside, counted.outside, counted.seen) == ("given", 2, 1, 1)
    assert certify(counted, Promise()).doubt is Doubt.TOO_FEW
    nothing = recount(before, TrainingSet(())).calibration
    assert nothing is not None
    assert certify(nothing, Promise()).doubt is Doubt.NOTHING_UNSEEN
    assert Calibration.from_json(counted.to_json()) == counted


def test_assurance_grows_with_confidence_and_scope_and_stays_a_share() -> None:
    assert assurance(0.5, 0.0) == 0.5
    assert assurance(0.6, 0.0) > assurance(0.5, 0.0) < assurance(0.5, 1.0)
    assert assurance(0.999, 1.0) == assurance(1.0, 1.0)  # that sure is sure enough
    for confidence in (0.0, 1.0):
        for score in (-2_000.0, 0.0, 2_000.0):
            assert 0 <= assurance(confidence, score) <= 1
