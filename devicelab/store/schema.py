"""Tables of the results database (SQLAlchemy Core); ``migrations/versions`` creates exactly these.

Shape: a campaign has planned cells and binaries; a run belongs to a campaign and a cell; flags, metrics, samples,
evidence, program facts and raw outputs belong to a run. Everything that may be large is a compressed blob in a table of
its own, so that lists and statistics over millions of runs read only narrow rows. Figures refer to a dictionary of
names (``metric_names``) for the same reason. Tasks, looks at devices and verdicts belong to a night; a campaign names
its night, and outlives it if it was not deleted with it.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

HEAD = "0004"
"""The newest schema revision this version of devicelab knows (checked against the migrations by a test)."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only in a column of exactly this type.
_Id = BigInteger().with_variant(Integer(), "sqlite")


def _run(*, primary_key: bool = True) -> Column[int]:
    return Column("run", _Id, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=primary_key, autoincrement=False)


def _campaign(*, primary_key: bool = True) -> Column[int]:
    key = ForeignKey("campaigns.id", ondelete="CASCADE")
    return Column("campaign", _Id, key, primary_key=primary_key, nullable=False, autoincrement=False)


def _night(*, primary_key: bool = False, nullable: bool = False) -> Column[str]:
    key = ForeignKey("nights.night", ondelete="CASCADE")
    return Column("night", Text, key, primary_key=primary_key, nullable=nullable)


