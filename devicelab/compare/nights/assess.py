"""Every series of a night against its own past: which windows moved, how surely, and by more than what matters."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from devicelab.analyses._stats import benjamini_hochberg
from devicelab.compare.nights import stats, trend
from devicelab.compare.nights.held import Held, held
from devicelab.compare.nights.stats import Floats, Ints, Window

FLOOR = 0.01
"""Smallest relative shift that is worth a person's morning, however quiet the cell is."""
RESOLUTION = 0.001
"""Relative noise that any figure has at least: one that never varied may do so tomorrow."""
MIN_NIGHTS = 3
"""Baseline nights below which nothing is compared."""
ALPHA = 0.05
_LEARNT = 20
"""Earlier shifts from which their spread is taken; with fewer it follows from the spread of the levels."""
_RECENT = 28
_FEW_EFFECTS = 8
_THRESHOLD = 2.5758293035489004
"""99 % of shifts lie within so many standard deviations if nothing changed."""
_RESAMPLES, _INNER = 1000, 100

WINDOWS = (Window(1), Window(3), Window(7), Window(7, gap=14), Window(7, gap=70))
"""The night alone; three and seven nights together, for shifts that one night cannot show; and for drifts the last
week against weeks three and twelve weeks ago."""


@dataclass(frozen=True)
class Panel:
    """The past of many series, prepared once; columns count the nights of each series from its first.

    Attributes:
        values: (series, nights, repetitions) in the scale that is compared (logarithms, or shares of a level).
        levels, errors: (series, nights), the nights' locations and their standard errors.
        shifts: of each window, (series, nights): what was or would have been seen at each night.
        b: nights of a baseline.
    """

    values: Floats
    levels: Floats
    errors: Floats
    shifts: tuple[Floats, ...]
    b: int

    @classmethod
    def of(cls, values: Floats, b: int) -> "Panel":
        """Prepare; nights a series lacks stand at the end as NaN."""
        levels = stats.locations(values)
        shifts = tuple(stats.history(levels, window, b) for window in WINDOWS)
        return cls(values, levels, stats.standard_errors(values), shifts, b)


@dataclass(frozen=True)
class Assessment:
    """What is known of each series at a night, arrays of (series,); relative units, NaN where nothing can be said.

    Attributes:
        window: index of the window that decides.
        shift, low, high: with the 95 % bootstrap interval.
        p, q: of any window having moved (Bonferroni over them), and after Benjamini-Hochberg over the series.
        threshold: smallest shift that counts in that window.
        first: column in which the window begins; ``base``: (series, nights), the baseline's columns.
        moved: surely, by more than counts, and with an interval that leaves 0 out.
        begins: column in which a new level begins: of those that moved, the best split of the nights compared, from
            which the estimate starts then; of others the newest change point near; -1 if there is none.
        tonight, tonight_sd: shift of the night alone, whichever window decides, and its standard deviation.
        evidence: that the level changed, however often one looked (``held``).
        established: it did lately, and that is why it moved, or one more reason for it.
    """

    window: Ints
    shift: Floats
    low: Floats
    high: Floats
    p: Floats
    q: Floats
    threshold: Floats
    first: Ints
    base: NDArray[np.bool_]
    moved: NDArray[np.bool_]
    begins: Ints
    tonight: Floats
    tonight_sd: Floats
    evidence: Floats
    established: NDArray[np.bool_]

    def at(self, series: int) -> "One":
        """The numbers of one series."""
        return One(**{field.name: getattr(self, field.name)[series].item() for field in fields(One)})


@dataclass(frozen=True)
class One:
    """``Assessment`` of one series; the fields are some of its."""

    window: int
    shift: float
    low: float
    high: float
    p: float
    q: float
    threshold: float
    moved: bool
    tonight: float
    tonight_sd: float
    evidence: float
    established: bool


