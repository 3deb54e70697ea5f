"""USB as it is: a hub that loses power ends many boards at once; that is one event, and they come back one by one.

Which port a board hangs on is read from ``/sys/bus/usb/devices`` (Documentation/ABI/stable/sysfs-bus-usb): the folder
``1-2.3`` is port 3 of the hub ``1-2``, ``1-2`` port 2 of the root hub ``1``. Those are the names that uhubctl takes
(https://github.com/mvp/uhubctl, ``-l`` and ``-p``); it switches only hubs that switch each port for itself, unless it
is forced, which it never is here: neighbours are left alone.
"""

import contextlib
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devicelab.device.plugged import SYS_USB
from devicelab.ground.safe_text import spoken

_PORT = re.compile(r"(\d{1,3}(?:-\d{1,3}(?:\.\d{1,3})*)?)[-.](\d{1,3})")
_SWITCH_S = 30.0
# How long a port stays without power.
_OFF_S = 2
_SERIAL_BYTES = 128


@dataclass(frozen=True)
class Port:
    """Where a board hangs: the hub as uhubctl names it, and the port's number."""

    hub: str
    number: int

    def __str__(self) -> str:
        return f"port {self.number} of USB hub {self.hub}"


def port_of(name: str) -> Port | None:
    """The port that a folder of sysfs stands for; ``None`` for root hubs and interfaces (``1-2:1.0``)."""
    match = _PORT.fullmatch(name)
    return Port(match[1], int(match[2])) if match else None


def ports(top: Path = SYS_USB) -> dict[str, Port]:
    """Serial number → port of everything attached now that has a serial number; two with one number: neither."""
    found: dict[str, Port] = {}
    twice: set[str] = set()
    for path in sorted(top.glob("*/serial")):
        port = port_of(path.parent.name)
        serial = ""
        with contextlib.suppress(OSError), path.open("rb") as file:
            serial = file.read(_SERIAL_BYTES).decode("utf-8", "replace").strip()
        if port is None or not serial:
            continue
        if serial in found:
            twice.add(serial)
        found[serial] = port
    return {serial: port for serial, port in found.items() if serial not in twice}


class Hubs:
    """What hung where when it was last seen, and which hubs lost power.

    Args:
        top: of sysfs.
        uhubctl: the program; ``None``: the one in PATH.
    """

    def __init__(self, top: Path = SYS_USB, uhubctl: str | None = None) -> None:
        self._top, self._uhubctl = top, uhubctl
        self._seen: dict[str, Port] = {}
        self._turns: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def saw(self) -> None:
        """Remember where everything hangs now."""
        found = ports(self._top)
        with self._lock:
            self._seen |= found

    def port(self, serial: str) -> Port | None:
        """Where the board hung when it was last seen."""
        with self._lock:
            return self._seen.get(serial)

    def lost_with(self, serial: str) -> tuple[str, ...]:
        """Who is gone with a board that is gone, itself apart, if its hub lost power: all that hung there are gone."""
        port = self.port(serial)
        now = ports(self._top)
        if port is None or serial in now:
            return ()
        with self._lock:
            others = tuple(sorted(name for name, seen in self._seen.items() if seen.hub == port.hub and name != serial))
        return () if any(name in now for name in others) else others

    def words(self, serial: str) -> str:
        """What happened to a board that is gone, for people; empty: USB says nothing of it."""
        port, others = self.port(serial), self.lost_with(serial)
        if port is None or serial in ports(self._top):
            return ""
        if not others:
            return f"gone from {port}"
        return f"USB hub {port.hub} lost power or was pulled: with it went {', '.join(others)}"

    def replug(self, serial: str) -> str:
        """Take the power from the board's own port for a moment; what was done, or why not, for people."""
        port = self.port(serial)
        program = self._uhubctl or shutil.which("uhubctl")
        if port is None:
            return "not re-plugged: nobody saw its port"
        if program is None:
            return "not re-plugged: uhubctl is not installed"
        argv = [program, "-l", port.hub, "-p", str(port.number), "-a", "cycle", "-d", str(_OFF_S)]
        try:
            with self.turn(serial):
                done = subprocess.run(argv, capture_output=True, timeout=_SWITCH_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"not re-plugged: uhubctl: {type(error).__name__}"
        if done.returncode != 0:
            return f"not re-plugged: {spoken((done.stderr or done.stdout).decode('utf-8', 'replace'))[:120]}"
        return f"re-plugged at {port}"

    @contextlib.contextmanager
    def turn(self, serial: str) -> Iterator[None]:
        """One board of a hub at a time: when the power is back, all of them would want to be opened at once."""
        port = self.port(serial)
        if port is None:
            yield
            return
        with self._lock:
            turn = self._turns.setdefault(port.hub, threading.Lock())
        with turn:
            yield


OF_THIS_HOST = Hubs()
"""What all tasks of this process know of its hubs."""


def serial_of(address: str) -> str:
    """The serial number of a board that hangs on this computer; empty: it is reached otherwise."""
    scheme, _, rest = address.partition(":")
    return rest if scheme == "adb" and "@" not in rest and not rest.startswith("usb:") and ":" not in rest else ""
