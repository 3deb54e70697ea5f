"""A thousand boards on twenty hosts, simulated: does the farm's conductor keep up, and what breaks first?

    python benchmarks/farm_scale.py [--boards 1000] [--hosts 20] [--runs 4] [--seed 1]

The conductor, the schedule and the database are the product's; only boards and clock are simulated. A task lasts as
long as its plan says times a factor drawn for it (sd 5 %), the clock jumps from event to event, and when a task ends
all that a worker would store of it is stored: two looks at the board, a campaign, its runs. Results go to a PostgreSQL
server started for this. Printed are

- makespan beside the ideal: the longest of "all work by all boards" and "the most that one board has of its own".
- the conductor's processor time, without the simulated boards' (they are workers' on other hosts), and its memory.
- rows a second that PostgreSQL takes from as many processes as there are hosts, each committing runs one by one.
- the site: seconds and sizes of its pages, without the campaigns' reports.
"""

import argparse
import heapq
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Collection
from concurrent.futures import Future
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sqlalchemy import text as sql

from devicelab.device.lab import DeviceEntry
from devicelab.farm import night as conducting
from devicelab.farm.care import Left
from devicelab.farm.job import understood
from devicelab.farm.night import Conductor
from devicelab.farm.selectors import Known
from devicelab.model.experiment import Experiment
from devicelab.model.night import Farm, Health, JobEntry, Task
from devicelab.report import site
from devicelab.store import Store
from tests import labdata, postgres

KINDS = ("note10", "qualcomm-865")
_EXPERIMENT = """\
question = "What does a thousand boards cost?"
repetitions = {runs}
hold_s = {seconds}
settle_s = 0.5
analyses = []
[factors]
load = ["none"]
"""
_COMMITTING_S = 20.0


class SimulatedHosts:
    """Boards that only last: implements ``engine.Hosts`` and ``engine.Engine`` with a clock of its own."""

    def __init__(self, pool: dict[str, Known], seed: int, runs: int) -> None:
        self.pool, self.runs = pool, runs
        self.now_s = 0.0
        self.busy_s = dict.fromkeys(pool, 0.0)
        self.own_s = dict.fromkeys(pool, 0.0)
        self.boards_cpu_s = 0.0
        self.seconds: Any = None
        self._chance = random.Random(seed)
        self._events: list[tuple[float, int, Future[Task], Task, str]] = []
        self._count = 0

    def known_devices(self, store: Store) -> dict[str, Known]:  # noqa: ARG002
        """See ``Hosts``."""
        return self.pool

    def engine(self, farm: Farm, night: str, store: Store, on_progress: object = None) -> "SimulatedHosts":  # noqa: ARG002
        """See ``Hosts``."""
        self.night, self.store = night, store
        return self

    def give_back(self, entry: DeviceEntry, campaigns: Collection[str]) -> Left | None:  # noqa: ARG002
        """See ``Hosts``."""
        return None

    def looks(self, store: Store, night: str) -> tuple[Health, ...]:  # noqa: ARG002
        """See ``Hosts``."""
        return ()

    def submit(self, task: Task, entry: DeviceEntry, experiment: Experiment, left_s: float | None) -> Future[Task]:  # noqa: ARG002
        """See ``Engine``."""
        future: Future[Task] = Future()
        lasts_s = self.seconds(task, entry.name) * max(0.5, self._chance.gauss(1.0, 0.05))
        self.busy_s[entry.name] += lasts_s
        self.own_s[entry.name] += lasts_s if task.device is not None else 0.0
        self._count += 1
        heapq.heappush(self._events, (self.now_s + lasts_s, self._count, future, task, entry.name))
        return future

    def stop(self) -> None:
        """See ``Engine``."""

    def close(self) -> None:
        """See ``Engine``."""

    def wait(self, running: Collection[Future[Task]], timeout: float, return_when: str) -> Any:  # noqa: ARG002
        """In place of ``concurrent.futures.wait``: the clock jumps to the next end."""
        self.now_s, _, future, task, device = heapq.heappop(self._events)
        began = time.process_time()
        future.set_result(self._stored(task, device))
        self.boards_cpu_s += time.process_time() - began
        return type("Done", (), {"done": {future}})

    def _stored(self, task: Task, device: str) -> Task:
        store, night = self.store, self.night
        of = labdata.experiment(name=task.experiment, repetitions=self.runs, analyses=(), factors={"load": ("none",)})
        begun = task.model_copy(update={"device": device, "status": "running", "attempts": 1})
        store.claim_task(night, task.task_id, "waiting", begun)
        for phase in ("before", "after"):
            seen = {"free_mib": 900.0, "hottest_c": 40.0}
            store.add_health(Health(device=device, night=night, task_id=task.task_id, phase=phase, ok=True,
                                    figures=seen, at_unix_ns=time.time_ns()))  # fmt: skip
        cells = labdata.cells(of)
        campaign = store.begin_campaign(
            experiment=of, facts=labdata.facts(name=device), cells=cells, command="benchmark",
            binaries=labdata.binaries(), plan_json=None, night=night,
        )  # fmt: skip
        for repetition in range(self.runs):
            identity = labdata.run_id(campaign, cells[0], repetition)
            store.commit_run(campaign, cells[0], _RECORD.model_copy(update={"run_id": identity}),
                             repetition=repetition, measurements={"measure": _MEASURED}, flags=())  # fmt: skip
        store.finish_campaign(campaign, "complete")
        ended = begun.model_copy(update={"status": "complete", "campaign": campaign})
        store.put_tasks(night, [ended])
        return ended


_RECORD = labdata.record("x")
_MEASURED = labdata.measurement(1, inferences=2, kernels=4)


