"""Process 1 of a virtual board: starts what the daemon asks for, reaps everything, reports how its children ended.

Forked from the board's host process before that one starts threads. It shares the host's code and therefore costs
little memory of its own; it must not import anything once it has left the host's file system.
"""

import contextlib
import fcntl
import marshal
import os
import resource
import select
import signal
import socket
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

from virtualboards import linux
from virtualboards.adbd import sync
from virtualboards.users import SHELL_UID

MESSAGE_MAX = 200_000
"""Longest message on the control socket; a command line beyond 128 KiB is refused by the kernel anyway."""

GROUPS = {0: (0,), SHELL_UID: (1004, 1007, 1011, 1015, 1028, 3001, 3002, 3003, 3006, 3009, 3011)}
"""Supplementary groups as adbd sets them (input, log, adb, sdcard_rw, sdcard_r, net_*, readproc, uhid)."""

Message = tuple[Any, ...]


def send(control: socket.socket, message: Message, fds: tuple[int, ...] = ()) -> None:
    """Send one message with descriptors. Raises ``OSError`` (``EMSGSIZE``: too long)."""
    socket.send_fds(control, [marshal.dumps(message)], list(fds))


def receive(control: socket.socket) -> tuple[Message, tuple[int, ...]]:
    """The next message and its descriptors. Raises ``EOFError`` at the end of the connection."""
    data, fds, _, _ = socket.recv_fds(control, MESSAGE_MAX, 4, socket.MSG_CMSG_CLOEXEC)
    if not data:
        raise EOFError
    message: Message = marshal.loads(data)  # noqa: S302 - both ends are one program
    return message, tuple(fds)


def main(control: socket.socket, enter: Callable[[], None], install_filter: Callable[[], int]) -> None:
    """Be init: wait for the word to begin, enter the board's file system, serve until the host process ends.

    Args:
        control: sequenced-packet socket to the host process.
        enter: makes the board's file system the root directory.
        install_filter: installs the affinity filter and returns its listener.
    """
    receive(control)
    # Not before: until now somebody else was the parent, who was to leave.
    linux.die_with_parent(signal.SIGKILL)
    enter()
    linux.call_this("init")
    listener = install_filter()
    send(control, ("ready",), (listener,))
    os.close(listener)
    _Init(control).serve()


class _Init:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pids: dict[int, int] = {}
        self._ids: dict[int, int] = {}
        self._bound: set[int] = set()
        self._mounted: list[bytes] = []
        wake_r, wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wake = wake_r
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)

    def serve(self) -> None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._wake:
                    os.read(self._wake, 512)
                    self._reap()
                else:
                    try:
                        message, fds = receive(self._control)
                    except (EOFError, OSError):
                        return
                    self._handle(message, fds)
                    for given in fds:
                        os.close(given)

    def _handle(self, message: Message, fds: tuple[int, ...]) -> None:
        kind, *rest = message
        if kind == "run":
            number, uid, tty, bound, cwd, argv, env = rest
            pid = self._fork(number, lambda: _exec(fds, uid, argv, env, cwd, tty=tty))
            if bound:
                self._bound.add(pid)
        elif kind == "sync":
            number, uid = rest
            self._fork(number, lambda: _sync(fds[0], uid))
        elif kind == "bind":
            number, source, target = rest
            send(self._control, ("exit", number, self._bind(source, target) << 8))
        elif kind == "kill":
            number, signum = rest
            target = self._pids.get(number)
            if target is not None:
                os.kill(target, signum)
        elif kind == "reset":
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            # Nothing else is started meanwhile, so waiting here for the last of them is what makes the reboot clean.
            self._reap(block=True)
            while self._mounted:
                self._bind(b"", self._mounted[-1])
            send(self._control, ("quiet",))

    def _bind(self, source: bytes, target: bytes) -> int:
        """Mount, or unmount where the source is empty; the error's number, 0 if there is none."""
        try:
            if source:
                linux.bind(os.fsdecode(source), Path(os.fsdecode(target)))
                self._mounted.append(target)
            else:
                self._mounted.remove(target)
                linux.unmount(Path(os.fsdecode(target)))
        except OSError as error:
            return error.errno or 1
        return 0

    def _fork(self, number: int, work: Callable[[], None]) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                work()
            finally:
                os._exit(127)
        self._pids[number] = pid
        self._ids[pid] = number
        return pid

    def _reap(self, *, block: bool = False) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, 0 if block else os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in self._bound:
                self._bound.discard(pid)
                for member in _session(pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(member, signal.SIGKILL)
            number = self._ids.pop(pid, None)
            if number is not None:
                self._pids.pop(number, None)
                send(self._control, ("exit", number, status))


def _session(leader: int) -> list[int]:
    """Pids whose session is led by ``leader``."""
    members = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            with contextlib.suppress(OSError):
                if os.getsid(pid := int(path.name)) == leader:
                    members.append(pid)
    return members


def _become(uid: int) -> None:
    os.umask(0)
    # What hides the host's /proc are mounts of this namespace: with the right to mount, root could take them away.
    linux.never_mount_again()
    if uid:
        # An ordinary process on Android may neither raise its priority nor ask for real-time scheduling.
        for limit in (resource.RLIMIT_NICE, resource.RLIMIT_RTPRIO):
            resource.setrlimit(limit, (0, 0))
    os.setgroups(GROUPS.get(uid, (uid,)))
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _exec(fds: tuple[int, ...], uid: int, argv: list[bytes], env: dict[bytes, bytes], cwd: bytes, *, tty: bool) -> None:
    os.setsid()
    if tty:
        fcntl.ioctl(fds[0], termios.TIOCSCTTY, 0)
    # Moved out of the way first: a descriptor that arrived as 0, 1 or 2 would be overwritten by its brother.
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in fds]
    for target, fd in enumerate(moved):
        os.dup2(fd, target)
    # Whatever ignored it here (Python, nohup, a job in the background) is not the board's.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    os.closerange(3, 4096)
    try:
        _become(uid)
        try:
            os.chdir(cwd)
        except OSError:
            os.chdir("/")
        os.execve(argv[0], argv[1:], env)  # noqa: S606 - there is no shell to avoid
    except OSError as error:
        text = f"{os.fsdecode(argv[0])}: {error.strerror}\n"
        os.write(2, text.encode("utf-8", "surrogateescape"))
        os._exit(126 if Path(os.fsdecode(argv[0])).exists() else 127)


def _sync(fd: int, uid: int) -> None:
    os.setsid()
    sock = socket.socket(fileno=os.dup(fd))
    keep = sock.fileno()
    os.closerange(3, keep)
    os.closerange(keep + 1, 4096)
    _become(uid)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    # No modules can be imported in here and nobody reads tracebacks: the host side sees the connection end.
    sys.stderr = None
    sync.serve(sock)
    os._exit(0)
