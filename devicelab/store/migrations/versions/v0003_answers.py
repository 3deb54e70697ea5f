"""Which finding answers the experiment's question, and what a finding compares."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; no finding of before is an answer."""
    op.add_column("findings", sa.Column("answer", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("findings", sa.Column("quantity", sa.Text(), nullable=False, server_default=""))
    op.add_column("findings", sa.Column("comparison", sa.Text(), nullable=False, server_default=""))
