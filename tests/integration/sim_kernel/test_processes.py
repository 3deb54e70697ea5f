"""CPU time of real processes, as a virtual board accounts for it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from virtualboards.kernel.processes import HostProcesses

pytestmark = pytest.mark.sim

_BURN = "import time\nend = time.process_time() + {}\nwhile time.process_time() < end: pass\n"


def test_cpu_time_is_told_once_whether_a_process_lives_or_has_ended() -> None:
    code = (
        "import subprocess, sys\n"
        f"for _ in range(3): subprocess.run([sys.executable, '-c', {_BURN.format(0.1)!r}])\n"
        f"{_BURN.format(0.2)}print('done', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        processes = HostProcesses(lambda: [process.pid])
        told = 0
        while process.stdout.read() is None:
            used = processes.usage()
            told += sum(used.threads.values()) + used.ended_ns
            time.sleep(0.01)
        used = processes.usage()
        told += sum(used.threads.values()) + used.ended_ns
        stat = Path(f"/proc/{process.pid}/stat").read_text()
        ticks = sum(map(int, stat.rpartition(")")[2].split()[11:15]))
        process.stdin.close()
    assert told / 1e9 == pytest.approx(ticks / 100, abs=0.06)


def test_threads_and_names_are_found_in_both_directions() -> None:
    processes = HostProcesses(lambda: [os.getpid()])
    assert os.getpid() in processes.threads()
    assert processes.inside(os.getpid()) == os.getpid()
    assert processes.outside(os.getpid()) == os.getpid()
    assert processes.parent(os.getpid()) == os.getppid()
    assert processes.outside(2**22 + 1) == 0


def test_a_process_that_is_gone_is_no_error() -> None:
    processes = HostProcesses(lambda: [2**22 + 1])
    assert processes.usage().threads == {}
    assert processes.parent(2**22 + 1) == 0
    assert processes.inside(2**22 + 1) == 0
