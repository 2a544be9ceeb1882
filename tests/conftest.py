"""Databases for tests: SQLite always, PostgreSQL from a throw-away server."""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest
import structlog

from app.database.database import Database
from app.database.migration import migrate
from app.settings import Settings
from tests.postgresql import PostgreSQL, database_name

# Examples may take their time on a busy machine: a speed is for benchmarks, not for tests.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def _quiet_logs() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    # Nothing on it outlives the tests.
    with PostgreSQL(durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql_server: PostgreSQL) -> str:
    """The name of a database to copy: it takes less time than to migrate each anew."""
    url = postgresql_server.fresh()
    _migrate(url)
    return database_name(url)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("migrated") / "twofold.db"
    _migrate(f"sqlite:///{file}")
    return file


def _migrate(url: str) -> None:
    database = Database(url)
    database.write_now(migrate)
    database.close()


@pytest.fixture
def postgresql(
    postgresql_server: PostgreSQL, migrated_postgresql: str
) -> Iterator[Callable[[], str]]:
    """Makes URLs of fresh, migrated databases, which go with the test."""
    with _copies(postgresql_server, migrated_postgresql) as fresh:
        yield fresh


@pytest.fixture(scope="module")
def postgresql_of_module(
    postgresql_server: PostgreSQL, migrated_postgresql: str
) -> Iterator[Callable[[], str]]:
    """The same, for what all tests of a file share."""
    with _copies(postgresql_server, migrated_postgresql) as fresh:
        yield fresh


@contextmanager
def _copies(server: PostgreSQL, template: str) -> Iterator[Callable[[], str]]:
    # Kept until the end, they were gigabytes, and took minutes to remove.
    made: list[str] = []

    def fresh() -> str:
        made.append(server.fresh(template))
        return made[-1]

    yield fresh
    for url in made:
        server.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh, migrated database of each kind: what is tested with it holds on both."""
    if request.param == "sqlite":
        file = tmp_path / "twofold.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), file)
        return f"sqlite:///{file}"
    fresh: Callable[[], str] = request.getfixturevalue("postgresql")
    return fresh()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a database of each kind without a table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'twofold.db'}"
        return
    server: PostgreSQL = request.getfixturevalue("postgresql_server")
    url = server.fresh()
    yield url
    server.drop(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None,
        database_url=database_url,
        data_dir=tmp_path / "data",
        guests=True,
        embedded_worker=False,
        proof_share=0,  # tests count what a generator is asked
    )
