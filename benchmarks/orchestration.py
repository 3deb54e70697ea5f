"""What devicelab costs around a measurement, beside devlib 1.3.4 doing the same job on the same kind of virtual board.

    python3 -m venv /tmp/devlib && /tmp/devlib/bin/pip install devlib==1.3.4
    python benchmarks/orchestration.py --devlib /tmp/devlib/bin/python [--kind note10] [--runs 10] [--seconds 5]

The job: connect, set up, snapshot, pin every CPU policy, push, start a load, RUNS runs of SECONDS, end the load,
restore. Each does it on a board of its own that has never been used (nothing is pushed yet), one after the other; the
virtual boards count the adb streams. On a real phone every stream costs about 100 ms, on a virtual board almost
nothing, so streams tell more than seconds here.

How to read the table:

- "streams" of a job: everything from connecting to the restored board. The target is a tenth of devlib's.
- "streams opened, bytes moved in the runs": between 0.3 s after a run began and 0.3 s before it ended. The target is
  none: nothing disturbs the measurement, and no loss of the cable can.
- "a run beyond its programmed time": devicelab pins, verifies, starts and ends the load and restores in every run; its
  programmed time is settle and hold. devlib pins and loads once before all runs, so its runs have nothing else to do.
  The target for devicelab is 2 % of settle and hold.
- "the job beyond its runs": all the rest, seconds (on a machine with other work, mostly Python's start and imports).
- "the load survived": processes of the load that are alive on the board after its end.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from devicelab.device import runner
from devicelab.device.build import build
from devicelab.device.lab import DeviceEntry
from devicelab.jobs import sweep
from devicelab.model.experiment import Experiment
from devicelab.model.journal import Event, RunRecord, RunStart
from devicelab.store import Store
from tests.integration.endings import Bench
from virtualboards import lifecycle
from virtualboards.lifecycle import VirtualBoard

SETTLE_S = 0.5
_EDGE_S = 0.3


@dataclass
class Cost:
    """What a job took: streams by the board's count, seconds by this machine's clock."""

    streams: int = 0
    job_s: float = 0.0
    runs_s: list[float] = field(default_factory=list)
    programmed_s: float = 0.0
    in_runs: tuple[int, int] = (0, 0)
    survived: int = 0
    services: dict[str, int] = field(default_factory=dict)

    @property
    def beyond_pct(self) -> float:
        """Median over the runs of what each took beyond its programmed time, percent."""
        return 100 * (statistics.median(self.runs_s) / self.programmed_s - 1)


class Watch(threading.Thread):
    """Reads the board's counters ten times a second, past adb."""

    def __init__(self, board: VirtualBoard) -> None:
        super().__init__(daemon=True)
        self._board, self._end = board, threading.Event()
        self.seen: list[tuple[float, int, int]] = []

    def run(self) -> None:
        """Until ``stop``."""
        while not self._end.wait(0.1):
            stats = lifecycle.ask(self._board.name, {"do": "stats"})
            self.seen.append((time.monotonic(), stats["streams"], stats["bytes_in"] + stats["bytes_out"]))

    def stop(self) -> None:
        """End and wait."""
        self._end.set()
        self.join()

    def between(self, start: float, end: float) -> tuple[int, int]:
        """Streams opened and bytes moved within an interval, less its edges."""
        seen = [item for item in self.seen if start + _EDGE_S <= item[0] <= end - _EDGE_S]
        return (seen[-1][1] - seen[0][1], seen[-1][2] - seen[0][2]) if seen else (0, 0)


def ours(board: VirtualBoard, runs: int, seconds: float) -> Cost:
    """The job as a sweep of one cell."""
    cost = Cost(programmed_s=SETTLE_S + seconds)
    experiment = Experiment.model_validate(
        {
            "name": "orchestration",
            "question": "What does orchestration cost?",
            "factors": {"load": ["1000 5000 40"]},
            "set": {"cpu": "min", "placement": "free"},
            "repetitions": runs,
            "hold_s": seconds,
            "settle_s": SETTLE_S,
            "analyses": [],
        }
    )
    starts: list[tuple[float, int]] = []
    ends: list[tuple[float, int]] = []
    attend = runner.attend

    def watched(*args: object, **options: object) -> object:
        device, plan, on_event = args

        def see(event: Event) -> None:
            if isinstance(event, RunStart):
                starts.append((time.monotonic(), event.t_ns))
            elif isinstance(event, RunRecord):
                ends.append((time.monotonic(), event.t_end_ns))
            on_event(event)  # type: ignore[operator]

        return attend(device, plan, see, **options)  # type: ignore[arg-type]

    watch = Watch(board)
    runner.attend = watched  # type: ignore[assignment]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place, Store.open(Path(place) / "store.sqlite") as store:
        watch.start()
        try:
            sweep.sweep(
                experiment,
                DeviceEntry(name=board.name, address=f"adb:{board.serial}"),
                store,
                report_to=Path(place) / "report.html",
            )
        finally:
            runner.attend = attend
            watch.stop()
    cost.job_s = time.monotonic() - began
    # By the board's clock: from a run's start to the next one's, so that everything between two runs is counted.
    marks = [t_ns for _, t_ns in starts] + [ends[-1][1]]
    cost.runs_s = [(after - before) / 1e9 for before, after in itertools.pairwise(marks)]
    inside = [watch.between(start, end) for (start, _), (end, _) in zip(starts, ends, strict=True)]
    cost.in_runs = (sum(item[0] for item in inside), sum(item[1] for item in inside))
    return cost


