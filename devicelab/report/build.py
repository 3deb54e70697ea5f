"""From a stored campaign to its report."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from devicelab.analyses import sequential
from devicelab.analyses.base import Drawing, Figure
from devicelab.errors import ConfigError, SamplesDroppedError
from devicelab.ground import registry
from devicelab.model.experiment import Experiment, Finding, in_order
from devicelab.model.results import Results
from devicelab.report.beside import write_beside
from devicelab.report.page import render
from devicelab.store.export import file_stem
from devicelab.store.reading import StoreReader


def build_report(store: StoreReader, campaign: str | None, to: Path | None = None) -> Path:
    """Write a campaign's page and return its path (``devicelab-report/CAMPAIGN.html`` unless told otherwise).

    The stored findings are shown; if there are none, the experiment's analyses are asked.

    Args:
        store: where the campaign is.
        campaign: id, unique prefix, or ``None`` for the latest.
        to: the file to write.

    Raises:
        ConfigError: no such campaign; the file cannot be written.
        StoreError: the store cannot be read.
    """
    results = store.results(store.campaign(campaign).campaign)
    return write_page(results, store.findings(results.campaign) or conclude(results), to)


def write_page(results: Results, findings: Sequence[Finding], to: Path | None = None) -> Path:
    """Write the page of these results and findings, with the figures of the experiment's analyses, and its traces.

    Raises:
        ConfigError: the file cannot be written.
    """
    page = to or page_path(results.campaign)
    return render(results, findings, drawn(results), page, traces=write_beside(results, page))


def page_path(campaign: str) -> Path:
    """Where a campaign's page goes unless told otherwise."""
    return Path("devicelab-report") / f"{file_stem(campaign)}.html"


def drawn(results: Results) -> list[Figure]:
    """The figures of the answer and of the experiment's analyses."""
    answer = ("answer",) if results.experiment.answer is not None else ()
    names = dict.fromkeys((*answer, *_analyses(results.experiment)))
    return [figure for name in names for figure in _figures(name, results)]


def conclude(results: Results) -> tuple[Finding, ...]:
    """What the experiment's analyses find in the results: the answer to its question first, then its own checks.

    One that this version does not know, and one whose raw samples were dropped from the database, is said to be
    missing.
    """
    findings: list[Finding] = []
    for name in _analyses(results.experiment):
        try:
            module = registry.analysis(name)
        except ConfigError as error:
            findings.append(
                Finding(analysis=name, claim=f"Analysis {name!r}", verdict="invalid", reasons=(str(error),))
            )
            continue
        try:
            findings += module.analyse(results)
        except SamplesDroppedError as error:
            reasons = (f"{error.message}: nothing can be concluded any more",)
            left = Finding(analysis=name, claim=f"Analysis {name!r}", verdict="insufficient n", reasons=reasons)
            findings.append(left.model_copy(update={"answer": name == "answer"}))
    if results.experiment.rule is not None:
        judged = [one for one in findings if one.interval == "anytime"]
        findings = [*judged, *sequential.without_verdict([one for one in findings if one.interval != "anytime"])]
    return in_order(findings)


def _analyses(experiment: Experiment) -> tuple[str, ...]:
    return (*_asked(experiment), *(("tracing",) if experiment.trace is not None else ()))


def _asked(experiment: Experiment) -> tuple[str, ...]:
    if experiment.search is not None:
        return tuple(dict.fromkeys(("searching", *experiment.analyses)))
    if experiment.stop is not None:
        concluded = ("answer",) if experiment.answer is not None and not experiment.answer.by else ()
        return tuple(dict.fromkeys(("sequential", *concluded, *experiment.analyses)))
    answer = ("answer",) if experiment.answer is not None else ()
    checks = ("checks",) if experiment.checks else ()
    return tuple(dict.fromkeys((*answer, *checks, *experiment.analyses)))


def _figures(name: str, results: Results) -> tuple[Figure, ...]:
    try:
        module = registry.analysis(name)
    except ConfigError:
        return ()
    if isinstance(module, Drawing):
        with contextlib.suppress(SamplesDroppedError):  # the page says that they are missing, and why
            return module.figures(results)
    return ()
