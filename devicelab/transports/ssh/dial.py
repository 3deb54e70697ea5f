"""Gets an ssh connection up: through jump hosts or a proxy command, host keys verified, with the user's keys."""

import logging
import socket
import subprocess
from contextlib import ExitStack, suppress
from typing import Any

import paramiko

from devicelab.errors import ConfigError, DeviceRefusedError, DeviceUnreachableError, LabError
from devicelab.ground.sorting import Row, as_lab_error
from devicelab.transports.ssh import keys
from devicelab.transports.ssh.config import Target, resolve
from devicelab.transports.ssh.hosts import Verifier

HINT = "is it powered, on the network, and its ssh server running?"

_MAX_HOPS = 8
_KEEPALIVE_S = 10
# A peer that acknowledges nothing for so long is gone (Linux, tcp(7)); keepalives see to it that there is something.
_SILENCE_MS = 45_000

# paramiko's threads log what they also raise; without a handler of the user's it would go to stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

# What paramiko and sockets raise while a connection is made or used (paramiko 3.5 to 5.1, every `raise` of transport,
# packet, kex, channel and agent).
SORTED = (
    Row((socket.gaierror,), DeviceUnreachableError, "is it spelt right?", says="no address for it: {words}"),
    Row((paramiko.ssh_exception.NoValidConnectionsError, TimeoutError, EOFError, OSError), DeviceUnreachableError),
    Row((UnicodeError,), ConfigError, "is it spelt right?", says="not a host's name: {words}"),
    Row(
        (paramiko.ssh_exception.IncompatiblePeer,), DeviceRefusedError,
        "update its ssh server, or allow there what is missing", says="no common way of encryption: {words}",
    ),
    Row((paramiko.ssh_exception.MessageOrderError,), DeviceRefusedError, says="it breaks the protocol: {words}"),
    Row((paramiko.BadHostKeyException,), DeviceRefusedError),
    Row(
        (paramiko.ChannelException,), DeviceRefusedError, "the gate's sshd_config has to allow it (AllowTcpForwarding)",
        words="prohibited|unknown channel type", says="the server forbids it: {words}",
    ),
    Row((paramiko.ChannelException,), DeviceUnreachableError, says="the server cannot open it: {words}"),
    Row((paramiko.AuthenticationException,), DeviceUnreachableError, words="timeout|timed out|transport shut down"),
    Row(
        (paramiko.AuthenticationException,), DeviceRefusedError,
        "ssh-copy-id brings a key there", says="no key of ours lets us in: {words}",
    ),
    Row(
        (paramiko.SSHException,), DeviceRefusedError, "something in between garbles it, or it is no ssh server",
        words=r"bad host key|signature verification|unknown host key type|unknown cipher|out of range|wrong order"
        r"|asked to handle packet|invalid [cs]_(init|reply) length|invalid (public )?key|no modulus pack"
        r"|illegal info|unknown auth method|can't handle curve|key curve identifier",
        says="its ssh server does not follow the protocol: {words}",
    ),
    Row(
        (paramiko.SSHException,), DeviceUnreachableError, "does an ssh server listen on that port?",
        words=r"protocol banner|protocol version|invalid ssh banner",
    ),
    Row(
        (paramiko.SSHException,), DeviceRefusedError, "unlock the agent, or name a key's file with IdentityFile",
        words=r"ssh-agent|used for signing", says="the ssh agent does not sign: {words}",
    ),
    Row(
        (paramiko.SSHException,), DeviceUnreachableError,
        words=r"negotiation failed|no existing session|session not active|timeout opening channel|timed out"
        r"|channel (is not open|closed)|unable to (open channel|connect)|mismatched mac|invalid packet|sequence number"
        r"|ignoring rekey|eof|forwarding request denied|proxycommand",
    ),
)  # fmt: skip


def failed(address: str, error: BaseException, what: str) -> LabError:
    """What an exception of paramiko's or a socket's means for a person."""
    return as_lab_error(SORTED, error, device=address, what=what, hint=HINT)


