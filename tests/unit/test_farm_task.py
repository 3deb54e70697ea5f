"""One task on one device: what is waited for, what is put back, and whose fault a trouble is."""

import errno
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devicelab.device import agent
from devicelab.device import facts as facts_module
from devicelab.device.agent import Status
from devicelab.device.facts import Device
from devicelab.device.lab import DeviceEntry
from devicelab.errors import (
    CommandTimeoutError,
    DeviceBusyError,
    DeviceRefusedError,
    DeviceUnreachableError,
    DistrustError,
    RestoreError,
)
from devicelab.farm import health, recover
from devicelab.farm import task as task_module
from devicelab.farm.care import Left, Limits, last_visit
from devicelab.farm.task import run_task
from devicelab.jobs import conductor
from devicelab.jobs.conductor import SweepResult
from devicelab.model.journal import Flag
from devicelab.model.night import Farm, Health, JobEntry, Task
from devicelab.store import Store
from tests import labdata

EXPERIMENT = labdata.experiment(repetitions=1)
ENTRY = DeviceEntry(name="phone-1", address="adb:0123456789")
GONE = DeviceUnreachableError("the cable is out")
KEPT = RestoreError("could not be put back as it was found: /sys/a")
HOT = Health(device="phone-1", ok=False, reasons=("no root",), facts={"root": "none"}, at_unix_ns=2**62)


