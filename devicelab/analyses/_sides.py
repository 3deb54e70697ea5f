"""A figure with and without what the experiment asks about, side by side: dots that are joined (a dumbbell)."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from devicelab.analyses import _plot
from devicelab.analyses.base import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MplFigure

_MOST = 24
_SCALES = {"ns": ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")), "pct": ((1.0, "%"),)}
_MARKS = ("o", "s", "D", "^", "v", "P")


def figures(table: pd.DataFrame, quantity: str, words: str, unit: str) -> tuple[Figure, ...]:
    """One figure, or none where one side has no valid run.

    Args:
        table: ``cell level estimate low high n``, the base first.
        quantity: of the answer.
        words: the same for people.
        unit: of the estimates.
    """
    if table.empty or table["level"].nunique() < 2:
        return ()
    # What has no partner is not compared.
    table = table[table.groupby("cell")["level"].transform("nunique").ge(2)].reset_index(drop=True)
    if table.empty:
        return ()
    largest = float(table["estimate"].abs().max())
    steps = _SCALES.get(unit, ((1.0, "" if unit == "1" else unit),))
    divisor, shown = next(((d, name) for d, name in steps if largest >= d), steps[-1])
    data = table.assign(
        **{name: table[name].astype(float) / divisor for name in ("estimate", "low", "high")}, unit=shown
    )
    cells = list(dict.fromkeys(data["cell"]))
    cut = f" The first {_MOST} of {len(cells)} rows are drawn; the data has all." if len(cells) > _MOST else ""
    base, *others = dict.fromkeys(data["level"])
    title = words.removeprefix("the ")
    caption = (
        f"{title[0].upper()}{title[1:]} with {', '.join(others)} beside {base}, a row for each combination of the "
        f"other levels. Dots: medians over repetitions ({_plot.counted([int(n) for n in data['n']])}); bars: their 95% "
        f"intervals, none below six repetitions.{cut}"
    )
    drawn = data[data["cell"].isin(cells[:_MOST])]
    axis = f"{title[0].upper()}{title[1:]}{f' in {shown}' if shown else ''}"
    draw = partial(_draw, table=drawn, axis=axis)
    return (Figure("sides", f"{axis}: {base} and {', '.join(others)}"[:120], caption, data, draw, answers=(quantity,)),)


def _draw(figure: "MplFigure", table: pd.DataFrame, axis: str) -> None:
    cells, levels = list(dict.fromkeys(table["cell"])), list(dict.fromkeys(table["level"]))
    axes = _plot.tall(figure, round((len(cells) + 1) * (1.8 + 0.3 * (len(levels) > 2))))
    place = {cell: row for row, cell in enumerate(reversed(cells))}
    apart = np.linspace(0.16, -0.16, len(levels))  # intervals of one row may overlap: each level has its own height
    heights = table["cell"].map(place) + table["level"].map(dict(zip(levels, apart, strict=True)))
    for _, part in table.assign(height=heights).groupby("cell", sort=False):
        axes.plot(part["estimate"], part["height"], color=_plot.GREY, linewidth=3, alpha=0.45)
    for number, level in enumerate(levels):
        mine = (table["level"] == level).to_numpy()
        part, height = table[mine], heights[mine].to_numpy()
        ink, known = _plot.colour(number), part["low"].notna().to_numpy()
        axes.hlines(height[known], part["low"][known], part["high"][known], color=ink, linewidth=1.6)
        mark = _MARKS[number % len(_MARKS)]
        axes.plot(part["estimate"], height, mark, color=ink, markersize=6, label=level, clip_on=False)
        for value, row in zip(part["estimate"], height, strict=True):
            up = number == 0
            axes.annotate(
                f"{value:.4g}",
                (value, row),
                xytext=(0, 5 if up else -5),
                va="bottom" if up else "top",
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
            )
    axes.set_yticks(list(place.values()), [cell or "all runs" for cell in place])
    axes.set_ylim(-0.75, len(cells) - 0.25)
    axes.margins(x=0.08)
    axes.set_xlabel(axis)
    _plot.clean(axes, grid="x")
    _plot.legend(figure)
