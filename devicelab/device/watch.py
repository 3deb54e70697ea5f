"""Until when silence of a working board is normal, and when its talk leads nowhere."""

import time
from collections.abc import Iterable

from devicelab.errors import DistrustError
from devicelab.model.journal import Event, LiveSample, PlanStart, RunRecord, RunStart
from devicelab.model.plan import Plan, Run, Step

# A write to a node may block (a core that goes offline), but not for long.
_WRITE_MS = 2_000
# Less is no proof: a busy board is slow.
_LEAST_PATIENCE_S = 60.0
# An agent that was cut off and started again says some things twice.
_SPARE_EVENTS = 1_000


def longest_s(run: Run) -> float:
    """The longest a run may last by its own time-outs, seconds."""
    gates = sum(gate.timeout_ms for gate in run.gates)
    measured = [p for p in run.programs if p.role == "measure"]
    ready = max((p.ready_timeout_ms for p in measured if p.barrier), default=0)
    programs = max((p.timeout_ms for p in measured), default=run.hold_ms)
    return _steps_s((*run.steps, *run.attached)) + (gates + ready + programs + run.settle_ms + run.cooldown_ms) / 1000


def _steps_s(steps: Iterable[Step]) -> float:
    return sum(_WRITE_MS + step.verify_ms if step.kind == "write" else step.timeout_ms for step in steps) / 1000


def most_events(plan: Plan) -> int:
    """More events than these are no journal of the plan."""
    live = 0.0
    if plan.live:
        live = sum(1000 * longest_s(run) / max(1, run.sampling.period_ms) for run in plan.runs)
    return _SPARE_EVENTS + 10 * len(plan.runs) + round(4 * live)


class Watch:
    """A plan that is being executed.

    Args:
        plan: what the board does.
        grace_s: it may be late by so much before it is asked whether it is alive.
        patience_s: and, once its runs' own time is over, go on by so much without getting anywhere.
    """

    def __init__(self, plan: Plan, grace_s: float, patience_s: float) -> None:
        self._runs = {run.run_id: run for run in plan.runs}
        self._grace_s, self._patience_s = grace_s, max(patience_s, _LEAST_PATIENCE_S)
        self._until = time.monotonic() + grace_s
        self._due = self._until + _steps_s(plan.setup)
        self._seen: set[tuple[str, str]] = set()

    def see(self, event: Event) -> None:
        """An event came. Only what brings the plan on gives it more time: each run begins and ends once."""
        now = time.monotonic()
        if isinstance(event, LiveSample):
            self._until = now + self._grace_s
            return
        key = (event.event, getattr(event, "run_id", ""))
        if key in self._seen or (key[1] and key[1] not in self._runs):
            return
        self._seen.add(key)
        self._until = now + self._grace_s
        if isinstance(event, RunStart):
            self._until += longest_s(self._runs[event.run_id])
        elif isinstance(event, PlanStart | RunRecord):
            self._until += max((run.cooldown_ms for run in self._runs.values()), default=0) / 1000
        self._due = max(self._due, self._until)

    def breathe(self, device: str) -> None:
        """The agent says that it is alive: it is waited for a little longer.

        Raises:
            DistrustError: it has said so for too long without getting anywhere.
        """
        now = time.monotonic()
        if now > self._due + self._patience_s:
            raise DistrustError(
                f"the agent says that it works, but nothing has come of it for {now - self._due:.0f} s "
                "beyond what its runs may take",
                device=device,
                hint="look at the device; `devicelab restore --force` ends the agent",
            )
        self._until = max(self._until, now + self._grace_s)

    def waited(self, seconds: float) -> None:
        """It was us who kept the board waiting (a database that went away): its time is so much longer."""
        self._until += seconds
        self._due += seconds

    def overdue(self) -> bool:
        """It is time to ask whether the agent is alive."""
        return time.monotonic() > self._until
