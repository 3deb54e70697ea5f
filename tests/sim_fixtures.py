"""Virtual boards for tests: every integration test that wants a device asks for ``virtual_board``.

    @pytest.mark.sim
    def test_the_board_answers(virtual_board):
        board = virtual_board("note10")              # virtualboards.lifecycle.VirtualBoard
        adb = AdbClient(...).device(board.serial)    # or the product's own code: the environment points at our server

Boards are attached to an adb server of our own on a free port (``adb_server``, one for the whole session; the user's
at 5037 is never touched), and ``ANDROID_ADB_SERVER_PORT`` and ``DEVICELAB_CACHE`` are set for the test, so that
commands and library calls find the same server and the same boards. Options of ``virtualboards.lifecycle.up`` are
passed on: ``virtual_board("oddball", su="magisk", shell_v2=False, abi="x86_64", seed=3)``. After the test every board
is ended, and the test fails if a process, a mount, a directory or an adb connection is left.

``boards_in(cache, server)`` is the same as a context manager, for fixtures of a wider scope. ``adb(server, serial)``
gives a function that runs the real adb client, ``sim(*args)`` is the command ``devicelab sim``.

Where virtual boards cannot run the test is skipped with the reason; with ``CI`` set it fails instead.
"""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from adbutils import adb_path
from typer.testing import CliRunner

from devicelab.cli import app
from devicelab.errors import DeviceRefusedError, LabError
from devicelab.ground import registry
from virtualboards import lifecycle
from virtualboards.lifecycle import AdbServer, VirtualBoard


class StartBoard(Protocol):
    """Starts one virtual board of a kind; options as for ``virtualboards.lifecycle.up``."""

    def __call__(self, kind: str, **options: Any) -> VirtualBoard: ...


class Adb(Protocol):
    """Runs the real adb client against one device."""

    def __call__(
        self, *args: str, stdin: bytes | None = None, timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[bytes]: ...


def adb(server: AdbServer, serial: str | None = None) -> Adb:
    """The real adb client on our server, for one device."""
    prefix = [adb_path(), "-P", str(server.port), *(("-s", serial) if serial else ())]

    def run(*args: str, stdin: bytes | None = None, timeout_s: float = 60.0) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*prefix, *args],
            input=stdin if stdin is not None else b"",
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )

    return run


def sim(*args: str) -> subprocess.CompletedProcess[str]:
    """``devicelab sim ARGS`` in this process: exit code, output and error text as the command line gives them."""
    done = CliRunner().invoke(app, ["sim", *args])
    if isinstance(done.exception, LabError):
        text = f"{done.stderr}error: {done.exception}\n"
        return subprocess.CompletedProcess(args, done.exception.exit_code, done.stdout, text)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(args, done.exit_code, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def adb_server() -> Iterator[AdbServer]:
    """An adb server of our own on a free port, ended with the session."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = AdbServer("127.0.0.1", probe.getsockname()[1])
    server.start()
    yield server
    adb(server)("kill-server")


def share_builds(cache: Path) -> None:
    """A cache directory of a test's own with everybody's compiled programs, which are kept by their content."""
    builds = registry.cache_dir() / "build"
    builds.mkdir(parents=True, exist_ok=True)
    cache.mkdir(parents=True, exist_ok=True)
    if not (cache / "build").exists():
        (cache / "build").symlink_to(builds)


@contextlib.contextmanager
def boards_in(cache: Path, server: AdbServer) -> Iterator[StartBoard]:
    """Within the context boards can be started; at its end they are ended and shown to be gone."""
    started: list[VirtualBoard] = []
    share_builds(cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEVICELAB_CACHE", str(cache))
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
        patch.setenv("ANDROID_ADB_SERVER_ADDRESS", server.host)
        patch.delenv("ADB_SERVER_SOCKET", raising=False)

        def start(kind: str, **options: Any) -> VirtualBoard:
            try:
                boards = lifecycle.up(kind, server=server, **options)
            except DeviceRefusedError as error:
                if os.environ.get("CI"):
                    raise
                pytest.skip(f"virtual boards cannot run here: {error}")
            started.extend(boards)
            return boards[0]

        try:
            yield start
        finally:
            running = [board.name for board in started if board.alive()]
            pids = {pid for board in started for pid in tree_of(board.pid)}
            lifecycle.down(everything=True)
            assert_nothing_left(started, pids, server)
            assert set(running) <= {board.name for board in started}


@pytest.fixture
def virtual_board(tmp_path: Path, adb_server: AdbServer) -> Iterator[StartBoard]:
    """Starts virtual boards that last for one test; see the module's text."""
    with boards_in(tmp_path / "cache", adb_server) as start:
        yield start


def tree_of(pid: int) -> list[int]:
    """A process and all its descendants; empty if it has ended."""
    found, waiting = [], [pid]
    while waiting:
        current = waiting.pop()
        try:
            for task in Path(f"/proc/{current}/task").iterdir():
                waiting += [int(word) for word in (task / "children").read_text(encoding="ascii").split()]
        except OSError:
            continue
        found.append(current)
    return found


def assert_nothing_left(boards: list[VirtualBoard], pids: set[int], server: AdbServer) -> None:
    """No process of ``pids``, and of the boards no directory, mount or adb connection."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    devices = adb(server)("devices").stdout.decode()
    for board in boards:
        assert not board.alive()
        assert not board.directory.exists()
        assert str(board.directory) not in mounts
        assert board.serial not in devices
    left = [pid for pid in pids if _runs(pid)]
    assert not left, f"processes left: {left}"


def _runs(pid: int) -> bool:
    # A zombie whose parent has not looked yet holds nothing any more.
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
