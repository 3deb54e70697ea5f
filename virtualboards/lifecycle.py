"""Start, list and end virtual boards: what ``devicelab sim`` does, as functions.

Every board has a directory under ``<cache>/sim`` (readable by its owner alone) with its state, log and control
socket, and a host process that holds everything else: when that process ends, however it does, nothing is left but
the directory, which the next call clears away.
"""

import contextlib
import fcntl
import importlib.util
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from devicelab.errors import ConfigError, DeviceRefusedError, DeviceUnreachableError
from devicelab.ground import extras, registry
from virtualboards import control
from virtualboards.faults import Fault
from virtualboards.host import LOG, PID, STATE, Request, pack, start_time
from virtualboards.kernel import load_spec, spec_from_capture
from virtualboards.sandbox import find_programs
from virtualboards.users import SU_FLAVOURS, Su

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ABIS = ("arm64-v8a", "x86_64")
_START_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 10.0
_ADB_TIMEOUT_S = 10.0
_SERVER = "adb.json"


@dataclass(frozen=True)
class VirtualBoard:
    """A virtual board that runs.

    Attributes:
        serial: as adb knows it (``127.0.0.1:PORT``).
        abi: of the programs it says it wants.
        pid: of its host process.
        directory: its state, log and control socket.
    """

    name: str
    kind: str
    title: str
    serial: str
    abi: str
    su: str
    seed: int
    pid: int
    start_time: int
    since_unix_s: int
    directory: Path

    def alive(self) -> bool:
        """The host process still runs (and is the one we mean)."""
        try:
            return start_time(self.pid) == self.start_time
        except OSError:
            return False

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**asdict(self), "directory": str(self.directory), "simulated": True}


@dataclass(frozen=True)
class AdbServer:
    """The adb server that boards are attached to."""

    host: str
    port: int

    @classmethod
    def of_user(cls) -> "AdbServer":
        """The one that ``adb:SERIAL`` means, and adb itself would use.

        Raises:
            ConfigError: what the environment says of it cannot be used.
        """
        from devicelab.transports.adb import server as adb_server

        found = adb_server.named("", "adb server")
        return cls(found.host, found.port)

    def answers(self) -> bool:
        """Somebody listens at its port."""
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), timeout=5.0):
            return True
        return False

    def start(self) -> None:
        """Start it on this machine if it does not run.

        Raises:
            DeviceUnreachableError: it does not start, or it is one on another machine.
        """
        if self.answers():
            return
        if self.host not in {"127.0.0.1", "localhost", "::1"}:
            raise DeviceUnreachableError(f"no adb server answers at {self.host}:{self.port}")
        from adbutils import adb_path

        # The server lives on after us; it must not hold the descriptors that somebody waits on.
        done = subprocess.run(
            [adb_path(), "-P", str(self.port), "start-server"], check=False, capture_output=True, text=True
        )
        if done.returncode and not self._comes():
            raise DeviceUnreachableError(f"the adb server does not start: {done.stderr.strip()}")

    def _comes(self) -> bool:
        """Somebody else started it at the same moment, and it answers soon."""
        deadline = time.monotonic() + _ADB_TIMEOUT_S
        while not self.answers():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def attach(self, serial: str) -> None:
        """``adb connect``, tried for ten seconds.

        Raises:
            DeviceUnreachableError: the server cannot connect to it.
        """
        client = self._client()
        deadline = time.monotonic() + _ADB_TIMEOUT_S
        while True:
            answer = client.connect(serial, timeout=_ADB_TIMEOUT_S)
            if "connected to" in answer:
                return
            if time.monotonic() > deadline:
                raise DeviceUnreachableError(f"adb cannot connect: {answer}", device=serial)
            time.sleep(0.05)

    def detach(self, serial: str) -> None:
        """``adb disconnect``; harmless when it was not connected or no server runs."""
        if self.answers():
            from adbutils import AdbError

            with contextlib.suppress(AdbError, OSError):
                self._client().disconnect(serial, raise_error=False)

    def _client(self) -> Any:
        from adbutils import AdbClient

        return AdbClient(self.host, self.port, socket_timeout=_ADB_TIMEOUT_S)


def root_dir() -> Path:
    """Where the directories of virtual boards are."""
    return registry.cache_dir() / "sim"


