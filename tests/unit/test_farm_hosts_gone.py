"""The conductor's side of several hosts: how long a device is waited for, and what becomes of a task nobody can do."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("distributed")

from distributed import KilledWorker

from devicelab.device.lab import DeviceEntry
from devicelab.errors import DeviceUnreachableError
from devicelab.farm import engine_dask, hosting
from devicelab.farm.engine_dask import DaskEngine, Workers, each
from devicelab.farm.hosting import resource
from devicelab.jobs.conductor import Progress
from devicelab.model.experiment import Experiment
from devicelab.model.night import Farm, JobEntry, Task
from devicelab.store import Store
from tests import labdata

ENTRY = DeviceEntry(name="a", address="adb:a")
PATIENCE_S = 60.0
SILENT_S = engine_dask._SILENT_S


class Remote:
    """A task in a worker: it ends with what is given, or never."""

    def __init__(self, end: Any) -> None:
        self.end, self.cancelled = end, False

    def add_done_callback(self, call: Any) -> None:
        if self.done():
            call(self)

    def done(self) -> bool:
        return self.end is not None

    def result(self, **_: object) -> Any:
        if isinstance(self.end, BaseException):
            raise self.end
        return self.end

    def cancel(self, **_: object) -> None:
        self.cancelled = True


class Scheduler:
    """A client of a scheduler whose workers do what ``ends`` says, and a clock that moves when it is looked at."""

    def __init__(self) -> None:
        self.status, self.now_s, self.offered = "running", 0.0, lambda _now_s: True
        self.ends: list[Any] = []
        self.orders: list[tuple[hosting.Order, dict[str, Any]]] = []
        self.futures: list[Remote] = []
        self.workers: dict[str, Any] = {}
        self.called: list[tuple[str, str]] = []
        self.asked = 0

    def monotonic(self) -> float:
        return self.now_s

    def offering(self, _device: str) -> tuple[str, ...]:
        found = ("tcp://h:1",) if self.offered(self.now_s) else ()
        self.now_s += 1.0
        assert self.now_s < 1e6, "it never ends"
        return found

    def submit(self, _function: object, order: hosting.Order, **how: Any) -> Remote:
        self.orders.append((order, how))
        self.futures.append(Remote(self.ends.pop(0) if self.ends else None))
        return self.futures[-1]

    def scheduler_info(self, **_: object) -> dict[str, Any]:
        self.asked += 1
        return {"workers": self.workers}

    def sync(self, _run: object, function: Any, *_: object, workers: list[str], **__: object) -> dict[str, str]:
        (address,) = workers
        if address == "dead":
            raise OSError("gone")
        self.called.append((address, function.__name__))
        return {address: f"{address} did"}

    def _run(self) -> None:
        """What ``sync`` is told to call."""

    def subscribe_topic(self, _topic: str, heard: Any) -> None:
        self.heard = heard

    def unsubscribe_topic(self, _topic: str) -> None:
        pass


class Night:
    """A night with one task, which a farm of several hosts is asked to do."""

    def __init__(self, store: Store, selector: str = "a", *, progress: Any = None, **stored: Any) -> None:
        self.scheduler, self.store = Scheduler(), store
        self.farm = Farm(name="f", jobs=(JobEntry(experiment="e", devices="a"),), attempts=2, patience_s=PATIENCE_S)
        self.night = store.begin_night(self.farm)
        self.task = Task(task_id="1.1", job=0, experiment="e", selector=selector, priority=7)
        self.stored = self.task.model_copy(update={"device": "a", **stored})
        store.put_tasks(self.night, [self.stored])
        client: Any = self.scheduler
        self.engine = DaskEngine(client, client, "dask://h:1", self.farm, self.night, store, progress)

    def performed(self, left_s: float | None = None) -> Task:
        future = self.engine.submit(self.task, ENTRY, Experiment(question="?"), left_s)
        try:
            return future.result(timeout=60)
        finally:
            self.engine.close()

    def given_up(self, left_s: float | None = None) -> tuple[Task, float]:
        """The task that no worker ends, and when it was given up, seconds."""
        return self.performed(left_s), self.scheduler.now_s


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "s.sqlite") as opened:
        yield opened


Begin = Callable[..., Night]


@pytest.fixture
def begin(store: Store, monkeypatch: pytest.MonkeyPatch) -> Begin:
    """Begins a night in which no look waits: its clock is the scheduler's, which each look moves on by a second."""

    def begun(selector: str = "a", **stored: Any) -> Night:
        night = Night(store, selector, **stored)
        monkeypatch.setattr(engine_dask, "_LOOK_S", 0.0)
        monkeypatch.setattr(
            engine_dask, "time", SimpleNamespace(monotonic=night.scheduler.monotonic, time_ns=lambda: 1)
        )
        return night

    return begun


# --- how long ------------------------------------------------------------------------------------------------------


