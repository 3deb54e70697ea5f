"""Pinning a pair of limit nodes (floor and ceiling) from any state to one value, and the reasons why that may fail.

Kernels differ in what they refuse. Up to 5.3 cpufreq and devfreq answer EINVAL to a write that would put the floor
above the ceiling; later ones accept it and clamp. What the nodes *show* need not be what was *asked* for: heat and
vendor boosts move the effective limits, which is what is shown, while the kernel compares with the hidden requests.
Hence one order that is valid for every hidden state:

1. unless the floor is visibly at the bottom, put it there (the bottom is never above any ceiling),
2. the ceiling to the value (no floor is in the way any more, whether this goes up or down),
3. the floor to the value (the ceiling is exactly there).

Undone in reverse (floor down, ceiling back, floor back) it is valid again.

Under a thermal limit below the value both nodes read lower than written. That does not stop the run (only a refused
ceiling does): it is performed, and flagged by what was read around it and by the clock that held.

The trap at the undo: a ceiling that heat pushed down reads low, and writing that back would leave a phone slow for
good. So the text to restore is fixed when the facts are read, not before each of many hot runs, and a ceiling read
while a cooling device was at work is given back as the highest value: heat goes on limiting it by itself.
"""

from dataclasses import dataclass

from devicelab.model.device import Facts
from devicelab.model.plan import Write


@dataclass(frozen=True)
class Limits:
    """A floor and a ceiling node with what they showed.

    Attributes:
        where: for people ("policy4").
        unit: of the values.
        floor_path, ceiling_path: the nodes.
        floor, ceiling: what they showed; ``None`` if they cannot be read.
        lowest, highest: the bottom and top of what may be written.
        heat: what limits the ceiling now ("thermal-cpufreq-1 at 3 of 16"), if anything.
    """

    where: str
    unit: str
    floor_path: str
    ceiling_path: str
    floor: int | None
    ceiling: int | None
    lowest: int
    highest: int
    heat: str | None = None

    @property
    def restored_ceiling(self) -> int:
        """What the ceiling is given back: what it showed, or the top while heat held it down."""
        if self.ceiling is None or (self.heat is not None and self.ceiling < self.highest):
            return self.highest
        return self.ceiling


def pin(limits: Limits, value: int) -> tuple[Write, ...]:
    """The writes that bring floor and ceiling to ``value``, in an order that every kernel accepts."""
    steps: list[Write] = []
    floor = limits.lowest if limits.floor is None else limits.floor
    readable = limits.floor is not None and limits.ceiling is not None
    where, unit = limits.where, limits.unit
    if not readable or floor > limits.lowest or (limits.ceiling or 0) <= floor:
        steps.append(
            Write(
                path=limits.floor_path,
                value=str(limits.lowest),
                why=f"{where}: floor out of the way ({_shown(limits.floor, unit)} now)",
                verify="at-most" if readable else "none",
                restore=str(floor),
                required=False,
            )
        )
        floor = limits.lowest
    # devfreq keeps kHz from 5.5 on: a ceiling in Hz reads back rounded up, a floor rounded down.
    whole_khz = -(-value // 1000) * 1000 if unit == "Hz" else value
    held_down = f", held down by {limits.heat}" if limits.heat else ""
    steps.append(
        Write(
            path=limits.ceiling_path,
            value=str(value),
            why=f"{where}: ceiling to {value} {unit} ({_shown(limits.ceiling, unit)} now{held_down})",
            expect=str(whole_khz) if whole_khz != value else None,
            verify="at-most" if readable else "none",
            restore=str(limits.restored_ceiling),
        )
    )
    steps.append(
        Write(
            path=limits.floor_path,
            value=str(value),
            why=f"{where}: floor to {value} {unit}, so that it stays there",
            verify="none" if not readable else "first-int" if whole_khz == value else "at-most",
            restore=str(floor),
            required=False,
        )
    )
    return tuple(steps)


def _shown(value: int | None, unit: str) -> str:
    return "not readable" if value is None else f"{value} {unit}"


def blocked(facts: Facts, *paths: str) -> str | None:
    """Why these nodes cannot be written, as a sentence; ``None`` if all of them can."""
    for path in paths:
        node = facts.tree.get(path)
        if node is None:
            return f"{path} does not exist"
        if not node.writable:
            how = f"{path} is not writable (mode {node.mode & 0o7777:04o})"
            return f"no root: {how}" if facts.root == "none" else f"{how}, not even as root"
    return None
