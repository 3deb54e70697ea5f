"""Turns an argv into one that runs with root rights, by the method that works on the device."""

import shlex
from collections.abc import Sequence

from devicelab.model.device import RootMethod


def wrap(method: RootMethod, argv: Sequence[str]) -> tuple[str, ...]:
    """The command line that runs ``argv`` as root.

    ``none`` (there is no root: the command runs as it is), ``self`` and ``adb-root`` (we are root already) leave it
    unchanged. Magisk's ``su -c`` takes one string, which a shell parses again; AOSP's ``su 0`` takes an argv.
    ``sudo -n`` fails instead of asking for a password.
    """
    match method:
        case "su-c":
            return ("su", "-c", shlex.join(argv))
        case "su-0":
            return ("su", "0", *argv)
        case "sudo":
            return ("sudo", "-n", *argv)
        case "none" | "self" | "adb-root":
            return tuple(argv)
