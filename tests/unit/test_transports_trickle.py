"""Deadlines hold while data come: a peer that sends a little now and then, or nothing in many packets, holds nobody up.

Each peer here goes on until it is not listened to any more, and says at last what would satisfy the reader: a reader
that waits for ever gets that.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from devicelab.errors import DeviceUnreachableError
from devicelab.transports._stream import Running
from devicelab.transports.adb import sync as adb_sync
from devicelab.transports.adb.server import Link, Server
from devicelab.transports.adb.stream import LegacyStream, ShellStream
from devicelab.transports.ssh.session import _ChannelStream

_LONG_S = 15.0
_SOON_S = 0.3


@contextlib.contextmanager
def peer(piece: bytes, at_last: bytes, first: bytes = b"", every_s: float = 0.01) -> Iterator[Link]:
    """A connection whose other end sends ``piece`` again and again, and ``at_last`` when it has had enough."""
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def speak() -> None:
        with contextlib.suppress(OSError), listening.accept()[0] as there:
            there.sendall(first)
            ends = time.monotonic() + _LONG_S
            while time.monotonic() < ends and not over.wait(every_s):
                there.sendall(piece)
            there.sendall(at_last)
            over.wait(_LONG_S)

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    link = Link("127.0.0.1", listening.getsockname()[1])
    try:
        yield link
    finally:
        over.set()
        link.close()
        listening.close()
        thread.join()


def packet(kind: int, data: bytes) -> bytes:
    return struct.pack("<BI", kind, len(data)) + data


@pytest.mark.parametrize("piece", [packet(1, b""), packet(2, b""), b"\x00", packet(9, b"x")])
def test_packets_that_say_nothing_end_no_wait(piece: bytes) -> None:
    with peer(piece, packet(1, b"at last") * 300) as link:
        stream = ShellStream(link, "adb:x", None)
        assert stream.read(_SOON_S) is None


def test_a_command_whose_header_trickles_in_is_not_waited_for() -> None:
    with (
        peer(packet(2, b"x"), packet(2, b"\ntoken 1 (sh) S\n") + packet(1, b"out")) as link,
        Running(ShellStream(link, "adb:x", None), "token") as command,
    ):
        assert command.read(_SOON_S) is None


def test_an_old_device_that_rambles_is_not_waited_for() -> None:
    with peer(b"x", b"token 5\nout") as link:
        assert LegacyStream(link, "adb:x", "token", b"\n").read(_SOON_S) is None


def test_input_that_is_taken_slowly_ends_no_wait() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 60_000

    here, there = socket.socketpair()
    over = threading.Event()

    def swallow() -> None:
        ends = time.monotonic() + _LONG_S
        while time.monotonic() < ends and not over.is_set():
            there.recv(1 << 20)
        with contextlib.suppress(OSError):
            there.sendall(packet(1, b"at last"))

    thread = threading.Thread(target=swallow, daemon=True)
    thread.start()

    class Held:
        conn = here

        def close(self) -> None:
            here.close()

    stream = ShellStream(cast("Any", Held()), "adb:x", endless())
    assert stream.read(_SOON_S) is None
    over.set()
    stream.close()
    thread.join()
    there.close()


@pytest.mark.parametrize("first", [b"", b"OKAYffff", b"FAILffff"])
def test_a_server_that_answers_byte_by_byte_is_not_waited_for(first: bytes) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def speak() -> None:
        with contextlib.suppress(OSError), listening.accept()[0] as there:
            rest = (first or b"OKAY0004") + b"x" * 70_000
            ends = time.monotonic() + _LONG_S
            for at in range(len(rest)):
                if over.wait(0.2 if time.monotonic() < ends else 0.0):
                    return
                there.sendall(rest[at : at + 1])

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    server = Server("127.0.0.1", listening.getsockname()[1], ours=False)
    try:
        with pytest.raises(DeviceUnreachableError, match="in time"):
            server.ask("host:features", "adb:x", timeout_s=_SOON_S)
    finally:
        over.set()
        listening.close()
        thread.join()


def test_a_refusal_of_a_file_that_trickles_in_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adb_sync, "_STALL_S", _SOON_S)
    with peer(b"x", b"x" * 60_000, first=struct.pack("<4sI", b"FAIL", 60_000)) as link:
        sync = adb_sync.Sync(link, "adb:x")
        with pytest.raises(DeviceUnreachableError):
            sync.send("/data/file", iter(()))


def test_a_login_shell_that_rambles_is_not_waited_for() -> None:
    ends = time.monotonic() + _LONG_S

    class Rambling:
        """A channel that always has a byte of what a login shell says."""

        eof_received = closed = False
        recv: Callable[[int], bytes] = staticmethod(lambda _: b"x" if time.monotonic() < ends else b"token\nout")

        def __init__(self) -> None:
            self._here, self._there = socket.socketpair()

        def fileno(self) -> int:
            return self._here.fileno()

        def recv_stderr_ready(self) -> bool:
            return False

        def recv_ready(self) -> bool:
            time.sleep(0.001)
            return True

        def close(self) -> None:
            self._here.close()
            self._there.close()

    stream = _ChannelStream(cast("Any", Rambling()), "ssh:x", "token", None, hold_stdin=True)
    assert stream.read(_SOON_S) is None
    stream.close()
