"""What each turn cost, what the generator says to instant turns, and looks at drift"""

import sqlalchemy as sa
from alembic import op

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None

COSTS = {
    'search_ms': sa.Double(),
    'classify_cpu_ms': sa.Double(),
    'generator_cpu_ms': sa.Double(),
    'prompt_tokens': sa.Integer(),
    'reply_tokens': sa.Integer(),
    'tokens_by': sa.String(length=16),
}


def upgrade() -> None:
    for name, kind in COSTS.items():
        op.add_column('turns', sa.Column(name, kind, nullable=True))
    op.create_index('ix_turns_created_at', 'turns', ['created_at', 'id'])
    op.create_table('reanswers',
    sa.Column('turn_id', sa.String(length=32), nullable=False),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.Column('reply', sa.Text(), nullable=True),
    sa.Column('generator', sa.String(length=64), nullable=True),
    sa.Column('answered', sa.Boolean(), nullable=False),
    sa.Column('agreement', sa.JSON(), nullable=True),
    sa.Column('differs', sa.Boolean(), nullable=True),
    sa.Column('error_code', sa.String(length=64), nullable=True),
    sa.Column('first_piece_ms', sa.Double(), nullable=True),
    sa.Column('total_ms', sa.Double(), nullable=False),
    sa.Column('generator_cpu_ms', sa.Double(), nullable=True),
    sa.Column('prompt_tokens', sa.Integer(), nullable=True),
    sa.Column('reply_tokens', sa.Integer(), nullable=True),
    sa.Column('tokens_by', sa.String(length=16), nullable=True),
    sa.ForeignKeyConstraint(['turn_id'], ['turns.id'], name=op.f('fk_reanswers_turn_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('turn_id', name=op.f('pk_reanswers'))
    )
    op.create_table('drift',
    sa.Column('model_version', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('looks', sa.Integer(), nullable=False),
    sa.Column('messages', sa.Integer(), nullable=False),
    sa.Column('usual', sa.Boolean(), nullable=False),
    sa.Column('moved', sa.JSON(), nullable=False),
    sa.Column('found', sa.JSON(), nullable=True),
    sa.Column('alarm_since', sa.Double(), nullable=True),
    sa.Column('looked_at', sa.Double(), nullable=False),
    sa.PrimaryKeyConstraint('model_version', name=op.f('pk_drift'))
    )
    op.create_table('duties',
    sa.Column('name', sa.String(length=32), nullable=False),
    sa.Column('worker', sa.String(length=64), nullable=False),
    sa.Column('lease_until', sa.Double(), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_duties'))
    )


def downgrade() -> None:
    op.drop_table('duties')
    op.drop_table('drift')
    op.drop_table('reanswers')
    op.drop_index('ix_turns_created_at', 'turns')
    for name in COSTS:
        op.drop_column('turns', name)
