"""The host process of virtual boards: ``python -m virtualboards.host`` reads what to start from standard input.

One starter imports everything once and forks a process for each board, so that fifty boards share their memory and
the time it takes to start Python. The starter ends when all are forked; each board reports on standard output, one
JSON object a line: its ``board.json``, or ``error`` and ``hint``.
"""

import base64
import contextlib
import errno
import gc
import json
import os
import pickle
import resource
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devicelab.errors import LabError
from virtualboards import control, init, linux
from virtualboards.board import Board
from virtualboards.kernel import BoardSpec, Kernel, fuse
from virtualboards.kernel.seccomp import AffinitySupervisor, install_filter
from virtualboards.loop import READ, Loop
from virtualboards.sandbox import Programs, Sandbox

STATE = "board.json"
PID = "pid"
"""Pid and start time of the host process, from its first moment on; ``STATE`` follows when the board answers."""
LOG = "log"
_ARM64 = "arm64-v8a"


@dataclass(frozen=True)
class Request:
    """What to start.

    Attributes:
        name: unique on this machine.
        directory: the board's own, holding state, log and control socket.
        spec: the board's ``BoardSpec``, as ``pack`` makes it. Reading one takes modules that a board has no use for.
        seed: of noise and chance.
        abi: overrides the kind's.
        boot_s: how long a reboot takes.
    """

    name: str
    directory: str
    spec: str
    seed: int = 0
    abi: str | None = None
    boot_s: float = 1.0


def main() -> None:
    """Read ``{"programs": ..., "boards": [...]}`` from standard input and start each board in a process of its own."""
    order = json.load(sys.stdin)
    programs = Programs(**{**order["programs"], "applets": tuple(order["programs"]["applets"])})
    requests = [Request(**item) for item in order["boards"]]
    gc.collect()
    gc.freeze()
    for request in requests:
        if os.fork() == 0:
            _board_process(request, programs)


