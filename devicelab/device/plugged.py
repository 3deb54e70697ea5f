"""Phones on this computer's USB that adb does not list, and what each still needs.

Read from ``/sys/bus/usb/devices``: the kernel's own view, which needs neither adb nor permissions. An adb interface has
class ff, subclass 42, protocol 01 (``ADB_CLASS``, ``ADB_SUBCLASS``, ``ADB_PROTOCOL`` in Android's ``adb/adb.h``); file
transfer (MTP and PTP) has class 06.
"""

import os
from dataclasses import dataclass
from pathlib import Path

SYS_USB = Path("/sys/bus/usb/devices")
DEV_USB = Path("/dev/bus/usb")

_DEBUGGING = "Settings → About phone → tap Build number seven times, then Settings → Developer options → USB debugging"
NONE = f"no phone is on this computer's USB: plug it in, and switch USB debugging on ({_DEBUGGING})"
"""What to do where nothing that could be a phone is seen."""

_ADB = ("ff", "42", "01")
_PICTURES = "06"
_MAKERS = frozenset(
    (
        *("04e8", "05c6", "0bb4", "0e8d", "0fce", "1004", "12d1", "18d1", "19d2", "2207", "22b8"),
        *("22d9", "2717", "2a45", "2a70", "2ae5", "2d95", "1bbb", "1949", "0b05", "17ef", "2916"),
    )
)
"""USB vendors of Android's udev list (Samsung, Qualcomm, HTC, MediaTek, Sony, LG, Huawei, Google, ...)."""


@dataclass(frozen=True)
class Plugged:
    """A phone as USB shows it.

    Attributes:
        what: maker's and product's name, or their numbers.
        serial: as adb would call it; ``None`` if the phone does not say.
        debugging: it offers adb.
        may_open: this user may talk to it.
    """

    what: str
    serial: str | None
    debugging: bool
    may_open: bool

    @property
    def todo(self) -> str | None:
        """What stands between the phone and adb; ``None`` if nothing that USB could tell."""
        if not self.debugging:
            return f"{self.what} is plugged in, but USB debugging is off: {_DEBUGGING}"
        if not self.may_open:
            return (
                f"{self.what} is plugged in with USB debugging, but this user may not open it: a udev rule is missing "
                "(docs/howto/labs.md)"
            )
        return None


def phones(sys_usb: Path = SYS_USB, dev_usb: Path = DEV_USB) -> tuple[Plugged, ...]:
    """Every phone on USB, whether adb lists it or not; empty where there is no USB."""
    try:
        folders = sorted(path for path in sys_usb.iterdir() if ":" not in path.name)
    except OSError:
        return ()
    return tuple(found for folder in folders if (found := _phone(folder, dev_usb)) is not None)


def missing(listed: frozenset[str]) -> tuple[str, ...]:
    """What to do about each phone that is plugged in and not in adb's list of serials."""
    found = (one for one in phones() if one.serial is None or one.serial not in listed)
    return tuple(one.todo for one in found if one.todo is not None)


def _phone(folder: Path, dev_usb: Path) -> Plugged | None:
    vendor = _read(folder / "idVendor").lower()
    if not vendor:
        return None
    kinds = {
        tuple(_read(one / name).lower() for name in ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol"))
        for one in folder.glob(f"{folder.name}:*")
    }
    debugging = _ADB in kinds
    if not debugging and not (vendor in _MAKERS and any(kind[0] == _PICTURES for kind in kinds)):
        return None
    names = [_read(folder / name) for name in ("manufacturer", "product")]
    what = " ".join(name for name in names if name) or f"a phone ({vendor}:{_read(folder / 'idProduct')})"
    bus, number = _read(folder / "busnum"), _read(folder / "devnum")
    node = dev_usb / f"{int(bus):03}" / f"{int(number):03}" if bus.isdigit() and number.isdigit() else None
    may_open = node is None or os.access(node, os.R_OK | os.W_OK)
    return Plugged(what[:80], _read(folder / "serial") or None, debugging, may_open)


def _read(path: Path) -> str:
    """What a phone says of itself, without what a terminal would obey."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")[:200]
    except OSError:
        return ""
    return "".join(c for c in text.strip() if c.isprintable())
