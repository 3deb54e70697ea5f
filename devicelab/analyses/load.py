"""What the background loads did: CPU use with each, compared with what the labs noted, and whether they ran."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from devicelab.analyses import _findings, _frames, _plot, _stats
from devicelab.analyses.base import Figure
from devicelab.model.experiment import Finding
from devicelab.model.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MplFigure

_KNOWN: WeakKeyDictionary[Results, pd.DataFrame] = WeakKeyDictionary()
_BY = ("load", "placement", "cpu")


def analyse(results: Results) -> tuple[Finding, ...]:
    """CPU use for each load, placement and CPU clock, then one verdict on whether every load ran and ended."""
    uses = table(results)
    simulated = _frames.simulated(results)
    findings = [
        _findings.make(
            "load",
            f"CPU use, whole device: {row['label']}",
            "info" if row["n"] else "insufficient n",
            _findings.interval(row),
            unit="%",
            reasons=_reasons(row, str(results.info.get("board_title") or results.info.get("board", ""))),
            simulated=simulated,
        )
        for row in uses.to_dict("records")
    ]
    ran = _ran(results)
    return (*findings, ran.model_copy(update={"simulated": simulated})) if ran else tuple(findings)


def table(results: Results) -> pd.DataFrame:
    """One row for each load, placement and CPU clock: CPU use with interval, the load's own cores, the noted figure.

    Columns ``label load placement cpu estimate low high n idle_pct cores processes reference``; percentages are of
    the whole device (all online CPUs), ``cores`` is the CPU time of the load's processes over the time observed.
    Computed once for each results object.
    """
    if (known := _KNOWN.get(results)) is None:
        known = _KNOWN[results] = _table(results)
    return known.copy()


def _table(results: Results) -> pd.DataFrame:
    runs = _frames.valid_runs(results)
    use = pd.DataFrame([_of_run(results.evidence(run)) for run in runs["run_id"]], index=runs.index)
    noted = results.info.get("reference", {}).get("load_cpu_pct", {})
    by = [name for name in _BY if name in runs.columns]
    rows: list[dict[str, Any]] = []
    for key, part in _frames.grouped(runs, by).items():
        levels = dict(zip(by, key, strict=True))
        figures = use.loc[part.index]
        # Cells that differ in K stand in one block; together they give one figure a repetition.
        got = _stats.median_interval(_stats.per_repetition(figures["use_pct"], part["repetition"]))
        rows.append(
            {
                "label": _frames.label(levels),
                **{name: levels.get(name, "-") for name in _BY},
                "estimate": got.estimate,
                "low": got.low,
                "high": got.high,
                "n": got.n,
                "cores": float(figures["cores"].median()),
                "processes": int(figures["processes"].max()),
                "reference": noted.get(levels.get("load", ""), np.nan),
            }
        )
    frame = pd.DataFrame(
        rows, columns=["label", *_BY, "estimate", "low", "high", "n", "cores", "processes", "reference"]
    )
    return frame.astype({"estimate": float, "low": float, "high": float, "reference": float})


def figures(results: Results) -> tuple[Figure, ...]:
    """CPU use for each load."""
    uses = table(results)
    if uses["estimate"].notna().sum() == 0:
        return ()

    def draw(figure: "MplFigure") -> None:
        axes = _plot.tall(figure, len(uses))
        _plot.dots(axes, uses)
        y = np.arange(len(uses))[::-1]
        noted = uses["reference"].notna().to_numpy()
        if noted.any():
            ink = _plot.PALETTE[1]
            axes.plot(uses["reference"][noted], y[noted], "D", mfc="none", mec=ink, ms=9, label="noted by the lab")
            axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))
        axes.set_xlim(0, 100)
        axes.set_xlabel("CPU use, % of the whole device", fontsize=9)

    caption = (
        "CPU use of the whole device while the load ran, percent of the time of all online CPUs; median over "
        f"repetitions with 95% interval, {_plot.counted([int(n) for n in uses['n']])} repetitions. Open circles: too "
        "few for an interval."
    )
    return (Figure("cpu-use-per-load", "CPU use with each load", caption, uses, draw),)


def _of_run(record: Mapping[str, Any]) -> dict[str, float]:
    window_ns = record.get("window_end_ns", 0) - record.get("window_start_ns", 0)
    loads = [program for program in record.get("programs", ()) if program.get("role") == "load"]
    cpu_ns = sum(program.get("window_cpu_ns", 0) for program in loads)
    return {
        "use_pct": _frames.cpu_use(record),
        "cores": cpu_ns / window_ns if window_ns > 0 else np.nan,
        "processes": float(len(loads)),
    }


def _reasons(row: Mapping[Any, Any], board: str) -> tuple[str, ...]:
    reasons = []
    if row["processes"]:
        reasons.append(f"{row['processes']} processes used {row['cores']:.2f} cores")
    if np.isfinite(row["reference"]) and np.isfinite(row["estimate"]):
        away = row["estimate"] - row["reference"]
        reasons.append(f"the lab noted {row['reference']:g}% on {board or 'this board'}: {away:+.1f} points from it")
    if not row["n"]:
        reasons.append("no valid run has CPU samples")
    return tuple(reasons)


_LOAD_FLAGS = ("load-not-running", "load-died", "load-left-behind", "affinity-refused", "affinity-changed")


def _ran(results: Results) -> Finding | None:
    """Whether every load ran where it was meant to and ended; over all runs, the invalid ones too."""
    runs = results.runs()
    if "load" not in runs.columns:
        return None
    loaded = runs[~runs["load"].map(_frames.level_text).isin(["none", "-"])]
    if loaded.empty:
        return None
    flags = [{flag.code for flag in flags} for flags in loaded["flags"]]
    counts = {code: sum(code in codes for codes in flags) for code in _LOAD_FLAGS}
    bad = sum(bool(codes & set(_LOAD_FLAGS)) for codes in flags)
    return Finding(
        analysis="load",
        claim="Every load ran where it was placed, for the whole run, and ended",
        verdict="pass" if bad == 0 else "fail",
        estimate=100.0 * (len(loaded) - bad) / len(loaded),
        unit="%",
        n=len(loaded),
        reasons=tuple(f"{count} of {len(loaded)} runs: {code}" for code, count in counts.items() if count)
        or (f"{len(loaded)} runs with a load, none flagged",),
    )
