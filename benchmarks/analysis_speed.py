"""How fast the launch model is computed, beside the same formulas in plain Python and in SciPy.

    python benchmarks/analysis_speed.py [--kernels 400] [--rounds 5]

Rounds take turns; the table has median CPU seconds of this process and their ratio (peer's by ours: above 1 we are
faster). Both have to come to the same result, else the benchmark ends with exit code 1.

- "curve": the makespan of every constant K, beside the recursion as it stands in the documentation, in plain Python.
- "schedule": the best schedule, beside a plain dynamic programme over (kernel, flushes) that tries every last batch.
- "fit": launch costs from makespans alone, beside ``scipy.optimize.least_squares`` on the recursion, without bootstrap.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from devicelab.analyses.klo.model import (
    LaunchCosts,
    Observed,
    best_schedule,
    constant_batches,
    constant_curve,
    fit,
    simulate,
)

_COSTS = LaunchCosts(flush_ns=40_000.0, start_idle_ns=60_000.0, gap_ns=25_000.0)


def recursion(p: Sequence[float], g: Sequence[float], costs: LaunchCosts, batches: Sequence[int]) -> float:
    """The makespan, batch by batch."""
    ready, end, at = 0.0, None, 0
    for length in batches:
        ready += sum(p[at : at + length]) + costs.flush_ns
        start = ready + costs.start_idle_ns
        if end is not None:
            start = max(start, end + costs.gap_ns)
        end = start + sum(g[at : at + length])
        at += length
    return end or 0.0


def plain_curve(p: Sequence[float], g: Sequence[float]) -> list[float]:
    """The makespan of every constant K."""
    return [recursion(p, g, _COSTS, constant_batches(len(p), k)) for k in range(1, len(p) + 1)]


def plain_schedule(p: Sequence[float], g: Sequence[float]) -> float:
    """The least makespan of all schedules: V(i, b) from every V(j, b - 1), until more flushes cannot win."""
    n = len(p)
    produced, worked = [0.0], [0.0]
    for one, other in zip(p, g, strict=True):
        produced.append(produced[-1] + one)
        worked.append(worked[-1] + other)
    flush, start, gap = _COSTS.flush_ns, _COSTS.start_idle_ns, _COSTS.gap_ns
    ends = [produced[i] + flush + start + worked[i] for i in range(n + 1)]
    best = ends[n]
    for b in range(2, n + 1):
        if produced[n] + b * flush + start + g[-1] >= best:
            break
        now = [float("inf")] * (n + 1)
        for i in range(b, n + 1):
            ready = produced[i] + b * flush + start
            now[i] = min(max(ready, ends[j] + gap) + worked[i] - worked[j] for j in range(b - 1, i))
        ends = now
        best = min(best, ends[n])
    return best


def scipy_fit(p: Sequence[float], g: Sequence[float], runs: Sequence[Observed]) -> np.ndarray:
    """The three costs by least squares on the recursion."""

    def residual(costs: np.ndarray) -> list[float]:
        trial = LaunchCosts(*np.maximum(costs, 0.0))
        return [recursion(p, g, trial, run.batches) - run.makespan_ns for run in runs]

    return least_squares(residual, np.full(3, 30_000.0), bounds=(0, np.inf), x_scale=1e4).x


def cpu_s(call: Callable[[], object]) -> tuple[float, object]:
    """CPU seconds of a call, and what it gave."""
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def main() -> int:
    """One table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    p, g = rng.gamma(8, 1_500, args.kernels), rng.gamma(4, 4_000, args.kernels)
    p[0] = 0.0
    ps, gs = p.tolist(), g.tolist()
    ks = (1, 2, 4, 8, 16, 32, args.kernels)
    runs = [
        Observed(b, simulate(p, g, _COSTS, b).makespan_ns * (1 + 0.002 * rng.standard_normal()))
        for b in (constant_batches(args.kernels, k) for k in ks * 3)
    ]
    jobs: dict[str, tuple[Callable[[], object], Callable[[], object], Callable[[object, object], bool]]] = {
        "curve": (lambda: constant_curve(p, g, _COSTS), lambda: plain_curve(ps, gs), np.allclose),
        "schedule": (lambda: best_schedule(p, g, _COSTS)[1], lambda: plain_schedule(ps, gs), np.isclose),
        "fit": (
            lambda: recursion_error(ps, gs, runs, fit(p, g, runs).costs),
            lambda: recursion_error(ps, gs, runs, LaunchCosts(*scipy_fit(ps, gs, runs))),
            lambda ours, theirs: ours <= theirs * 1.01,
        ),
    }
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in jobs}
    same = True
    for _ in range(args.rounds):
        for name, (ours, theirs, fits) in jobs.items():
            (mine, a), (other, b) = cpu_s(ours), cpu_s(theirs)
            taken[name][0].append(mine)
            taken[name][1].append(other)
            if not fits(a, b):  # type: ignore[arg-type]
                same = False
                print(f"{name}: {a} is not {b}")
    print(f"{args.kernels} kernels, {len(runs)} runs for the fit")
    print(f"{'':<10}{'ours ms':>12}{'peer ms':>12}{'ratio':>9}")
    for name, times in taken.items():
        mine, other = (statistics.median(part) for part in times)
        print(f"{name:<10}{mine * 1e3:>12.3f}{other * 1e3:>12.3f}{other / mine:>9.1f}")
    return 0 if same else 1


def recursion_error(p: Sequence[float], g: Sequence[float], runs: Sequence[Observed], costs: LaunchCosts) -> float:
    """Sum of squares of what the recursion with these costs is off the runs, in ms²."""
    return sum(((recursion(p, g, costs, run.batches) - run.makespan_ns) / 1e6) ** 2 for run in runs)


if __name__ == "__main__":
    sys.exit(main())
