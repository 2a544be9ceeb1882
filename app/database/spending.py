"""What generating has taken today, on all replicas together."""

from datetime import date, timedelta
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from app.database.ledger import day_of
from app.database.tables import now, spending
from app.dialogue.cost import Effort

_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_PARTS = ("cpu_seconds", "prompt_tokens", "reply_tokens")


def add(connection: Connection, effort: Effort) -> None:
    parts = {name: getattr(effort, name) for name in _PARTS}
    adding = _INSERT[connection.dialect.name](spending).values(day=day_of(now()), **parts)
    connection.execute(
        adding.on_conflict_do_update(
            index_elements=["day"],
            set_={name: spending.c[name] + adding.excluded[name] for name in _PARTS},
        )
    )


def today(connection: Connection) -> tuple[date, Effort]:
    """The day is the database's, in UTC."""
    number = connection.scalar(select(day_of(now())))
    row = connection.execute(
        select(*(spending.c[name] for name in _PARTS)).where(spending.c.day == number)
    ).one_or_none()
    day = date(1970, 1, 1) + timedelta(days=number or 0)
    return day, Effort(*row) if row else Effort()
