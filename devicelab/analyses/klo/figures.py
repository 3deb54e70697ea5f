"""The figures of a KLO campaign: K curves, T_prod, cross tables, where the time goes, one inference as a timeline."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from devicelab.analyses import _frames, _plot, _stats
from devicelab.analyses.base import Chart, Figure, Line
from devicelab.analyses.klo import heat
from devicelab.analyses.klo.condition import Condition
from devicelab.analyses.klo.cross import cross_table
from devicelab.analyses.klo.data import KloData
from devicelab.analyses.klo.findings import decomposition
from devicelab.analyses.klo.production import samples_by_cell
from devicelab.analyses.klo.tables import in_order
from devicelab.model import glossary
from devicelab.model.results import Results, samples_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MplFigure

_PANELS = 9  # of one figure; more conditions go to further figures
# A panel is some two hundred dots wide; the tails, which a logarithmic axis stretches, have more.
_QUANTILES = np.unique(np.concatenate((np.linspace(0, 1, 201), [0.001, 0.002, 0.998, 0.999])))


def figures(results: Results, data: KloData) -> Iterator[Figure]:
    """All figures that the campaign has data for."""
    yield from _curves(data)
    yield from heat.figures(data)
    yield from _production(data)
    yield from _crossed(data)
    yield from _parts(results, data)
    yield from _timeline(results, data)


def _curves(data: KloData) -> Iterator[Figure]:
    drawn = [condition for condition in data.conditions if condition.curve.shape[1] > 1]
    for number, first in enumerate(range(0, len(drawn), _PANELS), 1):
        chosen = drawn[first : first + _PANELS]
        table = pd.concat([_curve_rows(condition) for condition in chosen], ignore_index=True)
        counted = _plot.counted([int(n) for n in table.loc[table["series"] == "measured", "n"]])
        caption = (
            f"Time of an inference (without profiling) over the flush period K. Line: median over runs, {counted} for "
            "each K; band: its 95% interval (order statistics; none below 6 runs). Shaded: K within noise of the "
            "fastest one, which is marked. Dashed: the model with the fitted costs, counted from QUEUED of the first "
            "kernel (not drawn where the driver submits kernels by itself, or the fit is bad). Horizontal lines: other "
            "policies."
        )
        part = f"-{number}" if len(drawn) > _PANELS else ""
        title = "Time of an inference over K"
        draw = partial(_draw_curves, conditions=chosen)
        chart = Chart("flush period K, kernels", "time of an inference, ms", tuple(map(_panel, chosen)), log_base=2)
        yield Figure(f"k-curves{part}", title, caption, table, draw, ("constant_k", "k_matters"), chart)


def _curve_rows(condition: Condition) -> pd.DataFrame:
    near = set(condition.near.k) if condition.near is not None else set()
    rows: list[dict[str, object]] = []
    for k in condition.curve.columns:
        got = _stats.median_interval(condition.curve[k])
        rows.append({"series": "measured", "k": int(k), "estimate_ms": got.estimate / 1e6, "n": got.n})
        rows[-1] |= {"low_ms": _ms(got.low), "high_ms": _ms(got.high), "near_optimal": int(k) in near}
    for policy, totals in condition.policies.items():
        got = _stats.median_interval(totals)
        rows.append({"series": policy, "k": None, "estimate_ms": got.estimate / 1e6, "n": got.n})
        rows[-1] |= {"low_ms": _ms(got.low), "high_ms": _ms(got.high), "near_optimal": False}
    ks, model = _model(condition)
    rows += [{"series": "model", "k": int(k), "estimate_ms": ms} for k, ms in zip(ks, model, strict=True)]
    columns = ["series", "k", "estimate_ms", "low_ms", "high_ms", "n", "near_optimal"]
    return pd.DataFrame(rows, columns=columns).assign(condition=condition.label)


def _panel(condition: Condition) -> tuple[str, tuple[Line, ...]]:
    """The condition as a panel of a chart: what is measured, the model, and other policies over the same K."""
    rows = _curve_rows(condition)
    measured = rows[rows["series"] == "measured"]
    ks = tuple(float(k) for k in measured["k"])
    values = {name: _numbers(measured[f"{name}_ms"]) for name in ("estimate", "low", "high")}
    lines = [Line("measured", ks, values["estimate"], values["low"], values["high"])]
    model = rows[rows["series"] == "model"]
    if len(model):
        lines.append(Line("model", tuple(float(k) for k in model["k"]), _numbers(model["estimate_ms"]), dashed=True))
    for policy in condition.policies:
        level = float(rows.loc[rows["series"] == policy, "estimate_ms"].iloc[0])
        lines.append(Line(policy, (ks[0], ks[-1]), (level, level), dashed=True))
    return condition.label, tuple(lines)


def _numbers(column: "pd.Series[float]") -> tuple[float | None, ...]:
    return tuple(float(value) if np.isfinite(value) else None for value in column.astype(float))


def _model(condition: Condition) -> tuple[np.ndarray, np.ndarray]:
    profile = condition.model
    if profile is None:
        return np.empty(0), np.empty(0)
    return np.arange(1, profile.curve_ns.size + 1), profile.curve_ns / 1e6


def _draw_curves(figure: "MplFigure", conditions: Sequence[Condition]) -> None:
    axes_list = _plot.panels(figure, len(conditions), share_y=False)
    for axes, condition in zip(axes_list, conditions, strict=True):
        rows = _curve_rows(condition)
        line = rows[rows["series"] == "measured"]
        k, middle = line["k"].to_numpy(dtype=float), line["estimate_ms"].to_numpy(dtype=float)
        _shade(axes, k, line["near_optimal"].to_numpy(dtype=bool))
        low, high = line["low_ms"].to_numpy(dtype=float), line["high_ms"].to_numpy(dtype=float)
        axes.fill_between(k, low, high, color=_plot.PALETTE[0], alpha=0.35, linewidth=0)
        axes.plot(k, middle, color=_plot.PALETTE[0], linewidth=1.3, marker="o", markersize=2.5, label="measured")
        best = int(np.argmin(middle))
        axes.plot(k[best], middle[best], "o", markersize=6, color=_plot.PALETTE[1], label=glossary.MEASURED_BEST_K)
        axes.plot(*_model(condition), color=_plot.INK, linewidth=1.1, linestyle="--", label="model")
        for number, policy in enumerate(condition.policies, 2):
            level = float(rows.loc[rows["series"] == policy, "estimate_ms"].iloc[0])
            axes.axhline(level, color=_plot.colour(number), linewidth=1, linestyle=_plot.STYLES[number], label=policy)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        _plot.title(axes, condition.label)
        _plot.clean(axes)
    _plot.legend(figure)
    figure.supxlabel("flush period K, kernels", fontsize=9)
    figure.supylabel("time of an inference, ms", fontsize=9)
    _arranged(figure, len(conditions), own_y=True)


def _arranged(figure: "MplFigure", panels: int, *, own_y: bool = False) -> None:
    _plot.arrange(figure, -(-panels // 3), min(3, panels), own_y=own_y)


def _shade(axes: "Axes", k: np.ndarray, inside: np.ndarray) -> None:
    """Grey columns around the K that are inside, each half way (in the logarithm) to its neighbours."""
    borders = np.concatenate(([k[0] / 1.2], np.sqrt(k[1:] * k[:-1]), [k[-1] * 1.2]))
    for number in np.flatnonzero(inside):
        axes.axvspan(borders[number], borders[number + 1], color=_plot.SHADE, linewidth=0)


def _production(data: KloData) -> Iterator[Figure]:
    rows = []
    for condition, cell, values, runs in samples_by_cell(data):
        levels = condition.levels
        load = _frames.label({name: levels[name] for name in ("load", "placement") if name in levels})
        rows.append(
            pd.DataFrame(
                {
                    "panel": f"{cell}{data.rest(condition, ['load'])}",
                    "series": load,
                    "share": _QUANTILES,
                    "t_prod_us": np.quantile(values, _QUANTILES) / 1e3,
                    "samples": values.size,
                    "runs": len(runs),
                }
            )
        )
    if not rows:
        return
    table = pd.concat(rows, ignore_index=True)
    samples = table.drop_duplicates(["panel", "series"])
    caption = (
        "Distribution of T_prod = QUEUED of a kernel less QUEUED of the one before, all samples of all runs "
        f"({int(samples['samples'].sum()):,} in {int(samples['runs'].sum())} runs), each K by itself; the first kernel "
        "of an inference has no T_prod. Share of samples up to the time on the axis."
    )
    yield Figure("t-prod", "T_prod by load and placement", caption, table, partial(_draw_ecdf, table=table))


def _draw_ecdf(figure: "MplFigure", table: pd.DataFrame) -> None:
    parts = dict(iter(table.groupby("panel", sort=False)))
    names = list(dict.fromkeys(table["series"]))
    axes_list = _plot.panels(figure, min(len(parts), _PANELS), across=3, width=2.6, height=2.1)
    for axes, (panel, part) in zip(axes_list, parts.items(), strict=False):
        for series, rows in part.groupby("series", sort=False):
            number = names.index(str(series))
            style = _plot.STYLES[number % len(_plot.STYLES)]
            axes.plot(
                rows["t_prod_us"],
                rows["share"],
                color=_plot.colour(number),
                linestyle=style,
                linewidth=1.2,
                label=series,
            )
        _plot.title(axes, str(panel), 40)
        _plot.clean(axes, grid="both")
        shown = part["t_prod_us"][part["t_prod_us"] > 0]
        if len(shown) and shown.max() > 20 * shown.min():
            axes.set_xscale("log")
    _plot.legend(figure)
    figure.supxlabel("T_prod, µs", fontsize=9)
    figure.supylabel("share of samples", fontsize=9)
    _arranged(figure, len(axes_list))


def _crossed(data: KloData) -> Iterator[Figure]:
    table = cross_table(data)
    for factor, part in table.groupby("factor", sort=False):
        rows = part.reset_index(drop=True)
        n = _plot.counted([int(value) for value in rows["n"]])
        caption = (
            "Each cell: the K found in the row's condition, used in the column's; its time over that of the best K "
            f"there, in percent (the most over all K measured, Hodges-Lehmann over repetitions, {n}), with the K "
            "below; each K is judged on repetitions it was not chosen from. 95% intervals in the data."
        )
        title = f"K found in one condition, used in another: {_frames.WORDS[str(factor)]}"
        name, draw = _plot.name_of("cross-table", str(factor)), partial(_draw_cross, table=rows)
        yield Figure(name, title, caption, rows, draw, ("k_carried",) if factor != "load" else ())


def _draw_cross(figure: "MplFigure", table: pd.DataFrame) -> None:
    words = _frames.WORDS[str(table["factor"].iloc[0])]
    wheres = list(dict.fromkeys(table["where"]))[:_PANELS]
    size = max(len(set(table["found_at"])), 2)
    across = 1 if size > 4 else 2
    axes_list = _plot.panels(figure, len(wheres), across=across, width=1.9 + 0.75 * size, height=1.6 + 0.5 * size)
    worst = max(5.0, float((table["ratio"].max() - 1) * 100))
    for axes, where in zip(axes_list, wheres, strict=True):
        rows = table[table["where"] == where]
        names = list(dict.fromkeys(rows["found_at"]))
        grid = np.full((len(names), len(names)), np.nan)
        for row in rows.to_dict("records"):
            at = names.index(row["found_at"]), names.index(row["used_at"])
            grid[at] = (row["ratio"] - 1) * 100
            ink = "white" if grid[at] > 0.6 * worst else "black"
            text = f"{grid[at]:+.1f}%\nK = {str(row['k']).split(' ', 1)[0]}"
            axes.text(at[1], at[0], text, ha="center", va="center", fontsize=7, color=ink)
        axes.imshow(grid, cmap="Blues", vmin=0, vmax=worst, aspect="auto")
        short = [name.removeprefix(f"{words} ").removeprefix("load ") for name in names]
        axes.set_xticks(range(len(names)), short, fontsize=7, rotation=20, ha="right")
        axes.set_yticks(range(len(names)), short, fontsize=7)
        axes.tick_params(length=0, labelbottom=True, labelleft=True)
        axes.spines[:].set_visible(False)
        _plot.title(axes, where, 15 + 8 * size)
        axes.grid(visible=False)
    figure.supxlabel(f"used at {words}", fontsize=9)
    figure.supylabel(f"K found at {words}", fontsize=9)


def _parts(results: Results, data: KloData) -> Iterator[Figure]:
    table = decomposition(results, data.conditions)
    if table.empty:
        return
    caption = (
        "Where the time of a profiled inference goes: kernels, GPU starved (the next batch was not flushed yet), "
        "launch (flushed, but not started), and the way to the first kernel; medians over runs, "
        f"{_plot.counted([int(n) for n in table['runs']])} runs a bar."
    )
    yield Figure("decomposition", "What launch overhead consists of", caption, table, partial(_draw_parts, table=table))


def _draw_parts(figure: "MplFigure", table: pd.DataFrame) -> None:
    parts = dict(iter(table.groupby("label", sort=False)))
    axes_list = _plot.panels(figure, min(len(parts), _PANELS))
    names = {"kernels_ns": "kernels", "starved_ns": "starved", "launch_ns": "launch", "other_ns": "first kernel"}
    inks = ("#c9c9c9", _plot.PALETTE[1], _plot.PALETTE[0], _plot.PALETTE[4])
    for axes, (label, rows) in zip(axes_list, parts.items(), strict=False):
        place = np.arange(len(rows))
        base = np.zeros(len(rows))
        for (column, name), ink in zip(names.items(), inks, strict=True):
            heights = rows[column].to_numpy(dtype=float) / 1e6
            axes.bar(place, heights, bottom=base, color=ink, width=0.75, label=name, linewidth=0)
            base = base + heights
        axes.set_xticks(place, [f"{k:g}" for k in rows["k"]], fontsize=7)
        _plot.title(axes, str(label))
        _plot.clean(axes)
    _plot.legend(figure)
    figure.supxlabel("flush period K, kernels", fontsize=9)
    figure.supylabel("time of a profiled inference, ms", fontsize=9)
    _arranged(figure, len(axes_list))


def _timeline(results: Results, data: KloData) -> Iterator[Figure]:
    """An inference at K = 1 and one at the measured best K, of the first condition with both, on one time scale."""
    for condition in data.conditions:
        lanes = {1: "K = 1"}
        if condition.manual_k is not None:
            lanes[condition.manual_k] = f"K = {condition.manual_k}"
        rows = [found for k, words in lanes.items() if len(found := _typical(results, condition, k, words))]
        if not rows:
            continue
        table = pd.concat(rows, ignore_index=True)
        caption = (
            f"One profiled inference for each K ({condition.label}), the one of median length in its run: producer "
            "lane (time before QUEUED of each kernel, neighbours in two shades, a tick at each SUBMIT) and GPU lane "
            "(kernels, neighbouring batches in two colours, white where the GPU is idle). Time from QUEUED of the "
            "first kernel."
        )
        yield Figure(
            "timeline", "One inference, kernel by kernel", caption, table, partial(_draw_timeline, table=table)
        )
        return


def _typical(results: Results, condition: Condition, k: int, words: str) -> pd.DataFrame:
    """Kernels of the inference of median length in the first run with this K; times in µs from QUEUED_1."""
    constant = condition.runs[(condition.runs["policy"] == "constant") & (condition.runs["k_flushed"] == k)]
    rows = samples_of(results, "kernels", constant["run_id"].head(1).tolist())
    if rows.empty:
        return pd.DataFrame()
    rows = in_order(rows)
    if condition.driver.follows:
        rows = rows.assign(batch=rows["kernel"] // k)
    length = rows.groupby("inference").agg(begin=("queued_ns", "first"), end=("end_ns", "last"))
    took = length["end"] - length["begin"]
    middle = took.sort_values().index[(len(took) - 1) // 2]
    one = rows[rows["inference"] == middle]
    origin = int(one["queued_ns"].iloc[0])
    stamps = {f"{name}_us": (one[f"{name}_ns"] - origin) / 1e3 for name in ("queued", "submit", "start", "end")}
    return pd.DataFrame({"series": words, "kernel": one["kernel"], "batch": one["batch"], **stamps})


def _draw_timeline(figure: "MplFigure", table: pd.DataFrame) -> None:
    parts = dict(iter(table.groupby("series", sort=False)))
    axes_list = _plot.panels(figure, len(parts), across=1, width=7.0, height=1.3)
    for axes, (series, rows) in zip(axes_list, parts.items(), strict=True):
        queued, start = rows["queued_us"].to_numpy(), rows["start_us"].to_numpy()
        batch = rows["batch"].to_numpy()
        produced = cast("list[tuple[float, float]]", list(zip(queued[:-1], np.diff(queued), strict=True)))
        worked = cast("list[tuple[float, float]]", list(zip(start, rows["end_us"].to_numpy() - start, strict=True)))
        greys = [("#bdbdbd", "#8f8f8f")[number % 2] for number in range(len(produced))]
        inks = [(_plot.PALETTE[0], _plot.PALETTE[5])[number % 2] for number in batch]
        axes.broken_barh(produced, (1.1, 0.7), facecolors=greys)
        axes.broken_barh(worked, (0.1, 0.7), facecolors=inks)
        flushed = rows.drop_duplicates("batch", keep="last")["submit_us"]
        axes.vlines(flushed, 0.85, 1.05, color=_plot.PALETTE[1], linewidth=0.8)
        axes.set_yticks([0.45, 1.45], ["GPU", "producer"], fontsize=8)
        axes.set_ylim(0, 1.9)
        axes.set_title(str(series), fontsize=8, loc="left")
        _plot.clean(axes, grid="x")
    figure.supxlabel("time, µs", fontsize=9)


def _ms(value: float | None) -> float:
    return np.nan if value is None else value / 1e6
