"""One million kernel samples: how long from the store to findings and to a finished page, and with how much memory?

    python benchmarks/report_scale.py [--samples 1000000] [--keep PAGE.html]

The goals are 2 s, 300 MiB and a page of 2 MiB. The limit to compare with is reading the same samples from the store
without doing anything with them. Times are CPU seconds of this one process, so that other work on the machine matters
little; the imports of the libraries are in them. Memory is the process's peak, interpreter and libraries included.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from devicelab.report import build_report, conclude
from devicelab.store import Store
from tests import labdata

KERNELS, INFERENCES, CELLS = 29, 100, 30


def fill(store: Store, samples: int) -> str:
    """A campaign of 30 cells with as many repetitions as the samples need."""
    of = labdata.experiment(
        factors={"load": tuple(labdata.LOADS), "k": (1, 2, 3, 4, 6, 8, 12, 16, 20, 29)},
        repetitions=max(1, round(samples / (CELLS * KERNELS * INFERENCES))),
        analyses=("load", "klo"),
    )
    campaign = labdata.begin(store, of)
    cells = labdata.cells(of)
    for seq in range(len(cells) * of.repetitions):
        cell, repetition = cells[seq % len(cells)], seq // len(cells)
        use = labdata.LOADS[str(cell.levels["load"])]
        store.commit_run(
            campaign,
            cell,
            labdata.record(labdata.run_id(campaign, cell, repetition), seq, use=use),
            repetition=repetition,
            measurements={
                "measure": labdata.measurement(
                    seq, k=int(cell.levels["k"]), use=use, inferences=INFERENCES, kernels=KERNELS
                )
            },
            flags=(),
        )
    store.finish_campaign(campaign, "complete")
    return campaign


def main() -> None:
    """Fill, then time each step in a process that has read nothing yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="keep the page here")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, Store.open(Path(name) / "lab.sqlite") as store:
        campaign = fill(store, chosen.samples)
        filled_mib = peak_mib()
        start = time.process_time()
        samples = len(store.results(campaign).samples("kernels"))
        read = time.process_time()
        findings = conclude(store.results(campaign))
        store.add_findings(campaign, findings)
        concluded = time.process_time()
        page = build_report(store, campaign, chosen.keep or Path(name) / "page.html")
        made = time.process_time()
        print(f"{samples} kernel samples in {store.campaign(campaign).runs_done} runs, {len(findings)} findings")
        print(f"read only        {read - start:6.2f} s")
        print(f"read + analyses  {concluded - read:6.2f} s")
        print(f"read + page      {made - concluded:6.2f} s   ({page.stat().st_size / 2**20:.1f} MiB)")
        print(f"analysis + page  {made - read:6.2f} s   goal 2 s, {(made - read) / (read - start):.1f} times reading")
        print(f"peak memory      {peak_mib():6.0f} MiB (before reading: {filled_mib:.0f} MiB), goal 300 MiB")


def peak_mib() -> float:
    """Peak resident memory of this process (getrusage gives KiB on Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
