"""One million kernel samples: how long from the store to findings and to a finished page, and with how much memory?

    python benchmarks/report_scale.py [--samples 1000000] [--keep PAGE.html]

The goals are 2 s, 300 MiB and a page of 2 MB; for ten million samples 20 s and 1024 MiB. The limit to compare with is
reading the same samples from the store without doing anything with them. Each is done by a process of its own, as
`devicelab report` does it; times are its CPU seconds, so that other work on the machine matters little, with its start
and the imports of the libraries; memory is its peak, likewise.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

if TYPE_CHECKING:
    from devicelab.store import Store

KERNELS, INFERENCES, CELLS = 29, 100, 30


def fill(store: "Store", samples: int) -> str:
    """A campaign of 30 cells with as many repetitions as the samples need."""
    from tests import labdata

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


def read(place: Path) -> dict[str, float]:
    """Read all samples and do nothing with them."""
    from devicelab.store import Store

    imported = time.process_time()
    with Store.open(place) as store:
        samples = len(store.results(store.campaign().campaign).samples("kernels"))
    return {"samples": samples, "read_s": time.process_time() - imported}


def conclude(place: Path, page: Path) -> dict[str, float]:
    """Findings and page."""
    from devicelab import report
    from devicelab.store import Store

    imported = time.process_time()
    with Store.open(place) as store:
        results = store.results(store.campaign().campaign)
        findings = report.conclude(results)
        concluded = time.process_time()
        size = report.write_page(results, findings, page).stat().st_size
    done = time.process_time()
    took = {"imports_s": imported, "findings_s": concluded - imported, "page_s": done - concluded, "all_s": done}
    return took | {"findings": len(findings), "runs": len(results.runs()), "page_mb": size / 1e6}


def main() -> None:
    """Fill here, then do each in a process that has read nothing yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="keep the page here")
    parser.add_argument("--once", nargs=2, type=Path, metavar=("STORE", "PAGE"), help=argparse.SUPPRESS)
    parser.add_argument("--read", type=Path, metavar="STORE", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.read or chosen.once:
        found = read(chosen.read) if chosen.read else conclude(*chosen.once)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # getrusage gives KiB on Linux
        print(json.dumps(found | {"peak_mib": peak}))
        return
    from devicelab.store import Store

    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "lab.sqlite"
        with Store.open(place) as store:
            fill(store, chosen.samples)
        only = _apart("--read", place)
        found = _apart("--once", place, chosen.keep or Path(name) / "page.html")
        times = found["all_s"] / only["read_s"]
        print(f"{only['samples']} kernel samples in {found['runs']} runs, {found['findings']} findings")
        print(f"read only        {only['read_s']:6.2f} s")
        print(f"imports          {found['imports_s']:6.2f} s")
        print(f"findings         {found['findings_s']:6.2f} s")
        print(f"page             {found['page_s']:6.2f} s   ({found['page_mb']:.2f} MB)")
        print(f"analysis + page  {found['all_s']:6.2f} s   goal 2 s, {times:.1f} times reading")
        print(f"peak memory      {found['peak_mib']:6.0f} MiB, goal 300 MiB")


def _apart(what: str, *paths: Path) -> dict[str, float]:
    argv = [sys.executable, __file__, what, *map(str, paths)]
    found: dict[str, float] = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    return found


if __name__ == "__main__":
    main()
