"""A local file on its way to a device."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devicelab.errors import ConfigError

CHUNK_BYTES = 64 << 10


@dataclass(frozen=True)
class Sent:
    """What was read from a local file and sent: SHA-256 (hex) and size in bytes."""

    sha256: str
    size: int


class Source:
    """A local file on its way to a device; digested as it is read.

    Raises:
        ConfigError: it cannot be read.
    """

    def __init__(self, path: Path, device: str) -> None:
        self._path, self._device = path, device
        self._digest, self._sent = hashlib.sha256(), 0
        try:
            self.size = path.stat().st_size
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> ConfigError:
        return ConfigError(f"cannot read {self._path}: {error.strerror or error}", device=self._device)

    def chunks(self, size: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The file's bytes in pieces of at most ``size``."""
        try:
            with self._path.open("rb") as file:
                while data := file.read(size):
                    self._digest.update(data)
                    self._sent += len(data)
                    yield data
        except OSError as error:
            raise self._unreadable(error) from error

    def sent(self) -> Sent:
        """What has been read so far."""
        return Sent(self._digest.hexdigest(), self._sent)
