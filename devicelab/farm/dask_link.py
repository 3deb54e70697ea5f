"""The way to a Dask scheduler: its address, TLS files, the address to listen at, and what failures mean."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path

from distributed import KilledWorker
from distributed.comm.core import CommClosedError, FatalCommClosedError
from distributed.core import AsyncTaskGroupClosedError  # type: ignore[attr-defined]
from distributed.scheduler import NoValidWorkerError
from distributed.security import Security
from distributed.utils import get_ip_interface

from devicelab.errors import ConfigError, DeviceUnreachableError, LabError
from devicelab.farm.certificates import in_date
from devicelab.ground.sorting import Row, as_lab_error

SCHEME = "dask://"
DEFAULT_PORT = 8786

LOST = (KilledWorker, CancelledError, asyncio.CancelledError, CommClosedError)
"""What Dask raises when somebody went away."""

_LOOPBACK = "127.0.0.1"
_THEIRS = ("distributed", "tornado", "asyncio")

_START = "start it there: dask scheduler (one that speaks TLS wants the same --tls-… files here)"
# What Dask raises while it connects: files of TLS that are wrong never mend themselves, a scheduler may come.
SORTED = (
    Row(
        (ssl.SSLError, FileNotFoundError, PermissionError, IsADirectoryError), ConfigError,
        "--tls-ca, --tls-cert and --tls-key name PEM files that may be read and belong together",
        says="the files for TLS cannot be used: {words}",
    ),
    Row(
        (FatalCommClosedError,), ConfigError, "give the same --tls-… files that the scheduler was started with",
        says="it does not take our certificate: {words}",
    ),
    Row(
        (ValueError,), ConfigError, "leave --tls-… out if the scheduler was started without it", words="SSL",
        says="it does not speak TLS",
    ),
    Row((ValueError, TypeError), ConfigError, words="tls|security|expects", says="{words}"),
    Row((ImportError,), ConfigError, "install the same version of distributed everywhere"),
    Row((NoValidWorkerError,), DeviceUnreachableError, "start a worker on its host", says="no worker: {words}"),
    Row((*LOST, AsyncTaskGroupClosedError, OSError), DeviceUnreachableError, _START, says="no scheduler answers"),
    Row((RuntimeError,), DeviceUnreachableError, _START, words="closed|shut ?down|not running", says="{words}"),
)  # fmt: skip


def failed(error: BaseException, place: str) -> LabError:
    """What an exception of Dask's means for a person."""
    return as_lab_error(SORTED, error, what=f"{place}")


@dataclass(frozen=True)
class Tls:
    """Files (PEM) for encrypted and mutually authenticated connections; all three or none."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def security(self) -> Security | None:
        """For Dask; ``None`` without files.

        Raises:
            ConfigError: only some of the files are given.
        """
        files = (self.ca, self.cert, self.key)
        if not any(files):
            return None
        if not self.ca or not self.cert or not self.key:
            raise ConfigError("TLS needs all three: --tls-ca, --tls-cert and --tls-key")
        return Security(
            require_encryption=True,
            tls_ca_file=self.ca,
            tls_client_cert=self.cert,
            tls_client_key=self.key,
            tls_worker_cert=self.cert,
            tls_worker_key=self.key,
        )


def usable(tls: Tls | None) -> Security | None:
    """What ``Tls.security`` says, once the files are seen to be what they have to be.

    Raises:
        ConfigError: they are not: Dask would say that nobody answers.
    """
    security = tls.security() if tls is not None else None
    if tls is None or security is None or not tls.ca or not tls.cert or not tls.key:
        return None
    ca, cert, key = tls.ca, tls.cert, tls.key
    for option, name in (("--tls-ca", ca), ("--tls-cert", cert), ("--tls-key", key)):
        try:
            Path(name).read_bytes()
        except OSError as error:
            raise ConfigError(f"TLS: cannot read {name} ({option}): {error.strerror}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"TLS: {ca} (--tls-ca) holds no certificate of an authority (PEM)") from error
    in_date(ca, "--tls-ca", "the authority", "make a new one, and certificates with it")
    try:
        # A key with a passphrase would be asked for at the terminal.
        context.load_cert_chain(cert, key, password=lambda: "")
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"TLS: {cert} and {key} (--tls-cert, --tls-key) are no certificate and its key (PEM, without a passphrase)"
        ) from error
    in_date(cert, "--tls-cert", "the certificate", "have the authority sign a new one", chain=True)
    return security


def address_of(place: str, *, tls: bool) -> str:
    """Dask's address of a scheduler given as ``dask://HOST[:PORT]`` or ``HOST[:PORT]``.

    Raises:
        ConfigError: it is neither.
    """
    rest = place.removeprefix(SCHEME)
    host, _, port = rest.rpartition(":") if ":" in rest else (rest, "", str(DEFAULT_PORT))
    if not host or "/" in host or not (port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f"not a scheduler: {place!r}", hint=f"{SCHEME}HOST:{DEFAULT_PORT}")
    return f"{'tls' if tls else 'tcp'}://{host}:{port}"


def own_address(scheduler: str, listen: str | None) -> str:
    """The one address a worker listens at: that of ``listen``, else the one from which it reaches the scheduler.

    Args:
        scheduler: its address as ``address_of`` gives it.
        listen: a name of a network interface, or an address of this host.

    Raises:
        ConfigError: no such interface or address here.
    """
    if listen is None:
        host, _, port = scheduler.partition("://")[2].rpartition(":")
        try:
            info = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
            with socket.socket(info[0], socket.SOCK_DGRAM) as way:
                way.connect(info[4])  # sends nothing: it only asks for the route
                return str(way.getsockname()[0])
        except OSError:
            return _LOOPBACK  # nobody will answer there either, which is said then
    with contextlib.suppress(ValueError):
        return str(get_ip_interface(listen))
    try:
        with socket.socket(socket.AF_INET6 if ":" in listen else socket.AF_INET) as probe:
            probe.bind((listen, 0))
    except OSError as error:
        known = ", ".join(sorted(name for _, name in socket.if_nameindex()))
        raise ConfigError(
            f"--listen: {listen!r} is no interface and no address of this host", hint=f"interfaces here: {known}"
        ) from error
    return listen


def bracketed(address: str) -> str:
    """The address as it stands in a URL."""
    return f"[{address}]" if ":" in address else address


@contextlib.contextmanager
def reaching(place: str) -> Iterator[None]:
    """While a connection is made: what went wrong, for people; Dask's own words and tracebacks stay unsaid.

    Raises:
        LabError: see ``SORTED``.
    """
    hush()
    try:
        yield
    except Exception as error:
        cause: BaseException = error
        while isinstance(cause, RuntimeError) and cause.__cause__ is not None:  # "Worker failed to start."
            cause = cause.__cause__
        raise failed(cause, place) from error


def hush() -> None:
    """What Dask, tornado and asyncio log when a farm ends or a peer is gone, the errors here say better."""
    # Dask's configuration gives some of its loggers (distributed.client) a level and a handler of their own.
    for name in (*_THEIRS, *(known for known in logging.root.manager.loggerDict if known.partition(".")[0] in _THEIRS)):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
