"""Commands through the real adb server to two daemons with manners of their own: how many are lost, how slow any is.

    python benchmarks/adb_commands.py [--commands 2000]

``early-close`` is an adbd of 2016 or 2017: what comes for a program that has ended closes the stream, and the exit code
is lost. ``never-close`` is one without ``shell_v2`` and without ``exec:``: commands run on a terminal whose stream
stays open when all has been said. Both are imitated in ``tests/foreign_adbd.py``. Half of the commands read nothing,
half get input that they do not read. The limit is none lost and none slower than one second, of the time on a machine
with nothing else to do: what was waited for in vain before was 60 s.
"""

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from adbutils import adb_path

from devicelab.errors import LabError
from devicelab.transports.adb import AdbTransport
from tests import foreign_adbd
from virtualboards.lifecycle import AdbServer

_SAID = (4, b"a\n", b"b\n")
_COMMANDS = (
    (["sh", "-c", "exec </dev/null; echo a; echo b >&2; exit 4"], None),
    (["sh", "-c", "echo a; echo b >&2; exit 4"], b"not read\n"),
)


@contextlib.contextmanager
def adb_server() -> Iterator[AdbServer]:
    """An adb server of our own on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = AdbServer("127.0.0.1", probe.getsockname()[1])
    server.start()
    try:
        yield server
    finally:
        subprocess.run([adb_path(), "-P", str(server.port), "kill-server"], check=False, capture_output=True)


def measure(transport: AdbTransport, count: int) -> tuple[int, list[float]]:
    """How many of ``count`` commands were lost or answered wrongly, and how long each took (ms)."""
    lost, took_ms = 0, []
    for number in range(count):
        argv, stdin = _COMMANDS[number % len(_COMMANDS)]
        began = time.monotonic()
        try:
            done = transport.run(argv, stdin=stdin)
            lost += (done.exit_code, done.stdout, done.stderr) != _SAID
        except LabError:
            lost += 1
        took_ms.append(1000 * (time.monotonic() - began))
    return lost, took_ms


def main() -> None:
    """Measure both, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", type=int, default=2000)
    count = parser.parse_args().commands
    print(f"{count} commands each; load {os.getloadavg()[0]:.1f}")
    with adb_server() as server, tempfile.TemporaryDirectory() as scratch:
        for manner in get_args(foreign_adbd.Manner):
            with foreign_adbd.running(manner) as port:
                server.attach(f"127.0.0.1:{port}")
                transport = AdbTransport(f"adb:127.0.0.1:{port}@127.0.0.1:{server.port}")
                AdbTransport.scratch = scratch
                lost, took_ms = measure(transport, count)
                server.detach(f"127.0.0.1:{port}")
            slow = sum(ms > 1000 for ms in took_ms)
            print(
                f"{manner}: lost {lost} of {count}, slower than 1 s {slow}, "
                f"median {statistics.median(took_ms):.1f} ms, slowest {max(took_ms):.1f} ms"
            )


if __name__ == "__main__":
    main()
