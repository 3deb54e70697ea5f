"""Did a clock stay where it was put? Judged from residency counters where the kernel keeps them, samples otherwise."""

from collections.abc import Mapping

from devicelab.model.journal import Flag, RunRecord
from devicelab.model.tree import whole

OFF_TARGET_PCT = 1.0
"""Share of the time that a clock may be elsewhere: a transition caught at the edge of the window, no more."""


def residency(text: str | None) -> dict[int, int]:
    """``time_in_state``: "FREQUENCY TICKS" a line; lines that are not are skipped."""
    grown = {}
    for line in (text or "").splitlines():
        words = line.split()
        point, ticks = (whole(word) for word in words) if len(words) == 2 else (None, None)
        if point is not None and ticks is not None:
            grown[point] = ticks
    return grown


def spent(record: RunRecord, path: str, *, tick_ns: int | None = None) -> dict[int, int]:
    """Ticks spent at each frequency during the run; empty if it is not known.

    Nor is it where the counters do not belong together: one that fell or went away (the table was reset, its core
    left), and, with the length of a tick, a sum that leaves out half of the window or more.
    """
    before, after = residency(record.before.get(path)), residency(record.after.get(path))
    if not before or any(after.get(point, -1) < ticks for point, ticks in before.items()):
        return {}
    grown = {point: ticks - before.get(point, 0) for point, ticks in after.items() if ticks > before.get(point, 0)}
    window_ns = record.window_end_ns - record.window_start_ns
    return {} if tick_ns is not None and 2 * sum(grown.values()) * tick_ns < window_ns else grown


def sampled(record: RunRecord, path: str) -> dict[int, int]:
    """Number of samples at each frequency; those that could not be read are left out."""
    clocks: dict[int, int] = {}
    for text in record.samples.nodes.get(path, ()):
        point = whole((text or "").partition(" ")[0])
        if point is not None:
            clocks[point] = clocks.get(point, 0) + 1
    return clocks


def off_target(seen: Mapping[int, int], target: int, *, slack: float = 0.0) -> dict[int, float]:
    """Percent of the time at each frequency that is not the target.

    Args:
        seen: weight (ticks, samples) by frequency.
        target: where it should have been.
        slack: relative deviation that still counts as the target.
    """
    total = sum(seen.values())
    return {
        point: 100 * weight / total for point, weight in seen.items() if weight and abs(point - target) > slack * target
    }


def held(code: str, where: str, seen: Mapping[int, int], target: int, unit: str, *, slack: float = 0.0) -> Flag | None:
    """A flag if too much time was spent off the target: ``policy4: 3.1% of the time at 1286400 kHz instead of ...``."""
    off = off_target(seen, target, slack=slack)
    share = sum(off.values())
    if share <= OFF_TARGET_PCT:
        return None
    worst = max(off, key=lambda point: off[point])
    rest = "another" if len(off) == 2 else f"{len(off) - 1} others"
    others = f" and {share - off[worst]:.1f}% at {rest}" if len(off) > 1 else ""
    return Flag(
        code=f"{code}-not-held",
        detail=f"{where}: {off[worst]:.1f}% of the time at {worst} {unit}{others} instead of {target}",
    )


def above(seen: Mapping[int, int], target: int, *, slack: float) -> dict[int, int]:
    """Samples above the target; those below count as the target: measured clocks of idle CPUs read low."""
    found: dict[int, int] = {}
    for point, count in seen.items():
        key = point if point > target * (1 + slack) else target
        found[key] = found.get(key, 0) + count
    return found


def limits_moved(
    where: str, record: RunRecord, floor: str, ceiling: str, target: int, unit: str, heat: str | None
) -> Flag | None:
    """A flag if the limits read around the run were not both the target: a vendor daemon, another user, or heat.

    Kernels from 5.5 on round limits in Hz to whole kHz.
    """
    for when, texts in (("before", record.before), ("after", record.after)):
        for path in (ceiling, floor):
            words = (texts.get(path) or "").split()
            now = whole(words[0]) if words else None
            if now is not None and abs(now - target) >= (1000 if unit == "Hz" else 1):
                name = path.rsplit("/", 1)[-1]
                by = f"heat: {heat}" if heat else "a daemon or another program changed it"
                return Flag(
                    code="throttled" if heat else "limits-changed",
                    detail=f"{where}: {name} was {words[0]} {unit} {when} the run instead of {target} ({by})",
                )
    return None
