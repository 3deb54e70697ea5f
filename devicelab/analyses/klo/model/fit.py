"""Launch costs from measured runs: what flushing, starting and the gap between batches cost on this device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from devicelab.analyses.klo.model.core import Floats, Ints, LaunchCosts, check_batches, simulate, times

NAMES = ("flush_ns", "start_idle_ns", "gap_ns")
MIN_RUNS = 6  # below, no interval is given
_ROUNDS = 50


@dataclass(frozen=True, eq=False)
class Observed:
    """One measured run: an inference, or the medians over a run's inferences.

    Attributes:
        batches: batch lengths, summing to N.
        makespan_ns: END of the last kernel less QUEUED of the first.
        step_ns: for each batch, QUEUED of its first kernel less QUEUED of the kernel before; NaN for the first batch,
            and where the production time of that kernel without a flush is not known.
        delay_ns: for each batch, START of its first kernel less QUEUED of its last one.
        gap_ns: for each batch, START of its first kernel less END of the kernel before; NaN for the first batch.
    """

    batches: tuple[int, ...]
    makespan_ns: float
    step_ns: Floats | None = None
    delay_ns: Floats | None = None
    gap_ns: Floats | None = None

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
        intervals: by cost name: 95% interval, ``None`` with fewer than ``MIN_RUNS`` runs or if not identified.
        identified: by cost name: whether the runs can tell it.
        residual_ns: measured less modelled makespan of each run.
        residual_pct: median absolute residual in percent of the measured makespan.
        n: number of runs.
        resampled_ns: bootstrap estimates, shape (resamples, 3) in the order of ``NAMES``; empty if n is too small.
    """

    costs: LaunchCosts
    intervals: dict[str, tuple[float, float] | None]
    identified: dict[str, bool]
    residual_ns: Floats
    residual_pct: float
    n: int
    resampled_ns: Floats


