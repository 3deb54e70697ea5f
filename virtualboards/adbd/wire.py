"""The adb wire protocol between server and device: packets and nothing else.

Source: AOSP ``packages/modules/adb/protocol.txt`` and ``types.h``. A packet is six little-endian 32-bit words
(command, arg0, arg1, payload length, payload checksum, command XOR 0xffffffff) and the payload.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

HEADER = struct.Struct("<6I")

CNXN = 0x4E584E43
OPEN = 0x4E45504F
OKAY = 0x59414B4F
WRTE = 0x45545257
CLSE = 0x45534C43
AUTH = 0x48545541
STLS = 0x534C5453
SYNC = 0x434E5953
COMMANDS = frozenset({CNXN, OPEN, OKAY, WRTE, CLSE, AUTH, STLS, SYNC})

VERSION_MIN = 0x01000000
VERSION_NO_CHECKSUM = 0x01000001
"""From this version on both sides send 0 as checksum and do not look at the other's."""

MAX_PAYLOAD = 1024 * 1024
MAX_PAYLOAD_V1 = 4096


class ProtocolError(Exception):
    """The peer sent something that is not the adb protocol; the connection has to be dropped."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet; ``arg0`` and ``arg1`` mean the sender's and the receiver's stream id in most commands."""

    command: int
    arg0: int
    arg1: int
    payload: bytes = b""


def checksum(payload: bytes) -> int:
    """Sum of all bytes, 32 bits (called crc32 in the protocol text, which it is not)."""
    return sum(payload) & 0xFFFFFFFF


def encode(packet: Packet, *, with_checksum: bool) -> bytes:
    """The packet as it travels."""
    check = checksum(packet.payload) if with_checksum else 0
    magic = packet.command ^ 0xFFFFFFFF
    return HEADER.pack(packet.command, packet.arg0, packet.arg1, len(packet.payload), check, magic) + packet.payload


class Decoder:
    """Packets from a byte stream however it is cut.

    Args:
        max_payload: a longer payload is refused before it is stored.
    """

    def __init__(self, max_payload: int = MAX_PAYLOAD) -> None:
        self.max_payload = max_payload
        self.verify = True
        """Compare checksums; switched off once both sides speak ``VERSION_NO_CHECKSUM``."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Take what arrived and yield every packet that is now complete.

        Raises:
            ProtocolError: unknown command, wrong magic, payload too long, or wrong checksum.
        """
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            command, arg0, arg1, length, check, magic = HEADER.unpack_from(self._buffer)
            if command not in COMMANDS or magic != command ^ 0xFFFFFFFF:
                raise ProtocolError(f"not an adb packet: command {command:#x}, magic {magic:#x}")
            if length > self.max_payload:
                raise ProtocolError(f"payload of {length} bytes is longer than the agreed {self.max_payload}")
            end = HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            # A server that greets a device again after a reconnect already leaves the checksum out of its greeting.
            exempt = command == CNXN and arg0 >= VERSION_NO_CHECKSUM
            if self.verify and not exempt and checksum(payload) != check:
                raise ProtocolError("payload does not fit its checksum")
            yield Packet(command, arg0, arg1, payload)
