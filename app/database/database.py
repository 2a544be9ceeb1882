"""Connections to SQLite or PostgreSQL: one writing thread, a few reading ones."""

import asyncio
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import structlog
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, OperationalError, PendingRollbackError
from sqlalchemy.pool import QueuePool

from app.database.writer import Operation, Writer
from app.errors import ConfigurationError, Unavailable

T = TypeVar("T")

log = structlog.get_logger(__name__)

READING_THREADS = 3
SQLITE_PATIENCE = 10.0
"""Seconds to wait for another process's lock."""
STALLED_SECONDS = 5.0
"""PostgreSQL ends a transaction whose process is silent for so long, and frees its rows: a
replica that was stopped in the middle of one must not stop the others. Less than a lease."""
LOCK_SECONDS = 8.0
"""Whoever waits for such a row fails alone before everybody behind it does."""


class Database:
    """`read` and `write` run a function of a connection in a thread; both may be awaited at
    once by any number of tasks. Raises Unavailable when the database does not answer."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _engine(url)
        self._writer = Writer(self.engine)
        self._readers = ThreadPoolExecutor(READING_THREADS, thread_name_prefix="database-reader")

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @property
    def waiting_writes(self) -> int:
        return self._writer.waiting

    async def write(self, operation: Operation[T]) -> T:
        """One short transaction; returns after its commit."""
        return await self._writer.submit(operation)

    async def read(self, operation: Operation[T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._readers, self.read_now, operation
        )

    async def forget_deleted(self) -> bool:
        """SQLite: what was deleted also leaves the write-ahead log (`secure_delete` has wiped it
        from the pages). False: somebody reads just now; try again. PostgreSQL: its VACUUM does
        it in its own time."""
        if not self.is_sqlite:
            return True
        return await self._writer.submit_alone(_empty_write_ahead_log)

    def write_now(self, operation: Operation[T]) -> T:
        return self._writer.submit_and_wait(operation)

    def read_now(self, operation: Operation[T]) -> T:
        try:
            with self.engine.connect() as connection:
                if self.is_sqlite:
                    connection.info["reading"] = True
                try:
                    return operation(connection)
                finally:
                    if self.is_sqlite:
                        connection.info.pop("reading", None)
        except (OperationalError, PendingRollbackError) as error:
            raise Unavailable("the database does not answer") from error

    def close(self) -> None:
        """Commits what was submitted, then closes every connection."""
        self._writer.close()
        self._readers.shutdown()
        self.engine.dispose()


def _engine(url: str) -> Engine:
    try:
        backend = make_url(url).get_backend_name()
    except ArgumentError as error:
        raise ConfigurationError(
            "TWOFOLD_DATABASE_URL is not a database URL; "
            "an example: postgresql+psycopg://user:password@host/name"
        ) from error
    if backend == "sqlite":
        return _sqlite_engine(url)
    if backend == "postgresql":
        return _postgresql_engine(url)
    raise ConfigurationError(f"{backend} is not supported; use sqlite or postgresql")


def _postgresql_engine(url: str) -> Engine:
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=READING_THREADS + 1,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "connect_timeout": 5,
            "client_encoding": "utf8",
            # A database machine that vanished without a word is noticed in seconds, not hours.
            "keepalives_idle": 5,
            "keepalives_interval": 3,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
        },
    )

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: Any) -> None:
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise ConfigurationError(
                f"the database's encoding is {encoding}, which cannot keep what people write; "
                "create it with ENCODING 'UTF8'"
            )
        # What was acknowledged is on disk, also where the server's default is to hurry.
        connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false) "
            "WHERE current_setting('synchronous_commit') = 'off'"
        )
        stalled, lock = round(STALLED_SECONDS * 1000), round(LOCK_SECONDS * 1000)
        connection.execute(f"SET idle_in_transaction_session_timeout = {stalled}")
        connection.execute(f"SET lock_timeout = {lock}")
        connection.commit()

    return engine


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=READING_THREADS + 1,
        hide_parameters=True,  # they are people's words; errors are logged
        connect_args={
            "check_same_thread": False,
            "timeout": SQLITE_PATIENCE,
            "isolation_level": None,
        },
    )

    @event.listens_for(engine, "connect")
    def _set_up(connection: sqlite3.Connection, _: Any) -> None:
        _use_write_ahead_log(connection)
        # secure_delete: zeros where a deleted text stood, also in half-written replies' places.
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # The driver begins nothing by itself (isolation_level=None). A writer takes the write
        # lock at once: a lock that is upgraded halfway can fail with "database is locked".
        reading = connection.info.get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _empty_write_ahead_log(connection: sqlite3.Connection) -> bool:
    connection.execute("PRAGMA busy_timeout=0")  # chats are not to wait for a reader's end
    try:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError:  # another process writes
        return False
    finally:
        connection.execute(f"PRAGMA busy_timeout={int(SQLITE_PATIENCE * 1000)}")
    return not busy


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """The first switch of a new file fails at once while somebody else writes: SQLite's own
    time-out does not hold for it, so two servers that start together would trip each other."""
    deadline = time.monotonic() + SQLITE_PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def sqlite_has_wal_reset_bug(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> bool:
    """SQLite before 3.51.3 (3.50.7, 3.44.6) can damage a database when two
    connections write and checkpoint its WAL at the same moment ("WAL-reset bug")."""
    return not (
        version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    )
