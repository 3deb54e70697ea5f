"""What a farm decides of a device, a task and this host, as tables: every condition with it and without it."""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devicelab.device.lab import DeviceEntry
from devicelab.errors import (
    BuildError,
    ConfigError,
    DeviceBusyError,
    DeviceRefusedError,
    DeviceUnreachableError,
    DistrustError,
    LabError,
    MeasurementError,
    RestoreError,
)
from devicelab.farm import care as caring
from devicelab.farm import closing, health, host, recover
from devicelab.farm.care import Care, Limits, RebootedError, UnfitError
from devicelab.farm.hubs import Port
from devicelab.farm.task import _Attempt
from devicelab.model.night import Farm, Health, HealthRules, JobEntry, Task
from devicelab.store import Store
from tests import labdata

ENTRY = DeviceEntry(name="a", address="adb:a", root="adb-root")
JOBS = (JobEntry(experiment="e", devices="a"),)
FARM = Farm(name="f", jobs=JOBS, attempts=2, max_reboots=1, patience_s=77.0)
GONE = DeviceUnreachableError("gone", device="a")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with labdata.new_store(tmp_path / "s.sqlite") as opened:
        opened.begin_night(FARM, night="n")
        yield opened


class Ended:
    """Limits of which a test says whether they are over and whether somebody asked for the end."""

    def __init__(self, *, over: bool = False, asked: bool = False) -> None:
        self.is_over, self.stop = over, threading.Event()
        if asked:
            self.stop.set()

    def over(self) -> bool:
        return self.is_over or self.stop.is_set()

    def wait(self, _seconds: float) -> bool:
        return self.over()


def care(store: Any, *, over: bool = False, entry: DeviceEntry = ENTRY, **farm: Any) -> Care:
    limits: Any = Ended(over=over)
    return Care(store, FARM.model_copy(update=farm), "n", "1.1", entry, limits)


def seen(store: Store, **more: Any) -> None:
    store.add_health(Health(**{"device": "a", "night": "n", "ok": True, "at_unix_ns": 1, **more}))


# --- getting at a device -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False], ids=["seen before", "never seen"])
@pytest.mark.parametrize("may", [True, False], ids=["may be rebooted", "may not"])
@pytest.mark.parametrize("away", [0, 1, 2], ids=["there", "comes back", "away"])
def test_a_device_is_rebooted_if_it_stays_away_was_seen_and_may_be(
    store: Store, monkeypatch: pytest.MonkeyPatch, away: int, may: bool, known: bool
) -> None:
    opened = iter([GONE] * away)
    waited: list[float] = []
    rebooted: list[dict[str, Any]] = []

    def open_device(_entry: DeviceEntry) -> str:
        if (lost := next(opened, None)) is not None:
            raise lost
        return "in hand"

    monkeypatch.setattr(caring.facts, "open_device", open_device)
    monkeypatch.setattr(recover, "reconnect", lambda _entry, seconds, _wait: waited.append(seconds))
    monkeypatch.setattr(recover, "reboot", lambda _entry, **how: rebooted.append(how))
    seen(store)  # one that did not answer tells nothing
    if known:
        seen(store, facts={"root": "su-c", "boot_id": "b"})
    cares = care(store, entry=ENTRY.model_copy(update={"reboot": may}))
    if away == 2 and not (may and known):
        with pytest.raises(DeviceUnreachableError):
            cares.open()
    else:
        assert cares.open() == "in hand"
    assert waited == [caring.RECONNECT_S] * (away > 0)
    assert [(how["root"], how["boot_id"]) for how in rebooted] == [("adb-root", "b")] * (away == 2 and may and known)
    notes = store.health(device="a", night="n")
    assert sum(one.figures.get("reboots", 0) for one in notes) == len(rebooted)
    assert sum(not one.ok for one in notes) == len(rebooted)


