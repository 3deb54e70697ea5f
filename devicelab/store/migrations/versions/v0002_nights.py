"""Nights with tasks, health of devices, quarantine, verdicts per cell; samples that were dropped on request."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the tables, and the count of dropped samples to the campaigns."""
    op.add_column("campaigns", sa.Column("thinned_rows", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "thinned_samples",
        sa.Column("run", _ID, autoincrement=False, nullable=False),
        sa.Column("program", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_thinned_samples_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "program", "name", name=op.f("pk_thinned_samples")),
    )
    op.create_table(
        "nights",
        sa.Column("id", _ID, nullable=False),
        sa.Column("night", sa.Text(), nullable=False),
        sa.Column("farm", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("started_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("ended_unix_ns", sa.BigInteger(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("more_json", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nights")),
        sa.UniqueConstraint("night", name=op.f("uq_nights_night")),
    )
    op.create_index(op.f("ix_nights_farm_started_unix_ns"), "nights", ["farm", "started_unix_ns"], unique=False)
    op.create_table(
        "tasks",
        sa.Column("night", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("job", sa.Integer(), nullable=False),
        sa.Column("experiment", sa.Text(), nullable=False),
        sa.Column("selector", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("campaign", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("confirms", sa.Text(), nullable=True),
        sa.Column("more_json", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["night"], ["nights.night"], name=op.f("fk_tasks_night"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("night", "task_id", name=op.f("pk_tasks")),
    )
    op.create_index(op.f("ix_tasks_campaign"), "tasks", ["campaign"], unique=False)
    op.create_table(
        "health",
        sa.Column("id", _ID, nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("night", sa.Text(), nullable=True),
        sa.Column("task_id", sa.Text(), nullable=True),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("at_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("more_json", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["night"], ["nights.night"], name=op.f("fk_health_night"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_health")),
    )
    op.create_index(op.f("ix_health_device_at_unix_ns"), "health", ["device", "at_unix_ns"], unique=False)
    op.create_index(op.f("ix_health_night"), "health", ["night"], unique=False)
    op.create_table(
        "quarantines",
        sa.Column("id", _ID, nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("night", sa.Text(), nullable=True),
        sa.Column("since_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("released_unix_ns", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("more_json", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantines")),
    )
    op.create_index(
        op.f("ix_quarantines_device_since_unix_ns"), "quarantines", ["device", "since_unix_ns"], unique=False
    )
    op.create_index(
        "uq_quarantines_device_active",
        "quarantines",
        ["device"],
        unique=True,
        sqlite_where=sa.text("released_unix_ns IS NULL"),
        postgresql_where=sa.text("released_unix_ns IS NULL"),
    )
    op.create_table(
        "cell_verdicts",
        sa.Column("night", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("experiment", sa.Text(), nullable=False),
        sa.Column("cell_id", sa.Text(), nullable=False),
        sa.Column("cell", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("program", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("shift_pct", sa.Float(precision=53), nullable=True),
        sa.Column("low_pct", sa.Float(precision=53), nullable=True),
        sa.Column("high_pct", sa.Float(precision=53), nullable=True),
        sa.Column("p_value", sa.Float(precision=53), nullable=True),
        sa.Column("q_value", sa.Float(precision=53), nullable=True),
        sa.Column("threshold_pct", sa.Float(precision=53), nullable=True),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("n_baseline", sa.Integer(), nullable=False),
        sa.Column("since", sa.Text(), nullable=True),
        sa.Column("confirmed", sa.Boolean(), nullable=True),
        sa.Column("more_json", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["night"], ["nights.night"], name=op.f("fk_cell_verdicts_night"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("night", "position", name=op.f("pk_cell_verdicts")),
    )
    op.create_index(op.f("ix_cell_verdicts_experiment_device"), "cell_verdicts", ["experiment", "device"], unique=False)
