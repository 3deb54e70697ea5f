"""Which setting is the best: a race in which what is clearly slower gets no more runs. Pure functions.

Settings are tried a few times each, then those that cannot be the best leave (successive elimination: E. Even-Dar,
S. Mannor, Y. Mansour, "Action elimination and stopping conditions", JMLR 7, 2006), until what is left is the best or as
good. The winner is then measured afresh: what is chosen from data is judged on other data, so an elimination that was
too bold costs a little speed and never a wrong interval.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from devicelab.experiment.blocks import Block, End, Fits, Spent, Stored, rest_of
from devicelab.experiment.sequences import Floats
from devicelab.model.stop import Stop

FEW = 2
"""Repetitions of every setting that is tried."""

FRESH = 100_000
"""The winner's fresh repetitions are numbered from here, so that they are told from those it was chosen by."""

AS_GOOD = 0.01
"""A setting within 1 % of the best is as good."""

# The race ends where going on is worth less than this share of the figure (expected opportunity cost).
_WORTH = 0.4 * AS_GOOD
# Chance that the best leaves wrongly; it only steers, see above.
_RISK = 0.05
# A model that is off by more than this is not followed.
_MISS = 0.1
# A model is never taken to be more exact than this, log.
_MODEL = 0.01

NEAREST = 3
"""Predicted settings that are tried besides the scouts, at most."""

Values = Mapping[str, Mapping[int, float]]
"""Cell id → repetition → the figure of its valid run, positive; smaller is better."""

Proposer = Callable[[Values, tuple[str, ...]], tuple[str, ...]]
"""From what was measured and which were tried: the settings to try next, none when enough were."""

Allowed = Callable[[int], Collection[str]]
"""From a repetition: the settings that kept what they have to keep before it."""

Predicted = Mapping[str, float]
"""Cell id → the figure that a model gives it."""

Predictor = Callable[[Values], Predicted | None]
"""From what was measured: every setting's figure as a model has it; ``None`` where it has none."""


@dataclass(frozen=True)
class Standing:
    """Settings by what is known of them.

    Attributes:
        cells: best first.
        behind: log of each one's figure over the best's, as estimated.
        error: standard error of it (infinite with too few runs).
        freedom: degrees of freedom of the scatter.
    """

    cells: tuple[str, ...]
    behind: Floats
    error: Floats
    freedom: int

    def alive(self) -> tuple[str, ...]:
        """Those that may still be the best: not beyond Student's t at a risk shared by all."""
        from scipy.stats import t as student

        if self.freedom < 1:
            return self.cells
        off = float(student.isf(_RISK / (2 * len(self.cells)), self.freedom)) * self.error
        return tuple(cell for cell, far, most in zip(self.cells, self.behind, off, strict=True) if far <= most)

    def to_gain(self) -> float:
        """What another than the first is expected to be better by, log: the largest over the others.

        Of a normal loss with mean -d and deviation s: s (phi(d / s) - d / s (1 - Phi(d / s))) (expected opportunity
        cost; S. Chick, K. Inoue, "New two-stage and sequential procedures for selecting the best simulated system",
        Operations Research 49, 2001).
        """
        from scipy.stats import norm

        if len(self.cells) < 2:
            return 0.0
        if self.freedom < 1:
            return math.inf
        error = np.maximum(self.error[1:], 1e-100)  # what is divided by it has a square
        z = self.behind[1:] / error
        return float(np.max(error * (norm.pdf(z) - z * norm.sf(z))))


@dataclass(frozen=True)
class Won:
    """How a race ended: the winner, the first repetition of its fresh runs, and the standing before them."""

    cell: str
    fresh: range
    standing: Standing


