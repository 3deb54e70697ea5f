"""A figure as SVG: as a file of its own, and prepared to stand inside a page."""

import math
import re
import threading
import warnings
from collections.abc import Callable
from functools import partial
from io import BytesIO
from xml.etree import ElementTree as ET

import matplotlib as mpl
from matplotlib.axes import Axes as MplAxes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as MplFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogFormatter, LogLocator, NullLocator

from devicelab.analyses.base import Figure
from devicelab.ground.registry import data_dir
from devicelab.report.clean import printable

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_SHORT = 200  # a logarithmic axis whose ends are at most so many times apart
# Where things are, in points; matplotlib writes six digits after the point, and each step on a line of its own.
_TAG = re.compile(r"<[a-z][^>]*>")
_PLACE = re.compile(r' (?:d|x|y|transform)="(?![^"]*(?:scale|matrix))[^"]*"')
_NAMED = re.compile(r"[(\"]#([^)\"]+)[)\"]")
_GROUP = re.compile(r' id="([^"]*)"')
_STYLE = re.compile(r' style="[^"]*"')
_STEP = re.compile(r"\s*([MLCQz])\s*")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_BETWEEN = re.compile(r">\s*\n\s*<")
_DIGITS = re.compile(r"(\.\d\d)\d+")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")

# Colours of reports/devicelab.mplstyle that follow the page's theme.
_THEME = {
    "#1a1a1e": "var(--ink)",
    "#5c5c66": "var(--muted)",
    "#d9d9e0": "var(--rule)",
    "#e3e3e3": "var(--rule)",
    "#e8e8e8": "var(--shade)",
    "#0072b2": "var(--blue)",
}

# rcParams are global to the process; pages of several devices may be made by several threads.
_drawing = threading.Lock()

ET.register_namespace("", _SVG)
ET.register_namespace("xlink", _XLINK)


def draw(figure: Figure) -> str:
    """The figure as an SVG document; the same figure gives the same bytes.

    Labels are texts, not formulas: a ``$`` in a device's name stays one.
    """
    text = _BETWEEN.sub("><", _COMMENT.sub("", printable(_saved(figure, _as_svg).decode())))
    named = set(_NAMED.findall(text))
    return _TAG.sub(lambda tag: _GROUP.sub(lambda id_: id_[0] if id_[1] in named else "", _shorter(tag)), text)


def png(figure: Figure, dpi: int = 300) -> bytes:
    """The figure as a picture on white, for a paper."""
    return _saved(figure, partial(MplFigure.savefig, format="png", dpi=dpi, facecolor="white", transparent=False))


def _shorter(tag: re.Match[str]) -> str:
    """Hundredths of a point are finer than any screen or printer."""
    text = _STYLE.sub(lambda style: style[0].replace(": ", ":").replace("; ", ";"), tag[0])
    return _PLACE.sub(lambda place: _STEP.sub(r"\1", _DIGITS.sub(r"\1", place[0])), text)


def _as_svg(canvas: MplFigure, out: BytesIO) -> None:
    # Not by savefig, which draws everything twice where there is a layout: once for the layout, and thrown away.
    metadata = {"Date": None, "Creator": None, "Type": None, "Format": None}
    FigureCanvasSVG(canvas).print_svg(out, metadata=metadata)  # type: ignore[no-untyped-call]


def _saved(figure: Figure, save: Callable[[MplFigure, BytesIO], None]) -> bytes:
    with _drawing, mpl.rc_context(fname=str(data_dir("reports") / "devicelab.mplstyle")), warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box and measured; the reader's own font has it.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        # Labels too long for their figure overlap; the table and the data beside it have them whole.
        warnings.filterwarnings("ignore", message="constrained_layout not applied", category=UserWarning)
        canvas = MplFigure()
        figure.draw(canvas)
        _name_plain_numbers(canvas)
        _place_unnamed(canvas)
        _rule_inner(canvas)
        out = BytesIO()
        save(canvas, out)
    return out.getvalue()


