"""Where an ``ssh:`` address leads: OpenSSH itself is asked what its configuration says (``ssh -G``).

Without OpenSSH's client paramiko reads ``~/.ssh/config``, which knows neither ``Include`` nor most of ``Match``: a
file that holds them is refused then.
"""

import base64
import binascii
import logging
import os
import pwd
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
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
# A Match exec of the user's may hang.
_ASK_TIMEOUT_S = 30.0
# Those that ssh tries where no IdentityFile is named (ssh_config(5)).
_USUAL_KEYS = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")
_INSTALL = "install OpenSSH's client (Debian: openssh-client), which reads it as it is meant"
_MAX_KEY_BYTES = 64 << 10

_WORD = re.compile(r'"[^"]*"|[^\s"]+')

_LOG = logging.getLogger(__name__)

Options = Mapping[str, tuple[str, ...]]
"""Keywords in lower case with their values, as ``ssh -G`` prints them."""


@dataclass(frozen=True)
class Target:
    """One server and how to get in.

    Attributes:
        known_as: its name in known_hosts.
        known_hosts: files to look in; the first is the one to add to.
        keys: private key files to offer, whether they exist or not.
        certificates: certificate files beside those that lie next to a key.
        only_keys: offer nothing but these (``IdentitiesOnly``), and the agent's that ``public`` names.
        public: public parts of the keys meant, as in the SSH protocol.
        agent: socket of the user's agent; ``None``: there is none, or it shall not be asked.
        jump: hosts to go through, in this order, as written (``ProxyJump``).
        command: a command whose streams are the connection (``ProxyCommand``).
    """

    host: str
    port: int
    user: str
    known_as: str
    known_hosts: tuple[Path, ...]
    keys: tuple[Path, ...] = ()
    certificates: tuple[Path, ...] = ()
    only_keys: bool = False
    public: frozenset[bytes] = frozenset()
    agent: str | None = None
    jump: tuple[str, ...] = ()
    command: str | None = None


