# Paths are bytes here, as the host sent them; pathlib takes text only.
# ruff: noqa: PTH103, PTH108, PTH116, PTH120, PTH208, PTH211
"""The sync service: push, pull, stat and list. Blocking; runs in a process of its own inside the board, as adbd's uid.

Source: AOSP ``packages/modules/adb/file_sync_protocol.h`` and ``daemon/file_sync_service.cpp``.
"""

import contextlib
import os
import re
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from typing import TypeVar

DATA_MAX = 64 * 1024
_PATH_MAX = 1024
_WORD = struct.Struct("<I")
_REQUEST = struct.Struct("<4sI")
_STAT_V1 = struct.Struct("<4sIII")
_STAT_V2 = struct.Struct("<4sIQQIIIIQqqq")
_DENT_V1 = struct.Struct("<4sIIII")
_DENT_V2 = struct.Struct("<4sIQQIIIIQqqqI")
_SEND_V2 = struct.Struct("<4sII")
_RECV_V2 = struct.Struct("<4sI")
_MODE = re.compile(rb"\s*(?:(0[xX][0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))")
_T = TypeVar("_T")


class _Ended(Exception):  # noqa: N818
    """The host went away or was told of a failure that ends the session."""


class _Refused(Exception):  # noqa: N818
    """A request failed; the text is for the person at the host."""


def serve(sock: socket.socket) -> None:
    """Answer requests until QUIT, a failed request or the end of the connection."""
    session = _Session(sock)
    try:
        while session.request():
            pass
    except _Refused as refusal:
        with contextlib.suppress(_Ended, OSError):
            session.fail(str(refusal))
    except (_Ended, OSError):
        pass
    finally:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)


