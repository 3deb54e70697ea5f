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
class Figure:
    """A figure of a report.

    Attributes:
        name: file-name stem, letters, digits and hyphens.
        title: one line for people.
        caption: units, n and conditions.
        data: what is drawn, offered as CSV.
        draw: draws it on a fresh matplotlib figure.
    """

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    draw: Callable[["MplFigure"], None]


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
