"""Getting one device back: its connection made anew, then a reboot. Neighbours and the adb server are left alone."""

import time
from collections.abc import Callable

from devicelab import transports
from devicelab.device.lab import DeviceEntry
from devicelab.errors import DeviceRefusedError, DeviceUnreachableError, LabError
from devicelab.ground.safe_text import spoken
from devicelab.model.device import RootMethod
from devicelab.transports._root import wrap as as_root
from devicelab.transports.base import Transport

Wait = Callable[[float], bool]
"""Waits so many seconds; True: stop waiting, somebody wants to end."""

BOOT_S = 240.0
"""How long a phone may take to boot."""

_TRY_S = 10.0
_PAUSE_S = 1.0
_GOING_DOWN_S = 5.0

# The boot's id, and Android's word that it is up; other systems are up when they answer.
_UP = """
cat /proc/sys/kernel/random/boot_id
if command -v getprop >/dev/null 2>&1; then getprop sys.boot_completed; else echo 1; fi
"""


def reconnect(entry: DeviceEntry, timeout_s: float, wait: Wait, held: Transport | None = None) -> None:
    """Until the device runs commands again, its way there made anew meanwhile.

    Args:
        entry: which one.
        timeout_s: how long it is tried.
        wait: see ``Wait``.
        held: the connection that shall work again; ``None``: any.

    Raises:
        DeviceUnreachableError: it did not come back in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            transport = held or transports.connect(entry.address)
            try:
                transport.reconnect(timeout_s=_TRY_S)
            finally:
                if held is None:
                    transport.close()
        except DeviceUnreachableError:
            if time.monotonic() + _PAUSE_S > deadline or wait(_PAUSE_S):
                raise
        else:
            return


def reboot(entry: DeviceEntry, *, root: RootMethod, boot_id: str, wait: Wait, timeout_s: float = BOOT_S) -> None:
    """Reboot the device and wait until it is up.

    Args:
        entry: which one; this computer is never rebooted.
        root: how root is reached there.
        boot_id: of the boot to be ended, as it was last read; empty if nobody knows.
        wait: see ``Wait``.
        timeout_s: for coming up again.

    Raises:
        DeviceRefusedError: it does not let us, or it is this computer.
        DeviceUnreachableError: it does not even take the order, or did not come up in time.
    """
    if entry.address.startswith("local:"):
        raise DeviceRefusedError("this computer is not rebooted", device=entry.name)
    _order(entry, root)
    if not boot_id:
        wait(_GOING_DOWN_S)  # it would be taken for up before it has gone down
    deadline = time.monotonic() + timeout_s
    while not _is_up(entry, boot_id):
        if time.monotonic() > deadline or wait(_PAUSE_S):
            raise DeviceUnreachableError(
                f"did not come up within {timeout_s:.0f} s after a reboot", device=entry.name, hint="look at its screen"
            )


def _order(entry: DeviceEntry, root: RootMethod) -> None:
    transport = transports.connect(entry.address)
    try:
        direct = getattr(transport, "reboot", None)
        if direct is not None:
            direct()
            return
        done = transport.run(as_root(root, ["reboot"]), timeout_s=_TRY_S)
    finally:
        transport.close()
    if done.exit_code != 0:
        said = spoken(done.stderr.decode("utf-8", "replace"))[:200]
        raise DeviceRefusedError(f"does not reboot: {said or f'exit code {done.exit_code}'}", device=entry.name)


def _is_up(entry: DeviceEntry, ended: str) -> bool:
    try:
        transport = transports.connect(entry.address)
        try:
            transport.reconnect(timeout_s=_TRY_S)
            words = transport.run(["sh", "-c", _UP]).stdout.decode("utf-8", "replace").split()
        finally:
            transport.close()
    except LabError:
        return False
    return len(words) == 2 and words[0] != ended and words[1] == "1"
