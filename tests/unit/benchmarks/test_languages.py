from collections import Counter

import pytest
import regex

from benchmarks.languages import (
    LANGUAGES,
    TRAINED_OF_EACH,
    Score,
    lines_to_train,
    table,
    utterances,
)
from intent.text import normalize

SCRIPTS = {
    "en": "Latin",
    "de": "Latin",
    "es": "Latin",
    "ru": "Cyrillic",
    "zh": "Han",
    "ar": "Arabic",
}


def intents(language: str) -> list[str]:
    return [example.intent for example in utterances(language)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_line_has_the_same_intent_in_every_language(language: str):
    assert intents(language) == intents("en")


def test_there_are_twenty_intents_of_twenty_utterances():
    counts = Counter(intents("en"))
    assert len(counts) == 20
    assert set(counts.values()) == {20}


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_utterance_comes_twice(language: str):
    texts = Counter(
        normalize(example.text).strip(" .?!¿¡…。？！؟") for example in utterances(language)
    )
    assert [text for text, count in texts.items() if count > 1] == []


@pytest.mark.parametrize(("language", "script"), SCRIPTS.items())
def test_each_language_is_written_in_its_script(language: str, script: str):
    text = "".join(example.text for example in utterances(language))
    own = len(regex.findall(rf"\p{{Script={script}}}", text))
    assert own > 0.97 * len(regex.findall(r"\p{L}", text))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_same_lines_train_in_every_language(seed: int):
    english = lines_to_train(intents("en"), seed)
    assert all(lines_to_train(intents(language), seed) == english for language in LANGUAGES)
    trained = Counter(intents("en")[line] for line in english)
    assert set(trained.values()) == {TRAINED_OF_EACH}
    assert len(trained) == 20


def test_another_seed_trains_on_other_lines():
    assert lines_to_train(intents("en"), 0) != lines_to_train(intents("en"), 1)


def test_points_are_lost_against_english_with_the_same_seeds():
    scores = [
        Score("en", "GRU", 0, 0.9),
        Score("en", "GRU", 1, 0.8),
        Score("de", "GRU", 0, 0.7),
    ]
    columns = [list(column.cells) for column in table(scores).columns]
    assert columns == [["English", "German"], ["85.0 ± 7.1 %", "70.0 %"], ["–", "20.0"]]