def resolve(text: str, device: str) -> Target:
    """A target from ``[user@]host[:port]`` and the user's ssh configuration.

    Raises:
        ConfigError: not such a text, or the configuration cannot be used; OpenSSH's own words are in the message.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or not 0 < int(match["port"] or 22) < 65536:
        raise ConfigError(
            f"not an ssh address: {masked(f'ssh:{text}')!r}",
            device=masked(device),
            hint="write ssh:user@host or ssh:user@host:port; there is no password in it, ssh uses keys",
        )
    written = match["six"] or match["host"]
    return _target(written, options_of(written, match["user"], match["port"], device), device)


def _target(written: str, options: Options, device: str) -> Target:
    def one(keyword: str, default: str = "") -> str:
        return (*options.get(keyword, ()), default)[0]

    host, port, name = one("hostname", written), _port(one("port", "22"), device), one("user") or _own_name(device)
    alias = one("hostkeyalias")
    tokens = {
        "%": "%", "h": host, "n": written, "p": str(port), "r": name, "k": alias or written, "i": str(os.getuid()),
        "u": user.name() or "", "d": str(user.home() or ""), "L": os.uname().nodename.partition(".")[0],
        "l": os.uname().nodename,
    }  # fmt: skip

    def path(value: str) -> Path:
        return _path(_expanded(_environment(value, device), tokens, device), device)

    only_keys = one("identitiesonly", "no").lower() in {"yes", "true"}
    named = tuple(value for value in options.get("identityfile", ()) if value.lower() != "none")
    keys = tuple(map(path, named)) or tuple(hosts.folder() / key for key in _USUAL_KEYS)
    jump = _expanded(one("proxyjump", "none"), tokens, device)
    command = one("proxycommand", "none")
    agent = one("identityagent", "SSH_AUTH_SOCK")
    if agent == "SSH_AUTH_SOCK":
        socket = os.environ.get("SSH_AUTH_SOCK") or None
    else:
        named_by = os.environ.get(agent[1:], "") if re.fullmatch(r"\$\w+", agent) else agent
        socket = None if named_by.lower() in {"none", ""} else str(path(named_by))
    return Target(
        host=host,
        port=port,
        user=name,
        known_as=alias or hosts.known_name(host, port),
        known_hosts=hosts.files(
            _files(options.get("userknownhostsfile"), path), _files(options.get("globalknownhostsfile"), path)
        ),
        keys=tuple(dict.fromkeys(keys)),
        certificates=tuple(path(value) for value in options.get("certificatefile", ()) if value.lower() != "none"),
        only_keys=only_keys,
        public=frozenset(filter(None, map(public_part, keys))) if only_keys else frozenset(),
        agent=socket,
        jump=() if jump.lower() == "none" else tuple(hop.removeprefix("ssh://") for hop in jump.split(",")),
        command=None if command.lower() == "none" else _expanded(command, tokens, device),
    )


def _files(values: Sequence[str] | None, path: Callable[[str], Path]) -> tuple[Path, ...] | None:
    """The files of a list; ``None``: not said. ssh prints names that hold blanks as they are, one behind the other."""
    if values is None:
        return None
    found: list[Path] = []
    for value in values:
        for piece in re.split(r" (?=[/~]|none$)", value):
            whole = path(piece)
            found += [whole] if whole.exists() or " " not in piece else [path(word) for word in piece.split()]
    return tuple(file for file in found if str(file) != "none")


def _own_name(device: str) -> str:
    found = user.name()
    if found is None:
        raise ConfigError("as whom? this user has no name here", device=device, hint="write ssh:user@host")
    return found


def public_part(key: Path) -> bytes | None:
    """The public part that lies beside a private key (or is named itself, for a key that only an agent has)."""
    file = key if key.suffix == ".pub" else Path(f"{key}.pub")
    try:
        return base64.b64decode(file.read_bytes()[:_MAX_KEY_BYTES].split()[1])
    except (OSError, IndexError, binascii.Error):
        return None


def _port(text: str, device: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise ConfigError(f"cannot use ~/.ssh/config: Port is {text[:80]!r}", device=device)
    return int(text)


def _environment(text: str, device: str) -> str:
    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise ConfigError(f"cannot use ~/.ssh/config: {text[:200]!r}: {match[1]} is not set", device=device)
        return found

    return re.sub(r"\$\{(\w+)\}", value, text)


def _expanded(text: str, tokens: Mapping[str, str], device: str) -> str:
    """The text with OpenSSH's tokens replaced (ssh_config(5), TOKENS); ``ssh -G`` leaves them as they are."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in tokens:
            raise ConfigError(
                f"cannot use ~/.ssh/config: devicelab knows no {match[0]} in {text[:200]!r}", device=device
            )
        return tokens[match[1]]

    return re.sub(r"%(.?)", value, text)


def _path(text: str, device: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"cannot use ~/.ssh/config: nobody's home is {text[:200]!r}", device=device) from error


def options_of(host: str, login: str | None, port: str | None, device: str) -> Options:
    """What OpenSSH's configuration says about a host.

    Raises:
        ConfigError: it cannot be used; OpenSSH's own words are in the message.
    """
    home = user.home()
    stamps = tuple(_stamp(file) for file in ((home or Path("/")) / ".ssh/config", _SYSTEM_CONFIG))
    return _asked(host, login, port, device, home, shutil.which("ssh"), stamps)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


