"""Long histories: where a level changed (change points), and whether a slow move is a drift or a step."""

import math

import numpy as np

from devicelab.compare.nights.stats import Floats, row_medians

_CLIP = 3.0
_NEIGHBOURS = 5
_SHORTEST = 3
"""Nights that a level has to last to be one."""


def noise(levels: Floats, least: float) -> float:
    """Night-to-night standard deviation from the differences of successive nights: a step is one difference only."""
    if levels.size < 2:
        return least
    return max(least, float(np.median(np.abs(np.diff(levels)))) * 1.4826 / math.sqrt(2))


def calmed(levels: Floats, sd: float) -> Floats:
    """Levels with single nights that stick out drawn to 3 ``sd`` about the median of their five neighbours."""
    half = _NEIGHBOURS // 2
    padded = np.concatenate((np.full(half, np.nan), levels, np.full(half, np.nan)))
    around = row_medians(np.lib.stride_tricks.sliding_window_view(padded, _NEIGHBOURS))
    return np.asarray(around + np.clip(levels - around, -_CLIP * sd, _CLIP * sd))


def change_points(levels: Floats, least: float) -> tuple[int, ...]:
    """Columns at which a new level begins: the segmentation with the least squares and a penalty for each change.

    Exact, by dynamic programming over where the last level began (optimal partitioning, Jackson et al., IEEE Signal
    Processing Letters 12, 2005), in n vector operations; PELT (Killick et al., JASA 107, 2012) finds the same.
    The penalty of a change is 4 ln(n) noise variances, beyond the 3 ln(n) of Schwarz's criterion for a level, its
    position and the noise, so that white noise of 365 nights is cut about once in a hundred series.

    Args:
        levels: of one series, oldest first; there are none to find where some are NaN.
        least: noise is taken to be at least this.
    """
    if levels.size < 2 * _SHORTEST or not np.isfinite(levels).all():
        return ()
    sd = noise(levels, least)
    signal, penalty = calmed(levels, sd) / sd, 4 * math.log(levels.size)
    sums = np.concatenate(([0.0], np.cumsum(signal - signal.mean())))  # squares do not hang on where levels end
    best, began = np.full(levels.size + 1, np.inf), np.zeros(levels.size + 1, dtype=int)
    best[0] = 0.0
    lengths = np.arange(levels.size, 0, -1, dtype=float)  # of a level that ends with the series, by its beginning
    for end in range(_SHORTEST, levels.size + 1):
        starts = slice(0, end - _SHORTEST + 1)
        step = sums[end] - sums[starts]
        costs = best[starts] - step * step / lengths[levels.size - end : levels.size - _SHORTEST + 1]
        began[end] = int(costs.argmin())
        best[end] = costs[began[end]] + penalty
    ends: list[int] = []
    left = int(began[levels.size])
    while left:
        ends.append(left)
        left = int(began[left])
    return tuple(reversed(ends))


def split(levels: Floats) -> int:
    """Column at which the newer of two levels begins, by least squares; 0 with fewer than two nights."""
    y = calmed(levels, noise(levels, 1e-12))
    before = np.cumsum(y)[:-1]
    n = np.arange(1, y.size)
    gain = before**2 / n + (y.sum() - before) ** 2 / (y.size - n)
    return int(np.argmax(gain)) + 1 if gain.size else 0


def drifts(levels: Floats, changes: tuple[int, ...], least: float) -> bool:
    """Whether a straight line describes the nights better than the levels between ``changes`` do.

    Compared by Schwarz's criterion n ln(RSS/n) + p ln(n) with p = 2 for a line and 2m + 1 for m changes. A step that
    was reported when it was new is no drift afterwards.
    """
    sd = noise(levels, least)
    y = calmed(levels, sd)
    n = y.size
    x = np.arange(n)
    slope, start = np.polyfit(x, y, 1)
    parts = np.split(y, list(changes))
    stepped = sum(float(((part - part.mean()) ** 2).sum()) for part in parts if part.size)
    straight = float(((y - slope * x - start) ** 2).sum())

    def criterion(rss: float, parameters: int) -> float:
        return n * math.log(max(rss / n, least**2)) + parameters * math.log(n)

    return criterion(straight, 2) < criterion(stepped, 2 * len(changes) + 1)
