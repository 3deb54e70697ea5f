"""Does a search find on a device what brute force finds there, and with how many of its runs?

    python benchmarks/search_truth.py [emulated] [rusticl] [note10] [--state DIR] [--board NAME]

The product's own sweeps, one after the other: brute force (every setting so many times in shuffled blocks); some
searches with other seeds, which know nothing of it; then the settings that the searches found beside the best by brute
force, in shuffled blocks of runs that none was chosen by. "Behind" is by how much a found setting is slower in those,
with the product's confidence sequence; a setting that is the best by brute force itself is behind by nothing.

- ``emulated``: 11 K of MobileNetV1 on the emulated GPU of this machine (**simulated**), 8 times each.
- ``rusticl``: the same K of 48 equal kernels on Mesa's Rusticl, whose batches follow K (a real driver, **no GPU**);
  producer and driver pinned to a CPU each. Elsewhere than on Debian 13 it runs itself in the root that
  ``DEVICELAB_DEBIAN13`` names (see ``_opencl_drivers.py``).
- ``note10``: 6 K x 3 CPU clocks x 3 GPU clocks x 2 clusters on a virtual Note10 (**simulated**) that is started for
  it, 6 times each, the least number that has an interval; what is best is planted in the board's model.

In the folder that ``--state`` names what is stored is kept, and a later call goes on. Needs a quiet machine; with
``--busy`` runs count although others used the CPUs, too (give it priority then: ``chrt -r 1``), and that is printed.
"""

import argparse
import itertools
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import devicelab as dl
from benchmarks import _opencl_drivers as drivers
from devicelab.analyses import searching
from devicelab.experiment import plan as planning
from devicelab.experiment import sequences
from devicelab.model.campaign import CampaignInfo
from devicelab.model.experiment import Cell, Finding, Level
from devicelab.model.results import Results
from devicelab.store import Store

_KS = "[1, 2, 3, 4, 6, 8, 10, 12, 16, 24, 0]"
_NETWORK = "kernel 1300 8000\n" * 48
_AIM = "total_ns"
_JUDGING = 12
AS_GOOD = 0.01


@dataclass(frozen=True)
class Case:
    """A grid on a device: its file's text, repetitions of brute force, and how many searches."""

    text: str
    repetitions: int
    searches: int


CASES = {
    "emulated": Case(
        f"""
factors.k = {_KS}
[measure]
workload = "klo"
timeout_s = 60
params = {{ backend = "emulated", network = "mobilenet_v1", warmup = 1, inferences = 5, plain = 10 }}
""",
        8,
        4,
    ),
    "rusticl": Case(
        f"""
factors.k = {_KS}
[measure]
workload = "klo"
timeout_s = 60
[measure.params]
backend = "opencl"
platform = "rusticl"
network = "NETWORK"
pin = "0,1"
warmup = 3
inferences = 5
plain = 20
""",
        8,
        4,
    ),
    "note10": Case(
        """
[factors]
k = [1, 2, 4, 8, 16, 0]
cpu = ["min", "nearest:1500000", "max"]
gpu = ["min", "nearest:433000", "max"]
measured_on = ["big", "little"]
[measure]
workload = "klo"
timeout_s = 60
params = { backend = "emulated", network = "mobilenet_v1", warmup = 2, inferences = 0, plain = 15, work_pct = 300 }
""",
        6,
        2,
    ),
}


