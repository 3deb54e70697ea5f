"""Integrity of the results database: what ``devicelab store check`` looks at."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Table, case, func, select
from sqlalchemy.exc import DatabaseError

from devicelab.model.night import CellVerdict, Health, NightInfo, Quarantine, Task
from devicelab.model.plan import Noun
from devicelab.store import schema as s
from devicelab.store.codec import decode_table, digest, unpack
from devicelab.store.nights import from_row

_CHUNK = 256
_MOST = 100


@dataclass(frozen=True)
class CheckReport:
    """What a check of the database found.

    Attributes:
        campaigns, runs, nights, blobs: how many were looked at.
        problems: one sentence each (at most 100, the last one says that there are more); empty if all is well.
    """

    campaigns: int
    runs: int
    nights: int
    blobs: int
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.problems


def check(engine: Engine) -> CheckReport:
    """Structure, references, checksums of all blobs, and the counters in the list of campaigns."""
    counted = {"campaigns": 0, "runs": 0, "nights": 0, "blobs": 0}
    problems: list[str] = []
    with engine.connect() as connection:
        try:
            for problem in _problems(connection, counted):
                problems.append(problem)
                if len(problems) == _MOST:
                    problems.append("and more: the check ended here")
                    break
        except DatabaseError as error:
            # A damaged page ends the reading; what was found before it still counts.
            problems.append(f"reading ended: {error.orig}")
    return CheckReport(**counted, problems=tuple(problems))


def _problems(connection: Connection, counted: dict[str, int]) -> Iterator[str]:
    if connection.dialect.name == "sqlite":
        for (line,) in connection.exec_driver_sql("PRAGMA integrity_check"):
            if line != "ok":
                yield f"file structure: {line}"
        for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            yield f"row {row} of {table} refers to a row of {parent} that does not exist"
    for table in (s.campaigns, s.runs, s.nights):
        counted[table.name] = connection.execute(select(func.count()).select_from(table)).scalar_one()
    yield from _blobs(connection, counted)
    yield from _counters(connection)
    yield from _thinned(connection)
    yield from _nights(connection)


def _blobs(connection: Connection, counted: dict[str, int]) -> Iterator[str]:
    r = s.runs.c.run_id
    t, e, o, d = s.samples.c, s.evidence.c, s.outputs.c, s.documents.c
    rows: tuple[tuple[str, Any], ...] = (
        ("samples", select(r, t.name, t.sha256, t.data, t.rows).select_from(s.samples).join(s.runs)),
        ("evidence", select(r, e.run, e.sha256, e.data, e.run).select_from(s.evidence).join(s.runs)),
        ("output", select(r, o.program, o.sha256, o.data, o.bytes).select_from(s.outputs).join(s.runs)),
    )
    for kind, query in rows:
        for run_id, name, sha256, blob, size in _stream(connection, query):
            counted["blobs"] += 1
            what = f"{kind} of run {run_id}" + (f" ({name})" if kind != "evidence" else "")
            if digest(blob) != sha256:
                yield f"{what}: does not fit its checksum"
            elif (problem := _unreadable(kind, blob, size)) is not None:
                yield f"{what}: {problem}"
    for sha256, blob in _stream(connection, select(d.sha256, d.data)):
        counted["blobs"] += 1
        try:
            good = digest(unpack(blob)) == sha256
        except ValueError:
            good = False
        if not good:
            yield f"document {sha256}: does not fit its checksum"


def _unreadable(kind: str, blob: bytes, size: int) -> str | None:
    try:
        if kind == "samples":
            lengths = {len(column) for column in decode_table(blob).values()} or {0}
            return None if lengths == {size} else f"holds {max(lengths)} rows, not {size}"
        rows = len(unpack(blob))
    except ValueError as error:
        return str(error)
    return f"holds {rows} bytes, not {size}" if kind == "output" and rows != size else None


def _counters(connection: Connection) -> Iterator[str]:
    c, r = s.campaigns.c, s.runs.c
    # The outer join gives a campaign without runs one row without a run; it counts neither as a run nor as invalid.
    invalid = func.sum(case((r.valid.is_(False), 1), else_=0))
    query = (
        select(c.campaign, c.runs_done, c.runs_invalid, func.count(r.id), invalid)
        .select_from(s.campaigns.outerjoin(s.runs, r.campaign == c.id))
        .group_by(c.id)
    )
    for name, done, wrong, held, bad in connection.execute(query):
        if (done, wrong) != (held, bad):
            yield f"campaign {name}: counts {done} runs ({wrong} invalid) but holds {held} ({bad} invalid)"


def _thinned(connection: Connection) -> Iterator[str]:
    c, r, t = s.campaigns.c, s.runs.c, s.thinned_samples.c
    query = (
        select(c.campaign, c.thinned_rows, func.coalesce(func.sum(t.rows), 0))
        .select_from(s.campaigns.outerjoin(s.runs, r.campaign == c.id).outerjoin(s.thinned_samples, t.run == r.id))
        .group_by(c.id)
    )
    for name, said, noted in connection.execute(query):
        if said != noted:
            yield f"campaign {name}: counts {said} rows of dropped samples but notes {noted}"
    both = select(r.run_id, t.name).select_from(s.thinned_samples).join(s.runs, r.id == t.run)
    held = s.samples.c
    same = (held.run == t.run) & (held.program == t.program) & (held.name == t.name)
    for run_id, name in connection.execute(both.join(s.samples, same)):
        yield f"samples of run {run_id} ({name}): there, but noted as dropped"


def _nights(connection: Connection) -> Iterator[str]:
    """Rows that cannot be read, and tasks whose campaign is missing or of another night."""
    nouns: tuple[tuple[Table, type[Noun], str], ...] = (
        (s.nights, NightInfo, "night"),
        (s.tasks, Task, "task_id"),
        (s.health, Health, "id"),
        (s.quarantines, Quarantine, "id"),
        (s.cell_verdicts, CellVerdict, "position"),
    )
    for table, noun, key in nouns:
        for row in _stream(connection, select(table)).mappings():
            try:
                from_row(noun, row)
            except ValueError:
                yield f"{table.name}: row {row[key]} (night {row['night']}) cannot be read"
    t, c = s.tasks.c, s.campaigns.c
    query = (
        select(t.night, t.task_id, t.campaign, c.night)
        .select_from(s.tasks.outerjoin(s.campaigns, c.campaign == t.campaign))
        .where(t.campaign.is_not(None), t.status == "complete")
    )
    for night, task, campaign, of_night in connection.execute(query):
        if of_night is None:
            yield f"task {task} of night {night} was measured in campaign {campaign}, which is not stored"
        elif of_night != night:
            yield f"task {task} of night {night} was measured in campaign {campaign} of night {of_night}"


def _stream(connection: Connection, query: Any) -> Any:
    return connection.execute(query).yield_per(_CHUNK)
