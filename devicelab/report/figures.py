"""Figures every report has: CPU use per load and per core, distributions of latency and T_prod per cell."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from devicelab.analyses import _frames, _plot
from devicelab.analyses.base import Figure
from devicelab.experiment.conditions import RunConditions, cpu_order
from devicelab.model.glossary import figure_words
from devicelab.model.results import Results
from devicelab.report import frames
from devicelab.report.frames import Distribution
from devicelab.report.labels import apart
from devicelab.report.units import number, scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MplFigure

_ROW_IN = 0.24
_LETTER_IN = 0.063  # of a label, with its share of wide and narrow ones
_MAX_ROWS = 100
_MAX_PANELS = 12
_MAX_CURVES = 8
_CURVE_POINTS = 100
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A2E", "#7A5C99")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (3, 1, 1, 1)))
# Beyond this ratio of the largest to the smallest quantile a linear axis would show one bar and many dots.
_LOG_BEYOND = 20.0


def built_in(results: Results, conditions: Mapping[str, RunConditions]) -> tuple[Figure, ...]:
    """The figures for which there is data; only valid runs are drawn."""
    runs = results.runs()
    valid = runs[runs["valid"]]
    if valid.empty:
        return ()
    where = _where(results, len(valid), len(runs) - len(valid))
    made = [*_cpu_use(results, valid, conditions, where)]
    distributions = frames.distributions(results)
    for distribution in distributions:
        made.append(_strips(results, valid, distribution, where))
        curves = _curves(results, valid, distribution, where)
        made += [curves] if curves else []
    if not distributions:
        made += _metric_strips(results, valid, where)
    return tuple(made)


def _where(results: Results, valid: int, invalid: int) -> str:
    info = results.info
    left_out = f" ({invalid} invalid left out)" if invalid else ""
    simulated = "; simulated" if info.get("simulated") else ""
    held = _frames.label({name: _frames.level_text(level) for name, level in results.experiment.set.items()})
    fixed = f"; {held}" if results.experiment.set else ""
    return f"{valid} valid runs{left_out} on {info.get('device', '')}{fixed}{simulated}."


# --- CPU use ---------------------------------------------------------------------------------------------------------


def _cpu_use(
    results: Results, valid: pd.DataFrame, conditions: Mapping[str, RunConditions], where: str
) -> tuple[Figure, ...]:
    names = [name for name in ("load", "placement") if name in valid.columns] or frames.varied(results)
    groups = frames.group_labels(valid, names)
    rows = [
        (group, run_id, cpu, use)
        for group, run_id in zip(groups, valid["run_id"], strict=True)
        if run_id in conditions
        for cpu, use in conditions[run_id].cpu_pct.items()
    ]
    data = pd.DataFrame(rows, columns=["condition", "run_id", "cpu", "cpu_pct"])
    order = _order(results, valid, groups)
    order = [group for group in order if group in set(data["condition"])][:_MAX_ROWS]
    if not order:
        return ()
    whole = data[data["cpu"] == "all"].drop(columns="cpu").reset_index(drop=True)
    cores = data[data["cpu"] != "all"].reset_index(drop=True)
    median = cores.groupby(["condition", "cpu"], sort=False)["cpu_pct"].median().unstack()  # noqa: PD010
    median = median.loc[order, cpu_order(median.columns)]
    return (
        Figure(
            "cpu-use-per-load",
            "CPU use of the whole device",
            f"One dot a run, the bar is the median; percent of the time of all online CPUs, from /proc/stat. {where}",
            whole,
            partial(_draw_dots, data=whole, order=order, column="cpu_pct", by="condition", axis="CPU use in %"),
        ),
        Figure(
            "cpu-use-per-core",
            "CPU use of each core",
            f"Median over the runs in percent of the core's time; empty: the core was offline. {where}",
            median.reset_index(),
            partial(_draw_heat, table=median),
        ),
    )


def _draw_dots(
    canvas: "MplFigure", *, data: pd.DataFrame, order: Sequence[str], column: str, by: str, axis: str
) -> None:
    canvas.set_size_inches(7.0, 0.75 + _ROW_IN * len(order))
    axes = canvas.subplots()
    groups = [data.loc[data[by] == group, column].to_numpy() for group in order]
    # Dots of one row are spread a little, in their order, so that none hides another.
    heights = [row + (np.linspace(-0.18, 0.18, len(v)) if len(v) > 1 else np.zeros(1)) for row, v in enumerate(groups)]
    axes.plot(np.concatenate(groups), np.concatenate(heights), "o", color=_COLOURS[0], alpha=0.55, markeredgewidth=0)
    rows = np.arange(len(order))
    axes.vlines([np.median(values) for values in groups], rows - 0.34, rows + 0.34, color=_COLOURS[1], linewidth=2)
    _rows(axes, order, axis)
    axes.set_xlim(left=0)
    _room(canvas, axes, order)


def _draw_heat(canvas: "MplFigure", *, table: pd.DataFrame) -> None:
    cpus, groups = list(table.columns), list(table.index)
    canvas.set_size_inches(7.0, 0.8 + _ROW_IN * max(2, len(groups)))
    axes = canvas.subplots()
    values = table.to_numpy(dtype=float)
    image = axes.imshow(values, aspect="auto", vmin=0, vmax=100)
    axes.grid(visible=False)
    axes.set_xticks(range(len(cpus)), cpus)
    if len(cpus) > 24:
        axes.set_xticks(range(0, len(cpus), 8), cpus[::8])
    axes.set_yticks(range(len(groups)), _short(groups))
    axes.set_xlabel("CPU")
    if len(cpus) <= 16:
        for row, column in np.ndindex(values.shape):
            value = values[row, column]
            if np.isfinite(value):
                colour = "#ffffff" if value < 55 else "#000000"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=7.5)
    canvas.colorbar(image, ax=axes, label="CPU use in %", pad=0.01)


# --- distributions ---------------------------------------------------------------------------------------------------


def _strips(results: Results, valid: pd.DataFrame, shown: Distribution, where: str) -> Figure:
    """One row a cell: quantiles of all samples, and the median of every run under them."""
    names = frames.varied(results)
    labels = dict(zip(valid["run_id"], frames.group_labels(valid, names), strict=True))
    runs_of: dict[str, list[str]] = {}
    for run in shown.samples:
        runs_of.setdefault(labels[run], []).append(run)
    order = [group for group in _order(results, valid, pd.Series(labels)) if group in runs_of]
    table = frames.quantiles({group: _pooled(shown, runs_of[group]) for group in order})
    per_run = {group: np.array([np.median(shown.samples[run]) for run in runs_of[group]]) for group in order}
    # As in the table of figures: every run counts once, whatever its number of samples.
    table["median"] = [float(np.median(per_run[group])) for group in table.index]
    table.insert(0, "runs", [len(per_run[group]) for group in table.index])
    cut = f" The first {_MAX_ROWS} of {len(order)} cells are drawn; the data has all." if len(order) > _MAX_ROWS else ""
    data = table.loc[order].rename_axis("cell").reset_index().assign(unit=shown.unit)
    return Figure(
        f"{shown.name}-by-cell",
        f"{shown.title}, by cell",
        "Thin line: 1st to 99th percentile of all samples; thick: the middle half; white dot and number: the median of "
        f"the runs' medians; ticks below: the median of each run. n is runs × samples a run. {shown.note} {where}{cut}",
        data,
        partial(_draw_strips, table=table, order=order[:_MAX_ROWS], per_run=per_run, shown=shown),
    )


def _draw_strips(
    canvas: "MplFigure",
    *,
    table: pd.DataFrame,
    order: Sequence[str],
    per_run: Mapping[str, Any],
    shown: Distribution,
) -> None:
    drawn = table.loc[list(order)]
    divisor, unit = scale(shown.unit, drawn["median"])
    canvas.set_size_inches(7.0, 0.8 + 1.15 * _ROW_IN * len(order))
    axes = canvas.subplots()
    ends = drawn[["p1", "p99"]].to_numpy() / divisor
    log = bool(ends[:, 0].min() > 0 and ends[:, 1].max() / ends[:, 0].min() > _LOG_BEYOND)
    if log:
        axes.set_xscale("log")
    rows = np.arange(len(order))
    q = drawn / divisor
    axes.hlines(rows, q["p1"], q["p99"], color=_COLOURS[0], linewidth=1)
    axes.hlines(rows, q["p25"], q["p75"], color=_COLOURS[0], linewidth=5)
    axes.plot(q["median"], rows, "o", color="#ffffff", markeredgecolor="#00395a", markersize=4.5, zorder=3)
    ticks = [per_run[group] / divisor for group in order]
    below = np.repeat(rows + 0.33, [len(values) for values in ticks])
    axes.plot(np.concatenate(ticks), below, "|", color=_COLOURS[1], markersize=5, markeredgewidth=1)
    runs, samples = drawn["runs"].to_numpy(), drawn["n"].to_numpy()
    counts = [
        f"{r} × {number(s / r)} · {number(m)} {unit}".rstrip()
        for r, s, m in zip(runs, samples, q["median"], strict=True)
    ]
    _rows(axes, order, f"{shown.title} in {unit}{' (log scale)' if log else ''}")
    _counts(axes, counts)
    _room(canvas, axes, order, counts)


def _curves(results: Results, valid: pd.DataFrame, shown: Distribution, where: str) -> Figure | None:
    """Cumulative distributions: a curve a load, a panel a combination of the other factors."""
    names = frames.varied(results)
    colour = "load" if "load" in names else next((n for n in names if len(set(valid[n].map(str))) <= _MAX_CURVES), None)
    if colour is None or len(set(valid[colour].map(str))) > _MAX_CURVES:
        return None
    # K says when to flush, not how a kernel is made: the caption says that T_prod is pooled over it.
    others = [name for name in names if name != colour and not (shown.name == "t-prod" and name == "k")]
    panels = _panels(results, valid, others)
    if len(panels) > _MAX_PANELS:
        return None
    curve_of = dict(zip(valid["run_id"], frames.group_labels(valid, [colour]), strict=True))
    curves = _order(results, valid, frames.group_labels(valid, [colour]))
    data = _curve_points(shown, curve_of, panels, curves)
    pooled = " Pooled over K." if shown.name == "t-prod" and "k" in names else ""
    return Figure(
        shown.name,
        f"{shown.title}: cumulative distribution",
        f"Share of samples at or below a value, from the smallest sample to the 99.9th percentile.{pooled} "
        f"{shown.note} {where}",
        data,
        partial(_draw_curves, data=data, order=list(panels), curves=curves, shown=shown),
    )


def _panels(results: Results, valid: pd.DataFrame, others: Sequence[str]) -> dict[str, set[str]]:
    """Label of a panel → its runs. A run that lacks a level (no placement without a load) stands in every panel."""
    if not others:
        return {"": set(valid["run_id"])}
    labels = frames.group_labels(valid, others)
    lacking = valid[list(others)].isna()
    whole = ~lacking.any(axis=1)
    if not whole.any():
        return {label: set(valid.loc[labels == label, "run_id"]) for label in _order(results, valid, labels)}
    panels: dict[str, set[str]] = {}
    for label in _order(results, valid[whole], labels[whole]):
        first = valid[labels == label].iloc[0]
        fits = pd.concat([lacking[name] | (valid[name] == first[name]) for name in others], axis=1).all(axis=1)
        panels[label] = set(valid.loc[fits, "run_id"])
    return panels


def _curve_points(
    shown: Distribution, curve_of: Mapping[str, str], panels: Mapping[str, set[str]], curves: Sequence[str]
) -> pd.DataFrame:
    share = np.append(np.linspace(0, 0.99, _CURVE_POINTS), [0.995, 0.999])
    rows = []
    for panel, runs in panels.items():
        found: dict[str, list[str]] = {}
        for run in shown.samples:
            if run in runs:
                found.setdefault(curve_of[run], []).append(run)
        for curve, chosen in found.items():
            values = _pooled(shown, chosen)
            points = np.quantile(values, share)
            rows.append(
                pd.DataFrame({"panel": panel, "curve": curve, "n": len(values), "share": share, "value": points})
            )
    rank = {curve: i for i, curve in enumerate(curves)}
    rows.sort(key=lambda frame: (list(panels).index(frame["panel"].iloc[0]), rank[frame["curve"].iloc[0]]))
    return pd.concat(rows, ignore_index=True).assign(unit=shown.unit)


def _pooled(shown: Distribution, runs: Sequence[str]) -> NDArray[np.float64]:
    return np.concatenate([shown.samples[run] for run in runs], dtype=np.float64)


def _draw_curves(
    canvas: "MplFigure", *, data: pd.DataFrame, order: Sequence[str], curves: Sequence[str], shown: Distribution
) -> None:
    columns = min(3, len(order))
    rows = -(-len(order) // columns)
    canvas.set_size_inches(7.0, 0.9 + (2.3 if columns == 1 else 1.75) * rows)
    grid = canvas.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    divisor, unit = scale(shown.unit, data.loc[data["share"].between(0.45, 0.55), "value"])
    low, high = data["value"].min(), data["value"].max()
    log = bool(low > 0 and high / low > _LOG_BEYOND)
    handles: dict[str, Any] = {}
    titles = apart(order)
    for axes, panel in zip(grid.flat, order, strict=False):
        part = data[data["panel"] == panel]
        for i, curve in enumerate(curves):
            line = part[part["curve"] == curve]
            if len(line):
                (handles[curve],) = axes.plot(
                    line["value"] / divisor, line["share"], color=_COLOURS[i % 8], linestyle=_DASHES[i % 8]
                )
        if panel:
            _plot.title(axes, titles[panel], 30)
        if log:
            axes.set_xscale("log")
        axes.set_ylim(0, 1)
    _plot.leave_out(grid, len(order))
    canvas.supxlabel(f"{shown.title} in {unit}{' (log scale)' if log else ''}", fontsize=9)
    canvas.supylabel("Share of samples", fontsize=9)
    shown_curves = [curve for curve in curves if curve in handles]
    canvas.legend(
        [handles[curve] for curve in shown_curves],
        _short(shown_curves),
        loc="outside upper left",
        ncols=min(4, len(curves)),
    )
    _plot.arrange(canvas, rows, columns)


def _metric_strips(results: Results, valid: pd.DataFrame, where: str) -> list[Figure]:
    """Without raw samples: each figure of the runs, one dot a run and a program that has it."""
    metrics = results.metrics()
    metrics = metrics[metrics["run_id"].isin(set(valid["run_id"]))]
    metrics = metrics.assign(program=frames.program_of(metrics["program"]))
    names = frames.varied(results)
    labels = dict(zip(valid["run_id"], frames.group_labels(valid, names), strict=True))
    order = _order(results, valid, pd.Series(labels))
    made = []
    for position, ((metric, unit), part) in enumerate(metrics.groupby(["metric", "unit"], sort=False)):
        divisor, shown_unit = scale(str(unit), part["value"])
        programs = list(dict.fromkeys(part["program"]))
        cells = part["run_id"].map(labels)
        data = pd.DataFrame({"cell": cells, "run_id": part["run_id"], "value": part["value"] / divisor})
        every = order
        if len(programs) > 1:  # the median of two programs together belongs to neither
            data["cell"] += " · " + part["program"]
            every = [f"{group} · {program}" for group in order for program in programs]
        data = data.dropna(subset="value").assign(program=part["program"], unit=shown_unit)
        rows = [group for group in every if group in set(data["cell"])][:_MAX_ROWS]
        if rows and position < 6:
            title = figure_words(str(metric), str(unit))
            axis = f"{title} in {shown_unit}" if shown_unit else title
            draw = partial(_draw_dots, data=data, order=rows, column="value", by="cell", axis=axis)
            caption = f"One dot a run and program, the bar is the median. {where}"
            made.append(Figure(f"metric-{position}", f"{title}, by cell", caption, data, draw))
    return made


# --- shared ----------------------------------------------------------------------------------------------------------


def _order(results: Results, valid: pd.DataFrame, groups: pd.Series) -> list[str]:
    """Groups in the order of the cells they belong to."""
    first = dict(zip(valid["cell_id"], groups, strict=True))
    return list(dict.fromkeys(first[cell] for cell in frames.cell_order(results, valid)))


def _short(labels: Sequence[str], most: int = 48) -> list[str]:
    """Labels that leave room for the drawing; the data beside a figure has them whole."""
    return [text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 3 :]}" for text in labels]


def _rows(axes: "Axes", order: Sequence[str], axis: str) -> None:
    axes.set_yticks(range(len(order)), _short(order))
    axes.set_ylim(len(order) - 0.45, -0.55)
    axes.set_xlabel(_short([axis], 90)[0])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")


def _counts(axes: "Axes", counts: Sequence[str]) -> None:
    """How many: n of every row, at the right edge."""
    beside = axes.get_yaxis_transform()
    for row, text in enumerate(counts):
        axes.text(1.01, row, f"n = {text}" if row == 0 else text, transform=beside, va="center", fontsize=7.5)


def _room(canvas: "MplFigure", axes: "Axes", labels: Sequence[str], counts: Sequence[str] = ()) -> None:
    """Margins by the longest label and count; a layout that measures every text takes as long as all the drawing."""
    width, height = canvas.get_size_inches()
    left_in = 0.14 + _LETTER_IN * max(map(len, _short(labels)), default=0)
    right_in = 0.1 + _LETTER_IN * max((len(text) + 4 * (row == 0) for row, text in enumerate(counts)), default=0)
    canvas.set_layout_engine("none")
    left, bottom, top = left_in / width, 0.46 / height, 1 - 0.05 / height
    axes.set_position((left, bottom, 1 - right_in / width - left, top - bottom))
