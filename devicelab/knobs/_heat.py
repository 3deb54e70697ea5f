"""Cooling devices: what heat is limiting now, and what it limited during a run."""

import re
from dataclasses import dataclass
from typing import Literal

from devicelab.model.device import Facts
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.tree import whole

COOLING = "/sys/class/thermal/cooling_device*"
GLOBS = (f"{COOLING}/type", f"{COOLING}/cur_state", f"{COOLING}/max_state")

Part = Literal["cpu", "gpu"]

# Types as kernels name them: thermal-cpufreq-0 (to 5.12), cpufreq-cpu4 (from 5.13), cpu-isolate0 and thermal-cluster-*
# (Qualcomm), thermal-gpufreq-0 (Exynos), thermal-devfreq-0 (Qualcomm's GPU), Processor (ACPI).
_TYPES: dict[Part, re.Pattern[str]] = {
    "cpu": re.compile(r".*cpu.*|thermal-cluster.*|processor", re.IGNORECASE),
    "gpu": re.compile(r".*(gpu|g3d|kgsl|mali|devfreq).*", re.IGNORECASE),
}
_ONE_POLICY = re.compile(r"cpufreq-cpu([0-9]{1,5})")


@dataclass(frozen=True)
class Cooling:
    """One cooling device: its ``cur_state`` node, type, and state when the facts were read."""

    path: str
    type: str
    state: int
    max_state: int | None

    def at(self, state: int) -> str:
        """For people: ``thermal-cpufreq-1 at 3 of 16``."""
        return f"{self.type} at {state}" + (f" of {self.max_state}" if self.max_state is not None else "")


def cooling(facts: Facts, part: Part, cpus: tuple[int, ...] | None = None) -> tuple[Cooling, ...]:
    """The cooling devices of a part of the chip.

    With ``cpus``, those that by their name belong to other CPUs are left out (older names do not tell, and stay in).
    """
    tree = facts.tree
    found = []
    for path in tree.glob(f"{COOLING}/type"):
        kind = tree.text(path) or ""
        folder = path.removesuffix("type")
        state = tree.number(f"{folder}cur_state")
        if state is None or not _TYPES[part].fullmatch(kind):
            continue
        one = _ONE_POLICY.fullmatch(kind)
        if one is None or cpus is None or int(one[1]) in cpus:
            found.append(Cooling(f"{folder}cur_state", kind, state, tree.number(f"{folder}max_state")))
    return tuple(found)


def now(facts: Facts, part: Part, cpus: tuple[int, ...] | None = None) -> str | None:
    """What heat was limiting when the facts were read, for people; ``None`` if nothing."""
    busy = [device.at(device.state) for device in cooling(facts, part, cpus) if device.state > 0]
    return ", ".join(busy) or None


def throttled(facts: Facts, record: RunRecord, part: Part) -> tuple[Flag, ...]:
    """A flag for every cooling device that was at work before or after the run or whose state rose in between."""
    flags = []
    for device in cooling(facts, part):
        before, after = (_state(texts.get(device.path)) for texts in (record.before, record.after))
        if before or after:
            shown = ("not readable" if state is None else state for state in (before, after))
            detail = "{}: {} before the run, {} after it".format(device.type, *shown)
            flags.append(Flag(code="throttled", detail=detail))
    return tuple(flags)


def _state(text: str | None) -> int | None:
    return whole(text)
