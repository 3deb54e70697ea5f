"""Gets an ssh connection up: through jump hosts or a proxy command, host keys verified, with the user's keys."""

import logging
import socket
import subprocess
from contextlib import ExitStack, suppress
from typing import Any, cast

import paramiko

from devicelab.errors import ConfigError, DeviceRefusedError, DeviceUnreachableError, LabError
from devicelab.transports.ssh.config import Target, resolve
from devicelab.transports.ssh.hosts import Verifier

HINT = "is it powered, on the network, and its ssh server running?"

_MAX_HOPS = 8
_KEEPALIVE_S = 10
# A peer that acknowledges nothing for so long is gone (Linux, tcp(7)); keepalives see to it that there is something.
_SILENCE_MS = 45_000

# paramiko's threads log what they also raise; without a handler of the user's it would go to stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class Line:
    """An authenticated connection with everything below it (jump hosts, a proxy command)."""

    def __init__(self, transport: paramiko.Transport, below: ExitStack) -> None:
        self.transport = transport
        self._below = below

    def close(self) -> None:
        """End it, from the top down."""
        with suppress(paramiko.SSHException, EOFError, OSError):
            self._below.close()


class _SomeKeys(paramiko.Agent):
    """The user's agent, as far as it holds certain keys."""

    def __init__(self, public: frozenset[bytes]) -> None:
        self._public = public
        super().__init__()

    def get_keys(self) -> tuple[paramiko.AgentKey, ...]:
        return tuple(key for key in super().get_keys() if key.asbytes() in self._public)


def dial(address: str, target: Target, timeout_s: float) -> Line:
    """Connect to a target, in one attempt.

    Raises:
        ConfigError: its jump hosts lead in a circle.
        DeviceUnreachableError: no answer, or not that of an ssh server.
        DeviceRefusedError: an unknown or changed host key, or no key of ours is accepted.
    """
    with ExitStack() as below:
        transport = _dial(address, target, timeout_s, below, None, 0)
        return Line(transport, below.pop_all())


def _dial(
    address: str, target: Target, timeout_s: float, below: ExitStack, gate: paramiko.Transport | None, depth: int
) -> paramiko.Transport:
    if depth > _MAX_HOPS:
        raise ConfigError("too many jump hosts; does ProxyJump go in a circle?", device=address)
    for hop in target.jump:
        gate = _dial(address, resolve(hop, address), timeout_s, below, gate, depth + 1)
    client = paramiko.SSHClient()
    verifier = Verifier(address, target.host, target.port, target.known_as, target.known_hosts)
    client.set_missing_host_key_policy(verifier)

    def transport(sock: Any, **options: Any) -> paramiko.Transport:
        made = paramiko.Transport(sock, **options)
        security = made.get_security_options()
        security.key_types = verifier.preferred(security.key_types)
        return made

    try:
        sock: Any = None
        if gate is not None:
            sock = gate.open_channel("direct-tcpip", (target.host, target.port), ("127.0.0.1", 0), timeout=timeout_s)
        elif target.command is not None:
            sock = _proxy(target.command, below)
        below.callback(client.close)
        if target.only_keys:
            # The one way to have paramiko ask an agent for some keys alone.
            client._agent = _SomeKeys(target.public)  # type: ignore[attr-defined]  # noqa: SLF001
        client.connect(
            target.host,
            target.port,
            target.user,
            key_filename=list(target.keys),  # type: ignore[arg-type]
            allow_agent=True,
            look_for_keys=not target.only_keys,
            timeout=timeout_s,
            banner_timeout=timeout_s,
            auth_timeout=timeout_s,
            sock=sock,
            transport_factory=transport,
        )
        made = cast("paramiko.Transport", client.get_transport())
        _watch(made)
    except LabError:
        raise
    except socket.gaierror as error:
        message = f"no address for host {target.host!r}: {error.strerror}"
        raise DeviceUnreachableError(message, device=address, hint="is it spelt right?") from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise _refused(address, client, target, error) from error
    return made


def _proxy(command: str, below: ExitStack) -> socket.socket:
    """A socket whose other end is the standard input and output of a ``ProxyCommand``, run as OpenSSH runs it.

    paramiko's own ProxyCommand spins for ever when the command ends.
    """
    near, far = socket.socketpair()
    below.callback(near.close)
    with far:
        # The string is a shell command by definition, written by the user in ~/.ssh/config.
        shell = ["/bin/sh", "-c", f"exec {command}"]
        process = subprocess.Popen(shell, stdin=far.fileno(), stdout=far.fileno(), start_new_session=True)
    below.callback(process.wait)
    below.callback(process.kill)
    return near


def _watch(transport: paramiko.Transport) -> None:
    transport.set_keepalive(_KEEPALIVE_S)
    sock: Any = transport.sock
    if isinstance(sock, socket.socket) and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MS)


def _refused(address: str, client: paramiko.SSHClient, target: Target, error: Exception) -> LabError:
    made = client.get_transport()
    met = made is not None and made.is_active()
    no_key = isinstance(error, paramiko.AuthenticationException) or "No authentication methods" in str(error)
    if no_key and met:
        port = "" if target.port == 22 else f"-p {target.port} "
        return DeviceRefusedError(
            f"no key of ours lets us in as {target.user}: {words(error)}",
            device=address,
            hint=f"ssh-copy-id {port}{target.user}@{target.host} (and ssh-add for a key with a passphrase)",
        )
    message = f"cannot connect to {target.host} port {target.port}: {words(error)}"
    return DeviceUnreachableError(message, device=address, hint=HINT)


def words(error: BaseException) -> str:
    """What an exception says, or at least what it is."""
    return str(error).strip() or type(error).__name__
