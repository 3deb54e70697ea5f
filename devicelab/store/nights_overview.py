"""Many nights at a glance: counts, what changed since, and each cell's figure night after night."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Engine, Integer, Numeric, Select, cast, func, or_, select
from sqlalchemy.engine import URL

from devicelab.model.night import CellVerdict
from devicelab.store import engine as places
from devicelab.store import schema as s
from devicelab.store.nights import from_row

if TYPE_CHECKING:
    import pandas as pd

_CONFIDENCE = 0.95
_VERDICT_COLUMNS = (
    "night",
    "device",
    "cell_id",
    "cell",
    "program",
    "metric",
    "unit",
    "verdict",
    "shift_pct",
    "low_pct",
    "high_pct",
    "since",
    "confirmed",
)


@dataclass(frozen=True)
class NightCounts:
    """A night in a line.

    Attributes:
        tasks: by status.
        verdicts: by verdict.
        devices: that had a campaign or a task.
        simulated: a campaign of the night was, wholly or in part.
        mark: changes when anything of the night does: its row, tasks, campaigns, looks at devices, verdicts.
    """

    tasks: Mapping[str, int]
    verdicts: Mapping[str, int]
    devices: tuple[str, ...]
    simulated: bool
    mark: str


class NightOverview:
    """A part of ``StoreReader``; what it answers about hundreds of nights takes a second or two."""

    _engine: Engine
    _place: URL | Path

    def simulated_campaigns(self, night: str | None = None) -> frozenset[str]:
        """Ids of the campaigns (of a night, or of all) on a virtual board or with a run that was emulated in part."""
        c, r = s.campaigns.c, s.runs.c
        emulated = select(r.id).where(r.campaign == c.id, r.simulated).exists()
        query = select(c.campaign).where(or_(c.simulated, emulated))
        return frozenset(str(row[0]) for row in self._tuples(query if night is None else query.where(c.night == night)))

    def night_counts(self) -> Mapping[str, NightCounts]:
        """All nights by id; one that another process begins meanwhile comes with the next call."""
        nights = self._tuples(select(s.nights))
        counts: dict[str, tuple[Counter[str], Counter[str], set[str]]] = {
            row.night: (Counter(), Counter(), set()) for row in nights
        }
        simulated = self.simulated_campaigns()
        virtual: set[str] = set()
        marks: dict[str, list[str]] = defaultdict(list)
        for row in nights:
            marks[row.night].append(_text(row))
        for row in self._tuples(select(s.tasks).order_by(s.tasks.c.night, s.tasks.c.position)):
            if row.night not in counts:
                continue
            statuses, _, devices = counts[row.night]
            statuses[row.status] += 1
            devices.update([row.device] if row.device else [])
            marks[row.night].append(_text(row))
        for row in self._tuples(_campaigns()):
            if row.night in counts:
                counts[row.night][2].add(row.device)
                marks[row.night].append(_text([*row, row.campaign in simulated]))
                if row.campaign in simulated:
                    virtual.add(row.night)
        for row in self._tuples(_verdict_sums()):
            if row.night not in counts:
                continue
            counts[row.night][1][row.verdict] += row.figures
            marks[row.night].append(_text(row))
        for row in (*self._tuples(_health_sums()), *self._tuples(_finding_sums())):
            marks[row.night].append(_text(row))
        return {
            night: NightCounts(
                tasks=statuses,
                verdicts=verdicts,
                devices=tuple(sorted(devices)),
                simulated=night in virtual,
                mark=hashlib.sha256("\n".join(marks[night]).encode("utf-8", "replace")).hexdigest(),
            )
            for night, (statuses, verdicts, devices) in counts.items()
        }

    def night_flags(self, night: str) -> tuple[tuple[str, str, str, int, str], ...]:
        """Why runs of the night are invalid: device, experiment, flag, number of runs, the detail of one of them."""
        c, r, f = s.campaigns.c, s.runs.c, s.flags.c
        query = (
            select(c.device, c.experiment, f.code, func.count(r.id.distinct()), func.min(f.detail))
            .select_from(s.flags.join(s.runs).join(s.campaigns))
            .where(c.night == night, r.valid.is_(False))
            .group_by(c.device, c.experiment, f.code)
            .order_by(c.device, c.experiment, f.code)
        )
        return tuple(tuple(row) for row in self._tuples(query))

    def night_findings(self, night: str) -> tuple[tuple[str, str, str, str, str], ...]:
        """Checks and claims of the night that failed: campaign, device, experiment, claim, reasons on one line."""
        c, f = s.campaigns.c, s.findings.c
        query = (
            select(c.campaign, c.device, c.experiment, f.claim, f.reasons_json)
            .select_from(s.findings.join(s.campaigns))
            .where(c.night == night, f.verdict == "fail")
            .order_by(c.device, c.campaign, f.position)
        )
        return tuple((*row[:4], "; ".join(json.loads(row[4]))) for row in self._tuples(query))

    def moved(self, device: str, limit: int = 40) -> tuple[CellVerdict, ...]:
        """Regressions and improvements on the device, newest first."""
        t = s.cell_verdicts.c
        query = select(s.cell_verdicts).join(s.nights).where(t.device == device)
        query = query.where(t.verdict.in_(("regression", "improvement")))
        query = query.order_by(s.nights.c.started_unix_ns.desc(), t.position).limit(limit)
        return tuple(from_row(CellVerdict, row._mapping) for row in self._tuples(query))  # noqa: SLF001 - SQLAlchemy's

    def verdict_frame(self, experiment: str) -> "pd.DataFrame":
        """The experiment's verdicts of all nights, a row a cell and figure, oldest night first.

        Columns ``night device cell_id cell program metric unit verdict shift_pct low_pct high_pct since confirmed``.
        """
        t = s.cell_verdicts.c
        query = (
            select(*(t[name] for name in _VERDICT_COLUMNS))
            .select_from(s.cell_verdicts.join(s.nights))
            .where(t.experiment == experiment)
            .order_by(s.nights.c.started_unix_ns, s.nights.c.night, t.position)
        )
        import pandas as pd

        return pd.DataFrame([tuple(row) for row in self._tuples(query)], columns=list(_VERDICT_COLUMNS))

    def night_medians(self, experiment: str, figures: Collection[tuple[str, str]] | None = None) -> "pd.DataFrame":
        """Figures (program and metric; ``None``: all) of each cell, a row a night and device, oldest night first.

        Columns ``night device cell_id cell program metric unit n median low high``. Valid runs alone, those of a
        night's several campaigns together. ``low`` and ``high`` bound the median with 95 % confidence (order
        statistics; W. J. Conover, Practical Nonparametric Statistics, section 3.2), which takes six runs; with fewer
        they are the lowest and the highest run, which bound it with less (94 % for five, 75 % for three).
        """
        c, n = s.campaigns.c, s.nights.c
        campaigns = (
            select(c.id, c.night, c.device)
            .select_from(s.campaigns.join(s.nights, n.night == c.night))
            .where(c.experiment == experiment)
            .order_by(n.started_unix_ns, n.night)
        )
        groups: dict[tuple[str, str], int] = {}
        group_of = {
            int(number): groups.setdefault((night, device), len(groups))
            for number, night, device in self._tuples(campaigns)
        }
        every = self._tuples(select(s.metric_names).order_by(s.metric_names.c.id))
        names = {row.id: row for row in every if figures is None or (row.program, row.metric) in figures}
        cells = {row.id: row for row in self._tuples(select(s.cells.c.id, s.cells.c.cell_id, s.cells.c.label))}
        values = self._values(experiment, list(names))
        # A night that another process began meanwhile is not among those that were read.
        old = np.isin(values["campaign"], list(group_of)) & np.isin(values["cell"], list(cells))
        values = {name: column[old] for name, column in values.items()}
        campaign_ids, position = np.unique(values["campaign"], return_inverse=True)
        group = np.asarray([group_of[number] for number in campaign_ids.tolist()], dtype=np.int64)[position]
        of, cell, name, statistics = _medians(group, values["cell"], values["name"], values["value"])
        nights, devices = [night for night, _ in groups], [device for _, device in groups]
        import pandas as pd

        return pd.DataFrame(
            {
                "night": [nights[i] for i in of],
                "device": [devices[i] for i in of],
                "cell_id": [cells[i].cell_id for i in cell],
                "cell": [cells[i].label for i in cell],
                "program": [names[i].program for i in name],
                "metric": [names[i].metric for i in name],
                "unit": [names[i].unit for i in name],
                **statistics,
            }
        )

    def _values(self, experiment: str, names: Sequence[int]) -> Mapping[str, npt.NDArray[Any]]:
        """``campaign cell name value`` as the database numbers them: no text is read a hundred thousand times."""
        c, r, m = s.campaigns.c, s.runs.c, s.metrics.c
        query = (
            select(r.campaign, r.cell, m.name, m.value)
            .select_from(s.campaigns.join(s.runs, r.campaign == c.id).join(s.metrics, m.run == r.id))
            .where(c.experiment == experiment, c.night.in_(select(s.nights.c.night)), r.valid, m.value.is_not(None))
            # The sum keeps SQLite from walking through the figures of all runs for the sake of the names' order.
            .where((m.name + 0).in_(names))
        )
        rows = self._tuples(query)
        columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
        types = {"campaign": np.int64, "cell": np.int64, "name": np.int64, "value": np.float64}
        return {name: np.asarray(column, dtype=types[name]) for name, column in zip(types, columns, strict=True)}

    def _tuples(self, query: Select[Any]) -> Sequence[Any]:
        with places.guarded(self._place), self._engine.connect() as connection:
            return connection.execute(query).all()


def _campaigns() -> Select[Any]:
    c = s.campaigns.c
    columns = (c.night, c.campaign, c.device, c.status, c.reason, c.runs_done, c.runs_invalid, c.thinned_rows)
    return select(*columns).where(c.night.is_not(None)).order_by(c.night, c.campaign)


def _verdict_sums() -> Select[Any]:
    """Sums tell another judgement from the one before; its texts are told apart by their lengths."""
    t = s.cell_verdicts.c
    sums = [func.round(cast(func.sum(column) * 1000, Numeric)) for column in (t.shift_pct, t.low_pct, t.high_pct)]
    sums += [func.sum(column) for column in (t.n, t.n_baseline, cast(t.confirmed, Integer))]
    sums += [func.sum(func.length(column)) for column in (t.more_json, t.since)]
    query = select(t.night, t.verdict, func.count().label("figures"), *sums)
    return query.group_by(t.night, t.verdict).order_by(t.night, t.verdict)


def _health_sums() -> Select[Any]:
    """Looks at devices are only ever added."""
    t = s.health.c
    return select(t.night, func.count()).where(t.night.is_not(None)).group_by(t.night)


def _finding_sums() -> Select[Any]:
    c, f = s.campaigns.c, s.findings.c
    query = select(c.night, f.verdict, func.count(), func.sum(func.length(f.reasons_json)))
    query = query.select_from(s.findings.join(s.campaigns)).where(c.night.in_(select(s.nights.c.night)))
    return query.group_by(c.night, f.verdict).order_by(c.night, f.verdict)


def _text(values: Iterable[object]) -> str:
    return json.dumps([str(value) for value in values])


def _medians(
    group: npt.NDArray[np.int64],
    cell: npt.NDArray[np.int64],
    name: npt.NDArray[np.int64],
    value: npt.NDArray[np.float64],
) -> tuple[list[int], list[int], list[int], dict[str, npt.NDArray[Any]]]:
    """Keys of each (group, cell, name), in that order, and n, median and its bounds."""
    order = np.lexsort((value, name, cell, group))
    keys = np.stack((group, cell, name))[:, order]
    ordered = value[order]
    starts = np.flatnonzero(np.append(True, np.any(np.diff(keys, axis=1) != 0, axis=0))) if len(ordered) else order
    n = np.diff(np.append(starts, len(ordered)))
    ranks = np.asarray([_ranks(int(count)) for count in n], dtype=np.int64).reshape(-1, 2)
    statistics: dict[str, npt.NDArray[Any]] = {
        "n": n,
        "median": (ordered[starts + (n - 1) // 2] + ordered[starts + n // 2]) / 2,
        "low": ordered[starts + ranks[:, 0]],
        "high": ordered[starts + ranks[:, 1]],
    }
    of, cells, names = keys[:, starts].tolist()
    return of, cells, names, statistics


@cache
def _ranks(n: int) -> tuple[int, int]:
    """Places (from 0) of the values that bound the median of so many."""
    from scipy.special import bdtr

    # How many of n fall below their median is binomial; counts that are too rare lie outside.
    below = int(np.searchsorted(bdtr(np.arange(n), n, 0.5), (1 - _CONFIDENCE) / 2))
    return (below - 1, n - below) if below >= 1 else (0, n - 1)
