"""The lab: which devices there are (lab.toml and what is attached) and how one is chosen by name."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from devicelab import registry
from devicelab.errors import ConfigError, DeviceUnreachableError, LabError
from devicelab.model.device import RootMethod
from devicelab.model.plan import Noun
from devicelab.safe_text import masked

LOCAL = "local"

explain = registry.explain


class DeviceEntry(Noun):
    """One unit, as lab.toml names it: ``[devices.NAME]``.

    Attributes:
        address: ``adb:SERIAL``, ``adb:SERIAL@host:port``, ``ssh:user@host[:port]`` or ``local:``.
        board: board kind; recognised if left out.
        tags: words for selecting devices in farm jobs.
        root: how root is reached; found out if left out.
        dir: directory on the device for devicelab's files; the usual one if left out.
        abi: of a machine that only gets bundles (others are asked).
        python: interpreter for tenants that are Python scripts.
        prefixes: installed software a scheduler needs, by name (``xsched = "/opt/xsched"``).
        reboot: a farm's night may reboot it to get it back; if left out, devices over adb may be, machines over ssh
            may not (others may work there), and this computer never is.
    """

    name: str
    address: str
    board: str | None = None
    tags: tuple[str, ...] = ()
    root: RootMethod | None = None
    dir: str | None = None
    python: str = "python3"
    abi: str = "x86_64"
    prefixes: dict[str, str] = Field(default_factory=dict)
    reboot: bool | None = None

    @property
    def may_reboot(self) -> bool:
        """Whether a night may reboot it."""
        scheme = self.address.partition(":")[0]
        return scheme != "local" and (scheme == "adb" if self.reboot is None else self.reboot)

    @field_validator("address")
    @classmethod
    def _no_password(cls, address: str) -> str:
        # Addresses are shown, stored and reported everywhere.
        if masked(address) != address:
            raise ValueError("an address holds no password; ssh uses keys")
        return address


class Lab(Noun):
    """The content of lab.toml.

    Attributes:
        default: device taken when ``--board`` is not given.
        devices: by name.
        path: the file it was read from, ``None`` if there is none.
    """

    default: str | None = None
    devices: dict[str, DeviceEntry] = Field(default_factory=dict)
    path: Path | None = None


@dataclass(frozen=True)
class Seen:
    """An attached device: its entry, the transport's state, and the board kind if it could be asked."""

    entry: DeviceEntry
    state: str
    kind: str | None = None
    error: str | None = None


def lab_path() -> Path | None:
    """Where lab.toml is: ``$DEVICELAB_LAB``, ``./lab.toml`` or ``~/.config/devicelab/lab.toml``."""
    explicit = os.environ.get("DEVICELAB_LAB")
    if explicit:
        return Path(explicit)
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return next((p for p in (Path("lab.toml"), config / "devicelab" / "lab.toml") if p.is_file()), None)


def load_lab(path: Path | None = None) -> Lab:
    """The lab, empty if there is no file.

    Raises:
        ConfigError: the file cannot be read or says something we do not know, with the place and the reason.
    """
    path = path or lab_path()
    if path is None:
        return Lab()
    data = registry.read_toml(path)
    devices = data.get("devices", {})
    if not isinstance(devices, dict) or not all(isinstance(d, dict) for d in devices.values()):
        raise ConfigError(f"{path}: [devices.NAME] tables are expected")
    entries = {name: {"name": name, **entry} for name, entry in devices.items()}
    try:
        return Lab.model_validate({**data, "devices": entries, "path": path})
    except ValidationError as error:
        problems = registry.explain(error, Lab)
        raise ConfigError(f"{path}: {problems}", hint="docs/reference/lab.md has every key") from error


def local_entry(lab: Lab) -> DeviceEntry:
    """This computer, which is always there (lab.toml may say more about it)."""
    return lab.devices.get(LOCAL) or DeviceEntry(name=LOCAL, address="local:")


