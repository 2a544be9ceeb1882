"""Alembic's entry. `app.database.migration` hands in the connection."""

from typing import Any

from alembic import context

from app.database.tables import metadata


def include_object(item: Any, name: str | None, kind: str, *_: Any) -> bool:
    """Full-text search is written by hand in the migrations: SQLAlchemy has no word for it."""
    return not (name or "").startswith("passage_search") and name != "search"


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    include_object=include_object,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()
