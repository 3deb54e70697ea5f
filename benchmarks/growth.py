"""How cost grows with the work: runs, samples, cells, boards, nights. CPU time and memory; exponents; plots.

    python benchmarks/growth.py [--quick] [--only PART ...] [--plots FOLDER]

Each part does the same at growing sizes, in this process, on made-up data: what is timed is the product's own call.
The exponent is the slope of log CPU time over log size between the two largest sizes, where what does not grow matters
least. At most n log n is the rule: an exponent above 1 + 1 / ln(n) and a tenth for noise is called "too steep" (exit
code 1). One below 1 says that a fixed part still counts. Peak memory is that of a process of its own for each size.
``--plots`` writes one SVG with a panel a part.
"""

import argparse
import importlib
import itertools
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

NOISE = 0.1
# Shorter than this a clock's steps and one collection of garbage are most of it.
_LEAST_S = 0.02


@dataclass(frozen=True)
class Part:
    """One call of the product.

    Attributes:
        unit: what the size counts.
        quick, full: sizes.
        prepare: makes the data of a size in a folder; gives the call that is timed.
    """

    unit: str
    quick: tuple[int, ...]
    full: tuple[int, ...]
    prepare: Callable[[int, Path], Callable[[], object]]


def _planning(size: int, _place: Path) -> Callable[[], object]:
    from devicelab.experiment import plan
    from devicelab.schedulers.base import Place
    from tests import labdata

    of = labdata.experiment(factors={"k": tuple(range(1, size + 1))}, set={}, repetitions=1, analyses=())
    return lambda: plan.make(of, Place(labdata.facts()), campaign="c", holder="h")


def _store(place: Path) -> Any:
    from devicelab.store import Store

    return Store.open(place / "lab.sqlite")


def _commit(size: int, place: Path) -> Callable[[], object]:
    from tests import labdata

    store = _store(place)
    of = labdata.experiment(factors={"load": ("none",), "k": (1, 4)}, repetitions=size, analyses=())
    campaign, cells = labdata.begin(store, of), labdata.cells(of)
    measured = labdata.measurement(1)

    def commit() -> None:
        for seq in range(size):
            record = labdata.record(f"run-{seq}", seq)
            cell = cells[seq % 2]
            store.commit_run(campaign, cell, record, repetition=seq, measurements={"measure": measured}, flags=())

    return commit


def _filled(size: int, place: Path) -> tuple[Any, str]:
    """A campaign of so many runs, inserted in bulk: how they get there is another part's matter."""
    import store_scale

    store = _store(place)
    store_scale.fill(store, max(store_scale.PER_CAMPAIGN, size))
    return store, store.campaigns(limit=1)[0].campaign


def _resume(size: int, place: Path) -> Callable[[], object]:
    from sqlalchemy import update

    from devicelab.store import schema

    store, campaign = _filled(size, place)
    with store._writer.begin() as connection:  # noqa: SLF001 - all runs into one campaign: no business of the product
        key = store._require(campaign)  # noqa: SLF001
        connection.execute(update(schema.runs).values(campaign=key))
    return lambda: store.done_runs(campaign)


def _samples(size: int, place: Path) -> tuple[Any, str]:
    import report_scale

    store = _store(place)
    return store, report_scale.fill(store, size)


def _findings(size: int, place: Path) -> Callable[[], object]:
    from devicelab.report import conclude

    store, campaign = _samples(size, place)
    return lambda: conclude(store.results(campaign))


def _page(size: int, place: Path) -> Callable[[], object]:
    from devicelab.report import conclude
    from devicelab.report.build import write_page

    store, campaign = _samples(size, place)
    findings = conclude(store.results(campaign))
    return lambda: write_page(store.results(campaign), findings, place / "page.html")


def _compare(size: int, place: Path) -> Callable[[], object]:
    from devicelab.compare.campaigns import compare
    from tests import labdata

    store = _store(place)
    of = labdata.experiment(factors={"load": ("none",), "k": tuple(range(1, size + 1))}, repetitions=6, analyses=())
    one, other = (labdata.fill(store, of) for _ in range(2))
    return lambda: compare(store.results(one), store.results(other))


def _site(size: int, place: Path) -> Callable[[], object]:
    from devicelab.report.site import build_site
    from tests import nightdata

    store = _store(place)
    nightdata.fill(store, nightdata.History(nights=size, cells=4))
    turns = itertools.count()  # a site that is there already is only brought up to date
    return lambda: build_site(store, place / f"site-{next(turns)}", reports=0)


def _schedule(size: int, _place: Path) -> Callable[[], object]:
    from devicelab.farm import schedule
    from devicelab.model.night import Task

    devices = [f"board-{number}" for number in range(size)]
    tasks = [
        Task(task_id=f"{number}.{board}", job=number, experiment="e", selector="*", device=device)
        for board, device in enumerate(devices)
        for number in range(2)
    ]
    return lambda: schedule.foretell(tasks, devices, lambda task, device: task.device == device, lambda *_: 60.0)


