"""The averages of all pairs of values, each with itself too (Walsh averages), in order, without making them all.

As many as n (n + 1) / 2; the one at a place is found by halving the range of sums and counting the pairs below, which
takes n log n for values in order (D. B. Johnson and T. Mizoguchi, SIAM J. Comput. 7, 1978, for sums of two rows). What
is found is exactly what sorting all of them finds.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEW = 200
"""Of so many values all averages are made and sorted, which is as fast."""


class Averages:
    """Walsh averages of finite values.

    Attributes:
        size: how many there are.
        below: how many are less than 0.
        above: how many are more than 0.
    """

    def __init__(self, values: Floats, few: int = FEW) -> None:
        """Up to ``few`` values all averages are made at once, which needs n^2 memory."""
        n = values.size
        self.size = n * (n + 1) // 2
        most = float(np.max(np.abs(values), initial=0.0))
        self._scale = 1.0 if np.isfinite(4 * most) else 8.0  # no sum of two is beyond the largest number then
        values = values / self._scale
        self._all: Floats | None = None
        if n <= few:
            first, second = np.triu_indices(n)
            self._all = np.sort((values[first] + values[second]) / 2)
            self.below, self.above = int((self._all < 0).sum()), int((self._all > 0).sum())
            return
        self._values, self._times = np.unique(values, return_counts=True)
        self._before = np.concatenate(([0], np.cumsum(self._times)))
        # More than what rounding moves a sum of two, or a limit less a value.
        self._blur = float(8 * np.finfo(np.float64).eps * most / self._scale + np.finfo(np.float64).tiny)
        self.below = self._count(self._ends(0.0))
        self.above = self.size - self._count(np.searchsorted(self._values, -self._values, side="right"))

    def at(self, place: int) -> float:
        """The average at this place, from 0, in ascending order."""
        if self._all is not None:
            return self._scale * float(self._all[place])
        low, high = 2 * self._values[0], 2 * self._values[-1] + 2 * self._blur
        while high - low > self._blur:
            middle = low + (high - low) / 2
            ends = self._ends(middle)
            low, high = (middle, high) if self._count(ends) <= place else (low, middle)
            if self._between(self._ends(low), self._ends(high)).sum() <= 4 * self._values.size:
                break
        # Pairs that rounding may have put on the wrong side of an end are looked at as well.
        starts = np.maximum(self._ends(low - self._blur), np.arange(self._values.size))
        counts = self._between(starts, self._ends(high + self._blur))
        first = np.repeat(np.arange(self._values.size), counts)
        second = np.arange(first.size) + np.repeat(starts - np.cumsum(counts) + counts, counts)
        times = np.where(
            first == second,
            self._times[first] * (self._times[first] + 1) // 2,
            self._times[first] * self._times[second],
        )
        averages = (self._values[first] + self._values[second]) / 2
        order = np.argsort(averages)
        until = np.cumsum(times[order])
        found = np.searchsorted(until, place - self._count(starts), side="right")
        return self._scale * float(averages[order[found]])

    def median(self) -> float:
        """The middle one, or the mean of both."""
        low, high = (self.at(place) for place in ((self.size - 1) // 2, self.size // 2))
        return low if low == high else low / 2 + high / 2

    def _ends(self, limit: float) -> NDArray[np.intp]:
        """For each value the first partner with which it sums to the limit or more."""
        return np.searchsorted(self._values, limit - self._values)

    def _between(self, starts: NDArray[np.intp], ends: NDArray[np.intp]) -> NDArray[np.intp]:
        """How many partners of each value, from itself on, lie from one place to before another."""
        return np.maximum(ends - np.maximum(starts, np.arange(self._values.size)), 0)

    def _count(self, ends: NDArray[np.intp]) -> int:
        """How many pairs there are of each value with itself and the values up to before its end."""
        own = np.arange(self._values.size)
        pairs = self._times * (self._times + 1) // 2 + self._times * (self._before[ends] - self._before[own + 1])
        return int(pairs[ends > own].sum())
