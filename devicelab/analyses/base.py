"""What an analysis is: a module in this folder with ``analyse(results) -> tuple[Finding, ...]``, pure.

Only valid runs enter a verdict; the unit of inference is the repetition. Too little data gives the verdict
"insufficient n". ``figures(results) -> tuple[Figure, ...]`` is optional: what the report draws for it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

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
