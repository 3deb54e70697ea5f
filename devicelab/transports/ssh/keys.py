"""The user's keys: those of files as OpenSSH takes them, those of the agent, and why one cannot be used."""

import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import paramiko
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from paramiko.agent import AgentSSH

from devicelab.transports.ssh.config import Target, public_part

_MAX_BYTES = 64 << 10
# OpenSSH takes no shorter ones (SSH_RSA_MINIMUM_MODULUS_SIZE).
_MIN_RSA_BITS = 1024
_ANSWER_S = 10.0


@dataclass(frozen=True)
class Key:
    """A key to offer, and where it comes from."""

    name: str
    key: paramiko.PKey


@dataclass(frozen=True)
class Unusable:
    """A key that is there, or was named, and cannot be offered."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name} {self.why}"


def read(file: Path) -> Key | Unusable:
    """A private key's file, read as OpenSSH does: what it cannot use is told, and the next key is tried."""
    name = str(file)
    try:
        with file.open("rb") as opened:
            data = opened.read(_MAX_BYTES)
    except OSError as error:
        return Unusable(name, f"cannot be read ({error.strerror or error})")
    if data.startswith(b"PuTTY-User-Key-File"):
        return Unusable(name, "is in PuTTY's format (puttygen KEY.ppk -O private-openssh -o KEY)")
    try:
        return _converted(name, data)
    except (TypeError, paramiko.PasswordRequiredException):  # cryptography's way to ask for a passphrase
        return Unusable(name, f"has a passphrase (ssh-add {name})")
    except UnsupportedAlgorithm:
        security = b"-----BEGIN OPENSSH" in data
        more = ", or needs a security key (ssh-add it)" if security else ""
        return Unusable(name, f"is of a kind that is not known here{more}")
    except (ArithmeticError, InternalError, LookupError, NotImplementedError, ValueError, paramiko.SSHException):
        return Unusable(name, "is no private key that OpenSSH reads (invalid format)")


def _converted(name: str, data: bytes) -> Key | Unusable:
    modern = b"-----BEGIN OPENSSH PRIVATE KEY-----" in data
    load = serialization.load_ssh_private_key if modern else serialization.load_pem_private_key
    loaded = load(data, password=None)
    kind: type[paramiko.PKey]
    if isinstance(loaded, rsa.RSAPrivateKey):
        if loaded.key_size < _MIN_RSA_BITS:
            return Unusable(name, f"is too short ({loaded.key_size} bits)")
        kind = paramiko.RSAKey
    elif isinstance(loaded, ec.EllipticCurvePrivateKey):
        if loaded.curve.name not in {"secp256r1", "secp384r1", "secp521r1"}:
            return Unusable(name, f"is on a curve that ssh does not use ({loaded.curve.name})")
        kind = paramiko.ECDSAKey
    elif isinstance(loaded, ed25519.Ed25519PrivateKey):
        if not modern:
            return Unusable(name, "is an Ed25519 key outside OpenSSH's own format (ssh-keygen -p -f KEY converts it)")
        kind = paramiko.Ed25519Key
    else:
        return Unusable(name, "is of a kind that ssh does not use any more")
    text = loaded.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return Key(name, kind.from_private_key(StringIO(text.decode())))


class Agent(AgentSSH):
    """The agent behind a socket; without one it holds no key. Close it: signing goes through the same socket."""

    def __init__(self, path: str | None) -> None:
        super().__init__()
        self.broken = ""
        if path is None:
            return
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            line.settimeout(_ANSWER_S)
            line.connect(path)
            self._connect(line)  # type: ignore[attr-defined]
            line.settimeout(None)  # to sign may wait for a person
        except (OSError, paramiko.SSHException, ValueError, IndexError) as error:
            # As ssh does: an agent that is gone is none.
            self.broken = f"the agent at {path} does not answer ({error})"
            line.close()
            self._conn = None

    def close(self) -> None:
        """Release the socket."""
        with suppress(OSError):
            self._close()  # type: ignore[attr-defined]


def offers(target: Target, agent: Agent) -> tuple[tuple[Key, ...], tuple[Unusable, ...]]:
    """What to offer, in ssh's order, and what had to be left out.

    The agent's keys come first, those that the configuration names before the others; then the files. A file whose key
    the agent holds is not offered again. Of the usual files only those that are there are spoken of.
    """
    files = [read(file) for file in target.keys if file.suffix != ".pub" and _there(file)]
    named = {one.key.asbytes() for one in files if isinstance(one, Key)} | target.public
    held = [Key(f"{key.comment or key.get_name()} (agent)", key) for key in agent.get_keys()]
    first = [one for one in held if one.key.asbytes() in named]
    rest = [] if target.only_keys else [one for one in held if one not in first]
    shown = {one.key.asbytes() for one in first}
    own = [one for one in files if isinstance(one, Key) and one.key.asbytes() not in shown]
    unusable = [one for one in files if isinstance(one, Unusable) and not _held(Path(one.name), shown)]
    if agent.broken:
        unusable.append(Unusable("", agent.broken))
    return (*_certified(target, own), *first, *rest, *own), tuple(unusable)


def _there(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:
        return False


def _held(file: Path, shown: Iterable[bytes]) -> bool:
    return public_part(file) in set(shown)


def _certified(target: Target, own: Iterable[Key]) -> tuple[Key, ...]:
    """Keys with a certificate beside them (``KEY-cert.pub``, ``CertificateFile``), which ssh offers first."""
    found = []
    for one in own:
        for file in (Path(f"{one.name}-cert.pub"), *target.certificates):
            again = read(Path(one.name))
            if isinstance(again, Key) and _there(file):
                with suppress(ValueError, paramiko.SSHException, OSError, IndexError):
                    again.key.load_certificate(str(file))
                    found.append(Key(f"{one.name} with {file.name}", again.key))
    return tuple(found)
