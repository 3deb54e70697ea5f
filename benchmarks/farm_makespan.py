"""How long a night on many boards takes, beside what the boards themselves are programmed to do.

    python benchmarks/farm_makespan.py [--boards 50] [--runs 30] [--seconds 9.5] [--sample-hz 10]

Starts virtual boards, conducts one night with ``devicelab nightly`` (every board gets the same experiment without load)
and prints:

- "ideal": settle and hold times of the board that has most to do, nothing else. No farm can be faster.
- "makespan": from the start of the process to its end, everything included: Python's start, asking every board what it
  is, probes before and after, pushing the programs, the runs, restoring, analyses, verdicts. Divided by the ideal it
  is to be at most 1.10.
- "measuring": from the first campaign's start to the last one's end.
- the processor time of the conducting process, of this machine's cores in all, and the load average before: boards,
  conductor and whatever else works here share them.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from devicelab.store import Store
from virtualboards import lifecycle
from virtualboards.lifecycle import AdbServer

SETTLE_S = 0.5

_EXPERIMENT = """\
question = "What does a farm cost?"
foreign_pct = 100
foreign_core_pct = 100
repetitions = {runs}
hold_s = {seconds}
settle_s = {settle}
sample_hz = {hertz}
[factors]
load = ["none"]
"""
_FARM = """\
name = "makespan"
[[jobs]]
experiment = "makespan.toml"
devices = "tag=farm"
"""


def main() -> int:
    """One night; see the module's text."""
    parser = argparse.ArgumentParser(description="Makespan of a night beside the ideal.")
    parser.add_argument("--boards", type=int, default=50)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=9.5, help="observed time of a run")
    parser.add_argument("--sample-hz", type=float, default=10.0)
    parser.add_argument("--kind", default="note10")
    args = parser.parse_args()
    AdbServer.of_user().start()
    before = os.getloadavg()
    boards = lifecycle.up(args.kind, name="makespan", count=args.boards, abi="x86_64", su="magisk")
    try:
        with tempfile.TemporaryDirectory(prefix="makespan-") as folder:
            place = Path(folder)
            entry = '[devices.{0.name}]\naddress = "adb:{0.serial}"\nboard = "{0.kind}"\ntags = ["farm"]\n'
            lab = "".join(entry.format(board) for board in boards)
            (place / "lab.toml").write_text(lab, encoding="utf-8")
            (place / "farm.toml").write_text(_FARM, encoding="utf-8")
            text = _EXPERIMENT.format(runs=args.runs, seconds=args.seconds, settle=SETTLE_S, hertz=args.sample_hz)
            (place / "makespan.toml").write_text(text, encoding="utf-8")
            makespan_s, cpu_s, result = _night(place)
            with Store.open(place / "s.sqlite") as store:
                campaigns = store.campaigns()
    finally:
        lifecycle.down([board.name for board in boards])
    runs = sum(info.runs_done for info in campaigns)
    ends = [info.ended_unix_ns for info in campaigns if info.ended_unix_ns is not None]
    measuring_s = (max(ends) - min(info.started_unix_ns for info in campaigns)) / 1e9
    ideal_s = args.runs * (SETTLE_S + args.seconds)
    print(f"{args.boards} boards, {runs} of {args.boards * args.runs} runs stored, exit code {result}")
    print(f"ideal {ideal_s:.1f} s, makespan {makespan_s:.1f} s: {makespan_s / ideal_s:.3f} of the ideal")
    print(f"measuring {measuring_s:.1f} s: {measuring_s / ideal_s:.3f} of the ideal")
    print(f"conductor's processor time {cpu_s:.1f} s; {os.cpu_count()} cores; load average before {before[0]:.1f}")
    return 0 if runs == args.boards * args.runs else 1


def _night(place: Path) -> tuple[float, float, int]:
    """Seconds it took, processor seconds of its process, exit code."""
    environment = {**os.environ, "DEVICELAB_LAB": str(place / "lab.toml")}
    argv = [sys.executable, "-c", "from devicelab.cli import main; main()", "nightly", "farm.toml"]
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    done = subprocess.run(
        [*argv, "--store", "s.sqlite", "--json"], cwd=place, env=environment, stdout=subprocess.PIPE, check=False
    )
    took_s = time.monotonic() - began
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    if not done.stdout:
        raise SystemExit(f"the night gave no result; exit code {done.returncode}")
    for task in json.loads(done.stdout)["tasks"]:
        if task["status"] != "complete" or task["reason"]:
            print(f"{task['device']}: {task['status']}: {task['reason']}")
    return took_s, now.ru_utime + now.ru_stime - spent.ru_utime - spent.ru_stime, done.returncode


if __name__ == "__main__":
    sys.exit(main())
