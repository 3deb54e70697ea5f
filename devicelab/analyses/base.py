"""What an analysis is: from stored runs to findings (``Analysis``), and figures where it has some (``Drawing``)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import pandas as pd

from devicelab.model.experiment import Finding
from devicelab.model.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MplFigure


@dataclass(frozen=True)
class Line:
    """A series of a chart: y over ascending x, with its band where there are intervals (``None``: not known)."""

    name: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """What a page draws again where a reader wants to zoom, hover and hide series; numbers as in the figure.

    Attributes:
        x, y: labels of the axes, with their units.
        panels: title and series of each; all in one order.
        log_base: of the x axis; 0 for a linear one.
        dots: points without a line between them.
        time: x is a time, in seconds since 1970.
    """

    x: str
    y: str
    panels: tuple[tuple[str, tuple[Line, ...]], ...]
    log_base: int = 0
    dots: bool = False
    time: bool = False


@dataclass(frozen=True)
class Figure:
    """A figure of a report.

    Attributes:
        name: file-name stem, letters, digits and hyphens.
        title: one line for people.
        caption: units, n and conditions.
        data: what is drawn, offered as CSV.
        draw: draws it on a fresh matplotlib figure.
        answers: quantities of ``Answer`` that this figure shows: the first screen has the one that fits.
        chart: the same for a reader who wants to zoom and hover, where that helps.
    """

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    draw: Callable[["MplFigure"], None]
    answers: tuple[str, ...] = ()
    chart: Chart | None = None


class Analysis(Protocol):
    """An analysis. Only valid runs enter a verdict; the unit of inference is the repetition.

    One that answers an experiment's question as a whole has a table ``ANSWERS``, quantity → function of the results.
    """

    def analyse(self, results: Results) -> tuple[Finding, ...]:
        """What it finds; pure. Too little data gives the verdict "insufficient n"."""
        ...


@runtime_checkable
class Drawing(Protocol):
    """An analysis that has figures for the report."""

    def figures(self, results: Results) -> tuple[Figure, ...]:
        """What the report draws; pure."""
        ...
