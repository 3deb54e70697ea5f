"""How figures look: one palette that colour-blind readers and black-and-white printers can tell apart, little ink."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from devicelab.analyses.base import Chart, Line

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec

# M. Okabe and K. Ito, "Color Universal Design"; ordered so that neighbours differ in lightness too.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#8a8a8a"
INK = "#1a1a1e"  # follows the theme of a page, as SHADE does
SHADE = "#e8e8e8"
STYLES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))


def colour(index: int) -> str:
    """The colour of the n-th series."""
    return PALETTE[index % len(PALETTE)]


def clean(axes: "Axes", *, grid: str = "y") -> None:
    """Leave only the axes that are read."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(axis=grid, color="#e3e3e3", linewidth=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def panels(
    figure: "Figure", count: int, *, across: int = 3, width: float = 3.2, height: float = 2.4, share_y: bool = True
) -> list["Axes"]:
    """``count`` equal axes in rows of at most ``across``, with one x scale and, if wanted, one y scale."""
    columns = min(across, count)
    rows = -(-count // columns)
    figure.set_size_inches(max(5.0, width * columns), max(3.0, height * rows))
    figure.set_layout_engine("constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=share_y, squeeze=False).ravel()
    leave_out(grid.reshape(rows, columns), count)
    return list(grid[:count])


def leave_out(grid: NDArray[np.object_], count: int) -> None:
    """Show the first ``count`` panels of a grid with one x scale; the lowest of each column has its numbers."""
    for extra in grid.flat[count:]:
        extra.set_axis_off()
        extra.set_visible(False)
    for axes in grid.flat[max(0, count - grid.shape[1]) : count]:
        axes.tick_params(axis="x", labelbottom=True)


def arrange(figure: "Figure", rows: int, columns: int, *, labels_in: float = 0.4, own_y: bool = False) -> None:
    """Give panels room by the lines of their titles and of the legend, once all is drawn.

    matplotlib's own layout measures every text several times, which takes longer than the drawing.

    Args:
        figure: with its panels in rows, one x scale, and labels for both axes of the whole.
        rows: of panels.
        columns: of panels.
        labels_in: how long the labels of y ticks are, in inches.
        own_y: each panel has a y scale of its own.
    """
    width, height = figure.get_size_inches()
    texts = [text for axes in figure.axes for text in (axes.get_title(loc="left"), axes.get_title())]
    title_in = 0.08 + 0.135 * max((text.count("\n") + 1 for text in texts if text), default=0)
    legend_in = sum(0.1 + 0.17 * -(-len(one.get_texts()) // 4) for one in figure.legends)
    gap_in = title_in + 0.1
    top_in, bottom_in, left_in = legend_in + title_in + 0.05, 0.52, 0.3 + labels_in
    across_in = 0.12 + (labels_in if own_y else 0.0)
    high_in = max(0.2, (height - top_in - bottom_in - gap_in * (rows - 1)) / rows)
    wide_in = max(0.2, (width - left_in - 0.12 - across_in * (columns - 1)) / columns)
    figure.set_layout_engine("none")
    placed = [(axes, spec) for axes in figure.axes if (spec := axes.get_subplotspec()) is not None]
    cast("GridSpec", placed[0][1].get_gridspec()).update(
        left=left_in / width,
        right=1 - 0.12 / width,
        top=1 - top_in / height,
        bottom=bottom_in / height,
        hspace=gap_in / high_in,
        wspace=across_in / wide_in,
    )
    for axes, spec in placed:
        axes.set_position(spec.get_position(figure))


def title(axes: "Axes", text: str, width: int = 36) -> None:
    """A panel's title, broken into lines that do not run into the next panel's."""
    axes.set_title(textwrap.fill(text, width), fontsize=8, loc="left")


def legend(figure: "Figure") -> None:
    """One legend for all axes, above them, so that it covers no data; every name once."""
    named: dict[str, Artist] = {}
    for axes in figure.axes:
        handles, names = axes.get_legend_handles_labels()
        named |= {name: named.get(name, handle) for handle, name in zip(handles, names, strict=True)}
    figure.legend(list(named.values()), list(named), loc="outside upper left", ncols=4, frameon=False, fontsize=8)


def dots(axes: "Axes", frame: pd.DataFrame, *, value: str = "estimate", labels: str = "label") -> None:
    """Estimates with their intervals, one line of the frame a row from top to bottom; columns ``low`` and ``high``."""
    y = np.arange(len(frame))[::-1]
    low, high = frame["low"].to_numpy(dtype=float), frame["high"].to_numpy(dtype=float)
    known = np.isfinite(low) & np.isfinite(high)
    axes.hlines(y[known], low[known], high[known], color=PALETTE[0], linewidth=1.6)
    axes.plot(frame[value], y, "o", color=PALETTE[0], markersize=5, clip_on=False)
    axes.plot(frame[value].to_numpy()[~known], y[~known], "o", color="white", markeredgecolor=PALETTE[0], markersize=5)
    axes.set_yticks(y, list(frame[labels]), fontsize=8)
    axes.set_ylim(-0.7, len(frame) - 0.3)
    clean(axes, grid="x")


def tall(figure: "Figure", rows: int, *, width: float = 7.0) -> "Axes":
    """One axes, high enough for ``rows`` labelled rows."""
    figure.set_size_inches(width, 1.2 + 0.28 * max(rows, 2))
    figure.set_layout_engine("constrained")
    return figure.subplots()


def points_chart(x: str, y: str, points: Mapping[str, tuple[float, float]]) -> Chart:
    """Named points in a plane, each a series of its own, so that a name can be hidden."""
    known = {name: at for name, at in points.items() if all(map(math.isfinite, at))}
    lines = tuple(Line(name, (first,), (second,)) for name, (first, second) in known.items())
    return Chart(x, y, (("", lines),), dots=True)


def name_of(*parts: str) -> str:
    """A figure's file-name stem: letters, digits and hyphens."""
    text = "-".join(parts).lower()
    return "-".join(word for word in "".join(c if c.isascii() and c.isalnum() else " " for c in text).split())


def counted(n: Sequence[int]) -> str:
    """``n = 10`` or ``n = 8 to 10``."""
    low, high = min(n, default=0), max(n, default=0)
    return f"n = {low}" if low == high else f"n = {low} to {high}"
