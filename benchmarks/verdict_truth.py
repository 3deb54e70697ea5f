"""Do the intervals that devicelab prints hold the truth, and how often is a "yes" or "no" wrong?

    python benchmarks/verdict_truth.py [--campaigns 500] [--repetitions 6 8 12] [--only PART ...] [--keep FILE]
                                       [--to docs/method/verdict-truth.md]

Plants campaigns of known truth (``_planted``: noise with a tail, inferences and requests that depend on the one before,
runs and blocks that differ, runs that are far too slow), has the product analyse each, and reads the findings that it
would print. A row is a quantity or a claim, a column a number of repetitions, each from so many campaigns.

"held" is the share of the intervals that hold the truth: 95% are asked for. Above 97% an interval is conservative, and
by how much stands in the column. "wrong" is the share of campaigns with a "yes" where nothing was planted (or a "no"
where twice of what matters was, a "pass" or "fail" where the figure lies a tenth on the other side of the bound); the
power is the share with the right answer at 2, 5 and 10%. Figures of each part are kept in ``--keep``, so that parts can
be run one after the other on a busy machine; ``--to`` writes the page from all that were kept.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import _planted
from benchmarks._planted import LOADED, World
from devicelab.analyses import checks, klo, lut, placement, priority
from devicelab.analyses.klo import data as klo_data
from devicelab.analyses.klo import findings, production
from devicelab.analyses.klo.checklist import checklist
from devicelab.analyses.klo.model import LaunchCosts, best_constant
from devicelab.compare import campaigns
from devicelab.model.experiment import Check, Finding
from tests import tenantdata

_ROOT = Path(__file__).resolve().parent.parent
_KEEP = _ROOT / "benchmarks" / "verdict_truth.json"


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
    said = found(klo.analyse(results))
    for load, label in (("none", "idle"), (LOADED, f"load {LOADED}")):
        yield from held("Constant K", truth.k[load], said.get(f"Constant K ({label})"))
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


def production_times(number: int, repetitions: int, rng: np.random.Generator) -> Iterator[Seen]:
    """Whether a load changes T_prod, where it does by 0, 2, 5 or 10%."""
    effect = EFFECTS[number % len(EFFECTS)]
    world = World(np.full(8, 20e3), np.full(8, 18e3), LaunchCosts(8e3, 30e3, 15e3), 1 + effect)
    results = _planted.timed(world, (1, 4), repetitions, 4, rng)
    said = found(production.findings(klo_data.load(results)))
    yield _effect("T_prod changes", effect, said[f"Does the load change T_prod? (load {LOADED})"].verdict, 0.02)


EFFECTS = (0.0, 0.02, 0.05, 0.10)


def _effect(claim: str, effect: float, verdict: str, matters: float) -> Said:
    """Wrong are "yes" without an effect, and "no" where it is twice of what matters or more."""
    wrong = ("yes",) if effect == 0 else ("no",) if effect >= 2 * matters else ()
    return Said(f"{claim}: {effect:.0%}", verdict, wrong, ("no",) if effect == 0 else ("yes",))


# --- times of inferences alone ------------------------------------------------------------------------------------

_FLAT = (1, 2, 4, 8, 16)


def _curve(best: int, gain: float, least: float = 10.0) -> dict[int, float]:
    return {k: least if k == best else least * (1 + gain) for k in _FLAT}


def inferences(number: int, repetitions: int, rng: np.random.Generator) -> Iterator[Seen]:
    """The checklist, speed-ups, regrets, placement, checks and comparisons, effects of 0, 2, 5 and 10%."""
    effect = EFFECTS[number % len(EFFECTS)]
    moved = {"none": _curve(4, effect), LOADED: _curve(16, effect, 12.0)}
    results = _planted.whole(moved, repetitions, rng)
    said = _of_k(results)
    speed = said.get("Is the manual K faster than K = 1? (idle)")
    if speed is not None:
        yield _effect("Manual K faster than K = 1", effect, speed.verdict, 0.02)
        if speed.verdict != "cannot tell here":
            yield from held("Speed-up of the manual K over K = 1", 1 + effect, speed)
    yield _effect("K differs", effect, said[_QUESTION].verdict, 0.05)
    one = said[f"Is the K found idle within 5% of the manual K? (load {LOADED})"]
    wrong = {0.0: ("no",), 0.10: ("yes",)}.get(effect, ())
    right = ("yes",) if effect == 0 else ("no",)
    yield Said(f"Idle K as good under load: {effect:.0%} worse", one.verdict, wrong, right)
    # A known winner: the same K is the best of both, by far, and gains less under load.
    kept = {"none": _curve(4, 0.3), LOADED: _curve(4, 1.3 * (1 - effect) - 1)}
    said = found(checklist(klo_data.load(_planted.whole(kept, repetitions, rng))))
    drop = said["2. Does the speed-up drop when the idle K is used under load?"]
    yield _effect("Speed-up drops", effect, drop.verdict, 0.05)
    yield from held("Speed-up under load / idle", 1 - effect, drop)
    keeps = said["3. Does the K found under load keep the speed-up under load?"]
    yield Said(f"Speed-up kept: {effect:.0%} lost", keeps.verdict, {0.0: ("no",), 0.10: ("yes",)}.get(effect, ()))
    yield Said(
        f"K differs, the same K best by 30%: gains {effect:.0%} less", said[_QUESTION].verdict, ("yes",), ("no",)
    )
    yield from _of_runs(effect, repetitions, rng)


def _of_k(results: _planted.FrameResults) -> dict[str, Finding]:
    data = klo_data.load(results)
    return found((*checklist(data), *findings.findings(results, data)))


def _of_runs(effect: float, repetitions: int, rng: np.random.Generator) -> Iterator[Seen]:
    results = _planted.whole({"none": {4: 10.0}, LOADED: {4: 10.0 * (1 + effect)}}, repetitions, rng)
    (change,) = placement.analyse(results)
    yield _effect("Time changes with the load", effect, change.verdict, 0.02)
    yield from held("Time under load / idle", 1 + effect, change)
    made = (
        Check(name="level", metric="total_ns", where={"load": "none"}, bound=f"< {10 / (1 + effect):.4f} ms"),
        Check(name="ratio", metric="total_ns", where={"load": LOADED}, against={"load": "none"}, bound="< 0 %"),
    )
    judged = checks.analyse(_replace(results, made))
    for one, quantity, true in zip(judged, ("Check of a time", "Check of a ratio"), (10.0, 100 * effect), strict=True):
        yield from held(quantity, true, one)
        if effect > 0:
            wrong = ("pass",) if effect == 0.10 else ()
            yield Said(f"{quantity}: {effect:.0%} beyond the bound", one.verdict, wrong, ("fail",))
    other = _planted.whole({"none": {4: 10.0 * (1 + effect)}}, repetitions, rng)
    both = campaigns.compare(_planted.whole({"none": {4: 10.0}}, repetitions, rng), other)
    (shift,) = both.shifts
    yield _effect("Two campaigns differ", effect, shift.verdict, 0.05)
    yield Held("Ratio of two campaigns", 1 + effect, shift.low, shift.high)


def _replace(results: _planted.FrameResults, made: tuple[Check, ...]) -> _planted.FrameResults:
    experiment = results.experiment.model_copy(update={"checks": made})
    return _planted.FrameResults(experiment, results.run_rows, results.metric_rows, {}, results.info)


# --- requests of tenants -----------------------------------------------------------------------------------------

_REQUESTS, _AGAIN, _SPREAD = 300, 0.8, 0.2


def _responses(runs: int, rng: np.random.Generator) -> np.ndarray:
    """Response times of requests in ms: each depends on the one before, and one in fifty is long."""
    times = 10 * _planted.lasting(rng, runs, _REQUESTS, _AGAIN, _SPREAD)
    long = rng.random(times.shape) < 0.02
    times[long] *= 1 + rng.exponential(1.0, int(long.sum()))
    return times


def _of_requests() -> dict[str, float]:
    from devicelab.analyses import _stats

    many = _responses(6000, np.random.default_rng(9))
    return {name: float(np.median([_stats.run_quantile(run, q) for run in many])) for name, q in _QUANTILES.items()}


_QUANTILES = {"P50": 0.5, "P99": 0.99}
_REQUEST_TRUTH: dict[str, float] = {}


def requests(number: int, repetitions: int, rng: np.random.Generator) -> Iterator[Seen]:
    """Latencies and shares of a tenant, slower beside its neighbour by 0, 5, 10 or 25%."""
    if not _REQUEST_TRUTH:
        _REQUEST_TRUTH.update(_of_requests())
    effect = (0.0, 0.05, 0.10, 0.25)[number % 4]
    targets = {"p99_ratio": "< 1.1", "p50_ratio": "< 1.1", "p99_ms": "< 1000", "p50_ms": "< 1000"}
    of = tenantdata.experiment(
        tenants=tenantdata.tenants(targets=targets, params={"queue": 1}),
        factors={"scheduler": ("standalone", "native"), "pressure": ("copies:2",)},
        repetitions=repetitions,
    )
    drift = _planted.of_blocks(rng, repetitions)
    levels = {
        (leg, tenant): drift * _planted.of_runs(rng, repetitions)
        for leg in ("standalone", "native")
        for tenant in ("high", "low")
    }
    times = {key: _responses(repetitions, rng) for key in levels}
    turn: dict[tuple[str, str], int] = defaultdict(int)

    def response(leg: str, tenant: str, _rng: np.random.Generator, _n: int) -> np.ndarray:
        at = turn[leg, tenant]
        turn[leg, tenant] += 1
        slower = 1 + effect if (leg, tenant) == ("native", "high") else 1.0
        rows: np.ndarray = slower * levels[leg, tenant][at] * times[leg, tenant][at]
        return rows

    results = tenantdata.campaign(of, response, requests=_REQUESTS)
    rate = results.metric_rows["metric"] == "throughput_per_s"
    rates = {
        row.run_id: (50.0 if row.run_id.startswith("native") and row.program == "low" else 100.0)
        / levels[row.run_id.split("/")[0], row.program][int(row.run_id.rsplit("/", 1)[1])]
        for row in results.metric_rows[rate].itertuples()
        if row.program == "low"
    }
    low = rate & (results.metric_rows["program"] == "low")
    results.metric_rows.loc[low, "value"] = results.metric_rows.loc[low, "run_id"].map(rates)
    said = found(priority.analyse(results))
    where = "native at pressure copies:2: "
    for name in _QUANTILES:
        short = name.lower()
        one = said[f"does native sharing hurt high ({name} over standalone) at pressure copies:2?"]
        yield from held(f"{name}, shared / alone", 1 + effect, one)
        wrong = {0.0: ("yes",), 0.25: ("no",)}.get(effect, ())
        yield Said(f"Sharing hurts {name}: {effect:.0%}", one.verdict, wrong, ("no",) if effect == 0 else ("yes",))
        true = _REQUEST_TRUTH[name] * (1 + effect)
        yield from held(f"{name} of a tenant", true, said[f"{where}high {short}_ms < 1000"])
    yield from held("Share of standalone throughput", 50.0, said[f"{where}low share_pct > 30"])


# --- the table ---------------------------------------------------------------------------------------------------

PARTS: dict[str, Part] = {
    "timestamps": timestamps,
    "production": production_times,
    "inferences": inferences,
    "requests": requests,
}
SHARE = {"timestamps": 1, "production": len(EFFECTS), "inferences": len(EFFECTS), "requests": 4}
"""How many campaigns a part needs for each that a row has: effects take turns."""


def run(part: str, repetitions: int, count: int, seed: int = 1) -> dict[str, dict[str, float]]:
    """Rows of one part at one number of repetitions."""
    intervals: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    verdicts: dict[str, list[tuple[bool, bool | None]]] = defaultdict(list)
    for number in range(count * SHARE[part]):
        rng = np.random.default_rng([seed, repetitions, number])
        for one in PARTS[part](number, repetitions, rng):
            if isinstance(one, Said):
                right = one.verdict in one.right if one.right else None
                verdicts[one.row].append((one.verdict in one.wrong if one.wrong else False, right))
            elif one.low is None or one.high is None:
                intervals[one.row].append((False, False))
            else:
                intervals[one.row].append((True, one.low * (1 - 1e-9) <= one.truth <= one.high * (1 + 1e-9)))
    rows: dict[str, dict[str, float]] = {}
    for row, values in intervals.items():
        known = [inside for there, inside in values if there]
        if known:
            rows[row] = {"held": float(np.mean(known)), "n": len(known), "printed": len(known) / len(values)}
    for row, outcomes in verdicts.items():
        rows[row] = {"wrong": float(np.mean([wrong for wrong, _ in outcomes])), "n": len(outcomes)}
        if outcomes[0][1] is not None:
            rows[row]["right"] = float(np.mean([bool(right) for _, right in outcomes]))
    return rows


def page(kept: dict[str, dict[str, dict[str, float]]]) -> str:
    """The tables, from what was kept: part and repetitions → row → figures."""
    columns = sorted({int(name.rpartition(" ")[2]) for name in kept})
    rows: dict[str, dict[int, dict[str, float]]] = defaultdict(dict)
    for name in sorted(kept, key=lambda name: list(PARTS).index(name.rpartition(" ")[0])):
        for row, figures in kept[name].items():
            rows[row][int(name.rpartition(" ")[2])] = figures
    rule = "|---" * (len(columns) + 2) + "|"
    lines = [_HEAD, f"| Interval of | {' | '.join(f'R = {r}' for r in columns)} | campaigns |", rule]
    for row, by_r in rows.items():
        if "held" in next(iter(by_r.values())):
            cells = [_held(by_r.get(r)) for r in columns]
            lines.append(f"| {row} | {' | '.join(cells)} | {_least(by_r)} |")
    lines += ["", _VERDICTS, "", f"| Planted | {' | '.join(f'R = {r}: wrong, right' for r in columns)} | campaigns |"]
    lines.append(rule)
    for row, by_r in rows.items():
        if "wrong" in next(iter(by_r.values())):
            cells = [_said(by_r.get(r)) for r in columns]
            lines.append(f"| {row} | {' | '.join(cells)} | {_least(by_r)} |")
    return "\n".join(lines) + "\n"


def _least(by_r: dict[int, dict[str, float]]) -> str:
    return f"{min(figures['n'] for figures in by_r.values()):,.0f}"


def _held(figures: dict[str, float] | None) -> str:
    if figures is None:
        return ""
    share = 100 * figures["held"]
    return f"{share:.1f}" + (f" (+{share - 95:.1f})" if share > 97 else "")


def _said(figures: dict[str, float] | None) -> str:
    if figures is None:
        return ""
    right = f", {100 * figures['right']:.0f}" if "right" in figures else ""
    return f"{100 * figures['wrong']:.1f}{right}"


_HEAD = """# Do the intervals hold the truth?

