"""A farm of two hosts: a scheduler and two workers as processes, one database; a worker dies in the middle."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from devicelab.model.night import NightInfo
from devicelab.store import Store
from tests import postgres
from tests.benches import Bench, left_behind, wait_for
from tests.farms import PATIENCE_S, Farm
from tests.processes import kill_all
from tests.sim_fixtures import StartBoard

pytestmark = pytest.mark.slow


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
@pytest.mark.timeout(2 * PATIENCE_S)
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
        assert wait_for(lambda: not night.is_alive() or began(store, "one", runs=0), PATIENCE_S)
        worker = here.worker_of("1.1")
        assert wait_for(lambda: not night.is_alive() or began(store, "one"), PATIENCE_S)
        here.kill(worker)
        agents = benches["one"].agents()
        assert agents, "nothing was left to be undone"
        kill_all(agents)
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


@pytest.mark.timeout(2 * PATIENCE_S)
def test_a_task_of_a_host_that_does_not_come_back_is_moved(farm: Callable[..., Farm], tmp_path: Path) -> None:
    lab = "".join(
        f'[devices.{name}]\naddress = "local:"\ndir = "{tmp_path}/{name}"\ntags = ["t"]\n' for name in ("a", "b")
    )
    jobs = 'patience_s = 1\n[[jobs]]\nexperiment = "e.toml"\ndevices = "any 1 of tag=t"\n'
    here = farm(tmp_path, lab, str(tmp_path / "lab.sqlite"), jobs)
    here.work(a=("--device", "a"), b=("--device", "b"))
    night = here.conduct("--json")
    with Store.open(here.store) as store:
        assert wait_for(lambda: not night.is_alive() or began(store), PATIENCE_S)
        assert store.campaigns(), here.commands.said()
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