documents = Table(
    "documents",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

campaigns = Table(
    "campaigns",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("campaign", Text, nullable=False, unique=True),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("board", Text, nullable=False),
    Column("board_title", Text, nullable=False),
    Column("experiment", Text, nullable=False),
    Column("question", Text, nullable=False),
    Column("night", Text),
    Column("simulated", Boolean, nullable=False),
    Column("started_unix_ns", BigInteger, nullable=False),
    Column("ended_unix_ns", BigInteger),
    Column("runs_planned", Integer, nullable=False),
    Column("runs_done", Integer, nullable=False),
    Column("runs_invalid", Integer, nullable=False),
    Column("command", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("host", Text, nullable=False),
    Column("experiment_json", Text, nullable=False),
    Column("facts_json", Text, nullable=False),
    Column("nodes_sha256", Text, ForeignKey("documents.sha256")),
    Column("plan_sha256", Text, ForeignKey("documents.sha256")),
    Column("thinned_rows", BigInteger, nullable=False, server_default="0"),
    Index(None, "device", "experiment", "started_unix_ns"),
    Index(None, "night"),
)

cells = Table(
    "cells",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("cell_id", Text, nullable=False, unique=True),
    Column("label", Text, nullable=False),
    Column("measured", Text, nullable=False),
    Column("levels_json", Text, nullable=False),
)

campaign_cells = Table(
    "campaign_cells",
    metadata,
    _campaign(),
    Column("cell", _Id, ForeignKey("cells.id"), primary_key=True, autoincrement=False),
    Column("position", Integer, nullable=False),
)

binaries = Table(
    "binaries",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("sha256", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("toolchain", Text, nullable=False),
    Column("compiler", Text, nullable=False),
    Column("source", Text, nullable=False),
    UniqueConstraint("sha256", "name"),
)

campaign_binaries = Table(
    "campaign_binaries",
    metadata,
    _campaign(),
    Column("binary", _Id, ForeignKey("binaries.id"), primary_key=True, autoincrement=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", _Id, primary_key=True),
    _campaign(primary_key=False),
    Column("cell", _Id, ForeignKey("cells.id"), nullable=False),
    Column("run_id", Text, nullable=False),
    Column("repetition", Integer, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("valid", Boolean, nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("t_unix_ns", BigInteger, nullable=False),
    Column("duration_ns", BigInteger, nullable=False),
    UniqueConstraint("campaign", "run_id"),
    Index(None, "cell", "campaign"),
)

flags = Table(
    "flags",
    metadata,
    _run(),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("code", Text, nullable=False),
    Column("detail", Text, nullable=False),
)

programs = Table(
    "programs",
    metadata,
    _run(),
    Column("program", Text, primary_key=True),
    Column("info_json", Text, nullable=False),
    Column("simulated", Boolean, nullable=False),
)

metric_names = Table(
    "metric_names",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("program", Text, nullable=False),
    Column("metric", Text, nullable=False),
    Column("unit", Text, nullable=False),
    UniqueConstraint("program", "metric", "unit"),
)

metrics = Table(
    "metrics",
    metadata,
    _run(),
    Column("name", _Id, ForeignKey("metric_names.id"), primary_key=True, autoincrement=False),
    Column("value", Float(53)),
    sqlite_with_rowid=False,
)

samples = Table(
    "samples",
    metadata,
    _run(),
    Column("program", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("rows", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

# What remains of samples that were dropped on request: which there were, and how many rows.
thinned_samples = Table(
    "thinned_samples",
    metadata,
    _run(),
    Column("program", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("rows", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
)

evidence = Table(
    "evidence",
    metadata,
    _run(),
    Column("sha256", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

outputs = Table(
    "outputs",
    metadata,
    _run(),
    Column("program", Text, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

findings = Table(
    "findings",
    metadata,
    _campaign(),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("analysis", Text, nullable=False),
    Column("claim", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("estimate", Float(53)),
    Column("low", Float(53)),
    Column("high", Float(53)),
    Column("unit", Text, nullable=False),
    Column("n", Integer, nullable=False),
    Column("reasons_json", Text, nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("answer", Boolean, nullable=False, server_default=false()),
    Column("interval", Text, nullable=False, server_default="fixed n"),
    Column("quantity", Text, nullable=False, server_default=""),
    Column("comparison", Text, nullable=False, server_default=""),
)

# Fields of a noun without a column of their own stand in ``more_json``: no query selects by them.
nights = Table(
    "nights",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("night", Text, nullable=False, unique=True),
    Column("farm", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("started_unix_ns", BigInteger, nullable=False),
    Column("ended_unix_ns", BigInteger),
    Column("exit_code", Integer),
    Column("host", Text, nullable=False),
    Column("more_json", Text, nullable=False),
    Index(None, "farm", "started_unix_ns"),
)

tasks = Table(
    "tasks",
    metadata,
    _night(primary_key=True),
    Column("task_id", Text, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("job", Integer, nullable=False),
    Column("experiment", Text, nullable=False),
    Column("selector", Text, nullable=False),
    Column("device", Text),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("campaign", Text),
    Column("attempts", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("confirms", Text),
    Column("more_json", Text, nullable=False),
    Index(None, "campaign"),
)

health = Table(
    "health",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("device", Text, nullable=False),
    _night(nullable=True),
    Column("task_id", Text),
    Column("phase", Text, nullable=False),
    Column("ok", Boolean, nullable=False),
    Column("at_unix_ns", BigInteger, nullable=False),
    Column("more_json", Text, nullable=False),
    Index(None, "device", "at_unix_ns"),
    Index(None, "night"),
)

# A device's history: it outlives the nights.
quarantines = Table(
    "quarantines",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("device", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("night", Text),
    Column("since_unix_ns", BigInteger, nullable=False),
    Column("released_unix_ns", BigInteger),
    Column("note", Text, nullable=False),
    Column("more_json", Text, nullable=False),
    Index(None, "device", "since_unix_ns"),
    Index(
        "uq_quarantines_device_active",
        "device",
        unique=True,
        sqlite_where=text("released_unix_ns IS NULL"),
        postgresql_where=text("released_unix_ns IS NULL"),
    ),
)

cell_verdicts = Table(
    "cell_verdicts",
    metadata,
    _night(primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("experiment", Text, nullable=False),
    Column("cell_id", Text, nullable=False),
    Column("cell", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("program", Text, nullable=False),
    Column("metric", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("shift_pct", Float(53)),
    Column("low_pct", Float(53)),
    Column("high_pct", Float(53)),
    Column("p_value", Float(53)),
    Column("q_value", Float(53)),
    Column("threshold_pct", Float(53)),
    Column("n", Integer, nullable=False),
    Column("n_baseline", Integer, nullable=False),
    Column("since", Text),
    Column("confirmed", Boolean),
    Column("more_json", Text, nullable=False),
    Index(None, "experiment", "device"),
)
