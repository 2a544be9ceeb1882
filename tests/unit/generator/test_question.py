"""What was asked last, and what shows that it leans on what was asked before."""

import numpy as np
import pytest

from generator.interface import ChatMessage
from generator.question import LEANING_FEATURES, Question, last_messages, leaning_features

VECTOR = np.array([0.6, 0.8], np.float32)


def said(*texts: str) -> list[ChatMessage]:
    """The user's messages, each answered but the last."""
    answered = [
        message
        for text in texts
        for message in (ChatMessage("user", text), ChatMessage("assistant", "Yes."))
    ]
    return answered[:-1]


def test_the_last_message_and_the_one_before_are_the_users() -> None:
    assert last_messages(said("hello", "when are you open", "and on Sunday?")) == (
        "and on Sunday?",
        "when are you open",
    )
    assert last_messages(said("hello")) == ("hello", "")
    assert last_messages([]) == last_messages([ChatMessage("assistant", "Hi!")]) == ("", "")


def test_the_whole_of_a_question_holds_what_it_leans_on() -> None:
    assert Question("and Sunday?", "when are you open").whole == "and Sunday? when are you open"
    assert Question("do you sell bananas").whole == "do you sell bananas"


@pytest.mark.parametrize(
    "text", ["and on Sunday?", "what about children", "how much is it then?", "for two"]
)
def test_words_that_point_back_are_a_sign_of_leaning(text: str) -> None:
    features = leaning_features(VECTOR, text)
    alone = leaning_features(VECTOR, "do you sell bananas by the kilo")
    assert len(features) == len(VECTOR) + LEANING_FEATURES
    assert features[:2].tolist() == VECTOR.tolist()
    assert features[2] == 1.0
    assert alone[2] == 0.0
    assert features[3] < alone[3]