def standing(values: Values, predicted: Predicted | None = None) -> Standing:
    """Settings compared although they ran in different blocks: log figures as setting + block, least squares.

    The scatter is that of all residuals together, so that two repetitions of each tell something. A prediction counts
    as one more measurement of each setting against the others, as exact as it was for those that ran (at best 1 %).
    """
    rows = [(cell, n, math.log(x)) for cell, row in values.items() for n, x in row.items() if x > 0]
    cells = list(dict.fromkeys(cell for cell, _, _ in rows))
    blocks = list(dict.fromkeys(n for _, n, _ in rows))
    if not cells:
        return Standing((), np.empty(0), np.empty(0), 0)
    design = np.zeros((len(rows), len(cells) + len(blocks)))
    for row, (cell, n, _) in enumerate(rows):
        design[row, cells.index(cell)] = 1
        design[row, len(cells) + blocks.index(n)] = 1
    logs = np.array([x for _, _, x in rows])
    found, _, rank, _ = np.linalg.lstsq(design, logs, rcond=None)
    freedom = len(rows) - int(rank)
    scatter = float(np.sqrt(np.sum((logs - design @ found) ** 2) / freedom)) if freedom > 0 else math.inf
    spread = np.linalg.pinv(design.T @ design)
    if predicted is not None and len(cells) > 1 and math.isfinite(scatter):
        said = np.log([predicted[cell] for cell in cells])
        missed = found[: len(cells)] - said
        trust = max(_MODEL, float(np.std(missed, ddof=1)))
        weight = scatter / trust  # a row's weight in units of one run's
        prior = np.hstack((np.eye(len(cells)) - 1 / len(cells), np.zeros((len(cells), len(blocks)))))
        more = np.vstack((design, weight * prior))
        found = np.linalg.lstsq(more, np.concatenate((logs, weight * (said - said.mean()))), rcond=None)[0]
        spread = np.linalg.pinv(more.T @ more)
    order = np.argsort(found[: len(cells)], kind="stable")
    first = order[0]
    apart = np.sqrt(np.maximum(0, spread[order, order] + spread[first, first] - 2 * spread[order, first]))
    error = scatter * apart if freedom > 0 else np.where(np.arange(len(cells)) > 0, np.inf, 0.0)
    return Standing(tuple(cells[i] for i in order), np.asarray(found[order] - found[first]), error, freedom)


def ask(
    stop: Stop,
    propose: Proposer,
    cells: Sequence[str],
    values: Values,
    stored: Stored,
    fits: Fits = lambda _: True,
    predict: Predictor = lambda _: None,
    allowed: Allowed | None = None,
) -> Block | End | Won:
    """The next block of a search that is not stored completely, or how it ended. Walks as ``stopping.ask`` does.

    First what ``propose`` wants tried, ``FEW`` repetitions each, the best so far among them (it ties the blocks
    together); then those that may be the best, repetition by repetition; then fresh runs of the winner. A budget ends
    the race, not the proof of its winner.
    """
    fresh = range(FRESH, FRESH + stop.min_repetitions)
    chosen = sorted(cell for cell, n in stored if n >= FRESH)
    step = chosen[0] if chosen else _race(stop, propose, cells, values, stored, fits, predict, allowed)
    if not isinstance(step, str):
        return step
    rest = rest_of((step,), fresh, stored, lambda _: True)
    if isinstance(rest, range):
        return Block((step,), rest, ("the winner, measured afresh",))
    return Won(step, fresh, standing(before(values, FRESH, allowed)))


def most_runs(stop: Stop, cells: int, batches: Sequence[int]) -> int:
    """Runs of a search whose settings are tried in batches of so many, at most; see ``_race``."""
    spent = FEW * (sum(batches) + len(batches) - 1)  # the best so far is in every later batch, too
    return max(spent, _most(stop, cells, spent)) + stop.min_repetitions


