"""Intervals that stay valid however often one looks: confidence sequences on repetitions. Pure functions.

A 95 % confidence sequence covers the truth at *all* numbers of repetitions at once with probability 0.95, so whoever
looks after every block and stops when the answer is clear is wrong no more often than who looks once. (A fixed-n
interval that is looked at until it excludes the truth does so sooner or later.) Each sequence inverts an e-process: a
wealth that starts at 1 and cannot grow on average while a value is the true one, so that it ever reaches 1 / alpha with
probability alpha at most (J. Ville, 1939). The value stays in the interval until its wealth is there.

Few repetitions are the rule (6 to 60), so nothing here is asymptotic, and no noise is taken for normal.
"""

import math
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from devicelab.ground.averages import Averages

Floats = NDArray[np.float64]

ALPHA = 0.05
MIN_REPETITIONS = 6
"""Below it no sequence has an interval: six values on one side of a point are the least that exclude it at 95 %."""

# What the wealth is spread over: a shift and a scale in units of the median magnitude, and a share. The first excludes
# at 95 % what six values lie far to one side of (the wealth is 20.7 then), the second is for tens of values. No bet on
# a shift finds one of less than half of it: the others let hundreds and thousands of values become narrow at all.
_BETS = ((1.0, 0.4, 0.6), (0.7, 1.0, 0.365), (0.3, 1.0, 0.012), (0.12, 1.0, 0.012), (0.045, 1.0, 0.011))
# Degrees of freedom of the noise bet on: few, so that a wild value is worth little to either side.
_TAILS = 3
# So many median magnitudes are as far as any: the stake is 0 to six digits there.
_WILD = 1e7
# Concentration of the prior on the share below a quantile: the largest that still closes the median at six values.
_PRIOR = 0.5
# More values than these are looked at one by one: as an array they would take too long.
_MANY = 100
# How far beyond the data, in units of their range, a bound is looked for.
_FAR = 300.0


@dataclass(frozen=True)
class Anytime:
    """An estimate with its confidence sequence at ``n`` repetitions; bounds are ``None`` where it is still open."""

    estimate: float
    low: float | None
    high: float | None
    n: int

    @property
    def known(self) -> bool:
        """Whether both sides are bounded."""
        return self.low is not None and self.high is not None

    def map(self, function: Callable[[float], float]) -> "Anytime":
        """The sequence of an increasing function of the quantity."""
        low, high = (None if bound is None else function(bound) for bound in (self.low, self.high))
        return Anytime(function(self.estimate), low, high, self.n)


def wealth(values: ArrayLike, at: float = 0.0) -> Floats:
    """The e-process against "the values are symmetric about ``at``": one entry a repetition.

    Under that hypothesis the signs of x_i - at are fair coins whatever the magnitudes, so with any stake
    l_i in (-1, 1) that depends on earlier values and on the present magnitude alone, prod(1 + l_i sign_i) is a
    non-negative martingale (for tests of symmetry by betting see A. Ramdas, J. Ruf, M. Larsson, W. Koolen, "Admissible
    anytime-valid sequential inference must rely on nonnegative martingales", 2020, section 6). The stakes are those
    that grow fastest if the noise is f, Student's t with 3 degrees of freedom, around a shift d:

        l_i = (f((u_i - d) / h) - f((u_i + d) / h)) / (f((u_i - d) / h) + f((u_i + d) / h)),   u_i = |x_i - at| / m_i

    with m_i the median of the magnitudes so far. The heavy tail is there so that an outlier decides nothing. The wealth
    is shared between both signs and several (d, h).

    It holds for every symmetric noise, and so for differences of two cells within a block of a shuffled order: there
    symmetry comes from the shuffling. Under normal noise it is about as narrow as the t-mixture (H. Wang, A. Ramdas,
    "Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance", 2024), which needs it.
    """
    return np.asarray(_wealth(_finite(values), np.array([at]))[0])


