"""Did the treatment hold? CPU use, clocks, temperatures and placement, computed from what the agent recorded.

A library for analyses and reports, not an analysis itself.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from devicelab.experiment.evidence import CPU_CLOCK, GPU_CLOCK
from devicelab.experiment.foreign import ForeignUse
from devicelab.experiment.foreign import use as foreign_use
from devicelab.model.journal import Others, Samples
from devicelab.model.temperature import series_c

Range = tuple[float, float]
"""Lowest and highest reading."""

_ZONE = re.compile(r"/(thermal_zone\d+)/temp$")
# No reading of a clock or a thermometer has more digits.
_INTEGER = re.compile(r"-?[0-9]{1,15}")


@dataclass(frozen=True)
class RunConditions:
    """What held during one run.

    Attributes:
        cpu_pct: as ``cpu_use_pct`` gives it.
        clocks_khz: clock by name (``policy4``, ``cpu0``, ``gpu``), lowest and highest sample.
        temps_c: thermal zone by name, lowest and highest sample in °C.
        granted: measured program → CPUs the kernel let it run on, at its start and its end together.
        agent_pct: CPU time of the agent in percent of one core; ``None`` if the run took no time.
        left_behind: processes that survived the end of the run.
        foreign: CPU use of programs that are not ours; empty for journals of agents that did not look.
    """

    cpu_pct: dict[str, float] = field(default_factory=dict)
    clocks_khz: dict[str, Range] = field(default_factory=dict)
    temps_c: dict[str, Range] = field(default_factory=dict)
    granted: dict[str, tuple[int, ...]] = field(default_factory=dict)
    agent_pct: float | None = None
    left_behind: int = 0
    foreign: ForeignUse = field(default_factory=ForeignUse)


def cpu_use_pct(samples: Samples) -> dict[str, float]:
    """CPU use over the sampled window in percent of the time, per CPU number (as text) and for ``"all"`` together.

    Use is busy ticks over total ticks of /proc/stat (proc(5)), summed over the intervals in which a CPU was online.
    ``"all"`` is the sum of the busy ticks of all CPUs over the sum of their total ticks: 100 means that every online
    CPU was busy. A CPU without a counted tick (offline throughout, or fewer than two samples) has no entry; without
    any such CPU the result is empty.
    """
    return _cpu_use(samples.busy, samples.total)


@dataclass(frozen=True)
class Reading:
    """A sampled node that tells a clock or a temperature.

    Attributes:
        quantity: ``cpu clock``, ``gpu clock`` or ``temperature``.
        name: of the policy, CPU or thermal zone; ``gpu``.
        unit: ``kHz`` or ``C``.
        readings: one a sample, ``None`` where it was no number.
    """

    quantity: str
    name: str
    unit: str
    readings: tuple[float | None, ...]

    @property
    def range(self) -> Range:
        """Lowest and highest value."""
        known = [value for value in self.readings if value is not None]
        return min(known), max(known)


def reading(path: str, texts: Iterable[object]) -> Reading | None:
    """What a sampled node told; ``None`` if it is neither a clock nor a thermal zone, or held no number to be believed.

    What a device says is not trusted to have a form.
    """
    raw = [_number(text) for text in texts]
    known = [value for value in raw if value is not None]
    if not known:
        return None
    if match := _ZONE.search(path):
        believed = series_c([None if value is None else int(value) for value in raw])
        return Reading("temperature", match[1], "C", believed) if any(one is not None for one in believed) else None
    if match := CPU_CLOCK.search(path):
        quantity, name, unit, scale = "cpu clock", match[1] or match[2], "kHz", 1.0
    elif GPU_CLOCK.search(path):
        quantity, name, unit, scale = "gpu clock", "gpu", "kHz", _khz_per_unit(max(known))
    else:
        return None
    return Reading(quantity, name, unit, tuple(value if value is None else value * scale for value in raw))


def run_conditions(record: Mapping[str, Any]) -> RunConditions:
    """Conditions of a run from its evidence (``Results.evidence``)."""
    samples = record.get("samples") or {}
    told = [one for path, texts in (samples.get("nodes") or {}).items() if (one := reading(path, texts)) is not None]
    elapsed_ns = record["t_end_ns"] - record["t_start_ns"]
    return RunConditions(
        cpu_pct=_cpu_use(samples.get("busy") or {}, samples.get("total") or {}),
        clocks_khz={one.name: one.range for one in told if one.unit == "kHz"},
        temps_c={one.name: one.range for one in told if one.quantity == "temperature"},
        granted={
            str(program["name"]): tuple(sorted({*program["granted"], *program["granted_end"]}))
            for program in record.get("programs") or ()
            if program["role"] == "measure"
        },
        agent_pct=100.0 * record.get("agent_cpu_ns", 0) / elapsed_ns if elapsed_ns > 0 else None,
        left_behind=int(record.get("left_behind", 0)),
        foreign=foreign_use(_others(record)),
    )


def _others(record: Mapping[str, Any]) -> Others | None:
    try:
        return Others.model_validate(record["others"]) if record.get("others") else None
    except ValidationError:
        return None


def span(ranges: Iterable[Range]) -> Range | None:
    """The range that holds all of them; ``None`` without any."""
    found = list(ranges)
    return (min(low for low, _ in found), max(high for _, high in found)) if found else None


def cpu_order(names: Iterable[str]) -> list[str]:
    """CPU names in the order of their numbers."""
    return sorted(names, key=lambda name: (len(name), name))


def _cpu_use(busy: Mapping[str, Sequence[int | None]], total: Mapping[str, Sequence[int | None]]) -> dict[str, float]:
    use: dict[str, float] = {}
    busy_sum = total_sum = 0
    for cpu in cpu_order(total.keys() & busy.keys()):
        ran, passed = _ticks(busy[cpu], total[cpu])
        if passed > 0:
            use[cpu] = 100.0 * ran / passed
            busy_sum += ran
            total_sum += passed
    if total_sum > 0:
        use["all"] = 100.0 * busy_sum / total_sum
    return use


def _ticks(busy: Sequence[int | None], total: Sequence[int | None]) -> tuple[int, int]:
    """Busy and total ticks over the intervals in which both counters are known at both ends.

    The kernel's counters may step back (iowait is corrected, a core comes back from hotplug): growth is never negative,
    and busy never exceeds total.
    """
    ran = passed = 0
    for (busy0, total0), (busy1, total1) in itertools.pairwise(zip(busy, total, strict=False)):
        if busy0 is not None and total0 is not None and busy1 is not None and total1 is not None:
            grown = max(0, total1 - total0)
            ran += min(max(0, busy1 - busy0), grown)
            passed += grown
    return ran, passed


def _number(text: object) -> float | None:
    words = text.split(maxsplit=1) if isinstance(text, str) else []
    return float(words[0]) if words and _INTEGER.fullmatch(words[0]) else None


def _khz_per_unit(highest: float) -> float:
    """GPU drivers say Hz, kHz or MHz; a GPU's clock lies between 10 MHz and 10 GHz, so the size tells which."""
    return 1e-3 if highest >= 1e7 else 1.0 if highest >= 1e4 else 1e3
