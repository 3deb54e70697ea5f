"""How much of a night each cell gets: all where a change is open, a maintenance dose where nothing happened for weeks.

``doses`` is a pure policy: from what earlier nights said of each cell to how often it is measured tonight. The number
of nights a cell is measured in may depend on what was seen: evidence of ``compare.nights.held`` counts nights that
measured it, and holds however they were chosen from those before.
"""

import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from devicelab.analyses import answer
from devicelab.compare.nights.held import SIGN
from devicelab.experiment import claims
from devicelab.experiment import plan as planning
from devicelab.model.experiment import Experiment
from devicelab.model.night import CellVerdict, DoseRules, Share, Task
from devicelab.store import Store

_DAY_NS = 86_400 * 1_000_000_000


@dataclass(frozen=True)
class Seen:
    """One cell in one night that judged it.

    Attributes:
        ago: nights of the farm since; 1 is the last one.
        sign: why it is not calm; empty: it is.
        moved: the sign is one of a change, which others may share.
        undecided: whether more runs may decide it.
    """

    ago: int
    sign: str = ""
    moved: bool = False
    undecided: bool = False


Past = Mapping[str, Sequence[Seen]]
"""Cell id → the nights that judged it, newest first."""


def doses(groups: Sequence[Collection[str]], past: Past, rules: DoseRules, day: int) -> tuple[Share, ...]:
    """How often the cells of one experiment on one device are measured tonight, and why.

    - Twice: the newest night left a change undecided.
    - Not at all: every cell of the group was calm for ``stable_after`` nights that measured it, and it is not its turn.
    - Once: all others; and all, where last night saw a cell of the experiment move on this device, since what changes
      one cell mostly changes others.

    Args:
        groups: cells that are compared with each other, and so measured together.
        past: what earlier nights said.
        rules: of the farm.
        day: number of the day, from which turns are taken.
    """
    newest = [seen[0] for seen in past.values() if seen]
    awake = next((f"elsewhere {one.sign}" for one in newest if one.ago == 1 and one.moved), "")
    found: list[Share] = []
    for group in groups:
        cells = tuple(sorted(group))
        rows = [past.get(cell, ()) for cell in cells]
        undecided = [cell for cell, row in zip(cells, rows, strict=True) if row and row[0].undecided]
        calm = min(_calm(row) for row in rows)
        if undecided and rules.again:
            why = f"undecided: {past[undecided[0]][0].sign}"
            found += [Share(times=2, cells=tuple(undecided), why=why)]
            rest = tuple(cell for cell in cells if cell not in undecided)
            found += [Share(times=1, cells=rest, why="compared with what is undecided")] if rest else []
        elif calm < rules.stable_after:
            found.append(Share(times=1, cells=cells, why=_not_calm(rows, calm, rules)))
        elif awake:
            found.append(Share(times=1, cells=cells, why=f"calm, but {awake}"))
        else:
            found.append(_maintained(cells, max(row[0].ago for row in rows), rules, day))
    return _together(found)


def _calm(row: Sequence[Seen]) -> int:
    """Nights in a row, up to the newest, that measured it and saw nothing."""
    return next((n for n, seen in enumerate(row) if seen.sign), len(row))


def _not_calm(rows: Sequence[Sequence[Seen]], calm: int, rules: DoseRules) -> str:
    row = min(rows, key=_calm)
    if calm == len(row):
        return f"measured in {calm} nights; calm is said after {rules.stable_after}"
    return f"{row[calm].sign} {row[calm].ago} night{'s' if row[calm].ago > 1 else ''} ago"


def _maintained(cells: tuple[str, ...], ago: int, rules: DoseRules, day: int) -> Share:
    turn = (day + zlib.crc32(cells[0].encode())) % rules.every
    if turn == 0 or ago >= rules.every:
        return Share(times=1, cells=cells, why=f"calm; its turn, one night in {rules.every}")
    return Share(times=0, cells=cells, why=f"calm in {rules.stable_after} nights; one night in {rules.every} is enough")


def _together(shares: Iterable[Share]) -> tuple[Share, ...]:
    """Those for the same reason as one, most runs first."""
    by_reason: dict[tuple[int, str], Share] = {}
    for one in shares:
        known = by_reason.get((one.times, one.why))
        cells = one.cells if known is None else (*known.cells, *one.cells)
        by_reason[one.times, one.why] = one.model_copy(update={"cells": cells})
    return tuple(sorted(by_reason.values(), key=lambda one: -one.times))


