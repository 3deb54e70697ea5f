"""The launch model: when does each batch of kernels start and end, and which batches end soonest.

A host produces kernels 1..N one after another and flushes them to the GPU in batches. With p the production times, g
the kernel times, F + f * (kernels in the batch) the cost of a flush, L_s the delay from flush to start on an idle GPU
and L_b the gap that the GPU leaves between back-to-back batches, batch b is ready, starts and ends at

    P_b = sum(p + f up to the end of b) + b F
    S_b = max(P_b + L_s, E_{b-1} + L_b),   S_1 = P_1 + L_s
    E_b = S_b + sum(g in b),               M = E_last

Unrolled (the recursion is linear over max and plus), with B batches and G = sum(g):

    M = L_s + G + max over b of (P_b - sum(g before b) + (B - b) L_b)

which is what makes whole curves cheap. All times are nanoseconds and start when the host begins kernel 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CURVE_CHUNK = 1 << 20
_SCHEDULE_CELLS = 1 << 26
_TIE = 1e-12


@dataclass(frozen=True)
class LaunchCosts:
    """What launching costs on one device, in nanoseconds.

    Attributes:
        flush_ns: F, CPU time of one flush.
        start_idle_ns: L_s, from the end of the flush to the start of the first kernel when the GPU is idle.
        gap_ns: L_b, the gap that the GPU leaves between two batches when the next one is already there.
        flush_per_kernel_ns: f, what each kernel of the batch adds to its flush (a driver that encodes them then).

    Raises:
        ValueError: a cost is negative or not finite.
    """

    flush_ns: float
    start_idle_ns: float
    gap_ns: float
    flush_per_kernel_ns: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flush_ns", "start_idle_ns", "gap_ns", "flush_per_kernel_ns"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a finite time of at least 0, not {value!r}")


@dataclass(frozen=True, eq=False)
class Timeline:
    """One inference as the model sees it; arrays have one entry a batch.

    Attributes:
        batches: batch lengths in kernels.
        ready_ns: P_b, the end of the flush of each batch.
        start_ns, end_ns: S_b and E_b.
        makespan_ns: M, the end of the last batch.
        kernel_ns: the sum of the kernel times.
    """

    batches: tuple[int, ...]
    ready_ns: Floats
    start_ns: Floats
    end_ns: Floats
    makespan_ns: float
    kernel_ns: float

    @property
    def idle_ns(self) -> Floats:
        """GPU idle time before each batch; the first counts from the beginning of the inference."""
        return self.start_ns - self._previous_end_ns

    @property
    def starved_ns(self) -> Floats:
        """The part of the idle time in which nothing was flushed yet (the producer is late)."""
        return np.maximum(0.0, self.ready_ns - self._previous_end_ns)

    @property
    def launch_ns(self) -> Floats:
        """The part of the idle time in which the batch was there but had not started (L_s or L_b)."""
        return self.start_ns - np.maximum(self.ready_ns, self._previous_end_ns)

    @property
    def overhead_ns(self) -> float:
        """Total launch overhead: makespan less kernel times."""
        return self.makespan_ns - self.kernel_ns

    @property
    def _previous_end_ns(self) -> Floats:
        return np.concatenate(([0.0], self.end_ns[:-1]))


def times(t_prod_ns: ArrayLike, t_ker_ns: ArrayLike) -> tuple[Floats, Floats]:
    """Both time arrays as float64 of shape (N,).

    Raises:
        ValueError: not one-dimensional, of different lengths, empty, or with a negative or non-finite entry.
    """
    p = np.asarray(t_prod_ns, dtype=np.float64)
    g = np.asarray(t_ker_ns, dtype=np.float64)
    if p.ndim != 1 or p.shape != g.shape:
        raise ValueError(f"t_prod_ns and t_ker_ns must be 1-D and of one length, not {p.shape} and {g.shape}")
    if p.size == 0:
        raise ValueError("an inference has at least one kernel")
    for name, values in (("t_prod_ns", p), ("t_ker_ns", g)):
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ValueError(f"{name} must hold finite times of at least 0")
    return p, g


def constant_batches(n: int, k: int) -> tuple[int, ...]:
    """Batch lengths for a flush every ``k`` of ``n`` kernels: the last may be short, ``k >= n`` is one flush.

    Raises:
        ValueError: n or k below 1.
    """
    if n < 1 or k < 1:
        raise ValueError(f"n and k must be at least 1, not {n} and {k}")
    full, rest = divmod(n, k)
    return (k,) * full + ((rest,) if rest else ())


def check_batches(batches: Sequence[int], n: int) -> Ints:
    """Batch lengths as an array.

    Raises:
        ValueError: a length below 1, or the lengths do not sum to ``n``.
    """
    lengths = np.asarray(batches)
    if lengths.ndim != 1 or lengths.size == 0 or not np.issubdtype(lengths.dtype, np.integer) or (lengths < 1).any():
        raise ValueError("batches must be whole numbers of at least 1")
    if int(lengths.sum()) != n:
        raise ValueError(f"batches sum to {int(lengths.sum())}, but there are {n} kernels")
    return lengths.astype(np.int64)


def simulate(t_prod_ns: ArrayLike, t_ker_ns: ArrayLike, costs: LaunchCosts, batches: Sequence[int]) -> Timeline:
    """Run one inference through the model.

    Args:
        t_prod_ns: production time of each kernel, shape (N,).
        t_ker_ns: GPU time of each kernel, shape (N,).
        costs: launch costs.
        batches: batch lengths, each at least 1, summing to N.

    Raises:
        ValueError: see ``times`` and ``check_batches``.
    """
    p, g = times(t_prod_ns, t_ker_ns)
    lengths = check_batches(batches, p.size)
    ends = np.cumsum(lengths)
    ready = np.cumsum(p)[ends - 1] + np.arange(1, ends.size + 1) * costs.flush_ns + ends * costs.flush_per_kernel_ns
    return timeline(ready, g, costs, lengths)


def timeline(ready_ns: Floats, t_ker_ns: Floats, costs: LaunchCosts, lengths: Ints) -> Timeline:
    """The GPU's side of the model for batches that are ready at ``ready_ns``."""
    work = np.add.reduceat(t_ker_ns, np.cumsum(lengths) - lengths)
    # E_b - cum_b = max(P_b + L_s + work_b - cum_b, E_{b-1} - cum_{b-1}), a running maximum.
    cum = np.cumsum(work + costs.gap_ns)
    end = np.maximum.accumulate(ready_ns + costs.start_idle_ns + work - cum) + cum
    return Timeline(
        batches=tuple(int(length) for length in lengths),
        ready_ns=ready_ns,
        start_ns=end - work,
        end_ns=end,
        makespan_ns=float(end[-1]),
        kernel_ns=float(t_ker_ns.sum()),
    )


