"""What ``verdict_truth`` plants and asks: campaigns of four kinds, with the intervals and verdicts of the product.

A part takes the number of a campaign, repetitions and random numbers; it yields each interval with the truth, and each
verdict with what it must not be and what it should be.
"""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from benchmarks import _planted
from benchmarks._planted import LOADED, World
from devicelab.analyses import _stats, lut
from devicelab.analyses.klo import data as klo_data
from devicelab.analyses.klo import findings, production
from devicelab.analyses.klo.checklist import checklist
from devicelab.analyses.klo.common import MEANINGFUL, NEAR_ENOUGH, within
from devicelab.analyses.klo.condition import best_over, compared, over_best
from devicelab.analyses.klo.model import LaunchCosts, best_constant
from devicelab.analyses.priority.data import Service
from devicelab.analyses.priority.figure_of import figure_of
from devicelab.analyses.priority.verdicts import whether_it_hurts
from devicelab.compare import campaigns
from devicelab.model.experiment import Finding


@dataclass(frozen=True)
class Held:
    """An interval that was printed, and the truth."""

    row: str
    truth: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Said:
    """A verdict where something was planted; ``wrong``: what it must not be, ``right``: what it should be."""

    row: str
    verdict: str
    wrong: tuple[str, ...] = ()
    right: tuple[str, ...] = ()


Seen = Held | Said
Part = Callable[[int, int, np.random.Generator], Iterator[Seen]]


