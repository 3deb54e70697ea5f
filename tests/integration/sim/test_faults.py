"""Faults on demand, seen through the real adb client."""

import subprocess
from pathlib import Path

import pytest
from sim_fixtures import Adb, StartBoard, adb, sim

from devicelab.errors import ConfigError
from virtualboards import lifecycle
from virtualboards.faults import Fault
from virtualboards.lifecycle import AdbServer, VirtualBoard

pytestmark = pytest.mark.sim


@pytest.fixture
def board(virtual_board: StartBoard) -> VirtualBoard:
    return virtual_board("note10", boot_s=0.1)


@pytest.fixture
def client(board: VirtualBoard, adb_server: AdbServer) -> Adb:
    return adb(adb_server, board.serial)


def test_a_dropped_connection_ends_commands_and_comes_back(
    board: VirtualBoard, client: Adb, adb_server: AdbServer
) -> None:
    running = _start(adb_server, board, "echo up; exec sleep 1000")
    assert running.stdout is not None
    assert running.stdout.readline() == b"up\n"
    lifecycle.arm(board.name, [Fault("drop", for_s=0.1)])
    running.wait(timeout=30)  # what code it ends with without having been told one is the client's own affair
    assert running.stdout.read() == b""
    running.stdout.close()
    assert client("wait-for-device", "shell", "echo back").stdout == b"back\n"


def test_a_drop_in_the_middle_of_a_push_fails_it_and_the_next_one_succeeds(
    board: VirtualBoard, client: Adb, tmp_path: Path
) -> None:
    source = tmp_path / "big"
    source.write_bytes(bytes(8 << 20))
    lifecycle.arm(board.name, [Fault("drop", at_bytes=1 << 20, for_s=0.1)])
    assert client("push", str(source), "/data/local/tmp/big").returncode != 0
    assert client("wait-for-device", "push", str(source), "/data/local/tmp/big").returncode == 0
    stats = lifecycle.ask(board.name, {"do": "stats"})
    assert [fault["fault"] for fault in stats["faults"]] == ["drop"]
    assert stats["services"]["sync"]["bytes_in"] > 8 << 20


def test_a_board_that_hangs_answers_again_afterwards(board: VirtualBoard, client: Adb, adb_server: AdbServer) -> None:
    lifecycle.arm(board.name, [Fault("hang", for_s=0)])
    waiting = _start(adb_server, board, "echo late")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(timeout=0.3)
    lifecycle.arm(board.name, [Fault("clear")])
    assert waiting.communicate(timeout=30)[0] == b"late\n"


def test_a_full_disk_refuses_data_until_it_is_cleared(board: VirtualBoard, client: Adb, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(b"x" * 100_000)
    lifecycle.arm(board.name, [Fault("disk-full")])
    done = client("push", str(source), "/data/local/tmp/file")
    assert done.returncode != 0
    assert b"No space left on device" in done.stdout + done.stderr
    assert client("shell", "ls /data/local/tmp").stdout == b""
    lifecycle.arm(board.name, [Fault("clear")])
    assert client("push", str(source), "/data/local/tmp/file").returncode == 0


def test_damage_on_the_way_changes_what_is_pulled(board: VirtualBoard, client: Adb, tmp_path: Path) -> None:
    client("shell", "head -c 200000 /dev/zero > /data/local/tmp/zeros")
    lifecycle.arm(board.name, [Fault("corrupt", seed=1)])
    data = client("exec-out", "cat /data/local/tmp/zeros").stdout
    assert len(data) == 200_000
    assert sum(byte != 0 for byte in data) == 1
    assert client("exec-out", "cat /data/local/tmp/zeros").stdout == bytes(200_000)


def test_kill_su_ends_root_commands_but_not_others(board: VirtualBoard, client: Adb, adb_server: AdbServer) -> None:
    running = _start(adb_server, board, "su -c 'echo up; sleep 1000'; echo code $?")
    assert running.stdout is not None
    assert running.stdout.readline() == b"up\n"
    lifecycle.arm(board.name, [Fault("kill-su")])
    assert running.communicate(timeout=30)[0] == b"code 137\n"


def test_a_reboot_after_a_time_and_a_slow_line(board: VirtualBoard, client: Adb) -> None:
    before = client("shell", "cat /proc/sys/kernel/random/boot_id").stdout
    lifecycle.arm(board.name, [Fault("slow", for_s=0, args={"bytes_per_s": 4e6}), Fault("reboot", after_s=0.05)])
    assert client("wait-for-disconnect").returncode == 0
    assert client("wait-for-device", "shell", "cat /proc/sys/kernel/random/boot_id").stdout != before


def test_heat_reaches_the_thermal_zones(board: VirtualBoard, client: Adb) -> None:
    lifecycle.arm(board.name, [Fault("thermal", args={"celsius": 88.0})])
    temps = client("shell", "cat /sys/class/thermal/thermal_zone*/temp").stdout.split()
    assert max(int(temp) for temp in temps if temp.lstrip(b"-").isdigit()) > 80_000


def test_a_fault_with_wrong_arguments_is_refused_and_the_board_lives(board: VirtualBoard, client: Adb) -> None:
    with pytest.raises(ConfigError):
        lifecycle.arm(board.name, [Fault("thermal", args={"colour": "red"})])
    for wrong in (("offline", "cpu=99", "--after-s", "0.05"), ("slow", "bytes_per_s=64k"), ("daemon", "period_s=inf")):
        assert sim("fault", board.name, *wrong).returncode == 2
    assert sim("fault", board.name, "drop", "--after-s", "3000000").returncode == 0
    assert client("shell", "echo alive").stdout == b"alive\n"


def test_the_command_line_arms_faults_and_campaigns(board: VirtualBoard) -> None:
    assert sim("fault", board.name, "drop", "--at-bytes", "1000000000").returncode == 0
    assert sim("fault", board.name, "random", "--seed", "3", "--count", "4", "--every-s", "1000").returncode == 0
    assert '"armed": 5' in sim("stats", board.name).stdout
    wrong = sim("fault", board.name, "earthquake")
    assert wrong.returncode == 2
    assert "known: drop" in wrong.stderr
    assert sim("fault", "nobody", "drop").returncode == 2


def _start(server: AdbServer, board: VirtualBoard, command: str) -> "subprocess.Popen[bytes]":
    from adbutils import adb_path

    argv = [adb_path(), "-P", str(server.port), "-s", board.serial, "shell", command]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