def _board_process(request: Request, programs: Programs) -> None:
    os.setsid()
    directory = Path(request.directory)
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(directory / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    report = os.dup(1)
    (directory / PID).write_text(f"{os.getpid()} {start_time(os.getpid())}\n", encoding="ascii")
    for fd, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(fd, target)
    code = 1
    try:
        code = _run(request, programs, directory, report)
    except LabError as error:
        kind = type(error).__name__
        _report(report, {"name": request.name, "type": kind, "error": error.message, "hint": error.hint})
    except BaseException as error:  # noqa: BLE001 - the last place that can tell anybody
        traceback.print_exc()
        _report(report, {"name": request.name, "error": f"the board did not start: {error}", "hint": f"see {LOG}"})
    finally:
        sys.stderr.flush()
        os._exit(code)


def _report(fd: int, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.write(fd, json.dumps(message).encode() + b"\n")
        os.close(fd)


def _run(request: Request, programs: Programs, directory: Path, report: int) -> int:
    spec: Any = pickle.loads(base64.b64decode(request.spec))  # noqa: S301 - from the process that started us
    # A root shell on a phone may raise priorities. A user namespace alone does not give that, the limits do.
    for limit, top in ((resource.RLIMIT_NICE, 40), (resource.RLIMIT_RTPRIO, 99)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (top, top))
    # A busy adb server keeps hundreds of streams open, of five descriptors each.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    listener = control.listen(directory)
    linux.enter_user_namespace(linux.CLONE_NEWNS)
    place = directory / "mnt"
    place.mkdir(exist_ok=True)
    sandbox = Sandbox(place, programs)
    sandbox.build(with_su=spec.su != "none")
    abi = request.abi or spec.abi
    if abi == _ARM64 and not sandbox.runs_arm64:
        abi = programs.host_abi
    props = properties(spec, request.name, abi)
    sandbox.write_build_prop(props)
    init_socket, init_pid = _fork_init(sandbox, close=(listener.fileno(), report))

    kernel = Kernel(spec, request.seed)
    mount = fuse.mount(kernel, sandbox.tree)
    kernel.start()
    init.send(init_socket, ("begin",))
    _, fds = init.receive(init_socket)
    supervisor = AffinitySupervisor(kernel, fds[0], "aarch64" if abi == "arm64-v8a" else os.uname().machine)
    supervisor.start()

    loop = Loop()
    board = Board(spec, props, kernel, sandbox, loop, init_socket, init_pid, boot_s=request.boot_s)
    kernel.attach_processes(board.children.pids)
    board.adbd.listen()
    control.Control(loop, listener, board.handle)
    _end_with(loop, directory)
    signal.signal(signal.SIGTERM, lambda *_: loop.call_soon(loop.stop))
    state = {
        "name": request.name,
        "kind": spec.kind,
        "title": spec.title,
        "serial": f"127.0.0.1:{board.adbd.port}",
        "abi": abi,
        "su": spec.su,
        "seed": request.seed,
        "pid": os.getpid(),
        "start_time": start_time(os.getpid()),
        "since_unix_s": round(time.time()),
    }
    scratch = directory / f"{STATE}.new"
    scratch.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    scratch.rename(directory / STATE)
    _report(report, state)
    try:
        loop.run()
    finally:
        board.close()
        supervisor.stop()
        mount.close()
        kernel.stop()
    return 0


def _end_with(loop: Loop, directory: Path) -> None:
    """End the board when its directory is removed: nobody could find it again to end it."""
    watch = linux.watch_removals(directory)

    def look(_events: int) -> None:
        os.read(watch, 65536)
        if not (directory / control.NAME).exists():
            loop.stop()

    loop.watch(watch, READ, look)


def pack(spec: object) -> str:
    """A spec as text, for ``Request``."""
    return base64.b64encode(pickle.dumps(spec)).decode("ascii")


def properties(spec: BoardSpec, name: str, abi: str) -> dict[str, str]:
    """The board's properties at boot: the kind's, and what follows from how it was started."""
    userdebug = spec.su in {"adb-root", "su-0"}
    return {
        "ro.product.name": spec.kind,
        "ro.product.model": spec.title,
        "ro.product.device": spec.kind,
        **spec.props,
        "ro.product.cpu.abi": abi,
        "ro.product.cpu.abilist": abi,
        "ro.debuggable": "1" if userdebug else "0",
        "ro.build.type": "userdebug" if userdebug else "user",
        "ro.serialno": name,
        "ro.boot.serialno": name,
        "ro.devicelab.simulated": "1",
        "service.adb.root": "0",
    }


def _fork_init(sandbox: Sandbox, close: tuple[int, ...]) -> tuple[socket.socket, int]:
    """Fork process 1 of a new pid namespace; it waits for a message on the socket that comes back with its pid.

    A process that has asked for a pid namespace for its children can have no threads any more, so somebody in between
    asks and leaves, and init becomes the child of this process because it adopts orphans.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    linux.adopt_orphans()
    pid_r, pid_w = os.pipe()
    between = os.fork()
    if between == 0:
        linux.unshare(linux.CLONE_NEWPID)
        pid = os.fork()
        if pid:
            os.write(pid_w, str(pid).encode())
            os._exit(0)
        ours.close()
        for fd in (pid_r, pid_w, *close):
            os.close(fd)
        try:
            init.main(theirs, sandbox.enter, install_filter)
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(1)
    theirs.close()
    os.close(pid_w)
    os.waitpid(between, 0)
    with os.fdopen(pid_r) as pipe:
        return ours, int(pipe.read())


def start_time(pid: int) -> int:
    """When a process started, in ticks since boot; with the pid this names a process for good.

    Raises:
        OSError: there is no such process, or it has ended and only waits to be looked at.
    """
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    state, *words = stat.rpartition(")")[2].split()
    if state in {"Z", "X"}:
        raise ProcessLookupError(errno.ESRCH, "it has ended")
    return int(words[18])


if __name__ == "__main__":
    main()
