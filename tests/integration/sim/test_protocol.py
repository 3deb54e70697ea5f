"""The wire protocol where the real adb server does not go: old versions, flow control, refusals, broken peers."""

import contextlib
import random
import socket
import struct
from collections.abc import Iterator

import pytest
from raw_host import RawHost
from sim_fixtures import Adb, adb, boards_in

from virtualboards.adbd import wire
from virtualboards.adbd.wire import Packet
from virtualboards.lifecycle import AdbServer, VirtualBoard

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory, adb_server: AdbServer) -> Iterator[VirtualBoard]:
    with boards_in(tmp_path_factory.mktemp("sim") / "cache", adb_server) as start:
        yield start("note10")


@pytest.fixture(scope="module")
def client(board: VirtualBoard, adb_server: AdbServer) -> Adb:
    return adb(adb_server, board.serial)


@pytest.fixture
def host(board: VirtualBoard) -> Iterator[RawHost]:
    connection = RawHost(board.serial)
    yield connection
    connection.close()


def test_the_greeting_names_product_model_and_features(host: RawHost) -> None:
    banner = host.hello.payload.decode()
    assert host.hello.arg0 == wire.VERSION_NO_CHECKSUM
    assert host.hello.arg1 == wire.MAX_PAYLOAD
    assert banner.startswith("device::ro.product.name=")
    assert "ro.product.model=SM_N970F" in banner.replace("-", "_")
    assert "shell_v2" in banner.partition("features=")[2].split(",")


def test_an_old_server_gets_checksums_and_payloads_of_its_size(board: VirtualBoard) -> None:
    host = RawHost(board.serial, version=wire.VERSION_MIN, max_payload=4096)
    ours, theirs = host.open("shell:head -c 100000 /dev/zero")
    payloads = host.read_all(ours, theirs)
    host.close()
    assert sum(map(len, payloads)) == 100_000
    assert max(map(len, payloads)) <= 4096


def test_a_wrong_checksum_from_an_old_server_ends_the_connection(board: VirtualBoard) -> None:
    host = RawHost(board.serial, version=wire.VERSION_MIN, max_payload=4096)
    data = bytearray(wire.encode(Packet(wire.OPEN, 1, 0, b"shell:true\0"), with_checksum=True))
    data[-2] ^= 1
    host.sock.sendall(data)
    with pytest.raises(EOFError):
        host.receive()
    host.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        struct.pack("<6I", wire.CNXN, 0x01000001, 4096, 0xFFFFFFFF, 0, wire.CNXN ^ 0xFFFFFFFF),
        wire.encode(Packet(wire.OPEN, 1, 0, b"shell:true\0"), with_checksum=True),
        wire.encode(Packet(wire.STLS, 1, 0), with_checksum=True),
    ],
    ids=["not-adb", "huge-payload", "open-before-greeting", "tls"],
)
def test_a_peer_that_does_not_keep_to_the_protocol_is_dropped(board: VirtualBoard, client: Adb, data: bytes) -> None:
    host, _, port = board.serial.partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        sock.sendall(data)
        assert sock.recv(1) == b""
    assert client("shell", "echo alive").stdout == b"alive\n"


def test_one_payload_at_a_time_until_it_is_acknowledged(host: RawHost) -> None:
    ours, theirs = host.open("shell:head -c 3000000 /dev/zero")
    first = host.receive()
    assert first.command == wire.WRTE
    # Nothing more may come on this stream now; another one is not held up by it.
    other, other_theirs = host.open("shell:echo other")
    assert b"".join(host.read_all(other, other_theirs)) == b"other\n"
    host.send(Packet(wire.OKAY, ours, theirs))
    assert len(first.payload) + sum(map(len, host.read_all(ours, theirs))) == 3_000_000


def test_what_a_server_sends_on_its_clients_hang_up_without_waiting_arrives_whole(host: RawHost, client: Adb) -> None:
    ours, theirs = host.open("exec:sleep 0.2; cat > /data/local/tmp/whole")
    for _ in range(3):
        host.send(Packet(wire.WRTE, ours, theirs, bytes(250_000)))
    host.send(Packet(wire.CLSE, ours, theirs))
    size = "until [ $(stat -c %s /data/local/tmp/whole) = 750000 ]; do sleep 0.02; done; echo whole"
    assert client("shell", size).stdout == b"whole\n"


def test_a_peer_that_never_waits_for_acknowledgements_is_dropped(host: RawHost) -> None:
    ours, theirs = host.open("exec:sleep 1000")

    def flood() -> None:
        for _ in range(1000):
            host.send(Packet(wire.WRTE, ours, theirs, bytes(100_000)))
        host.receive()

    with pytest.raises((EOFError, ConnectionError)):
        flood()


def test_an_unknown_service_is_refused_with_stream_id_zero(host: RawHost) -> None:
    host.send(Packet(wire.OPEN, 77, 0, b"jdwp:1\0"))
    answer = host.receive()
    assert (answer.command, answer.arg0, answer.arg1) == (wire.CLSE, 0, 77)


def test_a_v2_shell_hears_sighup_when_its_stream_closes(host: RawHost, client: Adb) -> None:
    mark = "/data/local/tmp/hup"
    ours, theirs = host.open(f"shell,v2,raw:trap 'echo hup >{mark}; exit' HUP; echo up; while :; do sleep 0.05; done")
    assert b"up\n" in host.receive().payload
    host.send(Packet(wire.CLSE, ours, theirs))
    assert client("shell", f"until [ -s {mark} ]; do sleep 0.02; done; cat {mark}").stdout == b"hup\n"


