"""What happened in one run of each cell: phases, clocks, CPU use, temperatures and power over one time axis."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from devicelab.analyses import _plot
from devicelab.analyses.base import Figure
from devicelab.experiment.conditions import cpu_order
from devicelab.experiment.timeline import pins_lost, series, spans
from devicelab.model.results import Results
from devicelab.report import frames

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MplFigure

MOST = 8
"""Cells that are drawn; a page with more could not be opened on a phone, and `devicelab trace` has every run."""

_PHASES = {"idle": "#dfe8f3", "gates": "#f3ead0", "settle": "#ececec", "measure": "#d5ecd9"}
_MAX_LINES = 8
_LOST = "#f6c9b8"


def drawn_runs(results: Results) -> tuple[str, ...]:
    """Ids of the runs that are drawn, one of each of the first ``MOST`` cells."""
    return tuple(str(run["run_id"]) for run in _drawn(results))


def _drawn(results: Results) -> tuple[Mapping[Any, Any], ...]:
    runs = results.runs()
    if runs.empty:
        return ()
    return tuple(_typical(runs[runs["cell_id"] == cell_id]) for cell_id in frames.cell_order(results, runs)[:MOST])


def timelines(results: Results) -> tuple[Figure, ...]:
    """One figure a cell: its first run in which a treatment did not hold, else the one of median length."""
    runs = results.runs()
    if runs.empty:
        return ()
    labels = dict(zip(runs["cell_id"], frames.group_labels(runs, frames.varied(results)), strict=True))
    figures = []
    for number, run in enumerate(_drawn(results), 1):
        record = results.evidence(str(run["run_id"]))
        table = _table(record)
        if table.empty:
            continue
        lost = pins_lost(record)
        why = "; ".join(f"{flag.code}: {flag.detail}" for flag in run["flags"])
        caption = (
            f"Run {run['run_id']} (repetition {run['repetition']}, {'valid' if run['valid'] else 'invalid'}"
            f"{f': {why}' if why else ''}). Seconds from its start; shaded: what the agent did."
            + (" Red: a CPU clock was not where it was pinned." if len(lost) else "")
        )
        draw = partial(_draw, record=record, table=table, lost=lost)
        figures.append(Figure(f"run-{number}", labels[run["cell_id"]], caption, table, draw))
    return tuple(figures)


def _typical(runs: pd.DataFrame) -> Mapping[Any, Any]:
    only_traced = runs["flags"].map(lambda flags: {flag.code for flag in flags} == {"traced"}).astype(bool)
    runs = runs[~only_traced] if not only_traced.all() else runs
    invalid = runs[~runs["valid"]]
    if len(invalid):
        return dict(invalid.iloc[0])
    return dict(runs.sort_values("duration_ns").iloc[(len(runs) - 1) // 2])


def _table(record: Mapping[str, Any]) -> pd.DataFrame:
    """What was sampled, in seconds from the run's start."""
    rows = series(record)
    rows.insert(0, "s", (rows["t_ns"] - int(record["t_start_ns"])) / 1e9)
    return rows.drop(columns="t_ns")


def _draw(figure: "MplFigure", record: Mapping[str, Any], table: pd.DataFrame, lost: pd.DataFrame) -> None:
    start = int(record["t_start_ns"])
    happened = spans(record)
    panels: list[Callable[[Axes], None]] = [partial(_spans, rows=happened, start=start)]
    clocks = table[table["quantity"].isin(["cpu clock", "gpu clock"])].assign(value=lambda rows: rows["value"] / 1e6)
    for rows, unit in (
        (clocks, "GHz"),
        (_of(table, "cpu use"), "CPU, %"),
        (_of(table, "temperature"), "°C"),
        (_of(table, "power"), "W"),
    ):
        if len(rows):
            panels.append(partial(_lines, rows=rows, unit=unit))
    heights = [max(0.5, 0.16 * happened["lane"].nunique()), *([1.15] * (len(panels) - 1))]
    high = sum(heights) + 0.2 * len(heights) + 0.5
    figure.set_size_inches(7.2, high)
    figure.set_layout_engine("none")
    # Fixed margins: there are many of these figures, and a layout that is computed takes longer than the drawing.
    margins = {"left": 0.14, "right": 0.86, "top": 1 - 0.08 / high, "bottom": 0.45 / high, "hspace": 0.25}
    grid = figure.subplots(
        len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights, **margins}
    )
    all_axes = np.ravel(grid)
    end_s = (int(record["t_end_ns"]) - start) / 1e9
    for axes, panel in zip(all_axes, panels, strict=True):
        panel(axes)
        _plot.clean(axes)
        axes.set_xlim(0, max(end_s, 1e-3))
    agent = happened[happened["lane"] == "agent"]
    for name, begin, end in zip(agent["name"], agent["start_ns"].tolist(), agent["end_ns"].tolist(), strict=True):
        for axes in all_axes[1:] if name in _PHASES else ():
            axes.axvspan((begin - start) / 1e9, (end - start) / 1e9, color=_PHASES[name], lw=0, zorder=0)
    for begin, end in _bands(lost):
        for axes in all_axes[1:]:
            axes.axvspan((begin - start) / 1e9, (end - start) / 1e9, color=_LOST, lw=0, zorder=0.5)
    all_axes[-1].set_xlabel("seconds from the start of the run", fontsize=8)
    all_axes[-1].xaxis.set_label_coords(0.5, -0.25 / heights[-1])


