"""Which changes are established: evidence that holds however often one looks, and a night every night is looking. Pure.

A test at 5 % that is made every morning alarms sooner or later. This is the e-process of ``experiment/sequences`` for a
change that may begin in any night: for every night c as the first of a new level, a wealth bets each night on the rank
of that night among all before it. While nothing changes nights may be exchanged, so that a night's rank among those
before it is uniform and independent of their order, and no bet grows on average whatever the distribution of nights:

    E_c = product over nights t >= c of  1 - s + s (m + 1) / a   if x_t is among the a most extreme of its m + 1 nights,
                                         1 - s                   otherwise,         a = j k, k = t - c + 1

The k-th night of a new level is among the k most extreme, so that is what is bet on (j = 1; 2 where levels overlap).
The sum over c is Shiryaev and Roberts' e-detector: without a change it reaches N / alpha within N nights with a chance
of at most alpha (J. Shin, A. Ramdas, A. Rinaldo, "E-detectors: a nonparametric framework for sequential change
detection", New England Journal of Statistics in Data Science 2, 2024).

Neighbouring nights are alike (the weather), so ranks are those of x_t - r x_(t-1), with r the correlation of successive
nights long before t.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devicelab.compare.nights.stats import Floats, Ints, row_medians

YEAR, ALARM = 365, 0.01
ENOUGH = YEAR / ALARM
"""Evidence that establishes a change: of series without any, at most 1 % get there in a year of nights."""
SIGN = 100.0
"""Evidence from which a change is worth another look; a night in a hundred has it without a change."""

_STAKE = 0.9
_WIDTHS = (1, 2)
# A new level is noticed within so many nights, or by the drift windows.
_STARTS = 28
# Nights before the present one from which the correlation is taken end so long before it: a new level looks like one.
_LAG, _LEAST, _MOST = 10, 15, 0.8
_WILD = 2.5


@dataclass(frozen=True)
class Held:
    """Evidence of each series at its last night; arrays of (series,).

    Attributes:
        evidence: the e-detector; it starts anew behind a change that was established.
        alarm: column at which the newest change was established, -1 for none.
        begins: column at which that new level began.
        way: 1 if it is the higher one, -1 if it is the lower one, 0 for none.
    """

    evidence: Floats
    alarm: Ints
    begins: Ints
    way: Ints


def held(levels: Floats, last: Ints, ok: NDArray[np.bool_]) -> Held:
    """The evidence of each series, night after night up to column ``last``; nights that are not ``ok`` are passed over.

    Args:
        levels: (series, nights), oldest first.
        last: (series,) column judged.
        ok: (series, nights) nights that may be compared with it.
    """
    known = ok & np.isfinite(levels) & (np.arange(levels.shape[1]) <= last[:, None])
    order = np.argsort(~known, axis=1, kind="stable")
    count = known.sum(axis=1)
    x = np.where(np.arange(levels.shape[1]) < count[:, None], np.take_along_axis(levels, order, axis=1), np.nan)
    rows = np.arange(x.shape[0])
    bets = np.zeros((rows.size, 2, len(_WIDTHS), _STARTS))
    evidence = np.zeros(rows.size)
    born, alarm, begins, way = (np.full(rows.size, value, dtype=np.int64) for value in (0, -1, -1, 0))
    alike = np.zeros(rows.size)
    for t in range(2, int(count.max(initial=0))):
        now = t < count
        slot_of = t - (t - np.arange(_STARTS)) % _STARTS  # the night each slot's level began in, the newest such
        bets[:, :, :, t % _STARTS] = 1.0
        young = slot_of[None, :] > born[:, None]
        alike = _correlation(x[:, : max(0, t - _LAG)], born, alike)
        bets *= np.where(now[:, None, None, None], _factors(x[:, : t + 1], born, alike, t - slot_of + 1), 1.0)
        by_side = np.where(young[:, None, None, :], bets, 0.0).mean(axis=2)
        found = by_side.mean(axis=1).sum(axis=1)
        evidence = np.where(now, found, evidence)
        for i in np.flatnonzero(now & (found >= ENOUGH)).tolist():
            side, slot = np.unravel_index(int(by_side[i].argmax()), by_side[i].shape)
            alarm[i], begins[i], way[i] = t, slot_of[slot], 1 - 2 * int(side)
            born[i] = begins[i]
            bets[i] = 0.0
    column = np.where(alarm >= 0, order[rows, np.maximum(0, alarm)], -1)
    first = np.where(begins >= 0, order[rows, np.maximum(0, begins)], -1)
    return Held(evidence, column, first, way)


def _factors(x: Floats, born: Ints, alike: Floats, k: Ints) -> Floats:
    """What each bet is multiplied with in the newest night of ``x``: (series, sides, widths, starts)."""
    fresh = x[:, 1:] - alike[:, None] * x[:, :-1]
    # The first night of a level has the one before it on another.
    inside = np.arange(1, x.shape[1] - 1) > born[:, None]
    past, now = fresh[:, :-1], fresh[:, -1:]
    m = inside.sum(axis=1)
    rank = 1 + np.stack([((past >= now) & inside).sum(axis=1), ((past <= now) & inside).sum(axis=1)], axis=1)
    extreme = np.asarray(_WIDTHS)[:, None] * k
    share = np.minimum(1.0, extreme / (m + 1)[:, None, None])[:, None]
    hit = rank[:, :, None, None] <= extreme
    factors = 1 - _STAKE + np.where(hit, _STAKE / share, 0.0)
    return np.asarray(np.where(share >= 0.5, 1.0, factors))  # too few nights to bet against


def _correlation(x: Floats, born: Ints, known: Floats) -> Floats:
    """Of successive nights since ``born``, one standard error on the safe side; as ``known`` where they are too few.

    Wild nights count little.
    """
    inside = np.arange(x.shape[1]) >= born[:, None]
    n = inside.sum(axis=1)
    if not x.shape[1] or (n < _LEAST).all():
        return known
    from_level = np.where(inside, x, np.nan)[n >= _LEAST]
    away = from_level - row_medians(from_level)[:, None]
    scale = row_medians(np.abs(away))[:, None] * 1.4826
    y = np.nan_to_num(np.clip(np.divide(away, scale, out=np.sign(away), where=scale > 0), -_WILD, _WILD))
    power = (y * y).sum(axis=1)
    found = np.divide((y[:, 1:] * y[:, :-1]).sum(axis=1), power, out=np.zeros(len(y)), where=power > 0)
    taken = known.copy()
    taken[n >= _LEAST] = np.clip(found + 1 / np.sqrt(n[n >= _LEAST]), 0.0, _MOST)
    return taken
