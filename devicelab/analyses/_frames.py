"""What several analyses ask of a campaign: its valid runs, a figure of each run, levels and their labels."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from devicelab.experiment import evidence
from devicelab.experiment.conditions import cpu_use_pct
from devicelab.experiment.evidence import CPU_CLOCK, GPU_CLOCK
from devicelab.model.journal import Samples
from devicelab.model.results import Results

_NO_FACTORS = frozenset(
    ("run_id", "cell_id", "cell", "repetition", "seq", "valid", "flags", "t_unix_ns", "duration_ns", "status")
)
WORDS = {
    "load": "load",
    "placement": "placement",
    "cpu": "CPU clock",
    "gpu": "GPU clock",
    "network": "network",
    "measured_on": "on",
}


def valid_runs(results: Results) -> pd.DataFrame:
    """The runs whose treatment held, in the order they were performed."""
    runs = results.runs()
    return runs[runs["valid"].astype(bool)].reset_index(drop=True)


def factors(runs: pd.DataFrame) -> tuple[str, ...]:
    """Names of the level columns of a frame of runs."""
    return tuple(name for name in runs.columns if name not in _NO_FACTORS)


def varying(runs: pd.DataFrame) -> frozenset[str]:
    """Factors with more than one level among the runs."""
    return frozenset(name for name in factors(runs) if len(set(runs[name].map(level_text))) > 1)


def level_text(level: object) -> str:
    """A level for people and for grouping; a level that does not apply (placement without a load) is "-"."""
    missing = level is None or (isinstance(level, float) and np.isnan(level))
    if missing:
        return "-"
    return str(int(level)) if isinstance(level, float) and level.is_integer() else str(level)


def grouped(runs: pd.DataFrame, by: Iterable[str]) -> dict[tuple[str, ...], pd.DataFrame]:
    """Runs by the texts of the levels of ``by``, sorted by level: none first, then numbers by size, then words."""
    names = list(by)
    if not names:
        return {(): runs} if len(runs) else {}
    rows: dict[tuple[str, ...], list[int]] = {}
    for row, key in enumerate(zip(*(runs[name].map(level_text) for name in names), strict=True)):
        rows.setdefault(key, []).append(row)
    return {key: runs.iloc[rows[key]] for key in sorted(rows, key=lambda key: [_order(text) for text in key])}


def rank(level: object) -> tuple[int, float, str]:
    """A level for sorting: none first, then numbers by size, then words."""
    return _order(level_text(level))


def _order(text: str) -> tuple[int, float, str]:
    if text in {"-", "none"}:
        return (0, 0.0, text)
    try:
        return (1, float(text), "")
    except ValueError:
        return (2, 0.0, text)


def label(levels: Mapping[str, str], *, only: Iterable[str] | None = None) -> str:
    """Levels for people: ``idle`` or ``load 1000 5000 20 one-per-core, CPU clock min``."""
    shown = {name: text for name, text in levels.items() if only is None or name in only}
    parts = []
    load = shown.pop("load", None)
    placement = shown.pop("placement", "-")
    if load is not None:
        parts.append(
            "idle" if load in {"none", "-"} else f"load {load}" + (f" {placement}" if placement != "-" else "")
        )
    elif placement != "-":
        parts.append(f"placement {placement}")
    parts += [_level(name, text) for name, text in shown.items() if text != "-"]
    return ", ".join(parts) or "all runs"


def _level(name: str, text: str) -> str:
    if name == "k":
        return "one flush" if text == "0" else f"K = {text}"
    return f"{WORDS.get(name, name)} {text}"


def metric(results: Results, name: str) -> "pd.Series[float]":
    """A figure of each run by ``run_id``: ``name`` of whichever program has it, or ``PROGRAM.name``.

    Empty if no run has it. Where several programs of a run have it, the first counts; name the program to choose.
    """
    frame = results.metrics()
    program, _, short = name.rpartition(".")
    rows = frame[frame["metric"] == short]
    if program:
        rows = rows[rows["program"] == program]
    values = rows.drop_duplicates("run_id").set_index("run_id")["value"].astype("float64")
    return values[np.isfinite(values)]


def by_cell(runs: pd.DataFrame, values: "pd.Series[float]") -> dict[str, dict[int, float]]:
    """Cell id → repetition → the run's value, of those runs that have a finite one."""
    cells: dict[str, dict[int, float]] = {}
    for run, cell, repetition in zip(runs["run_id"], runs["cell_id"], runs["repetition"], strict=True):
        if np.isfinite(value := float(values.get(run, np.nan))):
            cells.setdefault(str(cell), {})[int(repetition)] = value
    return cells


def unit_of(results: Results, name: str) -> str:
    """The unit of a metric, "1" if no run has it."""
    frame = results.metrics()
    program, _, short = name.rpartition(".")
    rows = frame[(frame["metric"] == short) & ((frame["program"] == program) if program else True)]
    return str(rows["unit"].iloc[0]) if len(rows) else "1"


def programs_of(results: Results, name: str) -> tuple[str, ...]:
    """Programs that have a metric."""
    frame = results.metrics()
    return tuple(sorted(frame.loc[frame["metric"] == name, "program"].unique()))


def cpu_use(record: Mapping[str, Any]) -> float:
    """CPU use of a run's observed window, percent of the whole device, from its journal record; NaN if unknown."""
    try:
        samples = Samples.model_validate(record.get("samples") or {})
    except ValidationError:
        return np.nan
    return cpu_use_pct(samples).get("all", np.nan)


def cpu_uses(results: Results, runs: pd.DataFrame) -> "pd.Series[float]":
    """``cpu_use`` of each of the runs, by ``run_id``."""
    return pd.Series({run: cpu_use(results.evidence(run)) for run in runs["run_id"]}, dtype="float64")


def simulated(results: Results) -> bool:
    """Whether an emulated part or a virtual board had a share in the results."""
    return bool(results.info.get("simulated", False))


_CLOCKS = {"cpu": CPU_CLOCK, "gpu": GPU_CLOCK}


def clocks(record: Mapping[str, Any], word: str) -> dict[str, float]:
    """Median clock during a run by node, as sampled: ``cpu`` (kHz, a node a policy) or ``gpu`` (the node's unit)."""
    nodes = (record.get("samples") or {}).get("nodes") or {}
    return evidence.clocks(nodes, _CLOCKS[word])
