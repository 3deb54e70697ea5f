"""Standard streams that stay usable whoever started us: closed, full, in another encoding, or with nobody reading."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from devicelab.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PIPE_CLOSED = 141
"""Exit code when nobody reads stdout any more: what a shell shows for a program that SIGPIPE ended."""


class _Stdout(io.FileIO):
    """Ends the command where its result cannot be written: at the first write that fails, whoever writes."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            _discard(self.fileno())  # what is still buffered must not fail once more at the very end
            if error.errno == errno.EPIPE:
                raise SystemExit(PIPE_CLOSED) from None
            raise ConfigError(f"cannot write to stdout: {error.strerror}") from error


class _Stderr(io.FileIO):
    """What is said for people may get lost; no measurement ends because of it."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError:
            _discard(self.fileno())
            return memoryview(data).nbytes


def _discard(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _fill_gaps() -> None:
    """Descriptors 0 to 2 are open, so that no file of ours becomes somebody's standard output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


@contextmanager
def dependable() -> Iterator[None]:
    """Within it ``sys.stdout`` and ``sys.stderr`` can be written to; those that a test has put there are left alone."""
    before = sys.stdout, sys.stderr
    _fill_gaps()
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Stdout(1, "wb", closefd=False), before[0])
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Stderr(2, "wb", closefd=False), before[1])
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(ConfigError, SystemExit):
                stream.flush()
        sys.stdout, sys.stderr = before


def _text(raw: io.FileIO, before: object) -> io.TextIOWrapper:
    encoding = getattr(before, "encoding", None) or "utf-8"
    lines = getattr(before, "line_buffering", True)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=bool(lines)
    )
