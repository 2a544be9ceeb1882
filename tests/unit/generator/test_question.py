"""A follow-up is read with the question before, and nothing else is."""

import pytest

from generator.interface import ChatMessage
from generator.question import Question, last_question

OPEN = "when are you open"


def asked(*texts: str) -> Question:
    """The user's messages, each answered but the last."""
    answered = [
        message
        for text in texts
        for message in (ChatMessage("user", text), ChatMessage("assistant", "Yes."))
    ]
    return last_question(answered[:-1])


@pytest.mark.parametrize(
    "text",
    [
        "and on Sunday?",
        "what about children",
        "how much is it then?",
        "for two",
        "is that all year",
    ],
)
def test_what_leans_back_brings_the_question_before(text: str) -> None:
    assert asked("hello", OPEN, text) == Question(text, OPEN)
    assert asked("hello", OPEN, text).whole == f"{text} {OPEN}"


@pytest.mark.parametrize(
    "text", ["do you sell bananas by the kilo", "how much does shipping to Austria cost"]
)
def test_what_stands_alone_is_read_alone(text: str) -> None:
    assert asked(OPEN, text) == Question(text)
    assert asked(OPEN, text).whole == text


def test_the_first_question_has_none_before_and_no_message_asks_nothing() -> None:
    assert asked("and on Sunday?") == Question("and on Sunday?")
    assert last_question([]) == last_question([ChatMessage("assistant", "Hi!")]) == Question("")
