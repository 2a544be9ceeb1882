"""Conversations. Every query names the owner: somebody else's conversation is absent."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, insert, select, tuple_

from app.database.cursor import after, position
from app.database.tables import conversations, now
from app.dialogue.state import DialogueState
from app.errors import NotFound


@dataclass(frozen=True, slots=True)
class Conversation:
    id: str
    title: str
    turns: int
    created_at: datetime
    updated_at: datetime
    state: DialogueState


def create(
    connection: Connection, owner: str, *, title: str = "", variables: Mapping[str, str] | None
) -> Conversation:
    row_id = uuid4().hex
    connection.execute(
        insert(conversations).values(
            id=row_id,
            owner=owner,
            title=title,
            state=DialogueState(variables=variables or {}).to_json(),
            next_seq=1,
            created_at=now(),
            updated_at=now(),
        )
    )
    return get(connection, owner, row_id)


def get(connection: Connection, owner: str, conversation_id: str) -> Conversation:
    row = connection.execute(
        _SELECT.where(conversations.c.id == conversation_id, conversations.c.owner == owner)
    ).one_or_none()
    if row is None:
        raise NotFound("conversation")
    return _from_row(row)


def newest_first(
    connection: Connection, owner: str, *, limit: int, cursor: str | None
) -> tuple[list[Conversation], str | None]:
    """One page, and the cursor of the next; None at the end."""
    query = (
        _SELECT.where(conversations.c.owner == owner)
        .order_by(conversations.c.updated_at.desc(), conversations.c.id.desc())
        .limit(limit + 1)
    )
    if cursor is not None:
        query = query.where(
            tuple_(conversations.c.updated_at, conversations.c.id) < position(cursor)
        )
    rows = connection.execute(query).all()
    page = rows[:limit]
    more = len(rows) > limit
    return [_from_row(row) for row in page], (
        after(page[-1].updated_at, page[-1].id) if more else None
    )


# Numbers have no gaps and no turn is ever taken out: no need to count.
_SELECT = select(conversations, (conversations.c.next_seq - 1).label("turns"))


def _from_row(row: Row[Any]) -> Conversation:
    return Conversation(
        id=row.id,
        title=row.title,
        turns=row.turns,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        updated_at=datetime.fromtimestamp(row.updated_at, UTC),
        state=DialogueState.from_json(row.state),
    )
