"""A virtual board with a real kernel: ``qemu:NAME``, over ssh (``devicelab sim up --kernel``).

Keys and host key are the machine's own and lie in its directory; nothing of the user's ssh is touched.
"""

from devicelab.errors import ConfigError
from devicelab.transports.base import Attached, Transport

SCHEME = "qemu"

_CONNECT_TIMEOUT_S = 20.0


def connect(address: str) -> Transport:
    """Connect to ``qemu:NAME``.

    Raises:
        ConfigError: there is no such machine.
        DeviceUnreachableError: no answer.
    """
    from devicelab.transports.ssh.config import Target
    from devicelab.transports.ssh.session import SshTransport
    from virtualboards.qemu import machine

    scheme, _, name = address.partition(":")
    if scheme != SCHEME or not name:
        raise ConfigError(f"not the address of a virtual machine: {address!r}", hint="write qemu:NAME")
    found = machine.machine(name)
    target = Target(
        host="127.0.0.1",
        port=found.port,
        user="root",
        known_as=f"[127.0.0.1]:{found.port}",
        known_hosts=(found.known_hosts,),
        keys=(found.key,),
        only_keys=True,
    )
    transport = SshTransport(address, target)
    transport.dial(_CONNECT_TIMEOUT_S)
    return transport


def discover() -> tuple[Attached, ...]:
    """The machines that run."""
    from virtualboards.qemu import machine

    return tuple(Attached(one.address, "device", {"kind": one.kind}) for one in machine.machines())


def listed_as(address: str) -> str | None:
    """A machine has one address."""
    return address
