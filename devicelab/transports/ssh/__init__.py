"""A board over ssh: ``ssh:user@host[:port]``, with OpenSSH's own files for hosts, keys and settings.

paramiko is imported when a board is connected to: whoever lists devices that are on adb does not pay for it.
"""

from devicelab.transports.base import Attached, Transport

SCHEME = "ssh"


def connect(address: str) -> Transport:
    """Connect to ``ssh:user@host[:port]``.

    Raises:
        ConfigError: not such an address.
        DeviceUnreachableError: no answer.
        DeviceRefusedError: an unknown or changed host key, or no key of ours is accepted.
    """
    from devicelab.transports.ssh import session

    transport = session.SshTransport(address)
    transport.dial(session.CONNECT_TIMEOUT_S)
    return transport


def discover() -> tuple[Attached, ...]:
    """None: ssh has no list of what is there. Boards are named in ``lab.toml``."""
    return ()


def listed_as(_address: str) -> str | None:
    """Nothing is listed."""
    return None
