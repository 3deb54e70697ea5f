"""From `devicelab sweep` to the first run on a phone, and where the time goes, beside devlib's connect and set-up.

    python benchmarks/first_result.py --devlib /tmp/devlib/bin/python [--kind note10] [--rounds 5] [--round-trip-ms 20]

The board is virtual (simulated); between it and the adb server stands a wire that delays every byte by half a round
trip in each direction, as USB and a busy phone do. "Warm": the board has the agent and the load already, modules are
compiled. Rounds take turns.

- "devicelab": a fresh interpreter, from its start to the moment at which the journal says that the first run has
  begun. 3 s are the goal.
- "devlib": `AndroidTarget.connect` and `setup` in an interpreter whose imports are done: nothing is pushed, pinned or
  started then. Half of it is the goal.

The parts, medians: Python and imports, up to the command's own code; the first look at the device (connect, what it
is, its nodes); what is decided and written down here (plans, the store); what is sent; the start, until the first run
has begun.
"""

import argparse
import collections
import contextlib
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

_EXPERIMENT = """name = "first"
question = "When does the first run begin?"
repetitions = 1
hold_s = 0.1
settle_s = 0
analyses = []
[factors]
load = ["1000 5000 40"]
[set]
cpu = "min"
placement = "free"
"""
PARTS = ("Python and imports", "first look", "plans and store", "sending", "start")
_IMPORTS = 2  # the first so many spans
_UNRELIABLE = 6  # a run beside other work of this machine has begun all the same
_DEVLIB = """import json, sys, time
from devlib import AndroidTarget
began = time.monotonic()
target = AndroidTarget(connection_settings={"device": sys.argv[1]}, modules=["cpufreq"], connect=False,
                       working_directory="/data/local/tmp/devlib-target", load_default_modules=False)
target.connect()
target.setup()
print(time.monotonic() - began)
"""


class Wire:
    """A local port in front of a board's, which hands every byte on after half a round trip."""

    def __init__(self, port: int, delay_s: float) -> None:
        self._to, self._delay_s = ("127.0.0.1", port), delay_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                far = socket.create_connection(self._to)
                for one, other in ((near, far), (far, near)):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._relay(one, other)

    def _relay(self, one: socket.socket, other: socket.socket) -> None:
        late: collections.deque[tuple[float, bytes]] = collections.deque()
        more = threading.Semaphore(0)

        def read() -> None:
            data = b"?"
            while data:
                try:
                    data = one.recv(1 << 16)
                except OSError:
                    data = b""
                late.append((time.monotonic() + self._delay_s, data))
                more.release()

        def write() -> None:
            with contextlib.suppress(OSError):
                while more.acquire():
                    at, data = late.popleft()
                    time.sleep(max(0.0, at - time.monotonic()))
                    if not data:
                        break
                    other.sendall(data)
            with contextlib.suppress(OSError):
                other.shutdown(socket.SHUT_RDWR)

        for work in (read, write):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        """No more connections."""
        self._listener.close()


def child(words: list[str]) -> None:
    """The command, with the instants at which its parts end on the last line of stderr."""
    from devicelab.cli import main as command

    marks = [time.monotonic()]
    from devicelab.device import facts, runner
    from devicelab.jobs import sweep
    from devicelab.model.journal import Event, RunStart

    opened, sent, attend = facts.open_device, runner.send, runner.attend
    marks.append(time.monotonic())  # as the command imports them

    def opening(*args: object, **options: object) -> object:
        device = opened(*args, **options)  # type: ignore[arg-type]
        marks.append(time.monotonic())
        return device

    def sending(*args: object) -> object:
        marks.append(time.monotonic())
        parcel = sent(*args)  # type: ignore[arg-type]
        marks.append(time.monotonic())
        return parcel

    def attending(device: object, plan: object, on_event: object, **options: object) -> object:
        def see(event: Event) -> None:
            if isinstance(event, RunStart):
                marks.append(time.monotonic())
            on_event(event)  # type: ignore[operator]

        return attend(device, plan, see, **options)  # type: ignore[arg-type]

    sweep.open_device, runner.send, runner.attend = opening, sending, attending  # type: ignore[assignment]
    sys.argv = ["devicelab", *words]
    try:
        command()
    finally:
        print(json.dumps(marks), file=sys.stderr)


def ours(serial: str, place: Path) -> list[float]:
    """Seconds of each part."""
    (place / "first.toml").write_text(_EXPERIMENT, encoding="utf-8")
    script = [sys.executable, str(Path(__file__)), "--child", "sweep", str(place / "first.toml"), "--board", serial]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(place / "compiled")}
    began = time.monotonic()
    done = subprocess.run(
        [*script, "--store", str(place / "store.sqlite"), "--report", str(place / "report.html")],
        cwd=place, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode not in {0, _UNRELIABLE}:
        sys.exit(f"the sweep failed:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    marks = [began, *json.loads(done.stderr.strip().splitlines()[-1])]
    spans = [after - before for before, after in itertools.pairwise(marks)]
    return [sum(spans[:_IMPORTS]), *spans[_IMPORTS:]]


def theirs(serial: str, python: str, place: Path) -> float:
    """Seconds of devlib's connect and set-up."""
    from adbutils import adb_path

    aapt = place / "aapt"
    aapt.write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
    aapt.chmod(0o755)
    with contextlib.suppress(FileExistsError):
        (place / "adb").symlink_to(adb_path())
    environment = {**os.environ, "PATH": f"{place}:{os.environ['PATH']}", "TMPDIR": str(place)}
    command = [python, "-c", _DEVLIB, serial]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"devlib failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.strip().splitlines()[-1])


def main() -> int:
    """Two tables; exit code 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devlib", required=True, help="Python of an environment with devlib==1.3.4")
    parser.add_argument("--kind", default="note10")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--round-trip-ms", type=float, default=20.0)
    args = parser.parse_args()
    from devicelab import transports
    from virtualboards import lifecycle

    load = os.getloadavg()[0]
    board = lifecycle.up(args.kind, abi="x86_64")[0]
    wire = Wire(int(board.serial.rpartition(":")[2]), args.round_trip_ms / 2000)
    serial = f"127.0.0.1:{wire.port}"
    we: list[list[float]] = []
    they: list[float] = []
    try:
        with tempfile.TemporaryDirectory() as name:
            transports.connect(f"adb:{serial}").close()
            ours(serial, Path(name)), theirs(serial, args.devlib, Path(name))  # from here on it is warm
            for _ in range(args.rounds):
                we.append(ours(serial, Path(name)))
                they.append(theirs(serial, args.devlib, Path(name)))
    finally:
        wire.close()
        lifecycle.down([board.name])
    first, peer = statistics.median(map(sum, we)), statistics.median(they)
    print(
        f"{args.rounds} rounds on a virtual board of kind {args.kind}, {args.round_trip_ms:g} ms a round trip; ", end=""
    )
    print(f"load average {load:.1f} at the start")
    print(f"{'':<24}{'devicelab':>12}{'devlib':>12}{'ratio':>8}")
    print(f"{'first run, s':<24}{first:>12.2f}{peer:>12.2f}{first / peer:>8.3f}")
    for part, spans in zip(PARTS, zip(*we, strict=True), strict=True):
        print(f"  {part:<22}{statistics.median(spans):>12.2f}")
    return int(first > 3 or first > peer / 2)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    else:
        sys.exit(main())
