"""Why an utterance was classified as it was."""

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intent.classifier import GRUClassifier
from intent.explanation import explain, word_spans
from intent.text import tokenize
from tests.fake_classifier import Parrot

EXAMPLES = [("pay my bill", "pay"), ("ship it", "ship")]


def test_a_word_counts_as_much_as_the_log_odds_lose_without_it() -> None:
    explanation = explain(Parrot("pay", "ship", examples=EXAMPLES), "please pay pay ship")
    assert (explanation.intent, explanation.runner_up) == ("pay", "ship")
    please, first, second, ship = explanation.words
    assert please.for_intent == pytest.approx(0)
    assert first.for_intent == second.for_intent == pytest.approx(math.log(2))
    assert ship.for_intent == pytest.approx(-math.log(2))
    assert please.for_scope == pytest.approx(-0.25)
    assert first.for_scope == pytest.approx(1)
    assert explanation.margin == pytest.approx(4 / 6 - 2 / 6)
    assert [near.text for near in explanation.nearest] == ["pay my bill", "ship it"]


def test_places_are_those_of_the_text_as_given() -> None:
    text = "  Please,\tpay!"
    words = explain(Parrot("pay", "ship"), text).words
    assert [word.text for word in words] == ["Please", ",", "pay", "!"]
    assert all(text[word.start : word.end] == word.text for word in words)


def test_a_word_that_decides_is_named() -> None:
    reasons = explain(Parrot("pay", "ship", examples=EXAMPLES), "ship today now").reasons
    assert reasons[0].startswith("In scope: ")
    assert "“pay my bill” (pay), is 0.50 alike" in reasons[0]
    assert "Without “ship” it would be pay." in reasons
    assert "Without “ship” it would be out of scope." in reasons


def test_out_of_scope_comes_with_its_reason_and_the_likeliest_intents() -> None:
    explanation = explain(Parrot("pay", "ship"), "pay off off off off off")
    assert not explanation.in_scope
    assert explanation.reasons[0].startswith("Out of scope: it resembles the training data too")
    assert "Without “off” it would be in scope." in explanation.reasons


@pytest.mark.parametrize("text", ["", "  \n", "\u200b"])
def test_a_text_without_words_is_explained_in_one_sentence(text: str) -> None:
    explanation = explain(Parrot("pay", "ship"), text)
    assert (explanation.words, explanation.nearest) == ((), ())
    (reason,) = explanation.reasons
    assert reason.startswith("Out of scope")


def test_one_word_carries_everything() -> None:
    explanation = explain(Parrot("pay", "ship"), "ship")
    (word,) = explanation.words
    assert word.for_intent == pytest.approx(math.log(2))
    assert word.for_scope is None
    assert "“ship” is all there is: everything follows from it." in explanation.reasons


def test_an_intent_that_drops_out_of_the_ranking_keeps_finite_odds() -> None:
    intents = tuple("abcdefghij")
    explanation = explain(Parrot(*intents), "a b c d e f j j j j")
    assert explanation.intent == "j"
    assert all(math.isfinite(word.for_intent) for word in explanation.words)
    assert explanation.words[-1].for_intent > 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("don't e-mail me", ["don't", "e", "-", "mail", "me"]),
        ("我想退货 now", ["我", "想", "退", "货", "now"]),
        ("😀👍🏽 👩‍🚀", ["😀", "👍🏽", "👩‍🚀"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("где мой заказ 2024?", ["где", "мой", "заказ", "2024", "?"]),
        ("أين طلبي", ["أين", "طلبي"]),
    ],
)
def test_words_are_what_a_reader_takes_for_words(text: str, words: list[str]) -> None:
    assert [text[start:end] for start, end in word_spans(text)] == words


@given(st.text(max_size=40))
@example("\u10670")  # a vowel sign that stands on nothing, and a digit
def test_words_stand_in_order_and_leave_out_nothing_that_is_read(text: str) -> None:
    end_before = 0
    for start, end in word_spans(text):
        assert end_before <= start < end <= len(text)
        assert not tokenize(text[end_before:start])
        end_before = end
    assert not tokenize(text[end_before:])


@given(st.text(max_size=60))
def test_any_text_is_explained_by_a_trained_classifier(
    classifier: GRUClassifier, text: str
) -> None:
    explanation = explain(classifier, text)
    json.dumps(explanation.to_json(), allow_nan=False)
    assert explanation.reasons
    alone = classifier.classify(text)
    assert (explanation.intent, explanation.in_scope) == (alone.intent, alone.in_scope)


def test_a_long_text_is_explained_by_its_beginning() -> None:
    assert len(explain(Parrot("pay", "ship"), "pay " * 5_000).words) == 128