class Bench:
    """The campaigns of one case in a folder."""

    def __init__(self, case: str, folder: Path, board: str, *, busy: bool) -> None:
        self.case, self.folder, self.board = CASES[case], folder, board
        self.head = "foreign_pct = 100\nforeign_core_pct = 100\n" if busy else ""
        self.load = f"load average {os.getloadavg()[0]:.1f}{', for which nothing is flagged' if busy else ''}"
        self.store = folder / f"{case}.sqlite"
        (folder / "net.txt").write_text(_NETWORK, encoding="utf-8")

    def played(self, name: str, more: str, text: str = "") -> Results:
        """A campaign to its end; what is there already is not repeated."""
        text = (text or self.case.text).replace("NETWORK", str(self.folder / "net.txt"))
        place = self.folder / f"{name}.toml"
        question = 'question = "Which setting is the fastest?"\nsettle_s = 0\n'
        place.write_text(f"{question}{self.head}{more}\n{text}", encoding="utf-8")
        info = self._latest(name)
        if info is None or info.status != "complete":
            report = self.folder / f"{name}.html"
            dl.sweep(place, board=self.board, store=self.store, report=report, resume=info is not None)
        info = self._latest(name)
        if info is None:
            raise SystemExit(f"{name} is not stored")
        with Store.open(self.store) as store:
            return store.results(info.campaign)

    def _latest(self, name: str) -> CampaignInfo | None:
        with Store.open(self.store) as store:
            return next(iter(store.campaigns(experiment=name, limit=1)), None)

    def judged(self, wanted: Mapping[str, Cell]) -> dict[str, dict[int, float]]:
        """Setting → repetition → figure, of runs that nothing was chosen by."""
        factors = {word: list(dict.fromkeys(one.levels[word] for one in wanted.values())) for word in self._words}
        left = {tuple(one.levels[word] for word in factors) for one in wanted.values()}
        others = [dict(zip(factors, one, strict=True)) for one in itertools.product(*factors.values())]
        excluded = [one for one in others if tuple(one.values()) not in left]
        exclude = ", ".join(f"{{ {', '.join(f'{w} = {_toml(x)}' for w, x in one.items())} }}" for one in excluded)
        listed = "\n".join(f"{word} = [{', '.join(map(_toml, levels))}]" for word, levels in factors.items())
        measure = self.case.text[self.case.text.index("[measure]") :]
        text = f"exclude = [{exclude}]\n[factors]\n{listed}\n{measure}"
        return figures(self.played("judge", f"repetitions = {_JUDGING}\nseed = 3", text))

    @property
    def _words(self) -> list[str]:
        with Store.open(self.store) as store:
            info = store.campaigns(experiment="brute", limit=1)[0]
            return list(store.experiment(info.campaign).factors)


def _toml(level: Level) -> str:
    return f'"{level}"' if isinstance(level, str) else str(level)


def figures(results: Results) -> dict[str, dict[int, float]]:
    """Setting in words → repetition → figure of its valid run."""
    runs, metrics = results.runs(), results.metrics()
    values = metrics[metrics["metric"] == _AIM].set_index("run_id")["value"]
    names = {cell.cell_id: name for name, cell in settings(results).items()}
    found: dict[str, dict[int, float]] = {}
    for run in runs[runs["valid"]].itertuples():
        if run.run_id in values:
            found.setdefault(names[str(run.cell_id)], {})[int(run.repetition)] = float(values[run.run_id])
    return found


def settings(results: Results) -> dict[str, Cell]:
    """Setting, as findings say it → its cell."""
    cells = planning.cells(results.experiment)
    words = results.experiment.factors
    return {", ".join(f"{word} = {cell.levels[word]}" for word in words): cell for cell in cells}


