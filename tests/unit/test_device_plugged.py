"""A phone that adb does not list: USB tells which of the steps to it is missing."""

from pathlib import Path

import pytest

from devicelab.device import choose, plugged
from devicelab.device.lab import Lab
from devicelab.errors import DeviceUnreachableError
from devicelab.transports import adb
from devicelab.transports.adb import server
from devicelab.transports.base import Attached

ADB, MTP, DISK = ("ff", "42", "01"), ("06", "01", "01"), ("08", "06", "50")


def usb(root: Path, name: str, vendor: str, *interfaces: tuple[str, str, str], **said: str) -> None:
    """A device as sysfs shows it, and its node, which everyone may open."""
    folder = root / "sys" / name
    for number, interface in enumerate(interfaces):
        at = folder / f"{name}:1.{number}"
        at.mkdir(parents=True)
        for file, value in zip(("Class", "SubClass", "Protocol"), interface, strict=True):
            (at / f"bInterface{file}").write_text(f"{value}\n")
    for file, value in {"idVendor": vendor, "idProduct": "6860", "busnum": "1", "devnum": "7", **said}.items():
        (folder / file).write_text(f"{value}\n")
    (root / "dev" / "001").mkdir(parents=True, exist_ok=True)
    (root / "dev" / "001" / "007").touch()


def phones(root: Path) -> tuple[plugged.Plugged, ...]:
    return plugged.phones(root / "sys", root / "dev")


def test_a_phone_without_usb_debugging_is_told_to_turn_it_on(tmp_path: Path) -> None:
    usb(tmp_path, "1-4.2", "04e8", MTP, manufacturer="SAMSUNG", product="Galaxy Note10", serial="RF8M1")
    [phone] = phones(tmp_path)
    assert (phone.what, phone.serial, phone.debugging) == ("SAMSUNG Galaxy Note10", "RF8M1", False)
    assert "USB debugging is off" in str(phone.todo)


def test_a_node_that_this_user_may_not_open_is_a_missing_udev_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usb(tmp_path, "1-4", "18d1", MTP, ADB)
    assert phones(tmp_path)[0].todo is None
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "udev rule" in str(phones(tmp_path)[0].todo)


@pytest.mark.parametrize(
    ("vendor", "interface"),
    [("0781", DISK), ("04e8", DISK), ("04a9", MTP)],
    ids=["a memory stick", "a Samsung disk", "a camera"],
)
def test_what_is_no_phone_is_not_taken_for_one(tmp_path: Path, vendor: str, interface: tuple[str, str, str]) -> None:
    usb(tmp_path, "2-1", vendor, interface)
    assert phones(tmp_path) == ()


def test_a_maker_nobody_knows_is_a_phone_by_its_adb_interface(tmp_path: Path) -> None:
    usb(tmp_path, "3-1", "abcd", ADB, product="\x1b[31mdev board")
    [phone] = phones(tmp_path)
    assert phone.debugging
    assert phone.what == "[31mdev board"


def test_the_error_about_a_board_that_is_not_there_says_which_step_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usb(tmp_path, "1-4", "04e8", MTP, product="Galaxy Note10", serial="RF8M1")
    found = phones(tmp_path)
    monkeypatch.setattr(plugged, "phones", lambda: found)
    monkeypatch.setattr("devicelab.transports.discover_all", lambda: ())
    with pytest.raises(DeviceUnreachableError, match=r"Galaxy Note10 is plugged in, but USB debugging is off"):
        choose.choose("note10", Lab())
    with pytest.raises(DeviceUnreachableError, match="USB debugging is off"):
        choose.choose(None, Lab())  # this computer does not stand in for a phone that is plugged in


def test_a_phone_that_adb_lists_needs_nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    there = (plugged.Plugged("Pixel", "A1", debugging=False, may_open=True),)
    monkeypatch.setattr(plugged, "phones", lambda: there)
    assert plugged.missing(frozenset({"A1"})) == ()
    assert len(plugged.missing(frozenset())) == 1


def _attached(monkeypatch: pytest.MonkeyPatch, *seen: Attached) -> None:
    monkeypatch.setattr(plugged, "phones", lambda: ())
    monkeypatch.setattr("devicelab.transports.discover_all", lambda: seen)


@pytest.mark.parametrize(
    ("state", "step"),
    [
        ("unauthorized", "accept this computer's key"),
        ("offline", "plug the board out and in again"),
        ("no permissions", "udev rule"),
        ("recovery", "adb reboot"),
    ],
)
def test_a_phone_that_is_not_ready_is_said_with_the_step_that_is_missing(
    state: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = server.Device("RF8M1", state, {})
    monkeypatch.setattr(server.Server, "devices", lambda _self: (device,))
    _attached(monkeypatch, *adb.discover())
    for wanted in ("note10", None):
        with pytest.raises(DeviceUnreachableError, match="RF8M1 is") as caught:
            choose.choose(wanted, Lab())
        assert step in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("kind", "step"),
    [("note10", "USB debugging"), ("note10", "devicelab sim up note10"), ("nvidia-server", "lab.toml")],
)
def test_with_nothing_attached_the_error_says_how_a_board_of_that_kind_is(
    kind: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _attached(monkeypatch)
    with pytest.raises(DeviceUnreachableError, match=f"no device of kind '{kind}'") as caught:
        choose.choose(kind, Lab())
    assert step in (caught.value.hint or "")


def test_a_phone_of_another_kind_is_named_instead_of_steps_to_attach_one(monkeypatch: pytest.MonkeyPatch) -> None:
    _attached(monkeypatch, Attached("adb:A1", "device", {}))
    monkeypatch.setattr("devicelab.device.facts.identify", lambda entry: "linux" if entry.name == "local" else "pixel")
    with pytest.raises(DeviceUnreachableError, match="no device of kind 'note10'") as caught:
        choose.choose("note10", Lab())
    assert "A1 (pixel)" in (caught.value.hint or "")
    assert "USB" not in (caught.value.hint or "")
