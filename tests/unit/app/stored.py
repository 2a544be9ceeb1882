"""Rows for tests: conversations and turns, without a chatbot."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Table, update

from app.database import accepting, conversations, turns
from app.database.accepting import NewTurn
from app.database.database import Database
from app.database.tables import now
from app.dialogue.routing import Cause, Decision, Route
from app.dialogue.state import DialogueState
from app.dialogue.turn import Reply, Timing, Turn, Verdict

NO_TIME = Timing(1.0, None, 2.0)


def instant(state: DialogueState) -> Verdict:
    decision = Decision(Route.INSTANT, Cause.CONFIDENT, "greet", 0.9, 0.8, 0.8)
    return Verdict(decision, Reply("Hello!"), state.after_answer("greet", ()), 1)


def open_ended(state: DialogueState) -> Verdict:
    decision = Decision(Route.GENERATE, Cause.UNSURE, "greet", 0.3, 0.8, 0.1)
    return Verdict(decision, None, state.after_answer(None, ()), 1)


def timing() -> Timing:
    return NO_TIME


def conversation(database: Database, owner: str = "ada") -> str:
    return database.write_now(lambda c: conversations.create(c, owner, variables=None)).id


def accept(
    conversation_id: str,
    text: str = "hello",
    *,
    decide: Callable[[DialogueState], Verdict] = open_ended,
    owner: str = "ada",
    worker: str = "first",
    key: str | None = None,
) -> Callable[..., Turn]:
    """The operation that stores a turn; hand it to `write` or `write_now`."""
    new = NewTurn(owner, conversation_id, text, worker, key)
    return lambda connection: accepting.accept(connection, new, decide, timing)


def begin(turn: Turn, *, worker: str = "first") -> Callable[..., Turn | None]:
    return lambda connection: turns.begin(connection, turn.id, open_ended, timing, worker=worker)


def finish(turn: Turn, text: str = "Done.") -> Callable[..., Turn]:
    return lambda connection: turns.finish(connection, turn.id, turn.fence, Reply(text), NO_TIME)


def expire(database: Database, table: Table) -> None:
    """As if every worker had been silent for longer than its leases last."""
    database.write_now(lambda c: c.execute(update(table).values(lease_until=now() - 1)))


def together(operations: Sequence[tuple[Database, Callable[..., Any]]]) -> list[Any]:
    """All submitted at the same moment; what each returned or raised."""

    async def run() -> list[Any]:
        return await asyncio.gather(
            *(database.write(operation) for database, operation in operations),
            return_exceptions=True,
        )

    return asyncio.run(run())


@contextmanager
def replicas(url: str, count: int = 2) -> Iterator[list[Database]]:
    """As many servers' connections to one database (PostgreSQL)."""
    opened = [Database(url) for _ in range(count)]
    try:
        yield opened
    finally:
        for database in opened:
            database.close()
