"""A day's work compressed: thousands of runs in one process, and whether anything grows.

    python -m tests.faults.soak [--hours 24] [--per-hour 90] [--on local] [--on adb]

A device that takes a run every 40 s does 90 an hour; here the runs are as short as they can be and follow each other
at once. Every two simulated hours are one campaign on each device, from opening the device to the report, all in one
process and one store. After each the process and its children are measured. The first campaigns warm up; from then on
nothing may grow beyond ``BOUNDS``, else the exit code is 1.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import psutil

from devicelab.device.lab import DeviceEntry
from devicelab.jobs.sweep import sweep
from devicelab.model.experiment import Experiment
from devicelab.store import Store
from virtualboards import lifecycle

_HOURS = 2
_WARM = 2  # checkpoints before the one that the others are compared with


@dataclass(frozen=True)
class Checkpoint:
    """What was measured after so many simulated hours.

    Attributes:
        hours: simulated.
        runs: stored so far, on all devices.
        rss_mib, pss_mib: of this process; PSS counts shared pages in parts.
        files: descriptors this process holds.
        threads: of this process.
        processes: its descendants, without the virtual board and its adb server.
        board_mib, board_files: RSS and descriptors of the virtual board's host process and of its adb server.
        device_files: in the devices' plan folders.
        store_kib_run: size of the store by run.
        commit_ms: to commit a run: the fastest tenth (p10) of this campaign's; what the disk and the database need.
        commit_median_ms: the median; on a busy machine it is also the machine's.
    """

    hours: int
    runs: int
    rss_mib: float
    pss_mib: float
    files: int
    threads: int
    processes: int
    board_mib: float
    board_files: int
    device_files: int
    store_kib_run: float
    commit_ms: float
    commit_median_ms: float


BOUNDS: dict[str, tuple[float, float]] = {
    "rss_mib": (1.10, 16),
    "pss_mib": (1.10, 16),
    "files": (1.0, 2),
    "threads": (1.0, 1),
    "processes": (1.0, 0),
    "board_mib": (1.10, 16),
    "board_files": (1.0, 4),
    "device_files": (1.0, 0),
    "store_kib_run": (1.25, 0),
    "commit_ms": (1.5, 1.0),
}
"""Column → (factor, addend): the last checkpoints may be at most factor * warm + addend."""


class Soak:
    """The devices, the store and the measurements.

    Args:
        place: a folder for everything.
        names: of devices: ``local``, ``adb``.
        runs: of each campaign on each device.
    """

    def __init__(self, place: Path, names: Sequence[str], runs: int) -> None:
        self.place, self.runs, self.done = place, runs, 0
        self.store = Store.open(place / "soak.sqlite")
        self._stack = contextlib.ExitStack()
        self._stack.callback(self.store.close)
        self._commits_ms: list[float] = []
        self._others: list[psutil.Process] = []
        self.entries = [self._device(name) for name in names]
        self.store.commit_run = self._timed(self.store.commit_run)  # type: ignore[method-assign]

    def _device(self, name: str) -> DeviceEntry:
        if name == "local":
            return DeviceEntry(name="local", address="local:", dir=str(self.place / "device"))
        server = lifecycle.AdbServer.of_user()
        ours = not server.answers()
        board = lifecycle.up("note10", name=f"soak-{os.getpid()}", abi="x86_64", server=server)[0]
        self._stack.callback(lifecycle.down, [board.name])
        self._others.append(psutil.Process(board.pid))
        for process in psutil.process_iter(["name", "cmdline"]):
            if process.info["name"] == "adb" and f"tcp:{server.port}" in (process.info["cmdline"] or []):
                self._others.append(process)
                if ours:
                    self._stack.callback(process.terminate)
        return DeviceEntry(name=board.name, address=f"adb:{board.serial}")

    def close(self) -> None:
        """End what was started."""
        self._stack.close()

    def _timed(self, commit: Callable[..., bool]) -> Callable[..., bool]:
        def timed(*words: Any, **named: Any) -> bool:
            began = time.perf_counter()
            stored = commit(*words, **named)
            self._commits_ms.append((time.perf_counter() - began) * 1e3)
            return stored

        return timed

    def campaign(self, number: int) -> None:
        """One campaign on each device.

        Raises:
            AssertionError: not every run was stored.
        """
        self._commits_ms.clear()
        for entry in self.entries:
            experiment = Experiment(
                name="soak",
                question="Does anything grow?",
                factors={"load": ("none", "1000 5000 20"), "placement": ("one-big",)},
                repetitions=self.runs // 2,
                seed=number + 1,
                settle_s=0.0,
                hold_s=0.02,
            )
            result = sweep(experiment, entry, self.store, report_to=self.place / "report.html")
            assert result.runs == result.planned == self.runs // 2 * 2, result
            self.done += result.runs

    def checkpoint(self, hours: int) -> Checkpoint:
        """What is in use now."""
        me = psutil.Process()
        children = me.children(recursive=True)
        size = sum(path.stat().st_size for path in self.place.glob("soak.sqlite*"))
        full = me.memory_full_info()
        fast = statistics.quantiles(self._commits_ms, n=10)[0]
        return Checkpoint(
            hours=hours,
            runs=self.done,
            rss_mib=full.rss / 2**20,
            pss_mib=full.pss / 2**20,
            files=me.num_fds(),
            threads=me.num_threads(),
            processes=sum(child.status() != psutil.STATUS_ZOMBIE for child in children),
            board_mib=sum(one.memory_info().rss for one in self._others) / 2**20,
            board_files=sum(one.num_fds() for one in self._others),
            device_files=sum(1 for _ in (self.place / "device" / "plans").rglob("*")),
            store_kib_run=size / 1024 / self.done,
            commit_ms=fast,
            commit_median_ms=statistics.median(self._commits_ms),
        )


def growth(found: Sequence[Checkpoint]) -> list[str]:
    """What has grown beyond its bound between the warm checkpoint and the last ones (the median of three)."""
    if len(found) < _WARM + 3:
        return []
    warm, last = found[_WARM - 1], found[-3:]
    problems = []
    for name, (factor, addend) in BOUNDS.items():
        before, after = getattr(warm, name), statistics.median(getattr(one, name) for one in last)
        if after > factor * before + addend:
            problems.append(f"{name} grew from {before:.4g} to {after:.4g}, at most {factor:g} times + {addend:g}")
    return problems


def _row(checkpoint: Checkpoint) -> str:
    values = (getattr(checkpoint, field.name) for field in fields(Checkpoint))
    return "| " + " | ".join(f"{value:.1f}" if isinstance(value, float) else str(value) for value in values) + " |"


@contextlib.contextmanager
def _soaking(names: Sequence[str], runs: int) -> Iterator[Soak]:
    with tempfile.TemporaryDirectory(prefix="soak-") as place:
        soak = Soak(Path(place), names, runs)
        try:
            yield soak
        finally:
            soak.close()


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description="Does anything grow?")
    parser.add_argument("--hours", type=int, default=24, help="simulated hours")
    parser.add_argument("--per-hour", type=int, default=90, help="runs a simulated hour and device")
    parser.add_argument("--on", action="append", choices=("local", "adb"), help="devices (default: both)")
    args = parser.parse_args()
    found: list[Checkpoint] = []
    began = time.monotonic()
    print("| " + " | ".join(field.name for field in fields(Checkpoint)) + " |")
    print("|" + "---|" * len(fields(Checkpoint)))
    with _soaking(args.on or ("local", "adb"), args.per_hour * _HOURS) as soak:
        try:
            for number in range(args.hours // _HOURS):
                soak.campaign(number)
                found.append(soak.checkpoint((number + 1) * _HOURS))
                print(_row(found[-1]), flush=True)
        except KeyboardInterrupt:
            print("interrupted")
        report = soak.store.check()
    problems = [*growth(found), *report.problems]
    print(
        f"\n{found[-1].runs if found else 0} runs in {(time.monotonic() - began) / 60:.0f} min; {report.runs} checked"
    )
    for problem in problems:
        print(problem)
    return 1 if problems or not found else 0


if __name__ == "__main__":
    sys.exit(main())