def test_a_device_that_nobody_offers_is_waited_for_as_long_as_the_farm_is_patient(store: Store, begin: Begin) -> None:
    night = begin()
    night.scheduler.offered = lambda now_s: now_s < 30
    ended, at_s = night.given_up()
    assert at_s == 30 + PATIENCE_S + 2, "missed from 30 s on, gone at the first look after the patience is over"
    assert night.scheduler.futures[0].cancelled
    assert (ended.status, ended.exit_code) == ("failed", 3)
    (seen,) = store.health(device="a", night=night.night)
    assert (seen.ok, seen.reasons) == (False, ("no host that reaches the device came back, or answers",))


def test_a_device_that_comes_back_in_time_is_missed_from_its_next_absence_on(begin: Begin) -> None:
    night = begin()
    night.scheduler.offered = lambda now_s: now_s % 50 == 49 and now_s < 200
    assert night.given_up()[1] == 200 + PATIENCE_S + 2


def test_a_night_that_is_stopped_waits_for_nobody_and_leaves_the_task_to_go_on(begin: Begin) -> None:
    night = begin(attempts=1, status="running")
    night.scheduler.offered = lambda now_s: now_s < 5
    night.engine.stop()
    ended, at_s = night.given_up()
    assert at_s == 6
    assert (ended.status, ended.device, ended.attempts) == ("waiting", "a", 1)
    assert ended.reason.startswith("interrupted: ")


@pytest.mark.parametrize("patience_s", [SILENT_S - 5, SILENT_S + 5])
def test_who_works_past_the_end_is_given_time_to_give_the_device_back(begin: Begin, patience_s: float) -> None:
    night = begin()
    night.engine._farm = night.farm.model_copy(update={"patience_s": patience_s})
    _, at_s = night.given_up(left_s=100.0)
    assert at_s == 100 + max(patience_s, SILENT_S) + 2


# --- how often -----------------------------------------------------------------------------------------------------


def test_what_a_worker_ended_is_the_task_as_it_left_it(store: Store, begin: Begin) -> None:
    night = begin(status="running", attempts=1)
    done = night.stored.model_copy(update={"status": "complete", "exit_code": 6, "reason": "2 cells have no valid run"})
    night.scheduler.ends = [done]
    assert night.performed() is done
    assert store.health(device="a") == (), "nothing is held against a device that worked"
    (order, how), *more = night.scheduler.orders
    assert not more
    assert (order.task, order.left_s, how["priority"]) == (night.task, None, 7)
    assert how["resources"] == {"device:a": 1}
    assert how["retries"] == 0, "who dies is replaced here, where it is counted"


@pytest.mark.parametrize("lost", [KilledWorker("x", None, 3), CancelledError()])
def test_a_task_whose_workers_die_is_given_once_more_than_its_attempts(begin: Begin, lost: Exception) -> None:
    night = begin(status="running", attempts=2)
    night.scheduler.ends = [lost] * 9
    ended = night.performed()
    assert len(night.scheduler.orders) == night.farm.attempts + 1
    assert len({how["key"] for _, how in night.scheduler.orders}) == night.farm.attempts + 1
    assert (ended.status, ended.reason, ended.attempts) == ("failed", "every worker that measured it died", 2)


def test_a_task_that_goes_to_another_worker_has_the_time_that_is_left(begin: Begin) -> None:
    night = begin()
    done = night.stored.model_copy(update={"status": "complete"})
    night.scheduler.ends = [KilledWorker("x", None, 3), KilledWorker("x", None, 3), done]
    times = iter([0.0, 30.0, 130.0])

    def submit(*given: Any, usual: Any = night.scheduler.submit, **how: Any) -> Remote:
        remote: Remote = usual(*given, **how)
        night.scheduler.now_s = next(times, 0.0)
        return remote

    night.scheduler.submit = submit  # type: ignore[method-assign]
    night.scheduler.now_s = 0.0
    assert night.performed(left_s=100.0) is done
    assert [order.left_s for order, _ in night.scheduler.orders] == [100.0, 100.0, 70.0]


@pytest.mark.parametrize("how", ["lost", "refused", "silent"])
def test_a_scheduler_that_is_gone_is_no_fault_of_the_device(store: Store, begin: Begin, how: str) -> None:
    night = begin(status="running", attempts=1)
    night.scheduler.ends = {"lost": [CancelledError()], "refused": [OSError("reset")], "silent": [None]}[how]
    night.scheduler.status = "running" if how == "refused" else "closed"
    with pytest.raises(DeviceUnreachableError, match="dask://h:1 does not answer any more"):
        night.performed()
    assert store.health(device="a") == ()
    assert store.tasks(night.night) == (night.stored,)


# --- what becomes of it --------------------------------------------------------------------------------------------

ANY = "any 1 of a, b"


