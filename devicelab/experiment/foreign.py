"""Was the device ours? CPU use of programs that are not: before a run, and during it beside what we started."""

from dataclasses import dataclass, field

from devicelab.ground.safe_text import printable
from devicelab.model.experiment import Experiment
from devicelab.model.journal import Flag, Others, Process, Span

# The kernel counts a CPU's busy time in ticks, a program's own exactly. Programs that sleep and wake with the timer are
# counted up to so much wrong, so that such a part of what ours used is not held against anybody unseen.
_TICK_ERROR = 0.25
_NAMED = 3


@dataclass(frozen=True)
class ForeignUse:
    """CPU use of others, percent.

    Attributes:
        before: of each CPU (by number) and of ``"all"`` together, before anything of the run worked.
        during: the same during the run; of single CPUs only what the heaviest programs used where they ran last.
        heaviest: who they were, with percent of one CPU.
        unseen: percent of all CPUs during the run that belongs to no process that could be seen.
    """

    before: dict[str, float] = field(default_factory=dict)
    during: dict[str, float] = field(default_factory=dict)
    heaviest: tuple[tuple[Process, float], ...] = ()
    unseen: float = 0.0


def use(others: Others | None) -> ForeignUse:
    """What the agent's looks amount to; empty for journals of agents that did not look."""
    if others is None or others.tick_hz <= 0:
        return ForeignUse()
    tick_ns = 1e9 / others.tick_hz
    before = _before(others.before, tick_ns) if others.before is not None else {}
    if others.during is None or others.during.span_ns <= 0:
        return ForeignUse(before)
    work_ns, whole_ns = (sum(ticks.values()) * tick_ns for ticks in (others.during.work, others.during.total))
    if whole_ns <= 0:
        return ForeignUse(before)
    unseen_ns = max(0.0, work_ns - others.ours_ns * (1 + _TICK_ERROR) - others.kernel_ns - others.others_ns)
    heaviest = tuple((one, 100 * one.cpu_ns / others.during.span_ns) for one in others.heaviest)
    during = {"all": 100 * min(others.others_ns + unseen_ns, work_ns) / whole_ns}
    for one, percent in heaviest:
        cpu = str(one.cpu)
        during[cpu] = min(100.0, during.get(cpu, 0.0) + percent)
    return ForeignUse(before, during, heaviest, 100 * unseen_ns / whole_ns)


def _before(span: Span, tick_ns: float) -> dict[str, float]:
    found = {cpu: min(100.0, 100 * span.work.get(cpu, 0) / total) for cpu, total in span.total.items() if total > 0}
    whole_ns = sum(span.total.values()) * tick_ns
    if whole_ns > 0:
        work_ns = max(0.0, sum(span.work.values()) * tick_ns - span.agent_ns)
        found["all"] = min(100.0, 100 * work_ns / whole_ns)
    return found


def flags(others: Others | None, experiment: Experiment) -> tuple[Flag, ...]:
    """``foreign-load`` if others used more than the experiment allows, with who they were."""
    found = use(others)
    before, during = found.before.get("all", 0.0), found.during.get("all", 0.0)
    cores = {cpu: percent for cpu, percent in found.during.items() if cpu != "all"}
    core = max(cores, key=lambda cpu: cores[cpu], default="")
    too_much = max(before, during) > experiment.foreign_pct
    one_core = bool(core) and cores[core] > experiment.foreign_core_pct
    if not (too_much or one_core):
        return ()
    said = [f"others used {before:.0f}% of all CPUs before the run, {during:.0f}% during it"]
    if one_core:
        said.append(f"{cores[core]:.0f}% of CPU {core}")
    who = [f"{printable(one.name)} (pid {one.pid}) {percent:.0f}%" for one, percent in found.heaviest[:_NAMED]]
    if who:
        said.append(f"the heaviest, of one CPU: {', '.join(who)}")
    if found.unseen > max(1.0, during / 2):
        why = "this user may not see them" if others is not None and others.hidden else "they cannot be seen from here"
        said.append(f"{found.unseen:.0f}% belongs to programs that cannot be named ({why})")
    return (Flag(code="foreign-load", detail="; ".join(said)),)
