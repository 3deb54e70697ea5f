"""Heat: wait for a baseline before every run (``thermal``), and tell whether the run was throttled.

Zones are found by *type*, since their numbers change between kernels. A board file names the types that stand for the
silicon; of each named type pattern the hottest zone is awaited, because a chip's sensors agree within seconds and every
gate costs time. Kernel protection stays as it is: nothing here raises a limit or switches a zone off.
"""

import fnmatch
import re
from dataclasses import dataclass

from devicelab.errors import ConfigError
from devicelab.knobs import _heat, _levels
from devicelab.knobs._domains import CPU
from devicelab.knobs.base import Phase, Setting
from devicelab.model.device import Facts
from devicelab.model.experiment import HOTTEST_C, Level, Thermal
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Gate
from devicelab.model.temperature import celsius, is_battery_monitor, lowest_believed, units_per_degree
from devicelab.model.tree import whole

WORDS = ("thermal",)
PHASE = Phase.REST

_ZONE = "/sys/class/thermal/thermal_zone*"
_COUNTERS = (
    f"{CPU}/cpu*/thermal_throttle/core_throttle_count",
    f"{CPU}/cpu*/thermal_throttle/package_throttle_count",
)
GLOBS = (f"{_ZONE}/type", f"{_ZONE}/temp", *_COUNTERS, *_heat.GLOBS)

_LEVELS = "a temperature in °C (45), a band (30-45), or any"
_BAND = re.compile(r"(?:(\d+(?:\.\d+)?)\s*-\s*)?(\d+(?:\.\d+)?)\s*(?:°?c)?")


@dataclass(frozen=True)
class Zone:
    """A zone that reads sensibly: its ``temp`` node, type, reading and units a degree."""

    path: str
    type: str
    reading: int
    per_degree: int

    @property
    def celsius(self) -> float:
        """The reading in °C."""
        return self.reading / self.per_degree


def zones(facts: Facts) -> tuple[Zone, ...]:
    """The zones to await: the hottest of each type pattern of the board file.

    Where none of them fits, the hottest zone of the device. Zones with an empty or absurd reading are left out, and so
    are monitors of the battery's charge, current and voltage.
    """
    readable = [zone for path in facts.tree.glob(f"{_ZONE}/type") if (zone := _zone(facts, path)) is not None]
    chosen: dict[str, Zone] = {}
    for pattern in facts.board.thermal_zones:
        fitting = [zone for zone in readable if fnmatch.fnmatchcase(zone.type, pattern)]
        if fitting:
            hottest = max(fitting, key=lambda zone: zone.celsius)
            chosen.setdefault(hottest.path, hottest)
    if not chosen and readable:
        return (max(readable, key=lambda zone: zone.celsius),)
    return tuple(chosen.values())


def _zone(facts: Facts, type_path: str) -> Zone | None:
    path = type_path.removesuffix("type") + "temp"
    reading = facts.tree.number(path)
    kind = facts.tree.text(type_path) or ""
    # A zone that is switched off reads 0: nothing to wait for.
    if not reading or celsius(reading) is None or is_battery_monitor(kind, reading):
        return None
    return Zone(path, kind, reading, units_per_degree(reading))


def applies(facts: Facts) -> bool:  # noqa: ARG001 - asked of every family
    """Always: a device without zones says so in ``unmet``."""
    return True


def wait_for(thermal: Thermal, facts: Facts) -> Setting:
    """Gates on every chosen zone, with the evidence of throttling."""
    gates = tuple(_gate(zone, thermal) for zone in zones(facts))
    unmet = () if gates else ("no thermal zone can be read, so no temperature can be awaited",)
    heat = tuple(device.path for part in ("cpu", "gpu") for device in _heat.cooling(facts, part))
    counters = tuple(path for pattern in _COUNTERS for path in facts.tree.glob(pattern))
    return Setting(
        gates=gates,
        sample=tuple(zone.path for zone in zones(facts)),
        around=tuple(dict.fromkeys((*heat, *counters))),
        unmet=unmet,
    )


def _gate(zone: Zone, thermal: Thermal) -> Gate:
    def units(degrees: float | None) -> int | None:
        return None if degrees is None else round(degrees * zone.per_degree)

    # A sensor may drop out while it is awaited: that is not cool.
    believed = lowest_believed(zone.reading)
    low = units(thermal.min_c)
    parts = [
        f"at most {thermal.max_c:g} °C" if thermal.max_c is not None else "",
        f"at least {thermal.min_c:g} °C" if thermal.min_c is not None else "",
        f"flat within {thermal.flat_within_c:g} °C" if thermal.flat_within_c is not None else "",
    ]
    return Gate(
        path=zone.path,
        max_value=units(thermal.max_c),
        min_value=believed if low is None else max(low, believed),
        flat_within=units(thermal.flat_within_c),
        window_ms=round(thermal.window_s * 1000),
        timeout_ms=round(thermal.timeout_s * 1000),
        why=f"zone {zone.type} {', '.join(filter(None, parts)) or 'readable'} ({zone.celsius:.1f} °C now)",
    )


def plan(word: str, want: Level, facts: Facts) -> Setting:
    """Gates for a level such as ``45`` or ``30-45``.

    Raises:
        ConfigError: not a temperature.
    """
    chosen = _levels.text(want)
    if chosen == "any":
        return Setting()
    band = _BAND.fullmatch(chosen)
    low, high = (float(number) if number else None for number in (band[1], band[2])) if band else (None, None)
    if high is None or high > HOTTEST_C or (low is not None and low > high):
        raise ConfigError(f"{word} = {want!r} makes no sense", hint=f"one of: {_LEVELS}")
    return wait_for(Thermal(max_c=high, min_c=low), facts)


def prove(word: str, want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
    """``throttled``: a cooling device was at work, or a throttling counter rose, during the run."""
    if _levels.text(want) == "any":
        return ()
    flags = [*_heat.throttled(facts, record, "cpu"), *_heat.throttled(facts, record, "gpu")]
    for pattern in _COUNTERS:
        for path in facts.tree.glob(pattern):
            before, after = (whole(texts.get(path)) for texts in (record.before, record.after))
            if before is not None and after is not None and after > before:
                where = path.removeprefix(f"{CPU}/").replace("/thermal_throttle/", " ")
                detail = f"{word}: {where} rose from {before} to {after}"
                flags.append(Flag(code="throttled", detail=detail))
    return tuple(flags)
