"""When an experiment has enough, and which runs come next: pure functions of what is stored.

A decision is made at the first number of repetitions at which the data carry it, whenever it is looked for: so who
looks after each block, who looks at the end, and who goes on after a crash come to the same one.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from devicelab.experiment import sequences
from devicelab.experiment.blocks import Block, End, Fits, Spent, Stored, rest_of
from devicelab.experiment.claims import Claim
from devicelab.experiment.sequences import ALPHA, Anytime, Floats
from devicelab.model.experiment import Verdict
from devicelab.model.stop import Stop

ALARM = 0.01
"""Chance that a campaign without any difference alarms ("yes", "fail") at all, shared by its claims."""

# Blocks that are handed out at once, at most: what is decided within one is measured on to its end.
_MOST_BLOCKS = 8
# Repetitions in a row without a valid pair: what spoils them does not pass.
_BARREN = 12
# A median is estimated with 2/pi of the efficiency of a mean.
_MEDIAN = math.pi / 2

Figures = Mapping[str, Mapping[int, float]]
"""Cell id → repetition → the figure of its valid run, in the claim's unit."""


@dataclass(frozen=True)
class Decision:
    """Where one claim stands.

    Attributes:
        claim: what it is about.
        got: estimate and sequence, as a ratio, in points or in the claim's unit.
        verdict: the claim's words, "inconclusive", "insufficient n", or "invalid" where it cannot be judged.
        done: no more runs are needed, or none would help: no pair was valid for long.
        at: repetitions that were looked at for it.
        more: how many more it is likely to take; ``None`` where that cannot be told.
        barren: nothing more comes of it.
    """

    claim: Claim
    got: Anytime
    verdict: Verdict
    done: bool
    at: int
    more: int | None = None
    barren: bool = False


def values(claim: Claim, figures: Figures, before: int, first: int) -> Floats:
    """The claim's figure of each repetition below ``before``, NaN where a run is missing or invalid.

    Of comparisons the mean over its pairs, of log ratios or differences; of a level the median over its cells. A pair
    or cell is left out for good if half of its first ``first`` repetitions are missing.
    """
    if not before:
        return np.empty(0)
    table = np.array(
        [
            [_change(claim, figures.get(over, {}).get(n), figures.get(under, {}).get(n)) for n in range(before)]
            for over, under in zip(claim.over, claim.under or claim.over, strict=True)
        ]
    ).reshape(len(claim.over), before)
    there = np.isfinite(table[:, : min(first, before)]).mean(axis=1) > 0.5
    if not there.any():
        return np.full(before, math.nan)
    middle = np.median if claim.scale == "level" else np.mean
    return np.asarray(middle(table[there], axis=0), dtype=np.float64)


def _change(claim: Claim, over: float | None, under: float | None) -> float:
    if over is None or under is None:
        return math.nan
    if claim.scale == "level":
        return over
    if claim.scale == "points":
        return over - under
    return math.log(over / under) if over > 0 and under > 0 else math.nan


def decide(claim: Claim, figures: Figures, done: int, stop: Stop, claims: int) -> Decision:
    """Where a claim stands after ``done`` repetitions, or at the first at which it was decided.

    "Outside" (yes, fail) needs the 95 % sequence beyond the region and, so that a campaign of ``claims`` claims alarms
    in at most 1 % of all cases without a difference, wealth of ``claims`` / 0.01 against "no difference" (of a level:
    a sequence at that confidence). "Inside" (no, pass) needs the sequence within the region.
    """
    observed = values(claim, figures, done, stop.min_repetitions).tolist()
    # A NaN is not equal to itself, so nothing that has one would be found again.
    return _decided(claim, tuple(x if math.isfinite(x) else None for x in observed), stop, claims)


@lru_cache(maxsize=4096)
def _decided(claim: Claim, observed: tuple[float | None, ...], stop: Stop, claims: int) -> Decision:
    done = len(observed)
    got = Anytime(math.nan, None, None, 0)
    verdict: Verdict = "insufficient n"
    undecided = _open(claim, observed) if stop.precision is None else ()
    for n in _looks(min(stop.min_repetitions, done), done):
        known = tuple(x for x in observed[:n] if x is not None)
        barren = n >= _BARREN + stop.min_repetitions and set(observed[n - _BARREN : n]) == {None}
        if n < done and not barren and known and undecided and undecided[len(known) - 1]:
            continue
        got, verdict = _judged(claim, known, claims)
        if _enough(got, verdict, claim, stop):
            return Decision(claim, got, verdict, done=True, at=n)
        if barren:
            return Decision(claim, got, "invalid" if got.n == 0 else verdict, done=True, at=n, barren=True)
    if done >= stop.min_repetitions and got.n == 0:
        return Decision(claim, got, "invalid", done=True, at=done)
    return Decision(claim, got, verdict, done=False, at=done, more=_more(claim, observed, got, stop))


