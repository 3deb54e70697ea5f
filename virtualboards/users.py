"""The users of a virtual board, and the ways by which one becomes root there."""

from typing import Literal

Su = Literal["none", "magisk", "su-0", "adb-root"]
SU_FLAVOURS: tuple[Su, ...] = ("none", "magisk", "su-0", "adb-root")

SHELL_UID = 2000
"""Android's ``shell`` user and group, as which adbd runs commands."""
