"""Where an ``ssh:`` address leads, with what ``~/.ssh/config`` and ``/etc/ssh/ssh_config`` say about it."""

import base64
import binascii
import glob
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko

from devicelab.errors import ConfigError
from devicelab.ground import user
from devicelab.ground.safe_text import masked
from devicelab.transports.ssh import hosts

_ADDRESS = re.compile(
    r"(?:(?P<user>[^@:\s]+)@)?(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^@:\s\[\]]+))(?::(?P<port>[0-9]{1,5}))?"
)

_SYSTEM_CONFIG = Path("/etc/ssh/ssh_config")
# As deep as OpenSSH goes (readconf.c, READCONF_MAX_DEPTH).
_MAX_INCLUDES = 16
_LINE = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.*)")
# Those that ssh tries where no IdentityFile is named (ssh_config(5)).
_USUAL_KEYS = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")


@dataclass(frozen=True)
class Target:
    """One server and how to get in.

    Attributes:
        known_as: its name in known_hosts.
        known_hosts: files to look in.
        keys: private key files to offer.
        only_keys: offer nothing but these (``IdentitiesOnly``), and the agent's that ``public`` names.
        public: public parts of the keys meant, as in the SSH protocol.
        jump: hosts to go through, in this order, as written (``ProxyJump``).
        command: a command whose streams are the connection (``ProxyCommand``).
    """

    host: str
    port: int
    user: str
    known_as: str
    known_hosts: tuple[Path, ...]
    keys: tuple[str, ...] = ()
    only_keys: bool = False
    public: frozenset[bytes] = frozenset()
    jump: tuple[str, ...] = ()
    command: str | None = None


def resolve(text: str, device: str) -> Target:
    """A target from ``[user@]host[:port]`` and the user's ssh configuration.

    Raises:
        ConfigError: not such a text, or the configuration cannot be read.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or not 0 < int(match["port"] or 22) < 65536:
        raise ConfigError(
            f"not an ssh address: {masked(f'ssh:{text}')!r}",
            device=masked(device),
            hint="write ssh:user@host or ssh:user@host:port; there is no password in it, ssh uses keys",
        )
    written = match["six"] or match["host"]
    options = _options(written, device)
    host = str(options.get("hostname", written))
    port = _port(match["port"] or str(options.get("port", 22)), device)
    jump = str(options.get("proxyjump") or "none")
    files = str(options.get("userknownhostsfile") or "").split()
    only_keys = str(options.get("identitiesonly", "no")).lower() == "yes"
    keys = tuple(_path(str(key), device) for key in options.get("identityfile", ()))
    if only_keys and not keys:
        keys = tuple(hosts.folder() / name for name in _USUAL_KEYS)
    return Target(
        host=host,
        port=port,
        user=match["user"] or str(options.get("user") or _own_name(device)),
        known_as=str(options.get("hostkeyalias") or hosts.known_name(host, port)),
        known_hosts=(*(_path(file, device) for file in files), *hosts.default_files()),
        keys=tuple(str(key) for key in keys if key.suffix != ".pub" and os.access(key, os.R_OK) and key.is_file()),
        only_keys=only_keys,
        public=frozenset(filter(None, map(_public, keys))) if only_keys else frozenset(),
        jump=() if jump.lower() == "none" else tuple(hop.removeprefix("ssh://") for hop in jump.split(",")),
        command=options.get("proxycommand"),
    )


def _own_name(device: str) -> str:
    found = user.name()
    if found is None:
        raise ConfigError("as whom? this user has no name here", device=device, hint="write ssh:user@host")
    return found


def _public(key: Path) -> bytes | None:
    """The public part that lies beside a private key (or is named itself, for a key that only an agent has)."""
    file = key if key.suffix == ".pub" else Path(f"{key}.pub")
    try:
        return base64.b64decode(file.read_bytes()[: 64 << 10].split()[1])
    except (OSError, IndexError, binascii.Error):
        return None


def _port(text: str, device: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise ConfigError(f"cannot use ~/.ssh/config: Port is {text[:80]!r}", device=device)
    return int(text)


def _path(text: str, device: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"cannot use ~/.ssh/config: nobody's home is {text[:200]!r}", device=device) from error


def _options(host: str, device: str) -> dict[str, Any]:
    file = hosts.folder() / "config"
    try:
        users = list(_expanded(file, host, device))
        found = _lookup(users, host)
    except _UNUSABLE as error:
        raise ConfigError(f"cannot use {file}: {error}", device=device) from error
    try:  # the user's own come first, so that they count
        return _lookup([*users, *_expanded(_SYSTEM_CONFIG, host, device)], host)
    except (ConfigError, *_UNUSABLE):  # the administrator's, which the user cannot mend
        return found


def _lookup(lines: list[str], host: str) -> dict[str, Any]:
    return dict(paramiko.SSHConfig.from_text("\n".join(lines)).lookup(host))


_UNUSABLE = (OSError, UnicodeDecodeError, paramiko.ConfigParseError, ImportError, ValueError, KeyError)


def _expanded(file: Path, host: str, device: str, depth: int = 0) -> Iterator[str]:
    """The lines of a configuration with those of the files it includes in their places; none if there is no file.

    paramiko knows no ``Include``. One inside a block counts only for the hosts of the block (ssh_config(5)).
    """
    if depth > _MAX_INCLUDES:
        raise ConfigError(f"cannot use {file}: Include goes in a circle", device=device)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if not os.access(file, os.F_OK):  # there is none, or this home is another user's
            return
        raise ConfigError(f"cannot use {file}: {error}", device=device) from error
    block = "Host *"
    yield block
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        word = match[1].lower() if match else ""
        if match and word == "include":
            if _applies(block, host):
                for included in _included(match[2], file, device):
                    yield from _expanded(included, host, device, depth + 1)
            yield block
            continue
        if word in {"host", "match"}:
            block = line
        yield line


def _applies(block: str, host: str) -> bool:
    return "asked" in _lookup([block, "Asked yes"], host)


def _included(patterns: str, file: Path, device: str) -> Iterator[Path]:
    try:
        words = shlex.split(patterns, comments=True)
    except ValueError as error:
        raise ConfigError(f"cannot use {file}: Include {patterns}: {error}", device=device) from error
    folder = _SYSTEM_CONFIG.parent if file.is_relative_to(_SYSTEM_CONFIG.parent) else hosts.folder()
    for word in words:
        found = glob.glob(str(folder / _path(word, device)))  # noqa: PTH207 - an absolute pattern is one, too
        yield from (Path(name) for name in sorted(found) if Path(name).is_file())
