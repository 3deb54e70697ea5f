"""Targets: both ends of adb. What a server and a device say to us, and what a host says to a virtual board."""

import os
import posixpath
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, cast
from unittest import mock

from devicelab.transports._scripts import new_token
from devicelab.transports._stream import EXIT, Running
from devicelab.transports.adb import server
from devicelab.transports.adb.server import Link
from devicelab.transports.adb.stream import LegacyStream, ShellStream
from devicelab.transports.adb.sync import Sync
from tests.fuzz.files import _FOLDER
from tests.fuzz.target import Target
from virtualboards.adbd import connection, shell, sync, wire
from virtualboards.loop import Loop

_ADDRESS = "adb:0123"
_TOKEN = "\x1e" + "t" * (len(new_token()) - 1)


class _Spoken(Link):  # type: ignore[misc]
    """A connection at whose other end everything has been said already."""

    def __init__(self, data: bytes) -> None:
        ours, self._theirs = socket.socketpair()
        self._theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._theirs.send(data[: 1 << 16])
        self._theirs.shutdown(socket.SHUT_WR)
        self._AdbConnection__conn = ours
        ours.settimeout(2)

    @property
    def conn(self) -> socket.socket:
        return cast("socket.socket", self._AdbConnection__conn)

    def close(self) -> None:
        self.conn.close()
        self._theirs.close()


def _server(data: bytes) -> None:
    with mock.patch.object(server, "Link", return_value=_Spoken(data)):
        server.Server("127.0.0.1", 5037, ours=False).devices()


def _stream(kind: int) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        link = _Spoken(data)
        try:
            stream = (
                ShellStream(link, _ADDRESS, None)
                if kind == 0
                else LegacyStream(link, _ADDRESS, _TOKEN, b"\r\n" if data[:1] == b"\r" else b"\n")
            )
            with Running(stream, _TOKEN) as running:
                while (event := running.read(1.0)) is not None and event[0] != EXIT:
                    pass
        finally:
            link.close()

    return read


def _refuse(data: bytes) -> None:
    link = _Spoken(data)
    try:
        Sync(link, _ADDRESS).send("/data/x", iter((b"abc",)))
    finally:
        link.close()


# --- the virtual board


class _Jail:
    """``os`` for the sync service with another root: every path is led into one folder."""

    def __init__(self, root: bytes) -> None:
        self._root = root

    def _in(self, path: bytes) -> bytes:
        return self._root + posixpath.normpath(b"/" + path.replace(b"..", b"__"))

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name in {"open", "stat", "listdir", "unlink", "utime", "makedirs"}:
            return lambda path, *args, **kwargs: real(self._in(path), *args, **kwargs)
        if name == "symlink":
            return lambda target, path: real(self._in(target), self._in(path))
        return real


_JAIL = _FOLDER / "inside" / "jail"
_JAIL.mkdir()
(_JAIL / "file").write_bytes(b"content" * 100)


