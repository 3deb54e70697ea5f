"""A KLO campaign arranged by condition: everything but K and policy is the condition, K and policy vary within it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from devicelab.analyses import _frames, _stats
from devicelab.analyses.klo.model import NearOptimal, constant_curve, near_optimal_set
from devicelab.analyses.klo.tables import Profile, RunProfile, batches_of, condition_profile, profiles, quantities
from devicelab.model.results import Results

WITHIN = ("k", "policy", "schedule")
_DRAWS = 200
# From so many times more (or fewer) batches than flushes on, the driver groups the kernels by itself.
_REGROUPED = 1.5


@dataclass(frozen=True, eq=False)
class Condition:
    """One condition: the valid runs that differ only in K and policy.

    Attributes:
        levels: factor → level as text, without K and policy.
        label: for people.
        n_kernels: N, ``None`` if unknown.
        curve: total time of an inference in ns with constant K; index repetition, columns K (one flush counts as N).
        policies: policy → total by repetition, for policies other than constant.
        runs: the rows of ``Results.runs``, with the column ``k_flushed`` (K as in ``curve``).
        profile: production times, kernel times and costs; ``None`` without kernel timestamps.
        submitted: batches that the driver really submitted for each that was flushed, constant K from 2 on, median over
            runs; ``None`` if it cannot be told.
    """

    levels: dict[str, str]
    label: str
    n_kernels: int | None
    curve: pd.DataFrame
    policies: dict[str, "pd.Series[float]"]
    runs: pd.DataFrame
    profile: Profile | None
    submitted: float | None = None

    @property
    def follows_k(self) -> bool:
        """Whether the driver submits when it is flushed, as far as can be told: else K is a hint it does not take."""
        return self.submitted is None or 1 / _REGROUPED < self.submitted < _REGROUPED

    @property
    def model(self) -> Profile | None:
        """The profile, if the model of batches may predict from it: not where the driver submits kernels by itself."""
        return self.profile if self.follows_k else None

    @property
    def idle(self) -> bool:
        """Whether no background load runs."""
        return self.levels.get("load", "none") in {"none", "-"}

    @cached_property
    def near(self) -> NearOptimal | None:
        """The near-optimal set of the measured curve; ``None`` with fewer than two K."""
        rows = self.curve.dropna(how="all")
        if rows.shape[1] < 2 or rows.empty:
            return None
        return near_optimal_set(rows.columns.to_numpy(), rows.to_numpy(dtype=np.float64))

    @property
    def manual_k(self) -> int | None:
        """The K of the least measured median."""
        return None if self.near is None else self.near.best

    @property
    def constant_k(self) -> int | None:
        """The constant K that would be chosen: from the model if the costs could be fitted, else the manual one."""
        return self.manual_k if self.model is None else self.model.k

    @cached_property
    def chosen_k(self) -> int | None:
        """The K that would be chosen among those that were run: the best of the model's, else the manual one.

        Policies are judged with it: a K that was not run has no measured time.
        """
        if self.model is None or self.curve.empty:
            return self.manual_k
        curve = constant_curve(self.model.t_prod_ns, self.model.t_ker_ns, self.model.fit.costs)
        ks = [int(k) for k in self.curve.columns]
        return min(ks, key=lambda k: (curve[min(k, curve.size) - 1], k))

    @cached_property
    def k_draws(self) -> NDArray[np.int64]:
        """``constant_k`` from bootstrapped repetitions; empty with too few."""
        if self.model is not None:
            return self.model.k_resampled
        rows = self.curve.dropna()
        if len(rows) < _stats.MIN_BOOTSTRAP or rows.shape[1] < 2:
            return np.empty(0, dtype=np.int64)
        pick = np.random.default_rng(1).integers(0, len(rows), (_DRAWS, len(rows)))
        best = np.argmin(np.median(rows.to_numpy()[pick], axis=1), axis=1)
        chosen: NDArray[np.int64] = np.asarray(rows.columns, dtype=np.int64)[best]
        return chosen

    def measured_k(self, k: int) -> int | None:
        """The measured K nearest to ``k`` (by ratio); ``None`` if no K was measured."""
        ks = [int(value) for value in self.curve.columns]
        return min(ks, key=lambda one: (abs(math.log(one / max(k, 1))), one)) if ks else None

    def total(self, k: int | None) -> "pd.Series[float]":
        """Totals by repetition at the measured K nearest to ``k``; empty if there is none."""
        near = None if k is None else self.measured_k(k)
        return pd.Series(dtype="float64") if near is None else self.curve[near].dropna()

    @cached_property
    def manual(self) -> "pd.Series[float]":
        """Totals by repetition at the manual K, chosen each time from the *other* repetitions.

        A minimum taken from the same data it is judged by would look better than it is.
        """
        rows = self.curve.dropna(axis=1, how="all")
        values = rows.to_numpy(dtype=np.float64)
        if values.shape[0] < 2 or values.shape[1] == 0:
            return pd.Series(dtype="float64")
        chosen = {}
        for number, repetition in enumerate(rows.index):
            others = np.delete(values, number, axis=0)
            known = ~np.isnan(others).all(axis=0)
            middle = np.full(values.shape[1], np.inf)
            middle[known] = np.nanmedian(others[:, known], axis=0)
            chosen[repetition] = values[number, int(np.argmin(middle))]
        return pd.Series(chosen, dtype="float64").dropna()


@dataclass(frozen=True, eq=False)
class KloData:
    """A campaign by condition.

    Attributes:
        conditions: in order of their levels.
        kernels: the table of ``quantities`` of the valid runs; empty without kernel timestamps.
        simulated: an emulated part or a virtual board had a share in it.
        varying: factors with more than one level, the only ones worth naming.
        loaded: whether the experiment has cells with a background load.
    """

    conditions: tuple[Condition, ...]
    kernels: pd.DataFrame
    simulated: bool
    varying: frozenset[str]
    loaded: bool

    def rest(self, condition: Condition, words: Iterable[str]) -> str:
        """The levels of a condition besides those of ``words``, in brackets for the end of a claim; empty if none."""
        left = self.varying - {*words}
        if "load" in words:
            left -= {"placement"}
        text = _frames.label(condition.levels, only=left) if left & condition.levels.keys() else ""
        return "" if text in {"", "all runs"} else f" ({text})"

    def idle_of(self, condition: Condition) -> Condition | None:
        """The condition that differs only in having no load."""
        wanted = {**condition.levels, "load": "none", **({"placement": "-"} if "placement" in condition.levels else {})}
        return next((other for other in self.conditions if other.levels == wanted), None)

    def pairs(self) -> tuple[tuple[Condition, Condition], ...]:
        """(loaded, idle) for every loaded condition that has an idle one."""
        found = ((one, self.idle_of(one)) for one in self.conditions if not one.idle)
        return tuple((loaded, idle) for loaded, idle in found if idle is not None)

    def along(self, words: Iterable[str]) -> tuple[tuple[Condition, ...], ...]:
        """Groups of at least two conditions that differ in nothing but ``words``."""
        varied = frozenset(words)
        groups: dict[tuple[tuple[str, str], ...], list[Condition]] = {}
        for condition in self.conditions:
            rest = tuple((name, text) for name, text in condition.levels.items() if name not in varied)
            groups.setdefault(rest, []).append(condition)
        return tuple(tuple(group) for group in groups.values() if len(group) > 1)


_LOADED: WeakKeyDictionary[Results, KloData] = WeakKeyDictionary()


def load(results: Results) -> KloData:
    """The campaign by condition; computed once for each results object."""
    found = _LOADED.get(results)
    if found is None:
        found = _LOADED[results] = _load(results)
    return found


def _load(results: Results) -> KloData:
    runs = _frames.valid_runs(results)
    raw = results.samples("kernels")
    kernels = raw[raw["run_id"].isin(set(runs["run_id"]))] if len(raw) else raw
    table = quantities(kernels) if len(kernels) else kernels
    by_run = profiles(table) if len(kernels) else {}
    batches = batches_of(table)
    kernels_of = _n_kernels(runs, by_run, results)
    runs = runs.assign(k_flushed=_flushed_k(runs, results, kernels_of), policy=_policy(runs, results))
    totals = _frames.metric(results, "total_ns")
    if totals.empty:
        totals = _frames.metric(results, "total_profiled_ns")
    names = [name for name in _frames.factors(runs) if name not in {*WITHIN, "k_flushed"}]
    shown = _frames.varying(results.runs())  # a level without one valid run is still another level
    conditions = []
    for key, part in _frames.grouped(runs, names).items():
        levels = dict(zip(names, key, strict=True))
        conditions.append(
            Condition(
                levels=levels,
                label=_frames.label(levels, only=[name for name in names if name in shown]),
                n_kernels=_only(kernels_of.loc[part.index]),
                curve=_curve(part, totals),
                policies=_policies(part, totals),
                runs=part,
                profile=condition_profile([by_run[run] for run in part["run_id"] if run in by_run]),
                submitted=_submitted(part, kernels_of, batches),
            )
        )
    loads = results.experiment.factors.get("load", (results.experiment.set.get("load", "none"),))
    return KloData(
        conditions=tuple(conditions),
        kernels=table,
        simulated=_frames.simulated(results),
        varying=shown,
        loaded=any(_frames.level_text(level) not in {"none", "-"} for level in loads),
    )


def _submitted(part: pd.DataFrame, n: "pd.Series[float]", batches: Mapping[str, float]) -> float | None:
    """Batches submitted for each flush of the runs with a constant K that makes a difference."""
    n = n.loc[part.index]
    telling = part[(part["policy"] == "constant") & (part["k_flushed"] > 1) & (n > 1) & part["run_id"].isin(batches)]
    if telling.empty:
        return None
    flushes = np.ceil(n.loc[telling.index] / telling["k_flushed"])
    return float((telling["run_id"].map(batches) / flushes).median())


def _n_kernels(runs: pd.DataFrame, by_run: dict[str, RunProfile], results: Results) -> "pd.Series[float]":
    """N of every run: from its timestamps, else that of all the others or what the program said; NaN if unknown."""
    sizes = runs["run_id"].map({run: profile.t_ker_ns.size for run, profile in by_run.items()}).astype("float64")
    known = _only(sizes)
    if known is None and sizes.isna().all():
        said = {info.get("kernels") for info in results.info.get("programs", {}).values() if isinstance(info, dict)}
        numbers = {number for number in said if isinstance(number, int) and number > 0}
        known = numbers.pop() if len(numbers) == 1 else None
    return sizes if known is None else sizes.fillna(known)


def _only(sizes: "pd.Series[float]") -> int | None:
    found = set(sizes.dropna())
    return int(found.pop()) if len(found) == 1 else None


def _flushed_k(runs: pd.DataFrame, results: Results, n: "pd.Series[float]") -> "pd.Series[int]":
    """K of every run; one flush for everything (K = 0, or K beyond N) counts as N, or as 0 if N is not known."""
    measure = results.experiment.measure
    default = measure.params.get("k", 0) if measure is not None else 0
    column = runs["k"] if "k" in runs.columns else pd.Series(default, index=runs.index)
    k = pd.to_numeric(column, errors="coerce").fillna(0).clip(lower=0)
    return k.where(n.isna() | ((k > 0) & (k < n)), n).astype("int64")


def _policy(runs: pd.DataFrame, results: Results) -> "pd.Series[str]":
    measure = results.experiment.measure
    default = str(measure.params.get("policy", "constant")) if measure is not None else "constant"
    column = runs["policy"] if "policy" in runs.columns else pd.Series(default, index=runs.index)
    return column.map(_frames.level_text).replace("-", "constant")


def _curve(part: pd.DataFrame, totals: "pd.Series[float]") -> pd.DataFrame:
    chosen = part[(part["policy"] == "constant") & (part["k_flushed"] > 0)]
    rows = chosen.assign(total=chosen["run_id"].map(totals)).dropna(subset=["total"])
    rows = rows[rows["total"] > 0]
    rows = rows.drop_duplicates(["repetition", "k_flushed"])
    return rows.pivot_table(index="repetition", columns="k_flushed", values="total", aggfunc="first")


def _policies(part: pd.DataFrame, totals: "pd.Series[float]") -> dict[str, "pd.Series[float]"]:
    found = {}
    for policy, rows in part[part["policy"] != "constant"].groupby("policy"):
        figures = rows.set_index("repetition")["run_id"].map(totals).astype("float64").dropna()
        figures = figures[figures > 0]
        found[str(policy)] = figures[~figures.index.duplicated()]
    return found


def compared(before: "pd.Series[float]", after: "pd.Series[float]") -> _stats.Interval:
    """``after`` over ``before``, repetition by repetition (one block of the shuffled order holds both)."""
    pairs = pd.concat([before, after], axis=1, join="inner").dropna()
    return _stats.paired_ratio(pairs.iloc[:, 0], pairs.iloc[:, 1])
