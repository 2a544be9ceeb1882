"""Labels of turns, and an index of those that may be worth one"""

import sqlalchemy as sa
from alembic import op

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None

SQLITE = sa.text(
    "route <> 'instant' OR rating = 'down' OR "
    "json_extract(decision, '$.assurance') * (1 - json_extract(decision, '$.threshold'))"
    " < 2 * json_extract(decision, '$.threshold') * (1 - json_extract(decision, '$.assurance'))"
)
POSTGRESQL = sa.text(
    "route <> 'instant' OR rating = 'down' OR "
    "CAST(decision ->> 'assurance' AS DOUBLE PRECISION)"
    " * (1 - CAST(decision ->> 'threshold' AS DOUBLE PRECISION))"
    " < 2 * CAST(decision ->> 'threshold' AS DOUBLE PRECISION)"
    " * (1 - CAST(decision ->> 'assurance' AS DOUBLE PRECISION))"
)


def upgrade() -> None:
    op.create_table('labels',
    sa.Column('turn_id', sa.String(length=32), nullable=False),
    sa.Column('source', sa.String(length=16), nullable=False),
    sa.Column('intent_id', sa.String(length=32), nullable=True),
    sa.Column('click', sa.String(length=32), nullable=True),
    sa.Column('example_id', sa.String(length=32), nullable=True),
    sa.Column('given_by', sa.String(length=64), nullable=True),
    sa.Column('given_at', sa.Double(), nullable=False),
    sa.CheckConstraint("source IN ('user', 'operator')", name=op.f('ck_labels_source')),
    sa.ForeignKeyConstraint(['turn_id'], ['turns.id'], name=op.f('fk_labels_turn_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['intent_id'], ['intents.id'], name=op.f('fk_labels_intent_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('turn_id', 'source', name=op.f('pk_labels'))
    )
    op.create_index('ix_labels_click', 'labels', ['click'])
    op.create_index('ix_turns_worth_review', 'turns', ['created_at'], sqlite_where=SQLITE, postgresql_where=POSTGRESQL)


def downgrade() -> None:
    op.drop_index('ix_turns_worth_review', table_name='turns')
    op.drop_table('labels')
