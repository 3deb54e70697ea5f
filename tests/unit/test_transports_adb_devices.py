"""Boards as an adb server lists them: with one serial for several, or announced by wireless debugging."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from devicelab.device import choose, lab
from devicelab.errors import ConfigError, DeviceUnreachableError
from devicelab.ground.safe_text import spoken
from devicelab.transports import adb

TWINS = (
    "0123456789ABCDEF       device usb:1-3.1 product:board_a model:Board_A device:board_a transport_id:4\n"
    "0123456789ABCDEF       device usb:1-3.2 product:board_a model:Board_A device:board_a transport_id:5\n"
    "R58M1                  device usb:1-4 product:p model:M device:d transport_id:6\n"
)
WIRELESS = "adb-R5CT7654321-Zz9zZz._adb-tls-connect._tcp"

Serve = Callable[[dict[str, str]], list[str]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """An adb server that answers by the beginning of a request; gives the list of what it was asked."""
    asked: list[str] = []
    answers: dict[str, str] = {}
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    size = int(peer.recv(4), 16)
                    asked.append(peer.recv(size).decode())
                    said = next((text for start, text in answers.items() if asked[-1].startswith(start)), "FAIL no")
                    text = said[5:]
                    peer.sendall(f"{said[:4]}{len(text):04x}{text}".encode())

        threading.Thread(target=serve, daemon=True).start()
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(listener.getsockname()[1]))
        monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)

        def start(said: dict[str, str]) -> list[str]:
            answers.update(said)
            return asked

        yield start
        listener.shutdown(socket.SHUT_RDWR)


def twins(server: Serve) -> list[str]:
    return server({"host:devices-l": f"OKAY {TWINS}", "host-serial:0123456789ABCDEF": "FAIL more than one device"})


def test_boards_with_one_serial_are_told_apart_by_their_ports(server: Serve) -> None:
    twins(server)
    found = {one.address: one.details.get("serial") for one in adb.discover()}
    assert found == {
        "adb:usb:1-3.1": "0123456789ABCDEF",
        "adb:usb:1-3.2": "0123456789ABCDEF",
        "adb:R58M1": None,
    }


def test_boards_whose_ports_are_not_told_go_by_the_server_s_own_numbers(server: Serve) -> None:
    asked = server(
        {
            "host:devices-l": f"OKAY {TWINS.replace('usb:1-3.1 ', '').replace('usb:1-3.2 ', '')}",
            "host-transport-id:5:get-state": "OKAY device",
            "host-transport-id:5:features": "OKAY shell_v2,cmd",
        }
    )
    assert [one.address for one in adb.discover()] == ["adb:transport_id:4", "adb:transport_id:5", "adb:R58M1"]
    board = adb.AdbTransport("adb:transport_id:5")
    assert board.state() == ("device", "")
    assert "shell_v2" in board.features
    assert not board.by_network
    with pytest.raises(DeviceUnreachableError):
        board.run(["true"])
    assert asked[-1] == "host:transport-id:5"


def test_boards_that_may_not_be_opened_are_told_apart_too(server: Serve) -> None:
    line = (
        "????????????           no permissions (missing udev rules? user is in the plugdev group); see [x] usb:1-{n}\n"
    )
    server({"host:devices-l": f"OKAY {line.format(n=2)}{line.format(n=3)}"})
    assert [(one.address, one.state) for one in adb.discover()] == [
        ("adb:usb:1-2", "no permissions"),
        ("adb:usb:1-3", "no permissions"),
    ]


@pytest.mark.parametrize("address", ["adb:0123456789ABCDEF", "0123456789ABCDEF"])
def test_a_serial_that_several_have_is_a_mistake_that_names_the_ports(server: Serve, address: str) -> None:
    twins(server)
    with pytest.raises(ConfigError, match="2 boards have the serial") as caught:
        adb.connect(choose.choose(address, lab.Lab()).address)
    text = str(caught.value)
    assert "usb:1-3.1" in text
    assert "usb:1-3.2" in text


def test_a_device_of_the_lab_may_be_named_by_its_port(server: Serve) -> None:
    twins(server)
    named = {
        "a": lab.DeviceEntry(name="a", address="adb:usb:1-3.2"),
        "b": lab.DeviceEntry(name="b", address="adb:usb:1-4"),
        "c": lab.DeviceEntry(name="c", address="adb:usb:1-9"),
    }
    seen = {one.entry.name: one.state for one in choose.survey(lab.Lab(devices=named)).devices}
    assert seen == {"usb:1-3.1": "device", "a": "device", "b": "device", "c": "absent", "local": "device"}


@pytest.mark.parametrize("block", [b"00ffR58M1 device\n", b"-001", b"0 12", b"00", b"+0x8R58M1 x\n"])
def test_an_answer_that_was_cut_is_no_shorter_list(block: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(100)
                peer.sendall(b"OKAY" + block)

        threading.Thread(target=serve, daemon=True).start()
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(listener.getsockname()[1]))
        monkeypatch.delenv("ADB_SERVER_SOCKET", raising=False)
        with pytest.raises(DeviceUnreachableError):
            adb.discover()


def test_wireless_debugging_is_connected_to_again(server: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adb, "_RECOVER_TIMEOUT_S", 0.1)
    lost = f"FAIL device '{WIRELESS}' not found"
    asked = server({"host:connect": "OKAY failed to connect", "host-serial": lost})
    with pytest.raises(DeviceUnreachableError) as caught:
        adb.connect(f"adb:{WIRELESS}")
    assert f"host:connect:{WIRELESS}" in asked
    assert "wireless debugging" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("serial", "network"),
    [("192.168.1.5:5555", True), (WIRELESS, True), (f"{WIRELESS}.", True), ("usb:1-3.1", False), ("R58M1", False)],
)
def test_only_what_hangs_on_a_network_is_connected_to(serial: str, network: bool) -> None:
    assert adb.AdbTransport(f"adb:{serial}").by_network is network


def test_what_androids_linker_says_is_not_a_program_s_last_word() -> None:
    text = (
        "WARNING: linker: /system/xbin/su: unused DT entry: type 0x6ffffffb arg 0x8000001\n"
        "busy: held by x\n  WARNING: linker: Warning: unsupported flags DT_FLAGS_1=0x8\n"
    )
    assert spoken(text) == "busy: held by x"
    assert spoken("WARNING: linker: x\n") == ""
    assert spoken("CANNOT LINK EXECUTABLE: no libfoo\n") == "CANNOT LINK EXECUTABLE: no libfoo"
