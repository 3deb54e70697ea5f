"""Did a clock stay where it was put? Judged from residency counters where the kernel keeps them, samples otherwise."""

from collections.abc import Mapping

from devicelab.model.journal import Flag, RunRecord
from devicelab.model.tree import whole

OFF_TARGET_PCT = 1.0
"""Share of the time that a clock may be elsewhere: a transition caught at the edge of the window, no more."""


def residency(text: str | None) -> dict[int, int]:
    """``time_in_state``: "FREQUENCY TICKS" a line; lines that are not are skipped."""
    found = {}
    for line in (text or "").splitlines():
        words = line.split()
        point, ticks = (whole(word) for word in words) if len(words) == 2 else (None, None)
        if point is not None and ticks is not None:
            found[point] = ticks
    return found


def spent(record: RunRecord, path: str) -> dict[int, int]:
    """Ticks spent at each frequency during the run; empty if it is not known."""
    before, after = residency(record.before.get(path)), residency(record.after.get(path))
    if not before:
        return {}
    return {point: ticks - before.get(point, 0) for point, ticks in after.items() if ticks > before.get(point, 0)}


def sampled(record: RunRecord, path: str) -> dict[int, int]:
    """Number of samples at each frequency; those that could not be read are left out."""
    found: dict[int, int] = {}
    for text in record.samples.nodes.get(path, ()):
        point = whole((text or "").partition(" ")[0])
        if point is not None:
            found[point] = found.get(point, 0) + 1
    return found


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
