"""USB hubs as sysfs shows them, and how a host of a farm is: one event is one event, and each sign says what to do."""

import os
from pathlib import Path

import pytest

from devicelab.device.lab import DeviceEntry
from devicelab.errors import DeviceUnreachableError
from devicelab.farm import care, host
from devicelab.farm.care import Care, Limits
from devicelab.farm.hubs import Hubs, Port, port_of, ports, serial_of
from devicelab.farm.standing import standing
from devicelab.model.night import Farm, JobEntry
from devicelab.store import Store

FARM = Farm(name="f", jobs=(JobEntry(experiment="e", devices="a"),), max_reboots=1)
UHUBCTL = """#!/bin/sh
echo "$@" >>"{log}"
exit {code}
"""


@pytest.fixture
def bus(tmp_path: Path) -> Path:
    """Three boards on one hub, one on another, and what has no serial number."""
    top = tmp_path / "usb"
    for name, serial in {
        "1-2.1": "aa",
        "1-2.2": "bb",
        "1-2.4": "cc",
        "3-1": "dd",
        "1-2": None,
        "1-2.1:1.0": None,
    }.items():
        (top / name).mkdir(parents=True)
        if serial is not None:
            (top / name / "serial").write_text(f"{serial}\n", encoding="utf-8")
    return top


def pulled(bus: Path, *names: str) -> None:
    for name in names:
        (bus / name / "serial").unlink()
        (bus / name).rmdir()


def uhubctl(tmp_path: Path, code: int = 0) -> tuple[str, Path]:
    program, log = tmp_path / "uhubctl", tmp_path / "log"
    program.write_text(UHUBCTL.format(log=log, code=code), encoding="utf-8")
    program.chmod(0o755)
    return str(program), log


@pytest.mark.parametrize(
    ("name", "port"),
    [
        ("1-2", Port("1", 2)),
        ("1-2.3", Port("1-2", 3)),
        ("1-2.3.10", Port("1-2.3", 10)),
        ("usb1", None),
        ("1-2:1.0", None),
        ("1-2.3; rm", None),
        ("", None),
    ],
)
def test_a_folder_of_sysfs_is_a_port_of_a_hub(name: str, port: Port | None) -> None:
    assert port_of(name) == port


def test_two_boards_with_one_serial_number_are_nobodys_port(bus: Path) -> None:
    (bus / "1-2.2" / "serial").write_text("aa\n", encoding="utf-8")
    assert set(ports(bus)) == {"cc", "dd"}


def test_a_hub_without_power_is_one_event_and_a_cable_is_not(bus: Path) -> None:
    hubs = Hubs(bus)
    hubs.saw()
    assert hubs.words("aa") == ""
    pulled(bus, "1-2.1")
    assert hubs.words("aa") == "gone from port 1 of USB hub 1-2"
    pulled(bus, "1-2.2", "1-2.4")
    assert hubs.words("aa") == "USB hub 1-2 lost power or was pulled: with it went bb, cc"
    assert hubs.words("bb") == "USB hub 1-2 lost power or was pulled: with it went aa, cc"
    assert hubs.words("dd") == hubs.words("never seen") == ""


def test_a_port_is_switched_by_its_own_name_and_failures_are_words(bus: Path, tmp_path: Path) -> None:
    program, log = uhubctl(tmp_path)
    hubs = Hubs(bus, program)
    assert "nobody saw" in hubs.replug("aa")
    hubs.saw()
    assert hubs.replug("cc") == "re-plugged at port 4 of USB hub 1-2"
    assert log.read_text(encoding="utf-8") == "-l 1-2 -p 4 -a cycle -d 2\n"
    assert hubs.replug("dd") == "re-plugged at port 1 of USB hub 3"
    assert "not re-plugged" in Hubs(bus, uhubctl(tmp_path, code=1)[0]).replug("aa")


@pytest.mark.parametrize("allowed", [True, False])
def test_a_lost_board_is_replugged_once_a_night_where_lab_toml_lets_it(
    bus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    program, log = uhubctl(tmp_path)
    hubs = Hubs(bus, program)
    hubs.saw()
    pulled(bus, "1-2.1", "1-2.2", "1-2.4")
    monkeypatch.setattr(care, "OF_THIS_HOST", hubs)

    def gone(*_: object) -> None:
        raise DeviceUnreachableError("gone")

    monkeypatch.setattr("devicelab.device.facts.open_device", gone)
    monkeypatch.setattr("devicelab.farm.recover.reconnect", gone)
    with Store.open(tmp_path / "s.sqlite") as store:
        night = store.begin_night(FARM)
        entry = DeviceEntry(name="a", address="adb:aa", reboot=False, replug=allowed)
        for _ in range(2):
            with pytest.raises(DeviceUnreachableError):
                Care(store, FARM, night, "1.1", entry, Limits()).open()
        reasons = [look.reasons[0] for look in store.health(device="a")]
    assert all("USB hub 1-2 lost power" in reason for reason in reasons)
    done = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    assert len(done) == allowed


@pytest.mark.parametrize(
    ("address", "serial"),
    [("adb:aa", "aa"), ("adb:aa@other:5037", ""), ("adb:10.0.0.7:5555", ""), ("adb:usb:1-2", ""), ("ssh:a@b", "")],
)
def test_only_a_board_on_this_computers_usb_has_a_port_here(address: str, serial: str) -> None:
    assert serial_of(address) == serial


def test_each_sign_of_a_host_that_is_not_well_says_what_to_do(bus: Path, tmp_path: Path) -> None:
    before = ports(bus)
    pulled(bus, "1-2.1", "1-2.2", "1-2.4")

    def refuse() -> str:
        raise DeviceUnreachableError("no adb server answers", hint="start it there")

    bad = [
        host.clock_sign(unsynchronised=True),
        *host.disk_signs({"cache": tmp_path / "not" / "there"}, lambda _: (10**12, 10**8)),
        host.usb_sign(before, ports(bus)),
        host.adb_sign(refuse),
    ]
    assert all(sign.todo for sign in bad)
    assert "hub 1-2 with all its boards: aa, bb, cc" in bad[2].found
    good = [
        host.clock_sign(unsynchronised=False),
        host.clock_sign(None),
        *host.disk_signs({"cache": tmp_path}, lambda _: (10**12, 10**11)),
        host.usb_sign(ports(bus), ports(bus)),
        host.adb_sign(lambda: "server 0029 answers"),
    ]
    assert not any(sign.todo for sign in good)
    with Store.open(tmp_path / "s.sqlite") as store:
        night = store.begin_night(FARM)
        store.add_health(host.as_health("h", [*good, *bad], before, night))
        (look,) = store.health(device="host:h")
        assert host._ports_in(look.facts) == before
        lines = standing(store, "f", str(tmp_path / "s.sqlite"), 0.0)
    assert [(line.what, line.todo) for line in lines[5:]] == [("host:h", sign.todo) for sign in bad]


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="asks Linux")
def test_the_kernel_says_of_its_clock_what_it_says() -> None:
    assert host.kernel_clock() in {True, False, None}