def location(values: ArrayLike, alpha: float = ALPHA) -> Anytime:
    """The centre of symmetry of values, as differences of pairs have one; see ``wealth``.

    The estimate is the pseudomedian (Hodges, Lehmann). Times O(n) for each of some hundred candidate bounds.

    Raises:
        ValueError: alpha not between 0 and 1.
    """
    _check(alpha)
    x = _finite(values)
    if x.size == 0:
        return Anytime(math.nan, None, None, 0)
    estimate = Averages(x).median()
    span = float(np.ptp(x))
    if not closes(x.size, alpha):
        return Anytime(estimate, None, None, x.size)
    if span <= 4 * np.spacing(np.abs(x).max()):
        return Anytime(estimate, float(x.min()), float(x.max()), x.size)
    low, high = (_bound(x, float(np.median(x)), sign * span, 1 / alpha) for sign in (-1.0, 1.0))
    if low is not None and high is not None:
        estimate = min(max(estimate, low), high)
    return Anytime(estimate, low, high, x.size)


def quantile(values: ArrayLike, q: float = 0.5, alpha: float = ALPHA) -> Anytime:
    """A quantile of independent values of any distribution (a level has no pair that would make it symmetric).

    The count of values up to the quantile is Binomial(n, q); with a Beta(a, b) mixture over the share,

        E_n(k) = B(a + k, b + n - k) / (B(a, b) q^k (1 - q)^(n - k)),   a = q / 2, b = (1 - q) / 2

    is a martingale for it (S. Howard, A. Ramdas, "Sequential estimation of quantiles with applications to A/B testing
    and best-arm identification", Bernoulli 28, 2022, beta-binomial). Ranks k with E_n(k) < 1 / alpha stay; ties widen.

    Raises:
        ValueError: q or alpha not between 0 and 1.
    """
    _check(alpha)
    if not 0 < q < 1:
        raise ValueError(f"q must lie between 0 and 1, not {q!r}")
    x = np.sort(_finite(values))
    n = x.size
    if n == 0:
        return Anytime(math.nan, None, None, 0)
    first, last = _ranks(n, q, alpha)
    low = float(x[first - 1]) if first >= 1 else None
    high = float(x[last]) if last < n else None
    return Anytime(float(np.quantile(x, q)), low, high, n)


@lru_cache(maxsize=4096)
def _ranks(n: int, q: float, alpha: float) -> tuple[int, int]:
    """The least and the greatest count of n values up to the quantile that are not excluded."""
    from scipy.special import betaln

    k = np.arange(n + 1)
    a, b = _PRIOR * q, _PRIOR * (1 - q)
    logs = betaln(a + k, b + n - k) - betaln(a, b) - k * math.log(q) - (n - k) * math.log1p(-q)
    stay = np.flatnonzero(logs < -math.log(alpha))
    return (int(stay[0]), int(stay[-1])) if stay.size else (round(n * q), round(n * q))


def closes(n: int, alpha: float = ALPHA) -> bool:
    """Whether ``location`` has bounds at n values: the wealth against a point that all values lie far beyond."""
    _check(alpha)
    stakes = [(float(_stake(np.ones(1), d, h)[0]), share) for d, h, share in _BETS]
    n = min(n, 2 * _MANY)  # any alpha that a float holds and that means something is reached by then
    most = sum(share * ((1 + stake) ** n + (1 - stake) ** n) / 2 for stake, share in stakes)
    return n >= MIN_REPETITIONS and most > 1 / alpha


def excludes(values: ArrayLike, points: ArrayLike, alpha: float = ALPHA) -> NDArray[np.bool_]:
    """(points, n): whether the wealth against each point is 1 / alpha after each value.

    What ``location`` of the values up to there covers is not excluded; this is much cheaper, and of all n at once.
    """
    return np.asarray(_wealth(_finite(values), np.asarray(points, dtype=np.float64)) >= 1 / alpha)


def least(alpha: float = ALPHA) -> int:
    """Repetitions at which ``location`` has bounds for the first time."""
    n = MIN_REPETITIONS
    while not closes(n, alpha):
        n += 1
    return n


def expected(scatter: float, distance: float, alpha: float = ALPHA, *, most: int = 100_000) -> int | None:
    """How many repetitions it is likely to take until the half-width is ``distance``; ``None``: more than ``most``.

    Of normal values with the standard deviation ``scatter``, by the t-mixture's closed form (Wang and Ramdas 2024,
    with a prior variance of 1 on the standardised effect), to which ``location`` is close. For planning, not inference.
    """
    if not (math.isfinite(scatter) and math.isfinite(distance)) or distance <= 0:
        return None
    low, high = least(alpha), least(alpha)
    while _half_width(high, alpha) * scatter > distance:
        low, high = high, high * 2
        if low > most:
            return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _half_width(middle, alpha) * scatter <= distance else (middle + 1, high)
    return high if high <= most else None


