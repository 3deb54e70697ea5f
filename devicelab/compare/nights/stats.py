"""Shifts between groups of nights: estimates, their noise learned from nights in which nothing changed, intervals.

The repetitions of one night share its temperature, its boot and its battery, so the night is the unit: it is first
reduced to its *level*, the Hodges-Lehmann location of its repetitions. Arrays are (series, nights), oldest first; a
series' nights without data are left out before, so columns count nights that measured it. All functions are pure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CHUNK = 1 << 22
_Q50, _Q90 = 0.6744897501960817, 1.6448536269514722
"""Quantiles of the absolute value of a standard normal variable at 50 % and 90 %."""


@dataclass(frozen=True)
class Window:
    """Which nights are compared: the newest ``k``, with the baseline's that end ``gap`` nights before those."""

    k: int
    gap: int = 0

    def reach(self, b: int) -> int:
        """Nights from the baseline's first to the newest one."""
        return self.k + self.gap + b


def locations(values: Floats) -> Floats:
    """Hodges-Lehmann location (median of the means of all pairs) of each row, NaN left out; NaN for an empty row.

    ``values`` is (..., n); ties of a value with itself are pairs too (Hodges and Lehmann 1963).
    """
    rows = np.sort(values.reshape(-1, values.shape[-1]), axis=1)  # NaN goes to the end
    counts = np.isfinite(rows).sum(axis=1)
    medians = np.full(rows.shape[0], np.nan)
    for n in np.unique(counts[counts > 0]).tolist():
        first, second = np.triu_indices(n)
        which = np.flatnonzero(counts == n)
        for part in np.array_split(which, max(1, which.size * first.size // _CHUNK)):
            chosen = rows[part, :n]
            medians[part] = np.median((chosen[:, first] + chosen[:, second]) / 2, axis=1)
    return medians.reshape(values.shape[:-1])


def shift(window: Floats, base: Floats) -> Floats:
    """Hodges-Lehmann shift of each row: median of all differences window − base; (..., k) and (..., b) → (...).

    NaN is left out; a row that has none on one side is NaN.
    """
    lead = window.shape[:-1]
    w, b = window.reshape(-1, window.shape[-1]), base.reshape(-1, base.shape[-1])
    shifts = np.full(w.shape[0], np.nan)
    pairs = w.shape[1] * b.shape[1]
    for part in np.array_split(np.arange(w.shape[0]), max(1, w.shape[0] * pairs // _CHUNK)):
        differences = (w[part, :, None] - b[part, None, :]).reshape(part.size, pairs)
        shifts[part] = row_medians(differences)
    return shifts.reshape(lead)


def row_medians(rows: Floats) -> Floats:
    """Medians of rows without their NaN (``np.nanmedian`` is slow and warns)."""
    ordered = np.sort(rows, axis=1)
    n = np.isfinite(ordered).sum(axis=1)
    at = np.arange(rows.shape[0])
    low, high = ordered[at, np.maximum(0, (n - 1) // 2)], ordered[at, np.minimum(n // 2, rows.shape[1] - 1)]
    return np.where(n > 0, (low + high) / 2, np.nan)


def history(levels: Floats, window: Window, b: int) -> Floats:
    """The shift at every past night as it would have been seen then; NaN where the window has no full history.

    (series, nights) → (series, nights); column j compares nights j−k+1..j with their baseline of ``b`` nights.
    """
    middles = np.full(levels.shape, np.nan)
    reach = window.reach(b)
    if levels.shape[1] >= reach:
        seen = sliding_window_view(levels, reach, axis=1)
        middles[:, reach - 1 :] = shift(seen[..., reach - window.k :], seen[..., :b])
    return middles


def spread(shifts: Floats) -> tuple[Floats, Ints]:
    """Robust standard deviation of each row about 0, and how many values it rests on.

    The larger of two estimates, from the 50 % and from the 90 % quantile of the absolute values: the second sees tails
    that the first does not, and up to a tenth of nights in which something did change moves neither much.
    """
    sizes = np.sort(np.abs(shifts), axis=1)
    n = np.isfinite(sizes).sum(axis=1)
    quantiles = [_quantile(sizes, n, q) / unit for q, unit in ((0.5, _Q50), (0.9, _Q90))]
    return np.maximum(*quantiles), n


def _quantile(ordered: Floats, n: Ints, q: float) -> Floats:
    """Quantile of rows that are sorted and have ``n`` values each; NaN for none."""
    if ordered.shape[1] == 0:
        return np.full(ordered.shape[0], np.nan)
    place = q * np.maximum(0, n - 1)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(0, n - 1))
    rows = np.arange(ordered.shape[0])
    value = ordered[rows, low] + (place - low) * (ordered[rows, high] - ordered[rows, low])
    return np.where(n > 0, value, np.nan)


def standard_errors(values: Floats) -> Floats:
    """Of each night's level, from its repetitions alone: 1.4826 median absolute deviations over the root of n.

    One wild repetition of five does not move it, as it does not move the level. NaN below two repetitions.
    """
    n = np.isfinite(values).sum(axis=-1)
    rows = values.reshape(-1, values.shape[-1])
    deviations = row_medians(np.abs(rows - row_medians(rows)[:, None])).reshape(n.shape)
    return np.where(n > 1, 1.4826 * deviations / np.sqrt(np.maximum(1, n)), np.nan)


def bootstrap(
    window: Floats, base: Floats, effects: Floats, *, resamples: int, inner: int, seed: int
) -> tuple[Floats, Floats]:
    """95 % percentile interval of ``shift`` of the levels, per series: nights are resampled, then repetitions.

    Baseline nights are drawn with replacement and their repetitions within them. The window's nights are what they
    are, but each could as well have been another night: to its resampled level one of ``effects`` is added, freed of
    the part that comes from repetitions (which the resampling of repetitions brings in already).

    Args:
        window: (series, k, repetitions), NaN where there is none.
        base: (series, b, repetitions).
        effects: (series, any number), by how much single nights lay off, NaN where there is none.
        resamples: of nights.
        inner: resampled levels prepared of each night.
        seed: of the random draws.

    Returns:
        Lower and upper bounds, (series,); NaN where one side is empty.
    """
    rng = np.random.default_rng(seed)
    series, k, _ = window.shape
    drawn_window, drawn_base = _resampled(window, inner, rng), _resampled(base, inner, rng)
    known = np.isfinite(drawn_base[..., 0])
    b, m = known.sum(axis=1), np.isfinite(effects).sum(axis=1)
    drawn = np.sort(effects, axis=1)
    total = np.nansum(effects**2, axis=1) / np.maximum(1, m)
    within = np.where(known, drawn_base.var(axis=2), 0.0).sum(axis=1) / np.maximum(1, b)
    drawn *= np.sqrt(np.clip(1 - within / np.where(total > 0, total, 1.0), 0.0, 1.0))[:, None]
    # Nights with data first, so that a drawn number below b is one of them.
    order = np.argsort(~known, axis=1, kind="stable")
    rows = np.arange(series)[:, None, None]
    picked = (rng.random((series, resamples, base.shape[1])) * b[:, None, None]).astype(np.int64)
    nights = np.take_along_axis(order, picked.reshape(series, -1), axis=1).reshape(picked.shape)
    fresh_base = drawn_base[rows, nights, rng.integers(inner, size=nights.shape)]
    # A baseline of three nights is resampled as three, not as seven.
    fresh_base[np.broadcast_to(np.arange(base.shape[1]) >= b[:, None, None], fresh_base.shape)] = np.nan
    other = (rng.random((series, resamples, k)) * m[:, None, None]).astype(np.int64)
    fresh_window = drawn_window[rows, np.arange(k), rng.integers(inner, size=other.shape)]
    fresh_window += np.where(m[:, None, None] > 0, drawn[rows, other], 0.0)
    shifts = np.sort(shift(fresh_window, fresh_base), axis=1)
    n = np.isfinite(shifts).sum(axis=1)
    return _quantile(shifts, n, 0.025), _quantile(shifts, n, 0.975)


def _resampled(values: Floats, inner: int, rng: np.random.Generator) -> Floats:
    """Levels of nights whose repetitions were drawn with replacement: (series, nights, repetitions) → (…, inner)."""
    ordered = np.sort(values, axis=-1)
    n = np.isfinite(ordered).sum(axis=-1)
    series, nights, most = ordered.shape
    picks = (rng.random((series, nights, inner, most)) * n[..., None, None]).astype(np.int64)
    drawn = np.take_along_axis(ordered[:, :, None, :], picks, axis=-1)
    drawn[np.arange(most) >= np.broadcast_to(n[..., None, None], drawn.shape)] = np.nan
    return locations(drawn)
