"""One campaign on one device: hands plans to the agent, commits every run that comes back, and ends in order."""

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from devicelab.device import agent, files, runner
from devicelab.device.facts import Device, read_again
from devicelab.errors import ConfigError, DeviceBusyError, DeviceRefusedError, DistrustError, LabError, RestoreError
from devicelab.experiment import blocks as asking
from devicelab.experiment import hopeless, programs, tracing
from devicelab.experiment import plan as planning
from devicelab.experiment.blocks import Block, End
from devicelab.experiment.judge import judge
from devicelab.experiment.programs import Needs
from devicelab.ground import user
from devicelab.ground.interruption import Interruptible, interruptible
from devicelab.ground.typed import typed
from devicelab.jobs import meter, traced
from devicelab.model import campaign as campaigns
from devicelab.model.experiment import Experiment, Finding
from devicelab.model.journal import Event, Flag, PlanEnd, PlanStart, RunRecord, RunStart
from devicelab.model.plan import Plan, Run
from devicelab.model.results import Results, without_traced, without_valid_run

if TYPE_CHECKING:  # pages are drawn when all is measured
    from devicelab.report.headline import Headline
    from devicelab.store import Store

# How often a campaign's missing runs are planned anew after the agent was lost, before the sweep gives up.
MAX_RESTARTS = 3
_OF_THE_PAST = (runner.AgentLostError, ConfigError, DeviceBusyError, DistrustError, RestoreError)


@dataclass(frozen=True)
class Progress:
    """Where a sweep is: ``eta_s`` is learnt from the runs so far, ``None`` before the first one ends.

    With a stop rule ``total`` is what was asked for so far and, as far as it can be told, what it is likely to take
    beyond that; ``undecided`` are the claims that are still open.
    """

    done: int
    total: int
    invalid: int
    cell: str
    eta_s: float | None
    undecided: tuple[str, ...] = ()


