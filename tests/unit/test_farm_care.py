"""How long a farm waits for a device that somebody else has, how often it reboots one, and what it gives back."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devicelab.device import agent, reservation
from devicelab.device.agent import Status
from devicelab.device.lab import DeviceEntry
from devicelab.device.reservation import Reservation
from devicelab.errors import DeviceBusyError, DeviceUnreachableError
from devicelab.farm import care as caring
from devicelab.farm import engine, recover
from devicelab.farm.care import Care, Limits, put_back
from devicelab.farm.engine import LocalThreads
from devicelab.ground import user
from devicelab.jobs.conductor import Progress
from devicelab.model.experiment import Experiment
from devicelab.model.night import Farm, Health, JobEntry, Task
from devicelab.store import Store
from tests import labdata

ENTRY = DeviceEntry(name="a", address="adb:a")
FARM = Farm(name="f", jobs=(JobEntry(experiment="e", devices="a"),), wait_busy_s=60.0, max_reboots=2)
NOW_UNIX_S = 2e9
OTHER = Status(alive=True, holder="somebody", plan_id="d-1")


class Clock:
    """Time that passes only while somebody waits; both clocks show it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s, self.waited, self.waits = 1000.0, 0.0, 0
        times = SimpleNamespace(monotonic=lambda: self.now_s, time=lambda: NOW_UNIX_S + self.waited, time_ns=lambda: 1)
        monkeypatch.setattr(caring, "time", times)

    def wait(self, seconds: float) -> bool:
        assert seconds >= 0
        self.waits += 1
        assert self.waits < 1000, "it never ends"
        self.now_s += seconds
        self.waited += seconds
        return False


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with labdata.new_store(tmp_path / "s.sqlite") as opened:
        yield opened


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def care(store: Any, clock: Clock, *, night: str = "n", **farm: Any) -> Care:
    limits: Any = SimpleNamespace(wait=clock.wait, over=lambda: False)
    return Care(store, FARM.model_copy(update=farm), night, "1.1", ENTRY, limits)


def device(*, idle: bool = False, reserved: str = "") -> Any:
    return SimpleNamespace(idle=idle, reserved=reserved)


def held(monkeypatch: pytest.MonkeyPatch, clock: Clock, until_s: float, by: Status = OTHER) -> None:
    monkeypatch.setattr(agent, "status", lambda _: by if clock.waited < until_s else Status())


# --- somebody else has it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("until_s", "waited_s"), [(0, 0), (1, 5), (55, 55), (60, 60), (60.1, None)])
def test_a_held_device_is_waited_for_up_to_the_farm_s_limit(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, until_s: float, waited_s: float | None
) -> None:
    held(monkeypatch, clock, until_s)
    waits = care(None, clock)
    if waited_s is None:
        with pytest.raises(DeviceBusyError, match="held by somebody; waited 60 s"):
            waits.wait_until_free(device(), "c")
        assert clock.waited == FARM.wait_busy_s
    else:
        assert waits.wait_until_free(device(), "c") is False
        assert clock.waited == waited_s


@pytest.mark.parametrize(
    ("found", "ours"),
    [
        (Status(alive=True, holder="x", plan_id="c-1f"), True),
        (Status(alive=False, holder=None), False),
        (Status(alive=False, holder=user.holder()), False),
    ],
)
def test_our_own_agent_and_lease_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, found: Status, ours: bool
) -> None:
    held(monkeypatch, clock, 1e9, found)
    assert care(None, clock).wait_until_free(device(), "c") is ours
    assert clock.waited == 0


