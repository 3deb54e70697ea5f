"""Statistics on repetitions: intervals that need no distribution, and no interval where the data do not carry one.

**The one rule**, for every quantity of the product: the unit of inference is the repetition, one block of the shuffled
order in which every cell has one run (a fresh process). Samples of one run are not independent (kernels of one process,
requests of one tenant), and neither are the runs of several cells in one block; so callers first reduce what a
repetition holds to one figure (``per_repetition``, ``run_quantile``), and below ``MIN_REPETITIONS`` repetitions there
is no interval and no verdict but "insufficient n".

Bounds of ``None`` mean "insufficient n". All functions are pure.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from devicelab.ground.averages import FEW, Averages
from devicelab.model.experiment import Verdict

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
MIN_REPETITIONS = 6
"""The least number of repetitions for an interval: the least for which one free of distributions exists at 95%."""

_EXACT = 60


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; bounds are ``None`` if ``n`` is too small for one.

    ``p`` is the two-sided p-value of "no effect" where the method gives one.
    """

    estimate: float
    low: float | None
    high: float | None
    n: int
    p: float | None = None

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return self.low is not None and self.high is not None

    def map(self, function: Callable[[float], float]) -> "Interval":
        """The interval of a monotone function of the quantity."""
        if self.low is None or self.high is None:
            return Interval(function(self.estimate), None, None, self.n, self.p)
        low, high = sorted((function(self.low), function(self.high)))
        return Interval(function(self.estimate), low, high, self.n, self.p)


NOTHING = Interval(math.nan, None, None, 0)


def quantile_interval(values: ArrayLike, q: float = 0.5, confidence: float = CONFIDENCE) -> Interval:
    """A quantile with its interval from order statistics: valid for any distribution of independent values.

    The bounds are the values of rank l and u such that a Binomial(n, q) count falls below l, and at u or above, with
    at most (1 - confidence) / 2 each (W. J. Conover, Practical Nonparametric Statistics, section 3.2). The median
    needs 6 values, the 99th percentile 368.

    Raises:
        ValueError: q or confidence not between 0 and 1.
    """
    if not (0 < q < 1 and 0 < confidence < 1):
        raise ValueError(f"q and confidence must lie between 0 and 1, not {q!r} and {confidence!r}")
    ordered = np.sort(_finite(values))
    n = ordered.size
    if n == 0:
        return NOTHING
    tail = (1 - confidence) / 2
    low = _binomial_quantile(tail, n, q)
    high = _binomial_quantile(1 - tail, n, q) + 1
    estimate = float(np.quantile(ordered, q))
    if low < 1 or high > n or n < MIN_REPETITIONS:
        return Interval(estimate, None, None, n)
    return Interval(estimate, float(ordered[low - 1]), float(ordered[high - 1]), n)


def _binomial_quantile(chance: float, n: int, q: float) -> int:
    """The least count that a Binomial(n, q) variable does not exceed with at least this chance.

    As ``scipy.stats.binom.ppf``, without importing that package, which takes as long as much of a page.
    """
    from scipy.special import bdtr, bdtrik

    count = math.ceil(float(bdtrik(chance, n, q)))
    below = max(count - 1, 0)
    return below if float(bdtr(below, n, q)) >= chance else count


def median_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """The median with its interval from order statistics (6 values or more)."""
    return quantile_interval(values, 0.5, confidence)


