"""Is a device fit for work? Usable, not only connected: space, battery, temperature, clock tables, root."""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from devicelab.device.facts import Device
from devicelab.device.runner import FREE_KIB
from devicelab.experiment import evidence
from devicelab.model.device import Facts
from devicelab.model.night import Health, HealthRules
from devicelab.model.plan import content_id
from devicelab.model.temperature import celsius
from devicelab.store import Store
from devicelab.transports._root import wrap as as_root

# Nodes that list or bound the clocks a device offers. They change with the kernel, or by a hand nobody knows of.
_TABLES = (
    "scaling_available_frequencies",
    "gpu_available_frequencies",
    "available_frequencies",
    "gpu_freq_table",
    "cpuinfo_min_freq",
    "cpuinfo_max_freq",
)
# The same as those of the policies, under older names.
_PER_CPU = re.compile(r"/sys/devices/system/cpu/cpu\d+/")
_BATTERY = "/sys/class/power_supply/battery"
# Thermal zones that are not wired read 0, -274000 or 2^31.
_PLAUSIBLE_C = (-40.0, 200.0)
_LOOK_S = 2.0

# POSIX df: the fourth word of the second line is what an unprivileged user may still write, KiB. A folder that is not
# there yet is judged by the one above it.
_ASK = 'd=$1; while [ ! -d "$d" ] && [ "$d" != / ]; do d=${d%/*}; d=${d:-/}; done; df -Pk "$d"; cat /proc/uptime'


@dataclass(frozen=True)
class Rules:
    """What a look is judged by: the farm's rules, and how the device was when it was last fit (``None``: new)."""

    wanted: HealthRules
    last: Health | None = None


def rules_for(store: Store, device: str, wanted: HealthRules) -> Rules:
    """The rules for a device; what was seen before a quarantine that somebody released does not bind any more."""
    ended = [q.released_unix_ns for q in store.quarantines(device=device) if q.released_unix_ns is not None]
    since = max(ended, default=0)
    known = (seen for seen in store.health(device=device, limit=20) if seen.ok and seen.facts)
    return Rules(wanted, next((seen for seen in known if seen.at_unix_ns >= since), None))


def figures(device: Device) -> dict[str, float]:
    """What can be measured, by name with unit; what the device does not tell is left out.

    Raises:
        DeviceUnreachableError: it does not answer.
    """
    done = device.transport.run(as_root(device.facts.root, ["sh", "-c", _ASK, "health", device.facts.dir]))
    found = _parse_space(done.stdout.decode("utf-8", "replace"))
    tree = device.facts.tree
    capacity, tenths = tree.number(f"{_BATTERY}/capacity"), tree.number(f"{_BATTERY}/temp")
    if capacity is not None and 0 <= capacity <= 100:
        found["battery_pct"] = float(capacity)
    if tenths is not None and _PLAUSIBLE_C[0] < tenths / 10 < _PLAUSIBLE_C[1]:
        found["battery_c"] = tenths / 10
    hottest = hottest_c(tree.text(path) for path in evidence.thermal_zones(device.facts))
    if hottest is not None:
        found["hottest_c"] = hottest
    return found


def _parse_space(text: str) -> dict[str, float]:
    found = {}
    lines = text.splitlines()
    # A long device name may stand on a line of its own, so the words are counted from the end.
    space = FREE_KIB.search(" ".join(lines[1:-1]))
    if space:
        found["free_mib"] = int(space[1]) / 1024
    if lines and (uptime := re.match(r"(\d{1,12}(?:\.\d+)?) ", lines[-1])):
        found["uptime_s"] = float(uptime[1])
    return found


def hottest_c(texts: Iterable[str | None]) -> float | None:
    """The highest of thermal zones' texts in degrees Celsius; values no silicon has do not count."""
    readings = [int(text) for text in texts if text and re.fullmatch(r"-?\d{1,12}", text.strip())]
    values = (celsius(reading) for reading in readings)
    return max((value for value in values if value is not None), default=None)


