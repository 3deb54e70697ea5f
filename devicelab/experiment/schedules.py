"""Does a static flush schedule run under the condition that it was made for?

A stale schedule costs 2 % in the median and 30 % in one case of ten (random networks), more than a stale constant K.
"""

from collections.abc import Iterator

from pydantic import BaseModel

from devicelab import knobs
from devicelab.experiment import evidence, loads
from devicelab.model.device import Facts
from devicelab.model.experiment import Cell
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.measurement import Measurement
from devicelab.model.schedule import MadeFor, Scheduled

# K follows the ratio of production and kernel times, and its optimum is flat: within this factor a schedule holds.
_CLOCK_RATIO = 1.2


def flags(params: BaseModel, measured: Measurement, cell: Cell, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
    """``schedule-elsewhere`` where a static schedule was made for another condition than the run's.

    A remark with ``foreign_schedule``; ``schedule-of-unknown-origin`` is a remark always.
    """
    if not isinstance(params, Scheduled) or getattr(params, "policy", "") != "static":
        return ()
    made = params.made_for
    if made is None:
        detail = "nothing says what the schedule was made for: `devicelab klo plan` writes made_for"
        return (Flag(code="schedule-of-unknown-origin", detail=detail, remark=True),)
    differs = [*_program(made, measured, facts), *_levels(made, cell), *_clocks(made, record)]
    if not differs:
        return ()
    detail = f"the schedule was made for another condition: {'; '.join(differs)}"
    return (Flag(code="schedule-elsewhere", detail=detail, remark=params.foreign_schedule),)


def _program(made: MadeFor, measured: Measurement, facts: Facts) -> Iterator[str]:
    said = measured.info
    pairs = (
        ("device", made.unit, facts.name),
        ("board", made.board, facts.board.kind),
        ("GPU", made.device, said.get("device", "")),
        ("driver", made.driver, said.get("driver", "")),
        ("network", made.network, said.get("network", "")),
    )
    for what, then, now in pairs:
        if then and then != now:
            yield f"{what} {now!r} instead of {then!r}"


def _levels(made: MadeFor, cell: Cell) -> Iterator[str]:
    conditions = {*loads.WORDS, *knobs.words(), *made.levels}
    now = {name: _text(level) for name, level in cell.levels.items()}
    for name in sorted(conditions & {*made.levels, *now}):
        idle = "none" if name == "load" else "-"
        then, here = made.levels.get(name, idle), now.get(name, idle)
        if then != here:
            yield f"{name} {here!r} instead of {then!r}"


def _text(level: object) -> str:
    return str(int(level)) if isinstance(level, float) and level.is_integer() else str(level)


def _clocks(made: MadeFor, record: RunRecord) -> Iterator[str]:
    for what, pattern in (("CPU", evidence.CPU_CLOCK), ("GPU", evidence.GPU_CLOCK)):
        then = {path: clock for path, clock in made.clocks.items() if pattern.search(path)}
        now = evidence.clocks(record.samples.nodes, pattern)
        common = then.keys() & now.keys()
        if not common:
            continue
        # The clusters that idle wander; the fastest one is where production was.
        before, after = (max(clocks[path] for path in common) for clocks in (then, now))
        if max(before, after) > _CLOCK_RATIO * min(before, after):
            yield f"{what} clock {after:.0f} instead of {before:.0f}"
