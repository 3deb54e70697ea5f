"""What an analysis says and draws, in words and numbers that a person can read, beside what was read once.

A golden is a text in ``tests/data/said``: findings, then each figure with its caption, its data and everything that is
drawn. After a change that is meant, ``pytest --write-goldens`` writes them anew: read the difference before you commit.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as MplFigure
from matplotlib.image import AxesImage
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Annotation, Text

from devicelab.analyses.base import Chart, Figure
from devicelab.model.experiment import Finding

FOLDER = Path(__file__).parent / "data" / "said"
_SHOWN = 8


def findings(found: Iterable[Finding]) -> str:
    """Each finding with its figures and reasons."""
    lines = []
    for one in found:
        lines.append(f"{one.analysis}: {one.claim}")
        ends = f" [{number(one.low)}, {number(one.high)}]"
        marks = [f"n {one.n}", one.interval, *(["simulated"] if one.simulated else []), *(["answer"] * one.answer)]
        marks += [word for word in (one.quantity, one.comparison) if word]
        lines.append(f"  {one.verdict}: {number(one.estimate)}{ends} {one.unit} ({', '.join(marks)})")
        lines += [f"  - {reason}" for reason in one.reasons]
    return "\n".join(lines) + "\n"


def figures(found: Iterable[Figure]) -> str:
    """Each figure with its words, its data and what is drawn."""
    return "\n".join("\n".join(_figure(one)) for one in found) + "\n"


def table(data: pd.DataFrame) -> str:
    """A table, column by column."""
    return "\n".join(f"{name}: {series(data[name])}" for name in data.columns) + "\n"


def number(value: float | None) -> str:
    """Four digits."""
    return "-" if value is None else f"{float(value) + 0.0:.4g}"


def series(values: Iterable[Any]) -> str:
    """All of a few values; of many, the ends and the sum."""
    every = list(values)
    texts = [number(one) if isinstance(one, int | float | np.number) else str(one) for one in every]
    if len(texts) <= _SHOWN:
        return " | ".join(texts)
    ends = f"{' | '.join(texts[:3])} … {' | '.join(texts[-3:])}"
    if all(isinstance(one, int | float | np.number) for one in every):
        place = np.arange(1, len(every) + 1)
        known = np.nan_to_num(np.array(every, dtype=float), posinf=1e9, neginf=-1e9)
        return f"{ends} ({len(every)}, sum {number(known.sum())}, by place {number(float((known * place).sum()))})"
    return f"{ends} ({len(every)}, {len(set(texts))} of them differ)"


def _figure(one: Figure) -> Iterator[str]:
    yield f"== {one.name}: {one.title}"
    yield f"   {one.caption}"
    yield f"   answers: {', '.join(one.answers) or 'none'}"
    yield from (f"   data {line}" for line in table(one.data).splitlines())
    if one.chart is not None:
        yield from (f"   chart {line}" for line in _chart(one.chart))
    figure = MplFigure()
    one.draw(figure)
    yield from (f"   {line}" for line in drawing(figure))


def _chart(chart: Chart) -> Iterator[str]:
    yield f"x {chart.x}; y {chart.y}; log base {chart.log_base}; dots {chart.dots}; time {chart.time}"
    for title, lines in chart.panels:
        for line in lines:
            ends = f" low {series(line.low)} high {series(line.high)}" if line.low or line.high else ""
            dashed = " dashed" if line.dashed else ""
            yield f"{title}/{line.name}{dashed}: x {series(line.x)} y {series(line.y)}{ends}"


def drawing(figure: MplFigure) -> Iterator[str]:
    """Everything that is drawn: where, in which ink and size, in the units of the axes."""
    width, height = figure.get_size_inches()
    yield f"drawn {number(width)} by {number(height)} inches, layout {type(figure.get_layout_engine()).__name__}"
    yield from (f"{what}: {_text(text)}" for what, text in _labels(figure) if text is not None)
    yield from (_legend(legend) for legend in figure.legends)
    for axes in figure.axes:
        yield from _axes(axes)


def _labels(figure: MplFigure) -> Iterator[tuple[str, Text | None]]:
    for what in ("suptitle", "supxlabel", "supylabel"):
        yield what, getattr(figure, f"_{what}")


def _axes(axes: Axes) -> Iterator[str]:
    yield f"axes at {_numbers(axes.get_position().bounds)}{'' if axes.axison else ', off'}"
    if title := axes.get_title("left") or axes.get_title():
        sizes = {number(one.get_fontsize()) for one in (axes._left_title, axes.title)}  # type: ignore[attr-defined]
        yield f"  title {title!r} {'/'.join(sorted(sizes))}"
    for name, axis, ends in (("x", axes.xaxis, axes.get_xlim()), ("y", axes.yaxis, axes.get_ylim())):
        kind = {key: value for key, value in axis.get_tick_params().items() if key in {"length", "gridOn", "labelsize"}}
        style = ", ".join(f"{key} {value}" for key, value in sorted(kind.items()))
        base = f" base {axis.get_transform().base:g}" if axis.get_scale() == "log" else ""  # type: ignore[attr-defined]
        yield f"  {name} {axis.get_scale()}{base} {_numbers(ends)}; {style}; {_text(axis.label)}"
        fixed = type(axis.get_major_locator()).__name__ == "FixedLocator"
        if fixed:
            labels = axis.get_ticklabels()
            look = f"; {_look(labels[0])}" if labels else ""
            yield f"  {name} ticks {_numbers(axis.get_ticklocs())}: {series(one.get_text() for one in labels)}{look}"
    spines = [name for name, spine in axes.spines.items() if spine.get_visible()]
    shared = [len(group.get_siblings(axes)) for group in (axes.get_shared_x_axes(), axes.get_shared_y_axes())]
    yield f"  spines {' '.join(spines) or 'none'}; share x {shared[0]}, y {shared[1]}; below {axes.get_axisbelow()}"
    for artists, told in (
        (axes.lines, _line),
        (axes.patches, _patch),
        (axes.collections, _collection),
        (axes.images, _image),
        (axes.texts, _text),
    ):
        yield from (f"  {told(artist)}" for artist in artists)
    if legend := axes.get_legend():
        yield f"  {_legend(legend)}"


def _line(line: Line2D) -> str:
    x, y = line.get_data(orig=False)
    look = f"{_ink(line.get_color())} {line.get_linestyle()} {number(line.get_linewidth())}{_alpha(line)}"
    mark = line.get_marker()
    if mark not in {None, "None", ""}:
        inks = f"{_ink(line.get_markerfacecolor())}/{_ink(line.get_markeredgecolor())}"
        look += f" mark {mark} {number(line.get_markersize())} {inks}"
    name = str(line.get_label())
    steps = "" if line.get_drawstyle() == "default" else f" {line.get_drawstyle()}"
    clip = "" if line.get_clip_on() else " unclipped"
    return f"line{_named(name)} {look}{steps}{clip}: x {series(x)}; y {series(y)}"


def _patch(patch: Patch) -> str:
    box = patch.get_path().transformed(patch.get_patch_transform()).get_extents()
    look = f"{_ink(patch.get_facecolor())} {number(patch.get_linewidth())}"
    return f"patch{_named(str(patch.get_label()))} {look}: {_numbers([box.x0, box.y0, box.x1, box.y1])}"


def _collection(some: Collection) -> str:
    inks = sorted({_ink(ink) for ink in [*some.get_facecolor(), *some.get_edgecolor()]})
    order = series([_ink(ink) for ink in some.get_facecolor()])
    widths = _numbers(np.atleast_1d(some.get_linewidth()))
    look = f"{' '.join(inks)} order {order} width {widths}{_alpha(some)}"
    if isinstance(some, LineCollection):
        return f"segments {look}: {series([_numbers(part.ravel()) for part in some.get_segments()])}"
    every = [path.vertices for path in some.get_paths()]
    sums = [f"{_numbers([*one.min(axis=0), *one.max(axis=0)])} sum {_numbers(np.nansum(one, axis=0))}" for one in every]
    return f"areas {look}: {series(sums)}"


def _image(image: AxesImage) -> str:
    values = np.ma.filled(np.ma.asarray(image.get_array(), dtype=float), np.nan)
    rows = "; ".join(series(row) for row in values)
    ends = _numbers([one for one in image.get_clim() if one is not None])
    return f"image {image.get_cmap().name} {ends}: {rows}"


def _text(text: Text) -> str:
    if not text.get_text():
        return "no words"
    at = text.get_position()
    if isinstance(text, Annotation):
        return f"note {text.get_text()!r} at {_numbers(text.xy)} moved {_numbers(at)} {_look(text)}"
    return f"text {text.get_text()!r} at {_numbers(at)} {_look(text)}"


def _look(text: Text) -> str:
    turned = f" turned {number(text.get_rotation())}" if text.get_rotation() else ""
    ends = f"{text.get_ha()}/{text.get_va()}"
    return f"{number(text.get_fontsize())} {_ink(text.get_color())} {text.get_weight()} {ends}{turned}"


def _legend(legend: Legend) -> str:
    names = [one.get_text() for one in legend.get_texts()]
    size = number(legend.get_texts()[0].get_fontsize()) if names else "-"
    framed = " framed" if legend.get_frame_on() else ""
    own = legend.figure.transSubfigure if legend.axes is None else legend.axes.transAxes  # type: ignore[union-attr]
    anchor = legend.get_bbox_to_anchor().transformed(own.inverted())
    place = f"{legend._ncols} a row, corner {legend._loc} at {_numbers(anchor.bounds)}"  # type: ignore[attr-defined]
    return f"legend {size}{framed}, {place}: {' | '.join(names)}"


def _named(name: str) -> str:
    return "" if name.startswith("_") or not name else f" {name!r}"


def _ink(colour: Any) -> str:
    return "none" if isinstance(colour, str) and colour == "none" else to_hex(colour, keep_alpha=len(colour) == 4)


def _alpha(artist: Artist) -> str:
    alpha = artist.get_alpha()
    return "" if alpha is None else f" alpha {number(float(np.ravel(alpha)[0]))}"


def _numbers(values: Iterable[float] | Sequence[float]) -> str:
    return " ".join("nan" if math.isnan(value) else number(value) for value in values)


def same(name: str, text: str, *, write: bool) -> None:
    """Compare with the golden of that name, or write it.

    Raises:
        AssertionError: they differ.
    """
    path = FOLDER / f"{name}.txt"
    if write:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text.splitlines() == path.read_text(encoding="utf-8").splitlines()
