"""Blocks of runs: what is handed out next, and why nothing more is. Pure."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from devicelab.model.experiment import Experiment
from devicelab.model.results import Results

Stored = Collection[tuple[str, int]]
"""(cell id, repetition) of every run that is stored, the invalid ones too."""

Fits = Callable[[int], bool]
"""Whether so many runs more fit into what is left of the budget."""


@dataclass(frozen=True)
class Block:
    """Runs that come next: each of the cells in each of the repetitions.

    Attributes:
        cells: ids, in the experiment's order.
        repetitions: their numbers; one number is one block in time, whose runs are compared with each other.
        undecided: names of what is still open.
        more: how many repetitions beyond those begun it is likely to take; ``None`` where that cannot be told.
        after: runs that come afterwards in any case.
    """

    cells: tuple[str, ...]
    repetitions: range
    undecided: tuple[str, ...] = ()
    more: int | None = None
    after: int = 0


Why = Literal["decided", "precise", "found", "max_repetitions", "budget", "cannot be judged"]


@dataclass(frozen=True)
class End:
    """No more runs: why, in one word and in a sentence; what stayed open; repetitions that are complete."""

    why: Why
    reason: str
    undecided: tuple[str, ...] = ()
    done: int = 0


@dataclass(frozen=True)
class Spent:
    """The budget does not hold another repetition; ``done`` of them are complete."""

    done: int


def rest_of(cells: Sequence[str], repetitions: range, stored: Stored, fits: Fits) -> range | Spent | None:
    """What is missing of these repetitions of these cells: from the first that is not complete on, as far as it fits.

    ``None``: nothing. A repetition that was begun is finished whatever the budget says, so that its runs have pairs.
    """
    for n in repetitions:
        missing = sum((cell, n) not in stored for cell in cells)
        if not missing:
            continue
        left = range(n, repetitions.stop)
        blocks = sum(fits(missing + len(cells) * i) for i in range(len(left)))
        blocks = max(blocks, int(missing < len(cells)))
        return left[:blocks] if blocks else Spent(n)
    return None


def fits(experiment: Experiment, results: Results, cells: int, elapsed_s: float) -> Fits:
    """Whether so many runs fit the budget, by how long runs took so far; before the first, one of each cell does."""
    budget_s = experiment.rule.budget_s if experiment.rule is not None else None
    runs = results.runs()
    if budget_s is None:
        return lambda _: True
    if runs.empty:
        return lambda more: more <= cells
    lasted_s = float(runs["duration_ns"].sum()) / 1e9 + len(runs) * experiment.cooldown_s
    spent_s = max(lasted_s, elapsed_s)  # of a campaign that was interrupted, what its runs took before
    each_s = spent_s / len(runs)
    return lambda more: spent_s + more * each_s <= budget_s


def beyond(step: Block, fits: Fits) -> int:
    """Runs that it is likely to take beyond a block, as far as the budget holds those that need not be."""
    more = 0 if step.more is None else max(0, step.more - len(step.repetitions))
    cells = len(step.cells)
    # By halving: nobody knows how many thousands it would be.
    low, high = 0, more
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits((len(step.repetitions) + middle) * cells) else (low, middle - 1)
    return low * cells + step.after
