"""Which nodes of a device tell its power or its energy.

A source is recognised by its paths alone, from the tree of a live device as well as from the evidence of a stored run,
so that what a run used can be computed again at any time. Paths and units: Documentation/ABI/testing of the kernel
(sysfs-class-power, sysfs-class-powercap), Documentation/hwmon/sysfs-interface.rst, and for on-device power monitors
drivers/iio/adc of the Pixel kernels (energy_value).
"""

import errno

from devicelab.knobs import charging
from devicelab.model.device import Facts

ODPM = "/sys/bus/iio/devices/iio:device*/energy_value"
SUPPLY = "/sys/class/power_supply/*"
RAPL = "/sys/class/powercap/*/energy_uj"
HWMON = "/sys/class/hwmon/hwmon*"

BATTERY_NODES = ("status", "current_now", "voltage_now", "power_now", "charge_counter", "charge_now", "energy_now")
"""Of a power supply of type Battery, sampled during a run."""

_HWMON_SAMPLED = ("power*_input", "power*_average", "energy*_input", "in*_input", "curr*_input")
_HWMON_NAMES = ("name", "power*_label", "energy*_label", "in*_label")
_AROUND = (
    f"{SUPPLY}/type",
    *charging.GLOBS,
    "/sys/class/powercap/*/name",
    "/sys/class/powercap/*/max_energy_range_uj",
    *(f"{HWMON}/{name}" for name in _HWMON_NAMES),
)
_SAMPLED = (
    ODPM,
    *(f"{SUPPLY}/{name}" for name in BATTERY_NODES),
    f"{SUPPLY}/online",
    RAPL,
    *(f"{HWMON}/{name}" for name in _HWMON_SAMPLED),
)
GLOBS: tuple[str, ...] = (*_SAMPLED, *_AROUND)

_TELLING = frozenset(("energy_value", "current_now", "power_now", "energy_uj"))

# A board has some dozens of sensors at most; reading one may cost a bus transfer.
_MOST = 32


def sampled(facts: Facts) -> tuple[str, ...]:
    """Nodes to sample during a run and while the board is idle; empty where nothing tells energy or power."""
    tree = facts.tree
    found = [path for pattern in _SAMPLED for path in tree.glob(pattern) if _readable(facts, path)]
    return tuple(path for path in found if _wanted(path, found))[:_MOST]


def tells(facts: Facts) -> bool:
    """Whether energy follows from any of the sampled nodes (that a supply is plugged in tells none), or from NVML."""
    if facts.board.kind == "nvidia-server":
        return True
    names = tuple(path.rpartition("/")[2] for path in sampled(facts))
    return any(name in _TELLING or name.startswith(("power", "energy", "curr")) for name in names)


def around(facts: Facts) -> tuple[str, ...]:
    """Nodes to read before and after a run: names, ranges, limits."""
    tree = facts.tree
    return tuple(path for pattern in _AROUND for path in tree.glob(pattern) if tree.text(path) is not None)


def _readable(facts: Facts, path: str) -> bool:
    # A counter that is locked for this moment may answer later.
    return facts.tree.text(path) is not None or facts.tree[path].errno == errno.EBUSY


def _wanted(path: str, found: list[str]) -> bool:
    """Voltages and currents of hwmon are for chips that tell both and no power; a mainboard's voltages are nobody's."""
    folder, _, name = path.rpartition("/")
    if not folder.startswith("/sys/class/hwmon/") or not name.startswith(("in", "curr")):
        return True
    powers = any(one.startswith(f"{folder}/power") for one in found)
    number = name.removeprefix("in").removeprefix("curr").removesuffix("_input")
    return not powers and f"{folder}/in{number}_input" in found and f"{folder}/curr{number}_input" in found


def missing(facts: Facts) -> tuple[str, ...]:
    """Why this device tells no energy, a sentence for each kind of meter; to be asked where ``sampled`` is empty."""
    tree = facts.tree
    reasons = []
    rapl = tree.glob(RAPL)
    if any(tree[path].errno in {errno.EACCES, errno.EPERM} for path in rapl):
        reasons.append("RAPL's counters may be read by root only")
    elif not rapl and facts.os != "android":
        reasons.append("no RAPL under /sys/class/powercap (a virtual machine has none; else the driver is not loaded)")
    if facts.os == "android":
        reasons.append("no on-device power monitors (energy_value of an iio device: Pixel 6 and later)")
    if not any(path.endswith(("current_now", "power_now")) for path in sampled(facts)):
        reasons.append("no battery that tells its current under /sys/class/power_supply")
    if not tree.glob(f"{HWMON}/power*_input") and not tree.glob(f"{HWMON}/curr*_input"):
        reasons.append("no power sensor under /sys/class/hwmon (an INA on a development board)")
    return tuple(reasons)