def theirs(board: VirtualBoard, runs: int, seconds: float, python: str) -> Cost:
    """The job by devlib, in its own interpreter."""
    cost = Cost(programmed_s=seconds)
    load = build("overhead", board.abi)
    with tempfile.TemporaryDirectory() as place:
        # devlib asks for Android's build tools at the start; the job needs none of them.
        aapt = Path(place) / "aapt"
        aapt.write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
        aapt.chmod(0o755)
        from adbutils import adb_path

        (Path(place) / "adb").symlink_to(adb_path())
        environment = {**os.environ, "PATH": f"{place}:{os.environ['PATH']}", "TMPDIR": place}
        script = Path(__file__).with_name("orchestration_devlib.py")
        watch = Watch(board)
        watch.start()
        try:
            done = subprocess.run(
                [python, str(script), board.serial, str(load.path), str(runs), str(seconds)],
                capture_output=True,
                text=True,
                env=environment,
                check=False,
            )
        finally:
            watch.stop()
    if done.returncode != 0:
        sys.exit(f"devlib failed:\n{done.stderr[-3000:]}")
    said = json.loads(done.stdout.strip().splitlines()[-1])
    cost.runs_s, cost.job_s = said["runs_s"], said["job_s"]
    # Each of its runs is a command that is waited for: a stream of its own, opened as the run begins.
    cost.in_runs = (len(cost.runs_s), 0)
    return cost


def measured(kind: str, job: object, *args: object) -> Cost:
    """A job on a fresh board of its own."""
    board = lifecycle.up(kind, abi="x86_64")[0]
    try:
        with tempfile.TemporaryDirectory() as place:
            before = lifecycle.ask(board.name, {"do": "stats"})
            cost: Cost = job(board, *args)  # type: ignore[operator]
            after = lifecycle.ask(board.name, {"do": "stats"})
            cost.streams = after["streams"] - before["streams"]
            cost.services = {name: item["streams"] for name, item in after["services"].items()}
            cost.survived = len(Bench(board, Path(place)).programs("overhead"))
    finally:
        lifecycle.down([board.name])
    return cost


def main() -> int:
    """Both jobs and one table; exit code 1 if a target is missed."""
    parser = argparse.ArgumentParser(description="adb streams and wall time of a job, beside devlib 1.3.4.")
    parser.add_argument("--devlib", required=True, help="Python of an environment with devlib==1.3.4")
    parser.add_argument("--kind", default="note10")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    build("agent", "x86_64"), build("overhead", "x86_64")
    load = os.getloadavg()[0]
    we = measured(args.kind, ours, args.runs, args.seconds)
    they = measured(args.kind, theirs, args.runs, args.seconds, args.devlib)
    rest = [cost.job_s - sum(cost.runs_s) for cost in (we, they)]
    rows = [
        ("streams, whole job", f"{we.streams}", f"{they.streams}", f"{we.streams / they.streams:.3f}"),
        ("streams opened in the runs", f"{we.in_runs[0]}", f"{they.in_runs[0]}", ""),
        ("bytes moved inside the runs", f"{we.in_runs[1]}", "not counted", ""),
        ("a run beyond its programmed time, %", f"{we.beyond_pct:.2f}", f"{they.beyond_pct:.2f}", ""),
        ("a run, s", f"{statistics.median(we.runs_s):.3f}", f"{statistics.median(they.runs_s):.3f}", ""),
        ("the job beyond its runs, s", f"{rest[0]:.1f}", f"{rest[1]:.1f}", f"{rest[0] / rest[1]:.2f}"),
        ("the load survived, processes", f"{we.survived}", f"{they.survived}", ""),
    ]
    print(f"{args.runs} runs of {args.seconds:g} s on virtual boards of kind {args.kind}; ", end="")
    print(f"{os.cpu_count()} CPUs, load average {load:.1f} at the start")
    print(f"{'':<38}{'devicelab':>12}{'devlib':>12}{'ratio':>8}")
    for name, *cells in rows:
        print(f"{name:<38}{cells[0]:>12}{cells[1]:>12}{cells[2]:>8}")
    print(f"devicelab's streams by service: {we.services}")
    print(f"devlib's streams by service: {they.services}")
    missed = [
        text
        for text, fine in (
            ("more than a tenth of devlib's streams", we.streams * 10 <= they.streams),
            ("streams or bytes inside runs", we.in_runs == (0, 0)),
            ("runs take more than 2 % beyond their programmed time", we.beyond_pct <= 2),
            ("a load survived", we.survived == 0),
        )
        if not fine
    ]
    print("targets: met" if not missed else f"targets missed: {'; '.join(missed)}")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
