"""Host keys as OpenSSH keeps them: who is known, who is refused, and which kinds of key to ask a server for.

paramiko's own reader stops at ``@cert-authority`` and ``@revoked`` lines, knows no wildcards and keeps one key a type.
Format: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".
"""

import fnmatch
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeyEntry, HostKeys, InvalidHostKey

from devicelab.errors import DeviceRefusedError
from devicelab.ground import user

EXTRA_FILE_VARIABLE = "DEVICELAB_SSH_KNOWN_HOSTS"


def folder() -> Path:
    """OpenSSH's folder in the user's home; where there is no home, one that does not exist."""
    return (user.home() or Path("/nonexistent")) / ".ssh"


def files(users: Sequence[Path] | None = None, system: Sequence[Path] | None = None) -> tuple[Path, ...]:
    """Files to look in, the one to add to first: what ``DEVICELAB_SSH_KNOWN_HOSTS`` names, the user's, the system's.

    Args:
        users: ``UserKnownHostsFile``; left out: the usual ones. Where it keeps nothing (``/dev/null``), ssh would ask
            anew each time; nobody is asked here, so ``~/.ssh/known_hosts`` counts.
        system: ``GlobalKnownHostsFile``; left out: the usual one.
    """
    extra = os.environ.get(EXTRA_FILE_VARIABLE)
    kept = [file for file in users or () if file != Path("/dev/null")] or [folder() / "known_hosts"]
    usual = (Path("/etc/ssh/ssh_known_hosts"),)
    return (*((Path(extra),) if extra else ()), *kept, *(usual if system is None else system))


@dataclass(frozen=True)
class KnownHosts:
    """Lines of known_hosts files: patterns and key of each, and the keys that must never be accepted."""

    entries: tuple[tuple[tuple[str, ...], paramiko.PKey], ...] = ()
    revoked: tuple[paramiko.PKey, ...] = ()

    def keys(self, name: str) -> tuple[paramiko.PKey, ...]:
        """The keys known for a host, named as OpenSSH does (``host`` or ``[host]:port``)."""
        return tuple(key for patterns, key in self.entries if _matches(name, patterns))


def read(files: Iterable[Path]) -> KnownHosts:
    """What the files hold. Files that are not there, and lines that mean nothing to us, are passed over."""
    entries: list[tuple[tuple[str, ...], paramiko.PKey]] = []
    revoked: list[paramiko.PKey] = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        for line in text.splitlines():
            words = line.split()
            marker = words.pop(0) if words and words[0].startswith("@") else ""
            if len(words) < 3 or words[0].startswith("#"):
                continue
            try:
                entry = HostKeyEntry.from_line(" ".join(words[:3]))
            except (InvalidHostKey, paramiko.SSHException, ValueError):
                continue
            if entry is None or not entry.valid:
                continue
            if marker == "@revoked":
                revoked.append(entry.key)
            elif not marker:
                entries.append((tuple(entry.hostnames), entry.key))
    return KnownHosts(tuple(entries), tuple(revoked))


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    found = False
    for pattern in patterns:
        if pattern.startswith("|1|"):
            found = found or _hashed(name, pattern)
        elif pattern.startswith("!"):
            if _glob(name, pattern[1:]):
                return False
        else:
            found = found or _glob(name, pattern)
    return found


def _hashed(name: str, pattern: str) -> bool:
    # What is no salt makes paramiko fail in several ways; OpenSSH passes over such lines.
    try:
        return HostKeys.hash_host(name, pattern) == pattern
    except (AssertionError, IndexError, ValueError):
        return False


def _glob(name: str, pattern: str) -> bool:
    # Only * and ? are special in known_hosts; brackets belong to [host]:port.
    return fnmatch.fnmatchcase(name.lower(), pattern.lower().replace("[", "[[]"))


def known_name(host: str, port: int) -> str:
    """How a host is named in known_hosts."""
    return host if port == 22 else f"[{host}]:{port}"


class Verifier:
    """Accepts the keys that are known for a host, and no other.

    Args:
        address: the device, for errors.
        host, port: as connected to.
        name: as looked up (``HostKeyAlias`` or ``known_name``).
        files: known_hosts files; the first is named in hints.
    """

    def __init__(self, address: str, host: str, port: int, name: str, files: tuple[Path, ...]) -> None:
        self._address, self._host, self._port, self._name = address, host, port, name
        self._file = files[0]
        self._known = read(files)

    def preferred(self, offered: Iterable[str]) -> list[str]:
        """Kinds of host key in the order to ask for: a server shows one key only, and it should be one we know."""
        known = {key.get_name() for key in self._known.keys(self._name)}
        if "ssh-rsa" in known:
            known |= {"rsa-sha2-512", "rsa-sha2-256"}
        return sorted(offered, key=lambda kind: kind not in known)

    def check(self, key: paramiko.PKey) -> None:
        """Refuse a key that is not known.

        Raises:
            DeviceRefusedError: unknown, changed or revoked.
        """
        known = self._known.keys(self._name)
        file = shlex.quote(str(self._file))
        folder = "" if self._file.parent.is_dir() else f"mkdir -p {shlex.quote(str(self._file.parent))} && "
        if key in self._known.revoked:
            raise DeviceRefusedError(f"its host key {key.fingerprint} is marked @revoked", device=self._address)
        if not known:
            raise DeviceRefusedError(
                f"unknown host: nobody vouches for its {key.get_name()} key {key.fingerprint}",
                device=self._address,
                hint=f"compare the fingerprint with the device's, then: "
                f"{folder}ssh-keyscan -p {self._port} {shlex.quote(self._host)} >> {file}",
            )
        if key not in known:
            raise DeviceRefusedError(
                f"THE HOST KEY HAS CHANGED: known is {known[0].fingerprint}, it shows {key.fingerprint}; "
                "either the device was set up anew, or somebody else answers in its place",
                device=self._address,
                hint=f"if it was set up anew: ssh-keygen -f {file} -R {shlex.quote(self._name)}, "
                f"then ssh-keyscan -p {self._port} {shlex.quote(self._host)} >> {file}",
            )
