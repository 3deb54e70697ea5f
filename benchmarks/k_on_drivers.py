"""Is the K that the model predicts the one that brute force finds, on drivers that follow K and on those that do not?

    python benchmarks/k_on_drivers.py [--driver rusticl|pocl|intel] [--random 20] [--state DIR] [--budget-s S]

Networks: A to D (of equal kernels), then random ones, unequal, that differ in length and in which of host and device is
the bottleneck. For each, in two stages of interleaved processes with the producer and the driver's threads on cores of
their own:

1. every K of a grid, six times; the product's own analysis fits the launch model and predicts K, a static schedule and
   the costs for the dynamic policy; the manual K is the fastest one measured;
2. the predicted K, the manual K, the static schedule and dynamic, eight times: nothing is judged by what it was chosen
   from. A ratio is that of two processes of one round; shown is the median, and a t interval of the logarithms.

What klo printed is kept in the folder that ``--state`` names, and a later call goes on: it can be done in portions, or
on another machine: ``--plan FILE`` runs nothing and writes what is missing as JSON lines, each with ``file`` (in that
folder), ``argv`` (after klo; ``{there}`` is the folder of the networks, ``{pin}`` two CPUs that nothing else uses) and
the text of the ``network``. Needs a quiet machine with two cores, and the drivers (see ``_opencl_drivers.py``).
"""

import argparse
import itertools
import json
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd

from benchmarks import _opencl_drivers as drivers
from devicelab.analyses import _stats
from devicelab.analyses.klo import data as klo_data
from devicelab.analyses.klo.condition import Condition
from devicelab.analyses.klo.model import best_schedule
from devicelab.model.experiment import Experiment
from devicelab.model.measurement import Measurement
from devicelab.workloads import klo
from tests.klodata import FrameResults, run_row

GRID = (1, 2, 3, 4, 6, 8, 12, 16, 24)
CHOOSING, JUDGING = 6, 8
WAYS = ("predicted", "static", "dynamic")
_PLATFORMS = {"rusticl": "rusticl", "pocl": "Portable Computing Language", "intel": "Intel"}
Net = list[tuple[int, int]]
"""Units of parameter work and nanoseconds of each kernel, as klo's ``kernel`` lines."""

# 48 equal kernels: the bottleneck is the host, neither, the device, and the device by far.
FIXED: dict[str, Net] = {
    "A": [(900, 200)] * 48,
    "B": [(1300, 8_000)] * 48,
    "C": [(200, 8_000)] * 48,
    "D": [(400, 160_000)] * 24,
}


def random_net(number: int) -> Net:
    """Unequal kernels; the seed is the number."""
    rng = random.Random(number)
    work, length = (math.exp(rng.uniform(math.log(low), math.log(high))) for low, high in ((150, 4000), (200, 40_000)))
    return [
        (round(work * rng.lognormvariate(0, 0.5)), round(length * rng.lognormvariate(0, 0.6)))
        for _ in range(rng.randint(16, 56))
    ]


@dataclass
class Runs:
    """What klo printed, and what it has still to be asked.

    Attributes:
        platform: part of the name of the driver's platform.
        state: folder of the outputs.
        driver: runs what is missing; ``None``: it is planned.
        planned: what is missing.
        end: a monotonic time after which nothing is begun.
    """

    platform: str
    state: Path
    driver: drivers.Driver | None
    end: float
    planned: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, wanted: Sequence[tuple[str, str, dict[str, Any], int]], net: Net) -> list[Measurement] | None:
        """The measurements of (name, network, parameters, plain inferences), in this order; ``None`` if some miss."""
        missing = [one for one in wanted if not (self.state / f"{one[0]}.jsonl").is_file()]
        for name, network, policy, plain in missing:
            argv = _argv(self.platform, network, policy, plain)
            text = "".join(f"kernel {units} {length_ns}\n" for units, length_ns in net)
            if self.driver is None:
                self.planned.append({"file": f"{name}.jsonl", "network": {f"{network}.txt": text}, "argv": argv})
            elif time.monotonic() < self.end:
                (self.driver.work / f"{network}.txt").write_text(text)
                told = {"{there}": self.driver.there, "{pin}": _pin()}
                done = self.driver.klo([_filled(word, told) for word in argv])
                if done.returncode != 0:
                    raise SystemExit(f"klo failed: {done.stderr.decode(errors='replace')[-500:]}")
                (self.state / f"{name}.jsonl").write_bytes(done.stdout)
        if self.planned or any(not (self.state / f"{one[0]}.jsonl").is_file() for one in wanted):
            return None
        return [
            klo.parse(
                (self.state / f"{name}.jsonl").read_bytes(),
                klo.Params.model_validate({"backend": "opencl", "network": f"{network}.txt", **policy}),
            )
            for name, network, policy, _ in wanted
        ]


