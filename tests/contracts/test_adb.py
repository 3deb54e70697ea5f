"""What adb alone has to do: few streams, one board at a time, and no harm to any server."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import adbutils
import pytest
from sim_fixtures import StartBoard, adb
from transport_bench import free_port, listens

from devicelab.errors import CommandTimeoutError, ConfigError, DeviceRefusedError, DeviceUnreachableError
from devicelab.transports import _scripts as scripts
from devicelab.transports import adb as adb_transport
from devicelab.transports import connect, discover_all
from devicelab.transports._root import wrap
from devicelab.transports.adb import AdbTransport
from devicelab.transports.adb.server import _device, unreachable
from devicelab.transports.base import Completed
from virtualboards import lifecycle
from virtualboards.faults import Fault
from virtualboards.lifecycle import AdbServer, VirtualBoard

pytestmark = pytest.mark.slow


@pytest.fixture
def board(virtual_board: StartBoard) -> VirtualBoard:
    return virtual_board("note10")


@pytest.fixture
def device(board: VirtualBoard) -> AdbTransport:
    return of(board)


def of(board: VirtualBoard) -> AdbTransport:
    transport = connect(f"adb:{board.serial}")
    assert isinstance(transport, AdbTransport)
    return transport


def streams(board: VirtualBoard) -> int:
    count = lifecycle.ask(board.name, {"do": "stats"})["streams"]
    assert isinstance(count, int)
    return count


@pytest.mark.sim
def test_how_many_streams_each_operation_takes(board: VirtualBoard, device: AdbTransport, tmp_path: Path) -> None:
    assert device.run(["true"]).exit_code == 0
    (tmp_path / "file").write_bytes(b"x" * 300_000)
    many = [(tmp_path / "file", f"/data/local/tmp/{n}", 0o644) for n in range(20)]

    def cost(work: object) -> int:
        before = streams(board)
        work()  # type: ignore[operator]
        return streams(board) - before

    assert cost(lambda: device.run(["sh", "-c", "echo out; echo err >&2; exit 3"], stdin=b"x" * 100_000)) == 1
    assert cost(lambda: list(device.start(["true"], log="/data/local/tmp/log", follower=["true"]))) == 1
    parcel = device.send(many)
    assert cost(lambda: device.run(["true"], parcel=parcel)) == 1
    parcel = device.send(many)
    assert cost(lambda: list(device.start(["true"], log="/dev/null", parcel=parcel, follower=["true"]))) == 1
    assert cost(lambda: device.push_many(many)) == 2

    def follow() -> None:
        follow = device.follow("/data/local/tmp/1", idle_s=0.1)
        while next(follow):
            pass
        follow.close()  # type: ignore[attr-defined]

    assert cost(follow) == 1


@pytest.mark.sim
def test_a_board_that_was_pulled_out_is_unreachable_and_comes_back_by_itself(
    board: VirtualBoard, device: AdbTransport
) -> None:
    def pull(_: bytes) -> None:
        lifecycle.arm(board.name, [Fault("drop", for_s=0.5)])

    with pytest.raises(DeviceUnreachableError) as caught:
        device.run(["sh", "-c", "echo here; exec sleep 600"], on_stdout=pull)
    assert caught.value.device == device.address
    device.reconnect(timeout_s=60)
    assert device.run(["echo", "back"]).stdout == b"back\n"


@pytest.mark.sim
def test_a_reboot_is_waited_for(virtual_board: StartBoard) -> None:
    board = virtual_board("note10", boot_s=0.5)
    device = of(board)
    before = device.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout
    lifecycle.arm(board.name, [Fault("reboot")])
    device.reconnect(timeout_s=60)
    assert device.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout != before


@pytest.mark.sim
@pytest.mark.slow
def test_recovering_one_board_leaves_its_neighbour_alone(virtual_board: StartBoard) -> None:
    broken, well = virtual_board("note10"), virtual_board("note10")
    device, neighbour = of(broken), of(well)
    neighbour.run(["sh", "-c", "printf a >/data/local/tmp/log"])
    follow = neighbour.follow("/data/local/tmp/log", idle_s=0.2)
    pieces = (piece for piece in follow if piece)
    assert next(pieces) == b"a"
    lifecycle.arm(broken.name, [Fault("drop", for_s=0.5)])
    device.reconnect(timeout_s=60)
    neighbour.run(["sh", "-c", "printf b >>/data/local/tmp/log"])
    assert next(pieces) == b"b"
    follow.close()  # type: ignore[attr-defined]


@pytest.mark.sim
def test_a_board_the_server_has_lost_is_connected_anew(board: VirtualBoard, adb_server: AdbServer) -> None:
    assert adb(adb_server)("disconnect", board.serial).returncode == 0
    assert of(board).run(["echo", "back"]).stdout == b"back\n"


@pytest.mark.sim
def test_a_board_that_hangs_is_unreachable_in_bounded_time(
    board: VirtualBoard, device: AdbTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adb_transport, "_OPEN_TIMEOUT_S", 0.5)
    lifecycle.arm(board.name, [Fault("hang", for_s=0)])
    with pytest.raises(DeviceUnreachableError, match="in time"):
        device.run(["true"])
    lifecycle.arm(board.name, [Fault("clear")])
    device.reconnect(timeout_s=60)
    assert device.run(["true"]).exit_code == 0


@pytest.mark.sim
def test_a_board_that_hangs_during_a_command_cannot_be_said_to_have_ended_it(
    board: VirtualBoard, device: AdbTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adb_transport, "_OPEN_TIMEOUT_S", 0.5)

    def hang(_: bytes) -> None:
        lifecycle.arm(board.name, [Fault("hang", for_s=0)])

    with pytest.raises(DeviceUnreachableError, match="in time"):
        device.run(["sh", "-c", "echo here; exec sleep 600"], on_stdout=hang, timeout_s=0.5)
    lifecycle.arm(board.name, [Fault("clear")])


@pytest.mark.sim
def test_a_push_that_comes_back_damaged_is_no_push(
    board: VirtualBoard, device: AdbTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "PLACE", "digest() { return 127; }\n" + scripts.PLACE.partition("}\n")[2])
    (tmp_path / "file").write_bytes(b"x" * 1_000_000)
    lifecycle.arm(board.name, [Fault("corrupt", seed=1, args={"min_size": 10_000})])
    with pytest.raises(DeviceUnreachableError, match=r"damaged|garbled"):
        device.push(tmp_path / "file", "/data/local/tmp/file")
    assert device.run(["ls", "-A", "/data/local/tmp/file"]).exit_code != 0
    device.push(tmp_path / "file", "/data/local/tmp/file")
    assert device.run(["cat", "/data/local/tmp/file"]).stdout == (tmp_path / "file").read_bytes()


@pytest.mark.sim
def test_a_full_disk_is_told_in_the_boards_words_and_leaves_nothing(
    board: VirtualBoard, device: AdbTransport, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 8_000_000)
    before = device.run(["ls", "-A", "/data/local/tmp"]).stdout
    lifecycle.arm(board.name, [Fault("disk-full")])
    with pytest.raises(DeviceRefusedError, match="No space left"):
        device.push(tmp_path / "file", "/data/local/tmp/file")
    lifecycle.arm(board.name, [Fault("clear")])
    assert device.run(["ls", "-A", "/data/local/tmp"]).stdout == before


@pytest.mark.sim
def test_where_the_shell_may_not_write_the_board_says_so(device: AdbTransport, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 20_000_000)
    with pytest.raises(DeviceRefusedError, match=r"Permission denied|Read-only"):
        device.push(tmp_path / "file", "/system/bin/file")


@pytest.mark.sim
def test_adbd_as_root_where_the_build_allows_it(virtual_board: StartBoard, device: AdbTransport) -> None:
    with pytest.raises(DeviceRefusedError, match="cannot run as root"):
        device.become_root()
    free = of(virtual_board("note10", su="adb-root"))
    assert free.run(["id", "-u"]).stdout == b"2000\n"
    free.become_root()
    assert free.run(["id", "-u"]).stdout == b"0\n"
    free.become_root()


@pytest.mark.sim
def test_commands_under_magisk_s_su_end_with_it_and_live_on_when_started(virtual_board: StartBoard) -> None:
    device = of(virtual_board("note10", su="magisk"))

    def running() -> bytes:
        script = 'for dir in /proc/[0-9]*; do cat "$dir/cmdline"; echo; done 2>/dev/null; true'
        return device.run(wrap("su-c", ["sh", "-c", script])).stdout

    with pytest.raises(CommandTimeoutError):
        device.run(wrap("su-c", ["sleep", "601"]), timeout_s=0.5)
    device.run(["sh", "-c", "printf x >/data/local/tmp/log"])
    follower = wrap("su-c", ["tail", "-c", "+1", "-f", "/data/local/tmp/log"])
    follow = device.follow("/data/local/tmp/log", idle_s=0.2, follower=follower)
    assert next(piece for piece in follow if piece) == b"x"
    assert b"tail\0-c" in running()
    follow.close()  # type: ignore[attr-defined]
    device.start(wrap("su-c", ["sh", "-c", "id -u; exec sleep 602"]), log="/data/local/tmp/started", follower=["true"])
    while device.run(["cat", "/data/local/tmp/started"]).stdout != b"0\n":
        pass
    processes = running()
    assert b"sleep\x00602" in processes
    assert b"sleep\x00601" not in processes
    assert b"tail\0-c" not in processes


@pytest.mark.sim
def test_attached_boards_are_discovered(board: VirtualBoard) -> None:
    found = {item.address: item for item in discover_all()}
    assert found[f"adb:{board.serial}"].state == "device"
    assert found[f"adb:{board.serial}"].details["model"]
    assert "local:" in found


@pytest.mark.sim
def test_a_serial_nobody_has_is_unreachable_with_a_hint(adb_server: AdbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(adb_server.port))
    with pytest.raises(DeviceUnreachableError, match="not found") as caught:
        connect("adb:R58M123456X")
    assert caught.value.device == "adb:R58M123456X"
    assert "plugged in" in (caught.value.hint or "")


def test_an_unreachable_server_elsewhere_does_not_make_one_start_here(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = free_port(), free_port()
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(here))
    with pytest.raises(DeviceUnreachableError, match=f"127.0.0.1:{there}") as caught:
        connect(f"adb:SERIAL@127.0.0.1:{there}")
    assert "nodaemon" in (caught.value.hint or "")
    monkeypatch.setenv("ANDROID_ADB_SERVER_HOST", "192.0.2.1")
    monkeypatch.setattr("devicelab.transports.adb.server._CONNECT_TIMEOUT_S", 0.2)
    with pytest.raises(DeviceUnreachableError, match=r"192\.0\.2\.1"):
        connect("adb:SERIAL")
    assert not listens(here)
    assert not listens(there)


def test_the_default_server_is_started_when_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
    monkeypatch.delenv("ANDROID_ADB_SERVER_HOST", raising=False)
    try:
        with pytest.raises(DeviceUnreachableError, match="not found"):
            connect("adb:SERIAL")
        assert listens(port)
    finally:
        adb(AdbServer("127.0.0.1", port))("kill-server")


def test_an_adb_program_that_does_not_work_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(free_port()))
    monkeypatch.setenv("ADBUTILS_ADB_PATH", "/bin/false")
    with pytest.raises(DeviceUnreachableError, match="does not start") as caught:
        connect("adb:SERIAL")
    assert "/bin/false" in (caught.value.hint or "")

    def nowhere() -> str:
        raise adbutils.AdbError("No adb exe could be found")

    monkeypatch.setattr("devicelab.transports.adb.server.adb_path", nowhere)
    with pytest.raises(ConfigError, match="no adb program"):
        connect("adb:SERIAL")
    unavailable = next(item for item in discover_all() if item.address == "adb:")
    assert unavailable.state == "not installed"
    assert "no adb program" in unavailable.details["error"]


@pytest.fixture
def impostor() -> Iterator[int]:
    """Somebody who is no adb server, at a port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with peer:
                        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_who_is_no_adb_server_is_unreachable(impostor: int) -> None:
    with pytest.raises(DeviceUnreachableError):
        connect(f"adb:SERIAL@127.0.0.1:{impostor}")


