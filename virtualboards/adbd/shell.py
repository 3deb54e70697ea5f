"""The services ``shell:``, ``shell,v2,...:`` and ``exec:``.

Source of every behaviour: AOSP ``packages/modules/adb/daemon/shell_service.cpp``.
"""

import contextlib
import errno
import fcntl
import os
import socket
import struct
import termios
from collections import deque
from dataclasses import dataclass
from signal import SIGHUP
from typing import Protocol

from virtualboards.adbd.connection import Stream
from virtualboards.loop import READ, WRITE, Loop

_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN, _WINDOW_SIZE = range(6)
_PACKET = struct.Struct("<BI")
_PIPE_READ = 64 * 1024


class Child(Protocol):
    """A process in the board."""

    def signal(self, number: int) -> None:
        """Send a signal to it alone; harmless when it has ended."""
        ...

    def on_exit(self, callback: "ExitCallback") -> None:
        """Call back with the wait status once it has ended (at once if it has)."""
        ...


class ExitCallback(Protocol):
    """Takes the wait status as ``os.wait`` gives it."""

    def __call__(self, status: int, /) -> None:
        """It ended."""
        ...


class Board(Protocol):
    """Starts processes in the board."""

    loop: Loop

    def shell(self, command: str, fds: tuple[int, int, int], *, term: str, tty: bool) -> Child:
        """``sh -c command`` (a login shell if empty) in a session of its own; the descriptors stay the caller's."""
        ...

    def sync(self, sock: socket.socket) -> Child:
        """The sync service on one end of a socket pair; the descriptor stays the caller's."""
        ...

    def open_pty(self) -> tuple[int, int]:
        """Master and slave of a new pseudo terminal of the board."""
        ...


@dataclass(frozen=True)
class ShellArguments:
    """What stands between ``shell`` and the colon."""

    v2: bool
    pty: bool
    term: str


def parse_arguments(arguments: str, command: str) -> ShellArguments:
    """``v2,TERM=xterm,raw`` and so on; words nobody knows are ignored, as adbd does."""
    v2, pty, term = False, not command, "dumb"
    for word in arguments.split(","):
        if word == "v2":
            v2 = True
        elif word in {"raw", "pty"}:
            pty = word == "pty"
        elif word.startswith("TERM="):
            term = word.removeprefix("TERM=")
    return ShellArguments(v2, pty, term)


def exit_byte(status: int) -> int:
    """The exit code the shell protocol carries: 128 + n for signal n."""
    return 0x80 | os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


class RawPump:
    """Couples a stream with one descriptor: v1 shells, exec and sync.

    The descriptor is the other end of what the process holds. When the host closes the stream it is closed and nobody
    is signalled: the process lives on until it writes.
    """

    def __init__(self, loop: Loop, stream: Stream, fd: int) -> None:
        os.set_blocking(fd, False)
        self._loop = loop
        self._stream = stream
        self._fd = fd
        self._pending: deque[memoryview] = deque()
        self._closing = False
        self._rewatch()

    def on_data(self, data: bytes) -> None:
        """Pass the host's bytes to the process."""
        self._pending.append(memoryview(data))
        self._write()

    def on_writable(self) -> None:
        """The host takes more: read on."""
        self._rewatch()

    def on_close(self) -> None:
        """Let go of the descriptor, once what the host sent before it closed has been passed on."""
        self._closing = True
        if self._fd >= 0 and not self._pending:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = -1
        else:
            self._rewatch()

    def _rewatch(self) -> None:
        if self._fd >= 0:
            reading = self._stream.writable and not self._closing
            self._loop.watch(self._fd, (READ if reading else 0) | (WRITE if self._pending else 0), self._ready)

    def _ready(self, events: int) -> None:
        if events & READ and self._stream.writable and not self._closing:
            self._read()
        if events & WRITE and self._fd >= 0:
            self._write()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, min(_PIPE_READ, self._stream.max_payload))
        except BlockingIOError:
            return
        except OSError:
            # EIO of a pseudo terminal whose last slave closed, ECONNRESET of a socket pair: the end.
            data = b""
        if data:
            self._stream.write(data)
            self._rewatch()
        else:
            self._ended()

    def _ended(self) -> None:
        """The process has said all it will: nothing more is passed on in either direction."""
        self._pending.clear()
        self.on_close()
        self._stream.close()

    def _write(self) -> None:
        try:
            while self._pending:
                left = self._pending[0][os.write(self._fd, self._pending[0]) :]
                if left:
                    self._pending[0] = left
                else:
                    self._taken()
        except BlockingIOError:
            self._rewatch()
            return
        except OSError:
            # Nobody reads any more; what the process still says comes out first.
            while self._pending:
                self._taken()
        if self._closing:
            self.on_close()
        else:
            self._rewatch()

    def _taken(self) -> None:
        self._pending.popleft()
        self._stream.consumed()


