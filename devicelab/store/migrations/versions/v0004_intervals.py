"""Which kind of interval a finding carries."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; every interval of before is for a fixed number of repetitions."""
    op.add_column("findings", sa.Column("interval", sa.Text(), nullable=False, server_default="fixed n"))
