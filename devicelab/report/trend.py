"""Charts of figures over nights, as geometry that a template draws: hundreds on a page, in the page's own colours.

Matplotlib takes a tenth of a second for each chart; a farm has hundreds of them, and they are drawn anew every night.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from devicelab.report.units import clock, number, scale

WIDTH, HEIGHT = 420, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 10, 20, 26
_SPARK_WIDTH, _SPARK_HEIGHT = 90, 22
_MAX_DOTS = 60

MarkKind = Literal["regression", "improvement", "not comparable", "too noisy"]
Floats = npt.NDArray[np.float64]

# Beyond these the places of values overflow or vanish; no clock, counter or memory has such a value.
_LARGEST, _SMALLEST = 1e100, 1e-100


@dataclass(frozen=True)
class Line:
    """Values over time, ascending; NaN where there is none. ``low`` and ``high`` make a band around it.

    Attributes:
        t_unix_ns, values, low, high: of equal length; bounds are both there or both ``None``.
        style: number of the colour, from 1.
    """

    t_unix_ns: Sequence[int]
    values: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    style: int = 1


@dataclass(frozen=True)
class Event:
    """A night that is marked at its value."""

    t_unix_ns: int
    value: float
    kind: MarkKind
    text: str


@dataclass(frozen=True)
class Drawn:
    """One line on the canvas: SVG path data; ``dots`` only where there are few."""

    style: int
    path: str
    band: str
    dots: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Mark:
    """A mark on the canvas with its explanation."""

    x: str
    y: str
    kind: MarkKind
    text: str


@dataclass(frozen=True)
class Chart:
    """What the template ``site/_chart.svg.j2`` draws; all places in the units of the view box."""

    unit: str
    lines: tuple[Drawn, ...]
    marks: tuple[Mark, ...]
    breaks: tuple[tuple[str, str], ...]
    x_ticks: tuple[tuple[str, str, str], ...]
    y_ticks: tuple[tuple[str, str], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM
    top: int = _TOP


def chart(
    lines: Sequence[Line],
    unit: str,
    *,
    events: Sequence[Event] = (),
    breaks: Sequence[tuple[int, str]] = (),
    floor: float | None = None,
    ceiling: float | None = None,
) -> Chart | None:
    """Lay out a chart; ``None`` if no line has a value.

    Args:
        lines: at least one; their units are the same.
        unit: as the store has it (``ns``); axes are labelled in one that fits.
        events: marks at values.
        breaks: Unix times of change points, each with its explanation.
        floor: a value that the axis includes.
        ceiling: another.
    """
    every = [
        np.asarray(part, dtype=float) for one in lines for part in (one.values, one.low, one.high) if part is not None
    ]
    values = np.concatenate([part[_drawable(part)] for part in every]) if every else np.empty(0)
    if not values.size:
        return None
    divisor, shown = scale(unit, values)
    held = np.append(values, [value for value in (floor, ceiling) if value is not None]) / divisor
    ticks = _ticks(float(held.min()), float(held.max()))
    times = np.concatenate([np.asarray(one.t_unix_ns, dtype=float) for one in lines])
    x = _Axis(float(times.min()), float(times.max()), _LEFT, WIDTH - _RIGHT)
    y = _Axis(ticks[0] * divisor, ticks[-1] * divisor, HEIGHT - _BOTTOM, _TOP)
    return Chart(
        unit=shown,
        lines=tuple(_draw(one, x, y) for one in lines),
        marks=tuple(
            Mark(_f(x(one.t_unix_ns)), _f(y(one.value)), one.kind, one.text)
            for one in events
            if _drawable(np.asarray(one.value))
        ),
        breaks=tuple((_f(x(at)), text) for at, text in breaks),
        x_ticks=_dates(x),
        y_ticks=tuple((_f(y(tick * divisor)), number(tick)) for tick in ticks),
    )


def spark(values: Sequence[float]) -> str:
    """Path of a tiny line without axes, in a box of 90 × 22; empty with fewer than two values."""
    known = np.asarray(values, dtype=float)
    known = known[_drawable(known)]
    if len(known) < 2:
        return ""
    low, high = float(known.min()), float(known.max())
    # A line that hardly moves is not blown up to look as if it did: the box is at least a tenth of the value high.
    middle, half = (low + high) / 2, max(high - low, abs(high) / 10) / 2 or 1.0
    y = _Axis(middle - half, middle + half, _SPARK_HEIGHT - 2, 2)
    x = _Axis(0, len(known) - 1, 2, _SPARK_WIDTH - 2)
    return _path([x(i) for i in range(len(known))], [y(value) for value in known])


def _drawable(values: Floats) -> npt.NDArray[np.bool_]:
    """Which values have a place on a chart; a program may print any."""
    size = np.abs(values)
    return np.asarray((size < _LARGEST) & ((size > _SMALLEST) | (size == 0)))


class _Axis:
    """From values to places, linearly; one value alone stands in the middle."""

    def __init__(self, first: float, last: float, start: float, end: float) -> None:
        self.first, self.last = first, last
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        if self.last == self.first:
            return (self._start + self._end) / 2
        return self._start + (value - self.first) / (self.last - self.first) * (self._end - self._start)


def _draw(line: Line, x: _Axis, y: _Axis) -> Drawn:
    shown = _drawable(np.asarray(line.values, dtype=float))
    points = [(x(at), y(value)) for at, value, one in zip(line.t_unix_ns, line.values, shown, strict=True) if one]
    band = ""
    if line.low is not None and line.high is not None:
        held = _drawable(np.asarray(line.low, dtype=float)) & _drawable(np.asarray(line.high, dtype=float))
        edges = zip(line.t_unix_ns, line.low, line.high, held, strict=True)
        ends = [(x(at), y(low), y(high)) for at, low, high, one in edges if one]
        if len(ends) > 1:
            there = _path([end[0] for end in ends], [end[1] for end in ends])
            back = _path([end[0] for end in reversed(ends)], [end[2] for end in reversed(ends)])
            band = f"{there}L{back[1:]}Z"
        elif ends:
            band = f"M{_f(ends[0][0] - 2)} {_f(ends[0][1])}h4V{_f(ends[0][2])}h-4Z"
    few = points if len(points) <= _MAX_DOTS else []
    return Drawn(
        style=line.style,
        path=_path([point[0] for point in points], [point[1] for point in points]) if len(points) > 1 else "",
        band=band,
        dots=tuple((_f(px), _f(py)) for px, py in few),
    )


def _path(xs: Sequence[float], ys: Sequence[float]) -> str:
    return "M" + "L".join(f"{_f(x)} {_f(y)}" for x, y in zip(xs, ys, strict=True))


def _f(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers that hold the range; a range that is small beside its values is widened to 4 %."""
    least = 0.04 * max(abs(low), abs(high)) or 1.0
    if high - low < least:
        low, high = (low + high - least) / 2, (low + high + least) / 2
    raw = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = 12 - math.floor(math.log10(step))
    return [round(i * step, min(digits, 300)) for i in range(first, last + 1)]


def _dates(x: _Axis) -> tuple[tuple[str, str, str], ...]:
    """Place, date and anchor of up to three days."""
    wanted = [(x.first, "start"), ((x.first + x.last) / 2, "middle"), (x.last, "end")]
    labels: dict[str, tuple[str, str, str]] = {}
    for at, anchor in wanted if x.last > x.first else wanted[:1]:
        label = clock(at)[:10]
        labels.setdefault(label, (_f(x(at)), label, anchor if x.last > x.first else "middle"))
    return tuple(labels.values())
