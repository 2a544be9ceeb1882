"""A passage has vectors to be found by its meaning"""

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('passages', sa.Column('meaning', sa.LargeBinary()))
    op.add_column('passages', sa.Column('meaning_version', sa.String(length=40)))
    if op.get_bind().dialect.name == "sqlite":
        _indexed_anew_with("UPDATE OF title, text")


def _indexed_anew_with(change: str) -> None:
    op.execute("DROP TRIGGER passage_search_changed")
    op.execute(f"""
        CREATE TRIGGER passage_search_changed AFTER {change} ON passages BEGIN
        INSERT INTO passage_search(passage_search, rowid, title, text)
        VALUES ('delete', old.id, old.title, old.text);
        INSERT INTO passage_search(rowid, title, text) VALUES (new.id, new.title, new.text);
        END
    """)


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _indexed_anew_with("UPDATE")
    op.drop_column('passages', 'meaning_version')
    op.drop_column('passages', 'meaning')