def fit(
    t_prod_ns: ArrayLike,
    t_ker_ns: ArrayLike,
    runs: Sequence[Observed],
    *,
    confidence: float = 0.95,
    resamples: int = 400,
    seed: int = 1,
) -> Fit:
    """Launch costs from runs with different batches.

    With batch times each cost is read where the model says that it alone acts: F from what production takes longer
    across a flush, L_s where the GPU had run dry when a batch came, L_b where a batch was waiting. Batches near the
    border of the two cases are left out. The median of each run is one observation (a run is one process); the
    estimate is their weighted median, and its interval is bootstrapped over runs. With makespans alone the costs are
    fitted by non-linear least squares; then they are often not identified one by one (a GPU-bound inference shows
    only F + L_s), which ``identified`` says.

    Args:
        t_prod_ns: production times *without* flushes, shape (N,); the first is not used, since measured times begin
            at QUEUED of kernel 1.
        t_ker_ns: kernel times, shape (N,).
        runs: at least one; either all with batch times or the times are ignored.
        confidence: of the intervals.
        resamples: bootstrap samples; 0 gives no intervals.
        seed: of the bootstrap.

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
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(runs), size=(resamples if len(runs) >= MIN_RUNS else 0, len(runs)))
    method = _from_times if all(run.timed for run in runs) else _from_makespans
    estimate, identified, resampled = method(p, g, runs, draws)
    costs = LaunchCosts(*np.maximum(estimate, 0.0).tolist())
    predicted = np.array([simulate(p, g, costs, run.batches).makespan_ns for run in runs])
    measured = np.array([run.makespan_ns for run in runs])
    residual = measured - predicted
    tail = (1 - confidence) / 2
    intervals: dict[str, tuple[float, float] | None] = dict.fromkeys(NAMES)
    if resampled.size:
        low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
        for index, name in enumerate(NAMES):
            intervals[name] = (float(low[index]), float(high[index])) if identified[index] else None
    return Fit(
        costs=costs,
        intervals=intervals,
        identified=dict(zip(NAMES, identified, strict=True)),
        residual_ns=residual,
        residual_pct=float(np.median(np.abs(residual) / np.maximum(measured, 1.0)) * 100),
        n=len(runs),
        resampled_ns=resampled,
    )


Estimate = tuple[Floats, tuple[bool, bool, bool], Floats]


@dataclass(frozen=True, eq=False)
class _Batches:
    """All batches of all runs, flat."""

    run: Ints
    first: NDArray[np.bool_]
    flush_ns: Floats  # what production took longer than without a flush
    delay_ns: Floats
    gap_ns: Floats


def _flatten(p: Floats, runs: Sequence[Observed]) -> _Batches:
    parts = []
    for number, run in enumerate(runs):
        lengths = check_batches(run.batches, p.size)
        step, delay, gap = (np.asarray(a, dtype=np.float64) for a in (run.step_ns, run.delay_ns, run.gap_ns))
        if not step.shape == delay.shape == gap.shape == lengths.shape:
            raise ValueError("batch times and batches differ in number")
        begins = np.cumsum(lengths) - lengths
        parts.append((np.full(lengths.size, number), begins == 0, step - p[begins], delay, gap))
    return _Batches(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _from_times(p: Floats, g: Floats, runs: Sequence[Observed], draws: Ints) -> Estimate:
    del g  # the batch times hold what is needed of them
    flat = _flatten(p, runs)
    later = ~flat.first
    told = np.isfinite(flat.flush_ns)
    flush_by_run = _per_run(len(runs), flat.run[told], flat.flush_ns[told])
    delay = flat.delay_ns - max(0.0, _weighted_median(*flush_by_run))
    starved, fed = _split(flat.first, delay, flat.gap_ns)
    start_by_run = _per_run(len(runs), flat.run[starved], delay[starved])
    gap_by_run = _per_run(len(runs), flat.run[fed], flat.gap_ns[fed])
    identified = (bool(told.any()), bool(starved.any()), bool(fed.any()))
    # A batch starts at most this late after both: upper bounds where no batch shows the cost alone.
    bounds = (0.0, float(delay.min()), float(flat.gap_ns[later].min()) if later.any() else 0.0)
    by_run = tuple(zip((flush_by_run, start_by_run, gap_by_run), identified, bounds, strict=True))
    estimate = np.array([_weighted_median(*one) if known else bound for one, known, bound in by_run])
    resampled = [
        _resampled_medians(*one, draws) if known else np.full(len(draws), bound) for one, known, bound in by_run
    ]
    return estimate, identified, np.maximum(np.column_stack(resampled), 0.0)


def _split(first: NDArray[np.bool_], delay: Floats, gap: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Batches that found the GPU idle for sure, and batches that waited for it for sure.

    Alternates between the two costs and the two sets until both stand still.
    """
    if first.all():
        return first, ~first
    start_idle = float(np.median(delay[first]))
    between = float(np.quantile(gap[~first], 0.1))
    starved, fed = first, ~first
    for _ in range(_ROUNDS):
        by_host = start_idle - delay  # how much the model starts a batch too late if the host was what it waited for
        by_gpu = np.where(first, -np.inf, between - gap)
        margin = 2 * 1.4826 * float(np.median(np.abs(np.maximum(by_host, by_gpu))))
        starved, fed = first | (by_host > by_gpu + margin), ~first & (by_gpu > by_host + margin)
        before = (start_idle, between)
        start_idle = float(np.median(delay[starved]))
        between = float(np.median(gap[fed])) if fed.any() else between
        if before == (start_idle, between):
            break
    return starved, fed


def _per_run(n: int, run: Ints, values: Floats) -> tuple[Floats, Floats]:
    """Median and number of each run's values, shape (n,) each; NaN and 0 for a run without any."""
    count = np.bincount(run, minlength=n)
    ordered = values[np.lexsort((values, run))]
    begins = np.cumsum(count) - count
    some = np.flatnonzero(count)
    medians = np.full(n, np.nan)
    low, high = begins[some] + (count[some] - 1) // 2, begins[some] + count[some] // 2
    medians[some] = (ordered[low] + ordered[high]) / 2
    return medians, count.astype(np.float64)


