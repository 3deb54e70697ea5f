"""Plugins that say how to reach a device, found by name. See ``base`` for what one has to offer."""

from devicelab.errors import ConfigError, LabError
from devicelab.ground import registry
from devicelab.ground.safe_text import masked
from devicelab.transports.base import Attached, NotInstalledError, Transport


def connect(address: str) -> Transport:
    """The transport to a device, connected.

    Args:
        address: ``SCHEME:REST``, such as ``adb:SERIAL``, ``ssh:user@host`` or ``local:``.

    Raises:
        ConfigError: no such scheme, or the transport cannot read the rest.
        DeviceUnreachableError: it does not answer.
        DeviceRefusedError: it answers and does not let us in.
    """
    scheme, colon, _ = address.partition(":")
    schemes = registry.names("transports")
    if not colon or scheme not in schemes:
        known = ", ".join(f"{name}:…" for name in schemes)
        raise ConfigError(f"not a device address: {masked(address)!r}", hint=f"an address begins with one of {known}")
    return registry.transport(scheme).connect(address)


def discover_all() -> tuple[Attached, ...]:
    """What every transport sees attached.

    A transport that cannot look is reported as one more entry (``adb:``, with ``error`` and ``hint`` in its details),
    so that it does not hide what the others see. Its state is ``not installed`` if this machine lacks what the
    transport needs, so that no device can hang on it, else ``unavailable``.
    """
    devices: list[Attached] = []
    for scheme in registry.usable_names("transports"):
        try:
            devices += registry.ask("transports", scheme, "discover") or ()
        except LabError as error:
            state = "not installed" if isinstance(error, NotInstalledError) else "unavailable"
            devices.append(Attached(f"{scheme}:", state, {"error": error.message, "hint": error.hint or ""}))
    return tuple(devices)


def listed_as(address: str) -> str | None:
    """The address under which ``discover_all`` shows a device that is there; ``None``: it has to be asked itself."""
    scheme, colon, _ = address.partition(":")
    if not colon or scheme not in registry.names("transports"):
        return None
    return registry.transport(scheme).listed_as(address)
