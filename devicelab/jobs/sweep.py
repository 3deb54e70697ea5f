"""A sweep: experiment → plan → runs on one device → store → findings → report."""

import contextlib
import json
import os
import secrets
import socket
import statistics
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from devicelab import knobs
from devicelab.device import runner
from devicelab.device.build import Built
from devicelab.device.facts import Device, open_device, read_again
from devicelab.device.lab import DeviceEntry
from devicelab.errors import ConfigError, DeviceBusyError, DeviceRefusedError, LabError, MeasurementError, RestoreError
from devicelab.experiment import plan as planning
from devicelab.experiment import tenancy
from devicelab.ground import registry, user
from devicelab.ground.interruption import interruptible
from devicelab.ground.safe_text import masked
from devicelab.model.campaign import BinaryInfo, CampaignInfo
from devicelab.model.device import Facts
from devicelab.model.experiment import Cell, Experiment, Finding
from devicelab.model.journal import Event, Flag, PlanEnd, PlanStart, RunRecord, RunStart
from devicelab.model.measurement import Measurement
from devicelab.model.plan import Plan, Run
from devicelab.schedulers.base import Place
from devicelab.store import Store

# How often a campaign's missing runs are planned anew after the agent was lost, before the sweep gives up.
MAX_RESTARTS = 3


@dataclass(frozen=True)
class Progress:
    """Where a sweep is: ``eta_s`` is learnt from the runs so far, ``None`` before the first one ends."""

    done: int
    total: int
    invalid: int
    cell: str
    eta_s: float | None


@dataclass(frozen=True)
class SweepResult:
    """What a sweep did.

    Attributes:
        runs: stored runs of the campaign, ``invalid`` those of them that are flagged.
        interrupted: ended early by Ctrl-C, a signal or whoever was asked; ``--resume`` goes on.
        report, findings: nothing if it was not concluded yet.
        unmet: what the device could not be brought to do though the cells name it (not required).
        undone: what an earlier agent had left pending and was undone first.
        reasons: why runs are invalid, most frequent first: a flag's code, how many runs have it, the words of one.
    """

    campaign: str
    device: str
    board: str
    simulated: bool
    runs: int
    planned: int
    invalid: int
    invalid_cells: tuple[str, ...]
    report: Path | None = None
    findings: tuple[Finding, ...] = ()
    unmet: dict[str, tuple[str, ...]] = field(default_factory=dict)
    undone: tuple[str, ...] = ()
    interrupted: bool = False
    reasons: tuple[tuple[str, int, str], ...] = ()


def holder() -> str:
    """Who we are, for the lease: user, host and process."""
    return f"{user.shown_name()}@{socket.gethostname()} pid {os.getpid()}"