def test_a_reconnection_takes_no_longer_than_the_farm_is_patient_and_root_is_what_was_seen(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    opened: Iterator[Any] = iter([GONE, "in hand"])

    def open_device(_entry: DeviceEntry) -> Any:
        if isinstance(found := next(opened), Exception):
            raise found
        return found

    monkeypatch.setattr(caring.facts, "open_device", open_device)
    monkeypatch.setattr(recover, "reconnect", lambda _entry, seconds, _wait: waited.append(seconds))
    assert care(store, patience_s=3.0).open() == "in hand"
    assert waited == [3.0]
    how: list[str] = []
    monkeypatch.setattr(recover, "reboot", lambda _entry, **given: how.append(given["root"]))
    plain = DeviceEntry(name="a", address="adb:a")
    for facts in ({"root": "su-c"}, {}):
        care(store, entry=plain)._reboot("why", Health(device="a", ok=True, facts=facts, at_unix_ns=1))
    assert how == ["su-c", "none"]


HOT = {"hottest_c": 60.0}


@pytest.mark.parametrize("over", [False, True], ids=["time left", "time over"])
@pytest.mark.parametrize("may", [True, False], ids=["may be rebooted", "may not"])
@pytest.mark.parametrize("cools", [[True], [False, True], [False, False]], ids=["cools", "after a reboot", "never"])
def test_a_hot_device_is_waited_for_then_rebooted_then_unfit(
    store: Store, monkeypatch: pytest.MonkeyPatch, cools: list[bool], may: bool, over: bool
) -> None:
    cooling, looks, rebooted = list(cools), [0], [0]
    reboots = not cools[0] and may and not over
    cool = cools[-1] if reboots else cools[0]

    def look(_device: object, _rules: object, **_: object) -> Health:
        looks[0] += 1
        ok = looks[0] == 2 and cool
        why = () if ok else ("60 °C",)
        return Health(
            device="a", night="n", ok=ok, reasons=why, figures={} if ok else HOT, facts={"x": "y"}, at_unix_ns=1
        )

    monkeypatch.setattr(health, "look", look)
    monkeypatch.setattr(health, "cool", lambda *_: cooling.pop(0))
    monkeypatch.setattr(caring.facts, "read_again", lambda _: "read again")
    monkeypatch.setattr(recover, "reboot", lambda *_, **__: rebooted.append(1))
    cares = care(store, over=over, entry=ENTRY.model_copy(update={"reboot": may}), health=HealthRules(max_c=50))
    device: Any = "device"
    if not cool and not over:
        with pytest.raises(UnfitError, match="60 °C"):
            cares.fit(device, "before")
    else:
        assert cares.fit(device, "before") == "read again"
    assert len(rebooted) - 1 == reboots
    stored = [one for one in store.health(device="a") if one.facts]
    assert [one.ok for one in stored] == ([] if over and not cool else [cool]), "nothing is concluded without time"


@pytest.mark.parametrize(("known", "over", "may"), list(itertools.product([True, False], repeat=3)))
@pytest.mark.parametrize("helps", [True, False])
def test_what_cannot_be_put_back_is_tried_by_a_reboot_where_that_may_be(
    store: Store, monkeypatch: pytest.MonkeyPatch, known: bool, over: bool, may: bool, helps: bool
) -> None:
    def restore(_: object) -> None:
        if not helps:
            raise DeviceRefusedError("still not")

    monkeypatch.setattr(recover, "reboot", lambda *_, **__: None)
    monkeypatch.setattr(caring.facts, "read_again", lambda device: device)
    monkeypatch.setattr(caring.agent, "restore", restore)
    if known:
        seen(store, facts={"root": "su-c"})
    cares = care(store, over=over, entry=ENTRY.model_copy(update={"reboot": may}))
    kept = RestoreError("not put back: /sys/a", device="a", hint="go there")
    device: Any = SimpleNamespace(transport=None)
    tried = known and may and not over
    if tried and helps:
        cares.restore_by_reboot(device, kept)
    else:
        with pytest.raises(RestoreError) as told:
            cares.restore_by_reboot(device, kept)
        assert told.value.hint == "go there"
        assert told.value.message == kept.message + ("; after a reboot: still not" if tried else "")
    assert cares._done_tonight("reboots") == tried


# --- what becomes of a task ----------------------------------------------------------------------------------------

ANY = "any 1 of tag=x"


def attempt(store: Store, selector: str, attempts: int, limits: Any, *, begun: bool = False) -> _Attempt:
    task = Task(task_id="1.1", job=0, experiment="e", selector=selector, attempts=attempts - 1)
    made = _Attempt(store, FARM, "n", task, ENTRY, limits)
    if begun:
        made._campaign = lambda _task: SimpleNamespace(campaign="c", status="complete")  # type: ignore[assignment,method-assign,return-value]
    return made


class OddError(LabError):
    exit_code = 2


def outcome(selector: str, error: LabError, begun: bool, attempts: int) -> tuple[str, int, int]:
    """Status, exit code and counted attempts, as the words of ``docs/howto`` say: an oracle in another form."""
    code, movable = error.exit_code, selector == ANY
    its_own = isinstance(error, UnfitError | DistrustError)
    if isinstance(error, RestoreError | ConfigError | BuildError | MeasurementError) and not its_own:
        return "failed", code, attempts
    if error.transient and not isinstance(error, DeviceBusyError | DeviceUnreachableError | DeviceRefusedError):
        return ("waiting", 0, attempts) if attempts < FARM.attempts else ("failed", code, attempts)
    if movable and not begun:
        return "waiting", code, attempts - 1
    if movable and attempts < FARM.attempts:
        return "waiting", code, attempts
    away = isinstance(error, DeviceBusyError) or type(error) is DeviceUnreachableError
    return ("skipped" if away else "failed"), code, attempts


ERRORS = [
    *(RestoreError("x"), UnfitError("x"), DistrustError("x"), DeviceBusyError("x"), DeviceUnreachableError("x")),
    *(DeviceRefusedError("x"), RebootedError("x"), ConfigError("x"), BuildError("x"), MeasurementError("x")),
    OddError("x"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whose_fault_it_was_decides_what_comes_next(store: Store, error: LabError) -> None:
    for selector, begun, attempts in itertools.product(("a", ANY), (False, True), (1, 2, 3)):
        ended = attempt(store, selector, attempts, Limits(), begun=begun)._failed(error)
        assert (ended.status, ended.exit_code, ended.attempts) == outcome(selector, error, begun, attempts), (
            selector, begun, attempts,
        )  # fmt: skip
        assert (ended.device is None) is (ended.status == "waiting" and ended.exit_code != 0)
    out = isinstance(error, RestoreError | UnfitError | DistrustError)
    assert len(store.quarantines(device="a")) == out


def test_a_device_that_was_reached_in_the_night_and_then_lost_is_taken_out(store: Store) -> None:
    for facts, status, out in (({}, "skipped", 0), ({"root": "su-c"}, "failed", 1)):
        seen(store, facts=facts)
        ended = attempt(store, "a", 1, Limits())._failed(GONE)
        assert (ended.status, ended.exit_code) == (status, 3)
        assert [one.reason for one in store.quarantines()] == ["lost in the night: gone"] * out


@pytest.mark.parametrize("error", [None, *ERRORS[1:]], ids=lambda error: type(error).__name__)
def test_a_task_that_is_ended_goes_on_later_if_somebody_asked_for_it(store: Store, error: LabError | None) -> None:
    asked, late = Ended(asked=True), Ended(over=True)
    for limits, status, attempts in ((asked, "waiting", 0), (late, "skipped", 1)):
        made = attempt(store, ANY, 1, limits)
        ended = made._cut(None) if error is None else made._failed(error)
        assert (ended.status, ended.attempts, ended.exit_code) == (status, attempts, 0)
        assert ended.reason.endswith("not begun" if error is None else "x")
    noted = isinstance(error, DeviceUnreachableError | DeviceRefusedError)
    assert len(store.health(device="a")) == 2 * noted, "so that it is visited once more at the end"
    assert store.quarantines() == ()


@pytest.mark.parametrize(
    ("runs", "invalid", "words"),
    [(4, 4, ", none valid"), (4, 2, ", 2 flagged"), (4, 1, ""), (4, 0, ""), (0, 0, ", none valid"), (3, 1, "")],
)
def test_a_task_ended_by_its_own_limit_is_as_good_as_its_runs(
    store: Store, runs: int, invalid: int, words: str
) -> None:
    done: Any = SimpleNamespace(runs=runs, planned=9, invalid=invalid)
    ended = attempt(store, "a", 1, Limits())._cut(done)
    assert (ended.status, ended.exit_code) == ("complete", MeasurementError.exit_code if words else 0)
    assert ended.reason == f"ended after max_s: {runs} of 9 runs stored{words}"


def test_cells_without_a_valid_run_are_counted_and_three_of_them_named(store: Store) -> None:
    for cells in (["p"], ["p", "q", "r"], ["p", "q", "r", "s"]):
        ended = attempt(store, "a", 1, Limits())._judged(cells)
        assert ended.reason == f"{len(cells)} cells have no valid run: {'; '.join(cells[:3])}"
        assert (ended.status, ended.exit_code) == ("complete", 6)
    assert attempt(store, "a", 1, Limits())._judged([]).exit_code == 0


# --- papers ---------------------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_written_is_named_with_the_reason_alone(store: Store, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "file" / "below"):
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError) as told:
            closing._write(path, "x")
        assert told.value.message in {f"cannot write {path}: {why}" for why in ("Is a directory", "File exists")}
    for made in (tmp_path / "new" / "er" / "file", tmp_path / "new" / "er" / "other"):
        closing._write(made, "ä")
        assert made.read_text(encoding="utf-8") == "ä"


# --- this host -----------------------------------------------------------------------------------------------------

GIB = 1 << 30


@pytest.mark.parametrize(
    ("total", "bound"),
    [(100_000 * GIB, 10 * GIB), (200 * GIB, 10 * GIB), (100 * GIB, 5 * GIB), (20 * GIB, GIB), (2 * GIB, GIB)],
)
def test_little_room_is_a_twentieth_of_a_disk_but_not_of_a_huge_or_a_tiny_one(
    tmp_path: Path, total: int, bound: int
) -> None:
    def todo(free: int) -> str:
        (sign,) = host.disk_signs({"cache": tmp_path / "not" / "there"}, lambda _: (total, free))
        assert sign.found == f"cache: {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
        return sign.todo

    assert todo(bound) == todo(bound + 1) == ""
    assert todo(bound - 1) == f"free space on the disk of {tmp_path}"


def test_a_hub_is_lost_with_all_its_boards_and_a_cable_alone() -> None:
    a, b, c, d = (Port(hub, 1) for hub in ("1-1", "1-1", "1-2", "1-3"))
    before = {"a": a, "b": b, "c": c, "d": d}

    def gone(*serials: str) -> host.Sign:
        return host.usb_sign(before, {name: port for name, port in before.items() if name not in serials})

    assert gone().found == "4 devices with a serial number on 3 hubs"
    for lost, found, todo in (
        ("a", "a", "look at cables"),
        ("c", "c", "look at cables"),
        ("ab", "hub 1-1 with all its boards: a, b", "look at the power of hub 1-1; `uhubctl -l 1-1 -a cycle` where it"),
        ("abd", "hub 1-1 with all its boards: a, b; d", "look at the power of hub 1-1; "),
    ):
        sign = gone(*lost)
        assert sign.found == f"gone since the last look: {found}"
        assert sign.todo.startswith(todo)
