"""A store with a million runs, against a small one: does it stay usable?

    python benchmarks/store_scale.py [--runs 1000000] [--keep FILE]

Every row compares the same call on a large and on a small store (both filled with the same kind of campaigns: 250 runs
of 50 cells, 12 figures and one evidence record a run, samples of one kernel table) in one process. Commit is also
compared with the physical limit: an fsync of as many bytes on the same disk. A ratio near 1 means that the size of the
store does not matter; "list", "commit", "resume" and "report" should be there. "history" reads
a figure of an experiment night after night, as the pages of nights do: the same ten nights in both stores.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import insert, select

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from devicelab.compare.campaigns import compare
from devicelab.model.night import Farm, JobEntry
from devicelab.report import build_report
from devicelab.store import Store, schema
from devicelab.store.records import run_rows
from tests import labdata

CELLS, REPETITIONS, DEVICES, EXPERIMENTS = 50, 5, 20, 10
PER_CAMPAIGN = CELLS * REPETITIONS
NIGHTS = 10
FOLLOWED = "followed"
FARM = Farm(name="nightly", jobs=(JobEntry(experiment=FOLLOWED, devices="phone-0"),))


def fill(store: Store, runs: int) -> None:
    """Campaigns by the store's own call, their runs copied in bulk (durability off: this is not what is measured)."""
    of = [experiment(f"experiment-{number}") for number in range(EXPERIMENTS)]
    template = run_rows(labdata.record("x"), 0, {"measure": measurement()}, ())
    engine = store._engine  # noqa: SLF001 - bulk filling is no business of the product
    names = store._metric_numbers(template.metrics)  # noqa: SLF001
    metrics = [(names[key], value) for key, value in template.metrics.items()]
    done = 0
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_autocheckpoint=20000")
    for number in range(-NIGHTS, runs // PER_CAMPAIGN):
        night = store.begin_night(FARM, night=f"night{number}") if number < 0 else None
        chosen = experiment(FOLLOWED) if night else of[number % EXPERIMENTS]
        cells = labdata.cells(chosen)
        campaign = store.begin_campaign(
            experiment=chosen,
            facts=labdata.facts(name=f"phone-{max(0, number) // EXPERIMENTS % DEVICES}"),
            cells=cells,
            command="benchmark",
            binaries=labdata.binaries(),
            plan_json=None,
            night=night,
        )
        with store._writer.begin() as connection:  # noqa: SLF001
            t = schema.campaigns
            key = connection.execute(select(t.c.id).where(t.c.campaign == campaign)).scalar_one()
            cell_keys = store._cell_numbers(connection, cells)  # noqa: SLF001
            plan = [(cell_keys[cell.cell_id], r) for r in range(REPETITIONS) for cell in cells]
            ids = range(done + 1, done + 1 + len(plan))
            connection.execute(
                insert(schema.runs),
                [
                    {
                        **template.run,
                        "id": i,
                        "campaign": key,
                        "cell": cell,
                        "repetition": r,
                        "run_id": f"{i:016x}",
                        "valid": True,
                    }
                    for i, (cell, r) in zip(ids, plan, strict=True)
                ],
            )
            connection.execute(
                insert(schema.metrics),
                [{"run": i, "name": name, "value": value * (1 + i % 97 / 1e4)} for i in ids for name, value in metrics],
            )
            connection.execute(insert(schema.evidence), [{**template.evidence, "run": i} for i in ids])
            connection.execute(insert(schema.samples), [{**row, "run": i} for i in ids for row in template.samples])
            connection.execute(insert(schema.programs), [{**row, "run": i} for i in ids for row in template.programs])
            values = {"runs_done": len(plan), "status": "complete"}
            connection.execute(t.update().where(t.c.id == key).values(values))
        done += len(plan)


def experiment(name: str) -> labdata.Experiment:
    """50 cells."""
    return labdata.experiment(
        name=name,
        factors={"load": ("none", "10 1000 20"), "k": tuple(range(1, 26))},
        repetitions=REPETITIONS,
        analyses=(),
    )


def measurement() -> labdata.Measurement:
    """A kernel table and 12 figures."""
    given = labdata.measurement(1)
    more = {f"figure_{i}_ns": labdata.Metric(1e6 + i, "ns") for i in range(12 - len(given.metrics))}
    return labdata.Measurement(tables={"kernels": given.tables["kernels"]}, metrics={**given.metrics, **more})


def seconds(call: Callable[[], object], times: int = 5) -> float:
    """Median wall time."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def commits(store: Store) -> float:
    """Median time to commit a run."""
    campaign = labdata.begin(store)
    cells = store.cells(campaign)
    numbers = iter(range(10_000))

    def one() -> None:
        i = next(numbers)
        record = labdata.record(f"run-{i}", i)
        store.commit_run(
            campaign, cells[i % len(cells)], record, repetition=i, measurements={"measure": measurement()}, flags=()
        )

    return seconds(one, 60)


def fsyncs(folder: Path) -> float:
    """Median time to append and fsync what one commit writes (about 12 pages and their heads in the log)."""
    data = os.urandom(12 * 4120)
    with (folder / "fsync").open("wb") as file:

        def one() -> None:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

        return seconds(one, 60)


def measure(store: Store, folder: Path) -> dict[str, float]:
    """Wall times of what people and sweeps do, in seconds."""
    latest, other = (info.campaign for info in store.campaigns(limit=2, experiment="experiment-0"))
    times = {
        "list 20 campaigns": seconds(lambda: store.campaigns(limit=20)),
        "unfinished of a device": seconds(lambda: store.unfinished(device="phone-3")),
        "find a campaign by prefix": seconds(lambda: store.campaign(latest[:-1])),
        "resume: ids of stored runs": seconds(lambda: store.done_runs(latest)),
        "frames of a campaign": seconds(lambda: (store.results(latest).runs(), store.results(latest).metrics())),
        "samples of a campaign": seconds(lambda: store.results(latest).samples("kernels")),
        "report of a campaign": seconds(lambda: build_report(store, latest, folder / "page.html"), 3),
        "compare two campaigns": seconds(lambda: compare(store.results(latest), store.results(other)), 3),
        "export a campaign": seconds(lambda: store.export(latest, folder / "export", "csv"), 3),
        "history of a figure": seconds(lambda: store.night_medians(FOLLOWED, {("measure", "total_ns")}), 3),
        "commit a run": commits(store),
    }
    times["fsync of as many bytes"] = fsyncs(folder)
    return times


def main() -> None:
    """Fill two stores, measure both, print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="keep the large store here; one that is there is not filled again")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = []
        for runs, path in (
            (20 * PER_CAMPAIGN, folder / "small.sqlite"),
            (chosen.runs, chosen.keep or folder / "large.sqlite"),
        ):
            there = path.is_file()
            with Store.open(path) as store:
                start = time.perf_counter()
                if not there:
                    fill(store, runs)
                spent = time.perf_counter() - start
                print(f"{runs} runs, {store._bytes() / 2**30:.2f} GiB, filled in {spent:.0f} s", flush=True)  # noqa: SLF001
                results.append(measure(store, folder))
    small, large = results
    print(f"\n{'':28}{'small':>12}{'large':>12}{'ratio':>8}")
    for what, value in large.items():
        print(f"{what:28}{small[what] * 1e3:9.2f} ms{value * 1e3:9.2f} ms{value / small[what]:8.2f}")
    print(f"{'commit / fsync (limit)':28}{'':24}{large['commit a run'] / large['fsync of as many bytes']:8.2f}")


if __name__ == "__main__":
    main()
