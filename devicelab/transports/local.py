"""This machine as a device: ``local:``."""

import os
import selectors
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO, cast

from devicelab.errors import ConfigError
from devicelab.transports._posix import PosixTransport
from devicelab.transports._scripts import EXEC
from devicelab.transports._stream import ERR, EXIT, OUT, Event, Stream
from devicelab.transports.base import Attached, Transport

SCHEME = "local"

_READ_BYTES = 256 << 10


def connect(address: str) -> Transport:
    """This machine.

    Raises:
        ConfigError: the address is not ``local:``.
    """
    if address != "local:":
        raise ConfigError(f"not an address of this machine: {address!r}", hint="write local:")
    return LocalTransport(address)


def discover() -> tuple[Attached, ...]:
    """This machine, always."""
    return (Attached("local:", "device"),)


def listed_as(_address: str) -> str | None:
    """This machine has one address, which may be several devices of a lab (each with a folder of its own)."""
    return None


class LocalTransport(PosixTransport):
    """This machine; every command is a child process in a session of its own."""

    def _open(
        self, argv: Sequence[str], token: str, *, stdin: Iterator[bytes] | None = None, hold_stdin: bool = False
    ) -> Stream:
        try:
            return _ChildStream(["/bin/sh", "-c", EXEC, "sh", token, *argv], stdin, hold_stdin=hold_stdin)
        except OSError as error:  # the argv is longer than the kernel takes, or no more processes
            raise ConfigError(f"cannot start {argv[0]}: {error.strerror}", device=self.address) from error

    def reconnect(self, *, timeout_s: float = 60.0) -> None:
        """Nothing can be lost."""

    def close(self) -> None:
        """Nothing is held."""


class _ChildStream:
    """A child process: its pipes through one selector."""

    def __init__(self, argv: Sequence[str], stdin: Iterator[bytes] | None, *, hold_stdin: bool) -> None:
        self._child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL if stdin is None and not hold_stdin else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._selector = selectors.DefaultSelector()
        self._input = stdin
        self._chunk = memoryview(b"")
        for pipe, kind in ((self._child.stdout, OUT), (self._child.stderr, ERR)):
            self._selector.register(cast("IO[bytes]", pipe), selectors.EVENT_READ, kind)
        if stdin is not None and self._child.stdin is not None:
            os.set_blocking(self._child.stdin.fileno(), False)
            self._selector.register(self._child.stdin, selectors.EVENT_WRITE)
        self._pidfd = os.pidfd_open(self._child.pid)
        self._selector.register(self._pidfd, selectors.EVENT_READ, EXIT)
        # Both outputs at their end and the child dead: then it is over.
        self._awaited = 3

    def read(self, timeout_s: float | None) -> Event | None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self._awaited:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = self._selector.select(left)
            if not ready:
                return None
            for key, _ in ready:
                if key.data is None:
                    self._feed()
                elif key.data != EXIT and (data := os.read(key.fd, _READ_BYTES)):
                    return key.data, data
                else:
                    self._selector.unregister(key.fileobj)
                    self._awaited -= 1
        code = self._child.wait()
        return EXIT, bytes([code if code >= 0 else 128 - code])

    def _feed(self) -> None:
        pipe = cast("IO[bytes]", self._child.stdin)
        try:
            if not self._chunk:
                self._chunk = memoryview(next(cast("Iterator[bytes]", self._input)))
            written = pipe.write(self._chunk)
            self._chunk = self._chunk[written or 0 :]
        except (StopIteration, BrokenPipeError):
            self._selector.unregister(pipe)
            self.end_input()

    def end_input(self) -> None:
        if self._child.stdin is not None:
            with suppress(BrokenPipeError):
                self._child.stdin.close()

    def close(self) -> None:
        if self._pidfd < 0:
            self._child.poll()  # ended meanwhile, and to be reaped
            return
        self._selector.close()
        os.close(self._pidfd)
        self._pidfd = -1
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._child.poll()
