"""Launch costs from measured runs: what flushing, starting and the gap between batches cost on this device.

Every repetition gives one estimate of each cost from its own runs alone; the repetitions together give the estimate
and its interval (Hodges-Lehmann, by inverting Wilcoxon's signed-rank test). Runs of one repetition share its block,
so they are not independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from devicelab.analyses import _stats
from devicelab.analyses.klo.model import _makespans, _repetition
from devicelab.analyses.klo.model._repetition import NAMES
from devicelab.analyses.klo.model.core import Floats, LaunchCosts, check_batches, simulate, times

__all__ = ["NAMES", "Fit", "Observed", "fit"]


_TELLING = 0.1


@dataclass(frozen=True, eq=False)
class Observed:
    """One measured run.

    Times of batches have shape (inferences, batches), or (batches,) for one inference or the medians of several.

    Attributes:
        batches: batch lengths, summing to N.
        makespan_ns: END of the last kernel less QUEUED of the first, median over the inferences.
        step_ns: for each batch, QUEUED of its first kernel less QUEUED of the kernel before; NaN for the first batch,
            and where the production time of that kernel without a flush is not known.
        delay_ns: for each batch, START of its first kernel less QUEUED of its last one.
        gap_ns: for each batch, START of its first kernel less END of the kernel before; NaN for the first batch.
        t_prod_ns: production time of every kernel without a flush before it, shape (N,), NaN where there is none.
    """

    batches: tuple[int, ...]
    makespan_ns: float
    step_ns: Floats | None = None
    delay_ns: Floats | None = None
    gap_ns: Floats | None = None
    t_prod_ns: Floats | None = None

    @property
    def timed(self) -> bool:
        """Whether the times of the batches are known."""
        return self.step_ns is not None and self.delay_ns is not None and self.gap_ns is not None


@dataclass(frozen=True, eq=False)
class Fit:
    """Fitted launch costs.

    Attributes:
        costs: the estimates. One that the runs cannot tell is an upper bound (timed runs) or one of several that
            fit equally well (makespans only); see ``identified``.
        intervals: by cost name: 95% interval; ``None`` with fewer than six repetitions or if not identified.
        identified: by cost name: whether the runs can tell it.
        growth: what each kernel of a batch adds to its flush, over repetitions; ``costs`` holds it only where it surely
            makes a tenth of a flush at the longest batch (else the cost of a flush is taken as the same for every one).
        by_repetition: the costs of each repetition, shape (repetitions, 3) in the order of ``NAMES``, NaN where it
            cannot tell one.
        repetitions: which repetitions those are.
        residual_ns: measured less modelled makespan of each run.
        residual_pct: median absolute residual in percent of the measured makespan.
        n: number of repetitions.
        runs: number of runs.
    """

    costs: LaunchCosts
    intervals: dict[str, tuple[float, float] | None]
    identified: dict[str, bool]
    growth: _stats.Interval
    by_repetition: Floats
    repetitions: tuple[int, ...]
    residual_ns: Floats
    residual_pct: float
    n: int
    runs: int

    def costs_of(self, row: int) -> LaunchCosts:
        """The costs of one repetition (a row of ``by_repetition``); those of all where it cannot tell one."""
        overall = (self.costs.flush_ns, self.costs.start_idle_ns, self.costs.gap_ns)
        own = np.where(np.isfinite(self.by_repetition[row]), self.by_repetition[row], overall)
        return _costs(own, self.costs.flush_per_kernel_ns)


def fit(
    t_prod_ns: ArrayLike, t_ker_ns: ArrayLike, runs: Sequence[Observed], repetition: ArrayLike | None = None
) -> Fit:
    """Launch costs from runs with different batches.

    With batch times each cost is read where the model says that it alone acts: F from what production takes longer
    across a flush, L_s where the GPU had run dry when a batch came, L_b where a batch was waiting. Which of the two it
    was is decided from when the kernel before ended, never from the delay that is to be measured, so that the choice
    does not bend it. With makespans alone the costs are fitted by non-linear least squares; then they are often not
    identified one by one (a GPU-bound inference shows only F + L_s), which ``identified`` says.

    Args:
        t_prod_ns: production times *without* flushes, shape (N,); the first is not used, since measured times begin
            at QUEUED of kernel 1.
        t_ker_ns: kernel times, shape (N,).
        runs: at least one; either all with batch times or the times are ignored.
        repetition: of each run; by default they are all of one.

    Raises:
        ValueError: no runs, or shapes that do not fit.
    """
    p, g = times(t_prod_ns, t_ker_ns)
    p = p.copy()
    p[0] = 0.0
    if not runs:
        raise ValueError("a fit needs at least one run")
    for run in runs:
        check_batches(run.batches, p.size)
    owner = np.asarray(np.zeros(len(runs)) if repetition is None else repetition).astype(np.int64)
    if owner.shape != (len(runs),):
        raise ValueError("every run needs its repetition")
    names, index = np.unique(owner, return_inverse=True)
    groups = [np.flatnonzero(index == number) for number in range(names.size)]
    if all(run.timed for run in runs):
        rows, growth, grows, bounds, identified = _from_times(p, runs, groups)
    else:
        rows, growth, grows, bounds, identified = _makespans.estimate(p, g, [_line(run) for run in runs], groups)
    estimate = np.array(bounds)
    found: dict[str, tuple[float, float] | None] = dict.fromkeys(NAMES)
    for column, name in enumerate(NAMES):
        got = _stats.location(rows[:, column])
        if identified[column] and got.n:
            estimate[column] = got.estimate
            if got.low is not None and got.high is not None:
                found[name] = (max(0.0, got.low), max(0.0, got.high))
    costs = _costs(estimate, growth.estimate if grows else 0.0)
    predicted = np.array([simulate(p, g, costs, run.batches).makespan_ns for run in runs])
    measured = np.array([run.makespan_ns for run in runs])
    residual = measured - predicted
    return Fit(
        costs=costs,
        intervals=found,
        identified=dict(zip(NAMES, identified, strict=True)),
        growth=growth,
        by_repetition=rows,
        repetitions=tuple(int(name) for name in names),
        residual_ns=residual,
        residual_pct=float(np.median(np.abs(residual) / np.maximum(measured, 1.0)) * 100),
        n=len(groups),
        runs=len(runs),
    )


def _costs(row: Floats, slope: float) -> LaunchCosts:
    flush, start, gap = np.maximum(row, 0.0).tolist()
    return LaunchCosts(flush, start, gap, slope)


def _line(run: Observed) -> tuple[tuple[int, ...], float]:
    return run.batches, run.makespan_ns


def _from_times(p: Floats, runs: Sequence[Observed], groups: Sequence[NDArray[np.int64]]) -> _makespans.Estimate:
    blocks = [_repetition.block(p, [runs[number] for number in group]) for group in groups]
    flushes = [_repetition.flush_lines(block) for block in blocks]
    growth = _stats.location([line.slope_ns for line in flushes])
    longest = max(float(np.nanmax(block.before, initial=0.0)) for block in blocks)
    usual = _stats.location([line.mean_ns for line in flushes]).estimate
    grows = growth.low is not None and growth.low * longest > _TELLING * usual
    rows = np.full((len(groups), 3), np.nan)
    bounds = np.zeros(3)
    least = []
    for number, (block, line) in enumerate(zip(blocks, flushes, strict=True)):
        flush = (line.base_ns, line.slope_ns) if grows and np.isfinite(line.base_ns) else (line.mean_ns, 0.0)
        start, gap, upper = _repetition.start_and_gap(block, *(max(0.0, value) for value in np.nan_to_num(flush)))
        rows[number] = flush[0], start, gap
        least.append(upper)
    # A batch starts at most this late after both: upper bounds where no batch shows the cost alone.
    bounds[1:] = np.nan_to_num(np.nanmin(np.array(least), axis=0)) if least else 0.0
    known = np.isfinite(rows).sum(axis=0) * 2 > len(groups)
    return rows, growth, grows, bounds, (bool(known[0]), bool(known[1]), bool(known[2]))
