"""Campaigns, cells, binaries, runs with flags, metrics, samples, evidence and outputs, findings.

There is no way back: an older devicelab refuses a newer schema instead of losing what it does not know.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "binaries",
        sa.Column("id", _ID, nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("toolchain", sa.Text(), nullable=False),
        sa.Column("compiler", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_binaries")),
        sa.UniqueConstraint("sha256", "name", name=op.f("uq_binaries_sha256_name")),
    )
    op.create_table(
        "cells",
        sa.Column("id", _ID, nullable=False),
        sa.Column("cell_id", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("measured", sa.Text(), nullable=False),
        sa.Column("levels_json", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cells")),
        sa.UniqueConstraint("cell_id", name=op.f("uq_cells_cell_id")),
    )
    op.create_table(
        "documents",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_documents")),
    )
    op.create_table(
        "metric_names",
        sa.Column("id", _ID, nullable=False),
        sa.Column("program", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metric_names")),
        sa.UniqueConstraint("program", "metric", "unit", name=op.f("uq_metric_names_program_metric_unit")),
    )
    op.create_table(
        "campaigns",
        sa.Column("id", _ID, nullable=False),
        sa.Column("campaign", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("board", sa.Text(), nullable=False),
        sa.Column("board_title", sa.Text(), nullable=False),
        sa.Column("experiment", sa.Text(), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("night", sa.Text(), nullable=True),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("started_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("ended_unix_ns", sa.BigInteger(), nullable=True),
        sa.Column("runs_planned", sa.Integer(), nullable=False),
        sa.Column("runs_done", sa.Integer(), nullable=False),
        sa.Column("runs_invalid", sa.Integer(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("experiment_json", sa.Text(), nullable=False),
        sa.Column("facts_json", sa.Text(), nullable=False),
        sa.Column("nodes_sha256", sa.Text(), nullable=True),
        sa.Column("plan_sha256", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["nodes_sha256"], ["documents.sha256"], name=op.f("fk_campaigns_nodes_sha256")),
        sa.ForeignKeyConstraint(["plan_sha256"], ["documents.sha256"], name=op.f("fk_campaigns_plan_sha256")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaigns")),
        sa.UniqueConstraint("campaign", name=op.f("uq_campaigns_campaign")),
    )
    op.create_index(
        op.f("ix_campaigns_device_experiment_started_unix_ns"),
        "campaigns",
        ["device", "experiment", "started_unix_ns"],
        unique=False,
    )
    op.create_index(op.f("ix_campaigns_night"), "campaigns", ["night"], unique=False)
    op.create_table(
        "campaign_binaries",
        sa.Column("campaign", _ID, autoincrement=False, nullable=False),
        sa.Column("binary", _ID, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["binary"], ["binaries.id"], name=op.f("fk_campaign_binaries_binary")),
        sa.ForeignKeyConstraint(
            ["campaign"], ["campaigns.id"], name=op.f("fk_campaign_binaries_campaign"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("campaign", "binary", name=op.f("pk_campaign_binaries")),
    )
    op.create_table(
        "campaign_cells",
        sa.Column("campaign", _ID, autoincrement=False, nullable=False),
        sa.Column("cell", _ID, autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign"], ["campaigns.id"], name=op.f("fk_campaign_cells_campaign"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["cell"], ["cells.id"], name=op.f("fk_campaign_cells_cell")),
        sa.PrimaryKeyConstraint("campaign", "cell", name=op.f("pk_campaign_cells")),
    )
    op.create_table(
        "findings",
        sa.Column("campaign", _ID, autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("analysis", sa.Text(), nullable=False),
        sa.Column("claim", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("estimate", sa.Float(precision=53), nullable=True),
        sa.Column("low", sa.Float(precision=53), nullable=True),
        sa.Column("high", sa.Float(precision=53), nullable=True),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("reasons_json", sa.Text(), nullable=False),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["campaign"], ["campaigns.id"], name=op.f("fk_findings_campaign"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("campaign", "position", name=op.f("pk_findings")),
    )
    op.create_table(
        "runs",
        sa.Column("id", _ID, nullable=False),
        sa.Column("campaign", _ID, autoincrement=False, nullable=False),
        sa.Column("cell", _ID, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("repetition", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("valid", sa.Boolean(), nullable=False),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("t_unix_ns", sa.BigInteger(), nullable=False),
        sa.Column("duration_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["campaign"], ["campaigns.id"], name=op.f("fk_runs_campaign"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["cell"], ["cells.id"], name=op.f("fk_runs_cell")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("campaign", "run_id", name=op.f("uq_runs_campaign_run_id")),
    )
    op.create_index(op.f("ix_runs_cell_campaign"), "runs", ["cell", "campaign"], unique=False)
    op.create_table(
        "evidence",
        sa.Column("run", _ID, autoincrement=False, nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_evidence_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_evidence")),
    )
    op.create_table(
        "flags",
        sa.Column("run", _ID, autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_flags_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "position", name=op.f("pk_flags")),
    )
    op.create_table(
        "metrics",
        sa.Column("run", _ID, autoincrement=False, nullable=False),
        sa.Column("name", _ID, autoincrement=False, nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=True),
        sa.ForeignKeyConstraint(["name"], ["metric_names.id"], name=op.f("fk_metrics_name")),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_metrics_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "name", name=op.f("pk_metrics")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outputs",
        sa.Column("run", _ID, autoincrement=False, nullable=False),
        sa.Column("program", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_outputs_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "program", name=op.f("pk_outputs")),
    )
    op.create_table(
        "programs",
        sa.Column("run", _ID, autoincrement=False, nullable=False),
        sa.Column("program", sa.Text(), nullable=False),
        sa.Column("info_json", sa.Text(), nullable=False),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_programs_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "program", name=op.f("pk_programs")),
    )
    op.create_table(
        "samples",
        sa.Column("run", _ID, autoincrement=False, nullable=False),
        sa.Column("program", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_samples_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "program", "name", name=op.f("pk_samples")),
    )
