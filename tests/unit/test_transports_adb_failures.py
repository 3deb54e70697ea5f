"""What adbutils and sockets raise on the way to an adb server, row by row."""

import pytest
from adbutils import AdbError, AdbTimeout
from adbutils.errors import AdbConnectionError, AdbInstallError, AdbSyncError

from devicelab.errors import ConfigError, DeviceRefusedError, DeviceUnreachableError, LabError, UnsortedError
from devicelab.ground.sorting import row_of
from devicelab.transports.adb.server import SORTED, reachable

ROWS = [
    (AdbInstallError("Failure [INSTALL_FAILED]"), DeviceRefusedError, "INSTALL_FAILED"),
    (TimeoutError("timed out"), DeviceUnreachableError, "in time"),
    (AdbTimeout("adb read timeout"), DeviceUnreachableError, "in time"),
    (AdbError("the adb server speaks another language: b'HTTP'"), DeviceUnreachableError, "another language"),
    (AdbError("the device says more than it may"), DeviceUnreachableError, "more than it may"),
    (AdbError("Unknown data: b'x'"), DeviceUnreachableError, "Unknown data"),
    (AdbError("connection closed"), DeviceUnreachableError, "connection lost"),
    (AdbConnectionError("connect to adb server failed: refused"), DeviceUnreachableError, "connection lost"),
    (AdbSyncError("sync error"), DeviceUnreachableError, "connection lost"),
    (EOFError("Expected 4 bytes, got 0"), DeviceUnreachableError, "connection lost"),
    (EOFError(), DeviceUnreachableError, "connection lost"),
    (ValueError("invalid literal for int() with base 16: 'zz'"), DeviceUnreachableError, "garbled"),
    (UnicodeError("encoding with 'idna' codec failed (UnicodeError: label too long)"), ConfigError, "label too long"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), DeviceUnreachableError, "garbled"),
    (ConnectionResetError(104, "Connection reset by peer"), DeviceUnreachableError, "reset by peer"),
    (AdbError("something new"), UnsortedError, "adbutils.errors.AdbError: something new"),
    (ValueError("something new"), UnsortedError, "builtins.ValueError: something new"),
]


@pytest.mark.parametrize(("error", "kind", "said"), ROWS, ids=lambda value: repr(value)[:50])
def test_every_exception_of_adb_is_sorted(error: Exception, kind: type[LabError], said: str) -> None:
    with pytest.raises(LabError) as caught, reachable("adb:x"):
        raise error
    assert type(caught.value) is kind
    assert said in caught.value.message
    assert caught.value.device == "adb:x"


def test_every_row_has_its_case() -> None:
    assert {row_of(SORTED, error) for error, _, _ in ROWS} == {*SORTED, None}
