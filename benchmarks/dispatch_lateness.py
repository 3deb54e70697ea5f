"""How late the open-loop generators dispatch on an idle core, beside what the machine can do at all.

    python benchmarks/dispatch_lateness.py [--core 0] [--rate 200] [--seconds 5] [--rounds 3] [--json]

Every row is the time between a request's scheduled time and its begin, in microseconds, requests at a fixed rate that
do (almost) nothing, pinned to one core, rounds interleaved so that other work on the machine meets all alike:

- "bare sleep": clock_nanosleep to each scheduled time with the least timer slack, as cyclictest does.
- "bare sleep and spin": sleeps until shortly before, then reads the clock; what a generator of this kind can reach.
- "cpu_tenant", "torch_tenant": the product's generators (the latter's `serve` under this Python, with an empty step).

The target is a P99 below 200 us on an idle core; on a busy one the ratio to the bare loop of the same run tells more.
Exit code 1 if a generator misses both (in its best round above 200 us, and above 1.5 times the bare loop's).

Then what the harness costs a tenant that works without pause, in percent of its throughput:

- "records": time between two requests (clock readings, storing the record) over the whole.
- "agent": throughput under the agent (barrier, samples 5 times a second) against the same program started from a shell,
  median of interleaved pairs. The target for both is 1 %; exit code 1 beyond it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from devicelab.device.build import build
from devicelab.device.toolchain import host_abi
from devicelab.model.journal import RunRecord, parse_line
from devicelab.model.plan import Plan, Program, Run, Sampling
from devicelab.workloads._requests import parse_requests

BARE = r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
typedef long long ns;
static ns now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}
int main(int argc, char** argv) {
  ns period = atoll(argv[1]), spin = atoll(argv[3]);
  long count = atol(argv[2]);
  ns* late = malloc(sizeof(ns) * count);
  prctl(PR_SET_TIMERSLACK, 1);
  ns start = now() + 10000000;
  for (long k = 0; k < count; ++k) {
    ns at = start + k * period, wake = at - spin;
    struct timespec t = {wake / 1000000000LL, wake % 1000000000LL};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
    while (now() < at) {}
    late[k] = now() - at;
  }
  for (long k = 0; k < count; ++k) printf("%lld\n", late[k]);
}
"""

SERVE = r"""
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("torch_tenant", sys.argv[1])
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
duration_ns = round(float(sys.argv[3]) * 1e9)
schedule = script.arrivals(sys.argv[2], 1, duration_ns)
script.gc.collect()
script.gc.disable()
done, _ = script.serve(lambda: None, schedule, script.now_ns() + 10_000_000, duration_ns, 0)
print(json.dumps([start - scheduled for scheduled, start, _ in done]))
"""


def run(core: int, *argv: object) -> bytes:
    """The output of a program pinned to a core."""

    def pin() -> None:
        os.sched_setaffinity(0, {core})

    return subprocess.run(list(map(str, argv)), preexec_fn=pin, check=True, capture_output=True).stdout


def generators(tenant: Path, bare: Path, core: int, rate: float, seconds: float) -> dict[str, Callable[[], np.ndarray]]:
    """Each returns the lateness of its requests in ns."""
    period, count, arrivals = round(1e9 / rate), round(rate * seconds), f"fixed:{rate}"
    script = Path(__file__).resolve().parent.parent / "devicelab/workloads/scripts/torch_tenant.py"

    def of_bare(spin_ns: int) -> np.ndarray:
        return np.array(run(core, bare, period, count, spin_ns).split(), np.int64)

    def of_cpu_tenant() -> np.ndarray:
        words = ("--work-us", 1, "--arrivals", arrivals, "--duration-s", seconds)
        table = parse_requests(run(core, tenant, *words), "cpu_tenant").tables["requests"]
        return np.asarray(table["start_ns"] - table["scheduled_ns"])

    def of_torch_tenant() -> np.ndarray:
        return np.array(json.loads(run(core, sys.executable, "-c", SERVE, script, arrivals, seconds)), np.int64)

    return {
        "bare sleep": lambda: of_bare(0),
        "bare sleep and spin": lambda: of_bare(150_000),
        "cpu_tenant": of_cpu_tenant,
        "torch_tenant": of_torch_tenant,
    }


