"""The host process's view of what runs in the board: start, signal, hear of the end."""

import os
import socket
from collections.abc import Callable, Iterator

from virtualboards import init
from virtualboards.adbd.shell import ExitCallback
from virtualboards.kernel.processes import below
from virtualboards.loop import READ, Loop
from virtualboards.users import SHELL_UID

_ENV = {
    "ANDROID_DATA": "/data",
    "ANDROID_ROOT": "/system",
    "ANDROID_STORAGE": "/storage",
    "EXTERNAL_STORAGE": "/sdcard",
    "HOSTNAME": "localhost",
    "PATH": "/product/bin:/system/bin:/system/xbin:/odm/bin:/vendor/bin:/vendor/xbin",
    "SHELL": "/system/bin/sh",
    "TMPDIR": "/data/local/tmp",
}
_ARGUMENT_MAX = 128 * 1024 - 1
"""Longest single argument that Linux takes (MAX_ARG_STRLEN)."""

_FAILED_TO_START = 126 << 8


class Child:
    """A process started through init."""

    def __init__(self, children: "Children", number: int) -> None:
        self._children = children
        self.number = number
        self._status: int | None = None
        self._callback: ExitCallback | None = None

    def signal(self, number: int) -> None:
        """Send a signal to the process alone; harmless when it has ended."""
        if self._status is None:
            self._children.send(("kill", self.number, int(number)))

    def on_exit(self, callback: ExitCallback) -> None:
        """Call back with the wait status once it has ended (at once if it has)."""
        if self._status is not None:
            callback(self._status)
        else:
            self._callback = callback

    def ended(self, status: int) -> None:
        """Init reports the end."""
        self._status = status
        if self._callback is not None:
            self._callback(status)


class Children:
    """Starts processes in the board by way of its init process.

    Args:
        control: the host's end of init's control socket.
        init_pid: init's pid as the host sees it.
    """

    def __init__(self, loop: Loop, control: socket.socket, init_pid: int) -> None:
        self.init_pid = init_pid
        self._loop = loop
        self._control = control
        self._running: dict[int, Child] = {}
        self._next = 0
        self.on_lost = loop.stop
        """Called when init ended."""
        self.on_quiet: Callable[[], None] = loop.stop
        """Called when everything in the board was killed as asked by ``reset``."""
        loop.watch(control.fileno(), READ, lambda _: self._receive())

    def run(
        self,
        argv: list[str],
        fds: tuple[int, ...],
        *,
        uid: int,
        env: dict[str, str] | None = None,
        tty: bool = False,
        bound: bool = False,
        cwd: str = "/",
    ) -> Child:
        """Start a program (path, then its argv) in a session of its own; the descriptors stay the caller's.

        ``bound`` has every process of the session killed as soon as the program itself has ended.
        """
        name = "shell" if uid == SHELL_UID else "root"
        full = {**_ENV, "HOME": "/", "LOGNAME": name, "USER": name, **(env or {})}
        words = [os.fsencode(word) for word in argv]
        child = self._new()
        if max(map(len, words)) > _ARGUMENT_MAX or sum(map(len, words)) > init.MESSAGE_MAX // 4 * 3:
            os.write(fds[-1], f"{argv[0]}: Argument list too long\n".encode())
            self._loop.call_soon(lambda: self._ended(child.number, _FAILED_TO_START))
            return child
        environment = {os.fsencode(key): os.fsencode(value) for key, value in full.items()}
        self.send(("run", child.number, uid, tty, bound, os.fsencode(cwd), words, environment), fds)
        return child

    def sync(self, fd: int, *, uid: int) -> Child:
        """Start the sync service on a socket; the descriptor stays the caller's."""
        child = self._new()
        self.send(("sync", child.number, uid), (fd,))
        return child

    def bind(self, source: str, target: str) -> Child:
        """Show a directory at another place of the board too, until ``reset``; an empty source ends that.

        Its wait status tells of an error by the number (``errno``) as exit code.
        """
        child = self._new()
        self.send(("bind", child.number, os.fsencode(source), os.fsencode(target)))
        return child

    def reset(self) -> None:
        """Kill everything in the board but init."""
        self.send(("reset",))

    def send(self, message: init.Message, fds: tuple[int, ...] = ()) -> None:
        """Tell init something."""
        init.send(self._control, message, fds)

    def pids(self) -> Iterator[int]:
        """Host pids of everything in the board; init reaps orphans, so all are its descendants."""
        return below(self.init_pid)

    def _new(self) -> Child:
        self._next += 1
        child = self._running[self._next] = Child(self, self._next)
        return child

    def _receive(self) -> None:
        try:
            message, _ = init.receive(self._control)
        except (EOFError, OSError):
            self._loop.forget(self._control.fileno())
            self.on_lost()
            return
        if message[0] == "exit":
            self._ended(message[1], message[2])
        elif message[0] == "quiet":
            self.on_quiet()

    def _ended(self, number: int, status: int) -> None:
        child = self._running.pop(number, None)
        if child is not None:
            child.ended(status)
