"""A virtual board with a real kernel: ``qemu:NAME``, over ssh (``devicelab sim up --kernel``).

Keys and host key are the machine's own and lie in its directory; nothing of the user's ssh is touched.
"""

from devicelab.errors import ConfigError
from devicelab.transports.base import Attached, Transport
from devicelab.transports.ssh import SshTransport
from devicelab.transports.ssh.config import Target

SCHEME = "qemu"

_CONNECT_TIMEOUT_S = 20.0


class QemuTransport(SshTransport):
    """An ssh connection to a machine of ours."""

    def __init__(self, address: str) -> None:
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
        super().__init__(address, target)


def connect(address: str) -> Transport:
    """Connect to ``qemu:NAME``.

    Raises:
        ConfigError: there is no such machine.
        DeviceUnreachableError: no answer.
    """
    transport = QemuTransport(address)
    transport.dial(_CONNECT_TIMEOUT_S)
    return transport


def discover() -> tuple[Attached, ...]:
    """The machines that run."""
    from virtualboards.qemu import machine

    return tuple(Attached(one.address, "device", {"kind": one.kind}) for one in machine.machines())


def listed_as(address: str) -> str | None:
    """A machine has one address."""
    return address
