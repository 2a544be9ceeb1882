"""What generating took, day by day, for its budget"""

import sqlalchemy as sa
from alembic import op

revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('spending',
    sa.Column('day', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('cpu_seconds', sa.Double(), nullable=False),
    sa.Column('prompt_tokens', sa.BigInteger(), nullable=False),
    sa.Column('reply_tokens', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('day', name=op.f('pk_spending'))
    )


def downgrade() -> None:
    op.drop_table('spending')
