"""Faults to plant, so that the proof shows that it would see them, and disks that are full.

Each is put around the product's functions or into its statements; none is in its code. A
fault that cannot be planted any more is not caught either, and so makes the proof fail.
"""

import asyncio
import functools
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import psycopg.errors
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect

from app.database import turns
from app.database.database import Database
from tests.proof.plan import Full
from tests.proof.points import Tell, Transactions, wrap

COMMIT_SECONDS = 0.02
"""How long the fault `acknowledge before commit` holds each commit back."""


def plant(fault: str, transactions: Transactions) -> None:
    FAULTS[fault](transactions)


def _acknowledge_before_commit(transactions: Transactions) -> None:
    def hasty(write: Callable[..., Any]) -> Callable[..., Any]:
        async def observed(self: Database, operation: Callable[..., Any]) -> Any:
            loop = asyncio.get_running_loop()
            early: asyncio.Future[Any] = loop.create_future()

            def told_early(connection: Any) -> Any:
                value = operation(connection)
                loop.call_soon_threadsafe(lambda: early.done() or early.set_result(value))
                return value

            late = asyncio.ensure_future(write(self, told_early))
            await asyncio.wait({late, early}, return_when=asyncio.FIRST_COMPLETED)
            return early.result() if early.done() else late.result()

        return observed

    def slow(commit: Callable[..., Any]) -> Callable[..., Any]:
        def observed(*args: Any) -> None:
            if transactions.uncommitted:
                time.sleep(COMMIT_SECONDS)
            commit(*args)

        return observed

    wrap(Database, "write", hasty)
    wrap(DefaultDialect, "do_commit", slow)


def _no_idempotency(_: Transactions) -> None:
    def forgetful(accept: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(accept)
        def observed(connection: Any, new: Any, *args: Any, **kwargs: Any) -> Any:
            return accept(connection, replace(new, idempotency_key=None), *args, **kwargs)

        return observed

    wrap(turns, "accept", forgetful)


def _no_order_guard(transactions: Transactions) -> None:
    """No turn waits for an earlier one. (`unguard` drops the index that holds it as well.)"""
    _rewrite(transactions, ("accept", "begin"), r"EXISTS \(", "1 = 0 AND EXISTS (")


def _no_fence(transactions: Transactions) -> None:
    _rewrite(
        transactions,
        ("append", "finish"),
        r"turns\.fence = (%\(\w+\)s(?:::\w+)?|\?)",
        r"(turns.fence = \1 OR 1 = 1)",
    )


FAULTS: Mapping[str, Callable[[Transactions], None]] = {
    "acknowledge before commit": _acknowledge_before_commit,
    "no idempotency": _no_idempotency,
    "no order guard": _no_order_guard,
    "no fence": _no_fence,
}


def _rewrite(transactions: Transactions, operations: Sequence[str], pattern: str, by: str) -> None:
    @event.listens_for(Engine, "before_cursor_execute", retval=True)
    def _rewritten(
        _c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any
    ) -> tuple[str, Any]:
        if transactions.running in operations:
            statement = re.sub(pattern, by, statement)
        return statement, parameters


def fill_disk(full: Sequence[Full], transactions: Transactions, tell: Tell) -> None:
    """From the first SIGUSR1 to the next one; SIGUSR2 asks how many writes have failed."""
    is_full = threading.Event()
    every = {one.operation: one.every for one in full}
    seen = dict.fromkeys(every, 0)
    failed = dict.fromkeys(every, 0)
    signal.signal(signal.SIGUSR1, lambda *_: is_full.clear() if is_full.is_set() else is_full.set())
    signal.signal(signal.SIGUSR2, lambda *_: tell({"event": "disk", "failed": failed}))

    def fails(operation: str) -> bool:
        if operation not in every or not is_full.is_set():
            return False
        seen[operation] += 1
        if seen[operation] % every[operation]:
            return False
        failed[operation] += 1
        return True

    def _write(_cursor: Any, statement: str, _parameters: Any, context: Any) -> None:
        writes = statement.startswith(("INSERT", "UPDATE"))
        running = "add version" if statement.startswith(_NEW_VERSION) else transactions.running
        if writes and running is not None and fails(running):
            raise _disk_full(context.dialect)

    event.listen(Engine, "do_execute", _write)
    event.listen(Engine, "do_executemany", _write)

    def refusing(commit: Callable[..., Any]) -> Callable[..., Any]:
        def observed(dialect: Any, connection: Any) -> None:
            if transactions.uncommitted and fails("commit"):
                raise _disk_full(dialect)
            commit(dialect, connection)

        return observed

    wrap(DefaultDialect, "do_commit", refusing)
    if "pages" in every:
        _bound_file(is_full, failed)


def _bound_file(is_full: threading.Event, failed: dict[str, int]) -> None:
    """SQLite's own answer to a full disk, beside ours: the file may not grow by a page."""

    @event.listens_for(Engine, "begin")
    def _bound(connection: Any) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar() if is_full.is_set() else 0
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages or 1_000_000_000}")

    @event.listens_for(Engine, "handle_error")
    def _count(context: Any) -> None:
        if "SQLITE_FULL" in str(getattr(context.original_exception, "sqlite_errorname", "")):
            failed["pages"] += 1


_NEW_VERSION = "INSERT INTO model_versions"


def _disk_full(dialect: Any) -> Exception:
    """As the driver raises it."""
    if dialect.name == "sqlite":
        return sqlite3.OperationalError("database or disk is full")
    return psycopg.errors.DiskFull("could not extend file: No space left on device")


def unguard(url: str) -> None:
    """Drops what keeps two turns of a conversation from being answered at once."""
    database = Database(url)
    database.write_now(lambda c: c.exec_driver_sql("DROP INDEX uq_turns_one_generating"))
    database.close()
