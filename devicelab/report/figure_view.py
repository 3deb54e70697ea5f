"""A figure as a page shows it: drawn, with its data, its chart for zooming and its files."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pandas as pd
from markupsafe import Markup

from devicelab.analyses.base import Chart, Figure
from devicelab.report import svg
from devicelab.report.links import data_uri
from devicelab.store.export import file_stem, spreadsheet_safe

# A page with more than this in one table could not be opened on a phone; `devicelab export` has no limit.
MAX_CSV_BYTES = 3_000_000


@dataclass(frozen=True)
class FigureView:
    """A figure as the template wants it; either ``svg`` or ``error`` is there."""

    name: str
    title: str
    caption: str
    svg: Markup | None
    error: str
    file: str
    svg_uri: str
    csv_uri: str
    csv_note: str
    rows: int
    chart: Markup | None = None
    box: str = ""


def figure_view(figure: Figure, campaign: str, *, alone: bool = False) -> FigureView:
    """The figure drawn; one that cannot be is shown as an error of its own.

    ``alone``: without the files beside it, where there are many of a kind.
    """
    name, error, uri, markup, box = file_stem(figure.name), "", "", None, ""
    try:
        document = svg.draw(figure)
    except Exception as problem:  # noqa: BLE001 - one figure's failure must not cost the page; it is shown there
        error = f"{type(problem).__name__}: {problem}"
    else:
        # Drawn here and serialised by an XML writer: every text in it is escaped.
        markup = Markup(svg.inline(document, f"figure-{name}", figure.title, figure.caption))  # noqa: S704
        uri = "" if alone else data_uri("image/svg+xml", document.encode())
        box = svg.box(document)
    csv_uri, note = ("", "") if alone else _csv(figure.data)
    return FigureView(
        name=name,
        title=figure.title,
        caption=figure.caption,
        svg=markup,
        error=error,
        file=f"{campaign}-{name}",
        svg_uri=uri,
        csv_uri=csv_uri,
        csv_note=note,
        rows=len(figure.data),
        chart=None if figure.chart is None else chart_data(figure.chart),
        box=box,
    )


def answering(figures: Sequence[Figure], quantity: str) -> Figure | None:
    """The figure that shows the answer to a quantity, if one does."""
    return next((one for one in figures if quantity in one.answers), None)


def chart_data(chart: Chart) -> Markup:
    """The chart as a block of data that no browser takes for markup or for a script."""
    text = json.dumps(asdict(chart), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704 - no "<" is left


def _csv(data: pd.DataFrame) -> tuple[str, str]:
    text = spreadsheet_safe(data).to_csv(index=False, lineterminator="\n").encode()
    if len(text) > MAX_CSV_BYTES:
        return "", f"Its data ({len(data)} rows) is too large for a page: `devicelab export` writes it."
    return data_uri("text/csv", text), ""
