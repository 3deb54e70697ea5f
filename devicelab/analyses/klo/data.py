"""A KLO campaign arranged by condition: everything but K and policy is the condition, K and policy vary within it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import pandas as pd

from devicelab.analyses import _frames, _production
from devicelab.analyses.klo.condition import Condition
from devicelab.analyses.klo.driver import driver_of
from devicelab.analyses.klo.tables import condition_profile
from devicelab.analyses.klo.told import RunTold, tell
from devicelab.model.results import Results, portions

WITHIN = ("k", "policy", "schedule")


@dataclass(frozen=True, eq=False)
class KloData:
    """A campaign by condition.

    Attributes:
        conditions: in order of their levels.
        told: what the kernels of the valid runs say, by run; empty without kernel timestamps.
        simulated: an emulated part or a virtual board had a share in it.
        varying: factors with more than one level, the only ones worth naming.
        loaded: whether the experiment has cells with a background load.
    """

    conditions: tuple[Condition, ...]
    told: Mapping[str, RunTold]
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


_SHARES = ("early", "soon")
_LOADED: WeakKeyDictionary[Results, KloData] = WeakKeyDictionary()


def load(results: Results) -> KloData:
    """The campaign by condition; computed once for each results object."""
    found = _LOADED.get(results)
    if found is None:
        found = _LOADED[results] = _load(results)
    return found


def _load(results: Results) -> KloData:
    runs = _frames.valid_runs(results)
    told = _told(results, runs)
    kernels_of = _n_kernels(runs, {run: one.n for run, one in told.items()}, results)
    runs = runs.assign(k_flushed=_flushed_k(runs, results, kernels_of), policy=_policy(runs, results))
    totals = _frames.metric(results, "total_ns")
    if totals.empty:
        totals = _frames.metric(results, "total_profiled_ns")
    names = [name for name in _frames.factors(runs) if name not in {*WITHIN, "k_flushed"}]
    shown = _frames.varying(results.runs())  # a level without one valid run is still another level
    grouped = _frames.grouped(runs, names)
    early, soon = ({run: x for run, one in told.items() if (x := getattr(one, name)) is not None} for name in _SHARES)
    conditions = []
    for key, part in grouped.items():
        driver = driver_of(part, early, soon)
        profiles = {run: told[run].batches(driver).profile for run in part["run_id"] if run in told}
        known = {run: profile for run, profile in profiles.items() if profile is not None}
        timed = part[part["run_id"].isin(known)]
        levels = dict(zip(names, key, strict=True))
        conditions.append(
            Condition(
                levels=levels,
                label=_frames.label(levels, only=[name for name in names if name in shown]),
                n_kernels=_only(kernels_of.loc[part.index]),
                curve=_curve(part, totals),
                policies=_policies(part, totals),
                runs=part,
                profile=condition_profile(list(known.values()), timed["repetition"].tolist()),
                driver=driver,
                beyond=_beyond(part, kernels_of),
            )
        )
    loads = results.experiment.factors.get("load", (results.experiment.set.get("load", "none"),))
    return KloData(
        conditions=tuple(conditions),
        told=told,
        simulated=_frames.simulated(results),
        varying=shown,
        loaded=any(_frames.level_text(level) not in {"none", "-"} for level in loads),
    )


def _told(results: Results, runs: pd.DataFrame) -> dict[str, RunTold]:
    """What the kernels of each run say."""
    runs = runs.assign(policy=_policy(runs, results))
    schedules = _schedules(runs, results)
    told: dict[str, RunTold] = {}
    for part in portions(results, "kernels", runs["run_id"]):
        sizes = part.groupby("run_id", observed=True)["kernel"].max() + 1
        own = runs[runs["run_id"].isin(sizes.index)]
        n = own["run_id"].map(sizes.to_dict()).astype("float64")
        told |= tell(part, own.assign(k_flushed=_flushed_k(own, results, n)), schedules)
    if all(one.program is not None for one in told.values()):
        _production.note(results, {(str(one.program), run): one.t_prod_ns for run, one in told.items()})
    return told


def _schedules(runs: pd.DataFrame, results: Results) -> dict[str, tuple[int, ...]]:
    """Batch lengths of the runs with a static schedule, as far as they can be read."""
    measure = results.experiment.measure
    default = measure.params.get("schedule", "") if measure is not None else ""
    found = {}
    for run in runs[runs["policy"] == "static"].to_dict("records"):
        level = run.get("schedule", default)
        words = level if isinstance(level, list | tuple) else str(level).replace(",", " ").split()
        lengths = tuple(int(word) for word in words if str(word).isdecimal() and int(word) > 0)
        if lengths and len(lengths) == len(words):
            found[str(run["run_id"])] = lengths
    return found


def _beyond(part: pd.DataFrame, n: "pd.Series[float]") -> tuple[int, ...]:
    """Levels of K above the number of kernels."""
    if "k" not in part.columns:
        return ()
    k = pd.to_numeric(part["k"], errors="coerce").fillna(0)
    return tuple(sorted({int(one) for one in k[(k > n.loc[part.index]) & (part["policy"] == "constant")]}))


def _n_kernels(runs: pd.DataFrame, counted: Mapping[str, int], results: Results) -> "pd.Series[float]":
    """N of every run: from its timestamps, else that of all the others or what the program said; NaN if unknown."""
    sizes = runs["run_id"].map(counted).astype("float64")
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