Written by `python benchmarks/verdict_truth.py --to docs/method/verdict-truth.md`. Campaigns of known truth are analysed
by the product, and the findings that it would print are compared with what was planted; how they are made stands at
the top of `benchmarks/_planted.py` (noise with a tail, samples that depend on the one before, runs and blocks that
differ by 2%, 4% of the runs far too slow).

Percent of the intervals that hold the truth, by the number of repetitions R. 95 are asked for; what is above 97 is
conservative, by the points in brackets. Below six repetitions there is no interval and no verdict.
"""
_VERDICTS = """Percent of the campaigns with a wrong "yes", "no", "pass" or "fail", and with the right one (the rest is
"inconclusive"). Wrong is "yes" where nothing was planted, "no" where it was twice of what matters, and a verdict on the
wrong side of a bound that is a tenth away."""


def main() -> int:
    """Run what was asked for, keep it, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=500, help="of every row")
    parser.add_argument("--repetitions", type=int, nargs="+", default=[6, 8, 12])
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="these parts alone")
    parser.add_argument("--keep", type=Path, default=_KEEP, help="figures of all parts")
    parser.add_argument("--to", type=Path, help="the page to write")
    args = parser.parse_args()
    kept = json.loads(args.keep.read_text(encoding="utf-8")) if args.keep.is_file() else {}
    for part in args.only:
        for repetitions in args.repetitions if args.campaigns > 0 else ():
            begin = time.monotonic()
            kept[f"{part} {repetitions}"] = rows = run(part, repetitions, args.campaigns)
            print(f"{part}, {repetitions} repetitions: {time.monotonic() - begin:.0f} s", flush=True)
            for row, figures in rows.items():
                print(f"  {row:60} " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()), flush=True)
            args.keep.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    if args.to is not None:
        args.to.write_text(page(kept), encoding="utf-8")
        print(f"{args.to} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
