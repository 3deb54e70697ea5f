"""What an experiment claims about its cells, before any of them ran: the answer's comparisons and the checks."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from devicelab.errors import ConfigError
from devicelab.experiment.bounds import parse_bound
from devicelab.model.experiment import Answer, Check, Experiment, Level, Verdict

Cells = Mapping[str, Mapping[str, Level]]
"""Cell id → its levels."""

ANSWER = "answer"
"""What a claim that is no check's is ``of``."""

Scale = Literal["ratio", "points", "level"]


@dataclass(frozen=True)
class Claim:
    """One quantity of some cells, alone or over that of others, and the region in which it makes no difference.

    Attributes:
        name: for people.
        quantity: a figure of the runs, or ``cpu_use_pct``.
        over: ids of the cells it is about.
        under: for comparisons, the id that belongs to each of ``over`` (same length); empty for a level.
        scale: a ``ratio`` (of two cells in one block), a difference in ``points``, or a ``level`` (a median).
        low, high: the region, in ratios, points or the bound's own unit; infinite where it is open.
        inside, outside: the verdicts for it.
        unit: of the bound, for a level; empty: the figure's own.
        percent: a ratio whose bound was given as a difference from 1, in percent.
        family: how many claims share one answer: the interval holds for all of them at once.
        of: "answer", or the check's name.
        level: of the answer's factor; empty for a check.
    """

    name: str
    quantity: str
    over: tuple[str, ...]
    under: tuple[str, ...]
    scale: Scale
    low: float
    high: float
    inside: Verdict
    outside: Verdict
    unit: str = ""
    percent: bool = False
    family: int = 1
    of: str = ANSWER
    level: str = ""

    @property
    def cells(self) -> frozenset[str]:
        """Every cell whose runs it needs."""
        return frozenset((*self.over, *self.under))

    @property
    def alike(self) -> float:
        """The value of the region that is nearest to "no difference", on the scale that is judged (ratios as logs)."""
        low, high = self.region
        return min(max(0.0, low), high)

    @property
    def region(self) -> tuple[float, float]:
        """``low`` and ``high`` on the scale that is judged."""
        if self.scale != "ratio":
            return self.low, self.high
        return tuple(math.log(x) if x > 0 else -math.inf for x in (self.low, self.high))  # type: ignore[return-value]


def level_text(level: Level) -> str:
    """A level for comparing: ``4``, ``4.0`` and ``"4"`` are the same."""
    return str(int(level)) if isinstance(level, float) and level.is_integer() else str(level)


def of(experiment: Experiment, cells: Cells, concluded: Collection[str] = ()) -> tuple[Claim, ...]:
    """Every claim that can be decided from figures of runs, the answer's first.

    An answer that an analysis concludes as a whole (its quantity is in ``concluded``) has none.
    """
    found: list[Claim] = []
    answer = experiment.answer
    if answer is not None and answer.by and answer.quantity not in concluded:
        found += _of_answer(answer, cells)
    for check in experiment.checks:
        found += _of_check(check, cells)
    return tuple(found)


def required(experiment: Experiment, cells: Cells, concluded: Collection[str] = ()) -> tuple[Claim, ...]:
    """``of``, for an experiment with a stop rule.

    Raises:
        ConfigError: there is nothing that it could stop on.
    """
    found = of(experiment, cells, concluded)
    if not found:
        answer = experiment.answer
        why = f": {answer.quantity!r} is concluded from all runs together" if answer is not None else ""
        raise ConfigError(
            f"stop: {experiment.name} has nothing that can be decided repetition by repetition{why}",
            hint='name a figure: answer = { quantity, by, against } or [[checks]]; or fix "repetitions"',
        )
    return found


def _of_answer(answer: Answer, cells: Cells) -> Iterable[Claim]:
    apart = _apart(answer.against)
    cells = {cell: levels for cell, levels in cells.items() if _matches(levels, answer.where)}
    base = {cell: levels for cell, levels in cells.items() if _matches(levels, answer.against)}
    by_level: dict[str, list[tuple[str, str]]] = {}
    for cell, levels in cells.items():
        level = levels.get(answer.by)
        if level is None or level_text(level) == level_text(answer.against[answer.by]):
            continue
        pairs = by_level.setdefault(level_text(level), [])
        pairs += [(cell, other) for other, theirs in base.items() if _alike(levels, theirs, apart)]
    points = answer.quantity.endswith("_pct")
    within = answer.within_pct if points else answer.within_pct / 100
    known = {level: pairs for level, pairs in by_level.items() if pairs}
    against = ", ".join(f"{word} {level}" for word, level in answer.against.items())
    for level, pairs in known.items():
        yield Claim(
            name=f"{answer.quantity}: {answer.by} {level} / {against}",
            quantity=answer.quantity,
            over=tuple(over for over, _ in pairs),
            under=tuple(under for _, under in pairs),
            scale="points" if points else "ratio",
            low=-within if points else 1 - within,
            high=within if points else 1 + within,
            inside="no",
            outside="yes",
            family=len(known),
            level=level,
        )


def _of_check(check: Check, cells: Cells) -> Iterable[Claim]:
    sign, bound, unit = parse_bound(check.bound)
    over = [cell for cell, levels in cells.items() if _matches(levels, check.where)]
    pairs: list[tuple[str, str]] = []
    if check.against is not None:
        under = [cell for cell, levels in cells.items() if _matches(levels, check.against)]
        apart = _apart({**check.where, **check.against})
        pairs = [(a, b) for a in over for b in under if _alike(cells[a], cells[b], apart)]
        bound = 1 + bound / 100 if unit == "%" else bound
    if not over or (check.against is not None and not pairs):
        return  # nothing of it is run today; the analysis says so
    below = sign.startswith("<")
    yield Claim(
        name=f"{check.name}: {check.metric} {check.bound}",
        quantity=check.metric,
        over=tuple(a for a, _ in pairs) or tuple(over),
        under=tuple(b for _, b in pairs),
        scale="level" if check.against is None else "ratio",
        low=-math.inf if below else bound,
        high=bound if below else math.inf,
        inside="pass",
        outside="fail",
        unit=unit if check.against is None else "",
        percent=check.against is not None and unit == "%",
        of=check.name,
    )


def _matches(levels: Mapping[str, Level], where: Mapping[str, Level]) -> bool:
    return all(word in levels and level_text(levels[word]) == level_text(level) for word, level in where.items())


def _alike(one: Mapping[str, Level], other: Mapping[str, Level], apart: Collection[str]) -> bool:
    """Whether two cells have the same levels of all words but those, as far as both have them."""
    words = (one.keys() & other.keys()) - set(apart)
    return all(level_text(one[word]) == level_text(other[word]) for word in words)


def _apart(words: Iterable[str]) -> frozenset[str]:
    """Words that a comparison sets apart; a placement goes with its load."""
    found = frozenset(words)
    return found | {"placement"} if "load" in found else found
