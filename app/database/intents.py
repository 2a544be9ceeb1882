"""Intents, their replies and their examples: what operators teach."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    Connection,
    Row,
    delete,
    func,
    insert,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError

from app.database import assistant
from app.database.cursor import after, position
from app.database.tables import examples, intents, now, turns
from app.errors import Conflict, InvalidInput, NotFound
from intent.interface import OUT_OF_SCOPE

MOST_EXAMPLE_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Intent:
    name: str
    title: str
    replies: tuple[str, ...]
    examples: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Example:
    id: str
    text: str
    created_at: datetime
    turn_id: str | None = None
    """The turn it was taken from; None: an operator's own words."""


def everything(connection: Connection) -> list[Intent]:
    return [_from_row(row) for row in connection.execute(_SELECT.order_by(intents.c.name))]


def get(connection: Connection, name: str) -> Intent:
    row = connection.execute(_SELECT.where(intents.c.name == name)).one_or_none()
    if row is None:
        raise NotFound("intent")
    return _from_row(row)


def create(
    connection: Connection,
    name: str,
    *,
    title: str = "",
    replies: Sequence[str] = (),
    example_texts: Sequence[str] = (),
) -> Intent:
    _check(name, replies)
    values = {"title": title, "replies": list(replies), "updated_at": now()}
    try:
        with connection.begin_nested():
            connection.execute(insert(intents).values(id=uuid4().hex, name=name, **values))
    except IntegrityError:
        raise Conflict("an intent of this name exists already", code="intent_exists") from None
    assistant.touch(connection)
    if example_texts:
        add_examples(connection, name, example_texts)
    return get(connection, name)


def change(
    connection: Connection,
    name: str,
    *,
    new_name: str | None = None,
    title: str | None = None,
    replies: Sequence[str] | None = None,
) -> Intent:
    """None leaves a field as it is."""
    values: dict[str, Any] = {"updated_at": now()}
    if new_name is not None:
        values["name"] = new_name
    if title is not None:
        values["title"] = title
    if replies is not None:
        values["replies"] = list(replies)
    try:
        with connection.begin_nested():
            changed = connection.execute(
                update(intents).where(intents.c.name == name).values(values)
            )
    except IntegrityError:
        raise Conflict("an intent of this name exists already", code="intent_exists") from None
    if changed.rowcount == 0:
        raise NotFound("intent")
    assistant.touch(connection)
    intent = get(connection, new_name or name)
    _check(intent.name, intent.replies)  # raising undoes the change
    return intent


def remove(connection: Connection, name: str) -> None:
    """Its examples go with it."""
    if connection.execute(delete(intents).where(intents.c.name == name)).rowcount == 0:
        raise NotFound("intent")
    assistant.touch(connection)


def examples_of(
    connection: Connection, name: str, *, limit: int, cursor: str | None
) -> tuple[list[Example], str | None]:
    """Newest first, and the cursor of the next page."""
    query = (
        select(examples)
        .where(examples.c.intent_id == _id_of(connection, name))
        .order_by(examples.c.created_at.desc(), examples.c.id.desc())
        .limit(limit + 1)
    )
    if cursor is not None:
        query = query.where(tuple_(examples.c.created_at, examples.c.id) < position(cursor))
    rows = connection.execute(query).all()
    page = rows[:limit]
    return [_example_from_row(row) for row in page], (
        after(page[-1].created_at, page[-1].id) if len(rows) > limit else None
    )