def compare(case: str, bench: Bench) -> int:
    """The lines that are printed; how many searches have no winner."""
    one = bench.case
    brute = bench.played("brute", f"repetitions = {one.repetitions}\nseed = 1")
    searches = [
        bench.played(f"search{n}", f'search.minimise = "{_AIM}"\nseed = {n}') for n in range(1, 1 + one.searches)
    ]
    grid, truth = settings(brute), {name: median(row) for name, row in figures(brute).items()}
    first = min(truth, key=truth.__getitem__)
    answers = [searching.analyse(results)[0] for results in searches]
    chosen = [answer.claim.partition(": ")[2] for answer in answers if answer.estimate is not None]
    wanted = {name: grid[name] for name in (first, *chosen)}
    judged = bench.judged(wanted) if len(wanted) > 1 else {}
    behind = {name: compared(judged, name, first) for name in wanted}
    full, flagged = len(brute.runs()), int((~brute.runs()["valid"]).sum())
    kind = ", simulated" if answers[0].simulated else ""
    print(f"{case}{kind}: {len(grid)} settings, {full} runs of brute force ({flagged} flagged); {bench.load}")
    for name, value in sorted(truth.items(), key=lambda item: item[1])[:5]:
        print(f"  {name}: {value / 1e6:.4f} ms by brute force")
    inside = 0
    for results, answer in zip(searches, answers, strict=True):
        runs = results.runs()
        spent = f"{len(runs)} runs ({int((~runs['valid']).sum())} flagged), {len(runs) / full:.1%}"
        if answer.estimate is None or answer.low is None or answer.high is None:
            print(f"  search: {spent}: no winner: {'; '.join(answer.reasons)}")
            continue
        name = answer.claim.partition(": ")[2]
        got, held = behind[name], within(answer, behind[name])
        inside += held
        span = f" [{got.low:.2%}, {got.high:.2%}]" if got.low is not None and got.high is not None else ""
        fresh = " ".join(f"{x / 1e6:.4f}" for x in (answer.estimate, answer.low, answer.high))
        where = "inside" if held else "outside"
        print(f"  search: {spent}: {name}, {got.estimate:.2%}{span} behind; {fresh} ms afresh, the best is {where}")
    near = sum(behind[name].estimate <= AS_GOOD for name in chosen)
    spent_runs = sum(len(results.runs()) for results in searches) / len(searches)
    print(
        f"{case}: {near} of {len(searches)} searches within 1 % of the best, {inside} with it in their interval; "
        f"{spent_runs:.1f} runs of {full}: {spent_runs / full:.3f}",
        flush=True,
    )
    return len(searches) - len(chosen)


def median(row: Mapping[int, float]) -> float:
    """Of one setting's runs."""
    return sequences.quantile(list(row.values())).estimate


def compared(judged: Mapping[str, Mapping[int, float]], name: str, first: str) -> sequences.Anytime:
    """How much slower a setting is than another in the same blocks, as a share; nothing for the same one."""
    if name == first:
        return sequences.Anytime(0.0, 0.0, 0.0, 0)
    both = sorted(judged[name].keys() & judged[first].keys())
    return sequences.location([math.log(judged[name][n] / judged[first][n]) for n in both]).map(math.expm1)


def within(answer: Finding, behind: sequences.Anytime) -> bool:
    """Whether the interval of a search's fresh runs holds what the best takes: the found setting's, less its lag."""
    if answer.estimate is None or answer.low is None or answer.high is None:
        return False
    return answer.low <= answer.estimate / (1 + behind.estimate) <= answer.high


@contextmanager
def board_of(case: str, given: str | None, folder: Path) -> Iterator[str]:
    """The device's name; of a virtual board started for it the same in each call, so that a campaign can go on."""
    if given is not None or case != "note10":
        yield given or "local"
        return
    from virtualboards import lifecycle  # needs FUSE, which a root of Debian has not

    board = lifecycle.up("note10", abi="x86_64")[0]
    try:
        lab = folder / "lab.toml"
        lab.write_text(f'[devices.planted]\naddress = "adb:{board.serial}"\n', encoding="utf-8")
        os.environ["DEVICELAB_LAB"] = str(lab)
        yield "planted"
    finally:
        os.environ.pop("DEVICELAB_LAB", None)
        lifecycle.down([board.name])


def main() -> int:
    """Every case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)}; all if left out")
    parser.add_argument("--state", type=Path, help="a folder in which what was done is kept")
    parser.add_argument("--board", help="another device than this machine, or than a virtual board")
    parser.add_argument("--busy", action="store_true", help="count runs beside which others used the CPUs")
    args = parser.parse_args()
    if unknown := [case for case in args.cases if case not in CASES]:
        parser.error(f"no case {unknown[0]!r}; there are: {', '.join(CASES)}")
    lost = 0
    with tempfile.TemporaryDirectory() as name:
        folder = (args.state or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for case in args.cases or CASES:
            if case == "rusticl" and not drivers.rusticl_here():
                more = ["--busy"] if args.busy else []
                lost += drivers.again_inside(
                    Path(__file__).resolve(), case, "--state", str(folder), *more, state=folder
                )
                continue
            with board_of(case, args.board, folder) as board:
                lost += compare(case, Bench(case, folder, board, busy=args.busy))
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