class Line:
    """An authenticated connection with everything below it (jump hosts, a proxy command)."""

    def __init__(self, transport: paramiko.Transport, below: ExitStack) -> None:
        self.transport = transport
        self._below = below

    def close(self) -> None:
        """End it, from the top down."""
        with suppress(paramiko.SSHException, EOFError, OSError):
            self._below.close()


class _Transport(paramiko.Transport):
    """One that remembers why the server hung up."""

    farewell = ""

    def _parse_disconnect(self, message: paramiko.Message) -> None:
        message.get_int()  # a code, which says less than the words (RFC 4253, 11.1)
        self.farewell = message.get_text()


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
    verifier = Verifier(address, target.host, target.port, target.known_as, target.known_hosts)
    try:
        sock: Any
        if gate is not None:
            sock = gate.open_channel("direct-tcpip", (target.host, target.port), ("127.0.0.1", 0), timeout=timeout_s)
        elif target.command is not None:
            sock = _proxy(target.command, below)
        else:
            sock = socket.create_connection((target.host, target.port), timeout=timeout_s)
        below.callback(sock.close)
        made = _Transport(sock)
        below.callback(made.close)
        made.banner_timeout = made.auth_timeout = made.handshake_timeout = timeout_s
        security = made.get_security_options()
        security.key_types = verifier.preferred(security.key_types)
        made.start_client(timeout=timeout_s)
        verifier.check(made.get_remote_server_key())
        _let_in(address, made, target, below)
        _watch(made)
    except (paramiko.SSHException, EOFError, OSError, UnicodeError) as error:
        raise failed(address, error, f"cannot connect to {target.host} port {target.port}") from error
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


def _let_in(address: str, transport: _Transport, target: Target, below: ExitStack) -> None:
    """Show the server our keys, one after the other, as ssh does.

    Raises:
        DeviceRefusedError: it takes none; what was left out and why is in the message.
    """
    agent = keys.Agent(target.agent)
    below.callback(agent.close)
    offered, unusable = keys.offers(target, agent)
    tried: list[str] = []
    try:
        more: list[str] = transport.auth_none(target.user)
        if not more:
            return
    except paramiko.BadAuthenticationType as error:
        more = error.allowed_types
    if "publickey" in more:
        for one in offered:
            try:
                more = transport.auth_publickey(target.user, one.key)
                if not more:
                    return
            except paramiko.BadAuthenticationType as error:
                more = error.allowed_types
                break
            except paramiko.AuthenticationException:
                tried.append(one.name)
                if transport.is_active():
                    continue
                if not transport.farewell:
                    raise
                break
    raise _refused(address, transport, target, more, tried, unusable)


def _refused(
    address: str, transport: _Transport, target: Target, more: list[str], tried: list[str], unusable: Any
) -> DeviceRefusedError:
    port = "" if target.port == 22 else f"-p {target.port} "
    hint = f"ssh-copy-id {port}{target.user}@{target.host} (and ssh-add for a key with a passphrase)"
    if transport.farewell and not transport.is_active():
        why = f"{transport.farewell} after {len(tried)} keys"
        hint = f"name the one key for {target.host} in ~/.ssh/config: IdentityFile and IdentitiesOnly yes"
    elif "publickey" not in more:
        why = f"the server wants {', '.join(more) or 'something else'}, and no key is enough"
    else:
        why = f"it refuses {', '.join(tried)}" if tried else "there is none to show"
    left_out = "; ".join(str(one).strip() for one in unusable)
    said = f"no key of ours lets us in as {target.user}: {why}" + (f"; not usable: {left_out}" if left_out else "")
    return DeviceRefusedError(said, device=address, hint=hint)


def _watch(transport: paramiko.Transport) -> None:
    transport.set_keepalive(_KEEPALIVE_S)
    sock: Any = transport.sock
    if isinstance(sock, socket.socket) and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MS)
