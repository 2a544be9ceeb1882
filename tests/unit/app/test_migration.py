"""The tables, from nothing to this release's."""

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, inspect, make_url, text

from app.database.database import Database
from app.database.migration import current, migrate, newest
from app.database.tables import metadata
from app.errors import ConfigurationError


def _ours(_: object, name: str | None, *__: object) -> bool:
    return not (name or "").startswith("passage_search") and name != "search"


def _differences(connection: Connection) -> list[object]:
    # PostgreSQL cannot compare two JSON defaults.
    defaults = connection.dialect.name == "sqlite"
    options = {"include_object": _ours, "compare_type": True, "compare_server_default": defaults}
    return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)


def test_from_nothing_the_tables_are_what_the_code_says(empty_url: str) -> None:
    database = Database(empty_url)
    assert database.read_now(current) is None
    database.write_now(migrate)
    assert database.read_now(current) == newest()
    assert database.read_now(_differences) == []
    database.close()


def test_migrating_again_changes_nothing(database: Database) -> None:
    before = database.read_now(_shape)
    database.write_now(migrate)
    assert database.read_now(_shape) == before


def _shape(connection: Connection) -> object:
    found = inspect(connection)
    return {
        name: ([one["name"] for one in found.get_columns(name)], len(found.get_indexes(name)))
        for name in found.get_table_names()
    }


def test_a_database_of_a_newer_release_is_refused_and_left_alone(database: Database) -> None:
    database.write_now(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9'")))
    before = database.read_now(_shape)
    with pytest.raises(ConfigurationError, match="newer Twofold"):
        database.write_now(migrate)
    assert database.read_now(_shape) == before


def test_servers_that_start_together_migrate_once(empty_url: str) -> None:
    barrier = threading.Barrier(3)

    def start(_: int) -> str | None:
        database = Database(empty_url)
        barrier.wait()
        try:
            database.write_now(migrate)
            return database.read_now(current)
        finally:
            database.close()

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(start, range(3))) == [newest()] * 3


def test_a_new_file_that_somebody_is_writing_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE other (x)")
    other.execute("BEGIN IMMEDIATE")
    database = Database(f"sqlite:///{path}")
    with ThreadPoolExecutor(1) as pool:
        mode = pool.submit(database.read_now, lambda c: c.scalar(text("PRAGMA journal_mode")))
        with pytest.raises(TimeoutError):
            mode.result(timeout=0.2)
        other.execute("COMMIT")
        assert mode.result(timeout=10) == "wal"
    database.close()
    other.close()


def test_an_unusable_url_is_refused_with_an_example() -> None:
    with pytest.raises(ConfigurationError, match="an example"):
        Database("not a url")
    with pytest.raises(ConfigurationError, match="use sqlite or postgresql"):
        Database("mysql://u:p@host/name")


def test_a_database_that_cannot_keep_every_letter_is_refused(
    postgresql: Callable[[], str],
) -> None:
    url = make_url(postgresql())
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(
            text("CREATE DATABASE of_bytes ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        )
    engine.dispose()
    database = Database(url.set(database="of_bytes").render_as_string(hide_password=False))
    try:
        with pytest.raises(ConfigurationError, match=r"encoding is SQL_ASCII.*UTF8"):
            database.write_now(migrate)
    finally:
        database.close()