@pytest.mark.parametrize(
    "address", ["adb:", "adb:@host", "adb:SERIAL@", "adb: ", "adb:A\nB", "adb:S@h:0", "adb:S@h:99999", "adb:S@[::1"]
)
def test_what_is_no_adb_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connect(address)
    assert "adb:SERIAL" in (caught.value.hint or "")


def test_a_port_in_the_environment_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "many")
    with pytest.raises(ConfigError, match="ANDROID_ADB_SERVER_PORT"):
        connect("adb:SERIAL")


@pytest.mark.parametrize(
    ("line", "state", "details"),
    [
        (
            "R58M1  device usb:1-2 product:d1 model:SM_N970F device:d1 transport_id:3",
            "device",
            {"usb": "1-2", "product": "d1", "model": "SM_N970F", "device": "d1", "transport_id": "3"},
        ),
        ("R58M1\tunauthorized", "unauthorized", {}),
        ("R58M1  quantum usb:1-2", "quantum", {"usb": "1-2"}),
        (
            "R58M1  no permissions (user x is not in the plugdev group); see [http://developer.android.com/] usb:1-2",
            "no permissions",
            {
                "usb": "1-2",
                "error": "no permissions (user x is not in the plugdev group); see [http://developer.android.com/]",
            },
        ),
    ],
)
def test_lines_of_adb_devices(line: str, state: str, details: dict[str, str]) -> None:
    device = _device(line)
    assert device is not None
    assert (device.serial, device.state, device.details) == ("R58M1", state, details)