def new_campaign_id() -> str:
    """Sortable by time, unlikely to be drawn twice: ``20261122-101500-3f2a``."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"


def binary_info(built: Built) -> BinaryInfo:
    """A built program as the store keeps it."""
    return BinaryInfo(
        name=built.program,
        sha256=built.sha256,
        target=built.abi,
        toolchain=built.toolchain,
        compiler=built.compiler_version,
    )


def place_of(device: Device) -> Place:
    """What planning has to know of a device beyond its facts."""
    return Place(device.facts, device.entry.prefixes, device.entry.python)


def dry_run(experiment: Experiment, entry: DeviceEntry) -> tuple[planning.Planned, Facts]:
    """The plans a sweep would execute. Reads the device; changes nothing but putting the agent there."""
    device = open_device(entry)
    try:
        return planning.make(experiment, place_of(device), campaign="dry-run", holder=holder()), device.facts
    finally:
        device.transport.close()


def sweep(
    experiment: Experiment,
    entry: DeviceEntry,
    store: Store,
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
    device = open_device(entry)
    try:
        campaign = _to_resume(store, device.facts.name, experiment.name).campaign if resume else None
        done = perform(experiment, device, store, campaign=campaign, night=night, on_progress=on_progress)
    finally:
        device.transport.close()
    findings, report = conclude(store, done.campaign, report_to)
    return replace(done, findings=findings, report=report)


def perform(
    experiment: Experiment,
    device: Device,
    store: Store,
    *,
    campaign: str | None = None,
    only: Collection[str] = (),
    night: str | None = None,
    stop: Callable[[], bool] | None = None,
    patience_s: float = runner.PATIENCE_S,
    on_progress: Callable[[Progress], None] | None = None,
) -> SweepResult:
    """Run an experiment on an open device, every run stored once; nothing is concluded.

    Args:
        experiment: what to run; a campaign that goes on keeps its own.
        device: not closed at the end.
        store: where the runs go.
        campaign: the id to use. One that is stored and not complete goes on: what the board finished meanwhile is
            fetched, what a dead agent left is undone, the rest is done. ``None`` draws a new one.
        only: ids of the cells to run; empty: all.
        night: the farm's night it belongs to.
        stop: asked every second; True ends the agent, gives the device back and keeps what is done (``interrupted``).
        patience_s: how long a device that went away is waited for.
        on_progress: told after every run.

    Raises:
        LabError: any of ``devicelab.errors``; what was measured before is stored.
    """
    open_ones = store.unfinished(device=device.facts.name)
    if any(info.campaign == campaign for info in open_ones):
        conductor = _resumed(device, store, str(campaign))
    else:
        conductor = _begun(experiment, device, store, campaign or new_campaign_id(), only, night)
    conductor.on_progress, conductor.stop, conductor.patience_s = on_progress, stop, patience_s
    interrupted = conductor.run_to_end()
    return _result(conductor, interrupted=interrupted)


def _resumed(device: Device, store: Store, campaign: str) -> "_Conductor":
    experiment = store.experiment(campaign)
    cells = {cell.cell_id: cell for cell in store.cells(campaign)}
    plans = tuple(Plan.model_validate(data) for data in json.loads(store.plan_json(campaign) or "[]"))
    programs = planning.programs(experiment, cells.values())
    return _Conductor(device, store, experiment, campaign, cells, plans, programs, resumed=True)


def _begun(
    experiment: Experiment, device: Device, store: Store, campaign: str, only: Collection[str], night: str | None
) -> "_Conductor":
    undone = runner.make_ready(device, holder())
    if undone:
        device = read_again(device)
    planned = planning.make(experiment, place_of(device), campaign=campaign, holder=holder(), only=only)
    built = runner.compiled(device, planned.programs)
    store.begin_campaign(
        campaign=campaign,
        experiment=experiment,
        facts=device.facts,
        cells=tuple(planned.cells.values()),
        command=masked(" ".join(sys.argv)),
        binaries=[binary_info(item) for item in built],
        plan_json=json.dumps([json.loads(plan.to_json()) for plan in planned.plans]),
        night=night,
    )
    return _Conductor(
        device, store, experiment, campaign, planned.cells, planned.plans, planned.programs,
        unmet=planned.unmet, undone=undone,
    )  # fmt: skip


def _to_resume(store: Store, device: str, experiment: str) -> CampaignInfo:
    found = store.unfinished(device=device, experiment=experiment)
    if not found:
        raise ConfigError(f"no unfinished campaign of {experiment!r} on {device}", hint="start one without --resume")
    return found[0]


class _Conductor:
    """One campaign on one device: hands plans to the runner and commits what comes back."""

    def __init__(
        self,
        device: Device,
        store: Store,
        experiment: Experiment,
        campaign: str,
        cells: dict[str, Cell],
        plans: Sequence[Plan],
        programs: tuple[str, ...],
        *,
        resumed: bool = False,
        unmet: dict[str, tuple[str, ...]] | None = None,
        undone: tuple[str, ...] = (),
    ) -> None:
        self.device = device
        self.store = store
        self.experiment = experiment
        self.campaign = campaign
        self.cells = cells
        self.plans = plans
        self.programs = programs
        self.files = tenancy.files(experiment)
        self.resumed = resumed
        self.unmet = unmet or {}
        self.undone = undone
        self.begun: Plan | None = None
        self.on_progress: Callable[[Progress], None] | None = None
        self.stop: Callable[[], bool] | None = None
        self.patience_s = runner.PATIENCE_S
        self.runs: dict[str, Run] = {run.run_id: run for plan in plans for run in plan.runs}
        self.done = set(store.done_runs(campaign))
        self.invalid = 0
        self.spans_s: list[float] = []
        self._started: tuple[str, float] | None = None

    def run_to_end(self) -> bool:
        """All runs, or until interrupted (then True)."""
        with interruptible() as signals:
            try:
                if self.resumed:
                    self._fetch()
                self._execute()
            except (KeyboardInterrupt, runner.StopRequestedError):
                signals.ending = True
                self._interrupted()
                return True
            except LabError as error:
                with contextlib.suppress(LabError):
                    self.store.finish_campaign(self.campaign, "interrupted", error.message)
                raise
            except BaseException:  # a mistake of ours, or of who is told the progress: no agent goes on for nobody
                signals.ending = True
                with contextlib.suppress(Exception):
                    self._interrupted()
                raise
            self.store.finish_campaign(self.campaign, "complete")
            return False

    def missing(self) -> tuple[Run, ...]:
        """Planned runs that are not stored yet, in their order."""
        return tuple(run for run_id, run in self.runs.items() if run_id not in self.done)

    def _execute(self) -> None:
        restarts = 0
        blocks = list(self._blocks())
        while blocks:
            plan = blocks.pop(0)
            runner.deploy(self.device, self.programs, plan, self.files)
            self.begun = plan
            runner.start(self.device, plan)
            try:
                end = self._attend(plan)
            except runner.AgentLostError:
                restarts += 1
                if restarts > MAX_RESTARTS:
                    raise
                self._plan_again()
                self._clean(plan)
                blocks = list(self._blocks(again=True))
                continue
            _check_end(end, self.device.facts.name)
            self._clean(plan)

    def _clean(self, plan: Plan) -> None:
        self.begun = None  # it has ended, and what it journalled is stored
        runner.clean(self.device, plan)

    def _attend(self, plan: Plan) -> PlanEnd:
        return runner.attend(self.device, plan, self._see, patience_s=self.patience_s, stop=self.stop)

    def _blocks(self, *, again: bool = False) -> Iterator[Plan]:
        """The missing runs as plans; planned anew (with new ids) where some of a plan are done already."""
        todo = self.missing()
        if not again and not self.resumed and len(todo) == len(self.runs):
            yield from self.plans
            return
        for start in range(0, len(todo), planning.BLOCK):
            runs = todo[start : start + planning.BLOCK]
            plan_id = planning.plan_id(self.campaign, runs)
            yield self.plans[0].model_copy(update={"plan_id": plan_id, "runs": runs, "holder": holder()})

    def _fetch(self) -> None:
        """After a loss of this host: attach to the agent if it still works, take what it journalled, undo if dead."""
        found = runner.status(self.device)
        if found.alive and not found.works_for(self.campaign):
            raise DeviceBusyError(
                f"held by {found.holder or 'another agent'}", device=self.device.facts.name, hint="try again later"
            )
        for plan_id in runner.plans_there(self.device, self.campaign):
            plan = self.begun = self.plans[0].model_copy(update={"plan_id": plan_id, "runs": tuple(self.runs.values())})
            # How that plan ended is history: what is wrong with the device by now shows when it is made ready.
            with contextlib.suppress(runner.AgentLostError, ConfigError, DeviceBusyError, RestoreError):
                self._attend(plan)
            self._clean(plan)
        self._plan_again()

    def _plan_again(self) -> None:
        """Undo what a dead agent left; plan the same runs for what the device is now, maybe after a reboot."""
        self.device = read_again(self.device)
        if runner.make_ready(self.device, holder()):
            self.device = read_again(self.device)
        self.plans = planning.make(
            self.experiment, place_of(self.device), campaign=self.campaign, holder=holder()
        ).plans
        self.runs |= {run.run_id: run for plan in self.plans for run in plan.runs if run.run_id in self.runs}

    def _interrupted(self) -> None:
        self.on_progress = None  # who watched may be why it ends
        try:
            if self.begun is not None:
                runner.stop(self.device, self.begun)
                with contextlib.suppress(LabError):
                    runner.drain(self.device, self.begun, self._see)
        finally:
            self.store.finish_campaign(self.campaign, "interrupted", "stopped early")

    def _see(self, event: Event) -> None:
        if isinstance(event, RunStart):
            run = self.runs.get(event.run_id)
            self._started = (event.run_id, time.monotonic())
            self._report(self.cells[run.cell_id].label() if run else "")
        elif isinstance(event, RunRecord):
            self._commit(event)
        elif isinstance(event, PlanStart | PlanEnd):
            _raise_for(event.flags, self.device.facts.name)

    def _commit(self, record: RunRecord) -> None:
        run = self.runs.get(record.run_id)
        if run is None or any(flag.code == "interrupted" for flag in record.flags):
            return  # not of this campaign, or cut off by us: to be done again
        cell = self.cells[run.cell_id]
        measurements, flags = judge(record, cell, self.experiment, self.device.facts)
        if self.store.commit_run(
            self.campaign, cell, record, repetition=run.repetition, measurements=measurements, flags=flags
        ):
            self.invalid += not all(flag.remark for flag in flags)
        self.done.add(record.run_id)
        if self._started and self._started[0] == record.run_id:
            self.spans_s.append(time.monotonic() - self._started[1])
        self._report(cell.label())

    def _report(self, cell: str) -> None:
        if self.on_progress is not None:
            left = len(self.runs) - len(self.done)
            eta_s = left * statistics.median(self.spans_s) if self.spans_s else None
            self.on_progress(Progress(len(self.done), len(self.runs), self.invalid, cell, eta_s))


def judge(
    record: RunRecord, cell: Cell, experiment: Experiment, facts: Facts
) -> tuple[dict[str, Measurement], tuple[Flag, ...]]:
    """A finished run's measurements, and every reason not to believe it: the agent's, the workload's, the knobs'."""
    flags = list(record.flags)
    measurements: dict[str, Measurement] = {}
    if experiment.measure is not None:
        workload = registry.module("workloads", experiment.measure.workload)
        params = planning.workload_params(experiment.measure, cell)
        for result in record.programs:
            if result.role == "measure":
                try:
                    measured: Measurement = workload.parse(result.output(), params)
                except (MeasurementError, ValueError) as error:
                    told = error.message if isinstance(error, LabError) else str(error)
                    said = "".join(f"; it said: {line[:200]}" for line in result.stderr_tail.strip().splitlines()[-1:])
                    flags.append(Flag(code="output-unusable", detail=f"{told}{said}"))
                    continue
                if facts.simulated and not measured.simulated:
                    measured = replace(measured, simulated=True)
                measurements[result.name] = measured
                flags += measured.flags
    if experiment.tenants:
        measurements, found = tenancy.judge(record, cell, experiment, facts.board.kind)
        flags += found
    if experiment.thermal is not None and experiment.thermal.max_c is not None:
        flags += knobs.prove("thermal", experiment.thermal.max_c, facts, record)
    for word in knobs.words():
        if word in cell.levels:
            flags += knobs.prove(word, cell.levels[word], knobs.assume(cell.levels, facts), record)
    return measurements, tuple(dict.fromkeys(flags))


def conclude(store: Store, campaign: str, report_to: Path | None = None) -> tuple[tuple[Finding, ...], Path]:
    """Analyse a campaign's stored runs, store the findings and write the report page."""
    from devicelab.report import build_report

    results = store.results(campaign)
    names = dict.fromkeys((*results.experiment.analyses, *(("checks",) if results.experiment.checks else ())))
    findings = tuple(finding for name in names for finding in registry.module("analyses", name).analyse(results))
    store.add_findings(campaign, findings)
    return findings, build_report(store, campaign, report_to)


