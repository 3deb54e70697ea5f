"""How near does ``devicelab load --util U`` come to U, beside ``stress-ng --cpu N --cpu-load U`` on this machine?

    python benchmarks/load_accuracy.py [--quick] [--rounds 3] [--seconds 10] [--utils 10,25,45,70,90] [--cores 1,2]
                                       [--keep FILE]

Both load the first N cores, and both are judged in the same way from outside: the CPU time that the kernel counted for
the load's own processes (``/proc/PID/schedstat``, ns) over a window of --seconds, by the time of these cores. Windows
begin --lead seconds after the processes were first seen, so nothing has longer to settle. The two take turns, and who
is first changes with each round. Beside it stands what ``/proc/stat`` told of the same cores in the same windows: its
busy time is counted by looking at every tick, by whomever it is used.

A pair counts only if programs of others used at most --max-others percent of the machine in both windows; else it is
made again, until --patience seconds are over. With --keep the tries are kept in a file, and those of earlier calls
count as rounds, so that a machine that is shared need not be had for long at once. --quick is one round with short
windows.

How to read the table: "off" is the median over the tries of |measured - wanted| in percentage points, by CPU time; the
ratio is devicelab's off by stress-ng's (below 1: devicelab is nearer). "error" is the mean of measured - wanted
with its 95 % interval (Student's t over the tries). "stat" is off by /proc/stat. "others" is what the machine used
besides. The goals are 0.3 points and a ratio below 1 in every row; exit code 1 if one is missed, or if a row has fewer
tries than rounds.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from scipy.stats import t as student

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from devicelab.device.lab import DeviceEntry
from devicelab.jobs.load import Loader, loading
from devicelab.workloads import overhead

GOAL_POINTS = 0.3
_TOGETHER_NS = 200_000


@dataclass(frozen=True)
class Try:
    """What one program gave in one window, in percent.

    Attributes:
        own: CPU time of its processes, of its cores.
        stat: use of its cores by whomever, as ``/proc/stat`` has it.
        others: use of the machine by anybody else.
    """

    who: str
    wanted: float
    cores: int
    own: float
    stat: float
    others: float

    @property
    def error(self) -> float:
        """Measured less wanted, points."""
        return self.own - self.wanted


@dataclass(frozen=True)
class Reading:
    """Counters at one moment: CPU time of the load's processes in ns, busy and all ticks by CPU."""

    ns: int
    own_ns: int
    ticks: tuple[tuple[int, int], ...]


def read(pids: list[int]) -> Reading:
    """The counters now (proc(5): user nice system idle iowait irq softirq steal).

    Whoever is loaded may be made to wait between two readings: they count if they were made within 0.2 ms.
    """
    for _ in range(100):
        now = time.monotonic_ns()
        own = sum(int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) for pid in pids)
        if time.monotonic_ns() - now <= _TOGETHER_NS:
            break
    lines = [line.split() for line in Path("/proc/stat").read_text(encoding="ascii").splitlines()]
    rows = [[int(word) for word in line[1:9]] for line in lines if line[0].startswith("cpu") and line[0] != "cpu"]
    return Reading(now, own, tuple((sum(row) - row[3] - row[4], sum(row)) for row in rows))


def window(who: str, wanted: float, cores: int, find: Callable[[], list[int]], lead: float, seconds: float) -> Try:
    """One window, which begins so long after the load's processes were seen."""
    deadline = time.monotonic() + 30
    while len(pids := find()) < cores:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{who} did not start {cores} processes")
        time.sleep(0.02)
    time.sleep(lead)
    begin = read(pids)
    time.sleep(seconds)
    end = read(pids)
    grown = [(b1 - b0, t1 - t0) for (b0, t0), (b1, t1) in zip(begin.ticks, end.ticks, strict=True)]
    busy, total = (sum(pair[at] for pair in grown[:cores]) for at in (0, 1))
    own_ns, passed = end.own_ns - begin.own_ns, end.ns - begin.ns
    everything = 100 * sum(pair[0] for pair in grown) / max(1, sum(pair[1] for pair in grown))
    return Try(
        who,
        wanted,
        cores,
        own=100 * own_ns / (passed * cores),
        stat=100 * busy / max(1, total),
        others=max(0.0, everything - 100 * own_ns / (passed * len(grown))),
    )