def makespan(t_prod_ns: ArrayLike, t_ker_ns: ArrayLike, costs: LaunchCosts, k: int) -> float:
    """Makespan for a flush every ``k`` kernels."""
    p, g = times(t_prod_ns, t_ker_ns)
    return simulate(p, g, costs, constant_batches(p.size, k)).makespan_ns


def constant_curve(t_prod_ns: ArrayLike, t_ker_ns: ArrayLike, costs: LaunchCosts) -> Floats:
    """Makespan for every constant K: entry ``K - 1`` for K = 1..N, shape (N,).

    Takes O(N log N) time and bounded memory, so a million kernels are fine.

    Raises:
        ValueError: see ``times``.
    """
    p, g = times(t_prod_ns, t_ker_ns)
    n = p.size
    produced, worked = _cumulated(p + costs.flush_per_kernel_ns), _cumulated(g)
    k = np.arange(1, n + 1)
    flushes = -(-n // k)
    until = np.cumsum(flushes)
    curve = np.empty(n)
    first = 0
    while first < n:
        base = until[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(until, base + _CURVE_CHUNK, side="right")))
        count = flushes[first:last]
        offsets = np.cumsum(count) - count
        size = np.repeat(k[first:last], count)
        batch = np.arange(size.size) - np.repeat(offsets, count)
        begin = batch * size
        slack = produced[np.minimum(begin + size, n)] - worked[begin] + (batch + 1) * costs.flush_ns
        slack += (np.repeat(count, count) - 1 - batch) * costs.gap_ns
        curve[first:last] = np.maximum.reduceat(slack, offsets)
        first = last
    result: Floats = curve + costs.start_idle_ns + worked[-1]
    return result


def best_constant(t_prod_ns: ArrayLike, t_ker_ns: ArrayLike, costs: LaunchCosts) -> tuple[int, float]:
    """The constant K of the least makespan (the smallest such K) and that makespan in nanoseconds.

    Raises:
        ValueError: see ``times``.
    """
    curve = constant_curve(t_prod_ns, t_ker_ns, costs)
    index = int(np.argmax(curve <= curve.min() * (1 + _TIE)))
    return index + 1, float(curve[index])


def best_schedule(t_prod_ns: ArrayLike, t_ker_ns: ArrayLike, costs: LaunchCosts) -> tuple[tuple[int, ...], float]:
    """The batch lengths of the least makespan of all (static K), and that makespan in nanoseconds.

    Exact: a dynamic programme over (kernel, number of flushes) in O(N B log N), B being the number of flushes beyond
    which no schedule can win. Of equal schedules one with the fewest flushes is returned.

    Raises:
        ValueError: see ``times``; or N x B exceeds 2^26 (some ten thousand kernels with almost free flushes).
    """
    p, g = times(t_prod_ns, t_ker_ns)
    batches = plan(p, g, costs)
    return batches, simulate(p, g, costs, batches).makespan_ns