def test_serials_with_blanks_are_one_serial() -> None:
    serial = "adb-4c753791-lL2him (2)._adb-tls-connect._tcp"
    long, short = _device(f"{serial} device product:d1 transport_id:3"), _device(f"{serial}\toffline")
    assert long is not None
    assert short is not None
    assert (long.serial, long.state, long.details["product"]) == (serial, "device", "d1")
    assert (short.serial, short.state) == (serial, "offline")
    assert AdbTransport(f"adb:{serial}").serial == serial


@pytest.mark.parametrize(
    ("variables", "server"),
    [
        ({}, ("127.0.0.1", 5037, True)),
        ({"ANDROID_ADB_SERVER_PORT": "6000"}, ("127.0.0.1", 6000, True)),
        ({"ANDROID_ADB_SERVER_HOST": "rack"}, ("rack", 5037, False)),
        ({"ANDROID_ADB_SERVER_ADDRESS": "rack", "ANDROID_ADB_SERVER_HOST": "other"}, ("rack", 5037, False)),
        ({"ADB_SERVER_SOCKET": "tcp:6001", "ANDROID_ADB_SERVER_PORT": "6000"}, ("127.0.0.1", 6001, True)),
        ({"ADB_SERVER_SOCKET": "tcp:localhost:6001"}, ("localhost", 6001, True)),
        ({"ADB_SERVER_SOCKET": "tcp:rack:6001", "ANDROID_ADB_SERVER_ADDRESS": "x"}, ("rack", 6001, False)),
        ({"ADB_SERVER_SOCKET": "tcp:[::1]:6001"}, ("::1", 6001, True)),
    ],
)
def test_the_default_server_is_the_one_that_adb_itself_takes(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], server: tuple[str, int, bool]
) -> None:
    for name in ("ADB_SERVER_SOCKET", *(f"ANDROID_ADB_SERVER_{end}" for end in ("ADDRESS", "HOST", "PORT"))):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = AdbTransport("adb:SERIAL").server
    assert (found.host, found.port, found.ours) == server
    assert AdbServer.of_user() == AdbServer(*server[:2])
    assert not AdbTransport("adb:SERIAL@rack:5037").server.ours


