"""One thread writes: what has gathered while the last commit ran goes into the next one.

Every operation is a plain function of a connection, so that a transaction can never wait for
a network. In a shared commit each has a savepoint: a bad row fails alone. An operation may
be run again after its transaction was rolled back.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError, PendingRollbackError

from app.errors import Overloaded, Unavailable

T = TypeVar("T")
Operation = Callable[[Connection], T]

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Entry:
    operation: Operation[Any]
    future: "Future[Any]" = field(default_factory=Future)


class Writer:
    """Owns the writing connection. `submit` returns when the operation's commit is durable."""

    def __init__(self, engine: Engine, *, max_waiting: int = 1000, max_together: int = 64) -> None:
        self._engine = engine
        self._queue: queue.Queue[_Entry | None] = queue.Queue(max_waiting)
        self._max_together = max_together
        self._thread = threading.Thread(target=self._run, name="database-writer", daemon=True)
        self._thread.start()
        self._closed = False
        self._entrance = threading.Lock()
        """Nothing may enter the queue behind the None that ends it: nobody would answer it."""

    async def submit(self, operation: Operation[T]) -> T:
        return await asyncio.wrap_future(self._enqueue(operation))

    def submit_and_wait(self, operation: Operation[T]) -> T:
        """For code without an event loop: the CLI and the start of the server."""
        return self._enqueue(operation).result()

    def close(self) -> None:
        """Drains: what was submitted before is still committed."""
        with self._entrance:
            closing, self._closed = not self._closed, True
        if closing:
            self._queue.put(None)
            self._thread.join()

    def _enqueue(self, operation: Operation[T]) -> "Future[T]":
        entry = _Entry(operation)
        with self._entrance:
            if self._closed:
                raise Unavailable("the server is shutting down")
            try:
                self._queue.put_nowait(entry)
            except queue.Full:
                raise Overloaded("the database cannot keep up; try again shortly") from None
        return entry.future

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, closing = self._gather(first)
            self._commit([one for one in batch if one.future.set_running_or_notify_cancel()])
            if closing:
                return

    def _gather(self, first: _Entry) -> tuple[list[_Entry], bool]:
        batch = [first]
        while len(batch) < self._max_together:
            try:
                entry = self._queue.get_nowait()
            except queue.Empty:
                break
            if entry is None:
                return batch, True
            batch.append(entry)
        return batch, False

    def _commit(self, batch: list[_Entry]) -> None:
        if not batch:
            return
        outcomes: list[tuple[_Entry, Any, BaseException | None]] = []
        all_taken_back = False
        try:
            with self._engine.begin() as connection:
                for entry in batch:
                    try:
                        with connection.begin_nested():
                            outcomes.append((entry, entry.operation(connection), None))
                    except DBAPIError as error:
                        lost = error.connection_invalidated or connection.invalidated
                        all_taken_back = not lost and _takes_all_back(error, connection)
                        if lost or all_taken_back:
                            raise
                        outcomes.append((entry, None, error))
                    except Exception as error:
                        outcomes.append((entry, None, error))
        except Exception as error:  # begin or commit failed: nothing of this batch is there
            if len(batch) > 1 and (all_taken_back or _is_deadlock(error)):
                # Another replica's commit locks the same rows in another order: operations
                # that hold nothing while they wait for their first row wait in no circle. Or
                # one found the disk full: the others may have room.
                for entry in batch:
                    self._commit([entry])
                return
            log.error("commit failed", error=type(error).__name__, operations=len(batch))
            for entry in batch:
                _fail(entry, error)
            return
        for entry, value, failure in outcomes:
            if failure is None:
                entry.future.set_result(value)
            else:
                _fail(entry, failure)


def _takes_all_back(error: DBAPIError, connection: Connection) -> bool:
    """When its disk is full, SQLite rolls the whole transaction back by itself, savepoints and
    all: the COMMIT that follows would succeed and keep nothing."""
    driver = connection.connection.dbapi_connection
    rolled_back = isinstance(driver, sqlite3.Connection) and not driver.in_transaction
    return rolled_back or _is_deadlock(error)


def _is_deadlock(error: BaseException) -> bool:
    """PostgreSQL chose us as the victim (SQLite has one writer, and so no deadlocks)."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == "40P01"


def _fail(entry: _Entry, error: BaseException) -> None:
    # A connection that was lost inside a savepoint shows as the savepoint's PendingRollbackError.
    if isinstance(error, OperationalError | PendingRollbackError):
        unavailable = Unavailable("the database does not answer; nothing was changed")
        unavailable.__cause__ = error
        error = unavailable
    entry.future.set_exception(error)
