"""Starting and ending virtual boards, and what is left when they end badly."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from sim_fixtures import StartBoard, adb, boards_in, sim, tree_of

from devicelab.errors import ConfigError, DeviceRefusedError
from virtualboards import lifecycle, linux
from virtualboards.lifecycle import AdbServer

pytestmark = pytest.mark.sim


def test_up_list_and_down_from_the_command_line(tmp_path: Path, adb_server: AdbServer) -> None:
    with boards_in(tmp_path / "cache", adb_server):
        up = sim("up", "note10", "--name", "mine", "--json")
        assert up.returncode == 0, up.stderr
        board = json.loads(up.stdout)["boards"][0]
        assert board["simulated"] is True
        client = adb(adb_server, board["serial"])
        assert client("shell", "getprop ro.serialno").stdout == b"mine\n"
        listed = json.loads(sim("list", "--json").stdout)["boards"]
        assert [item["name"] for item in listed] == ["mine"]
        taken = sim("up", "note10", "--name", "mine")
        assert taken.returncode == 2
        assert "devicelab sim down mine" in taken.stderr
        assert sim("down", "mine").returncode == 0
        assert json.loads(sim("list", "--json").stdout)["boards"] == []
        assert board["serial"] not in adb(adb_server)("devices").stdout.decode()


def test_wrong_names_and_options_are_the_users_mistake(tmp_path: Path, adb_server: AdbServer) -> None:
    with boards_in(tmp_path / "cache", adb_server):
        assert sim("up", "note11").returncode == 2
        assert sim("up").returncode == 2
        assert sim("up", "note10", "--name", "../evil").returncode == 2
        assert sim("up", "note10", "--su", "magic").returncode == 2
        assert sim("down").returncode == 2
        assert sim("down", "nobody").returncode == 2
        assert not list((tmp_path / "cache" / "sim").glob("*"))


def test_several_boards_have_names_serials_and_trees_of_their_own(
    virtual_board: StartBoard, adb_server: AdbServer
) -> None:
    virtual_board("note10", count=3, seed=5)
    boards = lifecycle.boards()
    assert [board.name for board in boards] == ["note10", "note10-2", "note10-3"]
    assert [board.seed for board in boards] == [5, 6, 7]
    assert len({board.serial for board in boards}) == 3
    ids = {adb(adb_server, board.serial)("shell", "cat /proc/sys/kernel/random/boot_id").stdout for board in boards}
    assert len(ids) == 3
    lifecycle.down(["note10-2"])
    assert [board.name for board in lifecycle.boards()] == ["note10", "note10-3"]


def test_an_idle_board_is_small_and_asleep(virtual_board: StartBoard) -> None:
    board = virtual_board("note10")
    pids = tree_of(board.pid)
    assert len(pids) == 2
    assert sum(_pss_kb(pid) for pid in pids) < 40_000
    states = {Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] for pid in pids}
    assert states == {"S"}


@pytest.mark.slow
def test_fifty_boards_fit_on_a_small_machine(virtual_board: StartBoard, adb_server: AdbServer) -> None:
    virtual_board("note10", count=50)
    boards = lifecycle.boards()
    assert len(boards) == 50
    assert all(adb(adb_server, board.serial)("shell", "echo up").stdout == b"up\n" for board in boards)
    pids = [pid for board in boards for pid in tree_of(board.pid)]
    assert len(pids) == 100
    assert sum(_pss_kb(pid) for pid in pids) < 50 * 40_000
    states = {Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] for pid in pids}
    assert states == {"S"}


def test_when_the_host_process_is_killed_nothing_lives_on_and_the_name_is_free_again(
    virtual_board: StartBoard, adb_server: AdbServer
) -> None:
    board = virtual_board("note10")
    adb(adb_server, board.serial)("shell", "setsid sleep 1000 </dev/null >/dev/null 2>&1 &")
    pidfds = [os.pidfd_open(pid) for pid in tree_of(board.pid)]
    assert len(pidfds) == 3
    os.kill(board.pid, signal.SIGKILL)
    _wait_for(pidfds)
    assert lifecycle.boards() == ()
    assert virtual_board("note10").name == "note10"


def test_when_the_boards_init_is_killed_the_board_is_over(virtual_board: StartBoard) -> None:
    board = virtual_board("note10")
    host, init = tree_of(board.pid)
    pidfds = [os.pidfd_open(pid) for pid in (host, init)]
    os.kill(init, signal.SIGKILL)
    _wait_for(pidfds)
    assert lifecycle.boards() == ()


def test_when_its_directory_is_removed_a_board_ends(virtual_board: StartBoard, adb_server: AdbServer) -> None:
    board = virtual_board("note10")
    pidfds = [os.pidfd_open(pid) for pid in tree_of(board.pid)]
    shutil.rmtree(board.directory, ignore_errors=True)
    _wait_for(pidfds)
    # Which server knew it stood in the directory, so only whoever removed that can take it off the list.
    adb_server.detach(board.serial)


def test_the_runtime_directory_is_the_users_alone_and_only_loopback_listens(virtual_board: StartBoard) -> None:
    board = virtual_board("note10")
    assert lifecycle.root_dir().stat().st_mode & 0o777 == 0o700
    assert board.directory.stat().st_mode & 0o777 == 0o700
    port = f"{int(board.serial.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    listening = [row[1] for row in rows if row[3] == "0A" and row[1].endswith(":" + port)]
    assert listening == ["0100007F:" + port]


def test_the_host_is_out_of_reach_from_inside(virtual_board: StartBoard, adb_server: AdbServer, tmp_path: Path) -> None:
    client = adb(adb_server, virtual_board("qualcomm", su="su-0").serial)
    secret = tmp_path / "secret"
    secret.write_text("x")
    assert client("shell", f"su 0 cat {secret}").returncode != 0
    assert client("shell", "su 0 sh -c 'echo 1 > /proc/sys/kernel/sysrq'").returncode != 0
    assert client("shell", "su 0 sh -c 'ls /proc/1/root'").stdout.split() == client("shell", "su 0 ls /").stdout.split()
    # What hides the host cannot be taken away from inside, nor can another view of it be mounted.
    assert client("shell", "su 0 umount /proc/sys").returncode != 0
    assert client("shell", "su 0 umount -l /proc/kcore").returncode != 0
    assert client("shell", "su 0 sh -c 'mkdir /data/p && mount -t proc proc /data/p'").returncode != 0
    assert client("shell", "su 0 touch /system/bin/toybox").returncode != 0
    assert client("shell", "su 0 kill -9 1; echo alive").stdout == b"alive\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="drops root's rights to see what an ordinary user without ids is told")
def test_a_user_without_subordinate_ids_is_told_what_is_missing(capfd: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        try:
            linux.enter_user_namespace(linux.CLONE_NEWNS)
        except DeviceRefusedError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    assert "subordinate ids" in text or "newuidmap is not installed" in text


def test_a_machine_without_the_programs_is_told_which(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceRefusedError, match="mksh, toybox") as refused:
        lifecycle.up("note10", server=AdbServer("127.0.0.1", 1))
    assert refused.value.exit_code == 4
    assert "apt-get install" in str(refused.value.hint)


def test_asking_a_board_that_does_not_exist_names_those_that_do(virtual_board: StartBoard) -> None:
    virtual_board("note10")
    with pytest.raises(ConfigError, match="note9") as error:
        lifecycle.ask("note9", {"do": "stats"})
    assert "note10" in str(error.value.hint)


def _pss_kb(pid: int) -> int:
    """Resident memory of a process, what it shares divided by those who share it."""
    status = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Pss:"))


def _wait_for(pidfds: list[int]) -> None:
    """Wait until all these processes have ended."""
    import select

    for fd in pidfds:
        assert select.select([fd], [], [], 20)[0]
        os.close(fd)
