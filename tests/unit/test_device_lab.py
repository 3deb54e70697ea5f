"""The lab chooses one device, or says which ones there are."""

from pathlib import Path

import pytest

from devicelab.device import choose, lab
from devicelab.device.lab import DeviceEntry, Lab
from devicelab.errors import ConfigError, DeviceUnreachableError
from devicelab.ground import places
from devicelab.transports.base import Attached

RACK = DeviceEntry(name="rack", address="adb:0123@rack-host:5037")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Two phones of one kind and a board, attached; one of the phones has a name."""
    seen = (Attached("adb:R58A", "device"), Attached("adb:R58B", "device"), Attached("adb:QC1", "offline"))
    kinds = {"adb:R58A": "note10", "adb:R58B": "note10"}
    monkeypatch.setattr("devicelab.transports.discover_all", lambda: seen)
    monkeypatch.setattr("devicelab.device.facts.identify", lambda entry: kinds.get(entry.address, "linux"))
    return Lab(devices={"left": DeviceEntry(name="left", address="adb:R58A")})


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_name_a_serial_and_an_address_choose_a_device(bench: Lab) -> None:
    assert choose.choose("left", bench).address == "adb:R58A"
    assert choose.choose("R58B", bench).address == "adb:R58B"
    assert choose.choose("ssh:me@host", bench).address == "ssh:me@host"
    assert choose.choose("local", bench).address == "local:"


def test_a_device_of_the_lab_is_the_same_by_its_address_and_its_serial(bench: Lab) -> None:
    for wanted in ("adb:R58A", "R58A"):
        assert choose.choose(wanted, bench) is bench.devices["left"]
    rack = bench.model_copy(update={"devices": {"rack": RACK}})
    for wanted in ("rack", "0123", RACK.address):
        assert choose.choose(wanted, rack) is RACK
    twice = {name: DeviceEntry(name=name, address="ssh:me@gpu", dir=f"/{name}") for name in ("a", "b")}
    with pytest.raises(ConfigError, match="a, b"):
        choose.choose("ssh:me@gpu", Lab(devices=twice))


def test_a_board_kind_with_two_devices_lists_them(bench: Lab) -> None:
    with pytest.raises(ConfigError, match=r"R58B, left"):
        choose.choose("note10", bench)


def test_a_known_kind_that_is_not_attached_is_unreachable(bench: Lab) -> None:
    with pytest.raises(DeviceUnreachableError, match="qualcomm"):
        choose.choose("qualcomm", bench)


def test_a_name_nobody_knows_gives_the_nearest(bench: Lab) -> None:
    with pytest.raises(ConfigError, match="note1") as caught:
        choose.choose("note1", bench)
    assert "did you mean" in str(caught.value)


def test_without_a_wish_several_devices_are_an_error_that_lists_them(bench: Lab) -> None:
    with pytest.raises(ConfigError, match=r"several devices.*R58B, left"):
        choose.choose(None, bench)


def test_without_a_wish_a_phone_is_not_taken_for_the_one_beside_it_that_is_not_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = (Attached("adb:R58A", "device"), Attached("adb:R58B", "unauthorized"))
    monkeypatch.setattr("devicelab.transports.discover_all", lambda: seen)
    with pytest.raises(ConfigError, match=r"several devices.*R58A, R58B"):
        choose.choose(None, Lab())
    absent = Lab(devices={"c": DeviceEntry(name="c", address="adb:R58C")})
    monkeypatch.setattr("devicelab.transports.discover_all", lambda: seen[:1])
    assert choose.choose(None, absent).name == "R58A"


def test_without_a_wish_the_default_of_the_lab_is_taken(bench: Lab) -> None:
    assert choose.choose(None, bench.model_copy(update={"default": "left"})).name == "left"


def test_with_nothing_attached_this_computer_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devicelab.transports.discover_all", tuple)
    assert choose.choose(None, Lab()).name == "local"


@pytest.mark.parametrize("state", ["unauthorized", "offline", "no permissions", "recovery"])
def test_this_computer_never_stands_in_for_a_phone_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr("devicelab.transports.discover_all", lambda: (Attached("adb:R58A", state),))
    with pytest.raises(DeviceUnreachableError, match=f"R58A is {state}") as caught:
        choose.choose(None, Lab())
    assert "--board local" in (caught.value.hint or "")
    assert choose.choose("local", Lab()).name == "local"


def test_this_computer_never_stands_in_for_a_phone_of_the_lab_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("devicelab.transports.discover_all", tuple)
    named = Lab(devices={"left": DeviceEntry(name="left", address="adb:R58A")})
    with pytest.raises(DeviceUnreachableError, match="left is absent"):
        choose.choose(None, named)
    assert choose.choose(None, named.model_copy(update={"default": "local"})).name == "local"


def test_where_adb_cannot_look_nobody_knows_that_no_phone_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Attached("adb:", "unavailable", {"error": "the adb server does not start", "hint": "see what it says"})
    monkeypatch.setattr("devicelab.transports.discover_all", lambda: (broken,))
    for wanted in (None, "note10", "R58A"):
        with pytest.raises(DeviceUnreachableError, match="adb: the adb server does not start"):
            choose.choose(wanted, Lab())
    assert choose.choose("local", Lab()).name == "local"
    (blind,) = choose.survey(Lab()).blind
    assert (blind.scheme, blind.state, blind.hint) == ("adb", "unavailable", "see what it says")


def test_where_there_is_no_adb_at_all_this_computer_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Attached("adb:", "not installed", {"error": "no adb program on this machine", "hint": ""})
    monkeypatch.setattr("devicelab.transports.discover_all", lambda: (missing,))
    assert choose.choose(None, Lab()).name == "local"
    with pytest.raises(ConfigError, match="no device or board kind named 'nosuch'"):
        choose.choose("nosuch", Lab())


def test_a_board_behind_another_host_s_adb_server_is_asked_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devicelab.transports.discover_all", tuple)
    monkeypatch.setattr("devicelab.device.facts.identify", lambda entry: "qualcomm" if entry is RACK else "linux")
    named = Lab(devices={"rack": RACK})
    assert [(seen.entry.name, seen.state) for seen in choose.attached(named)] == [
        ("rack", "named"),
        ("local", "device"),
    ]
    assert choose.choose(None, named) is RACK
    assert choose.choose("qualcomm", named) is RACK


def test_a_board_of_the_default_adb_server_is_one_device_however_it_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in ("ADB_SERVER_SOCKET", "ANDROID_ADB_SERVER_ADDRESS", "ANDROID_ADB_SERVER_HOST"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "5038")
    monkeypatch.setattr("devicelab.transports.discover_all", lambda: (Attached("adb:R58A", "device"),))
    named = Lab(devices={"left": DeviceEntry(name="left", address="adb:R58A@localhost:5038")})
    assert [seen.entry.name for seen in choose.attached(named, ask_kind=False)] == ["left", "local"]


def test_this_computer_by_another_name_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devicelab.transports.discover_all", lambda: (Attached("local:", "device"),))
    entries = {name: DeviceEntry(name=name, address="local:", dir=f"/{name}") for name in ("a", "b")}
    states = {seen.entry.name: seen.state for seen in choose.attached(Lab(devices=entries), ask_kind=False)}
    assert states == {"a": "named", "b": "named", "local": "device"}


def test_a_phone_with_two_names_is_there_by_both(bench: Lab) -> None:
    entries = {name: DeviceEntry(name=name, address="adb:R58A", dir=f"/{name}") for name in ("a", "b")}
    states = {seen.entry.name: seen.state for seen in choose.attached(Lab(devices=entries), ask_kind=False)}
    assert (states["a"], states["b"]) == ("device", "device")
    assert "R58A" not in states


def test_of_two_devices_of_a_kind_the_one_that_is_there_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devicelab.transports.discover_all", lambda: (Attached("adb:R58B", "device"),))
    names = {"left": "adb:R58A", "right": "adb:R58B"}
    entries = {name: DeviceEntry(name=name, address=to, board="note10") for name, to in names.items()}
    assert choose.choose("note10", Lab(devices=entries)).name == "right"


def test_a_kind_that_is_not_found_comes_with_the_phones_that_cannot_say_theirs(bench: Lab) -> None:
    with pytest.raises(DeviceUnreachableError, match="QC1 is offline"):
        choose.choose("qualcomm", bench)


def test_an_address_with_a_password_is_refused_without_showing_it(bench: Lab) -> None:
    with pytest.raises(ConfigError, match="no password") as caught:
        choose.choose("ssh:me:s3cret@host", bench)
    assert "s3cret" not in str(caught.value)


def test_a_home_that_is_missing_or_closed_holds_no_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DEVICELAB_LAB", "XDG_CONFIG_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(_uid: int) -> object:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert places.lab_path() is None

    def closed(_path: Path) -> bool:
        raise PermissionError

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(Path, "is_file", closed)
    assert places.lab_path() is None


def test_every_device_is_listed_once_with_its_state(bench: Lab) -> None:
    seen = {s.entry.name: s for s in choose.attached(bench)}
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