def plan(p: Floats, g: Floats, costs: LaunchCosts, *, busy_until_ns: float = -math.inf) -> tuple[int, ...]:
    """The best batch lengths from a state in which the GPU works until ``busy_until_ns`` (from now; -inf: idle).

    Let V(i, b) be the earliest end of the first i kernels with at most b flushes. Both V(j, b) and V(j, b) - sum(g up
    to j) never fall in j (dropping the last kernel of a schedule never delays the rest), so in

        V(i, b) = min(V(i, b-1), sum(g up to i) + min over j of max(A - sum(g up to j), V(j, b-1) + L_b - sum(...)))

    with A = P(i, b) + L_s the first term of the max falls and the second rises with j: the best j lies where they
    cross, and a binary search finds it for all i at once. Charging b flushes where V(j, b-1) used fewer only
    overestimates, and the exact count is tried at its own b.
    """
    n = p.size
    produced, worked = _cumulated(p + costs.flush_per_kernel_ns), _cumulated(g)
    flush, start, gap = costs.flush_ns, costs.start_idle_ns, costs.gap_ns
    if flush == 0 and gap == 0:
        return (1,) * n  # flushing costs nothing (but what its kernels cost anyhow): at once is never later
    kernels = np.arange(n + 1)
    ends = np.maximum(produced + flush + start, busy_until_ns + gap) + worked
    earliest = ends[n]
    previous: list[NDArray[np.int32]] = [np.zeros(n + 1, dtype=np.int32)]
    first_start = max(produced[1] + flush + start, busy_until_ns + gap)
    for b in range(2, n + 1):
        by_host = produced[n] + b * flush + start + g[-1]
        by_gpu = first_start + worked[n] + (b - 1) * gap
        if max(by_host, by_gpu) >= earliest:
            break
        if b * (n + 1) > _SCHEDULE_CELLS:
            raise ValueError(f"the best schedule of {n} kernels with {b} or more flushes is too large to compute")
        free = np.maximum.accumulate(ends[1:] + gap)
        ready = produced + b * flush + start
        late = np.searchsorted(free, ready, side="right")
        starved = np.minimum(late, kernels - 1)
        start_starved = np.where(starved >= 1, ready - worked[np.maximum(starved, 0)], math.inf)
        fed = np.minimum(late + 1, n)
        start_fed = np.where(late + 1 <= kernels - 1, free[fed - 1] - worked[fed], math.inf)
        use_fed = start_fed < start_starved
        candidate = np.where(use_fed, start_fed, start_starved) + worked
        better = candidate < ends
        ends = np.where(better, candidate, ends)
        previous.append(np.where(better, np.where(use_fed, fed, starved), 0).astype(np.int32))
        earliest = ends[n]
    return _trace(previous, n)


def _trace(previous: list[NDArray[np.int32]], n: int) -> tuple[int, ...]:
    lengths = []
    at = n
    for layer in reversed(previous):
        came_from = int(layer[at])
        if came_from:
            lengths.append(at - came_from)
            at = came_from
    return (at, *reversed(lengths))


def floor_ns(t_prod_ns: ArrayLike, t_ker_ns: ArrayLike, costs: LaunchCosts) -> float:
    """No schedule ends sooner: all production and one flush before the last kernel, or one launch and all GPU work.

    Raises:
        ValueError: see ``times``.
    """
    p, g = times(t_prod_ns, t_ker_ns)
    once = costs.flush_ns + costs.start_idle_ns
    p = p + costs.flush_per_kernel_ns
    return float(once + max(p.sum() + g[-1], p[0] + g.sum()))


def root_estimates(n: int, t_prod_ns: float, t_ker_ns: float, costs: LaunchCosts) -> dict[str, float | None]:
    """The square-root rules for uniform kernels, up to about 6% off: use them to understand, not to choose.

    Returns ``gpu_bound`` = sqrt(N L_b / p) and ``producer_bound`` = sqrt(N F / g), within 1..N; ``None`` where the
    divisor is 0.
    """

    def root(cost_ns: float, time_ns: float) -> float | None:
        return min(float(n), max(1.0, math.sqrt(n * cost_ns / time_ns))) if time_ns > 0 else None

    return {
        "gpu_bound": root(costs.gap_ns, t_prod_ns + costs.flush_per_kernel_ns),
        "producer_bound": root(costs.flush_ns, t_ker_ns),
    }


def _cumulated(values: Floats) -> Floats:
    return np.concatenate(([0.0], np.cumsum(values)))
