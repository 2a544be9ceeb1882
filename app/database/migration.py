"""Brings a database to this release's tables."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, text

from app.errors import ConfigurationError

MIGRATIONS = Path(__file__).parents[2] / "migrations"

_LOCK = 7_046_029_254
"""PostgreSQL advisory lock: replicas that start together migrate one after another."""


def migrate(connection: Connection) -> None:
    """To the newest revision; does nothing when the database is there already.

    Raises ConfigurationError for a database of a newer release."""
    if connection.dialect.name == "postgresql":
        # Whoever migrates may take its time, and the others wait.
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    if current(connection) == newest():
        return
    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigurationError(
            "the database was written by a newer Twofold; update this one, or restore a backup"
        ) from error


def current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def newest() -> str | None:
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
