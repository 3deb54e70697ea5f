"""Is the K that the model predicts the one that brute force finds, on drivers that follow K and on those that do not?

    python benchmarks/k_on_drivers.py [--driver rusticl|pocl|intel] [--random 20] [--state FILE] [--budget-s 380]

Networks: A to D (of equal kernels), then random ones, unequal, that differ in length and in which of host and device is
the bottleneck. For each, in two stages of interleaved processes with the producer and the driver's threads on cores of
their own:

1. every K of a grid, five times; the product's own analysis fits the launch model and predicts K, a static schedule and
   the costs for the dynamic policy; the manual K is the fastest one measured;
2. the predicted K, the manual K, the static schedule and dynamic, eight times: nothing is judged by what it was chosen
   from. A ratio is that of two processes of one round; shown is the median, and a t interval of the logarithms.

With ``--state`` what was measured is kept and a later call goes on, so that it can be done in portions. Needs a quiet
machine with two cores, and the drivers (see ``_opencl_drivers.py``).
"""

import argparse
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
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
CHOOSING, JUDGING = 5, 8
Net = list[tuple[int, int]]
"""Units of parameter work and nanoseconds of each kernel, as klo's ``kernel`` lines."""

# 48 equal kernels: the bottleneck is the host, neither, the device, and the device by far.
FIXED: dict[str, Net] = {
    "A": [(900, 200)] * 48,
    "B": [(1300, 8_000)] * 48,
    "C": [(150, 12_000)] * 48,
    "D": [(400, 160_000)] * 24,
}


def random_net(number: int) -> Net:
    """Unequal kernels; the seed is the number."""
    rng = random.Random(number)
    work, length = rng.uniform(100, 1500), rng.uniform(200, 40_000)
    return [
        (round(work * rng.lognormvariate(0, 0.5)), round(length * rng.lognormvariate(0, 0.6)))
        for _ in range(rng.randint(16, 56))
    ]


def _measure(driver: drivers.Driver, net: Path, policy: Mapping[str, Any], plain: int) -> Measurement:
    words: list[object] = ["--backend", "opencl", "--platform", driver.platform]
    words += ["--network", f"{driver.there}/{net.name}", "--pin", _pin()]
    words += ["--warmup", 2, "--inferences", 6, "--plain", plain]
    params: dict[str, Any] = {"backend": "opencl", "network": net.name, **policy}
    if params.get("policy") == "static":
        words += ["--schedule", ",".join(map(str, params["schedule"]))]
    elif params.get("policy") == "dynamic":
        words += ["--dynamic", "--costs", ",".join(map(str, params["costs_ns"]))]
    else:
        words += ["--k", params["k"]]
    done = driver.klo(words)
    if done.returncode != 0:
        raise SystemExit(f"klo failed: {done.stderr.decode(errors='replace')[-500:]}")
    return klo.parse(done.stdout, klo.Params.model_validate(params))


def _pin() -> str:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise SystemExit("two cores are needed: one for the producer, one for the driver")
    return f"{cpus[0]},{cpus[1]}"


def _sweep(driver: drivers.Driver, path: Path, grid: Sequence[int]) -> Condition:
    """Stage 1, as the product analyses it."""
    runs, metrics, tables = [], [], []
    for repetition in range(CHOOSING):
        order = list(grid)
        random.Random(repetition).shuffle(order)
        for k in order:
            got = _measure(driver, path, {"k": k}, 10)
            name = f"run{len(runs):04d}"
            runs.append(run_row(name, repetition, len(runs), {"k": k}))
            metrics += [
                {"run_id": name, "program": "measure", "metric": what, "value": one.value, "unit": one.unit}
                for what, one in got.metrics.items()
            ]
            tables.append(pd.DataFrame({"run_id": name, "program": "measure", **got.tables["kernels"]}))
    told = {"name": "k", "question": "?", "factors": {"k": tuple(grid)}}
    frames = {"kernels": pd.concat(tables, ignore_index=True)}
    results = FrameResults(
        Experiment.model_validate(told), pd.DataFrame(runs), pd.DataFrame(metrics), frames, {"programs": {}}
    )
    return klo_data.load(results).conditions[0]