def _weighted_median(values: Floats, weights: Floats) -> float:
    known = np.flatnonzero(weights > 0)
    if known.size == 0:
        return 0.0
    order = known[np.argsort(values[known])]
    cumulated = np.cumsum(weights[order])
    half = 0.5 * cumulated[-1]
    at = int(np.searchsorted(cumulated, half * (1 - 1e-12)))
    upper = min(at + 1, order.size - 1) if cumulated[at] <= half * (1 + 1e-12) else at
    return float(values[order[at]] + values[order[upper]]) / 2


def _resampled_medians(values: Floats, weights: Floats, draws: Ints) -> Floats:
    known = np.flatnonzero(weights > 0)
    if known.size == 0 or len(draws) == 0:
        return np.zeros(len(draws))
    order = known[np.argsort(values[known])]
    counts = np.zeros((len(draws), weights.size))
    np.add.at(counts, (np.arange(len(draws))[:, np.newaxis], draws), 1.0)
    cumulated = np.cumsum(counts[:, order] * weights[order], axis=1)
    at = np.argmax(cumulated >= 0.5 * cumulated[:, -1:] * (1 - 1e-12), axis=1)
    result: Floats = values[order][at]
    return result


def _from_makespans(p: Floats, g: Floats, runs: Sequence[Observed], draws: Ints) -> Estimate:
    models = [_lines(p, g, run.batches) for run in runs]
    measured = np.array([run.makespan_ns for run in runs])
    estimate, jacobian = _least_squares(models, measured)
    # A cost is identified if no direction that leaves every makespan unchanged moves it.
    _, strength, directions = np.linalg.svd(jacobian, full_matrices=True)
    rank = int((strength > 1e-9 * max(1.0, float(strength.max(initial=0.0)))).sum())
    identified = tuple(bool((np.abs(directions[rank:, index]) < 1e-6).all()) for index in range(3))
    resampled = np.array([_least_squares([models[i] for i in draw], measured[draw], estimate)[0] for draw in draws])
    return estimate, (identified[0], identified[1], identified[2]), resampled.reshape(len(draws), 3)


Lines = tuple[Floats, Floats]


def _lines(p: Floats, g: Floats, batches: Sequence[int]) -> Lines:
    """The makespan as the largest of B linear functions of the costs: constants (B,) and slopes (B, 3)."""
    ends = np.cumsum(check_batches(batches, p.size))
    begins = np.concatenate(([0], ends[:-1]))
    number = np.arange(1, ends.size + 1, dtype=np.float64)
    worked = np.concatenate(([0.0], np.cumsum(g)))
    constants = np.cumsum(p)[ends - 1] - worked[begins] + worked[-1]
    return constants, np.column_stack((number, np.ones(ends.size), ends.size - number))


def _least_squares(models: Sequence[Lines], measured: Floats, start: Floats | None = None) -> tuple[Floats, Floats]:
    from scipy.optimize import least_squares

    def active(costs: Floats) -> tuple[Floats, Floats]:
        values = np.empty(len(models))
        slopes = np.empty((len(models), 3))
        for row, (constants, slope) in enumerate(models):
            lines = constants + slope @ costs
            best = int(np.argmax(lines))
            values[row], slopes[row] = lines[best], slope[best]
        return values, slopes

    # In parts of the makespan, so that the solver's tolerances mean something.
    unit = float(np.median(measured)) or 1.0
    residuals: Callable[[Floats], Floats] = lambda x: (active(x * unit)[0] - measured) / unit  # noqa: E731
    slopes_at: Callable[[Floats], Floats] = lambda x: active(x * unit)[1]  # noqa: E731
    starts = [start / unit] if start is not None else [np.full(3, share) for share in (1e-4, 1e-3, 1e-2)]
    solved = [
        least_squares(residuals, np.maximum(x, 1e-9), jac=slopes_at, bounds=(0, np.inf), loss="soft_l1", f_scale=0.01)
        for x in starts
    ]
    best = min(solved, key=lambda one: one.cost)
    costs: Floats = np.asarray(best.x, dtype=np.float64) * unit
    return costs, active(costs)[1]
