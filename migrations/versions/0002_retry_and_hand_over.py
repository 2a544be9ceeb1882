"""Retry and hand over"""

import sqlalchemy as sa
from alembic import op

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None

_OPEN = sa.text("status IN ('accepted', 'generating')")


def upgrade() -> None:
    # Not in batch mode, which would copy the whole table on SQLite.
    op.add_column('turns', sa.Column('starts', sa.Integer(), server_default='0', nullable=False))
    op.add_column('turns', sa.Column('deadline_at', sa.Double(), nullable=True))
    op.execute("UPDATE turns SET starts = fence WHERE status IN ('accepted', 'generating')")
    op.create_index('ix_turns_open_in_conversation', 'turns', ['conversation_id', 'seq'], unique=False, sqlite_where=_OPEN, postgresql_where=_OPEN)


def downgrade() -> None:
    op.drop_index('ix_turns_open_in_conversation', table_name='turns')
    op.drop_column('turns', 'deadline_at')
    op.drop_column('turns', 'starts')
