"""How surely and how soon does a night's comparison see a shift, how often does it cry wolf, and how long does it take?

    python benchmarks/nights_accuracy.py [--nights 365] [--cells 200] [--seeds 2] [--moments 16] [--skip-store]

Made-up histories with known shifts, four kinds of noise. The unit of noise is the standard deviation of a cell's level
from night to night, s (drawn for each cell, 0.4 % to 2.5 % of the figure, 5 repetitions a night). In every history

- runs scatter within a night (a third of s² comes from there), every twentieth night of a cell four times as much,
- 2 % of the runs are outliers (10 % to 60 % slower), 5 % are flagged and missing, 5 % of a device's nights are missing,
- a third of the night's effect is common to all cells of a device (four devices),
- cells shift for good, up or down, by 3 to 8 s, each at one of ``--moments`` moments; others drift by 0.1 or 0.2 s a
  night; an eighth does neither.

``white``: night effects are normal and independent. ``lasting``: correlated with the night before (0.5), as the weather
is. ``heavy``: Student's t with 4 degrees of freedom. ``bad nights``: one device-night in a hundred is off by 4 s in all
its cells.

Rules compared on the same nights: devicelab's; Welch's t-test of the night's runs against the last night's; the
Mann-Whitney test of the night's runs against those of the seven nights before (both with Benjamini-Hochberg at 5 % over
the night's cells); and "median 5 % beyond the last night's". "found" is the share of shifts reported, in the right
direction, in one of the first three nights that measured them; "false" the share of cell-nights reported among cells
that had no shift in the 14 nights before and do not drift. Confirmation by a second measurement in the same night is
not simulated: it can only take away from "false".
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from devicelab.compare import nights
from devicelab.compare.nights.assess import Panel, assess
from devicelab.store import Store
from tests import nightdata

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REPETITIONS, DEVICES, BASELINE, WARM = 5, 4, 7, 40
SIZES = (3.0, 4.0, 5.0, 6.0, 8.0)
DRIFTS = (0.1, 0.2)
NOISES = ("white", "lasting", "heavy", "bad nights")
RULES = ("devicelab", "t-test, last night", "Mann-Whitney, 7 nights", "5 % beyond last night")
ALPHA = 0.05


@dataclass(frozen=True)
class History:
    """Truth and data.

    Attributes:
        values: (cells, nights, repetitions), logarithms, NaN where nothing was measured.
        size, drift: (cells,), in s and s a night; one of them is 0.
        at: (cells,) night of the shift or of the drift's begin; -1 for none.
        sign: (cells,).
    """

    values: Floats
    size: Floats
    drift: Floats
    at: Ints
    sign: Ints


def make(noise: str, cells: int, length: int, moments: int, seed: int) -> History:
    """A history of that kind of noise."""
    rng = np.random.default_rng([seed, NOISES.index(noise)])
    s = np.clip(rng.lognormal(np.log(0.01), 0.4, cells), 0.004, 0.025)
    device = np.arange(cells) % DEVICES

    def effects(rows: int) -> Floats:
        if noise == "heavy":
            return rng.standard_t(4, (rows, length)) / np.sqrt(2)
        fresh = rng.normal(size=(rows, length))
        if noise == "lasting":
            for night in range(1, length):
                fresh[:, night] = 0.5 * fresh[:, night - 1] + np.sqrt(0.75) * fresh[:, night]
        return fresh

    own, common = effects(cells), effects(DEVICES)[device]
    night = np.sqrt(2 / 3) * (np.sqrt(2 / 3) * own + np.sqrt(1 / 3) * common)
    if noise == "bad nights":
        night += 4 * (rng.random((DEVICES, length)) < 0.01)[device]
    scatter = np.sqrt(REPETITIONS / 3) * np.where(rng.random((cells, length)) < 0.05, 4.0, 1.0)
    runs = rng.normal(size=(cells, length, REPETITIONS)) * scatter[..., None]
    kinds = (0.0, *SIZES)
    of = rng.permutation(cells) % (len(kinds) + len(DRIFTS))
    size = np.array([kinds[i] if i < len(kinds) else 0.0 for i in of])
    drift = np.array([DRIFTS[i - len(kinds)] if i >= len(kinds) else 0.0 for i in of])
    chosen = np.linspace(WARM + 10, length - 5, moments).astype(np.int64)
    at = np.where(size > 0, rng.choice(chosen, cells), np.where(drift > 0, length // 3, -1))
    sign = rng.choice(np.array([-1, 1]), cells)
    since = np.maximum(0, np.arange(length) - at[:, None]) * (at >= 0)[:, None]
    moved = sign[:, None] * (size[:, None] * ((np.arange(length) >= at[:, None]) & (at >= 0)[:, None]))
    moved = moved + sign[:, None] * drift[:, None] * since
    values = (night + moved)[..., None] + runs
    values *= s[:, None, None]
    values += np.where(rng.random(values.shape) < 0.02, np.log1p(rng.uniform(0.1, 0.6, values.shape)), 0.0)
    values[rng.random(values.shape) < 0.05] = np.nan
    values[(rng.random((DEVICES, length)) < 0.05)[device]] = np.nan
    return History(values, size, drift, at, sign)


@dataclass
class Compressed:
    """A history without the nights a cell lacks: column of each calendar night, and the panel."""

    panel: Panel
    column: Ints

    @classmethod
    def of(cls, history: History) -> "Compressed":
        """Move measured nights to the left."""
        has = np.isfinite(history.values).any(axis=2)
        order = np.argsort(~has, axis=1, kind="stable")
        values = np.take_along_axis(history.values, order[..., None], axis=1)
        return cls(Panel.of(values, BASELINE), np.where(has, np.cumsum(has, axis=1) - 1, -1))

    def taken(self, cells: Ints, columns: Ints) -> Floats:
        """Runs of one night of each cell."""
        return self.panel.values[cells, columns]


def verdicts(of: Compressed, night: int) -> dict[str, NDArray[np.int64]]:
    """What each rule says of each cell in a night: 1 larger, -1 smaller, 0 nothing; cells without data say nothing."""
    last = of.column[:, night]
    known = last >= BASELINE
    said = {rule: np.zeros(last.size, np.int64) for rule in RULES}
    found = assess(of.panel, np.maximum(last, 0), compared=known)
    said["devicelab"] = np.where(known & found.moved, np.sign(np.nan_to_num(found.shift)), 0).astype(np.int64)
    cells = np.flatnonzero(known)
    now, before = of.taken(cells, last[cells]), of.taken(cells, last[cells] - 1)
    week = of.panel.values[cells[:, None], last[cells, None] - np.arange(1, BASELINE + 1)].reshape(cells.size, -1)
    shift = np.nanmedian(now, axis=1) - np.nanmedian(before, axis=1)
    wide = np.nanmedian(now, axis=1) - np.nanmedian(week, axis=1)
    with np.errstate(all="ignore"):
        t = stats.ttest_ind(now, before, axis=1, equal_var=False, nan_policy="omit").pvalue
        u = stats.mannwhitneyu(now, week, axis=1, nan_policy="omit", method="asymptotic").pvalue
    said[RULES[1]][cells] = _significant(np.asarray(t)) * np.sign(shift)
    said[RULES[2]][cells] = _significant(np.asarray(u)) * np.sign(wide)
    said[RULES[3]][cells] = (np.abs(np.expm1(shift)) > 0.05) * np.sign(shift)
    return said


def _significant(p: Floats) -> NDArray[np.bool_]:
    return np.asarray(stats.false_discovery_control(np.nan_to_num(p, nan=1.0))) <= ALPHA


@dataclass
class Tally:
    """Sums of one noise."""

    shifts: dict[float, int]
    found: dict[tuple[str, float], int]
    quiet: int
    false: dict[str, int]
    drift_nights: dict[float, list[float]]
    seconds: list[float]


def run(noise: str, cells: int, length: int, moments: int, seeds: int) -> Tally:
    """Judge the first three nights of every shift and every tenth night of the drifts."""
    tally = Tally(
        dict.fromkeys(SIZES, 0),
        {(rule, size): 0 for rule in RULES for size in SIZES},
        0,
        dict.fromkeys(RULES, 0),
        {rate: [] for rate in DRIFTS},
        [],
    )
    for seed in range(seeds):
        history = make(noise, cells, length, moments, seed)
        packed = Compressed.of(history)
        measured = packed.column >= 0
        rank = np.cumsum(measured, axis=1)
        # The how-manieth night with data since the shift: 1, 2, 3 are those that count.
        before = np.where(history.at > 0, rank[np.arange(cells), np.maximum(0, history.at - 1)], 0)
        seen = {rule: np.zeros(cells, bool) for rule in RULES}
        first_drift = np.full(cells, np.nan)
        starts = np.unique(history.at[history.size > 0])
        wanted = {int(start) + i for start in starts for i in range(4)} | set(range(length // 3, length, 10))
        for night in sorted(n for n in wanted if WARM <= n < length):
            begun = time.process_time()
            said = verdicts(packed, night)
            tally.seconds.append(time.process_time() - begun)
            nth = rank[:, night] - before
            fresh = (history.size > 0) & (night >= history.at) & (nth >= 1) & (nth <= 3) & measured[:, night]
            calm = (history.drift == 0) & measured[:, night]
            calm &= (history.at < 0) | (night < history.at) | (night > history.at + 14)
            tally.quiet += int(calm.sum())
            for rule, words in said.items():
                seen[rule] |= fresh & (words == history.sign)
                tally.false[rule] += int((calm & (words != 0)).sum())
            drifting = (history.drift > 0) & (night >= history.at) & (said["devicelab"] == history.sign)
            first_drift = np.where(drifting & np.isnan(first_drift), night - history.at, first_drift)
        for size in SIZES:
            of = history.size == size
            tally.shifts[size] += int(of.sum())
            for rule in RULES:
                tally.found[rule, size] += int(seen[rule][of].sum())
        for rate in DRIFTS:
            tally.drift_nights[rate] += first_drift[history.drift == rate].tolist()
    return tally


def show(results: dict[str, Tally]) -> None:
    """The tables of docs/results/nights.md."""
    heads = " | ".join(f"{size:g} s" for size in SIZES)
    print(f"\n| noise | rule | {heads} | false alarms a cell-night |")
    print("|---|---|" + "---|" * (len(SIZES) + 1))
    for noise, tally in results.items():
        for rule in RULES:
            found = " | ".join(f"{100 * tally.found[rule, size] / tally.shifts[size]:.0f} %" for size in SIZES)
            print(f"| {noise} | {rule} | {found} | {100 * tally.false[rule] / tally.quiet:.3f} % |")
    print("\n| noise | drift a night | found | nights until it is, median | 90 % |")
    print("|---|---|---|---|---|")
    for noise, tally in results.items():
        for rate, after in tally.drift_nights.items():
            known = np.array([night for night in after if np.isfinite(night)])
            middle, late = np.quantile(known, [0.5, 0.9]) if known.size else (np.nan, np.nan)
            print(f"| {noise} | {rate:g} s | {known.size} of {len(after)} | {middle:.0f} | {late:.0f} |")
    for noise, tally in results.items():
        print(f"{noise}: {sum(tally.shifts.values())} shifts, {tally.quiet} quiet cell-nights, all rules ", end="")
        print(f"{np.median(tally.seconds):.2f} s of CPU time a night")


def whole_night(cells: int, length: int) -> None:
    """A night judged from a results database, reading included."""
    with tempfile.TemporaryDirectory() as name, Store.open(Path(name) / "nights.sqlite") as store:
        devices = tuple(f"phone-{i}" for i in range(DEVICES))
        history = nightdata.History(nights=length, cells=cells // DEVICES, devices=devices, invalid_every=20)
        newest = nightdata.fill(store, history)[-1]
        found = [_timed(lambda: nights.judge(store, newest, baseline_nights=BASELINE)) for _ in range(3)]
    wall, cpu = (sorted(column)[1] for column in zip(*found, strict=True))
    print(f"\na night of {cells} cells, {length} nights of history, reading included: ", end="")
    print(f"{wall:.1f} s, of which {cpu:.1f} s CPU time (medians of 3)")


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Judge all histories, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=365)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--moments", type=int, default=16, help="at which cells shift")
    parser.add_argument("--noise", default=",".join(NOISES), help="comma-separated")
    parser.add_argument("--skip-store", action="store_true", help="leave out the timing from a results database")
    chosen = parser.parse_args()
    results = {}
    for noise in chosen.noise.split(","):
        results[noise] = run(noise, chosen.cells, chosen.nights, chosen.moments, chosen.seeds)
        print(f"{noise} done", file=sys.stderr, flush=True)
    show(results)
    if not chosen.skip_store:
        whole_night(chosen.cells, chosen.nights)


if __name__ == "__main__":
    main()
