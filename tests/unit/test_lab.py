"""The lab chooses one device, or says which ones there are."""

from pathlib import Path

import pytest

from devicelab import lab
from devicelab.errors import ConfigError, DeviceUnreachableError
from devicelab.lab import DeviceEntry, Lab
from devicelab.transports.base import Attached


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Two phones of one kind and a board, attached; one of the phones has a name."""
    seen = (Attached("adb:R58A", "device"), Attached("adb:R58B", "device"), Attached("adb:QC1", "offline"))
    kinds = {"adb:R58A": "note10", "adb:R58B": "note10"}
    monkeypatch.setattr("devicelab.transports.discover_all", lambda: seen)
    monkeypatch.setattr("devicelab.facts.identify", lambda entry: kinds.get(entry.address, "linux"))
    return Lab(devices={"left": DeviceEntry(name="left", address="adb:R58A")})


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_name_a_serial_and_an_address_choose_a_device(bench: Lab) -> None:
    assert lab.choose("left", bench).address == "adb:R58A"
    assert lab.choose("R58B", bench).address == "adb:R58B"
    assert lab.choose("ssh:me@host", bench).address == "ssh:me@host"
    assert lab.choose("local", bench).address == "local:"


def test_a_board_kind_with_two_devices_lists_them(bench: Lab) -> None:
    with pytest.raises(ConfigError, match=r"R58B, left"):
        lab.choose("note10", bench)


def test_a_known_kind_that_is_not_attached_is_unreachable(bench: Lab) -> None:
    with pytest.raises(DeviceUnreachableError, match="qualcomm"):
        lab.choose("qualcomm", bench)


def test_a_name_nobody_knows_gives_the_nearest(bench: Lab) -> None:
    with pytest.raises(ConfigError, match="note1") as caught:
        lab.choose("note1", bench)
    assert "did you mean" in str(caught.value)


def test_without_a_wish_several_devices_are_an_error_that_lists_them(bench: Lab) -> None:
    with pytest.raises(ConfigError, match=r"several devices.*R58B, left"):
        lab.choose(None, bench)


def test_without_a_wish_the_default_of_the_lab_is_taken(bench: Lab) -> None:
    assert lab.choose(None, bench.model_copy(update={"default": "left"})).name == "left"


def test_with_nothing_attached_this_computer_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devicelab.transports.discover_all", tuple)
    assert lab.choose(None, Lab()).name == "local"


def test_every_device_is_listed_once_with_its_state(bench: Lab) -> None:
    seen = {s.entry.name: s for s in lab.attached(bench)}
    assert list(seen) == ["left", "R58B", "QC1", "local"]
    assert seen["left"].kind == "note10"
    assert seen["QC1"].state == "offline"
    assert seen["QC1"].kind is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[devices.a]\nadress = 'adb:1'\n", r"devices\.a\.adress"),
        ("[devices.a]\naddress = 'adb:1'\nroot = 'magic'\n", r"devices\.a\.root"),
        ("devices = 3\n", r"\[devices\.NAME\]"),
        ("[devices.a\n", "not valid TOML"),
    ],
)
def test_a_mistake_in_lab_toml_is_told_with_its_place(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        lab.load_lab(write(tmp_path / "lab.toml", text))


def test_a_missing_explicit_lab_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICELAB_LAB", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match=r"none\.toml"):
        lab.load_lab()


@pytest.mark.parametrize(
    ("address", "said", "may"),
    [
        ("adb:R58M", None, True),
        ("adb:R58M", False, False),
        ("ssh:me@gpuserver", None, False),
        ("ssh:me@board", True, True),
        ("local:", True, False),
    ],
)
def test_who_may_be_rebooted_in_a_night(address: str, said: bool | None, may: bool) -> None:
    assert DeviceEntry(name="it", address=address, reboot=said).may_reboot is may
