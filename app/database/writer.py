"""One thread writes: what has gathered while the last commit ran goes into the next one.

Every operation is a plain function of a connection, so that a transaction can never wait for
a network. In a shared commit a bad one fails alone: the transaction is rolled back and run
again with a savepoint around each. So an operation may be run again after a rollback; after
a COMMIT whose outcome is unknown none ever is.
"""

import asyncio
import sqlite3
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError, PendingRollbackError

from app.errors import Overloaded, Unavailable

T = TypeVar("T")
Operation = Callable[[Connection], T]

log = structlog.get_logger(__name__)


class OutcomeUnknown(Unavailable):
    """The connection broke, or the disk failed, while a COMMIT was under way."""

    code = "outcome_unknown"

    def __init__(self) -> None:
        super().__init__(
            "the database did not confirm this change: it may be stored or not; "
            "look, or repeat the request with the same Idempotency-Key"
        )


class _OperationFailed(Exception):
    """Nothing of its transaction is there."""

    def __init__(self, error: BaseException, *, all_taken_back: bool) -> None:
        super().__init__()
        self.error = error
        self.all_taken_back = all_taken_back
        """Though one alone was at fault: the others may succeed by themselves."""


@dataclass(slots=True, eq=False)
class _Entry:
    operation: Callable[[Any], Any]
    future: "Future[Any] | asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop | None
    """Where `future` is settled; None: whoever waits is a thread."""
    alone: bool = False
    """Outside any transaction; it gets the driver's connection."""
    value: Any = None
    failure: BaseException | None = None

    def settle(self) -> None:
        if self.future.done():  # whoever asked has given up
            return
        if self.failure is None:
            self.future.set_result(self.value)
        else:
            self.future.set_exception(self.failure)


