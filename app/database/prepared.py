"""Statements of the hot path, compiled once and run by the driver itself.

A Core statement is looked up, its parameters are processed and its result is wrapped at each
execution: several times what SQLite needs to run it. Here Core writes the SQL, for both
databases, and that is all. What the driver gives and takes is not converted: JSON is text.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ClauseElement


class Prepared:
    """One row at most is given back, as a tuple."""

    def __init__(self, write: Callable[[Any], ClauseElement]) -> None:
        """`write` gets the dialect's module, for what only a dialect can say."""
        self._ready = {
            "sqlite": _compiled(write(sqlite), sqlite.dialect(paramstyle="qmark")),
            "postgresql": _compiled(write(postgresql), _psycopg()),
        }

    def __call__(
        self, connection: Connection, parameters: Mapping[str, Any]
    ) -> tuple[Any, ...] | None:
        sql, constants, order = self._ready[connection.dialect.name]
        values: Any = {**constants, **parameters}
        if order is not None:
            values = [values[name] for name in order]
        cursor = None
        try:
            cursor = connection.connection.cursor()
            cursor.execute(sql, values)
            return cursor.fetchone() if cursor.description else None
        except connection.dialect.loaded_dbapi.Error as error:
            raise _as_sqlalchemy_tells(error, connection, sql) from error
        finally:
            if cursor is not None:
                cursor.close()


def _psycopg() -> Any:
    make: Any = postgresql.psycopg.dialect
    return make()


def _compiled(
    statement: ClauseElement, dialect: Any
) -> tuple[str, dict[str, Any], list[str] | None]:
    compiled: Any = statement.compile(dialect=dialect)
    constants = {name: value for name, value in compiled.params.items() if value is not None}
    return str(compiled), constants, compiled.positiontup if compiled.positional else None


def _as_sqlalchemy_tells(error: Any, connection: Connection, sql: str) -> BaseException:
    """The same class as from Core, and the same end for a connection that is gone."""
    dialect = connection.dialect
    driver = connection.connection.driver_connection
    gone = dialect.is_disconnect(error, driver, None)
    if gone:
        connection.invalidate(error)
    told: BaseException = DBAPIError.instance(
        sql,
        None,
        error,
        dialect.loaded_dbapi.Error,
        hide_parameters=True,
        connection_invalidated=gone,
        dialect=dialect,
    )
    return told
