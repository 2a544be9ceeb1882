"""Which messages are worth a label, and in which order."""

from dataclasses import replace

import pytest

from app.dialogue.review import Asked, Reason, queue, same_words
from app.dialogue.routing import Cause, Route

SURE = Asked(
    turn_id="0" * 32,
    conversation_id="a",
    text="where is my parcel?",
    seconds=1.0,
    route=Route.INSTANT,
    cause=Cause.CONFIDENT,
    intent="track_order",
    confidence=0.99,
    margin=0.98,
    assurance=0.995,
    threshold=0.8,
)
FAR = replace(
    SURE, route=Route.GENERATE, cause=Cause.UNSURE, confidence=0.3, margin=0.2, assurance=0.3
)


def reasons(*asked: Asked) -> list[tuple[Reason, ...]]:
    return [one.reasons for one in queue(asked)]


@pytest.mark.parametrize(
    ("assurance", "threshold", "is_near"),
    [
        (0.86, 0.8, True),
        (0.7, 0.8, True),
        (0.95, 0.8, False),
        (0.5, 0.8, False),
        (0.98, 0.97, True),
        (0.995, 0.97, False),  # near as a number, but six times as sure
        (1.0, 0.8, False),
        (0.9, 1.0, False),
        (0.0, 0.0, False),
    ],
)
def test_close_to_the_threshold_counts_in_odds(
    assurance: float, threshold: float, is_near: bool
) -> None:
    one = replace(SURE, assurance=assurance, threshold=threshold)
    assert reasons(one) == ([(Reason.UNCERTAIN,)] if is_near else [])


def test_a_narrow_margin_counts_where_it_is_between_these_two() -> None:
    assert reasons(replace(FAR, confidence=0.45, margin=0.05)) == [(Reason.UNCERTAIN,)]
    assert reasons(replace(FAR, confidence=0.12, margin=0.02)) == []
    outside = replace(FAR, cause=Cause.OUT_OF_SCOPE, confidence=0.45, margin=0.05)
    assert reasons(outside) == []


def test_frequent_is_what_several_conversations_ask_and_nobody_answers_instantly() -> None:
    asked = [
        replace(FAR, turn_id=str(n), conversation_id=str(n), text=text)
        for n, text in enumerate(
            ["Do you ship abroad?", "do you  ship abroad", "Do you ship abroad!!"]
        )
    ]
    (entry,) = queue(asked)
    assert (entry.reasons, entry.conversations) == ((Reason.FREQUENT,), 3)
    assert set(entry.turn_ids) == {"0", "1", "2"}
    assert queue([replace(one, conversation_id="same") for one in asked]) == []
    assert queue([replace(one, route=Route.INSTANT, assurance=0.999) for one in asked]) == []


def test_a_decision_on_one_is_a_decision_on_all_that_say_the_same() -> None:
    disliked = replace(FAR, is_disliked=True)
    decided = replace(FAR, turn_id="1", text="Where is my parcel", is_decided=True)
    assert reasons(disliked) == [(Reason.DISLIKED,)]
    assert queue([disliked, decided]) == []


def test_what_users_chose_is_suggested_where_they_agree() -> None:
    clarified = replace(FAR, route=Route.CLARIFY, cause=Cause.CLOSE_INTENTS)
    chose = replace(clarified, turn_id="1", suggested="cancel_order")
    (entry,) = queue([chose, clarified])
    assert (entry.suggestion, entry.suggested_by, entry.turn_id) == ("cancel_order", 1, "1")
    (entry,) = queue([chose, replace(chose, turn_id="2", suggested="return_item")])
    assert (entry.suggestion, entry.reasons) == (None, (Reason.CLARIFIED,))


def test_the_most_telling_come_first() -> None:
    near = replace(FAR, text="near", assurance=0.75)
    nearer = replace(FAR, text="nearer", assurance=0.79)
    clarified = replace(FAR, text="asked back", route=Route.CLARIFY, suggested="track_order")
    disliked = replace(near, text="disliked, too", is_disliked=True)
    found = queue([near, disliked, nearer, clarified])
    assert len(found) == 4
    order = [next(one.text for one in (near, disliked, nearer, clarified) if _is(one, entry))
             for entry in found]  # fmt: skip
    assert order == ["disliked, too", "asked back", "nearer", "near"]


def _is(one: Asked, entry: object) -> bool:
    return queue([one])[0].worth == getattr(entry, "worth", None)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("Where is my parcel?", "where is  my parcel", True),
        ("“Hello”, you!", "hello you", True),
        ("STRASSE", "straße", True),
        ("how do I learn C++", "how do I learn C#", False),
        ("e-mail", "email", False),
        ("की", "का", False),
        ("?", "!", False),
        ("😀", "😡", False),
    ],
)
def test_what_says_the_same(one: str, other: str, is_same: bool) -> None:
    assert (same_words(one) == same_words(other)) is is_same
