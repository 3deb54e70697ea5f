"""Faults: what is random comes from the seed, what is counted is counted exactly."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devicelab.errors import ConfigError
from virtualboards.faults import CAMPAIGN_FAULTS, Fault, Faults, campaign
from virtualboards.loop import Timer


class Recorder:
    """A board that notes what is done to it; time passes when the test says so."""

    def __init__(self, data: Path) -> None:
        self.loop: Any = self
        self.kernel: Any = self
        self.calls: list[object] = []
        self.later: list[tuple[float, Timer]] = []
        self._data = data

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        self.later.append((delay_s, timer))
        return timer

    def call_soon(self, callback: Callable[[], None]) -> None:
        callback()

    def pass_time(self) -> None:
        due, self.later = self.later, []
        for _, timer in due:
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()

    def check(self, _fault: str, **args: object) -> None:
        if "wrong" in args:
            raise ValueError("no such argument")

    def inject(self, fault: str, **args: object) -> None:
        if "busy" in args:
            raise OSError(errno.EBUSY, "the last one")
        self.calls.append((fault, args))

    def unplug(self) -> None:
        self.calls.append("unplug")

    def plug_in(self) -> None:
        self.calls.append("plug in")

    def hang(self, *, on: bool) -> None:
        self.calls.append(("hang", on))

    def reboot(self) -> None:
        self.calls.append("reboot")

    def fill_disk(self, *, full: bool) -> None:
        self.calls.append(("full", full))

    def kill_su(self) -> int:
        self.calls.append("kill su")
        return 0

    def data_dir(self) -> Path:
        return self._data


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder(tmp_path)
    monkeypatch.setattr("virtualboards.kernel.faults.check", lambda _kernel, *a, **k: recorder.check(*a, **k))
    monkeypatch.setattr("virtualboards.kernel.faults.inject", lambda _kernel, *a, **k: recorder.inject(*a, **k))
    return recorder


@pytest.fixture
def faults(board: Recorder) -> Faults:
    return Faults(board)


def test_the_same_seed_draws_the_same_campaign_and_another_one_a_different() -> None:
    first = campaign(7, 20, 5.0)
    assert first == campaign(7, 20, 5.0)
    assert first != campaign(8, 20, 5.0)
    times = [fault.after_s or 0.0 for fault in first]
    assert times == sorted(times)
    assert {fault.fault for fault in first} <= set(CAMPAIGN_FAULTS)


def test_a_campaign_of_unknown_faults_is_refused() -> None:
    with pytest.raises(ConfigError):
        campaign(1, 5, 1.0, ("earthquake",))


@pytest.mark.parametrize(
    "data",
    [
        {"fault": "earthquake"},
        {"fault": "drop", "colour": "red"},
        {"fault": "drop", "after_s": 1.0, "at_bytes": 5},
        {"fault": "drop", "after_s": -1.0},
        {"fault": "drop", "after_s": float("nan")},
        {"fault": "drop", "for_s": float("inf")},
        {"fault": "drop", "after_s": 1e10},
        {"fault": "drop", "args": {"cpu": 3.0}},
        {"fault": "slow", "args": {"bytes_per_s": "64k"}},
        {"fault": "slow", "args": {"bytes_per_s": -1.0}},
        {"fault": "corrupt", "args": {"count": float("inf")}},
        {"fault": "corrupt", "args": {"count": 1e9}},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Fault.from_dict(data)


def test_a_fault_survives_its_way_over_the_control_socket() -> None:
    fault = Fault("corrupt", at_bytes=10, seed=3, args={"count": 2.0})
    assert Fault.from_dict(fault.as_dict()) == fault


def test_a_drop_ends_by_itself_and_a_full_disk_does_not(board: Recorder, faults: Faults) -> None:
    faults.arm(Fault("drop"))
    faults.arm(Fault("disk-full"))
    board.pass_time()
    assert board.calls == ["unplug", ("full", True), "plug in"]
    faults.arm(Fault("clear"))
    assert ("full", False) in board.calls


def test_a_fault_at_a_count_of_bytes_waits_for_exactly_that_many(board: Recorder, faults: Faults) -> None:
    faults.traffic(1000)
    faults.arm(Fault("reboot", at_bytes=100))
    faults.traffic(99)
    assert board.calls == []
    assert faults.armed == 1
    faults.traffic(1)
    assert board.calls == ["reboot"]
    assert faults.armed == 0


def test_a_fault_at_a_count_of_runs_counts_the_journals_new_run_lines(board: Recorder, faults: Faults) -> None:
    journal = board.data_dir() / "journal.jsonl"
    line = '{"event":"run","seq":1}\n'
    journal.write_text('{"event":"run-start","seq":1}\n' + line)
    faults.arm(Fault("kill-su", at_runs=2))
    board.pass_time()
    journal.write_text(line * 2)
    board.pass_time()
    assert board.calls == []
    journal.write_text(line * 3)
    board.pass_time()
    assert board.calls == ["kill su"]
    assert not board.later


def test_a_journal_that_is_a_link_is_not_read_and_directories_that_vanish_do_no_harm(
    board: Recorder, faults: Faults, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path_factory.mktemp("host") / "journal.jsonl"
    outside.write_text('{"event":"run","seq":1}\n' * 5)
    (board.data_dir() / "journal.link").symlink_to(outside)
    (board.data_dir() / "linked").symlink_to(outside.parent)
    (board.data_dir() / "gone").mkdir()
    scandir = os.scandir

    def vanishing(path: Any) -> Any:
        if Path(path).name == "gone":
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", vanishing)
    (board.data_dir() / "journal.jsonl").write_text('{"event":"run","seq":1}\n')
    assert faults._runs() == 1


def test_damage_changes_one_byte_of_the_payloads_asked_for_and_is_repeatable(board: Recorder) -> None:
    def damaged() -> list[bytes]:
        faults = Faults(board)
        faults.arm(Fault("corrupt", seed=5, args={"count": 2, "min_size": 8}))
        return [faults.outgoing(payload) for payload in (b"short", b"long enough", b"also long", b"left alone")]

    first = damaged()
    assert first == damaged()
    assert first[0] == b"short"
    assert first[3] == b"left alone"
    for was, now in ((b"long enough", first[1]), (b"also long", first[2])):
        assert sum(a != b for a, b in zip(was, now, strict=True)) == 1


def test_a_slow_board_pauses_in_proportion_to_the_bytes(board: Recorder, faults: Faults) -> None:
    assert faults.traffic(1000) == 0
    faults.arm(Fault("slow", args={"bytes_per_s": 2000}))
    assert faults.traffic(1000) == pytest.approx(0.5)
    board.pass_time()
    assert faults.traffic(1000) == 0


def test_kernel_faults_reach_the_kernel_and_its_refusal_the_user(board: Recorder, faults: Faults) -> None:
    faults.arm(Fault("thermal", args={"celsius": 90.0}))
    assert board.calls == [("thermal", {"celsius": 90.0})]
    with pytest.raises(ConfigError, match="no such argument"):
        faults.arm(Fault("thermal", args={"wrong": 1.0}))


def test_arguments_of_a_fault_that_is_due_later_are_refused_at_once(board: Recorder, faults: Faults) -> None:
    with pytest.raises(ConfigError, match="no such argument"):
        faults.arm(Fault("thermal", after_s=5.0, args={"wrong": 1.0}))
    assert faults.armed == 0


def test_a_fault_that_fails_when_its_time_has_come_is_noted_and_the_board_lives(
    board: Recorder, faults: Faults
) -> None:
    faults.arm(Fault("offline", after_s=5.0, args={"busy": 1.0}))
    board.pass_time()
    assert [entry["fault"] for entry in faults.done] == ["offline"]
    assert "the last one" in faults.done[0]["error"]
    with pytest.raises(ConfigError, match="the last one"):
        faults.arm(Fault("offline", args={"busy": 1.0}))


def test_clear_forgets_what_is_armed(board: Recorder, faults: Faults) -> None:
    faults.arm(Fault("reboot", after_s=5))
    faults.arm(Fault("reboot", at_bytes=5))
    faults.arm(Fault("clear"))
    faults.traffic(100)
    board.pass_time()
    assert "reboot" not in board.calls
    assert faults.armed == 0