def _sync_server(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, mock.patch.object(sync, "os", _Jail(bytes(_JAIL))):
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        theirs.settimeout(1)
        ours.send(data[: 1 << 16])
        ours.shutdown(socket.SHUT_WR)
        sync.serve(theirs)


class _Echo:
    """A service that says what it heard."""

    def __init__(self, stream: connection.Stream) -> None:
        self._stream = stream
        self._waiting: list[bytes] = []

    def on_data(self, data: bytes) -> None:
        self._waiting.append(data)
        self._stream.consumed()
        self.on_writable()

    def on_writable(self) -> None:
        while self._waiting and self._stream.writable and not self._stream.closed:
            self._stream.write(self._waiting.pop(0)[: self._stream.max_payload])

    def on_close(self) -> None:
        self._waiting.clear()


class _Child:
    def signal(self, number: int) -> None: ...

    def on_exit(self, callback: shell.ExitCallback) -> None: ...


class _Board:
    """What connections and shells ask of a board; its programs read nothing and say nothing."""

    def __init__(self) -> None:
        self.counters = connection.Counters()
        self.loop = Loop()

    def banner(self) -> bytes:
        return b"device::"

    def open(self, stream: connection.Stream, destination: str) -> Any:
        name, _, rest = destination.partition(":")
        if name.startswith("shell"):
            return shell.ShellV2(self, stream, rest, shell.ShellArguments(v2=True, pty=False, term="dumb"))  # type: ignore[arg-type]
        return _Echo(stream) if name == "echo" else None

    def closed(self, connection: object) -> None: ...

    def outgoing(self, payload: bytes) -> bytes:
        return payload

    def traffic(self, connection: object, size: int) -> float:  # noqa: ARG002
        return 0.0

    def shell(self, *_args: Any, **_kwargs: Any) -> _Child:
        return _Child()


def _connection(data: bytes) -> None:
    """Packets to a board. A "P" in front of a packet's line builds it: command, two ids and the payload."""
    board = _Board()
    ours, theirs = _tcp_pair()
    try:
        made = connection.Connection(board.loop, theirs, cast("Any", board))
        ours.setblocking(False)
        for piece in _packets(data):
            if not made.open:
                break
            ours.send(piece)
            for _ in range(3):
                board.loop.call_soon(lambda: None)  # so that a step does not wait
                board.loop._step()
            try:
                while ours.recv(1 << 16):
                    pass
            except OSError:
                pass
        if made.open:
            made.close()
    finally:
        ours.close()
        board.loop.close()


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        # No TIME_WAIT: thousands of these are made.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return ours, listener.accept()[0]


def _packets(data: bytes) -> Iterator[bytes]:
    for line in data[:8192].split(b"\n\n"):
        if line[:1] == b"P" and len(line) >= 4:
            command = sorted(wire.COMMANDS)[line[1] % len(wire.COMMANDS)]
            yield wire.encode(wire.Packet(command, line[2] or 0, line[3], line[4:]), with_checksum=True)
        elif line:
            yield line


_CONNECT = wire.encode(wire.Packet(wire.CNXN, wire.VERSION_MIN, 4096, b"host::\0"), with_checksum=True)


def _connection_seeds() -> Iterator[bytes]:
    numbers = {command: at for at, command in enumerate(sorted(wire.COMMANDS))}

    def packet(command: int, one: int, two: int, payload: bytes = b"") -> bytes:
        return b"P" + bytes((numbers[command], one, two)) + payload

    yield _CONNECT
    yield b"\n\n".join((_CONNECT, packet(wire.OPEN, 1, 0, b"echo:x\0"), packet(wire.WRTE, 1, 1, b"hello")))
    yield b"\n\n".join((_CONNECT, packet(wire.OPEN, 1, 0, b"shell,v2:x\0"), packet(wire.WRTE, 1, 1, b"\0\3\0\0\0abc"),
                        packet(wire.OKAY, 1, 1), packet(wire.CLSE, 1, 1), _CONNECT))  # fmt: skip
    yield b"\n\n".join(
        (_CONNECT, packet(wire.OPEN, 1, 0, b"nothing:\0"), packet(wire.WRTE, 9, 9), packet(wire.STLS, 0, 0))
    )


_SHELL = b"\2\5\0\0\0" + b"t" * 4 + b" " + b"\1\2\0\0\0hi\3\1\0\0\0\7"
_DEVICES = (
    b"0123   device usb:1-1 product:x model:y\nabc\tunauthorized\nx no permissions (user); see [http://x] usb:1\n"
)


def _legacy_seeds() -> tuple[bytes, ...]:
    token = _TOKEN.encode()
    return (b"noise" + token + b" 12 (sh) S 1 2\n" + b"out" + token + b"0\n" + b"err" + token, b"\r\n" + token)


def _shell_seeds() -> tuple[bytes, ...]:
    head = _TOKEN.encode() + b" 12 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21\n"
    return (b"\2" + len(head).to_bytes(4, "little") + head + b"\1\2\0\0\0hi\3\1\0\0\0\7", _SHELL)


def _request(word: bytes, data: bytes) -> bytes:
    return word + len(data).to_bytes(4, "little") + data


TARGETS = (
    Target("adb-server", "an adb server's list of devices", _server,
           lambda: (b"OKAY%04x" % len(_DEVICES) + _DEVICES, b"FAIL0003bad")),
    Target("adb-shell", "the shell protocol, from a device", _stream(0), _shell_seeds),
    Target("adb-legacy", "outputs of an old device in one stream", _stream(1), _legacy_seeds, (_TOKEN.encode(),)),
    Target("adb-sync", "file transfer, answers of a device", _refuse,
           lambda: (b"OKAY\0\0\0\0", _request(b"FAIL", b"no"))),
    Target("board-adb", "packets, streams and shells, at a virtual board", _connection, _connection_seeds),
    Target("board-sync", "file transfer, at a virtual board", _sync_server,
           lambda: (_request(b"SEND", b"/d/x,33188") + _request(b"DATA", b"abc") + b"DONE\0\0\0\0",
                    _request(b"STAT", b"/file") + _request(b"LIST", b"/") + _request(b"RECV", b"/file"),
                    _request(b"STA2", b"/file") + _request(b"LIS2", b"/") + _request(b"LST2", b"/x") + b"QUIT\0\0\0\0",
                    _request(b"SND2", b"/l") + b"SND2\xff\xa1\0\0\0\0\0\0" + _request(b"DATA", b"t") + b"DONE\0\0\0\0",
                    _request(b"RCV2", b"/file") + b"RCV2\0\0\0\0")),
)  # fmt: skip