def make_pool(boards: int, hosts: int) -> dict[str, Known]:
    """Boards of two kinds, spread over hosts."""
    pool = {}
    for number in range(boards):
        name, kind = f"board-{number:04d}", KINDS[number % 2]
        tags = ("farm", f"host{number % hosts}")
        pool[name] = Known(DeviceEntry(name=name, address=f"adb:{name}", board=kind, tags=tags), kind)
    return pool


def make_farm(place: Path, boards: int, runs: int) -> Farm:
    """Every board has an experiment; one kind has another; a quarter's worth goes to whoever is free."""
    for name, seconds in (("short", 30), ("long", 120), ("any", 60)):
        text = _EXPERIMENT.format(runs=runs, seconds=seconds)
        (place / f"{name}.toml").write_text(text, encoding="utf-8")
    return Farm(
        name="thousand",
        jobs=(
            JobEntry(experiment=str(place / "short.toml"), devices="tag=farm"),
            JobEntry(experiment=str(place / "long.toml"), devices="board=note10", priority=1),
            JobEntry(experiment=str(place / "any.toml"), devices=f"any {boards // 2} of tag=farm"),
        ),
    )


def commit_for_a_while(url: str, number: int, counts: Any) -> None:
    """One host: runs, one by one."""
    with Store.open(url) as store:
        of = labdata.experiment(name=f"host-{number}", factors={"load": ("none",)}, analyses=())
        campaign = labdata.begin(store, of, name=f"host-{number}")
        cell = labdata.cells(of)[0]
        until, done = time.monotonic() + _COMMITTING_S, 0
        while time.monotonic() < until:
            record = _RECORD.model_copy(update={"run_id": f"{number:04x}{done:012x}"})
            store.commit_run(campaign, cell, record, repetition=done, measurements={"measure": _MEASURED}, flags=())
            done += 1
        counts[number] = done


def rows(url: str) -> int:
    """Rows in all tables."""
    with Store.open(url) as store, store._engine.connect() as connection:  # noqa: SLF001
        tables = connection.execute(sql("SELECT relname FROM pg_stat_user_tables")).scalars().all()
        return sum(connection.execute(sql(f'SELECT count(*) FROM "{name}"')).scalar_one() for name in tables)  # noqa: S608


def conduct(url: str, place: Path, args: argparse.Namespace) -> None:
    """The night, its figures, and its pages."""
    pool = make_pool(args.boards, args.hosts)
    hosts = SimulatedHosts(pool, args.seed, args.runs)
    conducting.wait = hosts.wait  # type: ignore[assignment]
    with Store.open(url) as store:
        before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        began, cpu = time.monotonic(), time.process_time()
        job = understood(make_farm(place, args.boards, args.runs))
        conductor = Conductor(job, pool, store, conducting.SILENT, hosts)
        hosts.seconds = conductor.seconds
        conductor.begin()
        foretold = conductor.foretell()
        foretold_s = time.process_time() - cpu
        conductor.conduct()
        own_s = time.process_time() - cpu - hosts.boards_cpu_s
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        tasks = store.tasks(conductor.night)
        store.finish_night(conductor.night, "complete", 0)
        bad = [task for task in tasks if task.status != "complete"]
        ideal_s = max(sum(hosts.busy_s.values()) / len(pool), *hosts.own_s.values())
        took_s, ratio = time.monotonic() - began, hosts.now_s / ideal_s
        print(f"{len(pool)} boards, {len(tasks)} tasks, {len(bad)} of them not complete; {took_s:.0f} s")
        print(
            f"makespan {hosts.now_s:.1f} s simulated, ideal {ideal_s:.1f} s: {ratio:.3f}; "
            f"foretold {foretold.end_s:.1f} s"
        )
        print(
            f"conductor {own_s:.1f} s of processor time, {foretold_s:.1f} s of it before the first task, "
            f"{own_s / len(tasks) * 1e3:.1f} ms a task; {peak_mib:.0f} MiB at most ({before_mib:.0f} before)"
        )
        pages(store, place)


def pages(store: Store, place: Path) -> None:
    """The site without reports, and once more when nothing changed."""
    for what in ("site", "site again"):
        began, top = time.monotonic(), place / "site"
        made = site.update_site(store, top, reports=0)
        found = sorted(top.rglob("*.html"), key=lambda path: -path.stat().st_size)
        sizes = ", ".join(f"{one.relative_to(top).parts[0]} {one.stat().st_size / 1024:.0f} KiB" for one in found[:3])
        took_s = time.monotonic() - began
        print(f"{what} {took_s:.1f} s, {len(made.written)} pages written of {len(found)}; largest: {sizes}")


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description="A thousand simulated boards.")
    parser.add_argument("--boards", type=int, default=1000)
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--runs", type=int, default=4, help="runs of a task")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scale-") as folder, postgres.running() as url:
        fork = multiprocessing.get_context("fork")
        counts = fork.Array("q", args.hosts)
        shared = postgres.new_database(url, "rows")
        Store.open(shared).close()
        before = rows(shared)
        hosts = [fork.Process(target=commit_for_a_while, args=(shared, n, counts)) for n in range(args.hosts)]
        for host in hosts:
            host.start()
        for host in hosts:
            host.join()
        done, written = sum(counts), rows(shared) - before
        speed = f"{done / _COMMITTING_S:.0f} runs/s, {written / _COMMITTING_S:.0f} rows/s"
        print(f"{args.hosts} hosts committed {speed} ({os.cpu_count()} cores for server and hosts)", flush=True)
        conduct(postgres.new_database(url, "night"), Path(folder), args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
