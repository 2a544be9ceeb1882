"""A database that goes away in the middle of an operation is "not available", not a defect."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection, text

from app.database.database import Database
from app.errors import Unavailable


@pytest.fixture
def two(postgresql: Callable[[], str]) -> Iterator[tuple[Database, Database]]:
    url = postgresql()
    database, other = Database(url), Database(url)
    yield database, other
    database.close()
    other.close()


def end(connection: Connection, other: Database) -> None:
    mine = connection.scalar(text("SELECT pg_backend_pid()"))
    other.write_now(lambda c: c.execute(text(f"SELECT pg_terminate_backend({mine})")))


def test_a_connection_lost_inside_a_savepoint_is_unavailable(
    two: tuple[Database, Database],
) -> None:
    database, other = two

    def lose(connection: Connection) -> None:
        with connection.begin_nested():
            end(connection, other)
            connection.execute(text("SELECT 1"))

    with pytest.raises(Unavailable):
        database.write_now(lose)
    assert database.write_now(lambda c: c.scalar(text("SELECT 1"))) == 1


def test_a_connection_lost_while_reading_is_unavailable(two: tuple[Database, Database]) -> None:
    database, other = two

    def lose(connection: Connection) -> None:
        end(connection, other)
        connection.execute(text("SELECT 1"))

    with pytest.raises(Unavailable):
        database.read_now(lose)
    assert database.read_now(lambda c: c.scalar(text("SELECT 1"))) == 1
