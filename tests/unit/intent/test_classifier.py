"""The trained network at work."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intent.classifier import GRUClassifier
from intent.data import TrainingSet
from intent.interface import OUT_OF_SCOPE, IntentClassifier


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("where is the package", "track_order"),
        ("i want to return my parcel", "return_item"),
        ("WHEN ARE YOU OPEN TOMORROW??", "opening_hours"),
        ("где мой стол", "где_заказ"),
        ("我想退桌子", "退货"),
    ],
)
def test_utterances_of_any_script_are_recognised(
    classifier: GRUClassifier, text: str, intent: str
) -> None:
    prediction = classifier.classify(text)
    assert prediction.intent == intent
    assert prediction.in_scope
    assert prediction.confidence > 0.5


def test_it_is_an_intent_classifier(classifier: GRUClassifier) -> None:
    role: IntentClassifier = classifier
    assert role.intents == tuple(sorted(role.intents))
    assert OUT_OF_SCOPE not in role.intents
    assert classifier.card["intents"].keys() == set(role.intents)


@pytest.mark.parametrize(
    "text",
    ["", "  \n", "\u200b", "asdfgh qwerty", "zzzz", "!?", "😀😀", "ђашџ", "tell me a joke"],
)
def test_what_resembles_no_example_is_out_of_scope(classifier: GRUClassifier, text: str) -> None:
    assert not classifier.classify(text).in_scope


def test_every_out_of_scope_example_is_out_of_scope(
    classifier: GRUClassifier, small_data: TrainingSet
) -> None:
    predictions = classifier.classify_batch([e.text for e in small_data.out_of_scope])
    assert not any(prediction.in_scope for prediction in predictions)


def test_nearly_every_example_is_in_scope(
    classifier: GRUClassifier, small_data: TrainingSet
) -> None:
    predictions = classifier.classify_batch([e.text for e in small_data.examples])
    assert sum(p.in_scope for p in predictions) / len(predictions) > 0.9


def test_a_text_without_words_has_no_confidence(classifier: GRUClassifier) -> None:
    prediction = classifier.classify("")
    assert prediction.confidence == 0
    assert prediction.ranking[0].intent == prediction.intent


@settings(max_examples=60)
@given(st.lists(st.text(max_size=40), max_size=8))
def test_every_text_gets_a_sound_prediction_and_the_same_one_in_a_batch(
    classifier: GRUClassifier, texts: list[str]
) -> None:
    together = classifier.classify_batch(texts)
    assert len(together) == len(texts)
    for text, prediction in zip(texts, together, strict=True):
        confidences = [ranked.confidence for ranked in prediction.ranking]
        assert confidences == sorted(confidences, reverse=True)
        assert sum(confidences) <= 1 + 1e-5
        assert prediction.ranking[0].intent == prediction.intent
        assert prediction.ranking[0].confidence == prediction.confidence
        alone = classifier.classify(text)
        assert alone.in_scope == prediction.in_scope
        assert alone.confidence == pytest.approx(prediction.confidence, abs=1e-5)


def test_very_long_texts_are_answered(classifier: GRUClassifier) -> None:
    assert classifier.classify("where is my order " * 1_000).intent == "track_order"
    assert not classifier.classify("x" * 10_000).in_scope
    assert not classifier.classify("\ud800").in_scope


@pytest.mark.parametrize("module", ["intent.interface", "intent.data", "intent.text"])
def test_reading_data_needs_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_texts_get_no_predictions(classifier: GRUClassifier) -> None:
    assert classifier.classify_batch([]) == []
