"""Random samples of what people said, and versions that are calibrated anew on one"""

import sqlalchemy as sa
from alembic import op

revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('samples',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('network', sa.Integer(), nullable=False),
    sa.Column('drawn_at', sa.Double(), nullable=False),
    sa.Column('drawn_by', sa.String(length=64), nullable=False),
    sa.Column('asked_since', sa.Double(), nullable=True),
    sa.Column('asked_from', sa.Double(), nullable=False),
    sa.Column('asked_to', sa.Double(), nullable=False),
    sa.Column('population', sa.Integer(), nullable=False),
    sa.Column('size', sa.Integer(), nullable=False),
    sa.Column('tries', sa.Integer(), nullable=False),
    sa.Column('verdict', sa.JSON(none_as_null=True), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_samples')),
    sa.UniqueConstraint('network', name=op.f('uq_samples_network'))
    )
    op.create_table('sampled_turns',
    sa.Column('turn_id', sa.String(length=32), nullable=False),
    sa.Column('sample_id', sa.String(length=32), nullable=False),
    sa.Column('place', sa.Integer(), nullable=False),
    sa.Column('label', sa.String(length=16), nullable=True),
    sa.Column('intent_id', sa.String(length=32), nullable=True),
    sa.Column('labelled_by', sa.String(length=64), nullable=True),
    sa.Column('labelled_at', sa.Double(), nullable=True),
    sa.CheckConstraint("label IN ('intent', 'out_of_scope', 'cannot_tell')", name=op.f('ck_sampled_turns_label')),
    sa.ForeignKeyConstraint(['intent_id'], ['intents.id'], name=op.f('fk_sampled_turns_intent_id'), ondelete='SET NULL'),
    sa.ForeignKeyConstraint(['sample_id'], ['samples.id'], name=op.f('fk_sampled_turns_sample_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['turn_id'], ['turns.id'], name=op.f('fk_sampled_turns_turn_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('turn_id', name=op.f('pk_sampled_turns')),
    sa.UniqueConstraint('sample_id', 'place', name=op.f('uq_sampled_turns_sample_id'))
    )
    op.create_index('ix_sampled_turns_intent_id', 'sampled_turns', ['intent_id'])
    op.add_column('model_versions', sa.Column('network_of', sa.Integer(), nullable=True))


def downgrade() -> None:
    op.execute("DELETE FROM promotions WHERE model_version IN (SELECT number FROM model_versions WHERE network_of IS NOT NULL)")
    op.execute("DELETE FROM model_versions WHERE network_of IS NOT NULL")
    op.drop_column('model_versions', 'network_of')
    op.drop_index('ix_sampled_turns_intent_id', table_name='sampled_turns')
    op.drop_table('sampled_turns')
    op.drop_table('samples')
