"""The background load on its own: put it on a device, watch the CPU use, end it."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from devicelab import knobs
from devicelab.device import agent, runner
from devicelab.device.facts import Device, open_device
from devicelab.device.lab import DeviceEntry
from devicelab.errors import LabError, MeasurementError
from devicelab.experiment import evidence, foreign, loads
from devicelab.experiment import plan as planning
from devicelab.experiment.conditions import cpu_use_pct
from devicelab.experiment.programs import Needs
from devicelab.ground import user
from devicelab.ground.interruption import interruptible
from devicelab.model.campaign import new_id
from devicelab.model.journal import Event, Flag, LiveSample, ProgramResult, RunRecord, Samples
from devicelab.model.plan import Plan, Run, Sampling
from devicelab.workloads import overhead
from devicelab.workloads.base import Context

Load = overhead.Params | overhead.Hold

_NEEDS = Needs(("agent", *overhead.NATIVE))

# With these flags the CPU use that was measured is not that of the load; with each, what to do about it.
_PLACE = (
    "are these cores online, and open to every program? `devicelab doctor` shows a pin in force; --cores takes others"
)
_IDLE = {
    "affinity-refused": _PLACE,
    "affinity-changed": _PLACE,
    "load-died": "more batches (the third number: 2^N of them), or less time (--seconds)",
    "load-not-running": "is the device frozen, or busy with something else?",
    "program-failed": "`devicelab doctor` tells whether the load can run there",
}


@dataclass(frozen=True)
class LoadResult:
    """What a load did to a device.

    Attributes:
        args: sleep_us, inner_iter, log2_outer_iter; of a held use those of the fixed load whose rounds were the same
            (``overhead.near``), empty if it did not come to saying so.
        copies: number of processes.
        duration_s: of the observed window.
        cpu_pct: use of all online CPUs together, 0 to 100.
        cpu_pct_by_core: by CPU number.
        cores_pct: mean use of the CPUs the load was placed on (all, if it was not pinned), by whomever.
        load_pct: CPU time of the load's own processes, in percent of the time of these CPUs.
        wanted_pct: the use that was to be held, in the same percent; ``None``: the load was a fixed one.
        others_pct: use of all CPUs by programs that are not ours.
        left_behind: processes of the load that were alive after it was ended (0, or the device is in trouble).
        agent_pct: the agent's own use of one core while it sampled.
        flags: what did not hold.
        interrupted: ended early by Ctrl-C or a signal.
        ran: every process of the load ran where it was placed, to the end of the window.
    """

    device: str
    board: str
    simulated: bool
    args: tuple[int, ...]
    copies: int
    cores: tuple[int, ...]
    duration_s: float
    cpu_pct: float
    cpu_pct_by_core: dict[str, float]
    cores_pct: float
    load_pct: float
    wanted_pct: float | None
    others_pct: float
    left_behind: int
    agent_pct: float
    flags: tuple[Flag, ...]
    interrupted: bool = False
    ran: bool = True


def require_ran(result: LoadResult) -> None:
    """The CPU use told is that of the load.

    Raises:
        MeasurementError: the load was not placed as asked, or was over before the window was; why, and what to do.
    """
    if result.ran:
        return
    codes = {flag.code for flag in result.flags}
    reasons = [flag.detail for flag in result.flags if flag.code in _IDLE] or [flag.detail for flag in result.flags]
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    raise MeasurementError(
        f"the load did not run as asked: {'; '.join(reasons[:3]) or 'no reason was given'}{more}",
        device=result.device,
        hint=next((hint for code, hint in _IDLE.items() if code in codes), None),
    )


def require_held(result: LoadResult) -> None:
    """The load had the use that was wanted.

    Raises:
        MeasurementError: it was off by more than a point; what can be reached, and what to do.
    """
    if result.wanted_pct is None or result.interrupted or abs(result.load_pct - result.wanted_pct) <= loads.HELD_PCT:
        return
    raise MeasurementError(
        f"{result.wanted_pct:g} % was not held: the load had {result.load_pct:.1f} % of the cores it ran on, other "
        f"programs {result.others_pct:.1f} % of all {len(result.cpu_pct_by_core)} cores",
        device=result.device,
        hint="what else runs there takes its share; end it, or ask for less",
    )


@dataclass(frozen=True)
class Live:
    """CPU use between the last two samples, by CPU number and together ("all"), and the time since the start."""

    cpu_pct: dict[str, float]
    elapsed_s: float


@contextmanager
def loading(entry: DeviceEntry) -> Iterator["Loader"]:
    """A device made ready for loads; released at the end."""
    device = open_device(entry)
    try:
        agent.make_ready(device, user.holder())
        runner.deploy(device, _NEEDS)
        yield Loader(device)
    finally:
        device.transport.close()


class Loader:
    """Runs loads on one device, one after another."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._campaign = new_id()
        self._count = 0

    def run(
        self,
        params: Load,
        *,
        cores: str | None = None,
        per_core: int = 1,
        seconds: float = 10.0,
        on_live: Callable[[Live], None] | None = None,
    ) -> LoadResult:
        """Load the device for so long, and tell what it did.

        Args:
            params: the three numbers of ``overhead``, or the use that each process is to hold.
            cores: ``all``, ``big``, ``4-7``, ``0x10`` ...: pinned processes on each of them; ``None``: one process
                without affinity.
            per_core: processes on each core.
            seconds: length of the observed window.
            on_live: called at every sample; without it nothing crosses the cable meanwhile.

        Raises:
            ConfigError: no such cores. MeasurementError: the agent gave no record of the run.
            KeyboardInterrupt: interrupted before there was anything to tell.
        """
        plan = self._plan(params, cores, per_core, seconds, live=on_live is not None)
        records: list[RunRecord] = []
        live = _LiveUse(on_live)

        def see(event: Event) -> None:
            if isinstance(event, LiveSample):
                live.see(event)
            elif isinstance(event, RunRecord):
                records.append(event)

        interrupted = False
        with interruptible() as signals:
            try:
                runner.run_to_end(self._device, plan, see, signals, needs=_NEEDS)
            except LabError:
                raise
            except BaseException as error:
                interrupted = isinstance(error, KeyboardInterrupt)
                if not (interrupted and records):
                    with suppress(LabError):
                        runner.clean(self._device, plan)
                    raise
            runner.clean(self._device, plan)
        if not records:
            raise MeasurementError("the load's run left no record", device=self._device.facts.name)
        return self._result(records[0], params, plan.runs[0], interrupted=interrupted)

    def _plan(self, params: Load, cores: str | None, per_core: int, seconds: float, *, live: bool) -> Plan:
        facts = self._device.facts
        free: list[tuple[int, ...] | None] = [None] * per_core
        spots = (
            free if cores is None else [(cpu,) for cpu in knobs.resolve_cores(cores, facts) for _ in range(per_core)]
        )
        self._count += 1
        run = Run(
            run_id=f"load-{self._count}",
            cell_id="load",
            repetition=0,
            programs=loads.at(overhead.command(params, Context()), spots),
            sampling=Sampling(period_ms=100, nodes=evidence.sampled(facts), around=evidence.around(facts)),
            settle_ms=300,
            hold_ms=round(seconds * 1000),
        )
        return Plan(
            plan_id=planning.plan_id(self._campaign, [run]),
            campaign=self._campaign,
            device=facts.name,
            holder=user.holder(),
            live=live,
            runs=(run,),
        )

    def _result(self, record: RunRecord, params: Load, run: Run, *, interrupted: bool) -> LoadResult:
        use = cpu_use_pct(record.samples)
        pinned = tuple(sorted({cpu for program in run.programs for cpu in program.cpus or ()}))
        on = [use[str(cpu)] for cpu in pinned if str(cpu) in use] or [use.get("all", 0.0)]
        width = len(pinned) or len(use.keys() - {"all"}) or 1
        loads = [program for program in record.programs if program.role == "load"]
        window_ns = max(record.window_end_ns - record.window_start_ns, 0)
        used_ns = sum(program.window_cpu_ns for program in loads)
        return LoadResult(
            device=self._device.facts.name,
            board=self._device.facts.board.kind,
            simulated=self._device.facts.simulated,
            args=_numbers(params, loads),
            copies=len(run.programs),
            cores=pinned,
            duration_s=round(window_ns / 1e9, 3),
            cpu_pct=round(use.get("all", 0.0), 2),
            cpu_pct_by_core={cpu: round(pct, 2) for cpu, pct in use.items() if cpu != "all"},
            cores_pct=round(statistics.fmean(on), 2),
            load_pct=round(100 * used_ns / (width * window_ns), 2) if window_ns else 0.0,
            wanted_pct=round(params.use_pct * len(run.programs) / width, 4)
            if isinstance(params, overhead.Hold)
            else None,
            others_pct=round(foreign.use(record.others).during.get("all", 0.0), 2),
            left_behind=record.left_behind,
            agent_pct=round(100 * record.agent_cpu_ns / window_ns, 3) if window_ns else 0.0,
            flags=tuple(flag for flag in record.flags if not (interrupted and flag.code == "interrupted")),
            interrupted=interrupted,
            ran=record.status == "done" and not any(flag.code in _IDLE for flag in record.flags),
        )


def _numbers(params: Load, loads: Sequence[ProgramResult]) -> tuple[int, ...]:
    """The three numbers; of a held use those that the first process to tell them told."""
    told = [params] if isinstance(params, overhead.Params) else [overhead.near(one.output()) for one in loads]
    return next(((one.sleep_us, one.inner_iter, one.log2_outer_iter) for one in told if one is not None), ())


class _LiveUse:
    """Turns counters since boot into use between two samples."""

    def __init__(self, on_live: Callable[[Live], None] | None) -> None:
        self.on_live = on_live
        self._last: LiveSample | None = None
        self._start = time.monotonic()

    def see(self, sample: LiveSample) -> None:
        last, self._last = self._last, sample
        if last is None or self.on_live is None:
            return
        pair = Samples(
            t_ns=(last.t_ns, sample.t_ns),
            busy={cpu: (last.busy.get(cpu), now) for cpu, now in sample.busy.items()},
            total={cpu: (last.total.get(cpu), now) for cpu, now in sample.total.items()},
        )
        tell, self.on_live = self.on_live, None  # who watches may be why it ends, and is asked no more then
        tell(Live(cpu_use_pct(pair), time.monotonic() - self._start))
        self.on_live = tell
