"""How a host of a farm is: its clock, its disks, its USB hubs, its adb server; each with what to do.

Looks are stored like looks at devices, under ``host:NAME``.
"""

import ctypes
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from devicelab.device.lab import load_lab
from devicelab.errors import LabError
from devicelab.farm import hubs
from devicelab.ground import registry
from devicelab.model.night import Health
from devicelab.store import Store
from devicelab.transports.adb import server as adb_server

_LOW_FREE = 0.05
_LOW_FREE_BYTES = 1 << 30
# struct timex of <sys/timex.h> on Linux: modes, then longs; status is the fifth. STA_UNSYNC is its bit 0x40.
_TIMEX_BYTES = 256
_STA_UNSYNC = 0x0040
_TIME_ERROR = 5
PREFIX = "host:"


@dataclass(frozen=True)
class Sign:
    """One thing that was looked at.

    Attributes:
        what: clock, disk, usb or adb.
        found: how it is.
        todo: what a person should do; empty: all is well.
    """

    what: str
    found: str
    todo: str = ""


def clock_sign(unsynchronised: bool | None) -> Sign:
    """The clock, by what the kernel says of it (``None``: nothing)."""
    if unsynchronised is None:
        return Sign("clock", "the kernel does not say whether it is synchronised")
    if unsynchronised:
        return Sign("clock", "not synchronised", "switch on systemd-timesyncd or chrony: nights begin by this clock")
    return Sign("clock", "synchronised")


def kernel_clock() -> bool | None:
    """Whether the kernel's clock is not synchronised (adjtimex(2)); ``None``: it cannot be asked."""
    try:
        buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
        state = ctypes.CDLL(None).adjtimex(buffer)
        long = ctypes.sizeof(ctypes.c_long)
        status = ctypes.c_int.from_buffer(buffer, 5 * long).value  # modes is padded to a long, then four longs
    except (OSError, AttributeError, ValueError):
        return None
    return None if state < 0 else state == _TIME_ERROR or bool(status & _STA_UNSYNC)


def disk_signs(places: Mapping[str, Path], usage: Callable[[Path], tuple[int, int]]) -> Iterable[Sign]:
    """Each disk that something of ours lies on: little room is said before it is none.

    Args:
        places: what lies there → where.
        usage: total and free bytes of the disk of a folder.
    """
    for what, wanted in places.items():
        place = next(folder for folder in (wanted, *wanted.parents) if folder.exists())
        total, free = usage(place)
        low = free < min(_LOW_FREE * total, _LOW_FREE_BYTES * 10) or free < _LOW_FREE_BYTES
        todo = f"free space on the disk of {place}" if low else ""
        yield Sign("disk", f"{what}: {free / 1e9:.1f} of {total / 1e9:.1f} GB free", todo)


def usb_sign(expected: Mapping[str, hubs.Port], now: Mapping[str, hubs.Port]) -> Sign:
    """Boards that hung here at the last look and do not now; those of a hub that is without all of them are one."""
    gone: dict[str, list[str]] = {}
    for serial, port in expected.items():
        if serial not in now:
            gone.setdefault(port.hub, []).append(serial)
    here = {port.hub for port in now.values()}
    if not gone:
        return Sign("usb", f"{len(now)} devices with a serial number on {len(here)} hubs")
    found, todo = [], "look at cables"
    for hub, serials in sorted(gone.items()):
        whole = hub not in here and len(serials) > 1
        found.append(f"hub {hub} with all its boards: {', '.join(sorted(serials))}" if whole else ", ".join(serials))
        todo = f"look at the power of hub {hub}; `uhubctl -l {hub} -a cycle` where it can" if whole else todo
    return Sign("usb", f"gone since the last look: {'; '.join(found)}", todo)


def adb_sign(ask: Callable[[], str]) -> Sign:
    """The adb server, if one has to be there; it is never restarted: other people have sessions there."""
    try:
        return Sign("adb", ask())
    except LabError as error:
        return Sign("adb", error.message, error.hint or "start it: adb start-server")


def _asked_server() -> str:
    found = adb_server.named("", "adb server")
    began = time.monotonic()
    version = found.ask("host:version", "adb server")
    return f"server {version[:8]} at {found.host}:{found.port} answers in {(time.monotonic() - began) * 1e3:.0f} ms"


def _usage(place: Path) -> tuple[int, int]:
    found = shutil.disk_usage(place)
    return found.total, found.free


def look(before: Health | None, *, adb: bool, night: str | None = None) -> Health:
    """A look at this host.

    Args:
        before: the last one, which says what hung on its hubs.
        adb: boards are reached over this host's adb server.
        night: for which it is looked at.
    """
    known = {} if before is None else _ports_in(before.facts)
    hubs.OF_THIS_HOST.saw()
    now = hubs.ports()
    places = {"cache": registry.cache_dir(), "temporary files": Path(tempfile.gettempdir())}
    signs = [clock_sign(kernel_clock()), *disk_signs(places, _usage), usb_sign(known, now)]
    signs += [adb_sign(_asked_server)] if adb else []
    return as_health(platform.node(), signs, now, night)


def look_again(store: Store, night: str | None = None) -> Health:
    """A look at this host, compared with the last one that is stored.

    Raises:
        StoreError: the results database fails.
    """
    before = next(iter(store.health(device=f"{PREFIX}{platform.node()}", limit=1)), None)
    adb = any(entry.address.startswith("adb:") and "@" not in entry.address for entry in load_lab().devices.values())
    return look(before, adb=adb, night=night)


def as_health(host: str, signs: Iterable[Sign], now: Mapping[str, hubs.Port], night: str | None) -> Health:
    """The signs as they are stored: what needs a person are the reasons, where boards hang are facts."""
    signs = tuple(signs)
    return Health(
        device=f"{PREFIX}{host}",
        night=night,
        phase="before" if night is not None else "asked",
        ok=not any(sign.todo for sign in signs),
        reasons=tuple(f"{sign.what}: {sign.found} → {sign.todo}" for sign in signs if sign.todo),
        facts={f"{sign.what} {n}": sign.found for n, sign in enumerate(signs) if not sign.todo}
        | {f"port {serial}": f"{port.hub} {port.number}" for serial, port in sorted(now.items())},
        at_unix_ns=time.time_ns(),
    )


def _ports_in(facts: Mapping[str, str]) -> dict[str, hubs.Port]:
    found = {}
    for name, text in facts.items():
        hub, _, number = text.rpartition(" ")
        if name.startswith("port ") and number.isdigit():
            found[name.removeprefix("port ")] = hubs.Port(hub, int(number))
    return found
