"""The costs that the runs of one repetition show, read where the model says that each acts alone."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from devicelab.analyses.klo.model.core import Floats, check_batches

if TYPE_CHECKING:
    from devicelab.analyses.klo.model.fit import Observed

NAMES = ("flush_ns", "start_idle_ns", "gap_ns")
_ROUNDS = 20
_SURE = 3.0  # so many deviations from the border between the two cases a batch counts as one of them
_DEVIATION = 1.4826  # of a normal distribution, from the median absolute deviation


@dataclass(frozen=True, eq=False)
class Block:
    """All batches of all inferences of one repetition, flat.

    Attributes:
        run: number of the run.
        length: kernels in the batch; ``before``: in the batch before it.
        first: whether the batch is the first of its inference.
        flush_ns: what production took longer than without the flush before it; NaN where that is not known.
        delay_ns, gap_ns: see ``Observed``.
    """

    run: NDArray[np.int64]
    length: Floats
    before: Floats
    first: NDArray[np.bool_]
    flush_ns: Floats
    delay_ns: Floats
    gap_ns: Floats


def block(p: Floats, runs: "Sequence[Observed]") -> Block:
    """The batches of one repetition.

    Production times come from the repetition's own runs, each at its own level (a whole process may be slow), so that
    repetitions stay independent; ``p`` gives their shape where none of them has a kernel without a flush.

    Raises:
        ValueError: batch times and batches differ in number.
    """
    levels = _levels(p, runs)
    own = _shape(p, runs, levels)
    parts = []
    for number, run in enumerate(runs):
        lengths = check_batches(run.batches, p.size)
        step, delay, gap = (np.atleast_2d(np.asarray(a, float)) for a in (run.step_ns, run.delay_ns, run.gap_ns))
        if not step.shape == delay.shape == gap.shape or step.shape[1] != lengths.size:
            raise ValueError("batch times and batches differ in number")
        begins = np.cumsum(lengths) - lengths
        flush = step - levels[number] * own[begins]
        before = np.concatenate(([math.nan], lengths[:-1]))
        wide = [np.broadcast_to(row, step.shape).ravel() for row in (lengths.astype(float), before, begins == 0)]
        parts.append((np.full(step.size, number), *wide, flush.ravel(), delay.ravel(), gap.ravel()))
    return Block(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _levels(p: Floats, runs: "Sequence[Observed]") -> Floats:
    """How much slower production was in each run than in all; that of the others where every kernel was flushed."""
    found = []
    for run in runs:
        produced = np.full(p.size, math.nan) if run.t_prod_ns is None else run.t_prod_ns
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = produced / p
        known = ratios[np.isfinite(ratios) & (ratios > 0)]
        found.append(float(np.median(known)) if known.size else math.nan)
    levels = np.array(found)
    others = levels[np.isfinite(levels)]
    return np.where(np.isfinite(levels), levels, np.median(others) if others.size else 1.0)


def _shape(p: Floats, runs: "Sequence[Observed]", levels: Floats) -> Floats:
    known = [run.t_prod_ns / level for run, level in zip(runs, levels, strict=True) if run.t_prod_ns is not None]
    if not known:
        return p
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        middle = np.nanmedian(np.array(known), axis=0)
    return np.where(np.isfinite(middle), middle, p)


@dataclass(frozen=True)
class FlushLine:
    """The cost of a flush: the same for all (``mean_ns``), or ``base_ns + slope_ns * kernels``; NaN: unknown."""

    mean_ns: float
    base_ns: float
    slope_ns: float


def flush_lines(batches: Block) -> FlushLine:
    """The cost of a flush over the length of its batch: medians by run and length, joined by Theil and Sen's line."""
    told = np.isfinite(batches.flush_ns)
    if not told.any():
        return FlushLine(math.nan, math.nan, math.nan)
    keys, index, count = np.unique(
        np.column_stack((batches.run[told], batches.before[told])), axis=0, return_inverse=True, return_counts=True
    )
    values = np.array([np.median(part) for part in _split(batches.flush_ns[told], index.ravel(), len(count))])
    mean = weighted_median(values, np.sqrt(count))
    lengths = keys[:, 1]
    one, two = np.triu_indices(lengths.size, 1)
    apart = lengths[one] != lengths[two]
    if np.unique(lengths).size < 3:
        return FlushLine(mean, math.nan, math.nan)
    rise = (values[two] - values[one])[apart]
    run = (lengths[two] - lengths[one])[apart]
    slope = weighted_median(rise / run, np.abs(run))
    return FlushLine(mean, weighted_median(values - slope * lengths, np.sqrt(count)), slope)


def start_and_gap(batches: Block, flush_ns: float, slope_ns: float) -> tuple[float, float, tuple[float, float]]:
    """L_s from batches that found the GPU idle, L_b from those that waited for it, and upper bounds of both.

    With x = END of the kernel before less the end of the flush, a batch starts max(L_s, x + L_b) after its flush: it
    found the GPU idle if x < L_s - L_b. The choice rests on x alone, and batches near the border are left out. NaN
    where no batch shows the cost.
    """
    cost = flush_ns + slope_ns * batches.length
    delay = batches.delay_ns - cost
    late = np.where(batches.first, -math.inf, delay - batches.gap_ns)
    later = ~batches.first
    upper = (float(delay.min()), float(batches.gap_ns[later].min()) if later.any() else 0.0)
    start, start_spread = _middle(delay[batches.first])
    waiting = later & (late > max(start, 0.0))  # the GPU was busy for longer than any start takes
    gap, gap_spread = _middle(batches.gap_ns[waiting]) if waiting.any() else (0.0, 0.0)
    starved, fed = batches.first, waiting
    for _ in range(_ROUNDS):
        margin = _SURE * math.hypot(start_spread, gap_spread)
        border = start - gap
        now = batches.first | (late < border - margin), later & (late > border + margin)
        if (now[0] == starved).all() and (now[1] == fed).all():
            break
        starved, fed = now
        start, start_spread = _middle(delay[starved])
        gap, gap_spread = _middle(batches.gap_ns[fed]) if fed.any() else (gap, gap_spread)
    return _of_runs(delay, starved, batches.run), _of_runs(batches.gap_ns, fed, batches.run), upper


def _middle(values: Floats) -> tuple[float, float]:
    middle = float(np.median(values))
    return middle, _DEVIATION * float(np.median(np.abs(values - middle)))


def _of_runs(values: Floats, chosen: NDArray[np.bool_], run: NDArray[np.int64]) -> float:
    """The median of the runs' own medians: a run is one process, however many batches it has of the kind."""
    if not chosen.any():
        return math.nan
    _, index, count = np.unique(run[chosen], return_inverse=True, return_counts=True)
    medians = np.array([np.median(part) for part in _split(values[chosen], index, count.size)])
    return weighted_median(medians, np.sqrt(count))


def _split(values: Floats, index: NDArray[np.int64], groups: int) -> list[Floats]:
    order = np.argsort(index, kind="stable")
    return np.split(values[order], np.cumsum(np.bincount(index, minlength=groups))[:-1])


def weighted_median(values: Floats, weights: Floats) -> float:
    """The value at which half of the weight lies on each side; the mean of two where it lies between them."""
    order = np.argsort(values)
    cumulated = np.cumsum(weights[order])
    half = 0.5 * cumulated[-1]
    at = int(np.searchsorted(cumulated, half * (1 - 1e-12)))
    upper = min(at + 1, order.size - 1) if cumulated[at] <= half * (1 + 1e-12) else at
    return float(values[order[at]] + values[order[upper]]) / 2
