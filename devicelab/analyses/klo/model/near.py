"""The set of K that may be the best: the optimum is flat, so a bare argmin says more than the data do."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from devicelab.analyses._stats import MIN_REPETITIONS
from devicelab.analyses.klo.model.core import Floats

_FAR = 3.0


@dataclass(frozen=True, eq=False)
class NearOptimal:
    """K that cannot be told from the best.

    Attributes:
        k: the set, ascending.
        best: the K of the least (median) makespan.
        all_k: every K that was measured, ascending; ``ratio`` and ``allowed`` are in this order.
        ratio: (median) makespan over the best one.
        allowed: the ratio up to which a K stays in the set.
        n: repetitions; 1 for a curve without noise.
        conclusive: whether n suffices to exclude anything.
    """

    k: tuple[int, ...]
    best: int
    all_k: tuple[int, ...]
    ratio: Floats
    allowed: Floats
    n: int
    conclusive: bool


def near_optimal_set(
    k: ArrayLike,
    makespan_ns: ArrayLike,
    *,
    tolerance: float = 0.0,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 1,
) -> NearOptimal:
    """The K whose makespan is within ``tolerance`` of the best, or within the noise of it.

    A curve without noise (1-D) is taken at its word. From repetitions (2-D) the set is chosen such that it holds the
    true best K with probability ``confidence`` (subset selection after S. S. Gupta, Technometrics 7, 1965, with the
    critical distance from permutations within blocks instead of a normal table): K stays if its mean is at most d
    above the least mean, d being the quantile of how far a K would come out above the least if all K were equally
    good. Means are of logarithms less their block's, so drift that all K of a block share does not widen the set, with
    single outliers pulled in.
    (A bootstrap of six to twelve repetitions draws too few different ones, and excludes the best K too often.)

    Args:
        k: the K measured, shape (J,), distinct.
        makespan_ns: shape (J,), or (repetitions, J) with NaN where a run is missing or invalid; positive.
        tolerance: a ratio less 1 that is too small to matter (0.02: 2%).
        confidence: see above.
        resamples: permutations.
        seed: of the permutations.

    Raises:
        ValueError: shapes do not fit, K below 1 or twice, a makespan not positive, or a K without any repetition.
    """
    ks = np.asarray(k)
    values = np.asarray(makespan_ns, dtype=np.float64)
    if ks.ndim != 1 or ks.size == 0 or values.ndim not in (1, 2) or values.shape[-1] != ks.size:
        raise ValueError(f"k and makespan_ns do not fit: {ks.shape} and {values.shape}")
    if (ks < 1).any() or np.unique(ks).size != ks.size:
        raise ValueError("K must be distinct whole numbers of at least 1")
    rows = np.atleast_2d(values)[:, np.argsort(ks)]
    if not np.isfinite(rows).any(axis=0).all() or (rows < 0).any() or np.isinf(rows).any():
        raise ValueError("every K needs a makespan, finite and of at least 0")
    ks = np.sort(ks)
    middle = np.nanmedian(rows, axis=0)
    noisy = values.ndim > 1  # one row a repetition
    logs = _without_outliers(rows) if noisy and (rows[np.isfinite(rows)] > 0).all() else None
    if logs is not None:
        middle = middle.min() * np.exp(_levels(logs))
    least = middle.min()
    ratio = middle / least if least > 0 else np.where(middle > 0, np.inf, 1.0)
    n = int(np.isfinite(rows).sum(axis=0).min())
    conclusive = not noisy or n >= MIN_REPETITIONS
    if not noisy:
        allowed = np.full(ks.size, 1.0 + tolerance)
    elif not conclusive or logs is None:
        allowed = np.full(ks.size, np.inf)
    else:
        allowed = np.full(ks.size, _noise(logs, confidence, resamples, seed) * (1.0 + tolerance))
    inside = ratio <= allowed * (1 + 1e-12)
    return NearOptimal(
        k=tuple(int(value) for value in ks[inside]),
        best=int(ks[int(np.argmin(middle))]),
        all_k=tuple(int(value) for value in ks),
        ratio=ratio,
        allowed=allowed,
        n=n if noisy else 1,
        conclusive=conclusive,
    )


def _levels(logs: Floats) -> Floats:
    """How far each K lies above the least, in logarithms, with what a block shares taken out."""
    return _above(_centred(logs))


def _centred(logs: Floats) -> Floats:
    centred: Floats = logs - np.nanmean(logs, axis=1, keepdims=True)
    return centred


def _above(rows: Floats) -> Floats:
    middle = np.nanmean(rows, axis=-2)
    above: Floats = middle - middle.min(axis=-1, keepdims=True)
    return above


def _spread(rows: Floats) -> Floats:
    """Standard deviation of what neither the block nor the K explains; ``rows`` have their block's level taken out."""
    blocks, ks = rows.shape[-2:]
    explained = blocks * np.square(np.nanmean(rows, axis=-2)).sum(axis=-1)
    left = np.maximum(np.nansum(np.square(rows), axis=(-2, -1)) - explained, 0.0)
    spread: Floats = np.sqrt(left / max(1, (blocks - 1) * (ks - 1)))
    return spread


def _without_outliers(rows: Floats) -> Floats:
    """Logarithms with single runs that stand far apart pulled in to the border, so that means may be taken.

    Far is beyond three deviations from what the block and the K say (median polish; deviation from the median absolute
    residual, made up for what a small table's polish takes away).
    """
    logs = np.log(rows)
    fitted = np.zeros_like(logs)
    for axis in (1, 0, 1, 0):
        fitted = fitted + np.nanmedian(logs - fitted, axis=axis, keepdims=True)
    residual = logs - fitted
    blocks, ks = rows.shape
    apart = np.abs(residual[np.abs(residual) > 0])  # a median polish leaves exact zeros
    apart = apart[np.isfinite(apart)]
    if apart.size == 0:
        return logs
    taken = np.sqrt(blocks * ks / max(1.0, (blocks - 1.0) * (ks - 1.0)))
    border = _FAR * 1.4826 * float(np.median(apart)) * taken
    pulled: Floats = fitted + np.clip(residual, -border, border)
    return pulled


def _noise(logs: Floats, confidence: float, resamples: int, seed: int) -> float:
    """How far a K may come out above the least by chance, all K being equally good (a ratio).

    The quantile of the distance over the spread, when what neither block nor K explains changes places at random
    within every block, times the spread that there is. In units of the spread, since that is estimated, too. Half of
    the error allowed is kept for what pulling in outliers takes away from it.
    """
    rng = np.random.default_rng(seed)
    centred = _centred(logs)
    blocks, ks = logs.shape
    residual = centred - np.nanmean(centred, axis=0)
    found = []
    step = max(1, (1 << 20) // logs.size)
    for first in range(0, resamples, step):
        count = min(step, resamples - first)
        order = np.argsort(rng.random((count, blocks, ks)), axis=2)
        drawn = np.take_along_axis(np.broadcast_to(residual, (count, blocks, ks)), order, axis=2)
        lost = np.isnan(drawn).all(axis=1, keepdims=True)
        drawn = np.where(lost, 0.0, drawn)
        found.append((_above(drawn) / np.maximum(_spread(drawn), 1e-12)[:, np.newaxis]).ravel())
    return float(np.exp(np.quantile(np.concatenate(found), (1 + confidence) / 2) * _spread(centred)))