class _Session:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._in = sock.makefile("rb", buffering=DATA_MAX)
        self._mtime = 0

    def request(self) -> bool:
        """Perform one request; false after QUIT."""
        word, length = _REQUEST.unpack(self._read(_REQUEST.size))
        if length > _PATH_MAX:
            raise _Refused("path too long")
        path = self._read(length).split(b"\0")[0]
        if word == b"QUIT":
            return False
        handler = {
            b"STAT": self._stat_v1,
            b"STA2": self._stat_v2,
            b"LST2": self._lstat_v2,
            b"LIST": self._list_v1,
            b"LIS2": self._list_v2,
            b"SEND": self._send_v1,
            b"SND2": self._send_v2,
            b"RECV": self._recv,
            b"RCV2": self._recv_v2,
        }.get(word)
        if handler is None:
            raise _Refused(f"unknown command {_WORD.unpack(word)[0]:08x}")
        handler(path)
        return True

    def fail(self, text: str) -> None:
        """Tell the host why its request failed."""
        data = text.encode("utf-8", "surrogateescape")
        self._write(_REQUEST.pack(b"FAIL", len(data)) + data)

    def _read(self, size: int) -> bytes:
        data: bytes = self._in.read(size)
        if len(data) != size:
            raise _Ended
        return data

    def _write(self, data: bytes) -> None:
        self._sock.sendall(data)

    def _stat_v1(self, path: bytes) -> None:
        info = _stat(path, follow=False)
        self._write(_STAT_V1.pack(b"STAT", info.st_mode, _low(info.st_size), _low(int(info.st_mtime))))

    def _stat_v2(self, path: bytes) -> None:
        self._write(_pack_stat(_STAT_V2, b"STA2", path, follow=True))

    def _lstat_v2(self, path: bytes) -> None:
        self._write(_pack_stat(_STAT_V2, b"LST2", path, follow=False))

    def _list_v1(self, path: bytes) -> None:
        for name in _names(path):
            info = _stat(path + b"/" + name, follow=False)
            head = _DENT_V1.pack(b"DENT", info.st_mode, _low(info.st_size), _low(int(info.st_mtime)), len(name))
            self._write(head + name)
        self._write(_DENT_V1.pack(b"DONE", 0, 0, 0, 0))

    def _list_v2(self, path: bytes) -> None:
        for name in _names(path):
            self._write(_pack_stat(_DENT_V2, b"DNT2", path + b"/" + name, len(name), follow=False) + name)
        self._write(b"DONE" + bytes(_DENT_V2.size - 4))

    def _recv_v2(self, path: bytes) -> None:
        word, flags = _RECV_V2.unpack(self._read(_RECV_V2.size))
        if word != b"RCV2" or flags:
            raise _Refused(f"unknown recv flags: {flags}")
        self._recv(path)

    def _recv(self, path: bytes) -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _Refused(f"open failed: {error.strerror}") from error
        try:
            while data := _read_file(fd):
                self._write(_REQUEST.pack(b"DATA", len(data)) + data)
        finally:
            os.close(fd)
        self._write(_REQUEST.pack(b"DONE", 0))

    def _send_v1(self, spec: bytes) -> None:
        path, comma, mode = spec.rpartition(b",")
        if not comma:
            raise _Refused("missing , in ID_SEND")
        # strtoul(mode, nullptr, 0): hexadecimal, octal or decimal, and whatever follows is not looked at.
        number = _MODE.match(mode)
        if number is None or len(number[0]) > 20:
            raise _Refused("bad mode")
        base = 16 if number[1] else 8 if number[2] else 10
        self._send(path, int(number[0], base) & 0xFFFFFFFF)

    def _send_v2(self, path: bytes) -> None:
        word, mode, flags = _SEND_V2.unpack(self._read(_SEND_V2.size))
        if word != b"SND2" or flags:
            raise _Refused(f"unknown send flags: {flags}")
        self._send(path, mode)

    def _send(self, path: bytes, mode: int) -> None:
        try:
            mtime = self._receive_link(path) if stat.S_ISLNK(mode) else self._receive_file(path, mode)
        except _Refused as refusal:
            # Tell at once, then throw away what is still on its way: an older host writes on without reading, and
            # would lose the message if the socket were closed under it.
            self.fail(str(refusal))
            for _ in self._chunks():
                pass
            raise _Ended from refusal
        with contextlib.suppress(OSError):
            os.utime(path, (mtime, mtime), follow_symlinks=False)
        self._write(_REQUEST.pack(b"OKAY", 0))

    def _chunks(self) -> Iterator[bytes]:
        """DATA packets up to DONE, whose time stamp is left in ``_mtime``."""
        while True:
            word, length = _REQUEST.unpack(self._read(_REQUEST.size))
            if word == b"DONE":
                self._mtime = length
                return
            if word != b"DATA":
                raise _Refused("invalid data message")
            if length > DATA_MAX:
                raise _Refused("oversize data message")
            yield self._read(length)

    def _receive_link(self, path: bytes) -> int:
        target = b"".join(self._chunks()).split(b"\0")[0]
        with contextlib.suppress(OSError):
            os.unlink(path)
        try:
            _with_parents(path, lambda: os.symlink(target, path))
        except OSError as error:
            raise _Refused(f"couldn't create symlink: {error.strerror}") from error
        return self._mtime

    def _receive_file(self, path: bytes, mode: int) -> int:
        # The owner's permission bits also go to group and other, as adbd does it.
        mode &= 0o777
        mode |= (mode >> 3) & 0o070
        mode |= (mode >> 3) & 0o007
        replace = stat.S_IFMT(_stat(path, follow=False).st_mode) in {0, stat.S_IFREG, stat.S_IFLNK}
        if replace:
            with contextlib.suppress(OSError):
                os.unlink(path)
        try:
            fd = _with_parents(path, lambda: os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, mode))
        except OSError as error:
            raise _Refused(f"couldn't create file: {error.strerror}") from error
        try:
            with contextlib.suppress(OSError):
                os.fchmod(fd, mode)
            for chunk in self._chunks():
                _write_file(fd, chunk)
        except OSError as error:
            if replace:
                with contextlib.suppress(OSError):
                    os.unlink(path)
            raise _Refused(f"write failed: {error.strerror}") from error
        finally:
            os.close(fd)
        return self._mtime


_NOTHING = os.stat_result((0,) * 10)


def _low(number: int) -> int:
    """The 32 bits that the old protocol carries."""
    return number & 0xFFFFFFFF


def _stat(path: bytes, *, follow: bool) -> os.stat_result:
    try:
        return os.stat(path, follow_symlinks=follow)
    except OSError:
        return _NOTHING


def _pack_stat(shape: struct.Struct, word: bytes, path: bytes, *extra: int, follow: bool) -> bytes:
    try:
        info = os.stat(path, follow_symlinks=follow)
    except OSError as error:
        return shape.pack(word, error.errno or 0, *(0,) * 10, *extra)
    times = (int(info.st_atime), int(info.st_mtime), int(info.st_ctime))
    ids = (info.st_dev, info.st_ino, info.st_mode, info.st_nlink, info.st_uid, info.st_gid, info.st_size)
    return shape.pack(word, 0, *ids, *times, *extra)


def _names(path: bytes) -> list[bytes]:
    """Entries of a directory with ``.`` and ``..``, as readdir gives them; nothing if it cannot be read."""
    try:
        return [b".", b"..", *os.listdir(path)]
    except OSError:
        return []


def _read_file(fd: int) -> bytes:
    try:
        return os.read(fd, DATA_MAX)
    except OSError as error:
        raise _Refused(f"read failed: {error.strerror}") from error


def _write_file(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _with_parents(path: bytes, make: Callable[[], _T]) -> _T:
    """Call ``make``; if a parent directory is missing create it and try once more."""
    try:
        return make()
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o777, exist_ok=True)
        return make()
