"""An adb server's end of the wire protocol, packet by packet, for what the real one never does."""

import socket
from collections import deque

from virtualboards.adbd import wire
from virtualboards.adbd.wire import Packet


class RawHost:
    """One connection to a board; ``version`` 0x01000000 asks for checksums and 4 KiB payloads as an old server does."""

    def __init__(self, serial: str, *, version: int = wire.VERSION_NO_CHECKSUM, max_payload: int = 262144) -> None:
        host, _, port = serial.partition(":")
        self.sock = socket.create_connection((host, int(port)), timeout=20)
        self._decoder = wire.Decoder()
        self._waiting: deque[Packet] = deque()
        self._checksum = True
        self._next = 0
        self.send(Packet(wire.CNXN, version, max_payload, b"host::features=shell_v2,stat_v2,ls_v2"))
        self.hello = self.receive()
        self._checksum = self._decoder.verify = version < wire.VERSION_NO_CHECKSUM

    def send(self, packet: Packet) -> None:
        self.sock.sendall(wire.encode(packet, with_checksum=self._checksum))

    def receive(self) -> Packet:
        """The next packet; raises ``EOFError`` when the board hangs up."""
        while not self._waiting:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self._waiting.extend(self._decoder.feed(data))
        return self._waiting.popleft()

    def open(self, destination: str) -> tuple[int, int]:
        """Open a stream; our id and the board's."""
        self._next += 1
        self.send(Packet(wire.OPEN, self._next, 0, destination.encode() + b"\0"))
        answer = self.receive()
        assert (answer.command, answer.arg1) == (wire.OKAY, self._next), answer
        return self._next, answer.arg0

    def read_all(self, ours: int, theirs: int) -> list[bytes]:
        """Payloads of one stream until the board closes it, acknowledging each."""
        payloads = []
        while (packet := self.receive()).command != wire.CLSE:
            if packet.command == wire.WRTE:
                assert packet.arg1 == ours
                payloads.append(packet.payload)
                self.send(Packet(wire.OKAY, ours, theirs))
        return payloads

    def close(self) -> None:
        self.sock.close()
