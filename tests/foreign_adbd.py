"""An adbd on this machine that behaves as two foreign ones do; whoever asks commands gets this machine's own shell.

``early-close``: AOSP's of 2016 and 2017. What comes for a program that has ended closes the stream, and what was not
yet sent, the exit packet too, is lost (``local_socket_enqueue`` on EPIPE). Its last packet is held back here for a
moment, so that whatever comes then always hits.

``never-close``: one without ``shell_v2`` and without ``exec:``, whose shells are on a terminal and whose streams stay
open when all has been said.
"""

import contextlib
import os
import pty
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Literal

from virtualboards.adbd import shell, sync
from virtualboards.adbd.connection import Service, Stream
from virtualboards.adbd.server import Adbd
from virtualboards.adbd.shell import Child
from virtualboards.loop import READ, Loop

Manner = Literal["early-close", "never-close"]
_HELD_S = 0.005


class _Process:
    """A process of this machine; its end comes through its pidfd."""

    def __init__(self, loop: Loop, process: "subprocess.Popen[bytes]") -> None:
        self._loop, self._process = loop, process
        self._pidfd = os.pidfd_open(process.pid)

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)

    def on_exit(self, callback: shell.ExitCallback) -> None:
        def ended(_: int) -> None:
            self._loop.forget(self._pidfd)
            os.close(self._pidfd)
            code = self._process.wait()
            callback(-code if code < 0 else code << 8)

        self._loop.watch(self._pidfd, READ, ended)


class _Thread:
    """The sync service, in a thread."""

    def signal(self, number: int) -> None:
        """Nobody does."""

    def on_exit(self, callback: shell.ExitCallback) -> None:
        """Nobody asks."""


class _Host:
    """This machine as a board."""

    def __init__(self) -> None:
        self.loop = Loop()

    def shell(self, command: str, fds: tuple[int, int, int], *, term: str, tty: bool) -> Child:  # noqa: ARG002
        argv = ["setsid", "-c", "sh", "-c", command] if tty else ["sh", "-c", command]
        made = subprocess.Popen(argv, stdin=fds[0], stdout=fds[1], stderr=fds[2], start_new_session=not tty)
        child = _Process(self.loop, made)
        if tty:
            child.on_exit(lambda _: None)
        return child

    def sync(self, sock: socket.socket) -> Child:
        threading.Thread(target=_serve, args=(sock.dup(),), daemon=True).start()
        return _Thread()

    def open_pty(self) -> tuple[int, int]:
        return pty.openpty()

    def get_property(self, name: str) -> str:
        return f"foreign-{name.rpartition('.')[2]}"

    def restart_adbd(self, *, root: bool) -> None:
        """It never does."""

    def reboot(self) -> None:
        """It never does."""

    def outgoing(self, payload: bytes) -> bytes:
        return payload

    def traffic(self, _size: int) -> float:
        return 0.0


def _serve(sock: socket.socket) -> None:
    with sock:
        sync.serve(sock)


class _EarlyClose(shell.ShellV2):
    _held = False

    def on_data(self, data: bytes) -> None:
        if self._status is not None:
            self.on_close()
            self._stream.close()
            return
        super().on_data(data)

    def _maybe_finish(self) -> None:
        if self._status is not None and not self._outputs and not self._held:
            self._held = True
            self._loop.call_later(_HELD_S, super()._maybe_finish)


class _NeverClose(shell.RawPump):
    def _ended(self) -> None:
        self._loop.forget(self._fd)


class _Foreign(Adbd):
    def __init__(self, host: _Host, manner: Manner) -> None:
        super().__init__(host, host, shell_v2=manner == "early-close")
        self._host, self._manner = host, manner

    def open(self, stream: Stream, destination: str) -> Service | None:
        name, _, rest = destination.partition(":")
        arguments = shell.parse_arguments(name.partition(",")[2], rest)
        if name.startswith("shell") and self._manner == "early-close" and arguments.v2:
            return _EarlyClose(self._host, stream, rest, arguments)
        if name == "exec":
            return None
        if name == "shell" and self._manner == "never-close":
            ours, theirs = self._host.open_pty()
            self._host.shell(rest, (theirs, theirs, theirs), term="dumb", tty=True)
            os.close(theirs)
            return _NeverClose(self._host.loop, stream, ours)
        return super().open(stream, destination)


@contextlib.contextmanager
def running(manner: Manner) -> Iterator[int]:
    """The daemon in a thread; its port on 127.0.0.1."""
    host = _Host()
    daemon = _Foreign(host, manner)
    daemon.listen()
    thread = threading.Thread(target=host.loop.run, daemon=True)
    thread.start()
    try:
        yield daemon.port
    finally:

        def end() -> None:
            daemon.unlisten()
            daemon.drop()
            host.loop.stop()

        host.loop.call_soon(end)
        thread.join(10)
        host.loop.close()
