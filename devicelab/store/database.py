"""``Store``: the one way into the results database; what it answers is in ``reading``."""

import json
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError

from devicelab import __version__
from devicelab.errors import StoreError
from devicelab.ground.closing import Closing
from devicelab.model.campaign import BinaryInfo, EndStatus, new_id, unreliable
from devicelab.model.device import Facts
from devicelab.model.experiment import Cell, Experiment, Finding
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.measurement import Measurement
from devicelab.model.tree import Node
from devicelab.store import engine as places
from devicelab.store import schema as s
from devicelab.store.codec import digest, pack
from devicelab.store.deleting import Deleter
from devicelab.store.figures import parts_of
from devicelab.store.migrate import migrate
from devicelab.store.nights_writer import NightWriter
from devicelab.store.patience import PATIENCE_S, memo, opening, patiently
from devicelab.store.prepared import prepared
from devicelab.store.reading import StoreReader
from devicelab.store.records import MetricKey, Row, RunRows, clean, output_row, run_rows


@patiently
class Store(StoreReader, NightWriter, Deleter, Closing):
    """The results database: SQLite in one file, or PostgreSQL through the same code.

    Safe to use from several threads, and from several processes that each open it. Every method raises ``StoreError``
    for what the database refuses (locked, full, read-only, damaged) and leaves it as it was then.

    Attributes:
        patience_s: how long a PostgreSQL server that goes away while the store is in use is waited for.
    """

    patience_s: float = PATIENCE_S

    def __init__(self, engine: Engine, place: URL | Path) -> None:
        """Use ``Store.open``."""
        super().__init__(engine, place)
        self._writer = places.writer(engine)
        self._metric_ids: dict[MetricKey, int] = {}

    @classmethod
    def open(cls, url: str | Path | None = None, *, create: bool = True) -> "Store":
        """Open the database and bring its schema up to date; safe with several openers at the same time.

        Args:
            url: a path (SQLite) or ``postgresql://USER@HOST/DATABASE``; ``None`` is ``$DEVICELAB_STORE`` or
                ``./devicelab.sqlite``.
            create: make the file if there is none (mode 0600).

        Raises:
            ConfigError: a URL of another kind of database.
            StoreError: no such file, not a results database, written by a newer devicelab, not reachable.
        """
        place = places.locate(url)
        engine = places.connect(place, create=create)
        made = cls(engine, place)
        try:
            opening(made._up_to_date, made)
        except BaseException:
            engine.dispose()
            raise
        return made

    def _up_to_date(self) -> None:
        with places.guarded(self._place):
            migrate(self._engine, places.describe(self._place))

    def begin_campaign(
        self,
        *,
        experiment: Experiment,
        facts: Facts,
        cells: Sequence[Cell],
        command: str,
        binaries: Sequence[BinaryInfo],
        plan_json: str | None,
        night: str | None = None,
        campaign: str | None = None,
    ) -> str:
        """Record that a campaign begins, with everything known beforehand; returns its id.

        ``campaign`` is an id chosen before (run ids derive from it); without one the store draws it.

        Raises:
            StoreError: a campaign of the id given is stored already.
        """
        nodes = [node.model_dump(mode="json") for node in facts.nodes if isinstance(node, Node)]
        row: Row = {
            "status": "running",
            "reason": "",
            "device": clean(facts.name),
            "address": clean(facts.address),
            "board": clean(facts.board.kind),
            "board_title": clean(facts.board.title),
            "experiment": clean(experiment.name),
            "question": clean(experiment.question),
            "night": night,
            "simulated": facts.simulated,
            "started_unix_ns": memo().setdefault("started", time.time_ns()),
            "ended_unix_ns": None,
            "runs_planned": len(cells) * experiment.first_repetitions,
            "runs_done": 0,
            "runs_invalid": 0,
            "command": clean(command),
            "version": __version__,
            "seed": experiment.seed,
            "host": platform.node(),
            "experiment_json": _json(experiment.model_dump(mode="json")),
            "facts_json": _json(facts.model_dump(mode="json")),
        }
        with places.guarded(self._place):
            while True:
                row["campaign"] = campaign or memo().setdefault("campaign", new_id(row["started_unix_ns"]))
                try:
                    with self._writer.begin() as connection:
                        row["nodes_sha256"] = self._document(connection, json.dumps(nodes)) if nodes else None
                        row["plan_sha256"] = self._document(connection, plan_json) if plan_json is not None else None
                        made = insert(s.campaigns).values(row).returning(s.campaigns.c.id)
                        number = connection.execute(made).scalar_one()
                        self._link_cells(connection, number, cells)
                        self._link_binaries(connection, number, binaries)
                except IntegrityError:
                    if self._number(row["campaign"]) is None:
                        raise
                    if self._began_just_now(row):
                        return str(row["campaign"])
                    if campaign is not None:
                        raise StoreError(f"a campaign {campaign!r} is stored already in {self}") from None
                    memo().pop("campaign")
                    continue  # the id is taken: two campaigns in one second drew the same digits
                return str(row["campaign"])

    def _began_just_now(self, row: Row) -> bool:
        """It was this very call that stored it, before the server went away."""
        c = s.campaigns.c
        with self._engine.connect() as connection:
            found = connection.execute(select(c.started_unix_ns, c.host).where(c.campaign == row["campaign"])).first()
        return found is not None and tuple(found) == (row["started_unix_ns"], row["host"])

    def commit_run(
        self,
        campaign: str,
        cell: Cell,
        record: RunRecord,
        *,
        repetition: int,
        measurements: Mapping[str, Measurement],
        flags: Sequence[Flag],
    ) -> bool:
        """Store a finished run in one transaction.

        ``measurements`` are the parsed outputs by the program's name; ``flags`` what knobs and the host found. The
        flags of the record and of the measurements are stored with them (each once).

        Returns:
            ``False`` if a run of that id is stored already (by whomever); nothing is changed then.
        """
        try:
            rows = run_rows(record, repetition, measurements, flags)
        except ValueError as error:
            raise StoreError(f"run {record.run_id} cannot be stored: {error}") from error
        with places.guarded(self._place):
            names = self._metric_numbers(rows.metrics)
            with self._writer.begin() as connection:
                statements = prepared(connection.dialect)
                known = {"campaign": campaign, "cell_id": cell.cell_id}
                found: Any = statements.place.on(connection, known).first()
                number, cell_number = found or (self._require(campaign), None)
                if cell_number is None:
                    cell_number = self._cell_numbers(connection, [cell])[cell.cell_id]
                made = statements.run.on(connection, {**rows.run, "campaign": number, "cell": cell_number})
                if (run_number := made.scalar()) is None:
                    return False
                _insert_parts(connection, int(run_number), rows, names)
                more = {"more_runs_done": 1, "more_runs_invalid": int(not rows.run["valid"])}
                statements.count.on(connection, {"number": number, **more})
        return True

    def keep_output(self, campaign: str, run_id: str, program: str, data: bytes) -> None:
        """Store something more that came of a run, such as a system's trace, beside what its programs printed.

        One of that name is replaced.

        Raises:
            StoreError: there is no such run.
        """
        row = output_row(program, data)
        with places.guarded(self._place):
            number = self._require(campaign)
            with self._writer.begin() as connection:
                query = select(s.runs.c.id).where(s.runs.c.campaign == number, s.runs.c.run_id == run_id)
                if (run := connection.execute(query).scalar()) is None:
                    raise StoreError(f"campaign {campaign} has no run {run_id!r}")
                same = (s.outputs.c.run == run) & (s.outputs.c.program == row["program"])
                connection.execute(delete(s.outputs).where(same))
                connection.execute(insert(s.outputs).values({**row, "run": run}))

    def plan_runs(self, campaign: str, planned: int) -> None:
        """Record how many runs a campaign has by now that asks for its runs block by block."""
        with places.guarded(self._place):
            number = self._require(campaign)
            with self._writer.begin() as connection:
                connection.execute(update(s.campaigns).where(s.campaigns.c.id == number).values(runs_planned=planned))

    def finish_campaign(self, campaign: str, status: EndStatus, reason: str = "", *, elsewhere: bool = False) -> None:
        """Record how the campaign ended; a resumed one is finished again.

        One that is complete is ``unreliable`` if half of its runs or more are flagged. A bundle's is complete when all
        of its runs have come in.

        With ``elsewhere`` this host did not see it (a bundle): it began and ended with its runs, by their machine's
        clock.
        """
        values: Row = {"status": status, "reason": clean(reason), "ended_unix_ns": time.time_ns()}
        with places.guarded(self._place):
            number = self._require(campaign)
            with self._writer.begin() as connection:
                if status == "complete" and not elsewhere:
                    values |= _reliability(connection, number)
                if elsewhere:
                    values |= _span(connection, number)
                connection.execute(update(s.campaigns).where(s.campaigns.c.id == number).values(values))

    def add_findings(self, campaign: str, findings: Sequence[Finding]) -> None:
        """Store findings; what the same analyses found before in this campaign is replaced."""
        with places.guarded(self._place):
            number = self._require(campaign)
            t = s.findings
            with self._writer.begin() as connection:
                analyses = {clean(finding.analysis) for finding in findings}
                connection.execute(delete(t).where(t.c.campaign == number, t.c.analysis.in_(analyses)))
                last = connection.execute(select(func.max(t.c.position)).where(t.c.campaign == number)).scalar()
                first = 0 if last is None else last + 1
                if findings:
                    rows = [_finding_row(number, first + i, finding) for i, finding in enumerate(findings)]
                    connection.execute(insert(t), rows)

    def vacuum(self) -> int:
        """Drop what nothing refers to and give unused space back; the bytes freed (0 for PostgreSQL)."""
        nodes, plans = s.campaigns.c.nodes_sha256, s.campaigns.c.plan_sha256
        used = select(nodes).where(nodes.is_not(None)).union(select(plans).where(plans.is_not(None)))
        before = self._bytes()
        with places.guarded(self._place):
            with self._writer.begin() as connection:
                connection.execute(delete(s.documents).where(s.documents.c.sha256.not_in(used)))
            if isinstance(self._place, Path):
                raw = self._engine.raw_connection()
                try:
                    for statement in ("VACUUM", "PRAGMA optimize", "PRAGMA wal_checkpoint(TRUNCATE)"):
                        raw.cursor().execute(statement).fetchall()
                finally:
                    raw.close()
            else:
                with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    connection.exec_driver_sql("VACUUM")
        return max(0, before - self._bytes())

    def close(self) -> None:
        """Close all connections; the store cannot be used afterwards."""
        self._engine.dispose()

    def _cell_numbers(self, connection: Connection, cells: Sequence[Cell]) -> dict[str, int]:
        """Sorted, so that two processes which add the same cells cannot wait for each other."""
        rows = [
            {
                "cell_id": cell.cell_id,
                "label": clean(cell.label()),
                "measured": cell.measured,
                "levels_json": json.dumps(cell.levels),
            }
            for cell in sorted(cells, key=lambda cell: cell.cell_id)
        ]
        if rows:
            connection.execute(_insert_new(connection, s.cells), rows)
        return _numbers(connection, s.cells, "cell_id", [row["cell_id"] for row in rows])

    def _metric_numbers(self, metrics: Mapping[MetricKey, object]) -> Mapping[MetricKey, int]:
        """Names unknown so far are added, in the order the workload gives its figures.

        Each in a transaction of its own: two processes that add the same names in another order cannot wait for each
        other, and a name that is never used does no harm.
        """
        t = s.metric_names
        unknown = [key for key in metrics if key not in self._metric_ids]
        for program, metric, unit in unknown:
            with self._writer.begin() as connection:
                row = {"program": program, "metric": metric, "unit": unit}
                connection.execute(_insert_new(connection, t).values(row))
        if unknown:
            with self._engine.connect() as connection:
                known = connection.execute(select(t.c.program, t.c.metric, t.c.unit, t.c.id)).all()
            self._metric_ids = {(program, metric, unit): number for program, metric, unit, number in known}
        return self._metric_ids

    def _link_cells(self, connection: Connection, campaign: int, cells: Sequence[Cell]) -> None:
        numbers = self._cell_numbers(connection, cells)
        order = dict.fromkeys(numbers[cell.cell_id] for cell in cells)
        if order:
            rows = [{"campaign": campaign, "cell": cell, "position": i} for i, cell in enumerate(order)]
            connection.execute(insert(s.campaign_cells), rows)

    def _link_binaries(self, connection: Connection, campaign: int, binaries: Sequence[BinaryInfo]) -> None:
        t = s.binaries
        numbers = set()
        for binary in sorted(binaries, key=lambda binary: (binary.sha256, binary.name)):
            row = {name: clean(text) for name, text in binary.model_dump().items()}
            connection.execute(_insert_new(connection, t).values(row))
            query = select(t.c.id).where(t.c.sha256 == row["sha256"], t.c.name == row["name"])
            numbers.add(connection.execute(query).scalar_one())
        if numbers:
            rows = [{"campaign": campaign, "binary": number} for number in sorted(numbers)]
            connection.execute(insert(s.campaign_binaries), rows)

    def _document(self, connection: Connection, text: str) -> str:
        """Store a large text once, by its content; its checksum."""
        data = text.encode("utf-8", "replace")
        row = {"sha256": digest(data), "data": pack(data)}
        connection.execute(_insert_new(connection, s.documents).values(row))
        return str(row["sha256"])

    def _bytes(self) -> int:
        if not isinstance(self._place, Path):
            return 0
        side = (self._place, self._place.with_name(self._place.name + "-wal"))
        return sum(path.stat().st_size for path in side if path.exists())


