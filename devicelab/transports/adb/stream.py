"""Commands over adb: the shell protocol (``shell_v2``), and what serves where a device has none.

Source of the packets: AOSP ``packages/modules/adb/shell_protocol.h``.
"""

import re
import selectors
import struct
import time
from collections.abc import Iterator

from devicelab.errors import DeviceUnreachableError
from devicelab.transports._stream import ERR, EXIT, OUT, Event
from devicelab.transports.adb.server import LOST_HINT, Link

_HEAD = struct.Struct("<BI")
_STDIN, _CLOSE_STDIN = 0, 4
_READ_BYTES = 256 << 10


class _SocketStream:
    """A service's socket, read and fed through one selector."""

    def __init__(self, link: Link, address: str) -> None:
        self._link, self._address = link, address
        self._socket = link.conn
        self._socket.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._events = selectors.EVENT_READ
        self._selector.register(self._socket, self._events)
        self._outgoing = bytearray()
        self._closed = False

    def _wait(self, deadline: float | None) -> bytes | None:
        """More bytes from the device; ``None``: none in time, ``b""``: it closed."""
        while True:
            self._fill()
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outgoing else 0)
            if wanted != self._events:
                self._selector.modify(self._socket, wanted)
                self._events = wanted
            ready = self._selector.select(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            try:
                if ready[0][1] & selectors.EVENT_READ:
                    return bytes(self._socket.recv(_READ_BYTES))
                del self._outgoing[: self._socket.send(self._outgoing)]
            except BlockingIOError:
                pass
            except OSError as error:
                raise self._lost() from error
            if _past(deadline):
                return None

    def _fill(self) -> None:
        """Put what is to be sent next into ``_outgoing``."""

    def _lost(self) -> DeviceUnreachableError:
        return DeviceUnreachableError("connection lost while a command ran", device=self._address, hint=LOST_HINT)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._selector.close()
            self._link.close()


def _past(deadline: float | None) -> bool:
    """The time is over. Asked after every piece: a peer that sends a byte now and then is not waited for any longer."""
    return deadline is not None and time.monotonic() >= deadline


class ShellStream(_SocketStream):
    """``shell,v2,raw:``: packets of a kind, a length and data."""

    def __init__(self, link: Link, address: str, stdin: Iterator[bytes] | None) -> None:
        super().__init__(link, address)
        self._stdin = stdin
        self._incoming = bytearray()
        self._kind, self._left = 0, 0

    def read(self, timeout_s: float | None) -> Event | None:
        """The next event, or ``None`` after ``timeout_s`` without one or at the stream's end."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (event := self._take()) is None:
            data = self._wait(deadline)
            if data is None:
                return None
            if not data:
                raise self._lost()
            self._incoming += data
            if _past(deadline):
                return self._take()
        return event

    def _take(self) -> Event | None:
        """The next piece of a packet; long packets are handed over as they come."""
        while True:
            if not self._left:
                if len(self._incoming) < _HEAD.size:
                    return None
                self._kind, self._left = _HEAD.unpack_from(self._incoming)
                del self._incoming[: _HEAD.size]
            data = bytes(self._incoming[: self._left])
            if not data and self._left:
                return None
            del self._incoming[: len(data)]
            self._left -= len(data)
            if data and self._kind in {OUT, ERR}:
                return self._kind, data
            if data and self._kind == EXIT:
                return EXIT, data[:1]

    def _fill(self) -> None:
        if self._outgoing or self._stdin is None:
            return
        data = next(self._stdin, None)
        if data is None:
            self._stdin = None
            self.end_input()
        else:
            self._outgoing += _HEAD.pack(_STDIN, len(data)) + data

    def end_input(self) -> None:
        """Tell the program there that its input has ended."""
        self._outgoing += _HEAD.pack(_CLOSE_STDIN, 0)


# What the parts of a legacy stream are, in their order.
_NOISE, _HEADER, _STDOUT, _CODE, _STDERR, _OVER = range(6)
_CODE_DIGITS = re.compile(rb"[0-9]{1,3}")
# What a login shell may say before the header, and the longest line that is ours.
_MAX_LINE = 1 << 20
# How long a daemon may take to close a stream on which all was said.
_CLOSING_S = 0.05


class LegacyStream(_SocketStream):
    r"""``exec:`` or an old ``shell:`` with what ``_scripts.LEGACY`` prints: two outputs and an exit code in one stream.

    Args:
        link: the open service.
        address: for errors.
        token: what the script sets between the parts.
        newline: what the device's terminal makes of a newline; ``b"\n"`` if there is no terminal in between.
    """

    def __init__(self, link: Link, address: str, token: str, newline: bytes) -> None:
        super().__init__(link, address)
        self._token = token.encode()
        self._newline = newline
        self._raw = b""
        self._text = bytearray()
        self._part = _NOISE
        self._code = b""

    def read(self, timeout_s: float | None) -> Event | None:
        """The next event, or ``None`` after ``timeout_s`` without one or at the stream's end."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (event := self._take()) is None:
            if self._part == _OVER:
                return self._exit(deadline)
            data = self._wait(deadline)
            if data is None:
                return None
            if not data:
                raise self._lost()
            if self._part in {_NOISE, _HEADER, _CODE} and len(self._text) > _MAX_LINE:
                raise self._lost()  # garbage that would be kept for ever
            self._text += self._plain(data)
            if _past(deadline):
                return self._take() or (self._exit(deadline) if self._part == _OVER else None)
        return event

    def _exit(self, deadline: float | None) -> Event | None:
        """The exit, now that all was said: the script's shell is at its end, and most daemons close the stream then.

        Some never do, so it is waited for a moment only. Whoever holds the stream beyond that (``cmd &``) is no longer
        the command.
        """
        if not _CODE_DIGITS.fullmatch(self._code):
            raise self._lost()
        end = time.monotonic() + _CLOSING_S
        while not _past(end) and self._wait(end if deadline is None else min(deadline, end)):
            pass  # nothing of it is the command's
        return EXIT, bytes([int(self._code) & 0xFF])

    def _plain(self, data: bytes) -> bytes:
        """The bytes as they were before a terminal made ``newline`` of every newline."""
        data = self._raw + data
        held = _begun(data, self._newline)
        self._raw = data[len(data) - held :]
        return data[: len(data) - held].replace(self._newline, b"\n")

    def _take(self) -> Event | None:
        while self._part != _OVER:
            mark = b"\n" if self._part in {_HEADER, _CODE} else self._token
            part, end = self._part, self._text.find(mark)
            if end >= 0:
                self._part += 1
                data = bytes(self._text[:end])
                del self._text[: end + len(mark)]
            elif part in {_STDOUT, _STDERR} and (end := len(self._text) - _begun(self._text, mark)):
                data = bytes(self._text[:end])
                del self._text[:end]
            else:
                return None
            if part == _HEADER:
                return ERR, self._token + data + b"\n"
            if part == _CODE:
                self._code = data.strip()
            elif part in {_STDOUT, _STDERR} and data:
                return OUT if part == _STDOUT else ERR, data
        return None

    def end_input(self) -> None:
        """Tell the program there that its input has ended."""
        # The stream has no end of one direction alone; who holds its stdin open here ends at a line.
        self._outgoing += b"\n"


def _begun(data: bytes | bytearray, mark: bytes) -> int:
    """How many bytes at the end of ``data`` may be the beginning of ``mark``."""
    longest = min(len(mark) - 1, len(data))
    return next((size for size in range(longest, 0, -1) if data.endswith(mark[:size])), 0)
