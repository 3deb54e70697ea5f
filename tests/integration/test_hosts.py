"""A farm of two hosts: a scheduler and two workers as processes, one database; a worker dies in the middle."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from distributed import Client

from devicelab.model.night import NightInfo
from devicelab.store import Store
from tests import postgres
from tests.benches import Bench, Commands, Host, finished, left_behind, wait_for
from tests.sim_fixtures import StartBoard

pytestmark = pytest.mark.slow

# For what takes half a minute on a machine that has nothing else to do.
_PATIENCE_S = 600

EXPERIMENT = """\
question = "Is every run stored once, whoever dies?"
repetitions = 6
hold_s = 0.5
settle_s = 0.1
[factors]
load = ["none", "1000 5000 20"]
"""


class Farm:
    """Scheduler, two workers and a conductor, each a process, with one lab.toml and one database."""

    def __init__(self, place: Path, lab: str, store: str, jobs: str, environment: dict[str, str] | None = None) -> None:
        self.commands = Commands("farm", "", place, environment or {})
        self.store, self._place = store, place
        (place / "lab.toml").write_text(lab, encoding="utf-8")
        (place / "e.toml").write_text(EXPERIMENT, encoding="utf-8")
        (place / "farm.toml").write_text(f'name = "f"\n{jobs}', encoding="utf-8")
        self.port = postgres.free_port()
        self.workers: dict[str, Host] = {}
        argv = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1"]
        argv += ["--port", str(self.port), "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
        with (place / "scheduler.txt").open("wb") as said:
            self._scheduler = subprocess.Popen(argv, stdout=said, stderr=said, cwd=place)
        assert wait_for(self._listens), (place / "scheduler.txt").read_text()

    def work(self, **words: tuple[str, ...]) -> None:
        """Start workers, by name with their options, and wait until they offer devices."""
        common = ("worker", "--scheduler", f"127.0.0.1:{self.port}", "--store", self.store)
        for name, own in words.items():
            self.workers[name] = self.commands.start(*common, "--name", name, *own, board=False)
        assert wait_for(lambda: self.said("works for") == len(words)), self.commands.said()

    def conduct(self, *words: str) -> Host:
        """Start a night."""
        words = ("nightly", "farm.toml", "--engine", f"dask://127.0.0.1:{self.port}", "--store", self.store, *words)
        return self.commands.start(*words, board=False)

    def said(self, text: str) -> int:
        """How often the commands said it."""
        path = self._place / "said.txt"
        return path.read_text(encoding="utf-8", errors="replace").count(text) if path.exists() else 0

    def worker_of(self, task_id: str) -> str:
        """The name of the worker that executes a task that has begun."""
        with Client(f"tcp://127.0.0.1:{self.port}", set_as_default=False) as client:
            names = {address: w["name"] for address, w in client.scheduler_info(n_workers=-1)["workers"].items()}
            at_work = client.processing()
        return next(names[at] for at, keys in at_work.items() if any(f"-{task_id}-" in str(key) for key in keys))

    def ended(self, night: Host) -> int:
        """The exit code of a night that is waited for."""
        night.join(_PATIENCE_S)
        assert night.exitcode is not None, self.commands.said()
        return night.exitcode

    def kill(self, worker: str) -> None:
        """The host's process dies without a word."""
        os.kill(int(self.workers[worker].pid or 0), signal.SIGKILL)
        self.workers.pop(worker).join()

    def end(self) -> list[int]:
        """Ask all workers to end; their exit codes."""
        for worker in self.workers.values():
            worker.terminate()
        return [finished(worker) for worker in self.workers.values()]

    def close(self) -> None:
        """Nothing is left, however the test went."""
        for worker in self.workers.values():
            if worker.is_alive():
                worker.kill()
                worker.join()
        self._scheduler.terminate()
        self._scheduler.wait()

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


