"""Every error devicelab raises on purpose: what happened, on which device, what to do next, and the exit code.

Errors are raised anywhere and caught once, in ``devicelab.cli``. Whether an error is *transient* (trying again may
help: a cable, a busy board) or *stable* (it will not: a typo, no root) decides what is retried.
"""

import errno
from typing import ClassVar

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class LabError(Exception):
    """Base of all expected errors.

    Args:
        message: what happened, one sentence, without the device's name.
        device: the device it happened on, if any.
        hint: what the user can do next, one sentence or a command.
    """

    exit_code: ClassVar[int] = 1
    transient: ClassVar[bool] = False

    def __init__(self, message: str, *, device: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.device = device
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.device}: {self.message}" if self.device else self.message
        return f"{text}\n  hint: {self.hint}" if self.hint else text


class UnsortedError(LabError):
    """A library raised something that devicelab does not know: a bug, named so that it can be told (exit code 1)."""


class ConfigError(LabError):
    """A file, an option or a name that the user gave is wrong (exit code 2)."""

    exit_code = 2


class HostError(LabError):
    """This computer lacks what everything needs: room on a disk, file descriptors, a file of ours (exit code 2)."""

    exit_code = 2
    transient = True

    @classmethod
    def of(cls, error: BaseException) -> "HostError | None":
        """What an error of the operating system says about this computer; ``None``: nothing, it may be a bug."""
        if not isinstance(error, OSError) or not (
            error.filename is not None
            or isinstance(error, FileNotFoundError | PermissionError)
            or error.errno in {*_NO_ROOM, errno.EROFS, errno.EMFILE, errno.ENFILE}
        ):
            return None
        what = f"{error.filename!s:.200}: " if error.filename is not None else ""
        full = "`df -h` tells which disk is full; TMPDIR names another folder for temporary files"
        return cls(f"{what}{error.strerror or error}", hint=full if error.errno in _NO_ROOM else None)


class DeviceUnreachableError(LabError):
    """The device does not answer, went away or is taken; trying again may help (exit code 3)."""

    exit_code = 3
    transient = True


class DeviceBusyError(DeviceUnreachableError):
    """Somebody else holds the device's lease (exit code 3)."""


class CommandTimeoutError(DeviceUnreachableError):
    """A command on the device took longer than allowed and was ended there (exit code 3)."""


class DeviceRefusedError(LabError):
    """The device answers but does not let us: no root, no such node, a value it rejects (exit code 4)."""

    exit_code = 4


class BuildError(LabError):
    """A native program could not be compiled; the message holds the compiler's whole output (exit code 5)."""

    exit_code = 5


class MeasurementError(LabError):
    """A measurement gave nothing usable: garbled or truncated output, too many invalid runs (exit code 6)."""

    exit_code = 6


class DistrustError(MeasurementError):
    """The device sends or does what none in order would: more, deeper, longer or slower than any real one.

    Nothing it says is to be relied on: the farm puts it into quarantine (exit code 6).
    """


class CheckFailedError(LabError):
    """A check of the experiment, or a comparison with a baseline, failed (exit code 7)."""

    exit_code = 7


class RestoreError(LabError):
    """Something on the device could not be put back as it was found (exit code 8)."""

    exit_code = 8


class StoreError(LabError):
    """The results database cannot be read or written: locked, full disk, newer schema (exit code 2)."""

    exit_code = 2


class SamplesDroppedError(StoreError):
    """The raw samples asked for were measured, but dropped from the database on request (exit code 2)."""
