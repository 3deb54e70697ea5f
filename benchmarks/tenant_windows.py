"""What a window of a tenants experiment costs beyond itself, by how many windows share one start of the tenants.

    devicelab sweep dual_model --board SERVER --bundle w1.tar --set windows=1 --set duration_s=3 …     (and windows=10)
    python benchmarks/tenant_windows.py STORE CAMPAIGN [CAMPAIGN ...]

Reads campaigns that were measured before (a GPU stands in another machine, often one that nothing else reaches) and
prints for each how many windows a start has, and the median over its valid runs of (run - windows x duration) / windows
in seconds: starting the tenants, warming them up, the pauses between windows, ending them, and devicelab itself. The
peer is a start for each window, the campaign with one. The goal is 2 s.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import devicelab


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("campaigns", nargs="+")
    args = parser.parse_args()
    costs: dict[int, float] = {}
    lab = devicelab.open(args.store)
    for name in args.campaigns:
        results = lab.results(name)
        experiment, runs = results.experiment, results.runs()
        runs_s = runs.loc[runs["valid"], "duration_ns"] / 1e9
        windows = experiment.windows
        costs[windows] = float((runs_s - windows * experiment.duration_s).median()) / windows
        print(f"{name}: windows {windows}, runs {len(runs_s)}: {costs[windows]:.2f} s")
    fewest, most = min(costs), max(costs)
    print(f"a window, s {costs[most]:.2f} {costs[fewest]:.2f} {costs[most] / costs[fewest]:.2f}")


if __name__ == "__main__":
    main()
