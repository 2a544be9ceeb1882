"""The assistant itself: its name, greeting and variables, and the replies it may say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, insert, select, update

from app.database.tables import assistant, intents
from app.dialogue.responses import IntentReplies, ReplyBook


@dataclass(frozen=True, slots=True)
class Assistant:
    name: str = "Twofold"
    greeting: str = "Hello! How can I help you?"
    suggestions: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    """For `{name}` in replies."""


def get(connection: Connection) -> Assistant:
    row = connection.execute(select(assistant)).one_or_none()
    if row is None:
        return Assistant()
    return Assistant(row.name, row.greeting, tuple(row.suggestions), dict(row.variables))


def put(connection: Connection, new: Assistant) -> Assistant:
    touch(connection)
    connection.execute(
        update(assistant).values(
            name=new.name,
            greeting=new.greeting,
            suggestions=list(new.suggestions),
            variables=dict(new.variables),
        )
    )
    return new


def revision(connection: Connection) -> int:
    return connection.scalar(select(assistant.c.revision)) or 0


def touch(connection: Connection) -> None:
    """Tell every replica that replies or variables have changed."""
    touched = connection.execute(update(assistant).values(revision=assistant.c.revision + 1))
    if touched.rowcount == 0:
        fresh = Assistant()
        connection.execute(
            insert(assistant).values(
                id=1,
                name=fresh.name,
                greeting=fresh.greeting,
                suggestions=[],
                variables={},
                revision=1,
            )
        )


def reply_book(connection: Connection) -> ReplyBook:
    rows: Sequence[tuple[str, str, list[str]]] = [
        (row.name, row.title, row.replies)
        for row in connection.execute(select(intents.c.name, intents.c.title, intents.c.replies))
    ]
    return ReplyBook(
        intents={name: IntentReplies(title, tuple(replies)) for name, title, replies in rows},
        variables=get(connection).variables,
    )