def groups_of(experiment: Experiment) -> tuple[frozenset[str], ...]:
    """Cells that an answer or a check compares, directly or by others; all of them where an analysis or a search does.

    What is compared is measured in the same night, so that each campaign answers what it can.
    """
    levels = {cell.cell_id: cell.levels for cell in planning.cells(experiment)}
    concluded = answer.known(experiment)
    asked = experiment.answer
    if experiment.search is not None or (asked is not None and asked.quantity in concluded):
        return (frozenset(levels),)
    found = {cell: frozenset({cell}) for cell in levels}
    for claim in claims.of(experiment, levels, concluded):
        joined = frozenset().union(*(found[cell] for cell in claim.cells))
        found |= dict.fromkeys(joined, joined)
    return tuple(dict.fromkeys(found[cell] for cell in levels))


def seen_of(verdicts: Iterable[CellVerdict], ago: int) -> dict[tuple[str, str, str], Seen]:
    """What a night's verdicts say of each cell: (experiment, device, cell id) → its most serious figure."""
    found: dict[tuple[str, str, str], Seen] = {}
    for one in verdicts:
        key = (one.experiment, one.device, one.cell_id)
        now, known = _seen(one, ago), found.get(key)
        if known is None or _weight(now) > _weight(known):
            found[key] = now
    return found


def _weight(seen: Seen) -> tuple[bool, bool, bool]:
    return seen.undecided, seen.moved, bool(seen.sign)


def _seen(one: CellVerdict, ago: int) -> Seen:
    moved = one.verdict in {"regression", "improvement"}
    if moved and one.established:
        return Seen(ago, f"{one.metric} changed, established", moved=True)
    if moved:
        return Seen(ago, f"{one.metric} looks changed, not established", moved=True, undecided=True)
    if one.evidence is not None and one.evidence >= SIGN:
        return Seen(ago, f"{one.metric} may be moving", moved=True, undecided=True)
    if one.verdict != "unchanged":
        return Seen(ago, f"{one.metric} {one.verdict}")
    return Seen(ago, f"other {one.causes[0]}") if one.causes else Seen(ago)


def past_of(store: Store, farm: str, rules: DoseRules) -> dict[tuple[str, str], dict[str, list[Seen]]]:
    """(experiment, device) → what the farm's nights said of its cells, as far back as the policy looks."""
    found: dict[tuple[str, str], dict[str, list[Seen]]] = {}
    ended = [info for info in store.nights(farm=farm) if info.status in {"complete", "failed"}]
    for ago, info in enumerate(ended[: rules.stable_after * rules.every + rules.every], 1):
        for (experiment, device, cell), seen in seen_of(store.verdicts(night=info.night), ago).items():
            found.setdefault((experiment, device), {}).setdefault(cell, []).append(seen)
    return found


def dosed(
    tasks: Iterable[Task],
    experiments: Sequence[Experiment],
    store: Store,
    farm: str,
    rules: DoseRules,
    now_unix_s: float,
) -> tuple[Task, ...]:
    """Tonight's tasks with the cells that they measure, and further ones that measure what is undecided once more.

    Tasks of ``any N of`` measure everything: nobody knows beforehand where they run.
    """
    past = past_of(store, farm, rules)
    planned = tuple(tasks)
    last = min((task.priority for task in planned), default=0) - 1
    groups: dict[int, tuple[frozenset[str], ...]] = {}
    day = int(now_unix_s * 1e9) // _DAY_NS
    found: list[Task] = []
    for task in planned:
        if task.device is None or task.status != "waiting":
            found.append(task)
            continue
        if task.job not in groups:
            groups[task.job] = groups_of(experiments[task.job])
        shares = doses(groups[task.job], past.get((task.experiment, task.device), {}), rules, day)
        found += _tasks(task, shares, last)
    return tuple(found)


def _tasks(task: Task, shares: tuple[Share, ...], last: int) -> list[Task]:
    measured = tuple(sorted(cell for one in shares if one.times for cell in one.cells))
    if not measured:
        why = "; ".join(one.why for one in shares)
        return [task.model_copy(update={"status": "skipped", "reason": f"at rest: {why}", "shares": shares})]
    whole = all(one.times for one in shares)
    twice = tuple(sorted(cell for one in shares if one.times > 1 for cell in one.cells))
    found = [task.model_copy(update={"cells": () if whole else measured, "shares": shares})]
    if twice:
        update = {"task_id": f"{task.task_id}c", "confirms": task.task_id, "cells": twice, "priority": last}
        found.append(task.model_copy(update=update))
    return found