@pytest.fixture
def farm() -> Iterator[Callable[..., Farm]]:
    made: list[Farm] = []

    def make(*words: object, **options: object) -> Farm:
        made.append(Farm(*words, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


def began(store: Store, device: str | None = None, runs: int = 1) -> bool:
    """The device (any one, if it is not named) has stored so many runs."""
    return any(info.runs_done >= runs for info in store.campaigns(device=device))


def every_run_once(store: Store, info: NightInfo) -> None:
    """All of the night's complete campaigns hold what was planned, each run once, and no task has two of them."""
    complete = [one for one in store.night_campaigns(info.night) if one.status == "complete"]
    assert sorted(one.campaign for one in complete) == sorted(str(task.campaign) for task in store.tasks(info.night))
    for campaign in complete:
        planned = [
            run["run_id"] for plan in json.loads(store.plan_json(campaign.campaign) or "") for run in plan["runs"]
        ]
        runs = store.results(campaign.campaign).runs()
        assert sorted(runs["run_id"]) == sorted(planned)
        assert campaign.runs_done == campaign.runs_planned == len(planned)
    assert store.check().problems == ()


@pytest.mark.sim
@pytest.mark.timeout(2 * _PATIENCE_S)
def test_a_dead_workers_board_is_undone_and_its_task_finished_by_the_other(
    farm: Callable[..., Farm], virtual_board: StartBoard, postgres_server: str, tmp_path: Path
) -> None:
    benches = {name: Bench(virtual_board("pixel", name=name, abi="x86_64"), tmp_path) for name in ("one", "two")}
    lab = "".join(f'[devices.{name}]\naddress = "{bench.entry.address}"\n' for name, bench in benches.items())
    url = postgres.new_database(postgres_server, "two-hosts")
    jobs = '[[jobs]]\nexperiment = "e.toml"\ndevices = "one, two"\nset = { cpu = "min" }\n'
    here = farm(tmp_path, lab, url, jobs)
    here.work(w1=(), w2=())
    night = here.conduct()
    with Store.open(url) as store:
        assert wait_for(lambda: not night.is_alive() or began(store, "one", runs=0), _PATIENCE_S)
        worker = here.worker_of("1.1")
        assert wait_for(lambda: not night.is_alive() or began(store, "one"), _PATIENCE_S)
        here.kill(worker)
        agents = benches["one"].agents()
        assert agents, "nothing was left to be undone"
        for pid in agents:
            os.kill(pid, signal.SIGKILL)
        assert here.ended(night) == 0, here.commands.said()
        (info,) = store.nights()
        assert (info.status, info.exit_code) == ("complete", 0)
        assert [(task.device, task.status, task.attempts) for task in store.tasks(info.night)] == [
            ("one", "complete", 1),
            ("two", "complete", 1),
        ]
        assert len(store.campaigns()) == 2
        every_run_once(store, info)
    assert here.end() == [0]
    for bench in benches.values():
        assert left_behind(bench, bench.fresh) == []


@pytest.mark.timeout(2 * _PATIENCE_S)
def test_a_task_of_a_host_that_does_not_come_back_is_moved(farm: Callable[..., Farm], tmp_path: Path) -> None:
    lab = "".join(
        f'[devices.{name}]\naddress = "local:"\ndir = "{tmp_path}/{name}"\ntags = ["t"]\n' for name in ("a", "b")
    )
    jobs = 'patience_s = 1\n[[jobs]]\nexperiment = "e.toml"\ndevices = "any 1 of tag=t"\n'
    here = farm(tmp_path, lab, str(tmp_path / "lab.sqlite"), jobs)
    here.work(a=("--device", "a"), b=("--device", "b"))
    night = here.conduct("--json")
    with Store.open(here.store) as store:
        assert wait_for(lambda: not night.is_alive() or began(store), _PATIENCE_S)
        first = store.campaigns()[0]
        here.kill(first.device)
        assert here.ended(night) == 0, here.commands.said()
        (info,) = store.nights()
        (task,) = store.tasks(info.night)
        (other,) = {"a", "b"} - {first.device}
        assert (task.status, task.device, task.attempts) == ("complete", other, 2)
        assert store.campaign(first.campaign).status == "interrupted"
        gone = store.health(device=first.device, limit=1)[0]
        assert not gone.ok
        assert "no host that reaches the device" in gone.reasons[0]
        every_run_once(store, info)
    assert here.end() == [0]
    # The agent of the dead host's device ends its plan alone.
    assert wait_for(lambda: not agents_below(tmp_path))


def agents_below(folder: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.exe().startswith(f"{folder}/"):
                found.append(process.pid)
    return found