def assess(
    panel: Panel,
    last: Ints,
    *,
    usable: NDArray[np.bool_] | None = None,
    compared: NDArray[np.bool_] | None = None,
    seed: int = 1,
) -> Assessment:
    """Judge column ``last`` of each series against the columns before it; nothing after it is looked at.

    Args:
        panel: the series.
        last: (series,) column of the night judged.
        usable: (series, nights) nights that may be compared with it; by default all before it. The spread of shifts is
            learned from all of them in any case.
        compared: (series,) those that are judged; others get their figures, but no part in the family of tests.
        seed: of the bootstrap.
    """
    series, nights = panel.levels.shape
    column = np.arange(nights)
    past = column < last[:, None]
    ok = (past if usable is None else past & usable) | (column == last[:, None])
    changes = [trend.change_points(panel.levels[i, : last[i] + 1], RESOLUTION) for i in range(series)]
    typical = stats.locations(np.where(past, panel.errors, np.nan)) ** 2
    rows = [_compared(panel, number, last, past, ok, typical) for number in range(len(WINDOWS))]
    p = np.stack([row.p for row in rows], axis=1)
    for i, number in np.argwhere(p < ALPHA).tolist():
        begin = max(0, int(last[i]) + 1 - WINDOWS[number].reach(panel.b))
        if WINDOWS[number].gap and not _drifts(panel.levels[i], begin, int(last[i]), changes[i]):
            p[i, number] = 1.0
    tests = np.isfinite(p).sum(axis=1)
    best = np.where(np.isfinite(p), p, np.inf).argmin(axis=1)
    at = np.arange(series)
    together = np.where(tests > 0, np.minimum(1.0, p[at, best] * tests), np.nan)
    window = np.where(together < ALPHA, best, 0)
    q = np.full(series, np.nan)
    known = np.isfinite(together) if compared is None else np.isfinite(together) & compared
    q[known] = benjamini_hochberg(together[known])
    moves, threshold, base = (
        np.stack([getattr(row, name) for row in rows], axis=1)[at, window] for name in ("shift", "threshold", "base")
    )
    kept = held(panel.levels, last, ok)
    lasting = _lately(kept, last, ok, panel.b) & (True if compared is None else compared)
    by_night = (q <= ALPHA) & (np.abs(moves) >= threshold)
    first = last + 1 - np.array([one.k for one in WINDOWS])[window]
    begins = np.array([_recent_change(of, f - panel.b) for of, f in zip(changes, first.tolist(), strict=True)])
    for i in np.flatnonzero(by_night | lasting).tolist():
        if lasting[i]:
            begins[i] = kept.begins[i]
        else:
            begins[i] = -1 if WINDOWS[window[i]].gap else _begin(panel.levels[i], base[i], ok[i], int(last[i]))
        before = ok[i] & (column < begins[i])
        if before.sum() >= MIN_NIGHTS:
            first[i], base[i] = begins[i], before & (before[::-1].cumsum()[::-1] <= panel.b)
    newer = ok & (column >= first[:, None]) & (column <= last[:, None])
    again = stats.shift(_taken(panel.levels, newer), _taken(panel.levels, base))
    moves = np.where(np.isfinite(moves), again, np.nan)
    lasting = lasting & (np.sign(moves) == kept.way) & (np.abs(moves) >= FLOOR)
    sure = by_night | lasting
    low, high = stats.bootstrap(
        _taken(panel.values, newer),
        _taken(panel.values, base),
        _effects(panel, past & (column >= (last - _RECENT)[:, None]), base),
        resamples=_RESAMPLES,
        inner=_INNER,
        seed=seed,
    )
    return Assessment(
        window=window,
        shift=moves,
        low=low,
        high=high,
        p=together,
        q=q,
        threshold=np.where(lasting, FLOOR, threshold),
        first=first,
        base=base,
        moved=sure & ((low > 0) | (high < 0)),
        begins=begins,
        tonight=rows[0].shift,
        tonight_sd=rows[0].scale,
        evidence=kept.evidence,
        established=lasting,
    )


def _lately(kept: Held, last: Ints, ok: NDArray[np.bool_], b: int) -> NDArray[np.bool_]:
    """A change was established within the last ``b`` nights, and enough nights before it are known."""
    column = np.arange(ok.shape[1])
    before = (ok & (column < kept.begins[:, None])).sum(axis=1)
    return np.asarray((kept.alarm >= 0) & (last - kept.alarm < b) & (before >= MIN_NIGHTS))


def _recent_change(changes: tuple[int, ...], earliest: int) -> int:
    return changes[-1] if changes and changes[-1] > earliest else -1


def _begin(levels: Floats, base: NDArray[np.bool_], ok: NDArray[np.bool_], last: int) -> int:
    """Column at which the new level begins, of those compared."""
    columns = np.flatnonzero(
        ok & (np.arange(levels.size) >= np.flatnonzero(base)[0]) & (np.arange(levels.size) <= last)
    )
    return int(columns[trend.split(levels[columns])])


