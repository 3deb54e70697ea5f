"""Which nodes every run samples as evidence, whatever its knobs: clocks, temperatures, throttling."""

import errno
import fnmatch
import itertools
import re
import statistics
from collections.abc import Mapping, Sequence

from devicelab.experiment import energy
from devicelab.model.device import Facts
from devicelab.model.temperature import celsius, is_battery_monitor

_CPU = "/sys/devices/system/cpu"
_CLOCKS = (
    f"{_CPU}/cpufreq/policy*/scaling_cur_freq",
    f"{_CPU}/cpu*/cpufreq/scaling_cur_freq",
)
_GPU_CLOCKS = (
    "/sys/class/kgsl/kgsl-3d0/gpuclk",
    "/sys/kernel/gpu/gpu_clock",
    "/sys/devices/platform/*.mali/clock",
    "/sys/devices/platform/*.mali/cur_freq",
)
_AROUND = (
    f"{_CPU}/online",
    f"{_CPU}/cpufreq/policy*/stats/time_in_state",
    f"{_CPU}/cpu*/thermal_throttle/core_throttle_count",
    "/sys/class/thermal/cooling_device*/cur_state",
    "/sys/class/power_supply/battery/temp",
    "/sys/class/power_supply/battery/capacity",
)
_ZONE_TYPES = "/sys/class/thermal/thermal_zone*/type"
_ZONE_TEMPS = "/sys/class/thermal/thermal_zone*/temp"
_COOLING_TYPES = "/sys/class/thermal/cooling_device*/type"

# Zones beyond this many are not sampled: a phone has up to 79, and reading one may cost a bus transfer.
_MAX_ZONES = 6

_GPU_CLOCK_NAMES = "|".join(sorted({pattern.rpartition("/")[2] for pattern in _GPU_CLOCKS}))

CPU_CLOCK = re.compile(r"/(policy\d+)/scaling_cur_freq$|/(cpu\d+)/cpufreq/scaling_cur_freq$")
"""A sampled node that tells a CPU clock in kHz, and the policy or CPU whose it is."""
GPU_CLOCK = re.compile(rf"/(?:{_GPU_CLOCK_NAMES})$")
"""A sampled node that tells the GPU's clock, in whatever unit its driver has."""


def clocks(nodes: Mapping[str, Sequence[str | None]], pattern: re.Pattern[str]) -> dict[str, float]:
    """Median clock by node that the pattern finds, as sampled, without readings of 0 (a GPU that sleeps)."""
    medians = {}
    for path, texts in nodes.items():
        if pattern.search(path):
            readings = [int(text) for text in texts if text is not None and text.strip().isdecimal()]
            if any(readings):
                medians[path] = float(statistics.median([reading for reading in readings if reading]))
    return medians


GLOBS: tuple[str, ...] = (
    *_CLOCKS,
    *_GPU_CLOCKS,
    *_AROUND,
    _ZONE_TYPES,
    _ZONE_TEMPS,
    _COOLING_TYPES,
    *energy.GLOBS,
)


def thermal_zones(facts: Facts) -> dict[str, str]:
    """The ``temp`` nodes that stand for the silicon's temperature, by path, with their zone's type.

    Zones of each of the board's types in turn; on a board that names none, every zone with a believable temperature.
    Monitors of the battery that are registered as zones are none.
    """
    tree = facts.tree
    fitting: list[list[tuple[str, str]]] = []
    for pattern in facts.board.thermal_zones or ("*",):
        fitting.append([])
        for path in tree.glob(_ZONE_TYPES):
            kind, temp = tree.text(path), path.removesuffix("type") + "temp"
            reading = tree.number(temp)
            if not kind or reading is None or celsius(reading) is None or is_battery_monitor(kind, reading):
                continue
            if fnmatch.fnmatchcase(kind, pattern):
                fitting[-1].append((temp, kind))
    # In turn, so that the cores' many sensors leave room for the GPU's.
    turns = (zone for zones in itertools.zip_longest(*fitting) for zone in zones if zone is not None)
    return dict(itertools.islice(dict(turns).items(), _MAX_ZONES))


def sampled(facts: Facts) -> tuple[str, ...]:
    """Nodes to sample during a run: one clock a CPU policy, the GPU's clock, the silicon's temperatures, energy."""
    tree = facts.tree
    clocks = tree.glob(_CLOCKS[0]) or tree.glob(_CLOCKS[1])
    gpu = next((clock for pattern in _GPU_CLOCKS if (clock := tree.glob(pattern))), ())
    # A policy whose CPUs are offline is busy; they may be online in the run.
    readable = (path for path in (*clocks, *gpu) if tree.text(path) is not None or tree[path].errno == errno.EBUSY)
    return (*readable, *thermal_zones(facts), *energy.sampled(facts))


def around(facts: Facts) -> tuple[str, ...]:
    """Nodes to read before and after a run: residency and throttling counters, cooling states, battery, meters."""
    tree = facts.tree
    own = tuple(path for pattern in _AROUND for path in tree.glob(pattern) if tree.text(path) is not None)
    return tuple(dict.fromkeys((*own, *energy.around(facts))))
