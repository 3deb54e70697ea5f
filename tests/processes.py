"""Signals to processes that may end by themselves between being found and being signalled."""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator

import psutil


def kill_all(pids: Iterable[int]) -> None:
    """SIGKILL to each that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def standing_still(processes: Iterable[psutil.Process]) -> Iterator[list[psutil.Process]]:
    """Those that are still there are stopped (SIGSTOP) inside, and go on afterwards."""
    stopped = []
    try:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
                stopped.append(process)
        yield stopped
    finally:
        for process in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