def _of(table: pd.DataFrame, quantity: str) -> pd.DataFrame:
    return table[table["quantity"] == quantity]


def _bands(lost: pd.DataFrame) -> Iterator[tuple[int, int]]:
    """Times of all policies together, joined where they meet."""
    begun: tuple[int, int] | None = None
    for start, end in sorted(zip(lost["start_ns"], lost["end_ns"], strict=True)):
        if begun is not None and start <= begun[1]:
            begun = begun[0], max(begun[1], end)
            continue
        if begun is not None:
            yield begun
        begun = int(start), int(end)
    if begun is not None:
        yield begun


def _spans(axes: "Axes", rows: pd.DataFrame, start: int) -> None:
    """Programs above, the agent's phases below; each phase that is long enough has its name."""
    lanes = list(dict.fromkeys(rows["lane"]))
    whole = max(1, int(rows["end_ns"].max()) - start)
    for place, lane in enumerate(lanes):
        part = rows[rows["lane"] == lane]
        part = part.iloc[1:] if lane == "agent" else part  # the run's own span is the axis
        times = zip(part["name"], part["start_ns"].tolist(), part["end_ns"].tolist(), strict=True)
        for number, (name, begin_ns, end_ns) in enumerate(times):
            begin, length = (begin_ns - start) / 1e9, (end_ns - begin_ns) / 1e9
            ink = _PHASES.get(name, "#f4f4f4") if lane == "agent" else _plot.colour(number + place)
            axes.broken_barh([(begin, length)], (place - 0.4, 0.8), facecolors=ink, edgecolor="white", linewidth=0.5)
            if lane == "agent" and length * 1e9 > 0.012 * whole * len(name):
                axes.text(begin + length / 2, place, name, ha="center", va="center", fontsize=6.5)
    axes.set_yticks(range(len(lanes)), [lane.partition(" ")[2][:18] or lane for lane in lanes], fontsize=7)
    axes.set_ylim(-0.6, len(lanes) - 0.4)
    axes.invert_yaxis()


def _lines(axes: "Axes", rows: pd.DataFrame, unit: str) -> None:
    names = cpu_order(rows["name"].unique())
    shown: Sequence[str] = names
    if len(names) > _MAX_LINES:  # those that say most, as wholes or as the widest ranges
        spread = rows.groupby("name")["value"].agg(lambda values: values.max())
        shown = cpu_order(spread.nlargest(_MAX_LINES).index)
    for number, name in enumerate(shown):
        part = rows[rows["name"] == name]
        style = _plot.STYLES[(number // len(_plot.PALETTE)) % len(_plot.STYLES)]
        label = name.replace("thermal_zone", "zone ")
        axes.plot(part["s"], part["value"], color=_plot.colour(number), linestyle=style, linewidth=1.1, label=label)
    left_out = f"\n{len(shown)} of {len(names)}" if len(shown) < len(names) else ""
    axes.set_ylabel(unit + left_out, fontsize=8)
    axes.yaxis.set_label_coords(-0.095, 0.5)
    axes.set_ylim(bottom=0 if unit != "°C" else None)
    axes.legend(frameon=False, fontsize=6.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
