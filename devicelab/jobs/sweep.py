"""A sweep: experiment → plan → runs on one device → store → findings → report."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devicelab.device.facts import Device, open_device
from devicelab.device.lab import DeviceEntry
from devicelab.errors import ConfigError
from devicelab.experiment import claims, stopping
from devicelab.experiment import plan as planning
from devicelab.experiment.claims import Claim
from devicelab.experiment.remedies import REMEDIES
from devicelab.ground import meanwhile, user
from devicelab.jobs.conductor import Progress, SweepResult, perform
from devicelab.jobs.plugins import vouch
from devicelab.model.campaign import CampaignInfo, unreliable
from devicelab.model.device import Facts
from devicelab.model.experiment import Experiment, Finding
from devicelab.model.results import Results

if TYPE_CHECKING:
    from devicelab.analyses.searching import Outlook
    from devicelab.store import Store
    from devicelab.store.reading import StoreReader

# Analyses come with pandas, pages with matplotlib: they are imported where they are used, so that the device begins to
# measure before.


def dry_run(experiment: Experiment, entry: DeviceEntry) -> tuple[planning.Planned, Facts]:
    """The plans a sweep would execute. Reads the device; changes nothing but putting the agent there."""
    vouch(experiment)
    device = open_device(entry)
    try:
        return planning.make(
            experiment, device.place, campaign="dry-run", holder=user.holder(), metered=bool(entry.meter)
        ), device.facts
    finally:
        device.transport.close()


def claims_of(experiment: Experiment) -> tuple[Claim, ...]:
    """What an experiment with a stop rule decides upon; nothing without one."""
    if experiment.stop is None or experiment.search is not None:
        return ()
    from devicelab.analyses import answer

    levels = {cell.cell_id: cell.levels for cell in planning.cells(experiment)}
    return claims.required(experiment, levels, answer.known(experiment))


def search_of(experiment: Experiment) -> "Outlook | None":
    """What a search will do; nothing of an experiment that is none.

    Raises:
        ConfigError: what it needs is not installed.
    """
    if experiment.search is None:
        return None
    from devicelab.analyses import searching

    return searching.outlook(experiment, {cell.cell_id: cell.levels for cell in planning.cells(experiment)})


def likely_repetitions(experiment: Experiment, device: str, store: "Store | None") -> dict[str, int | None]:
    """Claim → repetitions it is likely to take, by the scatter of this experiment's latest campaign on the device.

    ``None`` where no such campaign tells: cells are known by their content, so another level tells nothing.
    """
    from devicelab.analyses import sequential

    decided = claims_of(experiment)
    earlier = store.campaigns(limit=1, device=device, experiment=experiment.name) if store is not None else ()
    if store is None or not earlier or experiment.stop is None:
        return dict.fromkeys(claim.name for claim in decided)
    results = store.results(earlier[0].campaign)
    return {
        claim.name: stopping.likely(claim, sequential.figures_of(results, claim), experiment.stop) for claim in decided
    }


def known_run_s(experiment: Experiment, device: str, store: "StoreReader") -> float | None:
    """How long a run of this experiment took on the device in its latest campaign, with the cool-down after it.

    ``None`` where there is none.
    """
    earlier = store.campaigns(limit=1, device=device, experiment=experiment.name)
    runs = store.results(earlier[0].campaign).runs() if earlier else None
    if runs is None or runs.empty:
        return None
    return float(runs["duration_ns"].mean()) / 1e9 + experiment.cooldown_s


def sweep(
    experiment: Experiment,
    entry: DeviceEntry,
    store: "Store",
    *,
    resume: bool = False,
    report_to: Path | None = None,
    night: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> SweepResult:
    """Run an experiment on a device, every run stored once, and conclude.

    With ``resume`` the latest unfinished campaign of this experiment on this device goes on: what the board finished
    meanwhile is fetched, the rest is done. Ctrl-C stops the agent, which restores the device, and keeps what is done.

    Raises:
        LabError: any of ``devicelab.errors``; what was measured before is stored.
    """
    device = _looked_at(experiment, entry)
    return _measure(experiment, device, store, resume=resume, report_to=report_to, night=night, tell=on_progress)


def sweep_into(
    experiment: Experiment,
    entry: DeviceEntry,
    place: str | Path | None,
    *,
    resume: bool = False,
    report_to: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> SweepResult:
    """``sweep`` into the results database at a place, as ``Store.open`` takes it.

    The device is looked at first, and the database's library is loaded meanwhile.

    Raises:
        LabError: as ``sweep``.
    """
    meanwhile.load("sqlalchemy")
    device = _looked_at(experiment, entry)
    try:
        from devicelab.store import Store

        store = Store.open(place)
    except BaseException:
        device.transport.close()
        raise
    with store:
        return _measure(experiment, device, store, resume=resume, report_to=report_to, night=None, tell=on_progress)


def _looked_at(experiment: Experiment, entry: DeviceEntry) -> Device:
    """The device; nothing is begun that cannot go on."""
    vouch(experiment)
    search_of(experiment)
    return open_device(entry)


def _measure(
    experiment: Experiment,
    device: Device,
    store: "Store",
    *,
    resume: bool,
    report_to: Path | None,
    night: str | None,
    tell: Callable[[Progress], None] | None,
) -> SweepResult:
    try:
        campaign = _to_resume(store, device.facts.name, experiment.name).campaign if resume else None
        done = perform(experiment, device, store, campaign=campaign, night=night, on_progress=tell)
    finally:
        device.transport.close()
    from devicelab.report.headline import headline

    results = done.results or store.results(done.campaign)
    findings, report = conclude(store, results, report_to)
    return replace(done, findings=findings, report=report, headline=headline(results, findings))


def _to_resume(store: "Store", device: str, experiment: str) -> CampaignInfo:
    open_ones = store.unfinished(device=device, experiment=experiment)
    if not open_ones:
        raise ConfigError(f"no unfinished campaign of {experiment!r} on {device}", hint="start one without --resume")
    return open_ones[0]


def conclude(store: "Store", results: Results, report_to: Path | None = None) -> tuple[tuple[Finding, ...], Path]:
    """Analyse a campaign's stored runs, store the findings and write the report page."""
    from devicelab import report

    findings = report.conclude(results)
    store.add_findings(results.campaign, findings)
    return findings, report.write_page(results, findings, report_to)


def as_json(result: SweepResult) -> dict[str, Any]:
    """The result as plain data, for ``--json``."""
    return {
        "campaign": result.campaign,
        "device": result.device,
        "board": result.board,
        "simulated": result.simulated,
        "runs": result.runs,
        "planned": result.planned,
        "invalid": result.invalid,
        "invalid_cells": list(result.invalid_cells),
        "unreliable": unreliable(result.runs, result.invalid),
        "reasons": [
            {"flag": code, "runs": runs, "detail": detail, "remedy": REMEDIES.get(code)}
            for code, runs, detail in result.reasons
        ],
        "report": str(result.report) if result.report else None,
        "answer": asdict(result.headline) if result.headline is not None else None,
        "findings": [finding.model_dump(mode="json") for finding in result.findings],
        "unmet": {word: list(reasons) for word, reasons in result.unmet.items()},
        "undone": list(result.undone),
        "interrupted": result.interrupted,
        "ended": result.ended,
        "undecided": list(result.undecided),
    }
