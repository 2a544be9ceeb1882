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

from app.database import accepting
from app.database.database import Database
from tests.proof.plan import Full
from tests.proof.points import Statements, Tell, Transactions, wrap

COMMIT_SECONDS = 0.02
"""How long the fault `acknowledge before commit` holds each commit back."""


def plant(fault: str, transactions: Transactions, statements: Statements) -> None:
    FAULTS[fault](transactions, statements)


def _acknowledge_before_commit(transactions: Transactions, _: Statements) -> None:
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


def _no_idempotency(*_: Any) -> None:
    def forgetful(accept: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(accept)
        def observed(connection: Any, new: Any, *args: Any, **kwargs: Any) -> Any:
            return accept(connection, replace(new, idempotency_key=None), *args, **kwargs)

        return observed

    wrap(accepting, "accept", forgetful)


def _no_order_guard(transactions: Transactions, statements: Statements) -> None:
    """No turn waits for an earlier one. (`unguard` drops the index that holds it as well.)"""
    found_none = r"(EXISTS\s*\(SELECT\s[^()]*?\sFROM\sturns\b[^()]*?\sWHERE\s)"
    _rewrite(transactions, statements, ("accept", "begin"), found_none, r"\g<1>1 = 0 AND ")


def _no_fence(transactions: Transactions, statements: Statements) -> None:
    mine = r"turns\.fence = (%\(\w+\)s(?:::\w+)?|\$\d+(?:::\w+)?|\?)"
    _rewrite(transactions, statements, ("append", "finish"), mine, r"(turns.fence = \1 OR 1 = 1)")


FAULTS: Mapping[str, Callable[[Transactions, Statements], None]] = {
    "acknowledge before commit": _acknowledge_before_commit,
    "no idempotency": _no_idempotency,
    "no order guard": _no_order_guard,
    "no fence": _no_fence,
}


def _rewrite(
    transactions: Transactions,
    statements: Statements,
    operations: Sequence[str],
    pattern: str,
    by: str,
) -> None:
    def rewritten(statement: str) -> str:
        if transactions.running in operations:
            statement = re.sub(pattern, by, statement)
        return statement

    statements.before.append(rewritten)


def fill_disk(
    full: Sequence[Full], url: str, transactions: Transactions, statements: Statements, tell: Tell
) -> None:
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

    def write(statement: str) -> str:
        writes = statement.startswith(("INSERT", "UPDATE"))
        running = "add version" if statement.startswith(_NEW_VERSION) else transactions.running
        if writes and running is not None and fails(running):
            raise _disk_full(url)
        return statement

    statements.before.append(write)

    def refusing(commit: Callable[..., Any]) -> Callable[..., Any]:
        def observed(dialect: Any, connection: Any) -> None:
            if transactions.uncommitted and fails("commit"):
                raise _disk_full(url)
            commit(dialect, connection)

        return observed

    wrap(DefaultDialect, "do_commit", refusing)
    if "pages" in every:
        _bound_file(is_full, failed, statements)


def _bound_file(is_full: threading.Event, failed: dict[str, int], statements: Statements) -> None:
    """SQLite's own answer to a full disk, beside ours: the file may not grow by a page."""

    @event.listens_for(Engine, "begin")
    def _bound(connection: Any) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar() if is_full.is_set() else 0
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages or 1_000_000_000}")

    def count(error: Exception) -> None:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
            failed["pages"] += 1

    statements.failed.append(count)


_NEW_VERSION = "INSERT INTO model_versions"


def _disk_full(url: str) -> Exception:
    """As the driver raises it."""
    if url.startswith("sqlite"):
        return sqlite3.OperationalError("database or disk is full")
    return psycopg.errors.DiskFull("could not extend file: No space left on device")


def unguard(url: str) -> None:
    """Drops what keeps two turns of a conversation from being answered at once."""
    database = Database(url)
    database.write_now(lambda c: c.exec_driver_sql("DROP INDEX uq_turns_one_generating"))
    database.close()
