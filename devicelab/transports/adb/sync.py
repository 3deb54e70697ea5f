"""Files to a device over adb: the sync protocol, many files over one stream, the device's own words kept.

Source: AOSP ``packages/modules/adb/file_sync_protocol.h`` and ``SYNC.TXT``. Version 1 of every request: its 32-bit
sizes and times are enough here, and every device knows it.
"""

import select
import stat
import struct
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from devicelab.errors import ConfigError, DeviceRefusedError, DeviceUnreachableError
from devicelab.transports._pace import Pace
from devicelab.transports.adb.server import LOST_HINT, Link, reachable

CHUNK_BYTES = 64 << 10
"""The longest data packet that adbd takes (SYNC_DATA_MAX)."""

# adbd refuses longer ones.
_MAX_PATH_BYTES = 1024
_MAX_WORDS_BYTES = 64 << 10
# A device that does not take or send a packet within so long is gone.
_STALL_S = 60.0
_HEAD = struct.Struct("<4sI")


class Sync:
    """An open ``sync:`` service.

    Args:
        link: the open service.
        address: for errors.
    """

    def __init__(self, link: Link, address: str) -> None:
        self._link, self._address = link, address
        self._socket = link.conn

    def send(self, remote: str, data: Iterator[bytes]) -> None:
        """Write a file; missing folders above it are made by adbd. Chunks are at most ``CHUNK_BYTES`` long.

        Raises:
            DeviceRefusedError: with the device's own words.
            DeviceUnreachableError: the connection broke.
        """
        self._request(b"SEND", self._path(remote) + b",%d" % (stat.S_IFREG | 0o644))
        pace = Pace(remote, self._address)
        for chunk in data:
            pace.came(len(chunk))
            self._write(_HEAD.pack(b"DATA", len(chunk)) + chunk)
            if select.select([self._socket], [], [], 0)[0]:
                break  # It only speaks before the end to refuse.
        else:
            self._write(_HEAD.pack(b"DONE", int(time.time()) & 0xFFFFFFFF))
        self._expect_okay(remote)

    def _path(self, remote: str) -> bytes:
        path = remote.encode("utf-8", "surrogateescape")
        # The mode behind a comma counts as part of the path.
        if len(path) > _MAX_PATH_BYTES - 16:
            raise ConfigError(f"path too long for adb: {remote}", device=self._address)
        return path

    def _request(self, kind: bytes, data: bytes) -> None:
        self._write(_HEAD.pack(kind, len(data)) + data)

    def _write(self, data: bytes) -> None:
        with reachable(self._address):
            self._link.within(_STALL_S)
            self._socket.sendall(data)

    def _read(self, size: int) -> bytes:
        with reachable(self._address):
            self._link.within(_STALL_S)
            return bytes(self._link.read_exact(size))

    def _expect_okay(self, remote: str) -> None:
        kind, number = _HEAD.unpack(self._read(_HEAD.size))
        if kind == b"FAIL":
            words = self._read(min(number, _MAX_WORDS_BYTES)).decode(errors="replace")
            raise DeviceRefusedError(f"{remote}: {words}", device=self._address)
        if kind != b"OKAY":
            raise DeviceUnreachableError("adb file transfer is garbled", device=self._address, hint=LOST_HINT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._request(b"QUIT", b"")
        self._link.close()