def steady_facts(facts: Facts) -> dict[str, str]:
    """What ought not to change between nights."""
    tree = facts.tree
    policies = bool(tree.glob("/sys/devices/system/cpu/cpufreq/policy*/*"))
    tables = {
        path: " ".join(map(str, sorted(set(tree.numbers(path)))))
        for path in sorted(tree)
        if path.rpartition("/")[2] in _TABLES and tree.numbers(path) and not (policies and _PER_CPU.match(path))
    }
    found = {
        "serial": facts.props.get("ro.serialno") or facts.props.get("os.id", ""),
        "board": facts.board.kind,
        "os_build": facts.props.get("ro.build.fingerprint") or facts.props.get("os.pretty_name", ""),
        "kernel": facts.kernel,
        "boot_id": facts.boot_id,
        "root": facts.root,
        "clock_tables": content_id(*(f"{path}={table}" for path, table in tables.items())),
    }
    found |= {f"clocks {path}": _short(table) for path, table in tables.items()}
    return {name: text for name, text in found.items() if text}


def _short(table: str) -> str:
    steps = table.split()
    shown = f"{len(steps)} steps {steps[0]} to {steps[-1]}" if len(steps) > 1 else table
    return f"{shown} ({content_id(table, length=6)})" if len(steps) > 1 else shown


def judge(seen: dict[str, float], facts: dict[str, str], rules: Rules) -> tuple[str, ...]:
    """Why the device is not fit for work, one short sentence each; empty: it is."""
    wanted, reasons = rules.wanted, []
    free, battery, hottest = seen.get("free_mib"), seen.get("battery_pct"), seen.get("hottest_c")
    if wanted.min_free_mib is not None and free is not None and free < wanted.min_free_mib:
        reasons.append(f"only {free:.0f} MiB free, {wanted.min_free_mib:g} are needed")
    if wanted.min_battery_pct is not None and battery is not None and battery < wanted.min_battery_pct:
        reasons.append(f"battery at {battery:.0f} %, {wanted.min_battery_pct:g} % are needed")
    if wanted.max_c is not None and hottest is not None and hottest > wanted.max_c:
        reasons.append(f"{hottest:.0f} °C, at most {wanted.max_c:g} °C are allowed")
    if wanted.root and facts.get("root") == "none":
        reasons.append("no root")
    return (*reasons, *_changed_tables(facts, rules.last.facts if rules.last is not None else {}))


def _changed_tables(now: dict[str, str], before: dict[str, str]) -> tuple[str, ...]:
    if not before.get("clock_tables") or now.get("clock_tables") == before["clock_tables"]:
        return ()
    tables = [name for name in sorted(before) if name.startswith("clocks ") and now.get(name) != before[name]]
    if not tables:
        return ()  # more nodes are read than before: nothing that was known is another
    name = tables[0]
    more = f", and {len(tables) - 1} more" if len(tables) > 1 else ""
    return (
        f"clock tables changed: {name.removeprefix('clocks ')} was {before[name]}, is {now.get(name, 'gone')}{more}",
    )


def look(
    device: Device,
    rules: Rules,
    *,
    night: str | None = None,
    task_id: str | None = None,
    phase: Literal["before", "after", "asked"] = "asked",
) -> Health:
    """One look at an open device; its nodes are those that were read when it was opened.

    Raises:
        DeviceUnreachableError: it does not answer.
    """
    seen, facts = figures(device), steady_facts(device.facts)
    reasons = judge(seen, facts, rules)
    return Health(
        device=device.facts.name,
        night=night,
        task_id=task_id,
        phase=phase,
        ok=not reasons,
        reasons=reasons,
        figures={name: round(value, 1) for name, value in seen.items()},
        facts=facts,
        at_unix_ns=time.time_ns(),
    )


def too_hot(health: Health, rules: HealthRules) -> bool:
    """Waiting may help: the device is hotter than allowed."""
    hottest = health.figures.get("hottest_c")
    return rules.max_c is not None and hottest is not None and hottest > rules.max_c


def cool(device: Device, rules: HealthRules, wait: Callable[[float], bool]) -> bool:
    """Wait until the device is cool enough.

    Args:
        device: open.
        rules: how cool, and how long at most.
        wait: waits so many seconds; True: give up.

    Returns:
        Whether it is.

    Raises:
        DeviceUnreachableError: it does not answer.
    """
    paths = list(evidence.thermal_zones(device.facts))
    deadline = time.monotonic() + rules.cool_s
    while True:
        texts = _texts(device, paths)
        hottest = hottest_c(texts)
        if rules.max_c is None or hottest is None or hottest <= rules.max_c:
            return True
        if time.monotonic() >= deadline or wait(min(_LOOK_S, max(0.0, deadline - time.monotonic()))):
            return False


def _texts(device: Device, paths: Sequence[str]) -> list[str]:
    if not paths:
        return []
    done = device.transport.run(as_root(device.facts.root, ["cat", *paths]))
    return done.stdout.decode("utf-8", "replace").splitlines()