@pytest.mark.parametrize("text", ["tcp:", "tcp:many", "tcp:host:0", "tcp:99999", "localfilesystem:/x", "rack:5037"])
def test_a_server_socket_in_the_environment_that_is_none_of_ours_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("ADB_SERVER_SOCKET", text)
    with pytest.raises(ConfigError, match="ADB_SERVER_SOCKET"):
        connect("adb:SERIAL")


def test_a_board_whose_shell_does_not_work_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = AdbTransport("adb:SERIAL")
    monkeypatch.setattr(transport, "_recover", lambda _timeout_s: None)
    monkeypatch.setattr(transport, "_run", lambda *_: Completed(126, b"", b""))
    with pytest.raises(DeviceUnreachableError, match=r"shell does not work \(exit code 126\)"):
        transport.reconnect(timeout_s=0.5)


def test_lines_that_are_no_device_are_passed_over() -> None:
    assert _device("") is None
    assert _device("lonely") is None


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set", "accept"),
        ("device still authorizing", "accept"),
        ("device offline", "reboot"),
        ("device 'x' not found", "plugged in"),
        ("insufficient permissions for device", "udev"),
        ("the board is in state bootloader", "fastboot"),
        ("closed", "cable"),
        ("", "cable"),
    ],
)
def test_what_adb_says_comes_with_what_to_do(words: str, hint: str) -> None:
    error = unreachable(words, "adb:x")
    assert hint in (error.hint or "")
    assert "\n" not in error.message
