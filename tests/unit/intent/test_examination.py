"""What goes wrong, when, and how far to trust the figures."""

import json

import pytest

from intent.annotation import AnnotatedSlot
from intent.data import Example, TrainingSet, training_set
from intent.examination import Examination, examine
from intent.interface import OUT_OF_SCOPE
from intent.terminal import show_examination
from tests.fake_classifier import Parrot

DATA = training_set(
    [
        Example("pay pay my bill", "pay", "t.csv:2"),
        Example("please pay", "ship", "t.csv:3"),
        Example("ship ship ship", "pay", "t.csv:4"),
        Example("ship it, please", "ship", "t.csv:5"),
        Example("return the lamp", "return", "t.csv:6"),
        Example("sing me a song", OUT_OF_SCOPE),
        Example("do pay a visit to my aunt", OUT_OF_SCOPE),
    ]
)
REMEMBERED = [("Ship it please", "ship"), ("pay the bill", "pay")]


@pytest.fixture(scope="module")
def examination() -> Examination:
    return examine(Parrot("pay", "ship", examples=REMEMBERED), DATA, basis="seven")


def test_the_surest_errors_come_first_with_their_nearest_examples(
    examination: Examination,
) -> None:
    shipped, paid, _ = examination.errors
    assert (shipped.text, shipped.expected, shipped.predicted) == ("ship ship ship", "pay", "ship")
    assert shipped.source == "t.csv:4"
    assert shipped.confidence == pytest.approx(8 / 9)
    assert paid.text == "please pay"
    assert [near.text for near in shipped.nearest] == ["Ship it please", "pay the bill"]


def test_intents_that_the_file_does_not_know_are_named(examination: Examination) -> None:
    assert examination.unknown_intents == ("return",)


def test_the_matrix_counts_every_utterance_of_its_intents(examination: Examination) -> None:
    matrix = examination.matrix
    assert matrix.intents == ("pay", "return", "ship")
    assert matrix.counts == ((1, 0, 1), (1, 0, 0), (1, 0, 1))
    assert matrix.others == (0, 0, 0)


def test_utterances_are_grouped_by_their_words(examination: Examination) -> None:
    short, longer = examination.lengths
    assert (short.shortest, short.longest, short.examples) == (1, 3, 4)
    assert short.accuracy == 0.25
    assert (longer.shortest, longer.longest, longer.accuracy) == (4, 6, 1)


def test_the_scope_curve_runs_from_all_let_through_to_hardly_any(
    examination: Examination,
) -> None:
    curve = examination.scope_curve
    thresholds = [point.threshold for point in curve]
    assert thresholds == sorted(thresholds)
    assert (curve[0].in_scope_rate, curve[0].out_of_scope_recall) == (1, 0)
    assert curve[0].in_scope_accuracy == 0.4
    assert curve[-1].out_of_scope_recall == 1
    own = next(point for point in curve if point.threshold == 0)
    assert own.in_scope_rate == examination.evaluation.in_scope_rate == 0.8
    assert examination.evaluation.out_of_scope is not None
    assert own.out_of_scope_recall == 1 - examination.evaluation.out_of_scope.let_through


def test_without_out_of_scope_utterances_there_is_no_curve() -> None:
    inside = TrainingSet(DATA.examples)
    assert examine(Parrot("pay", "ship"), inside, basis="").scope_curve == ()


def test_leaks_are_looked_for_in_what_the_file_remembers(examination: Examination) -> None:
    leakage = examination.leakage
    assert leakage.basis == "the 2 training examples that the file stores"
    assert (leakage.exact, leakage.near, leakage.clean_examples) == (1, 0, 4)
    assert leakage.clean_accuracy == 0.25


def test_a_file_that_remembers_only_some_examples_says_so() -> None:
    parrot = Parrot("pay", "ship", examples=REMEMBERED)
    parrot.card = {"intents": {"pay": 4_000, "ship": 5_000}}
    basis = examine(parrot, DATA, basis="").leakage.basis
    assert basis == "the 2 training examples of 9,000 trained on that the file stores"


def test_leaks_are_looked_for_in_the_training_data_where_it_is_given() -> None:
    parrot = Parrot("pay", "ship", examples=REMEMBERED)
    leakage = examine(parrot, DATA, basis="", training=DATA).leakage
    assert leakage.exact == 5
    assert leakage.clean_accuracy is None
    assert "5 examples of the given training data" in leakage.basis


def test_all_figures_become_one_object(examination: Examination) -> None:
    figures = json.loads(json.dumps(examination.to_json(), allow_nan=False))
    assert figures["accuracy"] == 0.4
    assert figures["out_of_scope"]["examples"] == 2
    assert figures["slots"] is None
    assert [found["variation"] for found in figures["robustness"]] == [
        "one typo",
        "lower case",
        "upper case",
        "no punctuation",
    ]
    assert figures["errors"][0]["nearest"][0]["similarity"] == 0.5
    assert figures["leakage"]["leaks"][0]["similarity"] == 1


def test_slots_that_are_not_found_are_shown_at_the_terminal_and_in_the_figures(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bill = Example("pay my bill", "pay", slots=(AnnotatedSlot("[red]what", 7, 11),))
    examination = examine(Parrot("pay", "ship"), training_set([bill]), basis="one")
    slots = examination.to_json()["slots"]
    assert (slots["count"], slots["f1"], slots["sentence_accuracy"]) == (1, 0, 0)
    assert slots["errors"][0]["expected"][0]["text"] == "bill"
    show_examination(examination)
    shown = capsys.readouterr().out
    assert "weakest slots" in shown
    assert "[red]what" in shown


def test_progress_is_told_step_by_step() -> None:
    seen: list[tuple[str, int, int]] = []
    examine(Parrot("pay", "ship"), DATA, basis="", on_progress=lambda *step: seen.append(step))
    assert {doing for doing, _, _ in seen} >= {"classifying", "one typo", "looking for leaks"}
    assert ("classifying", 5, 5) in seen
