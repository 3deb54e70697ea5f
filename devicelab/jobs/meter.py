"""The external meter of a device: lab.toml's command, run on this host for as long as a campaign."""

import contextlib
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence

from devicelab.errors import ConfigError
from devicelab.experiment.energy import external
from devicelab.model.journal import RunRecord

# An hour at a kilohertz; runs that are longer ago are stored.
_MOST = 4_000_000
_LONGEST_LINE = 4096
_END_S = 5.0


class Meter:
    """Readings as they come."""

    def __init__(self, *, there: bool = False) -> None:
        self._there = there
        self._rows: deque[tuple[float, int, float]] = deque(maxlen=_MOST)

    def take(self, line: str, arrived_ns: int) -> None:
        """One more line of the command, at that time of this host's clock (Unix ns)."""
        if (found := external.parse(line)) is not None:
            self._rows.append((found[0], arrived_ns, found[1]))

    def around(self, record: RunRecord) -> tuple[tuple[int, float], ...] | None:
        """Readings on the device's monotonic clock, as near as the two wall clocks agree; ``None`` without a meter.

        What a buffer delays arrives in a heap: the meter's own times say how far apart readings are, and the least
        delay seen says when they were.
        """
        rows = list(self._rows)
        if not rows:
            return () if self._there else None
        ahead_ns = min(arrived - round(seconds * 1e9) for seconds, arrived, _ in rows)
        offset_ns = ahead_ns - (record.t_unix_ns - record.t_start_ns)
        return tuple((round(seconds * 1e9) + offset_ns, watts) for seconds, _, watts in rows)


@contextlib.contextmanager
def running(command: Sequence[str], device: str) -> Iterator[Meter]:
    """Start the command, read it in the background, end it at the end (TERM, then KILL); only this process.

    Raises:
        ConfigError: it cannot be started.
    """
    meter = Meter(there=bool(command))
    if not command:
        yield meter
        return
    try:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            errors="replace", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        hint = "lab.toml: meter is a command that prints `seconds, watts`"
        raise ConfigError(f"the meter does not start: {error}", device=device, hint=hint) from error

    def follow() -> None:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        while line := process.stdout.readline(_LONGEST_LINE):
            meter.take(line, time.time_ns())

    reader = threading.Thread(target=follow, name="devicelab-meter", daemon=True)
    reader.start()
    try:
        yield meter
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(_END_S)
        if process.stdout is not None:
            process.stdout.close()