class ShellV2:
    """A shell with the v2 protocol: separate stderr, exit code, stdin that can end."""

    def __init__(self, board: Board, stream: Stream, command: str, arguments: ShellArguments) -> None:
        self._loop = board.loop
        self._stream = stream
        self._buffer = bytearray()
        self._stdin_queue: deque[memoryview] = deque()
        self._unacknowledged = 0
        self._stdin_ends = False
        self._status: int | None = None
        self._pty = arguments.pty
        self._outputs: dict[int, int] = {}
        if arguments.pty:
            master, slave = board.open_pty()
            theirs = [slave]
            self._stdin = os.dup(master)
            self._outputs[master] = _STDOUT
            fds = (slave, slave, slave)
        else:
            in_read, self._stdin = os.pipe()
            out_read, out_write = os.pipe()
            err_read, err_write = os.pipe()
            theirs = [in_read, out_write, err_write]
            self._outputs = {out_read: _STDOUT, err_read: _STDERR}
            fds = (in_read, out_write, err_write)
        for fd in (self._stdin, *self._outputs):
            os.set_blocking(fd, False)
        self._child = board.shell(command, fds, term=arguments.term, tty=arguments.pty)
        for fd in theirs:
            os.close(fd)
        self._child.on_exit(self._exited)
        self._rewatch()

    def on_data(self, data: bytes) -> None:
        """Packets of the shell protocol, cut anywhere."""
        self._buffer += data
        self._unacknowledged += 1
        while len(self._buffer) >= _PACKET.size:
            kind, length = _PACKET.unpack_from(self._buffer)
            if kind != _STDIN and length > self._stream.max_payload:
                self.on_close()
                self._stream.close()
                return
            here = min(length, len(self._buffer) - _PACKET.size)
            if here < length and (kind != _STDIN or not here):
                break
            payload = bytes(self._buffer[_PACKET.size : _PACKET.size + here])
            del self._buffer[: _PACKET.size + here]
            if here < length:
                # A packet of stdin may be of any length and is passed on as it comes; its rest is one of its own.
                self._buffer[:0] = _PACKET.pack(kind, length - here)
            self._packet(kind, payload)
        self._feed()

    def on_writable(self) -> None:
        """Send what the process wrote meanwhile, or the end."""
        self._rewatch()
        self._maybe_finish()

    def on_close(self) -> None:
        """The host went away: adbd sends SIGHUP to the shell (to it alone) and closes the pipes."""
        if self._status is None:
            self._child.signal(SIGHUP)
        self._close_stdin()
        for fd in list(self._outputs):
            self._close_output(fd)

    def _packet(self, kind: int, payload: bytes) -> None:
        if kind == _STDIN and self._stdin >= 0:
            self._stdin_queue.append(memoryview(payload))
        elif kind == _CLOSE_STDIN:
            self._stdin_ends = True
        elif kind == _WINDOW_SIZE and self._pty and self._stdin >= 0:
            # "ROWSxCOLUMNS,XPIXELSxYPIXELS", from adb itself with a NUL at its end
            with contextlib.suppress(ValueError, OSError, struct.error):
                numbers = payload.partition(b"\0")[0].decode("ascii").replace(",", "x").split("x")
                fcntl.ioctl(self._stdin, termios.TIOCSWINSZ, struct.pack("4H", *(int(n) for n in numbers)))

    def _feed(self) -> None:
        try:
            while self._stdin_queue and self._stdin >= 0:
                chunk = self._stdin_queue[0]
                sent = os.write(self._stdin, chunk) if chunk else 0
                if sent < len(chunk):
                    self._stdin_queue[0] = chunk[sent:]
                else:
                    self._stdin_queue.popleft()
        except BlockingIOError:
            self._loop.watch(self._stdin, WRITE, lambda _: self._feed())
            return
        except OSError:
            self._close_stdin()
        self._stdin_queue.clear()
        if self._stdin >= 0:
            self._loop.forget(self._stdin)
            if self._stdin_ends:
                self._close_stdin()
        # The next packet is asked for only now: a process that does not read holds up the host, not our memory.
        while self._unacknowledged:
            self._unacknowledged -= 1
            self._stream.consumed()

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            self._loop.forget(self._stdin)
            os.close(self._stdin)
            self._stdin = -1

    def _close_output(self, fd: int) -> None:
        self._loop.forget(fd)
        os.close(fd)
        del self._outputs[fd]

    def _rewatch(self) -> None:
        for fd in self._outputs:
            self._loop.watch(fd, READ if self._stream.writable else 0, lambda _, fd=fd: self._read(fd))  # type: ignore[misc]

    def _read(self, fd: int) -> None:
        if fd not in self._outputs or not self._stream.writable:
            return
        try:
            data = os.read(fd, min(_PIPE_READ, self._stream.max_payload - _PACKET.size))
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        if data:
            self._stream.write(_PACKET.pack(self._outputs[fd], len(data)) + data)
            self._rewatch()
        else:
            self._close_output(fd)
            self._maybe_finish()

    def _exited(self, status: int) -> None:
        self._status = status
        self._maybe_finish()

    def _maybe_finish(self) -> None:
        # The session lasts as long as anybody holds its output, which is why `cmd &` does not return.
        if self._status is None or self._outputs or not self._stream.writable or self._stream.closed:
            return
        self._close_stdin()
        self._stream.write(_PACKET.pack(_EXIT, 1) + bytes([exit_byte(self._status)]))
        self._stream.close()


def raw_shell(board: Board, stream: Stream, command: str, arguments: ShellArguments) -> RawPump:
    """A v1 shell or exec: all three streams of the process are one socket (or terminal), handed straight over."""
    if arguments.pty:
        ours, theirs = board.open_pty()
    else:
        left, right = socket.socketpair()
        ours, theirs = left.detach(), right.detach()
    board.shell(command, (theirs, theirs, theirs), term=arguments.term, tty=arguments.pty)
    os.close(theirs)
    return RawPump(board.loop, stream, ours)


def sync_service(board: Board, stream: Stream) -> RawPump:
    """File transfer; the work is done by a process inside the board with adbd's uid."""
    ours, theirs = socket.socketpair()
    board.sync(theirs)
    theirs.close()
    return RawPump(board.loop, stream, ours.detach())