def _effects(panel: Panel, recent: NDArray[np.bool_], base: NDArray[np.bool_]) -> Floats:
    """By how much recent nights lay off those before them; of a young series, off the middle of its baseline.

    Both are widened or narrowed to what one night lays off a level that is known; clipped where nights that did change
    would stick out.
    """
    shifts = np.where(recent, panel.shifts[0], np.nan) / np.sqrt(1 + 1 / panel.b)
    limit = (_THRESHOLD * stats.spread(shifts)[0])[:, None]
    levels = np.where(base, panel.levels, np.nan)
    n = base.sum(axis=1)[:, None]
    young = (levels - stats.locations(levels)[:, None]) * np.sqrt(n / np.maximum(1, n - 1))
    many = np.isfinite(shifts).sum(axis=1)[:, None] >= _FEW_EFFECTS
    return _taken(np.where(many, np.clip(shifts, -limit, limit), young), np.where(many, np.isfinite(shifts), base))


@dataclass(frozen=True)
class _Row:
    """One window of every series."""

    shift: Floats
    scale: Floats
    p: Floats
    threshold: Floats
    base: NDArray[np.bool_]


def _compared(
    panel: Panel, number: int, last: Ints, past: NDArray[np.bool_], ok: NDArray[np.bool_], typical: Floats
) -> _Row:
    from scipy.stats import t as student

    window, b = WINDOWS[number], panel.b
    column = np.arange(panel.levels.shape[1])
    start = (last + 1 - window.k)[:, None]
    inside = (column >= start) & (column <= last[:, None])
    base = ok & (column >= start - window.gap - b) & (column < start - window.gap)
    whole = (inside & ok & np.isfinite(panel.levels)).sum(axis=1) == window.k
    count = base.sum(axis=1)
    enough: NDArray[np.bool_] = np.logical_and(whole, count >= MIN_NIGHTS)
    moved = stats.shift(_taken(panel.levels, inside & ok), _taken(panel.levels, base))
    spread, learnt = stats.spread(np.where(past, panel.shifts[number], np.nan))
    share = 1 / window.k + 1 / np.maximum(1, count)
    from_shifts = spread * np.sqrt(share / (1 / window.k + 1 / b))
    recent = past & (column >= (last - _RECENT)[:, None])
    deviation, held = _deviation(np.where(recent, panel.levels, np.nan))
    from_levels = deviation * np.sqrt(share)
    many = learnt >= _LEARNT
    scale = np.where(many, from_shifts, from_levels)
    freedom = np.where(many, learnt / window.k, held - 1)
    if window.gap:  # a drift is part of the spread of few nights, and would hide in it
        enough &= many
    # A night with fewer repetitions, or with more scatter than the nights that the spread comes from, proves less.
    errors = np.where(inside & ok, panel.errors**2, np.nan)
    wide = np.nansum(errors, axis=1) / window.k**2
    usual = np.nan_to_num(typical) / window.k
    excess = np.where(wide > 4 * usual, wide - usual, 0.0)
    scale = np.maximum(np.sqrt(scale**2 + excess), RESOLUTION * np.sqrt(share))
    p = 2 * student.sf(np.abs(moved) / scale, np.maximum(1, freedom))
    return _Row(
        moved,
        scale,
        np.where(enough, p, np.nan),
        np.where(enough, np.maximum(FLOOR, _THRESHOLD * scale), np.nan),
        base & enough[:, None],
    )


def _deviation(levels: Floats) -> tuple[Floats, Ints]:
    """Standard deviation of each row's values, NaN left out, and their number; NaN below two."""
    known = np.isfinite(levels)
    n = known.sum(axis=1)
    mean = np.where(known, levels, 0.0).sum(axis=1) / np.maximum(1, n)
    squares = np.where(known, (levels - mean[:, None]) ** 2, 0.0).sum(axis=1)
    return np.where(n > 1, np.sqrt(squares / np.maximum(1, n - 1)), np.nan), n


def _taken(values: Floats, chosen: NDArray[np.bool_]) -> Floats:
    """The chosen columns of each row, oldest first, filled with NaN: (series, nights, ...) → (series, most, ...)."""
    most = max(1, int(chosen.sum(axis=1).max(initial=1)))
    order = np.argsort(~chosen, axis=1, kind="stable")[:, :most]
    held = np.take_along_axis(chosen, order, axis=1)
    rows = np.arange(values.shape[0])[:, None]
    taken = values[rows, order]
    return np.where(held.reshape(held.shape + (1,) * (values.ndim - 2)), taken, np.nan)


def _drifts(levels: Floats, begin: int, last: int, changes: tuple[int, ...]) -> bool:
    inside = tuple(change - begin for change in changes if begin < change <= last)
    return trend.drifts(levels[begin : last + 1], inside, RESOLUTION)
