"""Launch costs at each condition, and whether they depend on the clocks: is one launch cost table enough for a board?

``measure``, ``save``, ``load`` and ``require_fits`` handle tables as files, with provenance and age.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from devicelab.analyses import _findings, _frames, _plot, _stats
from devicelab.analyses.base import Figure
from devicelab.analyses.klo import data as klo_data
from devicelab.analyses.klo.common import unfit
from devicelab.analyses.klo.condition import Condition
from devicelab.analyses.klo.data import KloData
from devicelab.analyses.klo.model.fit import NAMES
from devicelab.analyses.lut import table as lut_table
from devicelab.analyses.lut.table import Entry, LaunchTable, load, require_fits, save
from devicelab.model import glossary
from devicelab.model.experiment import Finding
from devicelab.model.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MplFigure

__all__ = ["Entry", "LaunchTable", "analyse", "figures", "load", "measure", "require_fits", "save", "table"]

# Fitted costs closer than this are the same: it is what a fit from noisy runs recovers of a known truth.
TOLERANCE = 0.05
GROWTH = "what each kernel of a batch adds to its flush"
_WORDS = {"flush_ns": "cost of a flush", "start_idle_ns": "start on an idle GPU", "gap_ns": "gap between batches"}


def measure(results: Results) -> LaunchTable:
    """The launch cost table of a campaign.

    Raises:
        ConfigError: no condition has kernel timestamps.
    """
    return lut_table.measure(results, klo_data.load(results))


def analyse(results: Results) -> tuple[Finding, ...]:
    """Each cost under each condition, then whether it moves with the clocks."""
    data = klo_data.load(results)
    findings = [*_costs(data), *_moves(data)]
    if not findings:
        claim = "Launch costs"
        reason = "no kernel timestamps at several K"
        return (
            Finding(analysis="lut", claim=claim, verdict="insufficient n", reasons=(reason,), simulated=data.simulated),
        )
    return tuple(finding.model_copy(update={"simulated": data.simulated}) for finding in findings)


def table(data: KloData) -> pd.DataFrame:
    """Rows of costs: ``label cost estimate low high n identified residual_pct unfit``, times in µs."""
    rows = []
    for condition in data.conditions:
        if condition.profile is None:
            continue
        fit = condition.profile.fit
        for name in NAMES:
            low, high = fit.intervals[name] or (np.nan, np.nan)
            rows.append(
                {
                    "label": condition.label,
                    "cost": _WORDS[name],
                    "estimate": getattr(fit.costs, name) / 1e3,
                    "low": low / 1e3,
                    "high": high / 1e3,
                    "n": fit.n,
                    "identified": fit.identified[name],
                    "residual_pct": fit.residual_pct,
                    "unfit": unfit(condition) if condition.unfit else "",
                }
            )
        if fit.costs.flush_per_kernel_ns > 0:
            growth = fit.growth.map(lambda ns: ns / 1e3)
            rows.append(
                {
                    **rows[-1],
                    "cost": GROWTH,
                    "estimate": growth.estimate,
                    "low": growth.low,
                    "high": growth.high,
                    "identified": True,
                }
            )
    columns = ["label", "cost", "estimate", "low", "high", "n", "identified", "residual_pct", "unfit"]
    return pd.DataFrame(rows, columns=columns)


def figures(results: Results) -> tuple[Figure, ...]:
    """The costs under each condition."""
    rows = table(klo_data.load(results))
    rows = rows[rows["cost"] != GROWTH].reset_index(drop=True)
    if rows.empty:
        return ()
    caption = (
        "Launch costs fitted from kernel timestamps, in µs, with 95% intervals over repetitions, "
        f"{_plot.counted([int(n) for n in rows['n']])} repetitions. Open circles: no interval, or an upper bound only."
    )
    return (Figure("launch-costs", "Launch costs", caption, rows, partial(_draw, rows=rows)),)


def _draw(figure: "MplFigure", rows: pd.DataFrame) -> None:
    parts = dict(iter(rows.groupby("cost", sort=False)))
    labels = len(rows) // len(parts)
    figure.set_size_inches(7.5, 1.2 + 0.28 * max(labels, 2))
    figure.set_layout_engine("constrained")
    for axes, (cost, part) in zip(figure.subplots(1, len(parts), sharey=True), parts.items(), strict=True):
        _plot.dots(axes, part.reset_index(drop=True))
        axes.set_xlim(left=0)
        _plot.title(axes, str(cost), 18)
    figure.supxlabel("µs", fontsize=9)


def _costs(data: KloData) -> Iterator[Finding]:
    for row in table(data).to_dict("records"):
        reasons = [f"median residual of the fit {row['residual_pct']:.1f}%"]
        if not row["identified"]:
            reasons.insert(0, "the runs cannot tell it: an upper bound; run more K")
        if row["unfit"]:
            reasons.insert(0, row["unfit"])
        yield _findings.make(
            "lut",
            f"{row['cost'][0].upper()}{row['cost'][1:]} ({row['label']})",
            "info" if row["identified"] and not row["unfit"] else "inconclusive",
            _findings.interval(row),
            unit="µs",
            reasons=reasons,
        )


def _moves(data: KloData) -> Iterator[Finding]:
    for word in ("cpu", "gpu", "load"):
        if not any(word in condition.levels for condition in data.conditions):
            continue
        words = ("load", "placement") if word == "load" else (word,)
        for group in data.along(words):
            base = next((one for one in group if one.levels[word] in {"max", "none"}), group[-1])
            for other in group:
                if other is not base:
                    yield from _moved(base, other, words, data.rest(other, words))


def _moved(base: Condition, other: Condition, words: tuple[str, ...], where: str) -> Iterator[Finding]:
    if base.profile is None or other.profile is None:
        return
    before, after = base.profile.fit, other.profile.fit
    here, there = (_frames.label({w: one.levels.get(w, "-") for w in words}) for one in (other, base))
    both = sorted(set(before.repetitions) & set(after.repetitions))
    one, two = ([fit.repetitions.index(number) for number in both] for fit in (before, after))
    poor = tuple(unfit(condition) for condition in (base, other) if condition.unfit)
    for index, name in enumerate(NAMES):
        first, second = getattr(before.costs, name), getattr(after.costs, name)
        if not (before.identified[name] and after.identified[name]) or first <= 0:
            continue
        effect = _stats.paired_ratio(before.by_repetition[one, index], after.by_repetition[two, index])
        yield _findings.make(
            "lut",
            f"Does the {_WORDS[name]} differ at {here} from {there}?{where}",
            "inconclusive" if poor else _stats.differs(effect, TOLERANCE),
            effect,
            unit=glossary.times(there),
            reasons=(f"{second / 1e3:.1f} µs instead of {first / 1e3:.1f} µs", *poor),
        )
