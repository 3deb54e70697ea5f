"""Does a search find on a device what brute force finds there, and with how many of its runs?

    python benchmarks/search_truth.py emulated|rusticl|note10 [--board NAME] [--repetitions 8] [--store FILE]

The product's own sweeps, one after the other: every setting so many times in shuffled blocks, then the search, which
knows nothing of the first. "Behind" is by how much the setting that was found is slower than the best, by the medians
of brute force (which has noise of its own).

- ``emulated``: K of MobileNetV1 on the emulated GPU of this machine (**simulated**).
- ``rusticl``: K of 48 equal kernels on Mesa's Rusticl, whose batches follow K (a real driver, **no GPU**); producer and
  driver pinned to a CPU each. Debian 13 has it; elsewhere run this inside a root of Debian 13.
- ``note10``: K x CPU clock x GPU clock x cores on a virtual Note10 (**simulated**; ``devicelab sim up note10`` first);
  what is best is planted in the board's model.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import devicelab as dl
from devicelab.analyses import searching
from devicelab.experiment import plan as planning
from devicelab.model.results import Results
from devicelab.store import Store

_KS = "[1, 2, 3, 4, 6, 8, 10, 12, 16, 24, 0]"
_NETWORK = "kernel 1300 8000\n" * 48
CASES = {
    "emulated": f"""
factors.k = {_KS}
[measure]
workload = "klo"
timeout_s = 60
params = {{ backend = "emulated", network = "mobilenet_v1", warmup = 1, inferences = 5, plain = 10 }}
""",
    "rusticl": f"""
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
inferences = 10
plain = 30
""",
    "note10": """
[factors]
k = [1, 2, 4, 8, 16, 0]
cpu = ["min", "mid", "max"]
gpu = ["min", "mid", "max"]
placement = ["big", "little"]
[measure]
workload = "klo"
timeout_s = 60
params = { backend = "emulated", network = "mobilenet_v1", warmup = 1, inferences = 3, plain = 3 }
""",
}
_AIM = "total_ns"


def experiment(case: str, folder: Path, name: str, more: str) -> Path:
    """The file of one of the two sweeps."""
    network = folder / "net.txt"
    network.write_text(_NETWORK, encoding="utf-8")
    text = CASES[case].replace("NETWORK", str(network))
    place = folder / f"{name}.toml"
    place.write_text(f'question = "Which setting is the fastest?"\nsettle_s = 0\n{more}\n{text}', encoding="utf-8")
    return place


def medians(results: Results) -> dict[str, float]:
    """Setting in words → median of its valid runs."""
    runs, metrics = results.runs(), results.metrics()
    figures = metrics[metrics["metric"] == _AIM].set_index("run_id")["value"]
    valid = runs[runs["valid"]]
    names = labels(results)
    found = valid["run_id"].map(figures).groupby(valid["cell_id"].map(names)).median()
    return {str(name): float(value) for name, value in found.dropna().items()}


def labels(results: Results) -> dict[str, str]:
    """Cell id → its setting, as findings say it."""
    cells = planning.cells(results.experiment)
    words = [word for word in cells[0].levels if len({str(cell.levels[word]) for cell in cells}) > 1]
    return {cell.cell_id: ", ".join(f"{word} = {cell.levels[word]}" for word in words) for cell in cells}


def main() -> int:
    """Both sweeps, and the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=sorted(CASES))
    parser.add_argument("--board", default="local")
    parser.add_argument("--repetitions", type=int, default=8)
    parser.add_argument("--store", type=Path, help="keep the runs; brute force that is there already is not repeated")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place = args.store or folder / "s.sqlite"
        full = experiment(args.case, folder, "brute", f"repetitions = {args.repetitions}\nseed = 1")
        wanted = experiment(args.case, folder, "search", f'search.minimise = "{_AIM}"\nseed = 2')
        with Store.open(place) as store:
            there = bool(store.campaigns(experiment="brute", limit=1))
        if not there:
            dl.sweep(full, board=args.board, store=place, report=folder / "a.html")
        dl.sweep(wanted, board=args.board, store=place, report=folder / "b.html")
        with Store.open(place) as store:
            brute, found = (store.campaigns(experiment=one, limit=1)[0].campaign for one in ("brute", "search"))
            return compare(args.case, store.results(brute), store.results(found))


def compare(case: str, brute: Results, found: Results) -> int:
    """The lines that are printed; 0 if there is a winner."""
    truth, runs, taken = medians(brute), brute.runs(), found.runs()
    best, *_ = findings = searching.analyse(found)
    if best.estimate is None:
        print(f"{case}: no winner: {'; '.join(findings[0].reasons)}")
        return 1
    chosen = best.claim.partition(": ")[2]
    first = min(truth, key=truth.__getitem__)
    kind = ", simulated" if best.simulated else ""
    flagged = [int((~frame["valid"]).sum()) for frame in (runs, taken)]
    print(f"{case}{kind}: {len(labels(brute))} settings; brute force {len(runs)} runs ({flagged[0]} flagged), ", end="")
    print(f"search {len(taken)} ({flagged[1]} flagged): {len(taken) / len(runs):.1%}")
    for name, value in sorted(truth.items(), key=lambda item: item[1])[:5]:
        print(f"  {name}: {value / 1e6:.4f} ms{'  <- found' if name == chosen else ''}")
    behind = truth[chosen] / truth[first] - 1
    got = [f"{x / 1e6:.4f}" if x is not None else "?" for x in (best.estimate, best.low, best.high)]
    print(f"  found: {chosen}, {behind:.2%} behind the best by brute force; ", end="")
    print(f"fresh runs: {got[0]} [{got[1]}, {got[2]}] ms; {best.reasons[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
