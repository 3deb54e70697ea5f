"""A command running on a device, as its transport delivers it: events in, standard input out."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from devicelab.errors import DeviceUnreachableError, DistrustError
from devicelab.ground.closing import Closing
from devicelab.transports._scripts import BEGUN, Leader, parse_header

# The same numbers as in adb's shell protocol (and as the descriptors).
OUT = 1
ERR = 2
EXIT = 3

Event = tuple[int, bytes]

# A header line is a token and one line of /proc/PID/stat, which the kernel keeps far below this.
_MAX_HEADER = 16 << 10
_MAX_EARLY = 1 << 20
_BEGUN_LINE = f"{BEGUN}\n".encode()

# What is kept of a command's output; whoever wants more takes it piece by piece.
MAX_OUTPUT_BYTES = 16 << 20


class Stream(Protocol):
    """One command on its way. What becomes of it after ``close`` is the device's affair."""

    def read(self, timeout_s: float | None) -> Event | None:
        """The next event: (``OUT`` | ``ERR``, data) or (``EXIT``, one byte with the exit code); ``None``: none in time.

        Standard input is fed meanwhile.

        Raises:
            DeviceUnreachableError: the connection broke.
        """
        ...

    def end_input(self) -> None:
        """Close the command's standard input (of a stream opened to hold it)."""
        ...

    def close(self) -> None:
        """Release the connection. Harmless when called twice."""
        ...


class Running(Closing):
    """A stream whose header line has been taken off stderr.

    Args:
        stream: the command.
        token: the word its header line begins with.

    Attributes:
        leader: what the header says; ``None`` until it came.
        exited: the exit code has come.
        lost: the connection broke.
    """

    def __init__(self, stream: Stream, token: str) -> None:
        self._stream = stream
        self._mark = token.encode() + b" "
        self._before: bytearray | None = bytearray()
        self._early = bytearray()
        self._ready: deque[Event] = deque()
        self.leader: Leader | None = None
        self.exited = False
        self.lost = False

    def read(self, timeout_s: float | None) -> Event | None:
        """As ``Stream.read``, without the header and without empty data.

        Output that overtakes the header (they are two pipes) waits for it, so that whoever sees output of a command
        can end it.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        left = timeout_s
        while not self._ready:
            event = self._next(left)
            if event is None:
                return None
            self._sort(*event)
            if deadline is not None:
                left = max(0.0, deadline - time.monotonic())
                if left == 0.0 and not self._ready:
                    return None  # what trickles in without an end is nothing
        return self._ready.popleft()

    def _sort(self, kind: int, data: bytes) -> None:
        if kind == OUT and self._before is not None:
            self._early += data
            if len(self._early) < _MAX_EARLY:
                return
            data = b""
            self._give_up_header()
        elif kind == ERR and self._before is not None:
            data = self._unwrap(self._before, data)
        elif kind == EXIT:
            self.exited = True
            self._give_up_header()
        if self._before is None and self._early:
            self._ready.append((OUT, bytes(self._early)))
            self._early.clear()
        if data:
            self._ready.append((kind, data))

    def _next(self, timeout_s: float | None) -> Event | None:
        try:
            return self._stream.read(timeout_s)
        except DeviceUnreachableError:
            self.lost = True
            raise

    def _unwrap(self, before: bytearray, data: bytes) -> bytes:
        before += data
        start = before.find(self._mark)
        end = before.find(b"\n", start) if start >= 0 else -1
        if end < 0 and len(before) < _MAX_HEADER:
            return b""
        # What a login shell said before the header is not the command's.
        self._before = None
        if end < 0:
            return bytes(before)
        self.leader = parse_header(bytes(before[start + len(self._mark) : end]))
        return bytes(before[end + 1 :])

    def _give_up_header(self) -> None:
        # Without a header line the shell itself failed: what it said explains the exit code.
        rest, self._before = self._before, None
        if rest:
            self._ready.append((ERR, bytes(rest)))

    def finish(self, timeout_s: float) -> bool:
        """End the command's input and wait for its exit; tells whether that came in time."""
        self._stream.end_input()
        deadline = time.monotonic() + timeout_s
        while not self.exited and (left := deadline - time.monotonic()) > 0:
            self.read(left)
        return self.exited

    def close(self) -> None:
        """Release the connection."""
        self._stream.close()


class Behind:
    """Takes apart the output of a command that begins after others (``_scripts.AFTER``).

    Args:
        device: for errors.
        receiver: is handed what is the command's own; without one it is kept.

    Attributes:
        begun: the line has come that says so.
        before: what was printed before that line.
        own: what the command printed, without a ``receiver``.
    """

    def __init__(self, device: str, receiver: Callable[[bytes], None] | None = None) -> None:
        self._device = device
        self.begun = False
        self.before, self.own = bytearray(), bytearray()
        self._receive = receiver or self._keep

    def take(self, data: bytes) -> None:
        """More of the output.

        Raises:
            DistrustError: too much of it.
        """
        if not self.begun:
            self.before += data
            at = (b"\n" + self.before).find(b"\n" + _BEGUN_LINE)
            self.begun = at >= 0
            if self.begun:
                data = bytes(self.before[at + len(_BEGUN_LINE) :])
                del self.before[at:]
        if self.begun and data:
            self._receive(data)
        if len(self.before) + len(self.own) > MAX_OUTPUT_BYTES:
            raise DistrustError(f"a command printed more than {MAX_OUTPUT_BYTES >> 20} MiB", device=self._device)

    def _keep(self, data: bytes) -> None:
        self.own += data


def chunks(data: bytes, size: int = 32 << 10) -> Iterator[bytes]:
    """The data in pieces."""
    return (data[at : at + size] for at in range(0, len(data), size))