def _result(conductor: _Conductor, *, interrupted: bool) -> SweepResult:
    store, campaign, facts = conductor.store, conductor.campaign, conductor.device.facts
    runs = store.results(campaign).runs()
    valid = set(runs.loc[runs["valid"], "cell_id"]) if len(runs) else set()
    return SweepResult(
        campaign=campaign,
        device=facts.name,
        board=facts.board.kind,
        simulated=facts.simulated,
        runs=len(runs),
        planned=len(conductor.runs),
        invalid=int((~runs["valid"]).sum()) if len(runs) else 0,
        invalid_cells=tuple(c.label() for i, c in conductor.cells.items() if i not in valid),
        unmet=conductor.unmet,
        undone=conductor.undone,
        interrupted=interrupted,
        reasons=_reasons(runs.loc[~runs["valid"], "flags"]) if len(runs) else (),
    )


def _reasons(flags: Iterable[tuple[Flag, ...]]) -> tuple[tuple[str, int, str], ...]:
    found: dict[str, list[str]] = {}
    for of_run in flags:
        for code, detail in {flag.code: flag.detail for flag in of_run}.items():
            found.setdefault(code, []).append(detail)
    ranked = sorted(found.items(), key=lambda item: -len(item[1]))
    return tuple((code, len(details), details[0]) for code, details in ranked)