def test_nobody_signals_a_v1_command_when_its_stream_closes(host: RawHost, client: Adb) -> None:
    pid_file = "/data/local/tmp/v1pid"
    ours, theirs = host.open(f"shell:echo $$ >{pid_file}; echo up; exec sleep 1000")
    assert host.receive().payload == b"up\n"
    host.send(Packet(wire.CLSE, ours, theirs))
    assert host.receive().command == wire.CLSE
    # The answer to this comes after the close was dealt with, so a signal would have been sent by now.
    assert client("shell", f"kill -0 $(cat {pid_file}) && echo lives").stdout == b"lives\n"
    assert client("shell", f"kill $(cat {pid_file})").returncode == 0


def test_the_window_size_is_taken_as_adb_sends_it(host: RawHost) -> None:
    ours, theirs = host.open("shell,v2,pty:read line; sh -c 'echo $LINES $COLUMNS'")
    size = b"31x97,0x0\0"
    data = struct.pack("<BI", 5, len(size)) + size + struct.pack("<BI", 0, 1) + b"\n"
    host.send(Packet(wire.WRTE, ours, theirs, data))
    assert b"31 97" in b"".join(host.read_all(ours, theirs))


def test_a_stdin_packet_longer_than_a_payload_arrives_whole(board: VirtualBoard) -> None:
    host = RawHost(board.serial, max_payload=4096)
    ours, theirs = host.open("shell,v2,raw:wc -c; exit 3")
    data = struct.pack("<BI", 0, 10_000) + bytes(10_000) + struct.pack("<BI", 4, 0)
    for start in range(0, len(data), 4096):
        host.send(Packet(wire.WRTE, ours, theirs, data[start : start + 4096]))
        while host.receive().command != wire.OKAY:
            pass
    answer = b"".join(host.read_all(ours, theirs))
    host.close()
    assert b"10000" in answer
    assert answer.endswith(struct.pack("<BI", 3, 1) + b"\x03")


def test_a_background_process_that_keeps_the_output_keeps_the_session(host: RawHost, client: Adb) -> None:
    ours, theirs = host.open("shell,v2,raw:sleep 1000 & echo $!")
    packet = host.receive()
    pid = packet.payload[5:].decode().strip()
    host.send(Packet(wire.OKAY, ours, theirs))
    # The shell has ended, but the session goes on until the last holder of its output has.
    assert (
        client("shell", f"while [ -d /proc/$(cut -d' ' -f4 /proc/{pid}/stat)/fd/9 ]; do :; done; kill {pid}").returncode
        == 0
    )
    rest = b"".join(host.read_all(ours, theirs))
    assert rest == struct.pack("<BIB", 3, 1, 0)


def test_detached_with_all_streams_redirected_the_session_ends_at_once(client: Adb) -> None:
    done = client("shell", "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!")
    assert done.returncode == 0
    assert client("shell", f"kill {done.stdout.decode().strip()}").returncode == 0


def test_a_terminal_is_one(client: Adb) -> None:
    done = client("shell", "-tt", "tty; stty size; test -t 0 && test -t 1 && echo terminal")
    assert b"/dev/pts/" in done.stdout
    assert b"terminal" in done.stdout


def test_hundreds_of_streams_at_once_are_served(host: RawHost) -> None:
    numbers = range(1, 301)
    for number in numbers:
        host.send(Packet(wire.OPEN, number, 0, f"shell,v2,raw:echo {number}; cat\0".encode()))
    theirs: dict[int, int] = {}
    output: dict[int, bytes] = {}
    while len(output) < len(numbers):
        packet = host.receive()
        if packet.command == wire.OKAY:
            theirs[packet.arg1] = packet.arg0
        elif packet.command == wire.WRTE:
            output[packet.arg1] = packet.payload
    assert {number: int(payload[5:]) for number, payload in output.items()} == {number: number for number in numbers}


def test_valid_packets_in_a_senseless_order_harm_nobody(board: VirtualBoard, client: Adb) -> None:
    chance = random.Random(11)
    words = [b"shell:exit", b"shell,v2:", b"shell,v2,pty:", b"exec:cat", b"sync:", b"remount:", b"root:", b"\xff:", b""]
    for _ in range(6):
        host = RawHost(board.serial)
        for _ in range(120):
            command = chance.choice([wire.OPEN, wire.OKAY, wire.WRTE, wire.CLSE, wire.AUTH, wire.SYNC])
            payload = chance.choice(words) if command == wire.OPEN else chance.randbytes(chance.randrange(40))
            with contextlib.suppress(ConnectionError):
                host.send(Packet(command, chance.randrange(1, 9), chance.randrange(1, 9), payload))
        host.close()
    assert client("shell", "echo alive").stdout == b"alive\n"


def test_a_command_line_longer_than_the_kernel_takes_is_an_error_not_a_crash(host: RawHost, client: Adb) -> None:
    ours, theirs = host.open("shell,v2,raw:echo " + "x" * 200_000)
    output = b"".join(host.read_all(ours, theirs))
    assert b"Argument list too long" in output
    assert output[-1] == 126
    assert client("shell", "echo alive").stdout == b"alive\n"