@pytest.mark.parametrize(
    ("selector", "stored", "ended"),
    [
        ("a", {"status": "running", "attempts": 1}, ("failed", "a", 1, 3)),
        ("a", {"status": "waiting", "attempts": 0}, ("failed", "a", 1, 3)),
        (ANY, {"status": "running", "attempts": 1}, ("waiting", None, 1, 0)),
        (ANY, {"status": "waiting", "attempts": 0}, ("waiting", None, 1, 0)),
        (ANY, {"status": "waiting", "attempts": 1}, ("failed", "a", 2, 3)),
        (ANY, {"status": "running", "attempts": 2}, ("failed", "a", 2, 3)),
        (ANY, {"status": "running", "attempts": 1, "confirms": "1.0"}, ("failed", "a", 1, 3)),
    ],
)
def test_a_task_whose_host_is_gone_is_moved_while_it_may_be_and_each_try_counts_once(
    store: Store, begin: Begin, selector: str, stored: dict[str, Any], ended: tuple[Any, ...]
) -> None:
    night = begin(selector, **stored)
    night.scheduler.offered = lambda _: False
    found, _ = night.given_up()
    assert (found.status, found.device, found.attempts, found.exit_code) == ended
    assert found.reason == ("a: " if found.device is None else "") + store.health(device="a")[0].reasons[0]
    assert store.tasks(night.night) == (found,)


@pytest.mark.parametrize("status", ["complete", "failed", "skipped"])
def test_what_a_worker_wrote_before_its_host_went_away_counts(store: Store, begin: Begin, status: str) -> None:
    night = begin(status=status, exit_code=6)
    night.scheduler.offered = lambda _: False
    assert night.given_up()[0] == night.stored
    assert store.health(device="a") == ()


@pytest.mark.parametrize(("ended", "left"), [(None, "interrupted"), ("complete", "complete")])
def test_the_campaign_of_a_lost_host_is_not_left_as_if_it_ran(
    store: Store, begin: Begin, ended: Any, left: str
) -> None:
    night = begin()
    of = labdata.experiment(repetitions=1)

    def begun() -> str:
        return store.begin_campaign(
            experiment=of, facts=labdata.facts(), cells=labdata.cells(of), command="", binaries=(), plan_json=None,
            night=night.night,
        )  # fmt: skip

    lost, of_another = begun(), begun()
    if ended is not None:
        store.finish_campaign(lost, ended)
    store.put_tasks(night.night, [night.stored.model_copy(update={"status": "running", "campaign": lost})])
    night.scheduler.offered = lambda _: False
    night.given_up()
    assert (store.campaign(lost).status, store.campaign(of_another).status) == (left, "running")


# --- who is asked --------------------------------------------------------------------------------------------------


def test_workers_are_asked_all_or_those_named_and_one_that_is_gone_answers_for_itself() -> None:
    client: Any = Scheduler()
    client.workers = {"w1": {}, "dead": {}, "w2": {}}
    found = each(client, hosting.go_on, "n")
    assert (found["w1"], found["w2"], type(found["dead"])) == ("w1 did", "w2 did", OSError)
    assert sorted(client.called) == [("w1", "go_on"), ("w2", "go_on")]
    assert each(client, hosting.go_on, "n", workers=("w2",)) == {"w2": "w2 did"}
    assert each(client, hosting.go_on, "n", workers=()) == {}


def test_a_worker_counts_while_it_is_heard_of_and_has_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    client: Any = Scheduler()
    monkeypatch.setattr(engine_dask, "time", SimpleNamespace(monotonic=client.monotonic))
    has, lacks = {resource("a"): 1}, {resource("a"): 0, resource("b"): 1}
    beats = itertools.count()
    client.workers = {
        "alive": {"resources": has, "last_seen": next(beats)},
        "stopped": {"resources": has, "last_seen": 5},
        "other": {"resources": lacks, "last_seen": 5},
    }
    workers = Workers(client, silent_s=15.0)
    for now_s, living in [(100.0, ["alive", "stopped"]), (114.5, ["alive", "stopped"]), (115.0, ["alive"])]:
        client.now_s = now_s
        client.workers["alive"]["last_seen"] = next(beats)
        assert list(workers.offering("a")) == living
    asked = client.asked
    for now_s, more in [(115.4, 0), (115.5, 1), (115.9, 1), (116.0, 2)]:
        client.now_s = now_s
        workers.offering("a")
        assert client.asked == asked + more, "a thousand tasks ask once in half a look"


def test_progress_is_told_of_the_night_s_own_tasks_alone(begin: Begin) -> None:
    told: list[tuple[str, str | None, int]] = []
    night = begin(progress=lambda task, one: told.append((task.task_id, task.device, one.done)))
    night.scheduler.ends = [night.stored]
    night.performed()
    said = asdict(Progress(done=3, total=9, invalid=0, cell="x", eta_s=None))
    for task_id in ("1.1", "9.9"):
        night.scheduler.heard((0.0, {"task_id": task_id, "progress": said}))
    assert told == [("1.1", "a", 3)]
