"""The set of K that may be the best: the optimum is flat, so a bare argmin says more than the data do."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from devicelab.analyses.klo.model.core import Floats

MIN_REPETITIONS = 6  # the least n for which a distribution-free 95% interval of a median exists


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
    resamples: int = 2000,
    seed: int = 1,
) -> NearOptimal:
    """The K whose makespan is within ``tolerance`` of the best, or within the noise of it.

    A curve without noise (1-D) is taken at its word. From repetitions (2-D) the set is chosen such that it holds the
    true best K with probability ``confidence`` (subset selection after S. S. Gupta, Technometrics 7, 1965, with the
    critical distance bootstrapped over repetitions instead of taken from a normal table): K stays if its median is at
    most d_K above the least median, d_K being the quantile of how far K would come out above the least if all K were
    equally good. Repetitions are resampled jointly, so drift that all K of a block share does not widen the set.

    Args:
        k: the K measured, shape (J,), distinct.
        makespan_ns: shape (J,), or (repetitions, J) with NaN where a run is missing or invalid; positive.
        tolerance: a ratio less 1 that is too small to matter (0.02: 2%).
        confidence: see above.
        resamples: bootstrap samples.
        seed: of the bootstrap.

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
    least = middle.min()
    ratio = middle / least if least > 0 else np.where(middle > 0, np.inf, 1.0)
    n = int(np.isfinite(rows).sum(axis=0).min())
    noisy = values.ndim > 1  # one row a repetition
    conclusive = not noisy or n >= MIN_REPETITIONS
    if not noisy:
        allowed = np.full(ks.size, 1.0 + tolerance)
    elif not conclusive or least <= 0:
        allowed = np.full(ks.size, np.inf)
    else:
        allowed = _noise(rows, middle, confidence, resamples, seed) * (1.0 + tolerance)
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


def _noise(rows: Floats, middle: Floats, confidence: float, resamples: int, seed: int) -> Floats:
    """Quantile, for each K, of its resampled median over the least one, with every K shifted to the same level."""
    rng = np.random.default_rng(seed)
    logs = np.log(rows / middle)
    drawn = np.empty((resamples, rows.shape[1]))
    step = max(1, (1 << 22) // rows.size)
    for first in range(0, resamples, step):
        pick = rng.integers(0, rows.shape[0], size=(min(step, resamples - first), rows.shape[0]))
        sample = logs[pick]
        lost = np.asarray(np.isnan(sample).all(axis=1))  # no repetition of this K was drawn: it tells nothing here
        sample[np.broadcast_to(lost[:, np.newaxis, :], sample.shape)] = 0.0
        drawn[first : first + len(pick)] = np.nanmedian(sample, axis=1)
    above: Floats = np.exp(np.quantile(drawn - drawn.min(axis=1, keepdims=True), confidence, axis=0))
    return above
