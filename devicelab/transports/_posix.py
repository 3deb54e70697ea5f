"""What all transports share: commands, pushes and follows, said in terms of one command at a time on a device.

A transport says how a command is opened (``_open``); the rest is here, so that all behave alike.
"""

import hashlib
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from devicelab.errors import (
    CommandTimeoutError,
    DeviceRefusedError,
    DeviceUnreachableError,
    DistrustError,
    LabError,
)
from devicelab.ground.safe_text import spoken
from devicelab.transports import _scripts as scripts
from devicelab.transports._pace import SERVICE_TIMEOUT_S, Pace, transfer_timeout_s
from devicelab.transports._source import Sent, Source
from devicelab.transports._stream import ERR, EXIT, MAX_OUTPUT_BYTES, OUT, Behind, Running, Stream, chunks
from devicelab.transports.base import NOTHING, Completed, Parcel

_KILL_TIMEOUT_S = 20.0
_FOLLOW_END_S = 2.0
_MAX_SAID = 4096


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
        parcel: Parcel = NOTHING,
    ) -> Completed:
        """See ``Transport.run``."""
        if not parcel.files:
            return self._run(argv, timeout_s, None if stdin is None else chunks(stdin), on_stdout)
        words = scripts.checked_argv(argv, self.address)
        done = Completed(0, b"", b"")

        def attempt(placing: str) -> Completed | None:
            nonlocal done
            behind = Behind(self.address, on_stdout)
            given = None if stdin is None else chunks(stdin)
            patience_s = timeout_s + transfer_timeout_s(parcel.size)
            done = self._run(scripts.script(scripts.AFTER, placing, *words), patience_s, given, behind.take)
            if not behind.begun:
                return replace(done, stdout=bytes(behind.before))
            done = replace(done, stdout=bytes(behind.own))
            return None

        self._unpack(parcel, attempt, "cannot put a file in its place")
        return done

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

    def start(
        self,
        argv: Sequence[str],
        *,
        log: str,
        follower: Sequence[str],
        parcel: Parcel = NOTHING,
        idle_s: float | None = None,
    ) -> Iterator[bytes]:
        """See ``Transport.start``."""
        words = scripts.checked_argv(argv, self.address)
        starting = shlex.join(scripts.script(scripts.START, self._path(log), *words))
        watcher = scripts.checked_argv(follower, self.address)
        patience_s = transfer_timeout_s(parcel.size)
        begun: list[tuple[Running, bytes]] = []

        def attempt(placing: str) -> Completed | None:
            first = f"{placing} && {starting}" if placing else starting
            command = self._start_command(scripts.script(scripts.AFTER_FOLLOW, first, "", *watcher), hold_stdin=True)
            answer = self._await_begin(command, patience_s)
            if isinstance(answer, Completed):
                return answer
            begun.append((command, answer))
            return None

        self._unpack(parcel, attempt, f"cannot start {argv[0]}")
        command, own = begun[0]
        follow = self._follow(command, (b"", own) if own else (b"",), f"what {argv[0]} writes", idle_s, ends=True)
        next(follow)  # from here on it lets go of the command when it is closed
        return follow

    def _await_begin(self, command: Running, timeout_s: float) -> Completed | bytes:
        """How a command that was to begin after others failed; if it has begun, the first of its output."""
        try:
            answer = self._answer(command, time.monotonic() + timeout_s)
        except BaseException:
            if not command.lost:
                with suppress(LabError):
                    self._end(command)
            command.close()
            raise
        if answer is None:
            self._end(command)
            raise CommandTimeoutError("a program did not start in time and was ended", device=self.address)
        return answer

    def _answer(self, command: Running, ends: float) -> Completed | bytes | None:
        behind, said = Behind(self.address), b""
        while (left := ends - time.monotonic()) > 0 and (event := command.read(left)) is not None:
            kind, data = event
            if kind == EXIT:
                command.close()
                return Completed(data[0], bytes(behind.before), said)
            if kind == ERR:
                said = (said + data)[-_MAX_SAID:]
                continue
            behind.take(data)
            if behind.begun:
                return bytes(behind.own)
        return None

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
        if files:
            self.run(("sh", "-c", ":"), parcel=self.send(files))

    def send(self, files: Sequence[tuple[Path, str, int]]) -> Parcel:
        """See ``Transport.send``."""
        if not files:
            return NOTHING
        parts = [(local, _beside(self._path(remote))) for local, remote, _ in files]
        try:
            arrived = self._upload(parts)
        except LabError as error:
            self._forget((part for _, part in parts), error)
            raise
        return Parcel(
            tuple(
                (part, self._path(remote), what.sha256, f"{mode:04o}")
                for (_, part), (_, remote, mode), what in zip(parts, files, arrived, strict=True)
            ),
            sum(what.size for what in arrived),
        )

    def _forget(self, parts: Iterable[str], error: LabError) -> None:
        """After an error: remove what arrived, where the device can still be reached."""
        if not isinstance(error, DeviceUnreachableError):
            with suppress(LabError):
                self._run(scripts.script(scripts.FORGET, *parts))

    def _unpack(self, parcel: Parcel, attempt: Callable[[str], Completed | None], what: str) -> None:
        """Have ``attempt`` run a command line that puts files in their places, and go on.

        It returns how the command line failed. ``what`` cannot be done then.
        """
        try:
            failed = attempt(_placing(parcel.files))
            if parcel.files and failed is not None and failed.exit_code == scripts.NO_DIGEST:
                # No sha256sum on this device: what arrived is read back and compared here.
                for part, remote, digest, _ in parcel.files:
                    if self._read_back(part, remote, parcel.size) != digest:
                        raise self._damaged(remote)
                failed = attempt(_placing((part, remote, "", mode) for part, remote, _, mode in parcel.files))
            if failed is not None and failed.exit_code == scripts.MISMATCH:
                raise self._damaged(failed.stdout.decode(errors="replace").strip())
            if failed is not None:
                self._check(failed, what)
        except LabError as error:
            if parcel.files:
                self._forget((part for part, *_ in parcel.files), error)
            raise

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
        command = self._start_command(argv, hold_stdin=True)
        yield from self._follow(command, (), remote, idle_s, ends=follower is not None)

    def _follow(
        self, running: Running, first: Sequence[bytes], what: str, idle_s: float | None, *, ends: bool
    ) -> Iterator[bytes]:
        """``first`` and what a follower prints after it; it may end with exit code 0 if ``ends``."""
        said = b""
        with running as command:
            try:
                yield from first
                handed = time.monotonic()
                while (event := command.read(idle_s)) is None or event[0] != EXIT:
                    if event is not None and event[0] == ERR:
                        said = (said + event[1])[-_MAX_SAID:]
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
        if ends and event[1][0] == 0:
            return
        text = said.decode(errors="replace").strip() or f"exit code {event[1][0]}"
        raise DeviceRefusedError(f"cannot follow {what}: {text}", device=self.address)

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


def _placing(files: Iterable[tuple[str, str, str, str]]) -> str:
    """The command line that puts files in their places; empty without any."""
    words = [word for file in files for word in file]
    return shlex.join(scripts.script(scripts.PLACE, *words)) if words else ""