def attached(lab: Lab, *, ask_kind: bool = True) -> tuple[Seen, ...]:
    """Everything the lab names and everything the transports see, each once; ``local`` comes last.

    Devices that lab.toml names keep their name; others are called by their serial.
    """
    from devicelab import transports

    seen: dict[str, Seen] = {}
    states = {found.address: found for found in transports.discover_all()}
    by_address = {entry.address: entry for entry in lab.devices.values()}
    for address, found in states.items():
        scheme, _, rest = address.partition(":")
        if scheme == "local" or not rest:  # this computer comes last; a transport that cannot look names no device
            continue
        entry = by_address.get(address) or DeviceEntry(name=rest, address=address)
        seen[entry.name] = Seen(entry, found.state)
    for entry in lab.devices.values():
        if entry.name not in seen and entry.name != LOCAL:
            # Whether these are there shows only when they are asked.
            seen[entry.name] = Seen(entry, "named" if entry.address.startswith(("ssh:", "local:")) else "absent")
    seen[LOCAL] = Seen(local_entry(lab), "device")
    return tuple(_with_kind(s) if ask_kind else s for s in seen.values())


def _with_kind(seen: Seen) -> Seen:
    if seen.entry.board is not None:
        return Seen(seen.entry, seen.state, seen.entry.board)
    if seen.state not in {"device", "named"}:
        return seen
    from devicelab.facts import identify

    try:
        return Seen(seen.entry, seen.state, identify(seen.entry))
    except LabError as error:
        return Seen(seen.entry, seen.state, error=error.message)


def choose(wanted: str | None, lab: Lab | None = None) -> DeviceEntry:
    """The device meant by ``--board``: a device's name, a serial, an address or a board kind; one must fit.

    Without ``wanted``: the lab's default, else the only attached device, else ``local`` if nothing is attached.

    Raises:
        ConfigError: nothing fits, or several do (they are listed).
        DeviceUnreachableError: a board kind that exists but is not attached.
    """
    lab = lab if lab is not None else load_lab()
    if wanted is None:
        return _choose_default(lab)
    if wanted in lab.devices:
        return lab.devices[wanted]
    if wanted in {LOCAL, "local:"}:
        return local_entry(lab)
    if wanted.partition(":")[0] in registry.names("transports") and ":" in wanted:
        return DeviceEntry(name=wanted.partition(":")[2] or wanted, address=wanted)
    present = attached(lab, ask_kind=False)
    for seen in present:
        if wanted == seen.entry.name:
            return seen.entry
    return _choose_by_kind(wanted, present)


def _choose_by_kind(wanted: str, present: Iterable[Seen]) -> DeviceEntry:
    from devicelab import boards

    asked = [_with_kind(seen) for seen in present]
    fits = [seen.entry for seen in asked if seen.kind == wanted]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise _several(fits, f"{len(fits)} devices are of kind {wanted!r}")
    known = (*boards.kinds(), *(seen.entry.name for seen in asked))
    if wanted not in known:
        raise registry.unknown("device or board kind", wanted, tuple(known))
    raise DeviceUnreachableError(
        f"no device of kind {wanted!r} is attached",
        hint=f"`devicelab devices` lists what is; `devicelab sim up {wanted}` starts a virtual one",
    )


def _choose_default(lab: Lab) -> DeviceEntry:
    if lab.default is not None:
        if lab.default not in lab.devices and lab.default != LOCAL:
            raise ConfigError(f"{lab.path}: default names {lab.default!r}, which is no device there")
        return lab.devices.get(lab.default) or local_entry(lab)
    present = [s for s in attached(lab, ask_kind=False) if s.entry.name != LOCAL and s.state in {"device", "named"}]
    if not present:
        return local_entry(lab)
    if len(present) > 1:
        raise _several([s.entry for s in present], "several devices are attached or configured")
    return present[0].entry


def _several(entries: Iterable[DeviceEntry], what: str) -> ConfigError:
    names = ", ".join(sorted(entry.name for entry in entries))
    return ConfigError(f"{what}: {names}", hint="choose one with --board NAME (`local` is this computer)")


def as_json(seen: Seen) -> dict[str, Any]:
    """A seen device as plain data."""
    return {
        "name": seen.entry.name,
        "address": seen.entry.address,
        "state": seen.state,
        "board": seen.kind,
        "tags": list(seen.entry.tags),
        "error": seen.error,
    }