@dataclass(frozen=True)
class SweepResult:
    """What a sweep did.

    Attributes:
        runs: stored runs of the campaign without those for a tracer, ``invalid`` those of them that are flagged.
        interrupted: ended early by Ctrl-C, a signal or whoever was asked; ``--resume`` goes on.
        report, findings, headline: nothing if it was not concluded yet.
        unmet: what the device could not be brought to do though the cells name it (not required).
        undone: what an earlier agent had left pending and was undone first.
        ended: with a stop rule, why there were no more runs.
        undecided: with a stop rule, the claims that stayed open.
        reasons: why runs are invalid, most frequent first: a flag's code, how many runs have it, the words of one.
        results: the campaign as it is stored, read once for all who conclude from it.
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
    headline: "Headline | None" = None
    unmet: dict[str, tuple[str, ...]] = field(default_factory=dict)
    undone: tuple[str, ...] = ()
    interrupted: bool = False
    ended: str = ""
    undecided: tuple[str, ...] = ()
    reasons: tuple[tuple[str, int, str], ...] = ()
    results: Results | None = field(default=None, compare=False, repr=False)


def perform(
    experiment: Experiment,
    device: Device,
    store: "Store",
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
        conductor = _begun(experiment, device, store, campaign or campaigns.new_id(), only, night)
    conductor.on_progress, conductor.stop, conductor.patience_s = on_progress, stop, patience_s
    with meter.running(device.entry.meter, device.facts.name) as conductor.meter:
        interrupted = conductor.run_to_end()
    return _result(conductor, interrupted=interrupted)


def _resumed(device: Device, store: "Store", campaign: str) -> "_Conductor":
    experiment = store.experiment(campaign)
    cells = {cell.cell_id: cell for cell in store.cells(campaign)}
    plans = tuple(Plan.model_validate(data) for data in json.loads(store.plan_json(campaign) or "[]"))
    planned = planning.Planned(cells, plans, {}, programs.needs(experiment, cells.values()))
    then = dict(store.results(campaign).info.get("binaries") or {})
    if changed := [one.name for one in files.pushed(planned.needs) if then.get(one.name, one.sha256) != one.sha256]:
        raise ConfigError(
            f"{', '.join(changed)} is not what it was when campaign {campaign} began",
            hint="put the old file back, or begin anew without --resume: one campaign measures one program",
        )
    return _Conductor(device, store, experiment, campaign, planned, resumed=True)


def _make(experiment: Experiment, device: Device, campaign: str, only: Collection[str] = ()) -> planning.Planned:
    own = {"campaign": campaign, "holder": user.holder()}
    return planning.make(experiment, device.place, only=only, metered=bool(device.entry.meter), **own)


def _begun(
    experiment: Experiment, device: Device, store: "Store", campaign: str, only: Collection[str], night: str | None
) -> "_Conductor":
    undone = agent.make_ready(device, user.holder())
    if undone:
        device = read_again(device)
    planned = _make(experiment, device, campaign, only)
    built = runner.compiled(device, planned.needs.native)
    store.begin_campaign(
        campaign=campaign,
        experiment=experiment,
        facts=device.facts,
        cells=tuple(planned.cells.values()),
        command=typed(),
        binaries=[*(item.info for item in built), *files.pushed(planned.needs)],
        plan_json=json.dumps([json.loads(plan.to_json()) for plan in planned.plans]),
        night=night,
    )
    return _Conductor(device, store, experiment, campaign, planned, undone=undone)


class _Conductor:
    """One campaign on one device: hands plans to the agent and commits what comes back."""

    def __init__(
        self,
        device: Device,
        store: "Store",
        experiment: Experiment,
        campaign: str,
        planned: planning.Planned,
        *,
        resumed: bool = False,
        undone: tuple[str, ...] = (),
    ) -> None:
        self.device = device
        self.store = store
        self.experiment = experiment
        self.campaign = campaign
        self.planned = planned
        self.plans: Sequence[Plan] = planned.plans
        self.resumed = resumed
        self.undone = undone
        self.on_progress: Callable[[Progress], None] | None = None
        self.stop: Callable[[], bool] | None = None
        self.meter = meter.Meter()
        self.patience_s = runner.PATIENCE_S
        # With a rule runs are asked for block by block.
        asked = () if experiment.rule is not None else planned.plans
        self.runs: dict[str, Run] = {run.run_id: run for plan in asked for run in plan.runs}
        self.done = set(store.done_runs(campaign))
        self.invalid = 0
        self.spans_s: list[float] = []
        self._started: tuple[str, float] | None = None
        self._hopeless = hopeless.Streak(experiment.give_up_after, {c: x.levels for c, x in planned.cells.items()})
        self._clock = time.monotonic()
        self._step: Block | End | None = None
        self._fits: asking.Fits = lambda _: True

    def run_to_end(self) -> bool:
        """All runs, or until interrupted (then True)."""
        with interruptible() as signals:
            try:
                if self.resumed:
                    self._fetch(signals)
                self._execute(signals)
                self._trace(signals)
            except (KeyboardInterrupt, runner.StopRequestedError):
                signals.ending = True
                if (reason := self._hopeless.error(self.device.facts.name)) is not None:
                    self.store.finish_campaign(self.campaign, "interrupted", reason.message)
                    raise reason from None
                self.store.finish_campaign(self.campaign, "interrupted", "stopped early")
                return True
            except LabError as error:
                with contextlib.suppress(LabError):
                    self.store.finish_campaign(self.campaign, "interrupted", error.message)
                raise
            except BaseException:
                signals.ending = True
                with contextlib.suppress(Exception):
                    self.store.finish_campaign(self.campaign, "interrupted", "stopped early")
                raise
            self.store.finish_campaign(self.campaign, "complete", self.ended)
            return False

    @property
    def ended(self) -> str:
        """Why a stop rule asked for no more runs; empty while it has not."""
        return self._step.reason if isinstance(self._step, End) else ""

    @property
    def undecided(self) -> tuple[str, ...]:
        """Claims that are open."""
        return self._step.undecided if self._step is not None else ()

    @property
    def known(self) -> int:
        """Runs that are stored or were asked for."""
        return len(self.done | self.runs.keys())

    def missing(self) -> tuple[Run, ...]:
        """Planned runs that are not stored yet, in their order."""
        return tuple(run for run_id, run in self.runs.items() if run_id not in self.done)

    def _execute(self, signals: Interruptible) -> None:
        restarts = 0
        blocks = self._blocks()
        while (plan := next(blocks, None)) is not None:
            try:
                end = self._attend(plan, signals, self.planned.needs)
            except runner.AgentLostError:
                restarts += 1
                if restarts > MAX_RESTARTS:
                    raise
                self._plan_again()
                runner.clean(self.device, plan)
                blocks = self._blocks(again=True)
                continue
            _check_end(end, self.device.facts.name)
            runner.clean(self.device, plan)

    def _trace(self, signals: Interruptible) -> None:
        """Runs with the system's tracer, once everything that counts is stored."""
        for run, plan, file in traced.todo(self.store, self.campaign, self.planned, self.device, self.experiment):
            self.runs[run.run_id] = run
            self.store.plan_runs(self.campaign, self.known)
            _check_end(self._attend(plan, signals, self.planned.needs), self.device.facts.name)
            traced.keep(self.store, self.campaign, run, self.device, file, self.experiment)
            runner.clean(self.device, plan)

    def _attend(self, plan: Plan, signals: Interruptible, needs: Needs | None) -> PlanEnd:
        return runner.run_to_end(
            self.device, plan, self._see, signals, needs=needs, patience_s=self.patience_s, stop=self._stops
        )

    def _stops(self) -> bool:
        return self._hopeless.over or (self.stop is not None and self.stop())

    def _blocks(self, *, again: bool = False) -> Iterator[Plan]:
        """The missing runs as plans; planned anew (with new ids) where some of a plan are done already."""
        if self.experiment.rule is not None:
            yield from self._asked()
            return
        todo = self.missing()
        if not again and not self.resumed and len(todo) == len(self.runs):
            yield from self.plans
            return
        yield from self._plans_of(todo)

    def _plans_of(self, runs: Sequence[Run]) -> Iterator[Plan]:
        for start in range(0, len(runs), planning.BLOCK):
            block = tuple(runs[start : start + planning.BLOCK])
            plan_id = planning.plan_id(self.campaign, block)
            yield self.plans[0].model_copy(update={"plan_id": plan_id, "runs": block, "holder": user.holder()})

    def _asked(self) -> Iterator[Plan]:
        """Plans for the blocks that the stop rule asks for, one after the other, each from what is stored by then."""
        given_up: set[tuple[str, int]] = set()  # a plan ended without them: asking again would go on for ever
        while isinstance(step := self._ask(given_up), Block):
            runs = self._runs_of(step)
            self.runs |= {run.run_id: run for run in runs}
            self.store.plan_runs(self.campaign, self.known)
            todo = [
                run for run in runs if run.run_id not in self.done and (run.cell_id, run.repetition) not in given_up
            ]
            yield from self._plans_of(todo)
            given_up |= {(run.cell_id, run.repetition) for run in todo}

    def _ask(self, given_up: Collection[tuple[str, int]] = ()) -> Block | End:
        levels = {cell: one.levels for cell, one in self.planned.cells.items()}
        results = self.store.results(self.campaign)
        from devicelab.analyses import searching, sequential  # with pandas, where runs hang on what was measured

        asked = searching.ask if self.experiment.search is not None else sequential.ask
        self._fits = asking.fits(self.experiment, results, len(levels), time.monotonic() - self._clock)
        self._step = asked(results, levels, given_up, self._fits)
        return self._step

    def _runs_of(self, step: Block) -> tuple[Run, ...]:
        chosen = [self.planned.cells[cell] for cell in step.cells]
        return planning.runs_of(chosen, step.repetitions, self.experiment, self.device.place, self.campaign)

    def _fetch(self, signals: Interruptible) -> None:
        """After a loss of this host: attach to the agent if it still works, take what it journalled, undo if dead."""
        status = agent.status(self.device)
        if status.alive and not status.works_for(self.campaign):
            raise DeviceBusyError(
                f"held by {status.holder or 'another agent'}", device=self.device.facts.name, hint="try again later"
            )
        if self.experiment.rule is not None and isinstance(step := self._ask(), Block):
            self.runs |= {run.run_id: run for run in self._runs_of(step)}  # the block that this host was lost in
        for plan_id in runner.plans_there(self.device, self.campaign):
            plan = self.plans[0].model_copy(update={"plan_id": plan_id, "runs": tuple(self.runs.values())})
            # How that plan ended is past: what is wrong with the device now shows when it is made ready.
            with contextlib.suppress(*_OF_THE_PAST):
                self._attend(plan, signals, None)
            runner.clean(self.device, plan)
        self._plan_again()

    def _plan_again(self) -> None:
        """Undo what a dead agent left; plan the same runs for what the device is now, maybe after a reboot."""
        self.device = read_again(self.device)
        if agent.make_ready(self.device, user.holder()):
            self.device = read_again(self.device)
        self.plans = _make(self.experiment, self.device, self.campaign).plans
        if self.experiment.rule is not None:
            return  # its blocks are planned when they are asked for
        self.runs |= {run.run_id: run for plan in self.plans for run in plan.runs if run.run_id in self.runs}

    def _see(self, event: Event) -> None:
        if isinstance(event, RunStart):
            run = self.runs.get(event.run_id)
            self._started = (event.run_id, time.monotonic())
            self._report(self.planned.cells[run.cell_id].label() if run else "")
        elif isinstance(event, RunRecord):
            self._commit(event)
        elif isinstance(event, PlanStart | PlanEnd):
            _raise_for(event.flags, self.device.facts.name)

    def _commit(self, record: RunRecord) -> None:
        run = self.runs.get(record.run_id)
        if run is None or any(flag.code == "interrupted" for flag in record.flags):
            return  # not of this campaign, or cut off by us: to be done again
        cell = self.planned.cells[run.cell_id]
        measurements, flags = judge(record, cell, self.experiment, self.device.facts, self.meter.around(record))
        if is_traced := record.run_id == tracing.run_id(self.campaign, run.cell_id):
            flags = (*flags, *tracing.flags(self.experiment, record))
        if self.store.commit_run(
            self.campaign, cell, record, repetition=run.repetition, measurements=measurements, flags=flags
        ):
            self.invalid += not all(flag.remark for flag in flags)
            if not is_traced:
                self._hopeless.see(run.cell_id, flags)
        self.done.add(record.run_id)
        if self._started and self._started[0] == record.run_id:
            self.spans_s.append(time.monotonic() - self._started[1])
        self._report(cell.label())

    def _report(self, cell: str) -> None:
        if self.on_progress is None:
            return
        total, undecided = self._expected()
        eta_s = (total - len(self.done)) * statistics.median(self.spans_s) if self.spans_s else None
        tell, self.on_progress = self.on_progress, None  # who watches may be why it ends, and is asked no more then
        tell(Progress(len(self.done), total, self.invalid, cell, eta_s, undecided))
        self.on_progress = tell

    def _expected(self) -> tuple[int, tuple[str, ...]]:
        """How many runs it is likely to be, and what is still open."""
        step = self._step
        if not isinstance(step, Block):
            return self.known, ()
        return self.known + asking.beyond(step, self._fits), step.undecided


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


def _result(conductor: _Conductor, *, interrupted: bool) -> SweepResult:
    facts = conductor.device.facts
    results = conductor.store.results(conductor.campaign)
    runs = without_traced(results.runs())
    invalid = runs.loc[~runs["valid"], "flags"] if len(runs) else ()
    return SweepResult(
        campaign=conductor.campaign,
        device=facts.name,
        board=facts.board.kind,
        simulated=facts.simulated,
        runs=len(runs),
        planned=conductor.known,
        invalid=len(invalid),
        invalid_cells=without_valid_run(results, conductor.planned.cells.values(), of_those_run=interrupted),
        unmet=conductor.planned.unmet,
        undone=conductor.undone,
        interrupted=interrupted,
        ended=conductor.ended,
        undecided=conductor.undecided,
        reasons=hopeless.reasons(invalid),
        results=results,
    )