def ask(
    stop: Stop,
    claims: Sequence[Claim],
    cells: Sequence[str],
    figures: Callable[[Claim], Figures],
    stored: Stored,
    fits: Fits = lambda _: True,
) -> Block | End:
    """The next block that is not stored completely, or the end.

    Walks from the first repetition and decides on complete blocks alone, so a block that was cut off is asked for
    again, and not another. ``cells`` are all of the campaign's: each gets the least number of repetitions, then those
    of open claims alone go on.
    """
    done, todo, count = 0, tuple(cells), stop.min_repetitions
    more: int | None = None
    undecided = tuple(claim.name for claim in claims)
    while True:
        rest = rest_of(todo, range(done, done + count), stored, fits)
        if isinstance(rest, range):
            return Block(todo, rest, undecided, more)
        done = rest.done if isinstance(rest, Spent) else done + count
        found = [decide(claim, figures(claim), done, stop, len(claims)) for claim in claims]
        still = [one for one in found if not one.done]
        undecided = tuple(one.claim.name for one in still)
        if not still:
            return _ended(stop, found, done)
        if isinstance(rest, Spent):
            return End("budget", f"the budget of {stop.budget} is spent", undecided, done)
        if done >= stop.max_repetitions:
            reason = f"{stop.max_repetitions} repetitions are the most that were allowed"
            return End("max_repetitions", reason, undecided, done)
        wanted = frozenset().union(*(one.claim.cells for one in still))
        todo = tuple(cell for cell in cells if cell in wanted)
        known = [one.more for one in still if one.more is not None]
        more = max(known) if len(known) == len(still) else None
        count = min(_chunk(min(known)) if known else 1, stop.max_repetitions - done)


def _looks(first: int, done: int) -> Iterator[int]:
    """Numbers of repetitions at which is looked: each up to 60, then one in twenty more, and the last."""
    n = first
    while n < done:
        yield n
        n += max(1, n // 20 - 2)
    yield done


def _ended(stop: Stop, found: Sequence[Decision], done: int) -> End:
    lost = [one.claim.name for one in found if one.verdict == "invalid" or one.barren]
    if lost:
        late = any(one.barren for one in found)
        when = f" in the last {_BARREN} repetitions" if late else ""
        return End("cannot be judged", f"no valid pair of runs{when} for: {'; '.join(lost)}", tuple(lost), done)
    if stop.precision is not None:
        return End("precise", f"every interval is within {stop.until}", (), done)
    return End("decided", f"every claim is decided ({len(found)} of {len(found)})", (), done)


def _chunk(more: int) -> int:
    """Blocks until the next look: half of what is expected, so that the last ones are looked at one by one."""
    return max(1, min(_MOST_BLOCKS, more // 2))


def _enough(got: Anytime, verdict: Verdict, claim: Claim, stop: Stop) -> bool:
    if stop.precision is None:
        return verdict in {claim.inside, claim.outside}
    if got.low is None or got.high is None:
        return False
    half = (got.high - got.low) / 2
    if claim.scale == "points":
        return half <= stop.precision * 100
    return half <= stop.precision * (1.0 if claim.scale == "ratio" else abs(got.estimate))


def _open(claim: Claim, observed: Sequence[float | None]) -> Sequence[bool]:
    """After each value that is known, whether the claim is surely undecided; nothing where that cannot be told.

    No bound of the region is excluded then, so that the interval has it inside.
    """
    if claim.scale == "level":
        return ()
    edges = [edge for edge in claim.region if math.isfinite(edge)]
    excluded = sequences.excludes([x for x in observed if x is not None], edges, ALPHA / claim.family)
    return [not one for one in np.any(excluded, axis=0).tolist()]


@lru_cache(maxsize=4096)
def _judged(claim: Claim, observed: tuple[float, ...], claims: int) -> tuple[Anytime, Verdict]:
    level = claim.scale == "level"
    got = (
        sequences.quantile(observed, alpha=ALPHA / claim.family)
        if level
        else sequences.location(observed, ALPHA / claim.family)
    )
    low, high = claim.region
    verdict: Verdict = "inconclusive"
    if got.low is None and got.high is None:
        verdict = "insufficient n"
    elif _within(got, low, high):
        verdict = claim.inside
    elif _beyond(got, low, high):
        sure = (
            _beyond(sequences.quantile(observed, alpha=ALARM / claims), low, high)
            if level
            else sequences.wealth(observed, claim.alike).max() >= claims / ALARM
        )
        verdict = claim.outside if sure else "inconclusive"
    return (got.map(math.exp) if claim.scale == "ratio" else got), verdict


def _within(got: Anytime, low: float, high: float) -> bool:
    return (low == -math.inf or (got.low is not None and got.low >= low)) and (
        high == math.inf or (got.high is not None and got.high <= high)
    )


def _beyond(got: Anytime, low: float, high: float) -> bool:
    return (got.low is not None and got.low > high) or (got.high is not None and got.high < low)


def likely(claim: Claim, figures: Figures, stop: Stop) -> int | None:
    """How many repetitions a claim is likely to take, by an earlier campaign's figures; ``None``: they do not tell."""
    done = 1 + max((n for row in figures.values() for n in row), default=-1)
    observed = tuple(x for x in values(claim, figures, done, stop.min_repetitions).tolist() if math.isfinite(x))
    needed = _needed(claim, observed, _judged(claim, observed, 1)[0], stop) if len(observed) > 1 else None
    return None if needed is None else max(stop.min_repetitions, needed)


def _more(claim: Claim, observed: Sequence[float | None], got: Anytime, stop: Stop) -> int | None:
    """How many repetitions more: from the scatter so far, as if the estimate were the truth."""
    known = [x for x in observed if x is not None]
    needed = _needed(claim, known, got, stop) if len(known) > 1 else None
    return None if needed is None else max(1, needed - len(known))


def _needed(claim: Claim, known: Sequence[float], got: Anytime, stop: Stop) -> int | None:
    scatter = float(np.std(known, ddof=1)) * (math.sqrt(_MEDIAN) if claim.scale == "level" else 1.0)
    centre = math.log(got.estimate) if claim.scale == "ratio" else got.estimate
    distance = min(abs(centre - edge) for edge in claim.region if math.isfinite(edge))
    if stop.precision is not None:
        distance = stop.precision * {"ratio": 1.0, "points": 100.0, "level": abs(got.estimate)}[claim.scale]
    return sequences.expected(scatter, distance, ALPHA / claim.family)
