"""What the agent takes while it measures, and whether a measured program notices its samples.

    python benchmarks/agent_disturbance.py [--rounds 20] [--inferences 400]

Native, on this computer: `klo` with the emulated GPU (simulated), beside ten nodes sampled ten times a second.

- "agent, % of a core": the agent's own CPU time in the window, the median of the runs; 0.05 is the goal.
- "sampled / not": the mean of a run's plain inferences with samples, by that of a run without any, taking turns in an
  order that is drawn; the median of the rounds with its 95 % interval. Within 0.5 % of 1 is the goal.
- "not / not": the same of two runs without samples: what this machine's noise alone makes of it. Where its interval is
  wider than 0.5 %, the machine does not carry the question.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from devicelab.analyses import _stats
from devicelab.device.build import build
from devicelab.device.toolchain import host_abi
from devicelab.model.journal import RunRecord
from devicelab.model.plan import Sampling
from tests.native.agent_tools import Bench, measure, one_run, plan

_KINDS = ("sampled", "not", "not again")


def nodes() -> tuple[str, ...]:
    """Ten nodes as of clocks and temperatures, which every Linux has."""
    counters = sorted(str(path) for path in Path("/sys/class/net/lo/statistics").iterdir())
    return (*counters[:8], "/proc/loadavg", "/sys/devices/system/cpu/online")


def mean_ns(record: RunRecord) -> float:
    """Of a run's plain inferences."""
    (program,) = record.programs
    lines = [json.loads(line) for line in program.stdout.splitlines()]
    return statistics.fmean(line["total_ns"] for line in lines if line.get("phase") == "plain")


def main() -> int:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--inferences", type=int, default=400)
    args = parser.parse_args()
    load = os.getloadavg()[0]
    words = ("--backend", "emulated", "--network", "mobilenet_v1", "--k", "4", "--warmup", "5", "--inferences", "1")
    klo = measure("{dir}/klo", *words, "--plain", str(args.inferences), max_output_bytes=8 << 20)
    order = random.Random(1)
    runs = []
    for number in range(args.rounds):
        for kind in order.sample(_KINDS, len(_KINDS)):
            sampling = Sampling(period_ms=100, nodes=nodes()) if kind == "sampled" else Sampling(period_ms=0)
            runs.append(one_run(klo, run_id=f"{kind} {number}", sampling=sampling))
    with tempfile.TemporaryDirectory(prefix="devicelab-") as place:
        (Path(place) / "bin").mkdir()
        for name in ("agent", "klo"):
            shutil.copy(build(name, host_abi() or "", toolchain="host").path, Path(place) / "bin" / name)
        bench = Bench(Path(place))
        wanted = plan(*runs)
        process = bench.start(wanted)
        process.wait()
        found = {record.run_id: record for record in bench.told(wanted).records}
    means = {kind: [mean_ns(found[f"{kind} {number}"]) for number in range(args.rounds)] for kind in _KINDS}
    sampled = [found[f"sampled {number}"] for number in range(args.rounds)]
    used = statistics.median(100 * one.agent_cpu_ns / (one.window_end_ns - one.window_start_ns) for one in sampled)
    print(f"{args.rounds} rounds of {args.inferences} inferences; load average {load:.1f} at the start")
    print(f"{'agent, % of a core':<22}{used:>10.3f}{0.05:>10.2f}{used / 0.05:>10.2f}")
    for name, kind in (("sampled / not", "sampled"), ("not / not", "not again")):
        ratio = _stats.paired_ratio(means[kind], means["not"])
        print(f"{name:<22}{ratio.estimate:>10.4f}  [{ratio.low or 0:.4f}, {ratio.high or 0:.4f}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
