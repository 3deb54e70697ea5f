"""A toybox that leaves to the board what on Android is not toybox's.

``toybox timeout 10 su -c id`` does not look in PATH: toybox runs its own applet where it has one of that name, and
Debian's has a ``su`` that asks for a password and a ``reboot`` that calls the kernel. Android's has no ``su``. So the
board gets a copy in which these applets are called something else.
"""

import hashlib
import os
import subprocess
from pathlib import Path

from devicelab.errors import DeviceRefusedError

HIDDEN = ("halt", "poweroff", "reboot", "su")


def prepare(toybox: Path, directory: Path) -> tuple[Path, tuple[str, ...]]:
    """A copy of ``toybox`` without the ``HIDDEN`` applets in ``directory`` (made once), and the applets it has.

    Raises:
        DeviceRefusedError: this toybox cannot be changed so.
    """
    data = toybox.read_bytes()
    present = tuple(name for name in HIDDEN if name in _applets(toybox))
    copy = directory / f"toybox-{hashlib.sha256(data + repr(present).encode()).hexdigest()[:16]}"
    if not copy.exists():
        for name in present:
            data = _rename(data, name)
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        scratch = directory / f"{copy.name}.{os.getpid()}"
        scratch.write_bytes(data)
        scratch.chmod(0o755)
        scratch.rename(copy)
    applets = _applets(copy)
    expected = set(_applets(toybox)) - set(present)
    if not expected <= set(applets) or set(present) & set(applets):
        raise DeviceRefusedError(
            f"{toybox} cannot serve virtual boards: its own {', '.join(present)} cannot be hidden",
            hint="Debian's and Ubuntu's package toybox is known to work",
        )
    return copy, tuple(name for name in applets if name in expected)


def _rename(data: bytes, name: str) -> bytes:
    """Count the last letter of an applet's name up by one: toybox finds applets by binary search, so order matters."""
    old = name.encode()
    # A library function of the same name stands in the symbol table, which comes before the strings of the program.
    at = data.rfind(b"\0" + old + b"\0") + 1
    if not at:
        return data
    end = at + len(old)
    return data[: end - 1] + bytes([data[end - 1] + 1]) + data[end:]


def _applets(toybox: Path) -> tuple[str, ...]:
    done = subprocess.run([toybox], check=False, capture_output=True, text=True)
    return tuple(done.stdout.split())
