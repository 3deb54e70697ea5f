"""Command lines as they are typed, performed in this process: most of what a process of their own costs is imports."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Protocol

import pytest

from devicelab import cli


class Typed(Protocol):
    """``devicelab WORDS``: exit code, output and error text as the command line gives them."""

    def __call__(self, *words: str) -> "subprocess.CompletedProcess[str]": ...


@contextlib.contextmanager
def as_it_was() -> Iterator[None]:
    """What a command changes of the whole process is put back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers, hook = [signal.getsignal(number) for number in numbers], sys.unraisablehook
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)


def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Body of the fixture ``typed``."""

    def call(*words: str) -> "subprocess.CompletedProcess[str]":
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["devicelab", *words])
        with as_it_was(), pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(words, int(end.value.code or 0), said.out, said.err)

    return call
