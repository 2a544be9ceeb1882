"""What counts as a right answer."""

from dataclasses import replace

import pytest

from benchmarks.answering import Question, foreign_values, is_right, values_of
from generator.interface import ChatMessage, Citation, Passage

PASSAGE = Passage("7", "Costs", "Shoes cost 4.50 EUR. Hats are free. Write to a@b.example.", "Shop")
ASKED = Question(
    "shop",
    (ChatMessage("user", "what do shoes cost"),),
    "Costs",
    "No, shoes cost 4.50 EUR.",
    ("Shoes cost 4.50 EUR.",),
)
NOTHING = Question("shop", (ChatMessage("user", "and coats?"),), "Costs", None)


def citing(quote: str) -> list[Citation]:
    return [Citation("7", "Shop", "Costs", quote)]


@pytest.mark.parametrize(
    ("reply", "quote", "answered", "right"),
    [
        ("No, shoes cost 4.50 EUR.", "Shoes cost\n4.50 EUR.", True, True),
        ("They cost 4.50 EUR.", "Shoes cost 4.50 EUR. Hats are free.", True, True),
        ("Yes, they cost 4.50 EUR.", "Shoes cost 4.50 EUR.", True, False),
        ("They cost 4 EUR.", "Shoes cost 4.50 EUR.", True, False),
        ("They cost 4.50 EUR.", "Hats are free.", True, False),
        ("They cost 4.50 EUR.", "", True, False),
        ("I do not know.", "Shoes cost 4.50 EUR.", False, False),
    ],
)
def test_a_right_answer_has_the_values_a_source_and_no_opposite(
    reply: str, quote: str, answered: bool, right: bool
) -> None:
    assert is_right(ASKED, reply, citing(quote), answered=answered) == right


@pytest.mark.parametrize(
    ("reply", "right"),
    [("No ticket is needed.", True), ("Yes: no ticket is needed.", True), ("No.", False)],
)
def test_a_reply_that_begins_with_no_ticket_does_not_say_no(reply: str, right: bool) -> None:
    asked = replace(ASKED, expected="Yes, no ticket is needed.", support=("No ticket is needed.",))
    assert is_right(asked, reply, citing("No ticket is needed."), answered=True) == right


def test_where_nothing_answers_only_not_knowing_is_right() -> None:
    assert is_right(NOTHING, "I do not know.", [], answered=False)
    assert not is_right(NOTHING, "Hats are free.", citing("Hats are free."), answered=True)


def test_a_value_of_no_cited_passage_is_told() -> None:
    assert foreign_values("4.50 EUR, a@b.example.", citing("x"), [PASSAGE]) == ()
    assert foreign_values("5 EUR, http://c.example", citing("x"), [PASSAGE]) == (
        "5",
        "http://c.example",
    )
    assert foreign_values("4.50 EUR", [], [PASSAGE]) == ("4.50",)
    assert values_of("From 9:30, 1,200 EUR; see https://x.example/a.") == [
        "9:30",
        "1,200",
        "https://x.example/a",
    ]