def test_an_idle_device_is_not_asked_and_one_taken_again_and_again_is_waited_for_once_in_all(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    asked: list[Status] = []
    monkeypatch.setattr(agent, "status", lambda _: asked.append(OTHER) or OTHER)
    waits = care(None, clock)
    assert waits.wait_until_free(device(idle=True), "c") is False
    assert asked == []
    held(monkeypatch, clock, 40)
    assert waits.wait_until_free(device(idle=True), "c", asked_before=True) is False
    held(monkeypatch, clock, 1e9)
    with pytest.raises(DeviceBusyError, match="held by"):
        waits.wait_until_free(device(idle=True), "c", asked_before=True)
    assert clock.waited == FARM.wait_busy_s
    with pytest.raises(DeviceBusyError, match="taken again and again; waited 60 s"):
        waits.wait_until_free(device(idle=True), "c", asked_before=True)


@pytest.mark.parametrize(("lasts_s", "waited_s"), [(30, 30), (60, 60), (61, None)])
def test_a_reservation_is_waited_for_if_it_ends_in_time_and_else_not_at_all(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, lasts_s: float, waited_s: float | None
) -> None:
    held(monkeypatch, clock, 0)
    kept = Reservation("me", NOW_UNIX_S + lasts_s)
    monkeypatch.setattr(reservation, "of", lambda _: kept if clock.waited < lasts_s else None)
    waits = care(None, clock)
    if waited_s is None:
        with pytest.raises(DeviceBusyError, match="reserved by me"):
            waits.wait_until_free(device(idle=True, reserved="x"), "c")
        assert clock.waited == 0
    else:
        assert waits.wait_until_free(device(idle=True, reserved="x"), "c") is False
        assert clock.waited == waited_s


# --- how often -----------------------------------------------------------------------------------------------------


def test_a_device_is_rebooted_as_often_in_a_night_as_the_farm_allows(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[int] = []
    before, night = store.begin_night(FARM), store.begin_night(FARM)
    cares = care(store, clock, night=night)
    monkeypatch.setattr(recover, "reboot", lambda *_, **__: order.append(len(store.health(device="a", night=night))))
    last = Health(device="a", ok=True, facts={"root": "su-c", "boot_id": "b"}, at_unix_ns=1)
    for name, of in (("b", night), ("a", before)):
        store.add_health(Health(device=name, night=of, ok=False, figures={"reboots": 9}, at_unix_ns=1))
    for _ in range(FARM.max_reboots):
        assert cares._may_reboot()
        cares._reboot("it did not answer", last)
    assert order == [1, 2], "that it is rebooted is stored before it is"
    assert not cares._may_reboot()
    assert care(store, clock, night=night, max_reboots=3)._may_reboot()


@pytest.mark.parametrize(
    ("first", "then", "did"),
    [
        (Status(alive=True, plan_id="c-1f"), Status(pending=("/sys/a",)), ["stop", "restore"]),
        (Status(alive=True, plan_id="c-1f"), Status(), ["stop"]),
        (Status(alive=True, plan_id="d-1f", pending=("/sys/a",)), Status(), []),
        (Status(pending=("/sys/a",)), Status(), ["restore"]),
        (Status(), Status(), []),
    ],
)
def test_what_is_ours_is_ended_and_what_a_dead_agent_left_is_undone(
    monkeypatch: pytest.MonkeyPatch, first: Status, then: Status, did: list[str]
) -> None:
    done: list[str] = []
    answers = iter([first, then])
    monkeypatch.setattr(agent, "status", lambda _: next(answers))
    monkeypatch.setattr(agent, "stop", lambda _: done.append("stop"))
    monkeypatch.setattr(agent, "restore", lambda _: done.append("restore"))
    put_back(device(), ("b", "c"))
    assert done == did


@pytest.mark.parametrize(
    ("patience_s", "over", "tries"), [(None, False, 2), (5.0, False, 2), (0.0, False, 1), (None, True, 1)]
)
def test_a_step_is_done_once_more_after_a_drop_unless_nobody_may_wait(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, patience_s: float | None, over: bool, tries: int
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(recover, "reconnect", lambda _entry, seconds, *_: waited.append(seconds))
    monkeypatch.setattr(caring.facts, "regain_root", lambda _: None)
    cares = care(None, clock, patience_s=77.0)
    cares.limits.over = lambda: over  # type: ignore[method-assign]
    done: list[int] = []

    def step() -> str:
        done.append(1)
        if len(done) == 1:
            raise DeviceUnreachableError("the cable is out")
        return "well"

    opened: Any = SimpleNamespace(transport=None)
    if tries == 2:
        assert cares.patiently(opened, step, patience_s) == "well"
        assert waited == [77.0 if patience_s is None else patience_s]
    else:
        with pytest.raises(DeviceUnreachableError):
            cares.patiently(opened, step, patience_s)
        assert waited == []
    assert len(done) == tries


# --- this host's threads -------------------------------------------------------------------------------------------


def test_a_thread_for_each_task_tells_of_its_progress_and_knows_the_end(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    told: list[tuple[str, str | None, int]] = []
    seen: list[Limits] = []

    def run_task(
        _store: object, _farm: Farm, _night: str, task: Task, _entry: DeviceEntry, *, limits: Limits,
        on_progress: Callable[[Progress], None], **_: object,
    ) -> Task:  # fmt: skip
        seen.append(limits)
        on_progress(Progress(done=3, total=9, invalid=0, cell="x", eta_s=None))
        return task.model_copy(update={"status": "complete"})

    monkeypatch.setattr(engine, "run_task", run_task)
    nowhere: Any = None
    task = Task(task_id="1.1", job=0, experiment="e", selector="any 1 of a")
    for heard in (None, lambda of, one: told.append((of.task_id, of.device, one.done))):
        threads = LocalThreads(nowhere, FARM, "n", heard)
        futures = [threads.submit(task, ENTRY, Experiment(question="?"), left_s) for left_s in (None, 50.0)]
        assert [future.result(60).status for future in futures] == ["complete"] * 2
        assert [one.over() for one in seen] == [False] * 2
        threads.stop()
        threads.close()
        assert [one.over() for one in seen] == [True] * 2
        assert sorted(one.until_s or 0 for one in seen) == [0, clock.now_s + 50]
        seen.clear()
    assert told == [("1.1", "a", 3)] * 2
