"""Every cell of a KLO campaign at a glance: K across, loads down, a panel for each combination of clocks."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from devicelab.analyses import _frames, _plot
from devicelab.analyses.base import Figure
from devicelab.analyses.klo.condition import Condition
from devicelab.analyses.klo.data import KloData

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MplFigure

_ROWS = ("load", "placement")
_PANELS = 6


def figures(data: KloData) -> Iterator[Figure]:
    """The map, where there are several K under several loads or clocks."""
    shown = [condition for condition in data.conditions if condition.curve.shape[1] > 1]
    if len(shown) < 2:
        return
    table = pd.concat([_rows(condition, data) for condition in shown], ignore_index=True)
    caption = (
        "Time of an inference (without profiling) with each constant K under each load and at each clock: median over "
        f"repetitions in ms, {_plot.counted([int(n) for n in table['n']])}. Colour: how much more than the least of "
        "the same row, in percent. The least of a row is marked with a star; within noise of it others may be as good "
        "(see the K curves)."
    )
    draw = partial(_draw, table=table)
    yield Figure("k-heat-map", "Time of an inference by K, load and clock", caption, table, draw)


def _rows(condition: Condition, data: KloData) -> pd.DataFrame:
    levels = condition.levels
    row = _frames.label({name: levels[name] for name in _ROWS if name in levels})
    rest = {name: text for name, text in levels.items() if name not in _ROWS and name in data.varying}
    middle = condition.curve.median()
    return pd.DataFrame(
        {
            "panel": _frames.label(rest) if rest else "",
            "row": row,
            "k": [int(k) for k in middle.index],
            "median_ms": middle.to_numpy() / 1e6,
            "more_pct": (middle / middle.min() - 1).to_numpy() * 100,
            "n": condition.curve.notna().sum().to_numpy(),
        }
    )


def _draw(figure: "MplFigure", table: pd.DataFrame) -> None:
    panels = list(dict.fromkeys(table["panel"]))[:_PANELS]
    rows, ks = list(dict.fromkeys(table["row"])), sorted(set(table["k"]))
    worst = max(10.0, float(table["more_pct"].max()))
    figure.set_layout_engine("constrained")
    figure.set_size_inches(max(5.5, 2.2 + 0.62 * len(ks)), 0.9 + (0.55 + 0.33 * len(rows)) * len(panels))
    grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True).ravel()
    for axes, panel in zip(grid, panels, strict=True):
        image = axes.imshow(
            _grid(table[table["panel"] == panel], rows, ks), cmap="cividis", vmin=0, vmax=worst, aspect="auto"
        )
        for one in table[table["panel"] == panel].to_dict("records"):
            ink = "#ffffff" if one["more_pct"] < 0.5 * worst else "#000000"
            text = f"{one['median_ms']:.3g}{' ★' if one['more_pct'] == 0 else ''}"
            axes.text(ks.index(one["k"]), rows.index(one["row"]), text, ha="center", va="center", fontsize=8, color=ink)
        axes.set_xticks(range(len(ks)), [f"{k}" for k in ks])
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(length=0, labelsize=8)
        axes.spines[:].set_visible(False)
        axes.grid(visible=False)
        if panel:
            _plot.title(axes, panel, 60)
    grid[-1].set_xlabel("flush period K, kernels", fontsize=9)
    figure.colorbar(image, ax=list(grid), label="% more than\nthe row's least", aspect=10 * len(panels))


def _grid(part: pd.DataFrame, rows: Sequence[str], ks: Sequence[int]) -> np.ndarray:
    values = np.full((len(rows), len(ks)), np.nan)
    for one in part.to_dict("records"):
        values[rows.index(one["row"]), ks.index(one["k"])] = one["more_pct"]
    return values
