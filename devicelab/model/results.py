"""What analyses and reports may see of a campaign: frames, and nothing of how they are stored."""

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from devicelab.model.experiment import Cell, Experiment

if TYPE_CHECKING:  # a sweep begins to measure before anything is a frame
    import pandas as pd

SYSTEM_TRACE = "system trace"
"""The output that is no program's: what the system's tracer recorded; megabytes."""


class Results(Protocol):
    """The stored runs of one campaign.

    Attributes:
        campaign: its id.
        info: device name, address, board kind and title, abi, kernel, os build, gpu driver where known, start and end
            (Unix ns), devicelab version, hashes of binaries, seed, ``simulated`` (bool), ``reference`` (figures the
            labs noted for this board kind: table → name → number), ``programs`` (what each said about itself),
            ``dropped_samples`` (table → rows that were dropped on request; absent or empty as a rule).
        experiment: as it was run (after ``--set``).
    """

    campaign: str
    info: dict[str, Any]
    experiment: Experiment

    def runs(self) -> "pd.DataFrame":
        """One row a run: ``run_id cell_id cell repetition seq valid flags t_unix_ns duration_ns`` and factor columns.

        ``cell`` is the label for people, ``flags`` a tuple of ``Flag``; a factor column holds the level of that name.
        """
        ...

    def metrics(self) -> "pd.DataFrame":
        """One row a figure of a run: ``run_id program metric value unit``."""
        ...

    def samples(self, table: str) -> "pd.DataFrame":
        """Raw samples of all runs: ``run_id program`` and the table's own columns; empty if there are none.

        Raises:
            SamplesDroppedError: there were some, but they were dropped from the database on request.
        """
        ...

    def evidence(self, run_id: str) -> dict[str, Any]:
        """The run's journal record as JSON data (programs without their output, samples, nodes, steps, probes)."""
        ...


@runtime_checkable
class Selecting(Protocol):
    """Results that read the samples of some runs without those of all others."""

    def sizes(self, table: str) -> dict[str, int]:
        """Rows of each run that has any, in the order of ``samples``."""
        ...

    def samples_of(self, table: str, runs: Collection[str]) -> "pd.DataFrame":
        """As ``Results.samples``, of these runs alone; ``run_id`` and ``program`` are categorical."""
        ...


_ROWS, _RUNS = 150_000, 2_000


def samples_of(results: Results, table: str, runs: Collection[str]) -> "pd.DataFrame":
    """``Results.samples`` of these runs alone, with a categorical ``run_id``."""
    if isinstance(results, Selecting):
        return results.samples_of(table, runs)
    rows = results.samples(table)
    rows = rows[rows["run_id"].isin(set(runs))].reset_index(drop=True) if len(rows) else rows
    import pandas as pd

    return rows.assign(run_id=pd.Categorical(rows["run_id"], categories=rows["run_id"].unique()))


def portions(results: Results, table: str, runs: Collection[str]) -> "Iterator[pd.DataFrame]":
    """The samples of these runs, some whole runs at a time, as ``samples_of``: all may not fit into memory.

    Raises:
        SamplesDroppedError: as ``Results.samples``.
    """
    if not isinstance(results, Selecting):
        whole = samples_of(results, table, runs)
        if len(whole):
            yield whole
        return
    wanted, chosen, rows = set(runs), list[str](), 0
    for run, size in results.sizes(table).items():
        if run not in wanted:
            continue
        if chosen and (rows + size > _ROWS or len(chosen) >= _RUNS):
            yield results.samples_of(table, chosen)
            chosen, rows = [], 0
        chosen.append(run)
        rows += size
    if chosen:
        yield results.samples_of(table, chosen)


def without_traced(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Runs of ``Results.runs`` without those that were performed for the system's tracer alone.

    Nobody holds it against a campaign that those enter no verdict.
    """
    if runs.empty:
        return runs
    is_traced = runs["flags"].map(lambda flags: any(flag.code == "traced" for flag in flags)).astype(bool)
    return runs[~is_traced | runs["valid"].astype(bool)]


def without_valid_run(results: Results, cells: Iterable[Cell], *, of_those_run: bool = False) -> tuple[str, ...]:
    """Labels of the cells that have no valid run.

    Args:
        results: of the campaign.
        cells: the planned ones.
        of_those_run: leave out cells that have no run at all, as in a campaign that was interrupted; a search asks for
            some alone in any case.
    """
    of_those_run = of_those_run or results.experiment.search is not None
    runs = results.runs()
    ran = set(runs["cell_id"]) if len(runs) else set()
    valid = set(runs.loc[runs["valid"], "cell_id"]) if len(runs) else set()
    return tuple(c.label() for c in cells if c.cell_id not in valid and (c.cell_id in ran or not of_those_run))