class Writer:
    """Owns the writing connection. `submit` returns when the operation's commit is durable.

    Raises Overloaded when too many wait, Unavailable when the database does not answer."""

    def __init__(self, engine: Engine, *, max_waiting: int = 1000, max_together: int = 64) -> None:
        self._engine = engine
        self._max_waiting = max_waiting
        self._max_together = max_together
        self._waiting: deque[_Entry] = deque()
        self._closed = False
        self._changed = threading.Condition()
        """Guards `_waiting` and `_closed`: nothing enters behind the end, to wait for ever."""
        self._thread = threading.Thread(target=self._run, name="database-writer", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Operations that no commit has taken up yet."""
        return len(self._waiting)

    async def submit(self, operation: Operation[T]) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._enqueue(_Entry(operation, future, loop))
        return await future

    async def submit_alone(self, operation: Callable[[Any], T]) -> T:
        """Between two commits and in no transaction; `operation` gets the driver's connection."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._enqueue(_Entry(operation, future, loop, alone=True))
        return await future

    def submit_and_wait(self, operation: Operation[T]) -> T:
        """For code without an event loop: the CLI and the start of the server."""
        future: Future[T] = Future()
        self._enqueue(_Entry(operation, future, None))
        return future.result()

    def close(self) -> None:
        """Drains: what was submitted before is still committed."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _enqueue(self, entry: _Entry) -> None:
        with self._changed:
            if self._closed:
                raise Unavailable("the server is shutting down")
            if len(self._waiting) >= self._max_waiting:
                raise Overloaded("the database cannot keep up; try again shortly")
            self._waiting.append(entry)
            self._changed.notify()

    def _run(self) -> None:
        while batch := self._gather():
            wanted = [entry for entry in batch if not entry.future.cancelled()]
            together = [entry for entry in wanted if not entry.alone]
            try:
                self._commit(together)
            except BaseException as error:
                # Whatever it was, this thread goes on: without it the whole server would hang.
                log.error("commit failed", error=type(error).__name__, operations=len(together))
                for entry in together:
                    entry.failure = _told(error)
            for entry in wanted:
                if entry.alone:
                    self._run_alone(entry)
            _settle_all(wanted)

    def _gather(self) -> list[_Entry]:
        """At least one entry; none at the end."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            count = min(len(self._waiting), self._max_together)
            return [self._waiting.popleft() for _ in range(count)]

    def _run_alone(self, entry: _Entry) -> None:
        try:
            with closing(self._engine.raw_connection()) as connection:
                entry.value = entry.operation(connection.driver_connection)
        except BaseException as error:
            entry.failure = _told(error)

    def _commit(self, batch: Sequence[_Entry]) -> None:
        """Leaves a value or a failure in each entry; raises where nothing of the batch is there,
        or where nobody knows."""
        if not batch:
            return
        try:
            self._transaction(batch, _run_bare)
        except _OperationFailed as failed:
            if len(batch) == 1:
                batch[0].failure = _told(failed)
            elif failed.all_taken_back:
                self._commit_one_by_one(batch)
            elif _is_cut(failed.error):
                raise
            else:
                self._commit_apart(batch)

    def _commit_apart(self, batch: Sequence[_Entry]) -> None:
        try:
            self._transaction(batch, _run_in_savepoint)
        except _OperationFailed as failed:
            if not failed.all_taken_back:
                raise
            self._commit_one_by_one(batch)

    def _commit_one_by_one(self, batch: Sequence[_Entry]) -> None:
        """Another replica's commit locks the same rows in another order: operations that hold
        nothing while they wait for their first row wait in no circle. Or one found the disk
        full: the others may have room."""
        for entry in batch:
            try:
                self._commit([entry])
            except BaseException as error:
                entry.failure = _told(error)

    def _transaction(
        self, batch: Sequence[_Entry], run: Callable[[_Entry, Connection], None]
    ) -> None:
        with self._engine.connect() as connection:
            transaction = connection.begin()
            try:
                for entry in batch:
                    run(entry, connection)
            except BaseException as error:
                all_taken_back = _takes_all_back(error, connection)
                with suppress(DBAPIError):  # the connection is gone, and the transaction with it
                    transaction.rollback()
                raise _OperationFailed(error, all_taken_back=all_taken_back) from error
            try:
                transaction.commit()
            except DBAPIError as error:
                if _says_not_committed(error):
                    raise
                connection.invalidate(error)
                raise OutcomeUnknown from error


def _run_bare(entry: _Entry, connection: Connection) -> None:
    entry.value = entry.operation(connection)


def _run_in_savepoint(entry: _Entry, connection: Connection) -> None:
    entry.failure = None
    try:
        with connection.begin_nested():
            entry.value = entry.operation(connection)
    except BaseException as error:
        if _is_cut(error) or _takes_all_back(error, connection):
            raise
        entry.failure = _told(error)


def _settle_all(entries: Sequence[_Entry]) -> None:
    """One call into each event loop, however many wait there."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[_Entry]] = defaultdict(list)
    for entry in entries:
        if entry.loop is None:
            entry.settle()
        else:
            by_loop[entry.loop].append(entry)
    for loop, theirs in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, theirs)


def _settle(entries: Sequence[_Entry]) -> None:
    for entry in entries:
        entry.settle()


def _is_cut(error: BaseException) -> bool:
    """The connection broke: in a statement, or (pending rollback) at the end of a savepoint."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    return isinstance(error, PendingRollbackError)


def _takes_all_back(error: BaseException, connection: Connection) -> bool:
    """When its disk is full, SQLite rolls the whole transaction back by itself, savepoints and
    all: the COMMIT that follows would succeed and keep nothing."""
    if connection.invalidated:
        return False
    driver = connection.connection.dbapi_connection
    rolled_back = isinstance(driver, sqlite3.Connection) and not driver.in_transaction
    return rolled_back or _is_deadlock(error)


def _is_deadlock(error: BaseException) -> bool:
    """PostgreSQL chose us as the victim (SQLite has one writer, and so no deadlocks)."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == "40P01"


def _says_not_committed(error: DBAPIError) -> bool:
    """The database itself refused the COMMIT. Anything else, a lost connection above all, can
    come after the change was made."""
    if getattr(error.orig, "sqlite_errorname", None) in ("SQLITE_BUSY", "SQLITE_FULL"):
        return True
    return (getattr(error.orig, "sqlstate", None) or "")[:2] in ("23", "40")


def _told(error: BaseException) -> BaseException:
    """As the one who asked shall hear it."""
    if isinstance(error, _OperationFailed):
        return _told(error.error)
    if isinstance(error, OperationalError) or _is_cut(error):
        unavailable = Unavailable("the database does not answer; nothing was changed")
        unavailable.__cause__ = error
        return unavailable
    return error
