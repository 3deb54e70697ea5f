"""Does a background load disturb the measurement, and does it depend on where the load runs?"""

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from devicelab.analyses import _findings, _frames, _plot, _stats
from devicelab.analyses.base import Figure
from devicelab.model import glossary
from devicelab.model.experiment import Finding, Verdict
from devicelab.model.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MplFigure

# What is compared, in this order, as far as the workload gives it: name for people, unit of inference is the run.
_FIGURES = {"total_ns": "time of an inference", "t_prod_median_ns": "T_prod", "wall_ns": "run time"}
TOLERANCE = 0.02


def analyse(results: Results) -> tuple[Finding, ...]:
    """One finding for each load, placement and figure: its ratio to the same cell without load.

    "yes" means disturbed by more than 2%, "no" within 2%. P-values are adjusted (Benjamini-Hochberg) over all of them.
    """
    effects = table(results)
    simulated = _frames.simulated(results)
    lost = _lost(results)
    return tuple(
        _findings.make(
            "placement",
            f"Does {row['label']} change the {row['figure']}?",
            row["verdict"],
            _findings.interval(row),
            unit=glossary.times("idle"),
            reasons=(
                _medians(row),
                *lost.get((row["load"], row["placement"]), ()),
            ),
            simulated=simulated,
        )
        for row in effects.to_dict("records")
    )


def _medians(row: Mapping[Any, Any]) -> str:
    divisor, unit = (1e6, "ms") if row["unit"] == "ns" else (1.0, row["unit"])
    return f"median {row['loaded'] / divisor:.4g} {unit} with the load, {row['idle'] / divisor:.4g} {unit} without"


def table(results: Results) -> pd.DataFrame:
    """One row for each load, placement, other levels and figure: ratio to idle with interval and verdict.

    Runs of one repetition that agree in everything else (K, policy) are compared pair by pair: they stand in one
    block of the shuffled order, which is one observation.
    """
    runs = _frames.valid_runs(results)
    if "load" not in runs.columns:
        return _empty()
    names = [name for name in ("load", "placement", "cpu", "gpu") if name in runs.columns]
    within = ["repetition", *(name for name in _frames.factors(runs) if name not in names)]
    cells = _frames.grouped(runs, names)
    varying = _frames.varying(results.runs())
    rows = []
    for metric, words in _FIGURES.items():
        values = _frames.metric(results, metric)
        if values.empty:
            continue
        unit = _frames.unit_of(results, metric)
        for key, part in cells.items():
            levels = dict(zip(names, key, strict=True))
            base = {**levels, "load": "none", **({"placement": "-"} if "placement" in levels else {})}
            idle = cells.get(tuple(base[name] for name in names))
            if levels["load"] in {"none", "-"} or idle is None:
                continue
            loaded_by, idle_by = _by(part, within, values), _by(idle, within, values)
            pairs = pd.concat([idle_by, loaded_by], axis=1, join="inner").dropna()
            blocks = np.array([key[0] for key in pairs.index])
            got = _stats.blocked_ratio(pairs.iloc[:, 0], pairs.iloc[:, 1], blocks)
            rows.append(
                {
                    "label": _frames.label(
                        levels, only=[n for n in names if n in {"load", "placement"} or n in varying]
                    ),
                    "load": levels["load"],
                    "placement": levels.get("placement", "-"),
                    "figure": words,
                    "unit": unit,
                    "idle": float(idle_by.median()),
                    "loaded": float(loaded_by.median()),
                    "estimate": got.estimate,
                    "low": math.nan if got.low is None else got.low,
                    "high": math.nan if got.high is None else got.high,
                    "n": got.n,
                    "p": 1.0 if got.p is None else got.p,
                }
            )
    if not rows:
        return _empty()
    frame = pd.DataFrame(rows)
    adjusted = _stats.benjamini_hochberg(frame["p"])
    verdicts: list[Verdict] = [
        _stats.differs(_findings.interval(row), TOLERANCE, p)
        for row, p in zip(frame.to_dict("records"), adjusted, strict=True)
    ]
    return frame.assign(p_adjusted=adjusted, verdict=verdicts)


def figures(results: Results) -> tuple[Figure, ...]:
    """The ratios to idle, one figure a measured quantity."""
    effects = table(results)
    drawn = []
    for name, part in effects.groupby("figure", sort=False):
        words, rows = str(name), part.reset_index(drop=True)
        caption = (
            f"{words[0].upper()}{words[1:]} with the load over the same without it, run by run within a block; "
            f"Hodges-Lehmann estimate with 95% interval, {_plot.counted([int(n) for n in rows['n']])} repetitions. "
            "The band is ± 2%."
        )
        title = f"What each load and placement does to the {words}"
        drawn.append(
            Figure(
                _plot.name_of("disturbance", words),
                title,
                caption,
                rows,
                partial(_draw, rows=rows),
            )
        )
    return tuple(drawn)


def _draw(figure: "MplFigure", rows: pd.DataFrame) -> None:
    axes = _plot.tall(figure, len(rows))
    axes.axvspan(1 - TOLERANCE, 1 + TOLERANCE, color=_plot.SHADE, linewidth=0)
    axes.axvline(1, color=_plot.GREY, linewidth=0.8)
    _plot.dots(axes, rows)
    axes.set_xlabel("times that without the load", fontsize=9)


def _lost(results: Results) -> dict[tuple[str, str], tuple[str, ...]]:
    """Runs that do not count, by load and placement."""
    runs = results.runs()
    if "load" not in runs.columns:
        return {}
    by = [name for name in ("load", "placement") if name in runs.columns]
    lost = {}
    for key, part in _frames.grouped(runs, by).items():
        bad = part[~part["valid"].astype(bool)]
        codes = sorted({flag.code for flags in bad["flags"] for flag in flags})
        if len(bad):
            lost[(*key, "-")[:2]] = (f"{len(bad)} of {len(part)} runs are invalid: {', '.join(codes)}",)
    return {(key[0], key[1]): reasons for key, reasons in lost.items()}


def _by(part: pd.DataFrame, within: list[str], values: "pd.Series[float]") -> "pd.Series[float]":
    """A figure by repetition and the levels that do not make the condition (K, policy), so that like meets like."""
    keys = pd.Series(list(zip(*(part[name].map(_frames.level_text) for name in within), strict=True)), index=part.index)
    figures = part["run_id"].map(values).astype("float64").set_axis(keys)
    return figures[~figures.index.duplicated()]


def _empty() -> pd.DataFrame:
    return pd.DataFrame(columns=["label", "load", "placement", "figure", "estimate", "low", "high", "n", "verdict"])
