"""``StoredResults``: a campaign as pandas frames."""

import datetime as dt
import json
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Engine, Select, func, select
from sqlalchemy.engine import URL

from devicelab.errors import SamplesDroppedError, StoreError
from devicelab.model.campaign import BinaryInfo, CampaignInfo
from devicelab.model.device import Facts
from devicelab.model.experiment import Experiment
from devicelab.model.journal import Flag
from devicelab.model.measurement import Column
from devicelab.store import schema as s
from devicelab.store.codec import decode_table, digest, unpack
from devicelab.store.engine import guarded
from devicelab.store.patience import PATIENCE_S, patiently

_RUN_COLUMNS = ("run_id", "cell_id", "cell", "repetition", "seq", "valid", "flags", "t_unix_ns", "duration_ns")
_OS_BUILD = ("ro.build.fingerprint", "ro.build.display.id", "PRETTY_NAME")
_CHUNK = 256
_AHEAD = 32


@patiently
class StoredResults:
    """Implements ``devicelab.model.results.Results`` over an open store.

    Frames are read when they are first asked for and kept; each call gives a frame of its own (copy on write).
    """

    patience_s: float = PATIENCE_S

    def __init__(
        self,
        *,
        engine: Engine,
        place: URL | Path,
        campaign: CampaignInfo,
        number: int,
        experiment: Experiment,
        facts: Facts,
        binaries: Sequence[BinaryInfo],
    ) -> None:
        """Use ``Store.results``."""
        self._engine = engine
        self._place = place
        self._number = number
        self._samples: dict[str, pd.DataFrame] = {}
        self._records: dict[str, tuple[str, bytes]] = {}
        self.campaign: str = campaign.campaign
        self.summary: CampaignInfo = campaign
        self.experiment: Experiment = experiment
        self.facts: Facts = facts
        self.binaries: tuple[BinaryInfo, ...] = tuple(binaries)
        self.info: dict[str, Any] = self._info()

    def _info(self) -> dict[str, Any]:
        """See ``Results.info``; besides those keys the fields of ``CampaignInfo``, ``root`` and ``programs``.

        ``simulated`` is true if the device is a virtual board or any program's figures were emulated (``emulated``
        names those programs). ``programs`` maps a program to what it said about itself in its first run.
        """
        facts = self.facts
        programs, emulated = self._programs()
        said = [info for info in programs.values() if info.get("driver")]
        return {
            **self.summary.model_dump(),
            "simulated": self.summary.simulated or bool(emulated),
            "emulated": emulated,
            "abi": facts.abi,
            "os": facts.os,
            "os_build": next((facts.props[name] for name in _OS_BUILD if facts.props.get(name)), ""),
            "kernel": facts.kernel,
            "root": facts.root,
            "reference": facts.board.reference,
            "boot_id": facts.boot_id,
            "gpu_driver": str(said[0]["driver"]) if said else "",
            "start_unix_ns": self.summary.started_unix_ns,
            "end_unix_ns": self.summary.ended_unix_ns,
            "started": _utc(self.summary.started_unix_ns),
            "ended": _utc(self.summary.ended_unix_ns),
            "binaries": {binary.name: binary.sha256 for binary in self.binaries},
            "programs": programs,
            "dropped_samples": self._dropped(),
        }

    def runs(self) -> pd.DataFrame:
        """See ``Results.runs``; in the order the runs were performed, with ``status`` besides.

        A factor named like one of the fixed columns stands in ``factor_<name>``.
        """
        return self._runs.copy(deep=False)

    def metrics(self) -> pd.DataFrame:
        """See ``Results.metrics``."""
        return self._metrics.copy(deep=False)

    def samples(self, table: str) -> pd.DataFrame:
        """See ``Results.samples``; integer columns stay integer unless a run lacks them."""
        if table not in self._samples:
            self._there(table)
            frame = self._read_samples(table)
            texts = {name: frame[name].astype("str") for name in ("run_id", "program")}
            self._samples[table] = frame.assign(**texts)
        return self._samples[table].copy(deep=False)

    def sizes(self, table: str) -> dict[str, int]:
        """See ``Selecting.sizes``."""
        self._there(table)
        t, r = s.samples.c, s.runs.c
        query = select(r.run_id, func.sum(t.rows)).select_from(s.runs).join(s.samples)
        query = query.where(r.campaign == self._number, t.name == table).group_by(r.id, r.run_id).order_by(r.id)
        return {run: int(rows) for run, rows in self._rows(query) if rows}

    def samples_of(self, table: str, runs: Collection[str]) -> pd.DataFrame:
        """See ``Selecting.samples_of``."""
        self._there(table)
        return self._read_samples(table, runs)

    def _there(self, table: str) -> None:
        dropped = self.info["dropped_samples"]
        if table in dropped:
            raise SamplesDroppedError(
                f"the raw samples {table!r} of campaign {self.campaign} ({dropped[table]} rows) were dropped from "
                "the database",
                hint="figures, findings and evidence are still there; only measuring again brings samples back",
            )

    def tables(self) -> tuple[str, ...]:
        """Names of the sample tables there are."""
        query = select(s.samples.c.name).distinct().join(s.runs).where(s.runs.c.campaign == self._number)
        return tuple(sorted(row[0] for row in self._rows(query)))

    def evidence(self, run_id: str) -> dict[str, Any]:
        """See ``Results.evidence``.

        Raises:
            StoreError: no such run, or its blob is damaged.
        """
        read = self._records
        if run_id not in read:
            # Whoever asks for one run's asks for the next ones' as well: a query for each takes longer than its data.
            first = self._places.get(run_id, 0)
            wanted = {run_id, *self._runs["run_id"].iloc[first : first + _AHEAD]}
            query = select(s.runs.c.run_id, s.evidence.c.sha256, s.evidence.c.data).join(s.runs)
            query = query.where(s.runs.c.campaign == self._number, s.runs.c.run_id.in_(wanted))
            read = self._records = {run: (sha256, blob) for run, sha256, blob in self._rows(query)}
        if run_id not in read:
            raise StoreError(f"campaign {self.campaign} has no run {run_id!r}")
        data: dict[str, Any] = json.loads(self._verified(*read[run_id], what=f"the evidence of run {run_id}"))
        return data

    def output(self, run_id: str, program: str) -> bytes:
        """What the program printed, byte for byte; empty if it printed nothing.

        Raises:
            StoreError: the blob is damaged.
        """
        query = select(s.outputs.c.sha256, s.outputs.c.data).join(s.runs)
        query = query.where(s.runs.c.campaign == self._number, s.runs.c.run_id == run_id)
        rows = self._rows(query.where(s.outputs.c.program == program))
        return self._verified(*rows[0], what=f"the output of {program} in run {run_id}") if rows else b""

    def pruned(self, run_id: str, program: str) -> bool:
        """There was an output of that name, and it was dropped on request: what prints nothing is never stored."""
        query = select(s.outputs.c.bytes).join(s.runs)
        query = query.where(s.runs.c.campaign == self._number, s.runs.c.run_id == run_id)
        return any(size == 0 for (size,) in self._rows(query.where(s.outputs.c.program == program)))

    @cached_property
    def _places(self) -> dict[str, int]:
        """Each run's place in their order."""
        return {run: place for place, run in enumerate(self._runs["run_id"].tolist())}

    @cached_property
    def _runs(self) -> pd.DataFrame:
        r, c = s.runs.c, s.cells.c
        query = (
            select(
                r.id, r.run_id, c.cell_id, c.label, r.repetition, r.seq, r.valid, r.t_unix_ns, r.duration_ns, r.status
            )
            .select_from(s.runs)
            .join(s.cells)
            .where(r.campaign == self._number)
            .order_by(r.t_unix_ns, r.seq, r.id)
        )
        rows = self._rows(query)
        names = ("id", "run_id", "cell_id", "cell", "repetition", "seq", "valid", "t_unix_ns", "duration_ns", "status")
        frame = pd.DataFrame(rows, columns=list(names))
        if not rows:
            frame = frame.astype({"valid": bool, "repetition": "int64", "seq": "int64"})
            frame = frame.astype({"t_unix_ns": "int64", "duration_ns": "int64"})
        flags = self._flags()
        frame["flags"] = pd.Series([flags.get(number, ()) for number in frame["id"]], index=frame.index, dtype=object)
        frame = frame[[*_RUN_COLUMNS, "status"]]
        levels = self._levels()
        for factor in dict.fromkeys(name for cell in levels.values() for name in cell):
            column = f"factor_{factor}" if factor in frame.columns else factor
            frame[column] = [levels[cell].get(factor) for cell in frame["cell_id"]]
        return frame

    def _flags(self) -> dict[int, tuple[Flag, ...]]:
        f = s.flags.c
        query = select(f.run, f.code, f.detail).join(s.runs).where(s.runs.c.campaign == self._number)
        by_run: dict[int, list[Flag]] = {}
        for run, code, detail in self._rows(query.order_by(f.run, f.position)):
            by_run.setdefault(run, []).append(Flag(code=code, detail=detail))
        return {run: tuple(flags) for run, flags in by_run.items()}

    def _levels(self) -> dict[str, dict[str, Any]]:
        """Levels by cell id, of planned cells in their order and of any other that has runs."""
        c = s.cells.c
        planned = (
            select(c.cell_id, c.levels_json)
            .join(s.campaign_cells)
            .where(s.campaign_cells.c.campaign == self._number)
            .order_by(s.campaign_cells.c.position)
        )
        ran = select(c.cell_id, c.levels_json).join(s.runs).where(s.runs.c.campaign == self._number).distinct()
        return {cell_id: json.loads(levels) for query in (planned, ran) for cell_id, levels in self._rows(query)}

    @cached_property
    def _metrics(self) -> pd.DataFrame:
        n = s.metric_names.c
        query = (
            select(s.runs.c.run_id, n.program, n.metric, s.metrics.c.value, n.unit)
            .select_from(s.runs)
            .join(s.metrics)
            .join(s.metric_names)
            .where(s.runs.c.campaign == self._number)
            .order_by(s.runs.c.id, s.metrics.c.name)
        )
        frame = pd.DataFrame(self._rows(query), columns=["run_id", "program", "metric", "value", "unit"])
        return frame.astype({"value": "float64"})

    def _read_samples(self, table: str, runs: Collection[str] | None = None) -> pd.DataFrame:
        t = s.samples.c
        query = (
            select(s.runs.c.run_id, t.program, t.rows, t.sha256, t.data)
            .select_from(s.runs)
            .join(s.samples)
            .where(s.runs.c.campaign == self._number, t.name == table)
            .order_by(s.runs.c.id, t.program)
        )
        if runs is not None:
            query = query.where(s.runs.c.run_id.in_(runs))
        # Blobs with the same columns are joined as arrays; unlike ones (another version of a program) as frames.
        groups: dict[tuple[tuple[str, str], ...], _Group] = {}
        with guarded(self._place), self._engine.connect() as connection:
            for run_id, program, rows, sha256, blob in connection.execute(query).yield_per(_CHUNK):
                what = f"samples {table!r} of run {run_id}"
                if digest(blob) != sha256:
                    raise self._damaged(what)
                columns = decode_table(blob)
                shape = tuple((name, str(column.dtype)) for name, column in columns.items())
                groups.setdefault(shape, _Group()).add(run_id, program, rows, columns)
        frames = [group.frame() for group in groups.values()]
        if not frames:
            return pd.DataFrame({"run_id": pd.Categorical([]), "program": pd.Categorical([])})
        return frames[0] if len(frames) == 1 else _joined(frames)

    def _programs(self) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
        p = s.programs.c
        query = select(p.program, p.simulated).join(s.runs).where(s.runs.c.campaign == self._number).distinct()
        rows = self._rows(query)
        programs: dict[str, dict[str, Any]] = {}
        for program in sorted({name for name, _ in rows}):
            first = select(p.info_json).join(s.runs).where(s.runs.c.campaign == self._number, p.program == program)
            programs[program] = json.loads(self._rows(first.order_by(s.runs.c.id).limit(1))[0][0])
        return programs, tuple(sorted({name for name, simulated in rows if simulated}))

    def _dropped(self) -> dict[str, int]:
        """Rows of raw samples that were dropped on request, by table."""
        if not self.summary.thinned_rows:
            return {}
        t = s.thinned_samples.c
        query = select(t.name, func.sum(t.rows)).join(s.runs).where(s.runs.c.campaign == self._number)
        return {name: int(rows) for name, rows in self._rows(query.group_by(t.name).order_by(t.name))}

    def _rows(self, query: Select[Any]) -> list[tuple[Any, ...]]:
        with guarded(self._place), self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(query)]

    def _verified(self, sha256: str, blob: bytes, *, what: str) -> bytes:
        if digest(blob) != sha256:
            raise self._damaged(what)
        return unpack(blob)

    def _damaged(self, what: str) -> StoreError:
        return StoreError(f"{what} does not fit its checksum", hint="`devicelab store check` lists what is damaged")