def location(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Pseudomedian of differences (Hodges-Lehmann) with the interval that inverts Wilcoxon's signed-rank test.

    For paired data: give one difference a pair. Exact for up to 60 values, normal approximation beyond; 6 values are
    the least for 95%. ``p`` tests a location of 0. Ties and zeros make it slightly conservative.
    """
    x = _finite(values)
    n = x.size
    if n == 0:
        return NOTHING
    walsh = Averages(x)
    least = min(walsh.below, walsh.above) + (walsh.size - walsh.below - walsh.above) / 2  # ties speak for neither side
    cut, p = _tail(_signed_rank_cdf, (n,), walsh.size, n * (n + 1) * (2 * n + 1) / 24, least, confidence)
    if not np.any(x):
        p = 1.0
    if cut < 1:
        return Interval(walsh.median(), None, None, n, p)
    return Interval(walsh.median(), walsh.at(cut - 1), walsh.at(walsh.size - cut), n, p)


def locations(rows: ArrayLike, confidence: float = CONFIDENCE) -> tuple[Floats, Floats, Floats]:
    """``location`` of many quantities at once: estimate, low and high of each column of shape (n, m), without NaN.

    Bounds are NaN with fewer than ``MIN_REPETITIONS`` rows.
    """
    x = np.asarray(rows, dtype=np.float64)
    n, count = x.shape
    nothing = np.full(count, np.nan)
    if n == 0:
        return nothing, nothing, nothing
    if n > FEW:
        each = [location(column, confidence) for column in x.T]
        ends = [(one.estimate, one.low, one.high) for one in each]  # None becomes NaN
        middle, low, high = np.array(ends, dtype=np.float64).reshape(count, 3).T
        return middle, low, high
    upper = np.triu_indices(n)
    walsh = np.sort((x[upper[0]] + x[upper[1]]) / 2, axis=0)
    cut, _ = _tail(_signed_rank_cdf, (n,), len(walsh), n * (n + 1) * (2 * n + 1) / 24, 0.0, confidence)
    middle = np.median(walsh, axis=0)
    return (middle, walsh[cut - 1], walsh[-cut]) if cut >= 1 else (middle, nothing, nothing)


def shift(a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """How much b lies above a (Hodges-Lehmann), with the interval that inverts the rank-sum test; for unpaired data.

    Exact for up to 60 values together, normal approximation beyond; 6 against 6 are the least for an interval (the one
    rule: the test alone could do with 4 against 4). ``n`` is the smaller of the two numbers. O(n m) memory.
    """
    x, y = _finite(a), _finite(b)
    if x.size == 0 or y.size == 0:
        return NOTHING
    differences = np.sort(np.subtract.outer(y, x).ravel())
    below, above = float((differences < 0).sum()), float((differences > 0).sum())
    variance = x.size * y.size * (x.size + y.size + 1) / 12
    least = min(below, above) + (differences.size - below - above) / 2  # ties speak for neither side
    cut, p = _tail(_rank_sum_cdf, (x.size, y.size), differences.size, variance, least, confidence)
    if below == above:
        p = 1.0
    n = min(x.size, y.size)
    return _between(differences, cut if n >= MIN_REPETITIONS else 0, n, p)


def paired_ratio(a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """B over a, pair by pair (entries that belong together; NaN pairs are left out), as ``location`` of the logs.

    Raises:
        ValueError: different lengths.
    """
    return location(_log_ratios(a, b), confidence).map(math.exp)


def ratio(a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """B over a for unpaired data, as ``shift`` of the logs; values that are not positive are left out."""
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = np.log(np.asarray(a, dtype=np.float64)), np.log(np.asarray(b, dtype=np.float64))
    return shift(x, y, confidence).map(math.exp)


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """P-values adjusted for a family of tests: rejecting those up to alpha keeps the false discovery rate at alpha.

    Raises:
        ValueError: a p-value outside 0..1.
    """
    from scipy.stats import false_discovery_control

    values = np.asarray(p, dtype=np.float64)
    return np.asarray(false_discovery_control(values)) if values.size else values


def differs(effect: Interval, tolerance: float, p_adjusted: float | None = None) -> Verdict:
    """Does a ratio differ from 1 by more than what matters?

    "yes" if the whole interval lies beyond ``1 +- tolerance`` (and the adjusted p-value, if given, is at most 0.05),
    "no" if it lies within, "insufficient n" without an interval, else "inconclusive".
    """
    if effect.low is None or effect.high is None:
        return "insufficient n"
    if effect.low > 1 + tolerance or effect.high < 1 - tolerance:
        return "yes" if p_adjusted is None or p_adjusted <= 1 - CONFIDENCE else "inconclusive"
    if effect.low >= 1 - tolerance and effect.high <= 1 + tolerance:
        return "no"
    return "inconclusive"


def falls(effect: Interval, tolerance: float) -> Verdict:
    """Is a ratio below 1 by more than what matters? "no" if the whole interval lies above ``1 - tolerance``."""
    if effect.low is None or effect.high is None:
        return "insufficient n"
    if effect.high < 1 - tolerance:
        return "yes"
    return "no" if effect.low >= 1 - tolerance else "inconclusive"


def kept(low: float | None, high: float | None, keeps: Callable[[float], bool]) -> Verdict:
    """An interval against a bound: "pass" if the whole of it keeps the bound, "fail" if the whole of it breaks it."""
    if low is None or high is None:
        return "insufficient n"
    ends = (keeps(low), keeps(high))
    return "pass" if all(ends) else "inconclusive" if any(ends) else "fail"


def run_quantile(values: ArrayLike, q: float) -> float:
    """A quantile of one run's samples, the figure that stands for its repetition; NaN where they are too few for it.

    The median-unbiased estimate (Hyndman and Fan 1996, no. 8); it needs about 2/3 of 1 / (1 - q) samples, 67 for the
    99th percentile. Below, the largest sample would stand for a quantile that it usually lies under.
    """
    x = _finite(values)
    if x.size == 0 or not 1 - q >= (2 / 3) / (x.size + 1 / 3) <= q:
        return math.nan
    return float(np.quantile(x, q, method="median_unbiased"))


def per_repetition(values: ArrayLike, repetition: ArrayLike) -> Floats:
    """One figure a repetition: the mean of what it holds, in the order of the repetitions; NaN values are left out.

    Give it logarithms of ratios between cells of one block: they share the block, so they are one observation.

    Raises:
        ValueError: different lengths.
    """
    x, group = np.asarray(values, dtype=np.float64), np.asarray(repetition)
    if x.shape != group.shape:
        raise ValueError(f"values and repetition must be of one shape, not {x.shape} and {group.shape}")
    known = np.isfinite(x)
    _, index, count = np.unique(group[known], return_inverse=True, return_counts=True)
    means: Floats = np.bincount(index, weights=x[known], minlength=count.size) / count
    return means


def blocked_ratio(a: ArrayLike, b: ArrayLike, repetition: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """B over a, where pairs (one a cell) share repetitions: their logarithms are averaged within each repetition first.

    Raises:
        ValueError: different lengths.
    """
    return location(per_repetition(_log_ratios(a, b), repetition), confidence).map(math.exp)


def _log_ratios(a: ArrayLike, b: ArrayLike) -> Floats:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape:
        raise ValueError(f"pairs must be of one shape, not {x.shape} and {y.shape}")
    with np.errstate(divide="ignore", invalid="ignore"):
        logs: Floats = np.log(y) - np.log(x)
    return logs


def _finite(values: ArrayLike) -> Floats:
    x = np.asarray(values, dtype=np.float64).ravel()
    return x[np.isfinite(x)]


def _between(ordered: Floats, cut: int, n: int, p: float) -> Interval:
    estimate = float(np.median(ordered))
    if cut < 1:
        return Interval(estimate, None, None, n, p)
    return Interval(estimate, float(ordered[cut - 1]), float(ordered[-cut]), n, p)


def _tail(
    cdf: Callable[..., Floats], sizes: tuple[int, ...], most: int, variance: float, statistic: float, confidence: float
) -> tuple[int, float]:
    """How many ordered values lie outside at each side, and the two-sided p-value of a rank statistic."""
    tail = (1 - confidence) / 2
    if sum(sizes) <= _EXACT:
        table = cdf(*sizes)
        cut = int(np.searchsorted(table, tail * (1 + 1e-12), side="right"))
        return cut, min(1.0, 2 * float(table[math.ceil(statistic)]))
    from scipy.stats import norm

    spread = math.sqrt(variance)
    cut = max(0, math.floor(most / 2 + float(norm.ppf(tail)) * spread))
    return cut, min(1.0, 2 * float(norm.cdf((statistic + 0.5 - most / 2) / spread)))


@cache
def _signed_rank_cdf(n: int) -> Floats:
    """P(W <= w) of the signed-rank statistic for w = 0..n(n+1)/2."""
    chances = np.zeros(n * (n + 1) // 2 + 1)
    chances[0] = 1.0
    for rank in range(1, n + 1):
        shifted = np.concatenate((np.zeros(rank), chances[:-rank]))
        chances = (chances + shifted) / 2
    return np.cumsum(chances)


@cache
def _rank_sum_cdf(n: int, m: int) -> Floats:
    """P(U <= u) of the rank-sum statistic for u = 0..nm: Gaussian binomial coefficients, built factor by factor."""
    counts = np.zeros(n * m + 1)
    counts[0] = 1.0
    for i in range(1, n + 1):
        top, bottom = m + i, i
        if top < counts.size:  # times (1 - x^top)
            counts[top:] -= counts[:-top].copy()
        for u in range(bottom, counts.size):  # over (1 - x^bottom)
            counts[u] += counts[u - bottom]
    return np.asarray(np.cumsum(counts) / counts.sum())