def _name_plain_numbers(canvas: MplFigure) -> None:
    """On logarithmic axes, where matplotlib writes formulas; 2 and 5 between the powers of ten if the axis is short."""
    for axis in (axis for axes in canvas.axes for axis in (axes.xaxis, axes.yaxis)):
        if isinstance(axis.get_major_formatter(), LogFormatter):
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(FuncFormatter(partial(_tick, axis)))
            axis.set_minor_locator(NullLocator())


def _place_unnamed(canvas: MplFigure) -> None:
    """Axes without a name have it anywhere: matplotlib measures all their ticks, several times, to find its place."""
    for axis in (axis for axes in canvas.axes for axis in (axes.xaxis, axes.yaxis)):
        if not axis.get_label_text():
            axis.set_label_coords(0.5, 0.5)


def _rule_inner(canvas: MplFigure) -> None:
    """The grid of panels whose scale stands at another panel, as one set of lines.

    matplotlib makes three lines and two texts for each tick, with a label or without.
    """
    if isinstance(canvas.get_layout_engine(), ConstrainedLayoutEngine):
        return  # where ticks are depends on how large the panels will be
    for axes in filter(MplAxes.get_visible, canvas.axes):
        for axis, label, tick in ((axes.xaxis, "labelbottom", "bottom"), (axes.yaxis, "labelleft", "left")):
            style = axis.get_tick_params()
            if style.get(label, True) or not style.get("gridOn", False):
                continue
            low, high = sorted(axis.get_view_interval())
            places = [float(place) for place in axis.get_majorticklocs() if low <= place <= high]
            vertical = axis is axes.xaxis
            rules = LineCollection(
                [((place, 0), (place, 1)) if vertical else ((0, place), (1, place)) for place in places],
                colors=style.get("grid_color", mpl.rcParams["grid.color"]),
                linewidths=style.get("grid_linewidth", mpl.rcParams["grid.linewidth"]),
                transform=axes.get_xaxis_transform() if vertical else axes.get_yaxis_transform(),
                zorder=0.5,
            )
            axes.add_collection(rules, autolim=False)
            axes.tick_params(axis="x" if vertical else "y", which="both", **{tick: False})
            axis.grid(visible=False, which="both")


def _tick(axis: Axis, value: float, _position: object = None) -> str:
    low, high = axis.get_view_interval()
    return f"{value:g}" if high <= _SHORT * low or math.log10(value).is_integer() else ""


def inline(document: str, name: str, title: str, description: str) -> str:
    """The document as an element for a page: ids of its own, title and description for those who cannot see it."""
    root = ET.fromstring(document)  # noqa: S314 - drawn by ourselves just now
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            element.set(key, _own(key, value, name))
    for part in [part for part in root if part.tag == f"{{{_SVG}}}metadata"]:
        root.remove(part)
    for attribute in ("width", "height"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-desc")
    root.set("style", f"max-width: {_width(root):.0f}pt")
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        part = ET.Element(f"{{{_SVG}}}{tag}", {"id": f"{name}-{tag}"})
        part.text = printable(text)
        root.insert(place, part)
    return ET.tostring(root, encoding="unicode")


def box(document: str) -> str:
    """The view box of a document: left, top, width and height in points."""
    found = re.search(r'<svg [^>]*viewBox="([^"]*)"', document)
    return found[1] if found else "0 0 504 360"


def _own(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key.endswith("href") and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    value = _REFERENCE.sub(lambda match: f"url(#{name}-{match[1]})", value)
    if key in {"style", "fill", "stroke"}:
        for colour, variable in _THEME.items():
            value = value.replace(colour, variable)
    return value


def _width(root: ET.Element) -> float:
    """In points, from the view box."""
    return float((root.get("viewBox") or "0 0 504 0").split()[2])
