"""Where an ``ssh:`` address leads, with what the user's ``~/.ssh/config`` says about it."""

import getpass
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko

from devicelab.errors import ConfigError
from devicelab.safe_text import masked
from devicelab.transports import _ssh_hosts as hosts

_ADDRESS = re.compile(
    r"(?:(?P<user>[^@:\s]+)@)?(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^@:\s\[\]]+))(?::(?P<port>[0-9]{1,5}))?"
)


@dataclass(frozen=True)
class Target:
    """One server and how to get in.

    Attributes:
        known_as: its name in known_hosts.
        known_hosts: files to look in.
        keys: private key files to offer.
        only_keys: offer nothing but these (``IdentitiesOnly``).
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
    keys = (_path(str(key), device) for key in options.get("identityfile", ()))
    return Target(
        host=host,
        port=port,
        user=match["user"] or str(options.get("user") or getpass.getuser()),
        known_as=str(options.get("hostkeyalias") or hosts.known_name(host, port)),
        known_hosts=(*(_path(file, device) for file in files), *hosts.default_files()),
        keys=tuple(str(key) for key in keys if key.is_file()),
        only_keys=str(options.get("identitiesonly", "no")).lower() == "yes",
        jump=() if jump.lower() == "none" else tuple(hop.removeprefix("ssh://") for hop in jump.split(",")),
        command=options.get("proxycommand"),
    )


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
    file = Path.home() / ".ssh" / "config"
    if not file.is_file():
        return {}
    try:
        return dict(paramiko.SSHConfig.from_path(str(file)).lookup(host))
    except (OSError, UnicodeDecodeError, paramiko.ConfigParseError, ImportError, ValueError, KeyError) as error:
        raise ConfigError(f"cannot use {file}: {error}", device=device) from error