def _filled(word: str, told: Mapping[str, str]) -> str:
    for name, value in told.items():
        word = word.replace(name, value)
    return word


def _argv(platform: str, network: str, policy: Mapping[str, Any], plain: int) -> list[str]:
    words: list[object] = ["--backend", "opencl", "--platform", platform]
    words += ["--network", f"{{there}}/{network}.txt", "--pin", "{pin}"]
    words += ["--warmup", 2, "--inferences", 6, "--plain", plain]
    if policy.get("policy") == "static":
        words += ["--schedule", ",".join(map(str, policy["schedule"]))]
    elif policy.get("policy") == "dynamic":
        words += ["--dynamic", "--costs", ",".join(map(str, policy["costs_ns"]))]
    else:
        words += ["--k", policy["k"]]
    return list(map(str, words))


def _pin() -> str:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise SystemExit("two cores are needed: one for the producer, one for the driver")
    return f"{cpus[0]},{cpus[1]}"


def _shuffled(items: Sequence[Any], seed: int) -> list[Any]:
    order = list(items)
    random.Random(seed).shuffle(order)
    return order


def _sweep(asked: Runs, name: str, net: Net, grid: Sequence[int]) -> Condition | None:
    """Stage 1, as the product analyses it."""
    cells = [(k, repetition) for repetition in range(CHOOSING) for k in _shuffled(grid, repetition)]
    got = asked.ask([(f"{name}-k{k}-{repetition}", name, {"k": k}, 10) for k, repetition in cells], net)
    if got is None:
        return None
    runs, metrics, tables = [], [], []
    for number, ((k, repetition), one) in enumerate(zip(cells, got, strict=True)):
        run = f"run{number:04d}"
        runs.append(run_row(run, repetition, number, {"k": k}))
        metrics += [
            {"run_id": run, "program": "measure", "metric": what, "value": metric.value, "unit": metric.unit}
            for what, metric in one.metrics.items()
        ]
        tables.append(pd.DataFrame({"run_id": run, "program": "measure", **one.tables["kernels"]}))
    told = {"name": "k", "question": "?", "factors": {"k": tuple(grid)}}
    frames = {"kernels": pd.concat(tables, ignore_index=True)}
    results = FrameResults(
        Experiment.model_validate(told), pd.DataFrame(runs), pd.DataFrame(metrics), frames, {"programs": {}}
    )
    return klo_data.load(results).conditions[0]


def study(asked: Runs, name: str, net: Net) -> dict[str, Any] | None:
    """Both stages of one network; ``None`` while runs are missing."""
    n = len(net)
    place = _sweep(asked, name, net, [*(k for k in GRID if k < n), n])
    if place is None:
        return None
    middle = place.curve.median()
    found: dict[str, Any] = {
        "n": n,
        "follows": place.driver.follows,
        "gain_pct": float(100 * (middle.max() / middle.min() - 1)),
        "manual": place.manual_k,
        "chosen": place.chosen_k,
    }
    if place.profile is None:
        return found
    fit = place.profile.fit
    found["p_us"], found["g_us"] = (
        round(float(np.median(values)) / 1e3, 1) for values in (place.profile.t_prod_ns, place.profile.t_ker_ns)
    )
    found["residual_pct"] = round(fit.residual_pct, 1)
    if place.model is None:
        return found
    costs = fit.costs
    batches, _ = best_schedule(place.profile.t_prod_ns, place.profile.t_ker_ns, costs)
    four = [costs.flush_ns, costs.start_idle_ns, costs.gap_ns, costs.flush_per_kernel_ns]
    ways: dict[str, dict[str, Any]] = {
        "manual": {"k": place.manual_k},
        "static": {"policy": "static", "schedule": batches},
        "dynamic": {"policy": "dynamic", "costs_ns": [round(cost) for cost in four]},
    }
    if place.chosen_k != place.manual_k:
        ways["predicted"] = {"k": place.chosen_k}
    cells = [(way, repetition) for repetition in range(JUDGING) for way in _shuffled(list(ways), 100 + repetition)]
    got = asked.ask([(f"{name}-{way}-{repetition}", name, ways[way], 30) for way, repetition in cells], net)
    if got is None:
        return None
    totals = {way: np.empty(JUDGING) for way in ways}
    for (way, repetition), one in zip(cells, got, strict=True):
        totals[way][repetition] = one.metrics["total_ns"].value
    for way in ("predicted", "static", "dynamic"):
        logs = np.log(totals.get(way, totals["manual"]) / totals["manual"])
        spread = _stats.location(logs.tolist())
        found[way] = [
            100 * (float(np.exp(value)) - 1) for value in (np.median(logs), spread.low or 0, spread.high or 0)
        ]
    return found


