"""What is stored, as frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from devicelab.experiment import timeline
from devicelab.ground import registry
from devicelab.ground.closing import Closing
from devicelab.model.campaign import CampaignInfo
from devicelab.model.experiment import Finding
from devicelab.store import Store
from devicelab.store.frames import StoredResults

_HEAD = ("run_id", "cell", "repetition", "valid")


def open(store: str | Path | None = None) -> "Lab":  # noqa: A001 - said as dl.open
    """A results database, for reading.

    Args:
        store: a SQLite file or ``postgresql://USER@HOST/DATABASE``; ``$DEVICELAB_STORE`` or ``./devicelab.sqlite`` if
            left out.

    Raises:
        StoreError: no such file, not a results database, or it cannot be reached.
    """
    return Lab(Store.open(store, create=False))


class Lab(Closing):
    """A results database; use it with ``with``, or close it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def close(self) -> None:
        """Let go of the database. Harmless when called twice."""
        self._store.close()

    def campaigns(
        self, *, device: str | None = None, experiment: str | None = None, board: str | None = None
    ) -> pd.DataFrame:
        """One row a campaign, newest first, indexed by its id; the columns are those of ``CampaignInfo``.

        Args:
            device: only those on the device of this name.
            experiment: only those of this experiment.
            board: only those on this kind of board.

        Raises:
            ConfigError: no campaign here has such a device, experiment or board at all.
        """
        found = self._store.campaigns(device=device, experiment=experiment, board=board)
        if not found:
            self._check_names({"device": device, "experiment": experiment, "board": board})
        rows = [info.model_dump() for info in found]
        return pd.DataFrame(rows, columns=list(CampaignInfo.model_fields)).set_index("campaign")

    def _check_names(self, wanted: dict[str, str | None]) -> None:
        every = self._store.campaigns()
        for noun, name in wanted.items():
            known = tuple(sorted({str(getattr(info, noun)) for info in every}))
            if name is not None and name not in known and known:
                raise registry.unknown(noun, name, known)

    def results(self, campaign: str | None = None) -> "Campaign":
        """A campaign by its id or the beginning of it; the latest if left out.

        Raises:
            ConfigError: there is none, or several begin so.
        """
        info = self._store.campaign(campaign)
        return Campaign(self._store.results(info.campaign), self._store.findings(info.campaign))


class Campaign:
    """A stored campaign.

    Attributes:
        campaign: its id.
        info: device, board, kernel, driver, seed, versions and the rest, by name.
        experiment: as it was run.
    """

    def __init__(self, results: StoredResults, findings: Sequence[Finding]) -> None:
        self._results, self._findings = results, findings
        self.campaign, self.info, self.experiment = results.campaign, dict(results.info), results.experiment

    def __repr__(self) -> str:
        return f"<campaign {self.campaign}: {self.experiment.name} on {self.info['device']}>"

    def runs(self) -> pd.DataFrame:
        """One row a run: id, cell, repetition, seq, ``valid``, flags, times, and a column a factor."""
        return self._results.runs()

    def metrics(self) -> pd.DataFrame:
        """One row a figure of a run: ``run_id program metric value unit``."""
        return self._results.metrics()

    def wide(self, *, valid: bool = True) -> pd.DataFrame:
        """One row a run, indexed by its id: cell, repetition, ``valid``, then factors, then figures.

        A figure's column is named by its metric, with ``PROGRAM.`` before it where several programs have it, or where a
        factor has that name. ``attrs["units"]`` has the unit of each of these columns.

        Args:
            valid: only runs whose condition held; otherwise all, with ``valid`` to tell them apart.
        """
        runs, metrics = self._results.runs(), self._results.metrics()
        factors = [name for name in (*self.experiment.factors, *self.experiment.set) if name in runs.columns]
        frame = runs[[*_HEAD, *factors]].set_index("run_id")
        shared = metrics.groupby("metric")["program"].nunique()
        names = [
            f"{program}.{metric}" if shared[metric] > 1 or metric in frame.columns else metric
            for program, metric in zip(metrics["program"], metrics["metric"], strict=True)
        ]
        named = metrics.assign(column=names)
        figures = named.set_index(["run_id", "column"])["value"].unstack().reindex(frame.index)  # noqa: PD010 - one value each
        frame = frame.join(figures)
        frame.attrs["units"] = dict(zip(named["column"], named["unit"], strict=True))
        return frame[frame["valid"].astype(bool)] if valid else frame

    def samples(self, table: str) -> pd.DataFrame:
        """Raw samples of all runs: ``run_id program`` and the table's own columns; ``tables()`` names them.

        Raises:
            ConfigError: no run has such a table.
            SamplesDroppedError: there were some, but they were dropped on request.
        """
        dropped = tuple(self.info["dropped_samples"])
        if table not in (*self.tables(), *dropped):
            raise registry.unknown("table of samples", table, self.tables())
        return self._results.samples(table)

    def tables(self) -> tuple[str, ...]:
        """Names of the tables of raw samples there are ("kernels", "inferences", "requests", ...)."""
        return self._results.tables()

    def timeline(self, run: str | None = None) -> pd.DataFrame:
        """Clocks (kHz), temperatures (C) and CPU use (pct) as sampled: ``run_id t_ns quantity name value unit``.

        ``t_ns`` counts from the start of the run. ``run`` is an id; all runs if left out.

        Raises:
            ConfigError: no such run.
        """
        return self._per_run(run, timeline.series, ("t_ns",))

    def spans(self, run: str | None = None) -> pd.DataFrame:
        """The agent's phases and the programs: ``run_id start_ns end_ns lane name detail``; as ``timeline``.

        Raises:
            ConfigError: no such run.
        """
        return self._per_run(run, timeline.spans, ("start_ns", "end_ns"))

    def findings(self) -> pd.DataFrame:
        """One row a finding, in the report's order: analysis, claim, verdict, estimate, interval, unit, n, reasons."""
        rows = [finding.model_dump() for finding in self._findings]
        return pd.DataFrame(rows, columns=list(Finding.model_fields))

    def evidence(self, run: str) -> dict[str, Any]:
        """A run's journal record: steps, probes, gates, programs, samples, flags.

        Raises:
            ConfigError: no such run.
        """
        self._check(run)
        return self._results.evidence(run)

    def report(self, to: str | Path | None = None) -> Path:
        """Write the campaign's page; returns where it lies (``devicelab-report/CAMPAIGN.html`` if left out).

        Raises:
            ConfigError: the file cannot be written.
        """
        from devicelab import report

        findings = tuple(self._findings) or report.conclude(self._results)
        return report.write_page(self._results, findings, Path(to) if to is not None else None)

    def _per_run(self, run: str | None, frame_of: Any, times: tuple[str, ...]) -> pd.DataFrame:
        ids = list(map(str, self._results.runs()["run_id"]))
        if run is not None:
            self._check(run)
            ids = [run]
        parts = []
        for run_id in ids:
            record = self._results.evidence(run_id)
            frame = frame_of(record)
            for name in times:
                frame[name] -= int(record["t_start_ns"])
            frame.insert(0, "run_id", run_id)
            parts.append(frame)
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["run_id", *times])

    def _check(self, run: str) -> None:
        known = tuple(map(str, self._results.runs()["run_id"]))
        if run not in known:
            raise registry.unknown("run", run, known[:5])