# `Match exec` runs programs: once for a device and command is enough, as with ssh itself.
@lru_cache(maxsize=256)
def _asked(
    host: str, login: str | None, port: str | None, device: str, home: Path | None, ssh: str | None, _stamps: object
) -> Options:
    said = {**({"user": (login,)} if login else {}), **({"port": (port,)} if port else {})}
    config = (home or Path("/nonexistent")) / ".ssh/config"
    if ssh is None:
        return _by_paramiko(host, config, said, device)
    words = [ssh, "-T", "-G", *(("-p", port) if port else ()), *(("-l", login) if login else ())]
    with tempfile.NamedTemporaryFile("w", prefix="devicelab-ssh-", encoding="utf-8", errors="surrogateescape") as file:
        if home is not None and home != _listed_home():
            file.write(_moved(config, home, device))
            file.flush()
            words += ["-F", file.name]
        try:
            done = subprocess.run(
                [*words, "--", host], stdin=subprocess.DEVNULL, capture_output=True, timeout=_ASK_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            message = f"`ssh -G {host}` does not end within {_ASK_TIMEOUT_S:g} s; does a Match exec in {config} hang?"
            raise ConfigError(message, device=device) from error
        except OSError as error:
            raise ConfigError(f"cannot run {ssh}: {error.strerror}", device=device) from error
        told = done.stderr.decode(errors="replace").strip().replace(file.name, str(config))
    if done.returncode != 0 and "No user exists" in told:  # a container's user without an entry in the list of users
        return _by_paramiko(host, config, said, device)
    if done.returncode != 0:
        text = masked("; ".join(told.splitlines()[:4])) or f"ssh -G ends with exit code {done.returncode}"
        raise ConfigError(f"cannot use the ssh configuration: {text}", device=device, hint=f"see `ssh -G {host}`")
    found: dict[str, tuple[str, ...]] = {}
    for line in done.stdout.decode("utf-8", "surrogateescape").splitlines():
        keyword, _, value = line.partition(" ")
        found[keyword.lower()] = (*found.get(keyword.lower(), ()), value)
    return found


def _listed_home() -> Path | None:
    """The home in the system's list of users: ssh reads that one, whatever ``HOME`` says."""
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return None


def _moved(config: Path, home: Path, device: str) -> str:
    """A configuration for ``ssh -F`` that says what ssh would read if ``HOME`` were the user's listed home."""
    try:
        text = config.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        if os.access(config, os.F_OK):
            raise ConfigError(f"cannot use {config}: {error.strerror}", device=device) from error
        text = ""
    text = re.sub(r'(?<=[\s"=])~(?=/)', lambda _: str(home), text)
    included = re.compile(r"^(\s*include[ \t=]+)(.*)$", re.IGNORECASE | re.MULTILINE)

    def absolute(match: re.Match[str]) -> str:
        names = [word.strip('"') for word in _WORD.findall(match[2].partition(" #")[0])]
        places = [name if name.startswith(("/", "~", "$", "%")) else f"{config.parent}/{name}" for name in names]
        return match[1] + " ".join(f'"{place}"' for place in places)

    known = f"{config.parent}/known_hosts"
    return (
        f"{included.sub(absolute, text)}\nMatch all\nInclude {_SYSTEM_CONFIG}\n"
        f'Match all\nUserKnownHostsFile "{known}" "{known}2"\n'
    )


def _by_paramiko(host: str, config: Path, said: Options, device: str) -> Options:
    try:
        text = config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if not os.access(config, os.F_OK):
            return said
        raise ConfigError(f"cannot use {config}: {error}", device=device) from error
    odd = re.search(r"^\s*(match|include)\b", text, re.IGNORECASE | re.MULTILINE)
    if odd:
        raise ConfigError(f"cannot use {config} without OpenSSH: it holds {odd[1]}", device=device, hint=_INSTALL)
    _LOG.warning("ssh is not installed: %s is read by paramiko; %s", config, _INSTALL)
    try:
        # What comes first counts, and paramiko takes a comment behind a value for a part of it.
        first = "".join(f"{keyword} {value}\n" for keyword, values in said.items() for value in values)
        plain = re.sub(r'^([^"#\n]*?)[ \t]+#.*$', r"\1", text, flags=re.MULTILINE)
        found: Mapping[str, Any] = paramiko.SSHConfig.from_text(first + plain).lookup(host)
    except (paramiko.SSHException, ImportError, ValueError, KeyError) as error:
        raise ConfigError(f"cannot use {config}: {error}", device=device, hint=_INSTALL) from error
    lists = {"userknownhostsfile", "globalknownhostsfile"}
    return {
        key: tuple(shlex.split(value)) if key in lists else tuple([value] if isinstance(value, str) else value)
        for key, value in found.items()
    }
