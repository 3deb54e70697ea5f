"""A virtual kernel mounted for real, and programs whose affinity calls it answers."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from virtualboards.kernel import Kernel, load_spec, mount
from virtualboards.kernel.seccomp import AffinitySupervisor

_SUPERVISED = """
import socket, sys, os
from virtualboards.kernel.seccomp import install_filter
with socket.socket(fileno=int(sys.argv[1])) as sock:
    listener = install_filter()
    socket.send_fds(sock, [b"x"], [listener])
    os.close(listener)
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def kind() -> str:
    return "note10"


@pytest.fixture
def kernel(kind: str) -> Kernel:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs /dev/fuse")
    return Kernel(load_spec(kind))


@pytest.fixture
def tree(kernel: Kernel) -> Iterator[Path]:
    # Not pytest's own directory: other users have to reach it.
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        mounted = mount(kernel, Path(place))
        yield Path(place)
        mounted.close()
        assert not os.path.ismount(place)


@pytest.fixture
def supervised(kernel: Kernel) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a program whose affinity calls (and its children's) the kernel answers."""
    started: list[subprocess.Popen[str]] = []
    supervisors: list[AffinitySupervisor] = []

    def start(*argv: str) -> subprocess.Popen[str]:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-c", _SUPERVISED, str(theirs.fileno()), *argv]
        with ours, theirs:
            process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            started.append(process)
            theirs.close()
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        kernel.attach_processes(lambda: _family(process.pid))
        supervisor = AffinitySupervisor(kernel, fds[0])
        supervisors.append(supervisor)
        supervisor.start()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    for supervisor in supervisors:
        supervisor.stop()


def _family(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found
