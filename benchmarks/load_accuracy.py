"""How near does ``devicelab load --util U`` come to U, beside ``stress-ng --cpu 0 --cpu-load U`` on this machine?

    python benchmarks/load_accuracy.py [--tries 5] [--seconds 10] [--utils 10,25,45,70,90]

Both load every CPU of this machine and both are measured in the same way: busy share of /proc/stat over all CPUs
between the first and the last moment of a window in which the load runs. The tries of the two take turns, so that other
work on the machine hits both. devicelab searches its arguments before each try, as the command does (that is part of
what is judged: a search that other work has misled shows here).

A try counts only if the rest of the machine used at most --max-others percent right before it, between the two and
right after it; else both are dropped, whatever they gave, and the try is made again (until --patience
seconds are over).

How to read the table: "off" is the median over the tries of |measured - wanted| in percentage points; the ratio is
devicelab's off by stress-ng's (below 1: devicelab is nearer). The target is 1 point. "others" is what the machine used
with no load of ours around the tries that count (both see it: a search corrects for it, ``--cpu-load`` does not),
"tries" how many counted, "dropped" how many did not, "failed" searches that gave no arguments within 1 point. Exit code
1 if the target is missed anywhere, or if there were fewer tries than asked for.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from devicelab.device.lab import DeviceEntry
from devicelab.errors import LabError
from devicelab.jobs.load import Loader, loading

_LEAD_S = 1.0
"""From the start of a load to the start of its window: programs start, the agent settles."""


def ticks() -> tuple[int, int]:
    """Busy and all ticks of all CPUs since boot (proc(5): user nice system idle iowait irq softirq steal)."""
    words = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]
    numbers = [int(word) for word in words]
    return sum(numbers) - numbers[3] - numbers[4], sum(numbers)


def use_pct(seconds: float) -> float:
    """CPU use of the whole machine over the next seconds."""
    busy, total = ticks()
    time.sleep(seconds)
    busy_after, total_after = ticks()
    return 100 * (busy_after - busy) / max(1, total_after - total)


@dataclass
class Row:
    """One wanted use: what each gave, in percent."""

    wanted: float
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    dropped: int = 0
    failed: int = 0

    def off(self, got: list[float]) -> float:
        """Median distance from what was wanted, points; infinite if nothing was got."""
        return statistics.median(abs(pct - self.wanted) for pct in got) if got else float("inf")


def ours(loader: Loader, wanted: float, seconds: float) -> float:
    """A searched load of ours, measured from outside."""
    params, _ = loader.search(wanted)
    got: list[float] = []

    def measure() -> None:
        time.sleep(_LEAD_S)
        got.append(use_pct(seconds))

    outside = threading.Thread(target=measure)
    outside.start()
    # Longer than the window, which lies inside it.
    loader.run(params, cores="all", seconds=seconds + 2 * _LEAD_S)
    outside.join()
    return got[0]


def theirs(wanted: float, seconds: float) -> float:
    """stress-ng, measured in the same way."""
    argv = [
        "stress-ng",
        "--quiet",
        "--cpu",
        "0",
        "--cpu-load",
        f"{wanted:g}",
        "--timeout",
        f"{seconds + 3 * _LEAD_S:g}s",
    ]
    with subprocess.Popen(argv) as stress:
        time.sleep(_LEAD_S)
        got = use_pct(seconds)
        stress.terminate()
    return got


def attempt(loader: Loader, row: Row, seconds: float, max_others: float) -> None:
    """One try of each, kept if nobody else was busy meanwhile."""
    others = [use_pct(1.0)]
    if others[0] > max_others:
        return
    try:
        got = ours(loader, row.wanted, seconds)
    except LabError as error:
        got = None
        said = error.message
    others.append(use_pct(1.0))
    beside = theirs(row.wanted, seconds)
    others.append(use_pct(1.0))
    if max(others) > max_others:
        row.dropped += 1
        return
    row.others += others
    row.theirs.append(beside)
    if got is None:
        row.failed += 1
        print(f"{row.wanted:g} %: {said}", file=sys.stderr)
    else:
        row.ours.append(got)
        print(f"{row.wanted:g} %: devicelab {got:.2f}, stress-ng {beside:.2f}", file=sys.stderr)


def main() -> int:
    """All tries and one table."""
    parser = argparse.ArgumentParser(description="How near a wanted CPU use comes, beside stress-ng.")
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--max-others", type=float, default=3.0, help="use by others that a try may have, percent")
    parser.add_argument("--patience", type=float, default=3600.0, help="seconds after which no try begins")
    parser.add_argument("--utils", default="10,25,45,70,90")
    args = parser.parse_args()
    if shutil.which("stress-ng") is None:
        sys.exit("stress-ng is not installed (Debian: apt-get install stress-ng)")
    rows = [Row(float(word)) for word in args.utils.split(",")]
    began, deadline = os.getloadavg()[0], time.monotonic() + args.patience
    # A folder of its own: somebody else's agent on this machine does not keep this one out.
    with (
        tempfile.TemporaryDirectory() as place,
        loading(DeviceEntry(name="local", address="local:", dir=place)) as loader,
    ):
        for number in range(args.tries):
            for row in rows:
                while len(row.theirs) <= number and time.monotonic() < deadline:
                    attempt(loader, row, args.seconds, args.max_others)
    print(
        f"{os.cpu_count()} CPUs, load average {began:.1f} at the start; {args.tries} tries of {args.seconds:g} s each"
    )
    heads = ("devicelab %", "off"), ("stress-ng %", "off")
    print(f"{'wanted %':>9}" + "".join(f"{got:>13}{off:>7}" for got, off in heads), end="")
    print(f"{'ratio':>7}{'tries':>7}{'others %':>10}{'dropped':>9}{'failed':>8}")
    for row in rows:
        we, they = row.off(row.ours), row.off(row.theirs)
        shown = [f"{statistics.median(pct):.2f}" if pct else "-" for pct in (row.ours, row.theirs)]
        print(
            f"{row.wanted:>9g}{shown[0]:>13}{we:>7.2f}{shown[1]:>13}{they:>7.2f}{we / they if they else 0:>7.2f}"
            f"{len(row.theirs):>7}{statistics.median(row.others or [0]):>10.1f}{row.dropped:>9}{row.failed:>8}"
        )
    missed = [row.wanted for row in rows if row.off(row.ours) > 1]
    few = [row.wanted for row in rows if len(row.theirs) < args.tries]
    if few:
        print(f"insufficient n: the machine was not quiet for {args.tries} tries at {few}")
    print("target (1 point): met" if not missed else f"target (1 point) missed at {missed}")
    return bool(missed or few)


if __name__ == "__main__":
    sys.exit(main())