def found(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    """By claim."""
    return {one.claim: one for one in findings}


def held(row: str, truth: float, one: Finding | None) -> Iterator[Held]:
    """The interval of a finding, if there is the finding."""
    if one is not None:
        yield Held(row, truth, one.low, one.high)


# --- launch costs, K and T_prod from timestamps ------------------------------------------------------------------

KS = (1, 2, 4, 8, 24)
_N = 24


def worlds() -> tuple[World, ...]:
    """GPU-bound and producer-bound, even and uneven kernels, a flush that grows with its batch, a K that moves far."""
    rng = np.random.default_rng(4)
    even = np.ones(_N)
    uneven = [rng.lognormal(0, 0.5, _N) for _ in range(4)]
    return (
        World(20e3 * even, 18e3 * even, LaunchCosts(8e3, 30e3, 15e3), 2.0),
        World(15e3 * uneven[0], 25e3 * uneven[1], LaunchCosts(10e3, 40e3, 12e3), 3.0),
        World(30e3 * uneven[2], 20e3 * uneven[3], LaunchCosts(12e3, 25e3, 10e3), 0.5),
        World(40e3 * even, 31e3 * even, LaunchCosts(9e3, 30e3, 8e3, 2e3), 1.5),
        World(2e3 * even, 14e3 * even, LaunchCosts(1e3, 30e3, 15e3), 8.0),
    )


@dataclass(frozen=True)
class Truth:
    """Of one world: best constant K idle and under load, speed-ups over K = 1 and regrets in ns by load and K."""

    k: dict[str, int]
    times: dict[str, dict[int, float]]


def truths(world: World, rng: np.random.Generator) -> Truth:
    """K from the model without noise; times of inferences as the median of many runs (noise makes them longer)."""
    best, times = {}, {}
    for load, slower in (("none", 1.0), (LOADED, world.slower)):
        costs = LaunchCosts(
            world.costs.flush_ns * slower,
            world.costs.start_idle_ns,
            world.costs.gap_ns,
            world.costs.flush_per_kernel_ns * slower,
        )
        p = world.p * slower
        best[load] = best_constant(np.concatenate(([0.0], p[1:])), world.g, costs)[0]
        still = np.ones(3000), np.ones(3000)
        times[load] = {
            k: float(np.median(_planted.total(_planted.stamps(world, slower, k, still, 6, rng)))) for k in KS
        }
    return Truth(best, times)


def timestamps(number: int, repetitions: int, rng: np.random.Generator) -> Iterator[Seen]:
    """Costs, K, T_prod and speed-ups of campaigns with kernel timestamps."""
    which = number % len(worlds())
    world = worlds()[which]
    truth = _cached(which)
    results = _planted.timed(world, KS, repetitions, 6, rng)
    costs = found(lut.analyse(results))
    names = {"flush": "Cost of a flush", "start": "Start on an idle GPU", "gap": "Gap between batches"}
    planted = {"flush": world.costs.flush_ns, "start": world.costs.start_idle_ns, "gap": world.costs.gap_ns}
    for load, label in (("none", "idle"), (LOADED, f"load {LOADED}")):
        slower = world.slower if load != "none" else 1.0
        for name, words in names.items():
            one = costs.get(f"{words} ({label})")
            known = one is not None and one.verdict == "info"
            true = planted[name] * (slower if name == "flush" else 1.0) / 1e3
            yield from held(f"{words}", true, one if known else None)
    for name, true in (("cost of a flush", world.slower), ("start on an idle GPU", 1.0)):
        one = costs.get(f"Does the {name} differ at load {LOADED} from idle?")
        yield from held(f"Ratio of the {name}, load / idle", true, one)
    data = klo_data.load(results)
    said = found((*checklist(data), *findings.findings(results, data), *production.findings(data)))
    for load, label in (("none", "idle"), (LOADED, f"load {LOADED}")):
        yield from held("Best constant K", truth.k[load], said.get(f"Best constant K ({label})"))
        times = truth.times[load]
        best = min(times, key=times.__getitem__)
        one = said.get(f"Is the manual K faster than K = 1? ({label})")
        if best != 1:
            yield from held("Speed-up of the manual K over K = 1", times[1] / times[best], one)
        one = said.get(f"Is the model's K within 5% of the manual K? ({label})")
        yield from held("Time at the model's K over the manual K's", 0.0, one)
    differs = said[_QUESTION]
    yield from held("K under load / idle K", truth.k[LOADED] / truth.k["none"], differs)
    shared = _common(truth)
    wrong = {True: ("yes",), False: ("no",)}.get(shared) if shared is not None else ()
    if shared is not None:
        row = "K differs: the same K is the best" if shared else "K differs: no K is within a tenth in both"
        yield Said(row, differs.verdict, wrong or (), ("no",) if shared else ("yes",))
    yield from held("T_prod under load / idle", world.slower, said[f"Does the load change T_prod? (load {LOADED})"])
    for k in KS:
        flushes = [world.costs.flush_ns + world.costs.flush_per_kernel_ns * k] * ((_N - 1) // k)
        true = (world.p[1:].sum() + sum(flushes)) / (_N - 1) / 1e3
        yield from held("T_prod at a K", true, said.get(f"T_prod at K = {k} (idle)"))
    yield from held("T_prod without flushes", world.p[1:].mean() / 1e3, said.get("T_prod without flushes (idle)"))


_QUESTION = "1. Does the constant K under load differ from the constant K when idle?"
_TRUTHS: dict[int, Truth] = {}


def _cached(which: int) -> Truth:
    if which not in _TRUTHS:
        _TRUTHS[which] = truths(worlds()[which], np.random.default_rng(100 + which))
    return _TRUTHS[which]


def _common(truth: Truth) -> bool | None:
    """Whether one measured K is the best in both; ``None`` between that and none being within a tenth."""
    best = {load: min(times, key=times.__getitem__) for load, times in truth.times.items()}
    if len(set(best.values())) == 1:
        return True
    least = min(max(times[k] / min(times.values()) for times in truth.times.values()) for k in KS)
    return False if least > 1.1 else None


EFFECTS = (0.0, 0.02, 0.05, 0.10)


def _effect(claim: str, effect: float, verdict: str, matters: float) -> Said:
    """Wrong are "yes" without an effect, and "no" where it is twice of what matters or more."""
    wrong = ("yes",) if effect == 0 else ("no",) if effect >= 2 * matters else ()
    return Said(f"{claim}: {effect:.0%}", verdict, wrong, ("no",) if effect == 0 else ("yes",))


def production_times(number: int, repetitions: int, rng: np.random.Generator) -> Iterator[Seen]:
    """Whether a load changes T_prod, where it does by 0, 2, 5 or 10%; three K, each run's T_prod as it comes out."""
    effect = EFFECTS[number % len(EFFECTS)]
    drift = _planted.of_blocks(rng, repetitions)
    index = pd.MultiIndex.from_product([range(repetitions), (1, 4, 16)])
    level = np.repeat(drift, 3)

    def runs(slower: float) -> "pd.Series[float]":
        return pd.Series(20e3 * slower * level * _planted.of_runs(rng, level.size), index=index)

    got = compared(runs(1.0), runs(1 + effect))
    yield _effect("T_prod changes with the load", effect, _stats.differs(got, MEANINGFUL), MEANINGFUL)
    yield Held("T_prod under load / idle, three K", 1 + effect, got.low, got.high)


# --- times of inferences alone ------------------------------------------------------------------------------------

_FLAT = (1, 2, 4, 8, 16)


def _curve(best: int, gain: float, least: float = 10.0) -> dict[int, float]:
    return {k: least if k == best else least * (1 + gain) for k in _FLAT}


def inferences(number: int, repetitions: int, rng: np.random.Generator) -> Iterator[Seen]:
    """The checklist, speed-ups and regrets, figures of runs and two campaigns, for effects of 0, 2, 5 and 10%."""
    effect = EFFECTS[number % len(EFFECTS)]
    data = _planted.whole({"none": _curve(4, effect), LOADED: _curve(16, effect, 12.0)}, repetitions, rng)
    idle, loaded = data.conditions
    if idle.manual_k != 1:  # else it is not asked
        speed = best_over(idle, 1)
        yield _effect("Manual K faster than K = 1", effect, _stats.differs(speed, MEANINGFUL), MEANINGFUL)
        yield Held("Speed-up of the manual K over K = 1", 1 + effect, speed.low, speed.high)
    yield _effect("K differs", effect, found(checklist(data))[_QUESTION].verdict, NEAR_ENOUGH)
    one = within("", over_best(loaded, loaded.total_of(idle), constant=True), "")
    wrong = {0.0: ("no",), 0.10: ("yes",)}.get(effect, ())
    right = ("yes",) if effect == 0 else ("no",)
    yield Said(f"Idle K within 5% under load: {effect:.0%} worse", one.verdict, wrong, right)
    # A known winner: the same K is the best of both, by far, and gains less under load.
    kept = {"none": _curve(4, 0.3), LOADED: _curve(4, 1.3 * (1 - effect) - 1)}
    said = found(checklist(_planted.whole(kept, repetitions, rng)))
    drop = said["2. Does the speed-up drop when the idle K is used under load?"]
    yield _effect("Speed-up drops", effect, drop.verdict, 0.05)
    yield from held("Speed-up under load / idle", 1 - effect, drop)
    keeps = said["3. Does the K found under load keep the speed-up under load?"]
    wrong = {0.0: ("no",), 0.10: ("yes",)}.get(effect, ())
    yield Said(f"Speed-up kept: {effect:.0%} lost", keeps.verdict, wrong, ("yes",) if effect == 0 else ("no",))
    row = f"K differs, the same K far the best: gains {effect:.0%} less"
    yield Said(row, said[_QUESTION].verdict, ("yes",), ("no",))
    yield from _of_runs(effect, repetitions, rng)


def _of_runs(effect: float, repetitions: int, rng: np.random.Generator) -> Iterator[Seen]:
    drift = _planted.of_blocks(rng, repetitions)
    before, after = (10 * slower * drift * _planted.of_runs(rng, repetitions) for slower in (1.0, 1 + effect))
    change = _stats.paired_ratio(before, after)
    yield _effect("Time changes with the load", effect, _stats.differs(change, 0.02), 0.02)
    yield Held("Time under load / idle", 1 + effect, change.low, change.high)
    level = _stats.median_interval(before)
    yield Held("Time", 10.0, level.low, level.high)
    if effect > 0:
        wrong = ("pass",) if effect == 0.10 else ()
        bounds = (("time", level, 10 / (1 + effect)), ("ratio", change, 1.0))
        for name, got, bound in bounds:
            verdict = _stats.kept(got.low, got.high, partial(operator.gt, bound))  # the bound is greater
            yield Said(f"Check of a {name}: {effect:.0%} beyond the bound", verdict, wrong, ("fail",))
    other = 10 * (1 + effect) * _planted.of_blocks(rng, repetitions) * _planted.of_runs(rng, repetitions)
    apart = _stats.ratio(before, other)
    yield _effect("Two campaigns differ", effect, _stats.differs(apart, campaigns.TOLERANCE), campaigns.TOLERANCE)
    yield Held("Ratio of two campaigns", 1 + effect, apart.low, apart.high)


# --- requests of tenants -----------------------------------------------------------------------------------------

_REQUESTS, _AGAIN, _SPREAD = 300, 0.8, 0.2
_QUANTILES = {"P50": 0.5, "P99": 0.99}
_REQUEST_TRUTH: dict[str, float] = {}


def _responses(runs: int, rng: np.random.Generator) -> np.ndarray:
    """Response times of requests in ns: each depends on the one before, and one in fifty is long."""
    times = 10e6 * _planted.lasting(rng, runs, _REQUESTS, _AGAIN, _SPREAD)
    long = rng.random(times.shape) < 0.02
    times[long] *= 1 + rng.exponential(1.0, int(long.sum()))
    return times


def _of_requests() -> dict[str, float]:
    many = _responses(6000, np.random.default_rng(9))
    return {name: float(np.median([_stats.run_quantile(run, q) for run in many])) for name, q in _QUANTILES.items()}


def requests(number: int, repetitions: int, rng: np.random.Generator) -> Iterator[Seen]:
    """Latencies and shares of a tenant, slower beside its neighbour by 0, 5, 10 or 25%."""
    if not _REQUEST_TRUTH:
        _REQUEST_TRUTH.update(_of_requests())
    effect = (0.0, 0.05, 0.10, 0.25)[number % len(EFFECTS)]
    drift = _planted.of_blocks(rng, repetitions)
    services = {}
    for leg, slower, rate in (("standalone", 1.0, 100.0), ("native", 1 + effect, 50.0)):
        times = slower * (drift * _planted.of_runs(rng, repetitions))[:, None] * _responses(repetitions, rng)
        rows = {f"response q{q}": [_stats.run_quantile(run, q) for run in times] for q in (0.5, 0.99)}
        rows["throughput_per_s"] = list(rate / (drift * _planted.of_runs(rng, repetitions)))
        key = ("high", leg, "")
        flat = times.ravel().astype(np.int64)
        services[key] = Service(*key, flat, flat, pd.DataFrame(rows, index=range(repetitions)))
    shared = services["high", "native", ""]
    for name in _QUANTILES:
        ratio = figure_of(shared, f"{name.lower()}_ratio", services)
        yield Held(f"{name}, shared / alone", 1 + effect, ratio.low, ratio.high)
        wrong = {0.0: ("yes",), 0.25: ("no",)}.get(effect, ())
        right = ("no",) if effect == 0 else ("yes",) if effect > 0.1 else ()
        yield Said(f"Sharing hurts {name}: {effect:.0%}", whether_it_hurts(ratio), wrong, right)
        level = figure_of(shared, f"{name.lower()}_ms", services)
        yield Held(f"{name} of a tenant", _REQUEST_TRUTH[name] / 1e6 * (1 + effect), level.low, level.high)
    share = figure_of(shared, "share_pct", services)
    yield Held("Share of standalone throughput", 50.0, share.low, share.high)


PARTS: dict[str, Part] = {
    "timestamps": timestamps,
    "production": production_times,
    "inferences": inferences,
    "requests": requests,
}
TURNS = {"timestamps": 1, "production": len(EFFECTS), "inferences": len(EFFECTS), "requests": len(EFFECTS)}
"""So many effects take turns in a part; a campaign of a part plants one of them. The first is none."""
