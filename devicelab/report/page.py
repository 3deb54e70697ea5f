"""From results, findings and figures to one self-contained HTML page."""

import base64
import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from devicelab import __version__
from devicelab.analyses.base import Figure
from devicelab.errors import ConfigError
from devicelab.experiment.conditions import RunConditions, run_conditions
from devicelab.ground import budget
from devicelab.ground.files import replacing
from devicelab.ground.registry import data_dir
from devicelab.model.campaign import ENDED, unreliable
from devicelab.model.experiment import Finding
from devicelab.model.results import Results
from devicelab.report import svg, tables
from devicelab.report.clean import printable
from devicelab.report.figures import built_in
from devicelab.report.figures_timeline import MOST, timelines
from devicelab.report.headline import headline
from devicelab.store.export import file_stem, spreadsheet_safe

# A page with more than this in one table could not be opened on a phone; `devicelab export` has no limit.
_MAX_CSV_BYTES = 3_000_000


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


def render(results: Results, findings: Sequence[Finding], figures: Sequence[Figure], to: Path) -> Path:
    """Write the page of a campaign: findings, conditions, the given figures and the built-in ones, runs.

    A given figure replaces a built-in one of the same name. The page loads nothing, runs no script, and every text in
    it is escaped. The file appears at once when it is complete.

    Raises:
        ConfigError: the file cannot be written.
    """
    conditions = {run_id: run_conditions(results.evidence(run_id)) for run_id in results.runs()["run_id"]}
    given = {figure.name for figure in figures}
    every = [*figures, *(figure for figure in built_in(results, conditions) if figure.name not in given)]
    context = {"page": _page(results, findings, every, conditions), "version": __version__}
    text = environment().get_template("report.html.j2").render(context)
    with written(to) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return to


# Longer texts are no help to anybody who reads a page; the database and its exports have them whole.
_MAX_TEXT = 20_000


def environment() -> Environment:
    """Templates from ``reports/``; everything is escaped unless it is marked as markup."""
    return Environment(
        loader=FileSystemLoader(data_dir("reports")),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        keep_trailing_newline=True,
    )


