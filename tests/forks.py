"""The command line as a process of its own, forked with everything imported: imports are most of what a start costs."""

import atexit
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import alembic.command

from devicelab import analyses, cli, report
from devicelab.jobs import load, pin, sweep

# Imported so that forked commands find them.
_WARM = (alembic.command, analyses, load, pin, report, sweep)


def become(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """In a forked process: what the interpreter would have given the command line, with streams on 1 and 2."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        signal.signal(number, handler)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", buffering=1) for number in (1, 2))
    sys.argv = ["devicelab", *words]
    warnings.resetwarnings()
    os.environ.update(environment)


def start(
    *words: str,
    cwd: Path,
    environment: Mapping[str, str],
    said: "int | IO[bytes]" = subprocess.PIPE,
    session: bool = False,
) -> "subprocess.Popen[str]":
    """``devicelab WORDS``: a process with pipes, signals and an end like any other.

    Args:
        words: of the command line.
        cwd: where it works.
        environment: variables beside those of this process.
        said: where output and error text go: two pipes, or a file for both.
        session: of its own, so that no signal of a terminal reaches it.
    """

    def perform() -> None:
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # as an exec would; the starter waits for one of them
        become(words, environment)
        atexit._clear()
        code: object = 1
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        finally:
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code if isinstance(code, int) else 0 if code is None else 1)

    return subprocess.Popen(
        [sys.executable], preexec_fn=perform,  # noqa: PLW1509 - nothing else here holds a lock when tests start a command
        stdout=said, stderr=said, text=True, cwd=cwd, start_new_session=session,
    )  # fmt: skip
