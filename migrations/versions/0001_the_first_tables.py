"""The first tables"""

import sqlalchemy as sa
from alembic import op

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('api_keys',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('name', sa.String(length=100), nullable=False),
    sa.Column('scope', sa.String(length=16), nullable=False),
    sa.Column('prefix', sa.String(length=16), nullable=False),
    sa.Column('hash', sa.String(length=64), nullable=False),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.Column('last_used_at', sa.Double(), nullable=True),
    sa.Column('revoked_at', sa.Double(), nullable=True),
    sa.CheckConstraint("scope IN ('user', 'admin')", name=op.f('ck_api_keys_scope')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_api_keys')),
    sa.UniqueConstraint('prefix', name=op.f('uq_api_keys_prefix'))
    )
    op.create_table('assistant',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('name', sa.String(length=100), nullable=False),
    sa.Column('greeting', sa.Text(), nullable=False),
    sa.Column('suggestions', sa.JSON(), nullable=False),
    sa.Column('variables', sa.JSON(), nullable=False),
    sa.Column('revision', sa.Integer(), server_default='0', nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_assistant'))
    )
    op.create_table('conversations',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('owner', sa.String(length=64), nullable=False),
    sa.Column('title', sa.String(length=200), nullable=False),
    sa.Column('state', sa.JSON(), nullable=False),
    sa.Column('next_seq', sa.Integer(), server_default='1', nullable=False),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.Column('updated_at', sa.Double(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_conversations'))
    )
    with op.batch_alter_table('conversations', schema=None) as batch_op:
        batch_op.create_index('ix_conversations_owner_updated_at', ['owner', 'updated_at', 'id'], unique=False)

    op.create_table('documents',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('name', sa.String(length=200), nullable=False),
    sa.Column('title', sa.String(length=300), nullable=False),
    sa.Column('text', sa.Text(), nullable=False),
    sa.Column('updated_at', sa.Double(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_documents')),
    sa.UniqueConstraint('name', name=op.f('uq_documents_name'))
    )
    op.create_table('intents',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('name', sa.String(length=200), nullable=False),
    sa.Column('title', sa.String(length=200), nullable=False),
    sa.Column('replies', sa.JSON(), nullable=False),
    sa.Column('updated_at', sa.Double(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_intents')),
    sa.UniqueConstraint('name', name=op.f('uq_intents_name'))
    )
    op.create_table('model_versions',
    sa.Column('number', sa.Integer(), autoincrement=True, nullable=False),
    sa.Column('artifact', sa.LargeBinary(), nullable=False),
    sa.Column('sha256', sa.String(length=64), nullable=False),
    sa.Column('size_bytes', sa.Integer(), nullable=False),
    sa.Column('data_hash', sa.String(length=64), nullable=False),
    sa.Column('intents', sa.Integer(), nullable=False),
    sa.Column('examples', sa.Integer(), nullable=False),
    sa.Column('evaluation', sa.JSON(), nullable=False),
    sa.Column('training_job_id', sa.String(length=32), nullable=True),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.PrimaryKeyConstraint('number', name=op.f('pk_model_versions')),
    sqlite_autoincrement=True
    )
    op.create_table('training_jobs',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('status', sa.String(length=16), nullable=False),
    sa.Column('progress', sa.JSON(), nullable=False),
    sa.Column('error', sa.JSON(), nullable=True),
    sa.Column('model_version', sa.Integer(), nullable=True),
    sa.Column('cancel_requested', sa.Boolean(), server_default=sa.false(), nullable=False),
    sa.Column('worker', sa.String(length=64), nullable=True),
    sa.Column('fence', sa.Integer(), server_default='0', nullable=False),
    sa.Column('lease_until', sa.Double(), nullable=True),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.Column('started_at', sa.Double(), nullable=True),
    sa.Column('finished_at', sa.Double(), nullable=True),
    sa.CheckConstraint("status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name=op.f('ck_training_jobs_status')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_training_jobs'))
    )
    with op.batch_alter_table('training_jobs', schema=None) as batch_op:
        batch_op.create_index('ix_training_jobs_status_created_at', ['status', 'created_at'], unique=False)

    op.create_table('examples',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('intent_id', sa.String(length=32), nullable=False),
    sa.Column('text', sa.Text(), nullable=False),
    sa.Column('digest', sa.String(length=64), nullable=False),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.ForeignKeyConstraint(['intent_id'], ['intents.id'], name=op.f('fk_examples_intent_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_examples')),
    sa.UniqueConstraint('intent_id', 'digest', name=op.f('uq_examples_intent_id'))
    )
    with op.batch_alter_table('examples', schema=None) as batch_op:
        batch_op.create_index('ix_examples_intent_id_created_at', ['intent_id', 'created_at', 'id'], unique=False)

    op.create_table('passages',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('document_id', sa.String(length=32), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('title', sa.String(length=300), nullable=False),
    sa.Column('text', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['document_id'], ['documents.id'], name=op.f('fk_passages_document_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_passages')),
    sa.UniqueConstraint('document_id', 'position', name=op.f('uq_passages_document_id'))
    )
    op.create_table('promotions',
    sa.Column('epoch', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('model_version', sa.Integer(), nullable=False),
    sa.Column('promoted_at', sa.Double(), nullable=False),
    sa.Column('promoted_by', sa.String(length=64), nullable=False),
    sa.ForeignKeyConstraint(['model_version'], ['model_versions.number'], name=op.f('fk_promotions_model_version')),
    sa.PrimaryKeyConstraint('epoch', name=op.f('pk_promotions'))
    )
    op.create_table('turns',
    sa.Column('id', sa.String(length=32), nullable=False),
    sa.Column('conversation_id', sa.String(length=32), nullable=False),
    sa.Column('owner', sa.String(length=64), nullable=False),
    sa.Column('seq', sa.Integer(), nullable=False),
    sa.Column('idempotency_key', sa.String(length=255), nullable=True),
    sa.Column('fingerprint', sa.String(length=64), nullable=True),
    sa.Column('status', sa.String(length=16), nullable=False),
    sa.Column('text', sa.Text(), nullable=False),
    sa.Column('reply', sa.Text(), nullable=True),
    sa.Column('citations', sa.JSON(), server_default='[]', nullable=False),
    sa.Column('choices', sa.JSON(), server_default='[]', nullable=False),
    sa.Column('route', sa.String(length=16), nullable=True),
    sa.Column('intent', sa.String(length=200), nullable=True),
    sa.Column('decision', sa.JSON(), nullable=True),
    sa.Column('model_version', sa.Integer(), nullable=True),
    sa.Column('generator', sa.String(length=64), nullable=True),
    sa.Column('degraded', sa.String(length=32), nullable=True),
    sa.Column('error_code', sa.String(length=64), nullable=True),
    sa.Column('fence', sa.Integer(), server_default='0', nullable=False),
    sa.Column('worker', sa.String(length=64), nullable=True),
    sa.Column('lease_until', sa.Double(), nullable=True),
    sa.Column('classify_ms', sa.Double(), nullable=True),
    sa.Column('first_piece_ms', sa.Double(), nullable=True),
    sa.Column('total_ms', sa.Double(), nullable=True),
    sa.Column('rating', sa.String(length=8), nullable=True),
    sa.Column('comment', sa.Text(), nullable=True),
    sa.Column('created_at', sa.Double(), nullable=False),
    sa.Column('finished_at', sa.Double(), nullable=True),
    sa.CheckConstraint("status IN ('accepted', 'generating', 'done', 'failed', 'cancelled')", name=op.f('ck_turns_status')),
    sa.ForeignKeyConstraint(['conversation_id'], ['conversations.id'], name=op.f('fk_turns_conversation_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_turns')),
    sa.UniqueConstraint('conversation_id', 'seq', name=op.f('uq_turns_conversation_id')),
    sa.UniqueConstraint('owner', 'idempotency_key', name=op.f('uq_turns_owner'))
    )
    with op.batch_alter_table('turns', schema=None) as batch_op:
        batch_op.create_index('ix_turns_open', ['lease_until'], unique=False, sqlite_where=sa.text("status IN ('accepted', 'generating')"), postgresql_where=sa.text("status IN ('accepted', 'generating')"))
        batch_op.create_index('uq_turns_one_generating', ['conversation_id'], unique=True, sqlite_where=sa.text("status = 'generating'"), postgresql_where=sa.text("status = 'generating'"))
    op.execute(
        "INSERT INTO assistant (id, name, greeting, suggestions, variables) "
        "VALUES (1, 'Twofold', 'Hello! How can I help you?', '[]', '{}')"
    )
    if op.get_bind().dialect.name == "sqlite":
        _full_text_search_in_sqlite()
    else:
        _full_text_search_in_postgresql()


def _full_text_search_in_sqlite() -> None:
    """FTS5 over `passages` without a copy of the text; triggers keep it true."""
    op.execute("""
        CREATE VIRTUAL TABLE passage_search USING fts5(
            title, text, content='passages', content_rowid='id',
            tokenize='porter unicode61 remove_diacritics 2'
        )
    """)
    added = "INSERT INTO passage_search(rowid, title, text) VALUES (new.id, new.title, new.text);"
    removed = (
        "INSERT INTO passage_search(passage_search, rowid, title, text) "
        "VALUES ('delete', old.id, old.title, old.text);"
    )
    for name, when, what in (
        ("added", "INSERT", added),
        ("removed", "DELETE", removed),
        ("changed", "UPDATE", removed + added),
    ):
        op.execute(
            f"CREATE TRIGGER passage_search_{name} AFTER {when} ON passages BEGIN {what} END"
        )


def _full_text_search_in_postgresql() -> None:
    op.execute("""
        ALTER TABLE passages ADD COLUMN search tsvector GENERATED ALWAYS AS (
            setweight(to_tsvector('english', title), 'A')
            || setweight(to_tsvector('english', text), 'D')
        ) STORED
    """)
    op.execute("CREATE INDEX passage_search ON passages USING gin (search)")


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE passage_search")
    with op.batch_alter_table('turns', schema=None) as batch_op:
        batch_op.drop_index('uq_turns_one_generating', sqlite_where=sa.text("status = 'generating'"), postgresql_where=sa.text("status = 'generating'"))
        batch_op.drop_index('ix_turns_open', sqlite_where=sa.text("status IN ('accepted', 'generating')"), postgresql_where=sa.text("status IN ('accepted', 'generating')"))

    op.drop_table('turns')
    op.drop_table('promotions')
    op.drop_table('passages')
    with op.batch_alter_table('examples', schema=None) as batch_op:
        batch_op.drop_index('ix_examples_intent_id_created_at')

    op.drop_table('examples')
    with op.batch_alter_table('training_jobs', schema=None) as batch_op:
        batch_op.drop_index('ix_training_jobs_status_created_at')

    op.drop_table('training_jobs')
    op.drop_table('model_versions')
    op.drop_table('intents')
    op.drop_table('documents')
    with op.batch_alter_table('conversations', schema=None) as batch_op:
        batch_op.drop_index('ix_conversations_owner_updated_at')

    op.drop_table('conversations')
    op.drop_table('assistant')
    op.drop_table('api_keys')
