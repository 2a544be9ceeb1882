"""A database that goes away in the middle of an operation is "not available", not a defect."""

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, text

from app.database.database import Database
from app.errors import Unavailable


def test_a_connection_lost_inside_a_savepoint_is_unavailable(
    postgresql: Callable[[], str],
) -> None:
    url = postgresql()
    database, other = Database(url), Database(url)

    def lose(connection: Connection) -> None:
        mine = connection.scalar(text("SELECT pg_backend_pid()"))
        with connection.begin_nested():
            other.write_now(lambda c: c.execute(text(f"SELECT pg_terminate_backend({mine})")))
            connection.execute(text("SELECT 1"))

    try:
        with pytest.raises(Unavailable):
            database.write_now(lose)
        assert database.write_now(lambda c: c.scalar(text("SELECT 1"))) == 1
    finally:
        database.close()
        other.close()