PARTS = {
    "planning": Part("cells", (100, 300, 1000), (100, 1000, 10_000), _planning),
    "commit": Part("runs", (100, 300, 1000), (100, 1000, 10_000), _commit),
    "resume": Part("runs", (1000, 8000, 32_000), (1000, 10_000, 100_000), _resume),
    "findings": Part("samples", (87_000, 174_000, 348_000), (87_000, 435_000, 1_740_000), _findings),
    "page": Part("samples", (87_000, 174_000, 348_000), (87_000, 435_000, 1_740_000), _page),
    "compare": Part("cells", (20, 60, 180), (20, 60, 200), _compare),
    "site": Part("nights", (8, 24, 72), (10, 60, 365), _site),
    "schedule": Part("boards", (100, 1000, 4000), (100, 1000, 10_000), _schedule),
}


def once(name: str, size: int) -> dict[str, float]:
    """CPU seconds of one call (the best of several if it is short) and this process's memory before and at its peak."""
    for module in ("scipy.stats", "pandas", "matplotlib.figure"):  # else the first size pays for their import
        importlib.import_module(module)
    with tempfile.TemporaryDirectory(prefix="devicelab-") as place:
        call = PARTS[name].prepare(size, Path(place))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        took: list[float] = []
        while not took or (sum(took) < 10 * _LEAST_S and len(took) < 5 and name != "commit"):
            start = time.process_time()
            call()
            took.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"size": size, "cpu_s": min(took), "before_mib": before, "peak_mib": peak}


def exponent(rows: Sequence[dict[str, float]]) -> float:
    """Slope of log time over log size between the two largest sizes; NaN where a time is too short to tell."""
    low, high = rows[-2], rows[-1]
    if high["cpu_s"] < _LEAST_S or low["cpu_s"] <= 0:
        return math.nan
    return math.log(high["cpu_s"] / low["cpu_s"]) / math.log(high["size"] / low["size"])


def steepest(rows: Sequence[dict[str, float]]) -> float:
    """The largest exponent that n log n allows between the two largest sizes, and a tenth for noise."""
    low, high = rows[-2]["size"], rows[-1]["size"]
    return 1 + math.log(math.log(high) / math.log(low)) / math.log(high / low) + NOISE


def plot(found: dict[str, list[dict[str, float]]], to: Path) -> None:
    """One panel a part: CPU time over size, both logarithmic, with n beside it."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "devicelab"}
    figure = Figure(figsize=(9, 5), layout="constrained")
    grid = figure.subplots(2, -(-len(found) // 2), squeeze=False)
    for axes, (name, rows) in zip(grid.flat, found.items(), strict=False):
        sizes, times = [row["size"] for row in rows], [row["cpu_s"] for row in rows]
        axes.loglog(sizes, times, "o-", color="#0072b2")
        axes.loglog(sizes, [times[-1] * size / sizes[-1] for size in sizes], ":", color="#8a8a8a")
        axes.set_title(f"{name}: exponent {exponent(rows):.2f}", fontsize=9)
        axes.set_xlabel(PARTS[name].unit, fontsize=8)
        axes.set_ylabel("CPU seconds", fontsize=8)
        axes.tick_params(labelsize=7)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_formatter(NullFormatter())
    for axes in list(grid.flat)[len(found) :]:
        axes.set_visible(False)
    figure.savefig(to / "growth.svg", metadata={"Date": None})


def main() -> int:
    """Measure each size in a process of its own, print, plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--only", nargs="+", choices=[*PARTS], default=[*PARTS], metavar="PART")
    parser.add_argument("--plots", type=Path, help="a folder for growth.svg")
    parser.add_argument("--once", nargs=2, metavar=("PART", "SIZE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        print(json.dumps(once(args.once[0], int(args.once[1]))))
        return 0
    found: dict[str, list[dict[str, float]]] = {}
    steep = False
    for name in args.only:
        part = PARTS[name]
        rows = []
        for size in part.quick if args.quick else part.full:
            argv = [sys.executable, __file__, "--once", name, str(size)]
            rows.append(json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout))
            row = rows[-1]
            memory = f"{row['before_mib']:.0f} then {row['peak_mib']:.0f} MiB"
            print(f"{name:<10}{size:>10} {part.unit:<8}{row['cpu_s']:>9.3f} s  {memory}", flush=True)
        found[name], slope, most = rows, exponent(rows), steepest(rows)
        steep |= slope > most
        verdict = "too short to tell" if math.isnan(slope) else "too steep" if slope > most else "at most n log n"
        print(f"{name:<10} exponent {slope:.2f} of {most:.2f}: {verdict}", flush=True)
    if args.plots:
        plot(found, args.plots)
    return int(steep)


if __name__ == "__main__":
    sys.exit(main())
