"""What turns were about: what users say of it by choosing, and what operators decide."""

from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from uuid import uuid4

from sqlalchemy import Connection, delete, insert, literal, select
from sqlalchemy.exc import IntegrityError

from app.database import intents
from app.database.intents import Example
from app.database.tables import examples, labels, now, turns
from app.database.tables import intents as intents_table
from app.dialogue.turn import Turn
from app.errors import Conflict, NotFound
from intent.interface import OUT_OF_SCOPE


class Source(StrEnum):
    USER = "user"
    OPERATOR = "operator"


def suggest(connection: Connection, choice: Turn) -> None:
    """The turn before was asked back about, and `choice` answers that: it says what it meant."""
    before = turns.alias("before")
    asked = (
        select(before.c.id, before.c.route)
        .where(
            before.c.conversation_id == choice.conversation_id,
            before.c.seq < choice.seq,
            before.c.route.is_not(None),  # one that was never decided asked nothing
        )
        .order_by(before.c.seq.desc())
        .limit(1)
        .subquery()
    )
    intent = choice.decision.intent if choice.decision else None
    row = (
        select(asked.c.id, literal(Source.USER), intents_table.c.id, now())
        .join_from(asked, intents_table, intents_table.c.name == intent)
        .where(asked.c.route == "clarify")
    )
    # The intent may be deleted at this moment: no reason to lose what the user said.
    with suppress(IntegrityError), connection.begin_nested():
        connection.execute(
            insert(labels).from_select(["turn_id", "source", "intent_id", "given_at"], row)
        )


def decide(
    connection: Connection,
    turn_id: str,
    same: Sequence[str],
    intent: str | None,
    *,
    by: str,
    wording: str | None = None,
) -> tuple[int, Example | None]:
    """Label a turn, and those that say the `same`; None dismisses them. The turn, or the operator's
    `wording` of it, becomes an example, unless the intent has it already.

    Returns how many were decided, and the new example. Raises Conflict where somebody was here
    first."""
    there = connection.scalars(
        select(turns.c.id)
        .where(turns.c.id.in_({turn_id, *same}))
        .order_by(turns.c.id)
        .with_for_update(read=True, key_share=True)  # no erasure in between
    ).all()
    if turn_id not in there:
        raise NotFound("turn")
    added: list[Example] = []
    intent_id = None
    if intent is not None:
        intent_id = _id_of(connection, intent)
        texts = [wording] if wording else []
        added, _ = intents.add_examples_from_turn(connection, intent, turn_id, texts)
    click, at = uuid4().hex, connection.scalar(select(now()))
    rows = [
        {
            "turn_id": one,
            "source": Source.OPERATOR,
            "intent_id": intent_id,
            "click": click,
            "example_id": added[0].id if added and one == turn_id else None,
            "given_by": by,
            "given_at": at,
        }
        for one in there
    ]
    try:
        with connection.begin_nested():
            connection.execute(insert(labels), rows)
    except IntegrityError:  # raising takes the example back as well
        raise Conflict(
            "somebody has decided on this message already; undo that first",
            code="already_reviewed",
        ) from None
    return len(rows), added[0] if added else None


def undo(connection: Connection, turn_id: str) -> None:
    """What one click decided is open again, and its example goes. A turn on which nobody has
    decided stays as it is."""
    click = connection.scalar(
        select(labels.c.click).where(
            labels.c.turn_id == turn_id, labels.c.source == Source.OPERATOR
        )
    )
    if click is None:
        if connection.scalar(select(turns.c.id).where(turns.c.id == turn_id)) is None:
            raise NotFound("turn")
        return
    taken = connection.scalars(
        delete(labels).where(labels.c.click == click).returning(labels.c.example_id)
    ).all()
    connection.execute(delete(examples).where(examples.c.id.in_([one for one in taken if one])))


def _id_of(connection: Connection, intent: str) -> str:
    """Raises NotFound; but what is out of scope can be said before anybody has taught it."""
    by_name = select(intents_table.c.id).where(intents_table.c.name == intent)
    found = connection.scalar(by_name)
    if found is None and intent == OUT_OF_SCOPE:
        intents.create(connection, OUT_OF_SCOPE)
        found = connection.scalar(by_name)
    if found is None:
        raise NotFound("intent")
    return str(found)
