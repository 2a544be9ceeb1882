"""Who may do what: several scopes to a key, expiry, sessions that can be ended"""

import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('access',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('revision', sa.Integer(), server_default='0', nullable=False),
    sa.Column('pepper', sa.String(length=16), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_access'))
    )
    op.execute("INSERT INTO access (id) VALUES (1)")
    with op.batch_alter_table('api_keys', schema=None) as batch_op:
        batch_op.add_column(sa.Column('scopes', sa.String(length=100), nullable=True))
        batch_op.add_column(sa.Column('pepper', sa.String(length=16), nullable=True))
        batch_op.add_column(sa.Column('expires_at', sa.Double(), nullable=True))
    op.execute(
        "UPDATE api_keys SET scopes = "
        "CASE scope WHEN 'admin' THEN 'admin:read admin:write chat' ELSE 'chat' END"
    )
    with op.batch_alter_table('api_keys', schema=None) as batch_op:
        batch_op.alter_column('scopes', existing_type=sa.String(length=100), nullable=False)
        batch_op.drop_constraint(op.f('ck_api_keys_scope'), type_='check')
        batch_op.drop_column('scope')
    op.create_table('key_sessions',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('key_id', sa.String(length=32), nullable=False),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.Column('expires_at', sa.Double(), nullable=False),
    sa.ForeignKeyConstraint(['key_id'], ['api_keys.id'], name=op.f('fk_key_sessions_key_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_key_sessions'))
    )
    with op.batch_alter_table('key_sessions', schema=None) as batch_op:
        batch_op.create_index('ix_key_sessions_key_id_created_at', ['key_id', 'created_at'], unique=False)


def downgrade() -> None:
    op.drop_table('key_sessions')
    op.drop_table('access')
    with op.batch_alter_table('api_keys', schema=None) as batch_op:
        batch_op.add_column(sa.Column('scope', sa.String(length=16), nullable=True))
    # A key that may only look on is no admin of old: it becomes one that chats.
    op.execute(
        "UPDATE api_keys SET scope = "
        "CASE WHEN scopes LIKE '%admin:write%' THEN 'admin' ELSE 'user' END"
    )
    with op.batch_alter_table('api_keys', schema=None) as batch_op:
        batch_op.alter_column('scope', existing_type=sa.String(length=16), nullable=False)
        batch_op.create_check_constraint(op.f('ck_api_keys_scope'), "scope IN ('user', 'admin')")
        batch_op.drop_column('scopes')
        batch_op.drop_column('pepper')
        batch_op.drop_column('expires_at')