def _most(stop: Stop, cells: int, spent: int) -> int:
    """Runs before the fresh ones at which a race ends that trying has cost so many."""
    return max(cells * stop.min_repetitions // 5 - stop.min_repetitions, spent * 3 // 2)


def before(values: Values, n: int, allowed: Allowed | None = None) -> Values:
    """What was measured before a repetition, of the settings that are allowed then."""
    kept = values.keys() if allowed is None else set(allowed(n))
    rows = {cell: {at: x for at, x in row.items() if at < n} for cell, row in values.items() if cell in kept}
    return {cell: row for cell, row in rows.items() if row}


def _race(
    stop: Stop,
    propose: Proposer,
    cells: Sequence[str],
    values: Values,
    stored: Stored,
    fits: Fits,
    predict: Predictor,
    allowed: Allowed | None,
) -> Block | End | str:
    """The next block of the race, or its winner.

    Where the noise hides what there is to gain, a race ends with a fifth of the runs that the least number of each
    would be, or half as many again as trying took, whichever is more.
    """
    done, spent, most = 0, 0, 0
    tried: tuple[str, ...] = ()
    racing = False
    while True:
        seen = before(values, done)
        now = standing(before(values, done, allowed), predict(seen) if tried else None)
        todo = () if racing else propose(seen, tried)
        if todo:
            tried = tuple(dict.fromkeys((*tried, *todo)))
            todo = _ordered((*todo, *now.cells[:1]), cells)
        else:
            if not racing:
                most = _most(stop, len(cells), spent)
            racing = True
            todo = _ordered(now.alive(), cells)
            enough = done >= stop.max_repetitions or spent + len(todo) > most
            if len(todo) <= 1 or now.to_gain() <= _WORTH or enough:
                break
        count = 1 if racing else FEW
        rest = rest_of(todo, range(done, done + count), stored, fits)
        if isinstance(rest, range):
            return Block(todo, rest, (f"the best of {len(todo)} settings",), after=stop.min_repetitions)
        if isinstance(rest, Spent):
            break
        done += count
        spent += count * len(todo)
    if now.cells:
        return now.cells[0]
    reason = "no setting has a valid run" if allowed is None else "no setting that was tried keeps the constraints"
    return End("cannot be judged", reason, (), done)


def _ordered(chosen: Sequence[str], cells: Sequence[str]) -> tuple[str, ...]:
    return tuple(cell for cell in cells if cell in set(chosen))


def all_at_once(cells: Sequence[str]) -> Proposer:
    """Tries every setting: for small grids."""
    return lambda _, tried: () if tried else tuple(cells)


def from_prediction(
    cells: Sequence[str], predict: Predictor, scouts: Sequence[str], *, slack: float = 0.02
) -> Proposer:
    """Tries some scouts, then the few that a model fitted to them predicts within ``slack`` of its best.

    Where the model has no prediction all are tried; see ``trusted``.
    """

    def propose(values: Values, tried: tuple[str, ...]) -> tuple[str, ...]:
        if not tried:
            return tuple(scouts)
        if set(tried) != set(scouts):
            return ()
        predicted = predict(values)
        left = [cell for cell in cells if cell not in tried]
        if predicted is None:
            return tuple(left)
        ranked = sorted(cells, key=lambda cell: predicted[cell])[: 1 + NEAREST]
        near = [cell for cell in ranked if predicted[cell] <= (1 + slack) * predicted[ranked[0]]]
        return tuple(cell for cell in near if cell in left)[:NEAREST]

    return propose


def trusted(predicted: Predicted | None, cells: Sequence[str], values: Values) -> Predicted | None:
    """A prediction that has every cell and misses the ratio of no two that ran by more than 10 %; else ``None``."""
    if predicted is None or not set(cells) <= set(predicted) or min(predicted[cell] for cell in cells) <= 0:
        return None
    now = standing({cell: row for cell, row in values.items() if row})
    if len(now.cells) < 2:
        return None
    said = np.log([predicted[cell] / predicted[now.cells[0]] for cell in now.cells])
    return None if bool(np.any(np.abs(said - now.behind) > math.log1p(_MISS))) else predicted