def _insert_parts(connection: Connection, run: int, rows: RunRows, names: Mapping[MetricKey, int]) -> None:
    metrics = [{"name": names[key], "value": value} for key, value in rows.metrics.items()]
    for table, parts in (
        (s.flags, rows.flags),
        (s.programs, rows.programs),
        (s.metrics, metrics),
        (s.samples, rows.samples),
        (s.evidence, (rows.evidence,)),
        (s.outputs, rows.outputs),
    ):
        prepared(connection.dialect).insert(connection, table, [{**part, "run": run} for part in parts])


def _insert_new(connection: Connection, table: Table) -> Any:
    """An INSERT that leaves a row that is there already as it is."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def _numbers(connection: Connection, table: Table, key: str, values: Sequence[str]) -> dict[str, int]:
    """Row numbers by key."""
    numbers: dict[str, int] = {}
    for part in parts_of(values):
        query = select(table.c[key], table.c.id).where(table.c[key].in_(part))
        numbers.update((str(name), int(number)) for name, number in connection.execute(query))
    return numbers


def _span(connection: Connection, campaign: int) -> Row:
    """Start and end of a campaign's runs; nothing without one."""
    r = s.runs.c
    times = connection.execute(select(r.t_unix_ns, r.duration_ns).where(r.campaign == campaign)).all()
    if not times:
        return {}
    end_ns = max(began + took for began, took in times)
    return {"started_unix_ns": min(began for began, _ in times), "ended_unix_ns": min(end_ns, 2**63 - 1)}


def _reliability(connection: Connection, campaign: int) -> Row:
    c = s.campaigns.c
    query = select(c.runs_done, c.runs_invalid).where(c.id == campaign)
    runs, invalid = connection.execute(query).one()
    # Nobody holds it against a campaign that runs for the system's tracer enter no verdict.
    r, f = s.runs.c, s.flags.c
    own = select(func.count(r.id)).where(r.campaign == campaign, r.valid.is_(False))
    traced = connection.execute(own.where(r.id.in_(select(f.run).where(f.code == "traced")))).scalar_one()
    runs, invalid = runs - traced, invalid - traced
    if not unreliable(runs, invalid):
        return {}
    return {"status": "unreliable", "reason": f"{invalid} of {runs} runs are flagged"}


def _json(data: object) -> str:
    return json.dumps(data, separators=(",", ":"))


def _finding_row(campaign: int, position: int, finding: Finding) -> Row:
    row = finding.model_dump(exclude={"reasons"})
    row.update({name: clean(row[name]) for name in ("analysis", "claim", "unit", "interval", "quantity", "comparison")})
    reasons = json.dumps([clean(reason) for reason in finding.reasons])
    return {**row, "campaign": campaign, "position": position, "reasons_json": reasons}
