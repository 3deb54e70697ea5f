"""Launch costs from makespans alone, for programs without timestamps of every kernel: non-linear least squares."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from devicelab.analyses import _stats
from devicelab.analyses.klo.model.core import Floats, check_batches

Estimate = tuple[Floats, _stats.Interval, bool, Floats, tuple[bool, bool, bool]]
"""Costs by repetition (NaN: cannot tell); growth of a flush and whether it tells; costs of all runs or upper bounds;
which costs are identified."""


def estimate(
    p: Floats, g: Floats, runs: Sequence[tuple[tuple[int, ...], float]], groups: Sequence[NDArray[np.int64]]
) -> Estimate:
    """Costs from (batches, makespan) of every run; each repetition is fitted alone, from the costs of all."""
    models = [_lines(p, g, batches) for batches, _ in runs]
    measured = np.array([makespan for _, makespan in runs])
    overall, jacobian = _least_squares(models, measured)
    # A cost is identified if no direction that leaves every makespan unchanged moves it.
    _, strength, directions = np.linalg.svd(jacobian, full_matrices=True)
    rank = int((strength > 1e-9 * max(1.0, float(strength.max(initial=0.0)))).sum())
    identified = tuple(bool((np.abs(directions[rank:, index]) < 1e-6).all()) for index in range(3))
    rows = np.array([_least_squares([models[i] for i in group], measured[group], overall)[0] for group in groups])
    return rows, _stats.NOTHING, False, overall, (identified[0], identified[1], identified[2])


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
