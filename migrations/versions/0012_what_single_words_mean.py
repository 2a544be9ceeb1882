"""A passage has a vector for each of its words"""

import sqlalchemy as sa
from alembic import op

revision = '0012'
down_revision = '0011'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('passages', sa.Column('word_meanings', sa.LargeBinary()))


def downgrade() -> None:
    op.drop_column('passages', 'word_meanings')
