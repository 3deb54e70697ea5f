"""What all transports share: commands, pushes and follows, said in terms of one command at a time on a device.

A transport says how a command is opened (``_open``); the rest is here, so that all behave alike.
"""

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from devicelab.errors import (
    CommandTimeoutError,
    ConfigError,
    DeviceRefusedError,
    DeviceUnreachableError,
    DistrustError,
    LabError,
)
from devicelab.ground.safe_text import spoken
from devicelab.transports import _scripts as scripts
from devicelab.transports._pace import SERVICE_TIMEOUT_S, Pace, transfer_timeout_s
from devicelab.transports._stream import ERR, EXIT, OUT, Running, Stream, chunks
from devicelab.transports.base import Completed

# What is kept of a command's output; whoever wants more takes it piece by piece.
MAX_OUTPUT_BYTES = 16 << 20
CHUNK_BYTES = 64 << 10
_KILL_TIMEOUT_S = 20.0
_FOLLOW_END_S = 2.0


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


class PosixTransport(ABC):
    """A device with a POSIX shell, reached by opening one command at a time.

    Args:
        address: as the user wrote it; named in every error.
    """

    scratch: ClassVar[str] = "/tmp"  # noqa: S108 - on the device; names there are random
    """A folder on the device that anybody may write to."""

    def __init__(self, address: str) -> None:
        self.address = address

    @abstractmethod
    def _open(
        self, argv: Sequence[str], token: str, *, stdin: Iterator[bytes] | None = None, hold_stdin: bool = False
    ) -> Stream:
        """Start a command in a session of its own, with its header line (see ``_scripts.HEADER``) first on stderr.

        Its stdin is what ``stdin`` yields and then ends, or stays open until ``Stream.end_input`` with ``hold_stdin``.

        Raises:
            DeviceUnreachableError: no connection.
        """

    def _bounded(self, command: bytes, limit: int) -> bytes:
        """The shell command itself, or if it is longer than ``limit``, one that runs it from a file on the device."""
        if len(command) <= limit:
            return command
        file = f"{self.scratch}/{scripts.new_name()}"
        text = b"rm -f %b\n%b\n" % (file.encode(), command)
        self._store(file, chunks(text), SERVICE_TIMEOUT_S)
        return b"exec sh %b" % file.encode()

    @abstractmethod
    def close(self) -> None:
        """Release connections. Harmless when called twice."""

    @abstractmethod
    def reconnect(self, *, timeout_s: float = 60.0) -> None:
        """See ``Transport.reconnect``."""

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60.0,
        stdin: bytes | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
    ) -> Completed:
        """See ``Transport.run``."""
        return self._run(argv, timeout_s, None if stdin is None else chunks(stdin), on_stdout)

    def _run(
        self,
        argv: Sequence[str],
        timeout_s: float = SERVICE_TIMEOUT_S,
        stdin: Iterator[bytes] | None = None,
        on_stdout: Callable[[bytes], None] | None = None,
        pace: Pace | None = None,
    ) -> Completed:
        """As ``run``; with ``pace`` it may last as long as what has come of it justifies, instead of ``timeout_s``."""
        ends = time.monotonic() + timeout_s

        def deadline() -> float:
            return ends if pace is None else pace.deadline

        with self._start_command(argv, stdin=stdin) as command:
            try:
                done = self._collect(command, deadline, on_stdout)
            except BaseException:
                # Ctrl-C, or the receiver of the output gave up: nobody is left to end the command.
                if not command.lost:
                    with suppress(LabError):
                        self._end(command)
                raise
            if done is not None:
                return done
            self._end(command)
        what = f"took longer than {timeout_s:g} s" if pace is None else "was too slow"
        raise CommandTimeoutError(f"{argv[0]} {what} and was ended with its children", device=self.address)

    def _collect(
        self, command: Running, deadline: Callable[[], float], on_stdout: Callable[[bytes], None] | None
    ) -> Completed | None:
        out, err = bytearray(), bytearray()
        while (left := deadline() - time.monotonic()) > 0 and (event := command.read(left)) is not None:
            kind, data = event
            if kind == EXIT:
                return Completed(data[0], bytes(out), bytes(err))
            if kind == OUT and on_stdout is not None:
                on_stdout(data)
                continue
            (out if kind == OUT else err).extend(data)
            if len(out) + len(err) > MAX_OUTPUT_BYTES:
                raise DistrustError(f"a command printed more than {MAX_OUTPUT_BYTES >> 20} MiB", device=self.address)
        return None

    def _start_command(
        self, argv: Sequence[str], *, stdin: Iterator[bytes] | None = None, hold_stdin: bool = False
    ) -> Running:
        token = scripts.new_token()
        words = scripts.checked_argv(argv, self.address)
        return Running(self._open(words, token, stdin=stdin, hold_stdin=hold_stdin), token)

    def _end(self, command: Running) -> None:
        """Kill a command with all its processes on the device, and prove them gone.

        Raises:
            DeviceUnreachableError: it cannot be told, or somebody is left.
        """
        command.close()
        leader = command.leader
        if leader is None:
            raise DeviceUnreachableError("the device's shell does not answer", device=self.address)
        start = "" if leader.start_ticks is None else str(leader.start_ticks)
        token = scripts.new_token()
        argv = scripts.script(scripts.KILL, str(leader.pid), start)
        with Running(self._open(argv, token), token) as killer:
            ends = time.monotonic() + _KILL_TIMEOUT_S
            done = self._collect(killer, lambda: ends, None)
        if done is None or done.exit_code != 0:
            left = done.stdout.decode(errors="replace").strip() if done is not None else str(leader.pid)
            raise DeviceUnreachableError(
                f"a command could not be ended; left on the device: {left}", device=self.address
            )

    def start(self, argv: Sequence[str], *, log: str) -> None:
        """See ``Transport.start``."""
        words = scripts.checked_argv(argv, self.address)
        self._check(self._run(scripts.script(scripts.START, self._path(log), *words)), f"cannot start {argv[0]}")

    def _check(self, done: Completed, what: str) -> None:
        if done.exit_code != 0:
            text = spoken(done.stderr.decode(errors="replace")) or f"exit code {done.exit_code}"
            raise DeviceRefusedError(f"{what}: {text}", device=self.address)

    def _path(self, remote: str) -> str:
        return scripts.plain_path(remote, self.address)

    def push(self, local: Path, remote: str, *, mode: int = 0o644) -> None:
        """See ``Transport.push``."""
        self.push_many([(local, remote, mode)])

    def push_many(self, files: Sequence[tuple[Path, str, int]]) -> None:
        """See ``Transport.push_many``."""
        if not files:
            return
        sent = [(local, _beside(self._path(remote))) for local, remote, _ in files]
        try:
            arrived = self._upload(sent)
            groups = [
                (part, self._path(remote), what.sha256, f"{mode:04o}")
                for (_, part), (_, remote, mode), what in zip(sent, files, arrived, strict=True)
            ]
            self._place(groups, sum(what.size for what in arrived))
        except LabError as error:
            if not isinstance(error, DeviceUnreachableError):
                with suppress(LabError):
                    self._run(scripts.script(scripts.FORGET, *(part for _, part in sent)))
            raise

    def _place(self, groups: list[tuple[str, str, str, str]], size: int) -> None:
        words = (word for group in groups for word in group)
        done = self._run(scripts.script(scripts.PLACE, *words), transfer_timeout_s(size))
        if done.exit_code == scripts.NO_DIGEST:
            # No sha256sum on this device: what arrived is read back and compared here.
            for part, remote, digest, _ in groups:
                if self._read_back(part, remote, size) != digest:
                    raise self._damaged(remote)
            unchecked = [(part, remote, "", mode) for part, remote, _, mode in groups]
            done = self._run(scripts.script(scripts.PLACE, *(word for group in unchecked for word in group)))
        if done.exit_code == scripts.MISMATCH:
            raise self._damaged(done.stdout.decode(errors="replace").strip())
        self._check(done, "cannot put a file in its place")

    def _read_back(self, part: str, remote: str, most: int) -> str:
        digest, left = hashlib.sha256(), most

        def take(data: bytes) -> None:
            nonlocal left
            left -= len(data)
            if left < 0:
                raise self._damaged(remote)
            digest.update(data)

        done = self._run(scripts.script(scripts.SEND, part), transfer_timeout_s(most), on_stdout=take)
        self._check(done, f"cannot read {part}")
        return digest.hexdigest()

    def follow(
        self, remote: str, *, offset: int = 0, idle_s: float | None = None, follower: Sequence[str] | None = None
    ) -> Iterator[bytes]:
        """See ``Transport.follow``."""
        path = self._path(remote)
        if follower is None:
            argv = scripts.script(scripts.FOLLOW, path, "tail", "-c", f"+{offset + 1}", "-f", path)
        else:
            argv = scripts.script(scripts.FOLLOW, "", *follower)
        said = b""
        with self._start_command(argv, hold_stdin=True) as command:
            try:
                handed = time.monotonic()
                while (event := command.read(idle_s)) is None or event[0] != EXIT:
                    if event is not None and event[0] == ERR:
                        said = (said + event[1])[-4096:]
                    if event is not None and event[0] == OUT:
                        yield event[1]
                    elif event is None or (idle_s is not None and time.monotonic() - handed >= idle_s):
                        yield b""  # also while complaints come without end: the caller may look up
                    else:
                        continue
                    handed = time.monotonic()
            except DeviceUnreachableError:
                raise
            except BaseException:
                # GeneratorExit is how a caller ends a follow; a device lost meanwhile does not hide the reason.
                with suppress(DeviceUnreachableError):
                    self._finish(command)
                raise
        if follower is not None and event[1][0] == 0:
            return
        text = said.decode(errors="replace").strip() or f"exit code {event[1][0]}"
        raise DeviceRefusedError(f"cannot follow {remote}: {text}", device=self.address)

    def _damaged(self, remote: str) -> DeviceUnreachableError:
        message = f"{remote} arrived damaged (SHA-256 differs), or changed meanwhile"
        return DeviceUnreachableError(message, device=self.address, hint="try again; if it stays, change the cable")

    def _finish(self, command: Running) -> None:
        """End a command that ends with its input, and prove it gone."""
        try:
            gone = command.finish(_FOLLOW_END_S)
        except DeviceUnreachableError:
            return  # Its input has ended with the connection.
        if not gone:
            self._end(command)

    def _upload(self, files: Sequence[tuple[Path, str]]) -> list[Sent]:
        """Write files to the device, with missing folders above them."""
        sources = [(Source(local, self.address), remote) for local, remote in files]
        for source, remote in sources:
            self._store(remote, source.chunks(), transfer_timeout_s(source.size))
        return [source.sent() for source, _ in sources]

    def _store(self, remote: str, data: Iterator[bytes], timeout_s: float) -> None:
        """Write one file to the device."""
        self._check(self._run(scripts.script(scripts.RECEIVE, remote), timeout_s, data), f"cannot write {remote}")


def _beside(remote: str) -> str:
    """A new name in the same folder."""
    folder, slash, _ = remote.rpartition("/")
    return f"{folder}{slash}{scripts.new_name()}"