def add_examples(
    connection: Connection, name: str, texts: Sequence[str], *, turn_id: str | None = None
) -> tuple[list[Example], list[int]]:
    """Returns the new ones, and the places in `texts` of those the intent had already.

    `turn_id`: the turn they were taken from; when it is erased, they go with it."""
    intent_id = _id_of(connection, name)
    known = set(
        connection.scalars(select(examples.c.text).where(examples.c.intent_id == intent_id))
    )
    rows: list[dict[str, Any]] = []
    skipped: list[int] = []
    at = connection.scalar(select(now()))
    for place, text in enumerate(texts):
        if text in known:
            skipped.append(place)
            continue
        known.add(text)
        rows.append(
            {
                "id": uuid4().hex,
                "intent_id": intent_id,
                "text": text,
                "digest": _digest(text),
                "turn_id": turn_id,
                "created_at": at,
            }
        )
    if rows:
        connection.execute(insert(examples), rows)
        _touch_intent(connection, intent_id)
    return [
        Example(row["id"], row["text"], datetime.fromtimestamp(row["created_at"], UTC), turn_id)
        for row in rows
    ], skipped


def add_examples_from_turn(
    connection: Connection, name: str, turn_id: str, texts: Sequence[str]
) -> tuple[list[Example], list[int]]:
    """What was said in a turn, or `texts`, its wordings by the operator. Whoever's turn it is:
    this is for operators."""
    said = connection.scalar(
        select(turns.c.text).where(turns.c.id == turn_id).with_for_update(read=True)
    )
    if said is None:
        raise NotFound("turn")
    if not texts and len(said) > MOST_EXAMPLE_CHARACTERS:
        raise InvalidInput(
            f"this turn is longer than an example's {MOST_EXAMPLE_CHARACTERS} characters; "
            "send the part that counts along with it",
            code="turn_too_long",
        )
    return add_examples(connection, name, texts or [said], turn_id=turn_id)


def change_example(connection: Connection, example_id: str, text: str) -> Example:
    try:
        with connection.begin_nested():
            row = connection.execute(
                update(examples)
                .where(examples.c.id == example_id)
                .values(text=text, digest=_digest(text))
                .returning(*examples.c)
            ).one_or_none()
    except IntegrityError:
        raise Conflict("the intent has this example already", code="example_exists") from None
    if row is None:
        raise NotFound("example")
    _touch_intent(connection, row.intent_id)
    return _example_from_row(row)


def remove_example(connection: Connection, example_id: str) -> None:
    intent_id = connection.scalar(
        delete(examples).where(examples.c.id == example_id).returning(examples.c.intent_id)
    )
    if intent_id is None:
        raise NotFound("example")
    _touch_intent(connection, intent_id)


def training_data(connection: Connection) -> list[tuple[str, str]]:
    """Every (text, intent), in an order that depends on nothing but them."""
    rows = connection.execute(
        select(examples.c.text, intents.c.name).join(intents, examples.c.intent_id == intents.c.id)
    )
    return sorted(((row.text, row.name) for row in rows), key=lambda pair: (pair[1], pair[0]))


def _check(name: str, replies: Sequence[str]) -> None:
    if name == OUT_OF_SCOPE and replies:
        raise InvalidInput(
            f"{OUT_OF_SCOPE} teaches what not to answer: it has examples, but no replies",
            code="out_of_scope_has_no_replies",
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _id_of(connection: Connection, name: str) -> str:
    intent_id = connection.scalar(select(intents.c.id).where(intents.c.name == name))
    if intent_id is None:
        raise NotFound("intent")
    return str(intent_id)


def _touch_intent(connection: Connection, intent_id: str) -> None:
    connection.execute(update(intents).where(intents.c.id == intent_id).values(updated_at=now()))


_SELECT = select(
    intents,
    select(func.count())
    .where(examples.c.intent_id == intents.c.id)
    .scalar_subquery()
    .label("examples"),
)


def _from_row(row: Row[Any]) -> Intent:
    return Intent(
        name=row.name,
        title=row.title,
        replies=tuple(row.replies),
        examples=row.examples,
        updated_at=datetime.fromtimestamp(row.updated_at, UTC),
    )


def _example_from_row(row: Row[Any]) -> Example:
    return Example(row.id, row.text, datetime.fromtimestamp(row.created_at, UTC), row.turn_id)