def continuous(core: int, tenant: Path, seconds: float) -> tuple[float, float]:
    """Of a tenant started from here: requests a second, and the share of its time between requests in percent."""
    table = parse_requests(run(core, tenant, "--work-us", 1000, "--duration-s", seconds), "cpu_tenant").tables[
        "requests"
    ]
    start, end = table["start_ns"], table["end_ns"]
    span = float(end[-1] - start[0])
    return start.size / span * 1e9, 100 * float((start[1:] - end[:-1]).sum()) / span


def under_the_agent(core: int, agent: Path, tenant: Path, seconds: float) -> float:
    """The same tenant as a run of a plan: requests a second."""
    argv = (str(tenant), "--work-us", "1000", "--duration-s", str(seconds))
    program = Program(name="one", role="measure", argv=argv, cpus=(core,), barrier=True)
    one = Run(run_id="r", cell_id="c", repetition=0, programs=(program,), sampling=Sampling(period_ms=200), settle_ms=0)
    plan = Plan(plan_id="p", campaign="c", device="here", holder="benchmark", runs=(one,))
    with tempfile.TemporaryDirectory(prefix="devicelab-") as folder:
        path = Path(folder, "plan.json")
        path.write_text(plan.to_json())
        subprocess.run([agent, "run", path, "--state", f"{folder}/state", "--out", folder], check=True)
        lines = Path(folder, "journal.jsonl").read_bytes().splitlines(keepends=True)
    (record,) = (event for line in lines if isinstance(event := parse_line(line), RunRecord))
    if record.flags:
        sys.exit(f"the run under the agent is not to be believed: {record.flags}")
    table = parse_requests(record.programs[0].output(), "cpu_tenant").tables["requests"]
    return float(table["start_ns"].size / float(table["end_ns"][-1] - table["start_ns"][0]) * 1e9)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    abi = host_abi()
    if abi is None:
        sys.exit("no toolchain for this machine")
    tenant, agent = (build(name, abi).path for name in ("cpu_tenant", "agent"))
    with tempfile.TemporaryDirectory(prefix="devicelab-") as folder:
        bare = Path(folder, "bare")
        subprocess.run(["cc", "-O2", "-x", "c", "-", "-o", bare], input=BARE.encode(), check=True)
        measured = generators(tenant, bare, args.core, args.rate, args.seconds)
        rounds: dict[str, list[np.ndarray]] = {name: [] for name in measured}
        for _ in range(args.rounds):
            for name, measure in measured.items():
                rounds[name].append(measure())
    late = {}
    for name, parts in rounds.items():
        every = np.concatenate(parts) / 1000
        p50, p99 = np.quantile(every, [0.5, 0.99])
        best = min(float(np.quantile(part, 0.99)) for part in parts) / 1000
        late[name] = {"n": every.size, "p50_us": p50, "p99_us": p99, "p99_us_best_round": best, "max_us": every.max()}
    pairs = [
        (*continuous(args.core, tenant, args.seconds), under_the_agent(args.core, agent, tenant, args.seconds))
        for _ in range(args.rounds)
    ]
    costs = {
        "records_pct": statistics.median(gap for _, gap, _ in pairs),
        "agent_pct": statistics.median(100 * (1 - inside / outside) for outside, _, inside in pairs),
    }
    if args.json:
        print(json.dumps({"lateness": late, "costs": costs, "load_average": os.getloadavg()}, default=float, indent=1))
    else:
        show(late, costs, args)
    limit = 1.5 * late["bare sleep and spin"]["p99_us_best_round"]
    slow = [late[name]["p99_us_best_round"] > max(200.0, limit) for name in ("cpu_tenant", "torch_tenant")]
    sys.exit(any(slow) or max(costs.values()) > 1)


def show(late: dict[str, dict[str, float]], costs: dict[str, float], args: argparse.Namespace) -> None:
    """The figures as a table."""
    print(f"core {args.core}, {args.rate:g} requests/s, load average {os.getloadavg()[0]:.1f}")
    limit = late["bare sleep and spin"]["p99_us"]
    for name, row in late.items():
        ratio = f"{row['p99_us'] / limit:6.2f} x" if limit else ""
        figures = " ".join(f"{key} {value:10.1f}" for key, value in row.items() if key != "n")
        print(f"{name:20} {figures} {ratio} (n = {row['n']})")
    print("cost of the harness: " + ", ".join(f"{name} {value:.3f}" for name, value in costs.items()))


if __name__ == "__main__":
    main()