def study(driver: drivers.Driver, name: str, net: Net) -> dict[str, Any]:
    """Both stages of one network."""
    path = driver.work / f"{name}.txt"
    path.write_text("".join(f"kernel {units} {length_ns}\n" for units, length_ns in net))
    n = len(net)
    grid = [*(k for k in GRID if k < n), n]
    place = _sweep(driver, path, grid)
    middle = place.curve.median()
    found: dict[str, Any] = {
        "n": n,
        "follows": place.driver.follows,
        "best_over_worst": float(middle.min() / middle.max()),
        "curve_us": {int(k): round(value / 1e3, 1) for k, value in middle.items()},
    }
    if place.profile is not None:
        fit = place.profile.fit
        found["p_us"], found["g_us"] = (
            round(float(np.median(values)) / 1e3, 1) for values in (place.profile.t_prod_ns, place.profile.t_ker_ns)
        )
        found["residual_pct"] = round(fit.residual_pct, 1)
        found["costs_ns"] = [
            round(cost)
            for cost in (
                fit.costs.flush_ns,
                fit.costs.start_idle_ns,
                fit.costs.gap_ns,
                fit.costs.flush_per_kernel_ns,
            )
        ]
    found["manual"], found["predicted"] = place.manual_k, place.chosen_k
    if place.model is None or place.profile is None:
        return found
    batches, _ = best_schedule(place.profile.t_prod_ns, place.profile.t_ker_ns, place.profile.fit.costs)
    ways: dict[str, dict[str, Any]] = {
        "manual": {"k": place.manual_k},
        "predicted": {"k": place.chosen_k},
        "static": {"policy": "static", "schedule": batches},
        "dynamic": {"policy": "dynamic", "costs_ns": found["costs_ns"]},
    }
    totals: dict[str, list[float]] = {way: [] for way in ways}
    for repetition in range(JUDGING):
        order = list(ways)
        random.Random(100 + repetition).shuffle(order)
        for way in order:
            same = way == "predicted" and place.chosen_k == place.manual_k
            if not same:
                totals[way].append(_measure(driver, path, ways[way], 30).metrics["total_ns"].value)
        if place.chosen_k == place.manual_k:
            totals["predicted"].append(totals["manual"][-1])
    found["batches"] = list(batches)
    for way in ("predicted", "static", "dynamic"):
        logs = np.log(np.array(totals[way]) / np.array(totals["manual"]))
        found[f"{way}_over_manual_pct"] = round(float(100 * (np.exp(np.median(logs)) - 1)), 2)
        got = _stats.location(logs.tolist())
        if got.low is not None and got.high is not None:
            found[f"{way}_interval_pct"] = [round(float(100 * (np.exp(end) - 1)), 1) for end in (got.low, got.high)]
    return found


def _nets(count: int) -> Iterator[tuple[str, Net]]:
    return itertools.chain(FIXED.items(), ((f"r{number:02d}", random_net(number)) for number in range(1, count + 1)))


def show(found: Mapping[str, Mapping[str, Any]]) -> None:
    """The table, and the lines that the benchmark table reads."""
    print(f"{'net':5}{'N':>4}{'p µs':>7}{'g µs':>7}{'resid.':>8}{'manual':>8}{'pred.':>7}", end="")
    print(f"{'pred. %':>9}{'static %':>10}{'dyn. %':>8}  follows")
    for name, one in found.items():
        cells = [one.get(f"{way}_over_manual_pct", float("nan")) for way in ("predicted", "static", "dynamic")]
        print(
            f"{name:5}{one['n']:>4}{one.get('p_us', 0):>7}{one.get('g_us', 0):>7}{one.get('residual_pct', 0):>7}%",
            end="",
        )
        print(
            f"{one['manual'] or 0:>8}{one['predicted'] or 0:>7}{cells[0]:>9.1f}{cells[1]:>10.1f}{cells[2]:>8.1f}",
            end="",
        )
        print(f"  {one['follows']}")
    judged = {name: one for name, one in found.items() if "predicted_over_manual_pct" in one}
    print(f"followed K: {sum(one['follows'] is True for one in found.values())} of {len(found)} networks;", end=" ")
    print(f"a K was predicted for {len(judged)}")
    drawn = [one for name, one in judged.items() if name.startswith("r")]
    if drawn:
        for what, way, goal in (
            ("predicted K over manual K, %", "predicted", 2),
            ("dynamic over the best constant K, %", "dynamic", 1),
            ("static schedule over the best constant K, %", "static", 0),
        ):
            figures = [one[f"{way}_over_manual_pct"] for one in drawn]
            print(f"{what:50} {statistics.median(figures):7.2f} {goal}")
            print(f"{'  worst of them':50} {max(figures):7.2f}")


def main() -> None:
    """Measure what is missing and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driver", choices=("rusticl", "pocl", "intel"), default="rusticl")
    parser.add_argument("--random", type=int, default=20)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--budget-s", type=float, default=float("inf"))
    args = parser.parse_args()
    end = time.monotonic() + args.budget_s
    found: dict[str, Any] = json.loads(args.state.read_text()) if args.state and args.state.is_file() else {}
    longest = 0.0
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        drivers.prepare(work)
        driver = getattr(drivers, args.driver)(work)
        if driver is None:
            raise SystemExit(drivers.NEEDED if args.driver == "rusticl" else f"{args.driver} cannot be had here")
        print(f"{driver.platform} {driver.version()}, load average before {os.getloadavg()[0]:.2f}")
        for net, kernels in _nets(args.random):
            if net in found:
                continue
            begin = time.monotonic()
            if begin + longest > end:
                print(f"the time is over before {net}: call again with the same --state")
                break
            found[net] = study(driver, net, kernels)
            longest = max(longest, time.monotonic() - begin)
            if args.state:
                args.state.write_text(json.dumps(found, indent=1) + "\n")
    show(found)


if __name__ == "__main__":
    main()