def _shown(value: object) -> object:
    """What a template prints; figures are markup and were cleaned when they were drawn."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return printable(budget.cut(value, _MAX_TEXT))


@contextlib.contextmanager
def written(to: Path) -> Iterator[Path]:
    """A temporary neighbour of ``to`` that takes its place at the end.

    Raises:
        ConfigError: the folder or the file cannot be written.
    """
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with replacing(to) as temporary:
            yield temporary
    except OSError as error:
        raise ConfigError(f"cannot write {to}: {error.strerror or error}", hint="choose another place") from error


def data_uri(kind: str, data: bytes) -> Markup:
    """The data as a link that needs no server; nothing in it is to be escaped."""
    return Markup(f"data:{kind};base64,{base64.b64encode(data).decode()}")  # noqa: S704


def _page(
    results: Results,
    findings: Sequence[Finding],
    figures: Sequence[Figure],
    conditions: Mapping[str, RunConditions],
) -> dict[str, Any]:
    info = results.info
    runs_csv = spreadsheet_safe(tables.csv_of_runs(results)).to_csv(index=False, lineterminator="\n").encode()
    return {
        "campaign": results.campaign,
        "title": results.experiment.name or "Campaign",
        "question": results.experiment.question,
        "device": info.get("device", ""),
        "complete": info.get("status", "complete") in ENDED,
        "simulated": bool(info.get("simulated")),
        "banners": _banners(results),
        "tiles": [{"value": value, "label": label} for value, label in tables.tiles(results)],
        "headline": headline(results, findings),
        "findings": tables.finding_views([one for one in findings if _stands_first(one)]),
        "further": tables.finding_views([one for one in findings if not _stands_first(one)]),
        "facts": tables.facts(results),
        "factors": tables.factors(results),
        "binaries": tables.binaries(results),
        "conditions": tables.condition_views(results, conditions),
        "conditions_note": _conditions_note(conditions),
        "metrics": tables.metric_table(results),
        "figures": [_figure(figure, results.campaign) for figure in figures],
        "timelines": [_figure(figure, results.campaign) for figure in timelines(results)],
        "timelines_note": _timelines_note(results),
        "reasons": tables.reason_table(results),
        "invalid": tables.invalid_table(results),
        "runs": tables.run_table(results),
        "downloads": [
            {"file": f"{results.campaign}-runs.csv", "uri": data_uri("text/csv", runs_csv), "label": "CSV of all runs"}
        ]
        if len(runs_csv) <= _MAX_CSV_BYTES
        else [],
        "version": info.get("version", __version__),
        "made": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _stands_first(finding: Finding) -> bool:
    """What a reader came for, or has to know: the rest is folded away below."""
    return finding.answer or finding.analysis == "checks" or finding.verdict in {"fail", "invalid"}


def _banners(results: Results) -> list[dict[str, str]]:
    info = results.info
    banners = []
    if info.get("simulated"):
        emulated = ", ".join(info.get("emulated") or ())
        what = f"An emulated part was measured ({emulated})" if emulated else "The device is a virtual board"
        text = f"{what}: the figures test the method and say nothing about real silicon."
        banners.append({"tone": "warn", "head": "Simulated.", "text": text})
    status = info.get("status", "complete")
    runs = results.runs()
    invalid = int((~runs["valid"]).sum())
    if status in ENDED and unreliable(len(runs), invalid):
        text = f"{invalid} of {len(runs)} runs are flagged: what is left of the campaign proves little."
        banners.append({"tone": "bad", "head": "Unreliable.", "text": text})
    elif status != "complete":
        reason = f" ({info['reason']})" if info.get("reason") else ""
        text = f"The campaign is {status}{reason}; the page shows what is stored so far."
        banners.append({"tone": "bad", "head": "Not complete.", "text": text})
    if dropped := tables.dropped_samples(results):
        text = f"{dropped} Figures that need them are missing; findings are those made while they were there."
        banners.append({"tone": "warn", "head": "Raw samples dropped.", "text": text})
    if invalid:
        text = f"{invalid} of {len(runs)} runs are invalid and left out of every figure and verdict."
        banners.append({"tone": "warn", "head": "Invalid runs.", "text": text})
    return banners


def _timelines_note(results: Results) -> str:
    cells = int(results.runs()["cell_id"].nunique())
    drawn = f"The first {MOST} of {cells} cells. " if cells > MOST else ""
    is_traced = results.runs()["flags"].map(lambda flags: any(flag.code == "traced" for flag in flags)).astype(bool)
    by_system = [str(run) for run in results.runs().loc[is_traced, "run_id"]]
    if by_system:
        drawn += f"`devicelab trace {results.campaign} RUN --system` writes what the system's tracer recorded of "
        drawn += f"{', '.join(by_system)}. "
    return f"{drawn}`devicelab trace {results.campaign}` writes every run, with its kernels, for ui.perfetto.dev."


def _conditions_note(conditions: Mapping[str, RunConditions]) -> str:
    shares = [one.agent_pct for one in conditions.values() if one.agent_pct is not None]
    left = sum(one.left_behind for one in conditions.values())
    notes = [f"The agent itself used at most {max(shares):.2f} % of one core."] if shares else []
    if conditions:
        notes.append("No process was left behind." if not left else f"{left} processes were left behind.")
    return " ".join(notes)


def _figure(figure: Figure, campaign: str) -> FigureView:
    name, error, uri, markup = file_stem(figure.name), "", "", None
    try:
        document = svg.draw(figure)
    except Exception as problem:  # noqa: BLE001 - one figure's failure must not cost the page; it is shown there
        error = f"{type(problem).__name__}: {problem}"
    else:
        # Drawn here and serialised by an XML writer: every text in it is escaped.
        markup = Markup(svg.inline(document, f"figure-{name}", figure.title, figure.caption))  # noqa: S704
        uri = data_uri("image/svg+xml", document.encode())
    csv_uri, note = _csv(figure.data)
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
    )


def _csv(data: pd.DataFrame) -> tuple[str, str]:
    text = spreadsheet_safe(data).to_csv(index=False, lineterminator="\n").encode()
    if len(text) > _MAX_CSV_BYTES:
        return "", f"Its data ({len(data)} rows) is too large for a page: `devicelab export` writes it."
    return data_uri("text/csv", text), ""
