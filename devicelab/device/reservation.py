"""A device kept for a person for some time: who, until when and why lies on the device, so that everybody sees it.

It ends by itself. It keeps nights out and new work of others; what is at work already goes on, and whoever reserved it
works there from any command. The time is that of people's clocks: it is a promise, and no deadline of a measurement.
"""

import contextlib
import json
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from devicelab.device.facts import Device
from devicelab.device.probe import RESERVED
from devicelab.errors import ConfigError, DeviceBusyError
from devicelab.ground import budget, user
from devicelab.ground.safe_text import printable

LONGEST_S = 30 * 86_400.0
_SPAN = re.compile(r"(\d{1,5}(?:\.\d{1,3})?)\s*(min|m|h|d)")
_UNIT_S = {"m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_MAX_WORDS = 200
_MAX_BYTES = 8192
# mkdir either makes the folder or fails, for one of any number who try at once.
_TAKE_TURN = 'n=0; until mkdir "$1" 2>/dev/null || [ $n -ge 10 ]; do n=$((n+1)); sleep 0.5 || sleep 1; done'


@dataclass(frozen=True)
class Reservation:
    """Who keeps the device, until when (Unix time, seconds), and why."""

    who: str
    until_unix_s: float
    why: str = ""

    def words(self) -> str:
        """For a refusal, and for lists."""
        until = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.until_unix_s))
        return f"reserved by {self.who} until {until}{f': {self.why}' if self.why else ''}"


def span_s(text: str) -> float:
    """``90m``, ``2h``, ``1.5 h`` or ``3d`` in seconds.

    Raises:
        ConfigError: no such text, or longer than thirty days.
    """
    match = _SPAN.fullmatch(text.strip())
    seconds = float(match[1]) * _UNIT_S[match[2]] if match else 0.0
    if not 0 < seconds <= LONGEST_S:
        raise ConfigError(f"not a length of time: {text[:40]!r}", hint="write 90m, 2h or 3d, at most 30d")
    return seconds


def parse(text: str, now_unix_s: float) -> Reservation | None:
    """What the file on the device says; ``None``: nothing that lasts."""
    try:
        said = budget.loads(text.encode()[:_MAX_BYTES], 100)
        found = Reservation(_plain(said["who"]), float(said["until_unix_s"]), _plain(said["why"]))
    except (ValueError, KeyError, TypeError):
        return None
    return found if now_unix_s < found.until_unix_s <= now_unix_s + 2 * LONGEST_S else None


def of(device: Device) -> Reservation | None:
    """Who keeps the device now, asked of the device.

    Raises:
        DeviceUnreachableError: it does not answer.
    """
    said = device.transport.run(["cat", _file(device)]).stdout
    return parse(said.decode("utf-8", "replace"), time.time())


def me() -> str:
    """Who we are, as a reservation names people."""
    return user.holder().partition(" ")[0]


def against(found: Reservation | None, device: str) -> None:
    """Nothing, if the device may be used.

    Raises:
        DeviceBusyError: somebody else keeps it.
    """
    if found is not None and found.who != me():
        raise DeviceBusyError(
            found.words(), device=device, hint="ask them, wait, or take another; `devicelab devices` shows who has what"
        )


def reserve(device: Device, seconds: float, why: str) -> Reservation:
    """Keep the device for us for so long from now; our own reservation is replaced.

    Raises:
        DeviceBusyError: somebody else keeps it.
    """
    made = Reservation(_plain(me()), time.time() + seconds, _plain(why))
    with _turn(device), tempfile.TemporaryDirectory(prefix="devicelab-") as folder:
        against(of(device), device.facts.name)
        file = Path(folder) / RESERVED
        file.write_text(json.dumps(asdict(made)), encoding="utf-8")
        device.transport.push(file, _file(device))
        against(of(device), device.facts.name)
    return made


@contextlib.contextmanager
def _turn(device: Device) -> Iterator[None]:
    """One at a time: of two who reserve at once, one gets it. Who died with the turn is waited for a few seconds."""
    turn = f"{_file(device)}.turn"
    device.transport.run(["sh", "-c", _TAKE_TURN, "sh", turn])
    try:
        yield
    finally:
        device.transport.run(["rm", "-rf", turn])


def _plain(text: object) -> str:
    """Words that stand in one line of anybody's terminal."""
    return " ".join(printable(str(text))[:_MAX_WORDS].split())


def release(device: Device, *, force: bool = False) -> Reservation | None:
    """End a reservation early; the one there was.

    Raises:
        DeviceBusyError: it is somebody else's, and ``force`` is not given.
    """
    found = of(device)
    if not force:
        against(found, device.facts.name)
    device.transport.run(["rm", "-f", _file(device)])
    return found


def _file(device: Device) -> str:
    return f"{device.facts.dir}/{RESERVED}"
