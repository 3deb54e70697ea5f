"""A device that somebody keeps for himself: seen by everybody, with who and why, and over by itself."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from devicelab.device import agent, facts, reservation
from devicelab.device.facts import Device
from devicelab.device.lab import DeviceEntry
from devicelab.errors import ConfigError, DeviceBusyError
from devicelab.farm.care import Care, Limits
from devicelab.model.night import Farm, JobEntry
from devicelab.store import Store

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("2h", 7200), ("1.5 h", 5400), ("3d", 259_200), ("5min", 300)]
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert reservation.span_s(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "-1h", "0h", "31d", "1e9h", "nan", "2 weeks"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a length of time"):
        reservation.span_s(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "[]", "{}", '{"who":"a","until_unix_s":"x","why":""}', '{"who":"a","until_unix_s":NaN,"why":""}',
        json.dumps({"who": "a", "until_unix_s": NOW - 1, "why": ""}),
        json.dumps({"who": "a", "until_unix_s": 1e300, "why": ""}),
        json.dumps({"who": "a", "until_unix_s": True, "why": ""}),
        '{"who":' + "[" * 5000,
    ],
)  # fmt: skip
def test_what_a_device_says_beside_the_form_or_is_over_keeps_nobody_out(text: str) -> None:
    assert reservation.parse(text, NOW) is None


def test_long_words_are_cut() -> None:
    found = reservation.parse(json.dumps({"who": "a" * 900, "until_unix_s": NOW + 60, "why": "b" * 900}), NOW)
    assert found is not None
    assert len(found.words()) < 500


@pytest.mark.slow
class TestOnThisMachine:
    """With the real agent, in a folder of its own."""

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[Device]:
        opened = facts.open_device(DeviceEntry(name="box", address="local:", dir=str(tmp_path / "dir")))
        yield opened
        opened.transport.close()

    def test_others_are_refused_with_who_and_why_until_it_is_released(
        self, device: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = reservation.reserve(device, 3600, "paper")
        again = facts.read_again(device)
        assert agent.make_ready(again, "me") == ()
        assert all("reserved" not in node.path for node in again.facts.nodes)
        monkeypatch.setattr(reservation, "me", lambda: "bob@elsewhere")
        with pytest.raises(DeviceBusyError, match=rf"reserved by {made.who} until .*: paper"):
            agent.make_ready(again, "bob")
        with pytest.raises(DeviceBusyError, match="paper"):
            reservation.reserve(device, 60, "mine")
        with pytest.raises(DeviceBusyError, match="paper"):
            reservation.release(device)
        assert reservation.release(device, force=True) == made
        assert reservation.of(device) is None
        assert agent.make_ready(facts.read_again(device), "bob") == ()

    def test_it_is_over_by_itself(self, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
        reservation.reserve(device, 3600, "paper")
        again = facts.read_again(device)
        monkeypatch.setattr(reservation, "me", lambda: "bob@elsewhere")
        later = time.time() + 3601
        monkeypatch.setattr(time, "time", lambda: later)
        assert agent.make_ready(again, "bob") == ()

    def test_a_night_does_not_wait_for_what_ends_after_its_patience(
        self, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reservation.reserve(device, 3600, "paper")
        again = replace(facts.read_again(device), idle=True)
        monkeypatch.setattr(reservation, "me", lambda: "bob@elsewhere")
        farm = Farm(name="f", jobs=(JobEntry(experiment="e", devices="box"),), wait_busy_s=60)
        with Store.open(tmp_path / "s.sqlite") as store:
            care = Care(store, farm, "n", "1.1", device.entry, Limits())
            with pytest.raises(DeviceBusyError, match="paper"):
                care.wait_until_free(again, None)
            reservation.release(device, force=True)
            assert care.wait_until_free(again, None) is False

    def test_a_night_leaves_a_device_alone_that_its_own_user_reserved(self, device: Device, tmp_path: Path) -> None:
        reservation.reserve(device, 3600, "my demo")
        farm = Farm(name="f", jobs=(JobEntry(experiment="e", devices="box"),), wait_busy_s=60)
        again = facts.open_device(device.entry)
        with Store.open(tmp_path / "s.sqlite") as store:
            care = Care(store, farm, store.begin_night(farm), "1.1", device.entry, Limits())
            with pytest.raises(DeviceBusyError, match="my demo"):
                care.wait_until_free(again, "campaign")
        again.transport.close()

    def test_of_two_who_reserve_at_once_one_gets_it(self, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
        mine, together = threading.local(), threading.Barrier(2)
        monkeypatch.setattr(reservation, "me", lambda: mine.name)
        got = []

        def reserve(name: str) -> None:
            mine.name = name
            opened = facts.open_device(device.entry)
            together.wait()
            with contextlib.suppress(DeviceBusyError):
                got.append(reservation.reserve(opened, 3600, "").who)
            opened.transport.close()

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(reserve, ("ann@a", "bob@b")))
        found = reservation.of(device)
        assert found is not None
        assert got == [found.who]

    def test_words_of_others_move_nobodys_terminal(self, device: Device) -> None:
        made = reservation.reserve(device, 3600, "\x1b[31mred\n\x00 and more " + "\N{GRINNING FACE}" * 300)
        found = reservation.of(device)
        assert found is not None
        assert found.words().isprintable()
        assert abs(found.until_unix_s - made.until_unix_s) < 1
