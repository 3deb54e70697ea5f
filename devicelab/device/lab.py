"""The lab: the devices that lab.toml names, and what it says of each."""

from pathlib import Path

from pydantic import Field, ValidationError, field_validator

from devicelab.errors import ConfigError
from devicelab.ground import places, toml
from devicelab.ground.safe_text import masked
from devicelab.model.device import RootMethod
from devicelab.model.plan import Noun

LOCAL = "local"


class DeviceEntry(Noun):
    """One unit, as lab.toml names it: ``[devices.NAME]``.

    Attributes:
        address: ``adb:SERIAL``, ``adb:SERIAL@host:port``, ``adb:usb:PATH`` (of boards that share a serial),
            ``ssh:user@host[:port]`` or ``local:``.
        board: board kind; recognised if left out.
        tags: words for selecting devices in farm jobs.
        root: how root is reached; found out if left out, an error if it does not work.
        dir: directory on the device for devicelab's files; the usual one if left out.
        abi: of a machine that only gets bundles (others are asked).
        python: interpreter for tenants that are Python scripts.
        prefixes: installed software a scheduler needs, by name (``xsched = "/opt/xsched"``).
        meter: a command on this host that prints ``seconds, watts`` of the device, a reading a line.
        reboot: a farm's night may reboot it to get it back; if left out, devices over adb may be, machines over ssh
            may not (others may work there), and this computer never is.
        replug: a farm's night may switch the power of its USB port off and on by uhubctl when it is gone from there.
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
    meter: tuple[str, ...] = ()
    reboot: bool | None = None
    replug: bool = False

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
        default: device taken when ``--board`` is not given. Without it the only one that is there is taken, and this
            computer only if no other is attached or named.
        devices: by name.
        path: the file it was read from, ``None`` if there is none.
    """

    default: str | None = None
    devices: dict[str, DeviceEntry] = Field(default_factory=dict)
    path: Path | None = None


def load_lab(path: Path | None = None) -> Lab:
    """The lab, empty if there is no file.

    Raises:
        ConfigError: the file cannot be read or says something we do not know, with the place and the reason.
    """
    path = path or places.lab_path()
    if path is None:
        return Lab()
    data = toml.read(path)
    devices = data.get("devices", {})
    if not isinstance(devices, dict) or not all(isinstance(d, dict) for d in devices.values()):
        raise ConfigError(f"{path}: [devices.NAME] tables are expected")
    entries = {name: {"name": name, **entry} for name, entry in devices.items()}
    try:
        return Lab.model_validate({**data, "devices": entries, "path": path})
    except ValidationError as error:
        problems = toml.explain(error, Lab)
        raise ConfigError(f"{path}: {problems}", hint="docs/reference/lab.md has every key") from error


def local_entry(lab: Lab) -> DeviceEntry:
    """This computer, which is always there (lab.toml may say more about it)."""
    return lab.devices.get(LOCAL) or DeviceEntry(name=LOCAL, address="local:")
