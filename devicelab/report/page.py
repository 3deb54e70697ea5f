"""From results, findings and figures to one self-contained HTML page."""

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from devicelab.model.glossary import TERMS, VERDICTS
from devicelab.model.results import Results, without_traced
from devicelab.report import tables
from devicelab.report.clean import printable
from devicelab.report.figure_view import MAX_CSV_BYTES, answering, figure_view
from devicelab.report.figures import built_in
from devicelab.report.figures_timeline import MOST, timelines
from devicelab.report.headline import headline
from devicelab.report.links import Script, data_uri, script
from devicelab.report.method import method
from devicelab.store.export import spreadsheet_safe


@dataclass(frozen=True)
class TraceLink:
    """A trace as a page names it; ``href`` is empty where there is no file, and ``note`` says why.

    Attributes:
        run: its id.
        cell: what was performed.
        what: what the trace shows.
        href: relative to the page, ready for an attribute.
        file: the name of the file.
        size: of the file, for people.
        note: how to open it, or why it is not there.
    """

    run: str
    cell: str
    what: str
    href: str
    file: str
    size: str
    note: str


def render(
    results: Results,
    findings: Sequence[Finding],
    figures: Sequence[Figure],
    to: Path,
    *,
    traces: Sequence[TraceLink] = (),
) -> Path:
    """Write the page of a campaign: findings, conditions, the given figures and the built-in ones, runs.

    A given figure replaces a built-in one of the same name; ``traces`` lie beside the page. The page loads nothing,
    runs no script but its own, and every text in it is escaped. The file appears at once when it is complete.

    Raises:
        ConfigError: the file cannot be written.
    """
    conditions = {run_id: run_conditions(results.evidence(run_id)) for run_id in results.runs()["run_id"]}
    every = every_figure(results, figures, conditions)
    page = _page(results, findings, every, conditions) | {"traces": traces}
    drawn = [page["shown"], *page["figures"]] if page["shown"] is not None else page["figures"]
    context = {"page": page, "version": __version__, "scripts": scripts_for(charts=any(one.chart for one in drawn))}
    text = environment().get_template("report.html.j2").render(context)
    with written(to) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return to


def every_figure(
    results: Results, figures: Sequence[Figure], conditions: Mapping[str, RunConditions] | None = None
) -> list[Figure]:
    """The given figures and those that every page has; a given one replaces a built-in one of its name."""
    if conditions is None:
        conditions = {run_id: run_conditions(results.evidence(run_id)) for run_id in results.runs()["run_id"]}
    given = {figure.name for figure in figures}
    return [*figures, *(figure for figure in built_in(results, conditions) if figure.name not in given)]


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


def scripts_for(*, charts: bool = False) -> list[Script]:
    """What a page runs: copying and sorting, and the chart library where a figure has something to zoom into."""
    library = ("uplot/uPlot.iife.min.js", "charts.js") if charts else ()
    return [script(name) for name in ("page.js", *library)]


def _page(
    results: Results,
    findings: Sequence[Finding],
    figures: Sequence[Figure],
    conditions: Mapping[str, RunConditions],
) -> dict[str, Any]:
    info = results.info
    runs_csv = spreadsheet_safe(tables.csv_of_runs(results)).to_csv(index=False, lineterminator="\n").encode()
    asked = results.experiment.answer
    shown = answering(figures, asked.quantity) if asked is not None else None
    views = [figure_view(figure, results.campaign) for figure in figures if figure is not shown]
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
        "shown": figure_view(shown, results.campaign) if shown is not None else None,
        "findings": tables.finding_views([one for one in findings if _stands_first(one)]),
        "further": tables.finding_groups([one for one in findings if not _stands_first(one)]),
        "terms": TERMS,
        "verdicts": VERDICTS,
        "method": method(results),
        "facts": tables.facts(results),
        "factors": tables.factors(results),
        "binaries": tables.binaries(results),
        "conditions": tables.condition_views(results, conditions),
        "conditions_note": _conditions_note(conditions),
        "metrics": tables.metric_table(results),
        "figures": views,
        "timelines": [figure_view(figure, results.campaign, alone=True) for figure in timelines(results)],
        "timelines_note": _timelines_note(results),
        "reasons": tables.reason_table(results),
        "invalid": tables.invalid_table(results),
        "runs": tables.run_table(results),
        "downloads": [
            {"file": f"{results.campaign}-runs.csv", "uri": data_uri("text/csv", runs_csv), "label": "CSV of all runs"}
        ]
        if len(runs_csv) <= MAX_CSV_BYTES
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
    runs = without_traced(results.runs())
    invalid = int((~runs["valid"]).sum()) if len(runs) else 0
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
    return f"{drawn}`devicelab trace {results.campaign}` writes every run, with its kernels, for ui.perfetto.dev."


def _conditions_note(conditions: Mapping[str, RunConditions]) -> str:
    shares = [one.agent_pct for one in conditions.values() if one.agent_pct is not None]
    left = sum(one.left_behind for one in conditions.values())
    notes = [f"The agent itself used at most {max(shares):.2f} % of one core."] if shares else []
    if conditions:
        notes.append("No process was left behind." if not left else f"{left} processes were left behind.")
    return " ".join(notes)
