"""What each turn cost"""

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


def downgrade() -> None:
    op.drop_index('ix_turns_created_at', 'turns')
    for name in COSTS:
        op.drop_column('turns', name)
