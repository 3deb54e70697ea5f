"""The real adb client against a virtual board."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sim_fixtures import Adb, StartBoard, adb, boards_in

from virtualboards.lifecycle import AdbServer, VirtualBoard

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory, adb_server: AdbServer) -> Iterator[VirtualBoard]:
    with boards_in(tmp_path_factory.mktemp("sim") / "cache", adb_server) as start:
        yield start("note10")


@pytest.fixture(scope="module")
def client(board: VirtualBoard, adb_server: AdbServer) -> Adb:
    return adb(adb_server, board.serial)


def test_exit_code_and_both_streams_arrive_apart(client: Adb) -> None:
    done = client("shell", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_a_command_killed_by_a_signal_reports_128_plus_n(client: Adb) -> None:
    assert client("shell", "kill -TERM $$").returncode == 143


def test_stdin_reaches_the_command_and_ends(client: Adb) -> None:
    data = os.urandom(300_000)
    done = client("exec-in", "cat > /data/local/tmp/in.bin", stdin=data)
    assert done.returncode == 0
    # `exec-in` does not wait for the command, which may still be writing.
    wait = "until [ $(stat -c %s /data/local/tmp/in.bin) = 300000 ]; do sleep 0.02; done; "
    assert client("shell", wait + "sha256sum /data/local/tmp/in.bin").stdout.split()[0].decode() == _sha(data)


def test_exec_out_is_binary_safe(client: Adb) -> None:
    done = client("exec-out", "printf 'a\\0b\\r\\nc\\377'")
    assert done.stdout == b"a\0b\r\nc\xff"


def test_thirty_megabytes_survive_push_and_pull(client: Adb, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    data = os.urandom(30 << 20)
    source.write_bytes(data)
    assert client("push", str(source), "/data/local/tmp/sub/dir/big").returncode == 0
    assert client("shell", "sha256sum /data/local/tmp/sub/dir/big").stdout.split()[0].decode() == _sha(data)
    assert client("pull", "/data/local/tmp/sub/dir/big", str(back)).returncode == 0
    assert _sha(back.read_bytes()) == _sha(data)


def test_push_sets_time_and_gives_the_owners_rights_to_all_and_replaces_the_file(client: Adb, tmp_path: Path) -> None:
    source = tmp_path / "tool"
    source.write_bytes(b"#!/system/bin/sh\necho ran\n")
    source.chmod(0o755)
    os.utime(source, (1_600_000_000, 1_600_000_000))
    for _ in range(2):
        assert client("push", str(source), "/data/local/tmp/tool").returncode == 0
    assert client("shell", "stat -c '%a %Y %U' /data/local/tmp/tool").stdout == b"777 1600000000 shell\n"
    assert client("shell", "/data/local/tmp/tool").stdout == b"ran\n"


def test_push_where_the_shell_may_not_write_fails_with_the_devices_reason(client: Adb, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(b"x" * 200_000)
    done = client("push", str(source), "/system/bin/file")
    assert done.returncode == 1
    assert b"Permission denied" in done.stdout + done.stderr


def test_pull_of_what_is_missing_names_it(client: Adb, tmp_path: Path) -> None:
    done = client("pull", "/data/local/tmp/none", str(tmp_path / "none"))
    assert done.returncode == 1
    assert b"/data/local/tmp/none" in done.stdout + done.stderr


def test_a_directory_travels_both_ways(client: Adb, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "deep" / "er" / "a").write_text("a")
    (tree / "b").write_text("b")
    assert client("push", str(tree), "/data/local/tmp/").returncode == 0
    assert client("pull", "/data/local/tmp/tree", str(tmp_path / "again")).returncode == 0
    assert (tmp_path / "again" / "deep" / "er" / "a").read_text() == "a"
    assert b"deep" in client("ls", "/data/local/tmp/tree").stdout


def test_features_and_model_are_announced(client: Adb, board: VirtualBoard) -> None:
    features = client("features").stdout.decode().split()
    assert {"shell_v2", "stat_v2", "ls_v2"} <= set(features)
    assert f"{board.serial}" in client("devices", "-l").stdout.decode()


def test_a_board_without_shell_v2_gives_no_exit_code_and_one_stream(
    virtual_board: StartBoard, adb_server: AdbServer
) -> None:
    old = adb(adb_server, virtual_board("note10", shell_v2=False).serial)
    assert b"shell_v2" not in old("features").stdout
    done = old("shell", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [b"out", b"err"], b"")


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