def _half_width(n: int, alpha: float) -> float:
    """Of the t-mixture over the standard deviation; the smallest of its closed form's may be infinite."""
    reach = ((1 + n) / alpha**2) ** (1 / n)
    left = 1 - reach / (1 + n)
    return math.sqrt((n - 1) * (reach - 1) / left / n) if left > 0 else math.inf


def _bound(x: Floats, start: float, span: float, enough: float) -> float | None:
    """The outermost point in the direction of ``span`` whose wealth is not ``enough`` yet; ``None`` if there is none.

    The wealth need not be monotone near the data, so the hull is taken: candidates everywhere, then finer ones around
    the last that stays.
    """
    steps = np.concatenate((np.linspace(0.0, 1.5, 61), np.geomspace(1.5, _FAR, 40)[1:]))
    for _ in range(4):
        stays = np.flatnonzero(_in_the_end(x, start + span * steps) < enough)
        last = int(stays[-1]) if stays.size else 0
        if last == steps.size - 1:
            return None
        steps = np.linspace(steps[last], steps[last + 1], 25)
    return float(start + span * steps[1])


def _wealth(x: Floats, points: Floats) -> Floats:
    """(points, n): the wealth against each point after each value."""
    with np.errstate(over="ignore"):
        return sum(
            (share * np.exp(np.cumsum(np.log(factors), axis=1)) for factors, share in _gains(x, points)), np.zeros(())
        )


def _in_the_end(x: Floats, points: Floats) -> Floats:
    """(points,): the wealth against each point after all values."""
    parts = _gains(x, points)
    if x.size <= _MANY:  # no product of so few is too small for a float: no factor is less than 0.02
        return sum((share * np.prod(factors, axis=1) for factors, share in parts), np.zeros(points.size))
    with np.errstate(over="ignore"):
        return sum((share * np.exp(np.log(factors).sum(axis=1)) for factors, share in parts), np.zeros(points.size))


def _gains(x: Floats, points: Floats) -> Iterator[tuple[Floats, float]]:
    """Of each part of the wealth: (points, n) what each value multiplies it by, and its share."""
    away = x[np.newaxis, :] - points[:, np.newaxis]
    scale = _running_median(np.abs(away))
    # A median of 0 is "mostly ties": then a value that is none is as far as can be, and still no more than a stake.
    with np.errstate(over="ignore"):  # beyond the largest number is as far as can be, too
        unit = np.divide(away, scale, out=np.sign(away), where=scale > 0)
    for shift, width, share in _BETS:
        stake = _stake(unit, shift, width)
        for side in (stake, -stake):
            yield 1 + side, share / 2


def _stake(unit: Floats, shift: float, width: float) -> Floats:
    """The share of the wealth that is set on each value's sign; odd in ``unit``, next to 0 far out."""
    x = np.clip(unit, -_WILD, _WILD)
    near, far = (1 + ((x - side * shift) / width) ** 2 / _TAILS for side in (1, -1))
    # The density is near or far to the power of -2: (tails + 1) / 2.
    return np.asarray((far - near) * (far + near) / (far**2 + near**2))


def _running_median(magnitudes: Floats) -> Floats:
    """(points, n): the median of the first 1, 2, ... n of each row."""
    found = np.empty_like(magnitudes)
    if magnitudes.shape[1] > _MANY:
        for row, out in zip(magnitudes.tolist(), found, strict=True):
            out[:] = list(_medians(row))
        return found
    ordered = np.empty_like(magnitudes)
    for n in range(1, magnitudes.shape[1] + 1):
        ordered[:, n - 1] = magnitudes[:, n - 1]
        ordered[:, :n].sort(axis=1, kind="stable")  # all but the last are in order already
        found[:, n - 1] = ordered[:, n // 2] if n % 2 else (ordered[:, n // 2 - 1] + ordered[:, n // 2]) / 2
    return found


def _medians(row: Sequence[float]) -> Iterator[float]:
    seen: list[float] = []
    for n, x in enumerate(row, 1):
        insort(seen, x)
        yield seen[n // 2] if n % 2 else (seen[n // 2 - 1] + seen[n // 2]) / 2


def _finite(values: ArrayLike | Sequence[float]) -> Floats:
    x = np.asarray(values, dtype=np.float64).ravel()
    return x[np.isfinite(x)]


def _check(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, not {alpha!r}")