def processes() -> Iterator[tuple[int, str, int]]:
    """Each process: its pid, the file it runs and its parent's pid."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parent = int(
                    (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
                )
                yield int(folder.name), str((folder / "exe").readlink()), parent
            except OSError:
                continue


def ours(loader: Loader, place: str, wanted: float, cores: int, lead: float, seconds: float) -> Try:
    """A held load of ours, measured from outside."""
    got: list[Try] = []

    def find() -> list[int]:
        return [pid for pid, exe, _ in processes() if exe.startswith(place) and exe.endswith("/overhead")]

    outside = threading.Thread(
        target=lambda: got.append(window("devicelab", wanted, cores, find, lead, seconds)), daemon=True
    )
    outside.start()
    # Longer than the window, which lies inside it.
    loader.run(overhead.Hold(use_pct=wanted), cores=f"0-{cores - 1}", seconds=seconds + lead + 0.5)
    outside.join()
    return got[0]


def theirs(wanted: float, cores: int, lead: float, seconds: float) -> Try:
    """stress-ng, measured in the same way."""
    argv = ["stress-ng", "--quiet", "--cpu", str(cores), "--cpu-load", f"{wanted:g}"]
    if cores < (os.cpu_count() or 1):
        argv += ["--taskset", ",".join(map(str, range(cores)))]
    with subprocess.Popen([*argv, "--timeout", f"{seconds + lead + 10:.0f}s"]) as stress:

        def find() -> list[int]:
            return [pid for pid, _, parent in processes() if parent == stress.pid]

        got = window("stress-ng", wanted, cores, find, lead, seconds)
        stress.terminate()
    return got


def table(tries: list[Try]) -> tuple[str, list[str]]:
    """A line for each number of cores and wanted use, and which rows miss a goal."""
    head = (
        f"{'cores':>5}{'wanted %':>9}{'devicelab %':>13}{'off':>8}{'stress-ng %':>13}{'off':>8}{'ratio':>7}"
        f"{'tries':>7}{'error of devicelab':>26}{'of stress-ng':>26}{'stat off':>10}{'theirs':>8}{'others %':>10}"
    )
    lines = [head]
    missed = []
    for cores, wanted in sorted({(one.cores, one.wanted) for one in tries}):
        row = [one for one in tries if (one.cores, one.wanted) == (cores, wanted)]
        pair = [[one for one in row if one.who == who] for who in ("devicelab", "stress-ng")]
        (we, they) = (statistics.median(abs(one.error) for one in part) for part in pair)
        (stat, their_stat) = (statistics.median(abs(one.stat - wanted) for one in part) for part in pair)
        shown = [statistics.median(one.own for one in part) for part in pair]
        ratio = we / they if they else float("inf")
        if we > GOAL_POINTS or ratio >= 1:
            missed.append(f"{wanted:g} % on {cores}")
        lines.append(
            f"{cores:>5}{wanted:>9g}{shown[0]:>13.2f}{we:>8.3f}{shown[1]:>13.2f}{they:>8.3f}{ratio:>7.2f}"
            f"{len(pair[0]):>7}{interval(pair[0]):>26}{interval(pair[1]):>26}{stat:>10.2f}{their_stat:>8.2f}"
            f"{statistics.median(one.others for one in row):>10.1f}"
        )
    return "\n".join(lines), missed


def interval(part: list[Try]) -> str:
    """The mean error with its 95 % interval, points."""
    errors = [one.error for one in part]
    mean = statistics.fmean(errors)
    if len(errors) < 2:
        return f"{mean:+.3f}"
    half = float(student.ppf(0.975, len(errors) - 1)) * statistics.stdev(errors) / len(errors) ** 0.5
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


def main() -> int:
    """All tries and one table."""
    parser = argparse.ArgumentParser(description="How near a wanted CPU use comes, beside stress-ng.")
    parser.add_argument("--quick", action="store_true", help="one round, windows of 1.5 s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--lead", type=float, default=0.5, help="from the start of a load to its window, seconds")
    parser.add_argument("--utils", default="10,25,45,70,90")
    parser.add_argument("--cores", default="", help="numbers of cores; default: 1, 2, 4, 8 as far as there are so many")
    parser.add_argument("--max-others", type=float, default=5.0, help="use by others that a pair may have, percent")
    parser.add_argument("--patience", type=float, default=3600.0, help="seconds after which no pair begins")
    parser.add_argument("--keep", type=Path, help="file of tries that earlier calls left and later ones go on with")
    args = parser.parse_args()
    if shutil.which("stress-ng") is None:
        sys.exit("stress-ng is not installed (Debian: apt-get install stress-ng)")
    if args.quick:
        args.rounds, args.seconds, args.patience = 1, 1.5, 75.0
    there = os.cpu_count() or 1
    counts = [int(word) for word in args.cores.split(",") if word] or [n for n in (1, 2, 4, 8) if n <= there]
    if max(counts) > there:
        sys.exit(f"this machine has {there} cores")
    wanted = [(n, float(word)) for n in counts for word in args.utils.split(",")]
    tries: list[Try] = []
    if args.keep is not None and args.keep.is_file():
        tries = [Try(**json.loads(line)) for line in args.keep.read_text(encoding="utf-8").splitlines()]
    began, deadline = os.getloadavg()[0], time.monotonic() + args.patience
    short, dropped = [], 0
    # A folder of its own: somebody else's agent on this machine does not keep this one out.
    with (
        tempfile.TemporaryDirectory() as place,
        loading(DeviceEntry(name="local", address="local:", dir=place)) as loader,
    ):
        for number in range(args.rounds):
            for cores, util in wanted:
                if (done := sum((one.cores, one.wanted) == (cores, util) for one in tries) // 2) > number:
                    continue
                while time.monotonic() < deadline:
                    each: list[Callable[[], Try]] = [
                        lambda n=cores, pct=util: ours(loader, place, pct, n, args.lead, args.seconds),  # type: ignore[misc]
                        lambda n=cores, pct=util: theirs(pct, n, args.lead, args.seconds),  # type: ignore[misc]
                    ]
                    pair = [one() for one in (each if done % 2 == 0 else reversed(each))]
                    if max(one.others for one in pair) <= args.max_others:
                        break
                    dropped += 1
                else:
                    short.append(f"{util:g} % on {cores}")
                    continue
                tries += pair
                if args.keep is not None:
                    with args.keep.open("a", encoding="utf-8") as file:
                        file.writelines(json.dumps(asdict(one)) + "\n" for one in pair)
    print(
        f"{there} CPUs, load average {began:.1f} at the start; windows of {args.seconds:g} s; {dropped} pairs dropped"
    )
    lines, missed = table(tries)
    print(lines)
    if short:
        print(f"insufficient n: the machine was not quiet for {args.rounds} rounds at {', '.join(short)}")
    goals = f"goals ({GOAL_POINTS} points, ratio below 1)"
    print(f"{goals} missed at {', '.join(missed)}" if missed else f"{goals}: met")
    return bool(missed or short)


if __name__ == "__main__":
    sys.exit(main())