def boards() -> tuple[VirtualBoard, ...]:
    """All boards that run, by name."""
    running = []
    for path in sorted(root_dir().glob(f"*/{STATE}")):
        board = _read(path.parent)
        if board is not None and board.alive():
            running.append(board)
    return tuple(running)


def board(name: str) -> VirtualBoard:
    """The running board of that name (or serial).

    Raises:
        ConfigError: there is none.
    """
    running = boards()
    for candidate in running:
        if name in {candidate.name, candidate.serial}:
            return candidate
    raise registry.unknown("virtual board", name, tuple(item.name for item in running))


def up(
    kind: str = "",
    *,
    name: str | None = None,
    count: int = 1,
    capture: Path | None = None,
    seed: int = 0,
    su: Su | None = None,
    shell_v2: bool | None = None,
    abi: str | None = None,
    boot_s: float = 1.0,
    server: AdbServer | None = None,
) -> tuple[VirtualBoard, ...]:
    """Start ``count`` boards of a kind and attach them to an adb server (``None``: the user's).

    ``capture`` starts a board made from a real device's archive instead of a kind. The first board's random seed is
    ``seed``, the next one's is one higher and so on. If one does not start, none is left.

    Raises:
        ConfigError: unknown kind, name taken or malformed, or an override that does not exist.
        DeviceRefusedError: this machine cannot run virtual boards; the message names what is missing.
        DeviceUnreachableError: the adb server cannot be started or reached.
    """
    spec = load_spec(kind) if capture is None else spec_from_capture(capture)
    if count < 1:
        raise ConfigError("--count must be at least 1")
    for what, value, known in (("su flavour", su, SU_FLAVOURS), ("ABI", abi, _ABIS)):
        if value is not None and value not in known:
            raise registry.unknown(what, value, tuple(known))
    if name is not None and not _NAME.fullmatch(name):
        raise ConfigError(f"not a name for a board: {name!r}", hint="letters, digits, dot, underscore and hyphen")
    if su is not None:
        spec = replace(spec, su=su)
    if shell_v2 is not None:
        spec = replace(spec, has_shell_v2=shell_v2)
    server = server or AdbServer.of_user()
    with _lock():  # also the first time, when programs are unpacked and the adb server is started
        programs = find_programs(registry.cache_dir() / "sim-programs")
        server.start()
        _clear_stale()
        names = _free_names(name or spec.kind, count, exact=name is not None and count == 1)
        requests = []
        for number, chosen in enumerate(names):
            directory = root_dir() / chosen
            directory.mkdir(mode=0o700)
            directory.joinpath(_SERVER).write_text(json.dumps(asdict(server)), encoding="utf-8")
            requests.append(Request(chosen, str(directory), pack(spec), seed + number, abi, boot_s))
        order = {"programs": programs.as_dict(), "boards": [asdict(request) for request in requests]}
        try:
            _start(order, names)
            started = tuple(_read(root_dir() / chosen) for chosen in names)
            running = tuple(item for item in started if item is not None)
            for item in running:
                server.attach(item.serial)
        except BaseException:
            for chosen in names:
                _end(root_dir() / chosen)
            raise
    return running


def down(names: Sequence[str] = (), *, everything: bool = False) -> tuple[str, ...]:
    """End boards and return their names; nothing of them is left: no process, mount, directory or adb connection.

    Raises:
        ConfigError: a name that no board has.
        DeviceUnreachableError: a host process did not end; the others did.
    """
    chosen = boards() if everything else tuple(board(name) for name in names)
    failed: list[DeviceUnreachableError] = []
    with _lock():
        for item in chosen:
            try:
                _end(item.directory)
            except DeviceUnreachableError as error:
                failed.append(error)
        if everything:
            _clear_stale()
    if failed:
        raise failed[0]
    return tuple(item.name for item in chosen)


def ask(name: str, request: dict[str, Any]) -> dict[str, Any]:
    """Ask a board's host process: ``{"do": "stats"}``, for one, gives counters of streams and bytes by service.

    Raises:
        ConfigError: no such board, or it refuses the request.
        DeviceUnreachableError: it does not answer.
    """
    target = board(name)
    try:
        answer = control.ask(target.directory, request)
    except (OSError, ValueError, TypeError) as error:
        raise DeviceUnreachableError(f"the board does not answer: {error}", device=target.name) from error
    if "error" in answer:
        raise ConfigError(str(answer["error"]), device=target.name, hint=answer.get("hint"))
    return answer


