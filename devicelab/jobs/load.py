"""The background load on its own: put it on a device, watch the CPU use, end it; find arguments for a wanted use."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from devicelab import knobs
from devicelab.device import agent, runner
from devicelab.device.facts import Device, open_device
from devicelab.device.lab import DeviceEntry
from devicelab.errors import ConfigError, LabError, MeasurementError
from devicelab.experiment import evidence, loads
from devicelab.experiment import plan as planning
from devicelab.experiment.conditions import cpu_use_pct
from devicelab.experiment.programs import Needs
from devicelab.ground import user
from devicelab.ground.interruption import interruptible
from devicelab.model.campaign import new_id
from devicelab.model.journal import Event, Flag, LiveSample, RunRecord, Samples
from devicelab.model.plan import Plan, Run, Sampling
from devicelab.workloads import overhead
from devicelab.workloads.base import Context

_NEEDS = Needs(("agent", *overhead.NATIVE))

# The load of a search sleeps so long; the work between two sleeps is what is searched. Long enough that the timer's
# slack (50 us and more on phones) is a small part, short enough that a scheduler tick sees many of them.
_SEARCH_SLEEP_US = 2000
# Loads on sibling hardware threads slow each other down while they overlap. Near a half of the time, how much they do
# hangs on their phase, which the slack shuffles within seconds if the period is short and within minutes if it is not.
_SEARCH_SHORT_SLEEP_US = 500
_SEARCH_SHORT_PCT = (20, 80)
_SEARCH_RUN_S = 2.0
# A try counts towards the answer when its use is within this many points of the goal; this many such tries are wanted.
_SEARCH_NEAR_PCT = 6.0
_SEARCH_NEAR = 5
_SEARCH_MAX_RUNS = 16
_MAX_INNER = 2_000_000_000

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
        args: sleep_us, inner_iter, log2_outer_iter.
        copies: number of processes.
        duration_s: of the observed window.
        cpu_pct: use of all online CPUs together, 0 to 100.
        cpu_pct_by_core: by CPU number.
        cores_pct: mean use of the CPUs the load was placed on (all, if it was not pinned).
        left_behind: processes of the load that were alive after it was ended (0, or the device is in trouble).
        agent_pct: the agent's own use of one core while it sampled.
        flags: what did not hold.
        interrupted: ended early by Ctrl-C or a signal.
        ran: every process of the load ran where it was placed, to the end of the window.
    """

    device: str
    board: str
    simulated: bool
    args: tuple[int, int, int]
    copies: int
    cores: tuple[int, ...]
    duration_s: float
    cpu_pct: float
    cpu_pct_by_core: dict[str, float]
    cores_pct: float
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
        params: overhead.Params,
        *,
        cores: str | None = None,
        per_core: int = 1,
        seconds: float = 10.0,
        on_live: Callable[[Live], None] | None = None,
    ) -> LoadResult:
        """Load the device for so long, and tell what it did.

        Args:
            params: the three numbers of ``overhead``.
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

    def search(
        self,
        util_pct: float,
        *,
        cores: str | None = "all",
        per_core: int = 1,
        on_try: Callable[[LoadResult], None] | None = None,
    ) -> tuple[overhead.Params, LoadResult]:
        """Find arguments whose use of the chosen cores is ``util_pct``, by measuring and correcting.

        A load that works w for each sleep s uses u = w / (w + s), so the odds u / (1 - u) are proportional to the work.
        The factor between them is measured by every try; the median over the tries near the goal decides, because
        single ones scatter: processes on sibling hardware threads fall in and out of step, clocks move, other work
        comes and goes. Taking the try that happened to hit the goal would choose by luck. The arguments are then run
        once more, and that run is what is returned.

        Raises:
            ConfigError: not a use that a load with sleeps can have.
            MeasurementError: it did not come within 1 point, or the load did not run.
        """
        if not 1 <= util_pct <= 99:
            raise ConfigError(f"--util {util_pct:g}: give a CPU use from 1 to 99 (percent)")
        low, high = _SEARCH_SHORT_PCT
        sleep_us = _SEARCH_SHORT_SLEEP_US if low <= util_pct <= high else _SEARCH_SLEEP_US
        inner = tried = 20_000
        factors: list[float] = []
        got: list[float] = []
        for _ in range(_SEARCH_MAX_RUNS):
            params = overhead.Params(sleep_us=sleep_us, inner_iter=inner, log2_outer_iter=40)
            result = self.run(params, cores=cores, per_core=per_core, seconds=_SEARCH_RUN_S)
            if on_try is not None:
                on_try(result)
            if result.interrupted:
                raise KeyboardInterrupt
            require_ran(result)
            if got and inner >= 4 * tried and result.cores_pct < min(util_pct - 1, got[-1] + 1):
                raise _saturated(result, util_pct)
            tried = inner
            got.append(result.cores_pct)
            if len(factors) >= _SEARCH_NEAR and abs(result.cores_pct - util_pct) <= 1:
                return params, result
            factor = _odds(result.cores_pct) / inner
            if abs(result.cores_pct - util_pct) <= _SEARCH_NEAR_PCT:
                factors.append(factor)
            wanted = _odds(util_pct) / (statistics.median(factors) if factors else factor)
            inner = round(min(max(wanted, inner / 50, 1), inner * 50, _MAX_INNER))
        nearest = min(got, key=lambda pct: abs(pct - util_pct))
        raise MeasurementError(
            f"no arguments give {util_pct:g} % here; the nearest gave {nearest:.1f} %",
            device=self._device.facts.name,
            hint=f"the last tries spread by {statistics.pstdev(got[-4:]):.1f} points: is something else busy on the "
            "device?",
        )

    def _plan(self, params: overhead.Params, cores: str | None, per_core: int, seconds: float, *, live: bool) -> Plan:
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

    def _result(self, record: RunRecord, params: overhead.Params, run: Run, *, interrupted: bool) -> LoadResult:
        use = cpu_use_pct(record.samples)
        pinned = tuple(sorted({cpu for program in run.programs for cpu in program.cpus or ()}))
        on = [use[str(cpu)] for cpu in pinned if str(cpu) in use] or [use.get("all", 0.0)]
        window_ns = max(record.window_end_ns - record.window_start_ns, 0)
        return LoadResult(
            device=self._device.facts.name,
            board=self._device.facts.board.kind,
            simulated=self._device.facts.simulated,
            args=(params.sleep_us, params.inner_iter, params.log2_outer_iter),
            copies=len(run.programs),
            cores=pinned,
            duration_s=round(window_ns / 1e9, 3),
            cpu_pct=round(use.get("all", 0.0), 2),
            cpu_pct_by_core={cpu: round(pct, 2) for cpu, pct in use.items() if cpu != "all"},
            cores_pct=round(statistics.fmean(on), 2),
            left_behind=record.left_behind,
            agent_pct=round(100 * record.agent_cpu_ns / window_ns, 3) if window_ns else 0.0,
            flags=tuple(flag for flag in record.flags if not (interrupted and flag.code == "interrupted")),
            interrupted=interrupted,
            ran=record.status == "done" and not any(flag.code in _IDLE for flag in record.flags),
        )


def _saturated(result: LoadResult, util_pct: float) -> MeasurementError:
    """Several times the work gave no more use: the processes have all the time that they get."""
    count = len(result.cpu_pct_by_core) or 1
    who = "one process reaches" if result.copies == 1 else f"{result.copies} processes reach"
    return MeasurementError(
        f"{util_pct:g} % cannot be reached: {who} at most {result.cores_pct:.1f} % of the cores they run on, which is "
        f"{result.cpu_pct:.1f} % of {count} cores",
        device=result.device,
        hint="more processes: --cores all, --per-core 2; something else on the device may take the rest",
    )


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


def _odds(pct: float) -> float:
    """Busy to idle time of a use in percent, kept finite."""
    pct = min(max(pct, 0.05), 99.95)
    return pct / (100 - pct)
