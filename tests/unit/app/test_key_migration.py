"""Keys of an older release keep the rights that they had."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from app.database import migration
from app.database.api_keys import everything
from app.database.database import Database

BEFORE, HERE = "0001", "0003"


@pytest.fixture
def at_first(empty_url: str) -> Iterator[Database]:
    """As the release before scopes left it, with a key of each kind."""
    opened = Database(empty_url)
    opened.write_now(lambda c: command.upgrade(_config(c), BEFORE))
    for scope in ("user", "admin"):
        opened.write_now(
            lambda c, scope=scope: c.execute(
                text(
                    "INSERT INTO api_keys (id, name, scope, prefix, hash, created_at) "
                    "VALUES (:scope, :scope, :scope, :scope, 'x', 1)"
                ),
                {"scope": scope},
            )
        )
    yield opened
    opened.close()


def test_user_and_admin_keys_become_keys_with_scopes_and_back(at_first: Database) -> None:
    at_first.write_now(lambda c: command.upgrade(_config(c), HERE))
    scopes = {key.name: sorted(key.scopes) for key in at_first.read_now(everything)}
    assert scopes == {"user": ["chat"], "admin": ["admin:read", "admin:write", "chat"]}
    at_first.write_now(lambda c: command.downgrade(_config(c), BEFORE))
    old = at_first.read_now(lambda c: c.execute(text("SELECT name, scope FROM api_keys")).all())
    assert sorted(map(tuple, old)) == [("admin", "admin"), ("user", "user")]


def _config(connection: Connection) -> Config:
    config = migration._config()
    config.attributes["connection"] = connection
    assert Path(config.get_main_option("script_location")).is_dir()
    return config
