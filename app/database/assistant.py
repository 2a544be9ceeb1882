"""The assistant itself: its name, greeting and variables, and the replies it may say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from app.database.tables import assistant, intents
from app.dialogue.responses import IntentReplies, ReplyBook


@dataclass(frozen=True, slots=True)
class Assistant:
    name: str
    greeting: str
    suggestions: tuple[str, ...]
    variables: Mapping[str, str]
    """For `{name}` in replies."""


def get(connection: Connection) -> Assistant:
    row = connection.execute(select(assistant)).one()
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
    return int(connection.execute(select(assistant.c.revision)).scalar_one())


def touch(connection: Connection) -> None:
    """Tell every replica that replies or variables have changed."""
    connection.execute(update(assistant).values(revision=assistant.c.revision + 1))


def reply_book(connection: Connection) -> ReplyBook:
    rows: Sequence[tuple[str, str, list[str]]] = [
        (row.name, row.title, row.replies)
        for row in connection.execute(select(intents.c.name, intents.c.title, intents.c.replies))
    ]
    return ReplyBook(
        intents={name: IntentReplies(title, tuple(replies)) for name, title, replies in rows},
        variables=get(connection).variables,
    )
