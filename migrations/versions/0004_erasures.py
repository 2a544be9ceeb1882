"""Erasures with receipts; examples know the turn they were taken from"""

import sqlalchemy as sa
from alembic import op

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('erasures',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('kind', sa.String(length=16), nullable=False),
    sa.Column('subject', sa.String(length=64), nullable=True),
    sa.Column('owner_digest', sa.String(length=64), nullable=True),
    sa.Column('owner', sa.String(length=64), nullable=True),
    sa.Column('requested_by', sa.String(length=16), nullable=False),
    sa.Column('rows', sa.JSON(), nullable=False),
    sa.Column('examples_since', sa.Double(), nullable=True),
    sa.Column('model_versions', sa.JSON(), server_default='[]', nullable=False),
    sa.Column('started_at', sa.Double(), nullable=False),
    sa.Column('finished_at', sa.Double(), nullable=True),
    sa.Column('sha256', sa.String(length=64), nullable=True),
    sa.CheckConstraint("kind IN ('conversation', 'owner', 'retention')", name=op.f('ck_erasures_kind')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_erasures'))
    )
    op.create_index('ix_erasures_started_at', 'erasures', ['started_at', 'id'])
    op.create_index('ix_erasures_unfinished', 'erasures', ['started_at'], sqlite_where=sa.text("finished_at IS NULL"), postgresql_where=sa.text("finished_at IS NULL"))
    with op.batch_alter_table('examples', schema=None) as batch_op:
        batch_op.add_column(sa.Column('turn_id', sa.String(length=32), nullable=True))
        batch_op.create_foreign_key(op.f('fk_examples_turn_id'), 'turns', ['turn_id'], ['id'], ondelete='CASCADE')
        batch_op.create_index('ix_examples_turn_id', ['turn_id'])


def downgrade() -> None:
    with op.batch_alter_table('examples', schema=None) as batch_op:
        batch_op.drop_index('ix_examples_turn_id')
        batch_op.drop_constraint(op.f('fk_examples_turn_id'), type_='foreignkey')
        batch_op.drop_column('turn_id')
    op.drop_table('erasures')