class _Group:
    """Tables with the same columns, of many runs."""

    def __init__(self) -> None:
        self.run_ids: list[str] = []
        self.programs: list[str] = []
        self.rows: list[int] = []
        self.columns: dict[str, list[Column]] = {}

    def add(self, run_id: str, program: str, rows: int, columns: dict[str, Column]) -> None:
        self.run_ids.append(run_id)
        self.programs.append(program)
        self.rows.append(rows)
        for name, column in columns.items():
            self.columns.setdefault(name, []).append(column)

    def frame(self) -> pd.DataFrame:
        data: dict[str, Any] = {
            "run_id": _repeated(self.run_ids, self.rows),
            "program": _repeated(self.programs, self.rows),
        }
        for name in tuple(self.columns):
            # Let go of, column by column: a campaign may have more samples than fit into memory twice.
            joined = np.concatenate(self.columns.pop(name))
            data[f"column_{name}" if name in {"run_id", "program"} else name] = joined
        return pd.DataFrame(data, copy=False)


def _repeated(texts: Sequence[str], times: Sequence[int]) -> pd.Categorical:
    """Texts by number: a million of them take more memory than the samples."""
    codes, names = pd.factorize(np.asarray(texts, dtype=object))
    return pd.Categorical.from_codes(np.repeat(codes.astype(np.int32), times), categories=pd.Index(names, dtype="str"))


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    joined = pd.concat([one.astype({"run_id": "str", "program": "str"}) for one in frames], ignore_index=True)
    texts = {name: pd.Categorical(joined[name], categories=joined[name].unique()) for name in ("run_id", "program")}
    return joined.assign(**texts)


def _utc(unix_ns: int | None) -> str:
    """ISO 8601, whole seconds, UTC; empty for ``None``."""
    if unix_ns is None:
        return ""
    return dt.datetime.fromtimestamp(unix_ns // 1_000_000_000, dt.UTC).isoformat()