def arm(name: str, faults: Sequence[Fault]) -> int:
    """Arm faults on a board (those without a condition happen at once); returns how many now wait for their time.

    Raises:
        ConfigError, DeviceUnreachableError: as for ``ask``.
    """
    answer = ask(name, {"do": "fault", "faults": [fault.as_dict() for fault in faults]})
    return int(answer["armed"])


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """One start or end at a time for this cache directory."""
    base = root_dir()
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    with base.joinpath(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(directory: Path) -> VirtualBoard | None:
    try:
        data = json.loads(directory.joinpath(STATE).read_text(encoding="utf-8"))
        return VirtualBoard(**data, directory=directory)
    except (OSError, ValueError, TypeError):
        return None


def _free_names(stem: str, count: int, *, exact: bool) -> list[str]:
    taken = {path.name for path in root_dir().iterdir()}
    if exact:
        if stem in taken:
            raise ConfigError(f"a virtual board named {stem!r} is already up", hint=f"devicelab sim down {stem}")
        return [stem]
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", stem)[:56]
    names: list[str] = []
    number = 1
    while len(names) < count:
        candidate = stem if number == 1 else f"{stem}-{number}"
        if candidate not in taken:
            names.append(candidate)
        number += 1
    return names


def _start(order: dict[str, Any], names: Sequence[str]) -> None:
    """Run the starter and wait until every board has reported."""
    if importlib.util.find_spec("mfusepy") is None:
        raise ConfigError("virtual boards need the package mfusepy", hint=extras.install("sim"))
    package_parent = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (package_parent, os.environ.get("PYTHONPATH"))))
    starter = subprocess.Popen(
        [sys.executable, "-P", "-m", "virtualboards.host"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    with starter:
        if starter.stdin is None or starter.stdout is None:
            raise AssertionError
        with contextlib.suppress(BrokenPipeError):
            starter.stdin.write(json.dumps(order).encode())
            starter.stdin.close()
        reports = _reports(starter.stdout.fileno(), set(names))
        if starter.poll() is None and len(reports) < len(names):
            starter.kill()
    for name in names:
        report = reports.get(name, {"error": "the board did not report", "hint": f"see {root_dir() / name / LOG}"})
        if "error" in report:
            kind = ConfigError if report.get("type") == "ConfigError" else DeviceRefusedError
            raise kind(str(report["error"]), device=name, hint=_with_log(report.get("hint"), root_dir() / name / LOG))


def _with_log(hint: str | None, log: Path) -> str | None:
    # The directory is cleared away when the start fails, so what the log says has to travel in the message.
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return f"{hint}\n  log: {lines[-1]}" if lines else hint


def _reports(fd: int, expected: set[str]) -> dict[str, dict[str, Any]]:
    data = b""
    reports: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + _START_TIMEOUT_S
    while expected - reports.keys() and (left := deadline - time.monotonic()) > 0:
        if not select.select([fd], [], [], left)[0]:
            break
        chunk = os.read(fd, 65536)
        if not chunk:
            break
        *lines, data = (data + chunk).split(b"\n")
        for line in lines:
            report = json.loads(line)
            reports[report["name"]] = report
    return reports


def _end(directory: Path) -> None:
    """End the board of a directory, if one runs there, and remove the directory."""
    item = _read(directory)
    if item is not None:
        with contextlib.suppress(OSError, ValueError, TypeError):
            AdbServer(**json.loads(directory.joinpath(_SERVER).read_text(encoding="utf-8"))).detach(item.serial)
    with contextlib.suppress(OSError, ValueError):
        pid, started = (int(word) for word in directory.joinpath(PID).read_text(encoding="ascii").split())
        if start_time(pid) == started:
            _end_process(pid, directory.name)
    shutil.rmtree(directory, ignore_errors=True)


def _end_process(pid: int, name: str) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        # Asked for by signal: a board that is busy or stuck in a fault hears it as well.
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)
            if select.select([pidfd], [], [], _END_TIMEOUT_S)[0]:
                return
    finally:
        os.close(pidfd)
    raise DeviceUnreachableError(f"its process {pid} does not end", device=name)


def _clear_stale() -> None:
    """Remove what boards left that were killed; to be called with the lock held."""
    for directory in root_dir().iterdir():
        if not directory.is_dir():
            continue
        item = _read(directory)
        if item is None or not item.alive():
            _end(directory)
