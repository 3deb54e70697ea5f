"""What Dask raises when a farm of several hosts is reached for, row by row."""

import importlib
import logging
import ssl
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from devicelab.errors import ConfigError, DeviceUnreachableError, LabError, UnsortedError
from devicelab.ground.sorting import row_of

distributed = pytest.importorskip("distributed")

from distributed.comm.core import CommClosedError, FatalCommClosedError  # noqa: E402
from distributed.core import AsyncTaskGroupClosedError  # noqa: E402
from distributed.scheduler import NoValidWorkerError  # noqa: E402

from devicelab.farm import dask_link  # noqa: E402
from devicelab.farm.dask_link import SORTED, Tls, failed  # noqa: E402
from devicelab.farm.engine_dask import DaskHosts  # noqa: E402

ROWS = [
    (ssl.SSLError("no certificate or crl found"), ConfigError, "TLS"),
    (FileNotFoundError(2, "No such file"), ConfigError, "TLS"),
    (FatalCommClosedError("TLS handshake failed"), ConfigError, "certificate"),
    (ValueError("IOStream is not idle; cannot convert to SSL"), ConfigError, "does not speak TLS"),
    (TypeError("expected TLS/SSL security"), ConfigError, "security"),
    (ImportError("msgpack"), ConfigError, "msgpack"),
    (NoValidWorkerError("x", set(), {}, {"device:a": 1}, 1.0), DeviceUnreachableError, "no worker"),
    (CommClosedError("in <TCP>"), DeviceUnreachableError, "no scheduler answers"),
    (TimeoutError("timed out"), DeviceUnreachableError, "no scheduler answers"),
    (OSError("Timed out trying to connect"), DeviceUnreachableError, "no scheduler answers"),
    (CancelledError("x"), DeviceUnreachableError, "no scheduler answers"),
    (AsyncTaskGroupClosedError("closed"), DeviceUnreachableError, "no scheduler answers"),
    (RuntimeError("cannot schedule new futures after shutdown"), DeviceUnreachableError, "shutdown"),
    (RuntimeError("something new"), UnsortedError, "builtins.RuntimeError: something new"),
]


@pytest.mark.parametrize(("error", "kind", "said"), ROWS, ids=lambda value: repr(value)[:50])
def test_every_exception_of_dask_is_sorted(error: Exception, kind: type[LabError], said: str) -> None:
    found = failed(error, "dask://h:1")
    assert type(found) is kind
    assert said in found.message
    assert "dask://h:1" in found.message


def test_every_row_has_its_case() -> None:
    assert {row_of(SORTED, error) for error, _, _ in ROWS} == {*SORTED, None}


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_files_of_tls_that_cannot_be_used_are_the_user_s_mistake(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match="TLS"):
        DaskHosts("dask://127.0.0.1:1", Tls(str(file), str(file), str(file)))


def test_none_of_dasks_own_loggers_speaks_once_they_are_hushed() -> None:
    importlib.import_module("distributed")
    dask_link.hush()
    theirs = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    assert "distributed.client" in theirs
    assert [name for name in theirs if logging.getLogger(name).isEnabledFor(logging.CRITICAL)] == []