class Phone:
    """A device that does what it is told to: ``fates[call]`` are the answers of the next calls, errors are raised."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.calls = store, []  # type: ignore[var-annotated]
        self.fates: dict[str, list[Any]] = defaultdict(list)
        self.runs = (4, 0)  # stored, invalid
        self.invalid_cells: tuple[str, ...] = ()
        transport = SimpleNamespace(close=lambda: None)
        self.device = Device(ENTRY, transport, labdata.facts(), None, {}, idle=True)  # type: ignore[arg-type]
        places: dict[tuple[object, str], Callable[..., Any]] = {
            (facts_module, "open_device"): lambda *_: self.device,
            (facts_module, "read_again"): lambda *_: self.device,
            (facts_module, "regain_root"): lambda *_: None,
            (health, "look"): self._look,
            (recover, "reconnect"): lambda *_: None,
            (recover, "reboot"): lambda *_, **__: None,
            (agent, "status"): lambda *_: Status(),
            (agent, "stop"): lambda *_: None,
            (agent, "restore"): lambda *_: {},
            (conductor, "perform"): self._perform,
        }
        for (module, name), usual in places.items():
            monkeypatch.setattr(module, name, self._answer(name, usual))

    def _answer(self, name: str, usual: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.calls.append(name)
            fate = self.fates[name].pop(0) if self.fates[name] else None
            if isinstance(fate, Exception):
                if name == "perform":
                    self._begin(options)
                raise fate
            if callable(fate):
                return fate(*args, **options)
            return usual(*args, **options) if fate is None else fate

        return call

    def _look(self, *_: object, night: str, task_id: str, phase: Any) -> Health:
        return Health(
            device="phone-1", night=night, task_id=task_id, phase=phase, ok=True, facts={"root": "su-c"},
            at_unix_ns=time.time_ns(),
        )  # fmt: skip

    def _begin(self, options: dict[str, Any]) -> None:
        campaign = options["campaign"]
        if not any(info.campaign == campaign for info in self.store.campaigns()):
            self.store.begin_campaign(
                experiment=EXPERIMENT, facts=self.device.facts, cells=labdata.cells(EXPERIMENT), command="",
                binaries=(), plan_json=None, night=options["night"], campaign=campaign,
            )  # fmt: skip

    def _perform(self, *_: object, **options: Any) -> SweepResult:
        self._begin(options)
        interrupted = options["stop"]()
        self.store.finish_campaign(options["campaign"], "interrupted" if interrupted else "complete")
        return SweepResult(
            options["campaign"], "phone-1", "note10", simulated=False, runs=self.runs[0], planned=6,
            invalid=self.runs[1], invalid_cells=self.invalid_cells, interrupted=interrupted,
        )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "s.sqlite") as opened:
        yield opened


@pytest.fixture
def phone(store: Store, monkeypatch: pytest.MonkeyPatch) -> Phone:
    return Phone(store, monkeypatch)


def tried(
    phone: Phone, limits: Limits | None = None, *, selector: str = "phone-1", max_s: float | None = None,
    left: dict[str, Any] | None = None, **farm: Any,
) -> Task:  # fmt: skip
    """One try of a task in a night of its own; ``left`` is what an earlier try left in the task."""
    made = Farm(name="f", jobs=(JobEntry(experiment="e", devices=selector, max_s=max_s),), **farm)
    store = phone.store
    night = store.begin_night(made)
    task = Task(task_id="1.1", job=0, experiment="e", selector=selector, **(left or {}))
    store.put_tasks(night, [task])
    done = run_task(store, made, night, task, ENTRY, experiment=EXPERIMENT, limits=limits)
    assert store.tasks(night) == (done,)
    return done


def quarantined(phone: Phone) -> list[str]:
    return [one.reason for one in phone.store.quarantines(active=True)]


ANY = "any 1 of phone-1, phone-2"


@pytest.mark.parametrize("lost", [GONE, CommandTimeoutError("no answer")])
@pytest.mark.parametrize("call", ["look", "read_again", "perform"])
def test_a_short_drop_is_waited_for_wherever_it_comes(phone: Phone, call: str, lost: Exception) -> None:
    phone.fates[call] = [lost]
    done = tried(phone)
    assert (done.status, done.exit_code, done.reason) == ("complete", 0, "")
    assert phone.calls.count("reconnect") == 1
    assert quarantined(phone) == []


def test_a_drop_while_a_busy_device_is_waited_for_is_waited_for_as_well(phone: Phone) -> None:
    phone.device = Device(ENTRY, phone.device.transport, phone.device.facts, phone.device.agent, {}, idle=False)
    phone.fates["status"] = [GONE]
    assert tried(phone).status == "complete"
    assert phone.calls.count("reconnect") == 1


def test_who_is_busy_is_not_reconnected(phone: Phone) -> None:
    phone.fates["perform"] = [DeviceBusyError("held by somebody")]
    phone.fates["status"] = [Status(alive=True, holder="somebody")] * 9
    assert (tried(phone, wait_busy_s=0).exit_code, phone.calls.count("reconnect")) == (3, 0)
    assert quarantined(phone) == []


def test_who_took_the_device_in_the_last_moment_is_waited_for(phone: Phone) -> None:
    phone.fates["perform"] = [DeviceBusyError("held by somebody")] * 2
    done = tried(phone)
    assert (done.status, done.exit_code, done.attempts) == ("complete", 0, 1)
    assert phone.calls.count("perform") == 3


@pytest.mark.parametrize(
    ("call", "fate", "code", "why"),
    [
        ("look", HOT, 4, "no root"),
        ("read_again", DeviceRefusedError("no root there"), 4, "no root there"),
        ("read_again", GONE, 3, "the cable is out"),
    ],
)
def test_what_was_measured_stays_although_the_device_is_not_fit_afterwards(
    phone: Phone, call: str, fate: Any, code: int, why: str
) -> None:
    phone.fates[call] = [None, fate] if call == "look" else [fate]
    phone.fates["reconnect"] = [GONE]
    done = tried(phone, selector=ANY)
    assert (done.status, done.exit_code, done.device) == ("complete", code, "phone-1")
    assert done.reason == f"complete; afterwards: {why}"
    assert phone.calls.count("perform") == 1
    if not isinstance(fate, DeviceRefusedError):
        assert why in quarantined(phone)[0]
    assert not phone.store.health(device="phone-1")[0].ok, "it gets no more work tonight"


@pytest.mark.parametrize("call", ["open_device", "look", "perform"])
def test_a_device_that_talks_nonsense_is_taken_out_and_its_task_goes_elsewhere(phone: Phone, call: str) -> None:
    phone.fates[call] = [DistrustError("a command printed more than 16 MiB")]
    done = tried(phone, selector=ANY)
    assert (done.status, done.device, done.exit_code) == ("waiting", None, 6)
    assert quarantined(phone) == ["a command printed more than 16 MiB"]


def test_a_device_that_is_not_fit_before_sends_the_task_elsewhere_with_its_code(phone: Phone) -> None:
    phone.fates["look"] = [HOT]
    done = tried(phone, selector=ANY)
    assert (done.status, done.device, done.exit_code, done.reason) == ("waiting", None, 4, "phone-1: no root")
    assert quarantined(phone) == ["no root"]


def test_a_device_out_of_reach_at_the_end_is_noted_for_a_last_visit_and_the_task_can_go_on(phone: Phone) -> None:
    limits = Limits()

    def ended(*_: object, **options: Any) -> SweepResult:
        phone._begin(options)
        limits.stop.set()
        raise GONE

    phone.fates["perform"] = [ended]
    done = tried(phone, limits)
    assert (done.status, done.attempts) == ("waiting", 0)
    newest = phone.store.health(device="phone-1")[0]
    assert (newest.ok, newest.reasons) == (False, ("the cable is out",))
    assert quarantined(phone) == []


def test_max_s_does_not_cut_the_patience_with_a_cable_that_is_out(phone: Phone) -> None:
    def late(*_: object, **options: Any) -> SweepResult:
        phone._begin(options)
        while not options["stop"]():
            pass
        raise GONE

    phone.fates["perform"] = [late]
    done = tried(phone, max_s=0.01)
    assert (done.status, done.exit_code) == ("complete", 0)
    assert done.reason == "ended after max_s: 4 of 6 runs stored"
    assert quarantined(phone) == []


def test_a_task_ended_without_one_valid_run_is_no_good_task(phone: Phone) -> None:
    phone.runs = (2, 2)
    done = tried(phone, max_s=1e-9)
    assert (done.status, done.exit_code) == ("complete", 6)
    assert done.reason == "ended after max_s: 2 of 6 runs stored, none valid"


def test_a_complete_campaign_of_invalid_runs_is_judged_again_when_the_night_goes_on(store: Store) -> None:
    farm = Farm(name="f", jobs=(JobEntry(experiment="e", devices="phone-1"),))
    night = store.begin_night(farm)
    cells = labdata.cells(EXPERIMENT)
    campaign = store.begin_campaign(
        experiment=EXPERIMENT, facts=labdata.facts(), cells=cells, command="", binaries=(), plan_json=None, night=night
    )
    store.finish_campaign(campaign, "complete")
    task = Task(task_id="1.1", job=0, experiment="e", selector="phone-1", device="phone-1", campaign=campaign)
    store.put_tasks(night, [task])
    done = run_task(store, farm, night, task, ENTRY, experiment=EXPERIMENT)
    assert (done.status, done.exit_code) == ("complete", 6)
    assert f"{len(cells)} cells have no valid run" in done.reason


def test_an_unreliable_campaign_names_what_most_of_its_flagged_runs_have(store: Store) -> None:
    of = labdata.experiment(repetitions=2)
    farm = Farm(name="f", jobs=(JobEntry(experiment="e", devices="phone-1"),))
    night, cells = store.begin_night(farm), labdata.cells(of)
    campaign = store.begin_campaign(
        experiment=of, facts=labdata.facts(), cells=cells, command="", binaries=(), plan_json=None, night=night
    )
    for n, cell in enumerate(cells):
        for repetition in range(2):
            code = "load-died" if n < 2 else "affinity-changed"
            flags = [Flag(code=code, detail="x"), Flag(code=code, detail="y")] if repetition else []
            record = labdata.record(labdata.run_id(campaign, cell, repetition))
            store.commit_run(campaign, cell, record, repetition=repetition, measurements={}, flags=flags)
    store.finish_campaign(campaign, "unreliable", "6 of 12 runs are flagged")
    task = Task(task_id="1.1", job=0, experiment="e", selector="phone-1", device="phone-1", campaign=campaign)
    store.put_tasks(night, [task])
    done = run_task(store, farm, night, task, ENTRY, experiment=of)
    assert (done.status, done.exit_code) == ("complete", 6)
    assert done.reason.startswith("6 of 12 runs are flagged, 4 of them affinity-changed")


def test_what_a_reboot_put_back_is_tried_again(phone: Phone) -> None:
    phone.fates["perform"] = [KEPT]
    done = tried(phone)
    assert (done.status, done.attempts) == ("waiting", 1)
    assert done.reason == "could not be put back as it was found: /sys/a; a reboot did it"
    assert phone.calls.count("reboot") == phone.calls.count("restore") == 1
    assert quarantined(phone) == []
    assert phone.store.health(device="phone-1")[0].ok


@pytest.mark.parametrize(
    ("call", "error"), [("reboot", GONE), ("reboot", DeviceRefusedError("does not reboot")), ("restore", KEPT)]
)
def test_what_not_even_a_reboot_put_back_counts_whatever_went_wrong_with_it(
    phone: Phone, call: str, error: Exception
) -> None:
    phone.fates["perform"], phone.fates[call] = [KEPT], [error]
    done = tried(phone)
    assert (done.status, done.exit_code) == ("failed", 8)
    assert "/sys/a" in done.reason
    assert "/sys/a" in quarantined(phone)[0]


def test_what_a_stopped_agent_could_not_put_back_is_not_left(phone: Phone) -> None:
    phone.fates["status"] = [Status(pending=("/sys/a",))]
    phone.fates["restore"] = [KEPT]
    limits = Limits()

    def interrupted(*_: object, **options: Any) -> SweepResult:
        limits.stop.set()
        return phone._perform(**options)

    phone.fates["perform"] = [interrupted]
    done = tried(phone, limits)
    assert (done.status, done.exit_code) == ("failed", 8)
    assert phone.calls.count("reboot") == 0, "nobody waits for it any more"


def test_a_device_taken_out_by_hand_meanwhile_is_not_measured(phone: Phone) -> None:
    phone.store.quarantine("phone-1", "screen broken")
    done = tried(phone)
    assert (done.status, done.reason) == ("skipped", "in quarantine: screen broken")
    assert "perform" not in phone.calls


def test_a_device_that_was_given_work_again_is_measured(phone: Phone) -> None:
    phone.store.quarantine("phone-1", "screen broken")
    phone.store.release("phone-1", "new screen")
    assert tried(phone).status == "complete"
    phone.store.quarantine("phone-2", "screen broken")
    assert tried(phone).status == "complete", "another device's quarantine is its own"


def test_a_task_at_work_is_stored_as_running_with_nothing_of_the_try_before(phone: Phone) -> None:
    seen: list[Task] = []

    def perform(*given: object, **options: Any) -> SweepResult:
        seen.extend(phone.store.tasks(options["night"]))
        return phone._perform(*given, **options)

    phone.fates["perform"] = [perform]
    done = tried(phone, left={"reason": "phone-2: no root", "exit_code": 4, "attempts": 1})
    (at_work,) = seen
    assert (at_work.status, at_work.device, at_work.attempts) == ("running", "phone-1", 2)
    assert (at_work.reason, at_work.exit_code, at_work.campaign) == ("", 0, done.campaign)
    assert (done.status, done.exit_code, done.attempts) == ("complete", 0, 2)


def test_the_last_visit_undoes_what_is_left_and_says_what_it_could_not(phone: Phone) -> None:
    working = Status(alive=True, plan_id="c-1f")
    phone.fates["status"] = [working, Status()]
    assert last_visit(ENTRY, ["c"]) is None
    assert phone.calls.count("stop") == 1
    phone.fates["status"], phone.fates["restore"] = [Status(pending=("/sys/a",))], [KEPT]
    assert last_visit(ENTRY, ["c"]) == Left(KEPT.message, 8)
    phone.fates["open_device"] = [GONE]
    assert last_visit(ENTRY, ["c"]) == Left("the cable is out", 3)


def test_an_agent_of_somebody_else_is_left_alone(phone: Phone) -> None:
    phone.fates["status"] = [Status(alive=True, plan_id="other-1f", pending=("/sys/a",))]
    assert last_visit(ENTRY, ["c"]) is None
    assert not {"stop", "restore"} & set(phone.calls)


def test_a_full_disk_of_the_host_is_waited_for_and_is_no_bug(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_module, "_HOST_LOOK_S", 0.0)
    full = OSError(errno.ENOSPC, "No space left on device")
    phone.fates["perform"] = [full, full]
    assert tried(phone, patience_s=60.0).status == "complete"


def test_a_full_disk_that_stays_full_has_the_code_of_this_host(phone: Phone) -> None:
    phone.fates["perform"] = [OSError(errno.ENOSPC, "No space left on device")]
    ended = tried(phone, patience_s=0.0, attempts=1)
    assert (ended.status, ended.exit_code) == ("failed", 2)
    assert "No space left" in ended.reason
    assert "bug" not in ended.reason