def _nets(count: int) -> Iterator[tuple[str, Net]]:
    return itertools.chain(FIXED.items(), ((f"r{number:02d}", random_net(number)) for number in range(1, count + 1)))


def show(found: Mapping[str, Mapping[str, Any]]) -> None:
    """The table, and the lines that the benchmark table reads."""
    head = ("N", "p µs", "g µs", "residual", "K matters", "manual", "predicted")
    print(f"{'net':4}" + "".join(f"{word:>10}" for word in head), end="")
    print("".join(f"{way:>24}" for way in ("predicted, %", "static, %", "dynamic, %")))
    for name, one in found.items():
        figures = (one["n"], one.get("p_us", "-"), one.get("g_us", "-"), f"{one.get('residual_pct', '-')} %")
        cells = (*figures, f"{one['gain_pct']:.1f} %", one["manual"], one["chosen"])
        print(f"{name:4}" + "".join(f"{cell!s:>10}" for cell in cells), end="")
        ways = (one.get(way) for way in WAYS)
        print("".join(f"{f'{w[0]:.1f} [{w[1]:.1f}, {w[2]:.1f}]' if isinstance(w, list) else '-':>24}" for w in ways))
    judged = {name: one for name, one in found.items() if isinstance(one.get("dynamic"), list)}
    follows = sum(one["follows"] is True for one in found.values())
    print(f"the driver follows K: {follows} of {len(found)} networks say so; a K was predicted for {len(judged)}")
    drawn = [one for name, one in judged.items() if name.startswith("r")]
    for what, way, goal in (
        ("predicted K over manual K, %", "predicted", 2),
        ("static schedule over the best constant K, %", "static", 0),
        ("dynamic over the best constant K, %", "dynamic", 1),
    ):
        figures_pct = [one[way][0] for one in drawn]
        if figures_pct:
            print(f"{what:45} {statistics.median(figures_pct):7.2f} {goal}")
            print(f"  the worst of {len(drawn)}: {max(figures_pct):.2f}")


def main() -> None:
    """Measure what is missing and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driver", choices=tuple(_PLATFORMS), default="rusticl")
    parser.add_argument("--random", type=int, default=20)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--budget-s", type=float, default=float("inf"))
    parser.add_argument("--plan", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        driver = None
        if args.plan is None:
            drivers.prepare(work)
            driver = getattr(drivers, args.driver)(work)
            if driver is None:
                raise SystemExit(drivers.NEEDED if args.driver == "rusticl" else f"{args.driver} cannot be had here")
            print(f"{driver.platform} {driver.version()}, load average before {os.getloadavg()[0]:.2f}")
        state = args.state or work / "state"
        state.mkdir(exist_ok=True)
        asked = Runs(_PLATFORMS[args.driver], state, driver, time.monotonic() + args.budget_s)
        found: dict[str, Any] = {}
        planned: list[dict[str, Any]] = []
        for net, kernels in _nets(args.random):
            one = study(asked, net, kernels)
            planned += asked.planned
            asked.planned.clear()
            if one is not None:
                found[net] = one
    if args.plan is not None:
        args.plan.write_text("".join(json.dumps(one) + "\n" for one in planned))
        print(f"{len(planned)} runs are missing")
    show(found)


if __name__ == "__main__":
    main()
