"""What a transport is: how to reach one device (``Transport``), and which there are (``TransportKind``)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from devicelab.errors import ConfigError


class NotInstalledError(ConfigError):
    """What the transport needs is not on this machine, so nothing can hang on it here."""


@dataclass(frozen=True)
class Completed:
    """A command that ended: exit code (128 + n for signal n), and its two streams as bytes."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class Attached:
    """Something the transport sees: its address, its state ("device", "offline", "unauthorized", ...), details."""

    address: str
    state: str
    details: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Parcel:
    """Files that arrived on a device beside the places they are meant for.

    Attributes:
        files: of each the path where it lies, its final path, its SHA-256 (hex), its mode (octal digits).
        size: of all of them, bytes.
    """

    files: tuple[tuple[str, str, str, str], ...] = ()
    size: int = 0


NOTHING = Parcel()


class Transport(Protocol):
    """One device. Methods may be called from one thread at a time; errors are ``devicelab.errors``.

    All raise ``DeviceUnreachableError`` when the device cannot be reached or the connection breaks, and name the
    device's address.
    """

    address: str

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60.0,
        stdin: bytes | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
        parcel: Parcel = NOTHING,
    ) -> Completed:
        """Run a command to its end; what is in ``parcel`` is put in its place first, over the same connection.

        Arguments arrive exactly as given whatever characters they hold. stdout and stderr are separate and binary
        safe where the device can (an adb without ``shell_v2`` still separates them, by files). After ``timeout_s``
        in all the remote process and its children are killed, proved gone and ``CommandTimeoutError`` raised.
        With ``on_stdout`` chunks are handed over as they come (and ``Completed.stdout`` is empty).
        """
        ...

    def start(
        self,
        argv: Sequence[str],
        *,
        log: str,
        follower: Sequence[str],
        parcel: Parcel = NOTHING,
        idle_s: float | None = None,
    ) -> Iterator[bytes]:
        """Start a command that lives on when this process, the cable or the connection dies.

        All three of its standard streams are detached; stdout and stderr go to the file ``log`` on the device. What is
        in ``parcel`` is put in its place first, over the same connection. When this returns, the command has begun; if
        it cannot, an error is raised. What the command line ``follower`` prints is yielded as by ``follow``, again over
        that connection.
        """
        ...

    def push(self, local: Path, remote: str, *, mode: int = 0o644) -> None:
        """Copy a file to the device, atomically (a new name, then rename), and verify its SHA-256 there.

        Missing folders above it are made. ``DeviceRefusedError`` holds the device's own words (read-only, full).
        """
        ...

    def push_many(self, files: Sequence[tuple[Path, str, int]]) -> None:
        """Copy several files (local path, remote path, mode) with as few round trips as one, each as ``push`` does.

        All are verified before the first gets its final name.
        """
        ...

    def send(self, files: Sequence[tuple[Path, str, int]]) -> Parcel:
        """Copy files (local path, remote path, mode) to the device, not yet to their places.

        The next ``run`` or ``start`` that is given the parcel puts them there, as ``push_many`` does: all are verified
        before the first gets its final name, and nothing is run unless all have it.
        """
        ...

    def follow(
        self, remote: str, *, offset: int = 0, idle_s: float | None = None, follower: Sequence[str] | None = None
    ) -> Iterator[bytes]:
        """Yield what is appended to a file from ``offset`` on, over one held connection, with no polling from here.

        Yields ``b""`` when nothing came for ``idle_s`` seconds (so that the caller may look up), and ends when
        closed (which ends the remote process). The file need not exist yet.

        ``follower`` is a whole command line that prints the file's bytes from ``offset`` on, to be used instead of
        the device's ``tail``; when it ends with exit code 0, so does the iteration.
        """
        ...

    def reconnect(self, *, timeout_s: float = 60.0) -> None:
        """Make the way to this one device usable again after a drop; neighbours keep theirs.

        Harmless when nothing is broken. ``DeviceUnreachableError`` if the device is not back in time.
        """
        ...

    def close(self) -> None:
        """Release connections. Harmless when called twice."""
        ...


class TransportKind(Protocol):
    """A plug-in of transports: one kind of addresses, ``SCHEME:REST``.

    Attributes:
        SCHEME: the addresses' prefix, which is the plug-in's name.
    """

    SCHEME: str

    def connect(self, address: str) -> Transport:
        """The device at an address, connected.

        Raises:
            ConfigError: the address is none of this kind.
            DeviceUnreachableError: it does not answer.
            DeviceRefusedError: it answers and does not let us in.
        """
        ...

    def discover(self) -> tuple[Attached, ...]:
        """What is attached; raises a ``LabError`` if it cannot look (``NotInstalledError``: nothing can hang there)."""
        ...

    def listed_as(self, address: str) -> str | None:
        """The address that ``discover`` gives a device which is there; ``None`` if it lists no such device."""
        ...