def _check_end(end: PlanEnd, device: str) -> None:
    _raise_for(end.flags, device)
    if end.reason == "complete":
        return
    why = "; ".join(flag.detail for flag in end.flags) or end.reason
    if end.reason == "failure":
        # The agent can neither write nor go on there, and would not be able to the next time either.
        hint = "mend that (free space there), then `devicelab sweep --resume` goes on"
        raise DeviceRefusedError(f"the plan ended early: {why}", device=device, hint=hint)
    hint = "`devicelab sweep --resume` does what is missing"
    raise runner.AgentLostError(f"the plan was ended early: {why}", device=device, hint=hint)


def _raise_for(flags: Sequence[Flag], device: str) -> None:
    for flag in flags:
        if flag.code == "restore-failed":
            raise RestoreError(f"could not be put back as it was found: {flag.detail}", device=device)
        if flag.code == "agent-busy":
            raise DeviceBusyError(flag.detail, device=device)


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
        "reasons": [{"flag": code, "runs": runs, "detail": detail} for code, runs, detail in result.reasons],
        "report": str(result.report) if result.report else None,
        "findings": [finding.model_dump(mode="json") for finding in result.findings],
        "unmet": {word: list(reasons) for word, reasons in result.unmet.items()},
        "undone": list(result.undone),
        "interrupted": result.interrupted,
    }
