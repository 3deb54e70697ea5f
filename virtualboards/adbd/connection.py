"""One connection from an adb server: handshake, streams and their flow control."""

import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from virtualboards.adbd import wire
from virtualboards.adbd.wire import Packet, ProtocolError
from virtualboards.loop import READ, WRITE, Loop

_READ_SIZE = 256 * 1024

# A server whose client hangs up sends what is left without waiting for the acknowledgement; more than a few such
# payloads no server sends.
_UNACKNOWLEDGED_MAX = 16


class Service(Protocol):
    """What runs at the device's end of a stream."""

    def on_data(self, data: bytes) -> None:
        """Bytes from the host; ``Stream.consumed`` has to be called once they are dealt with."""
        ...

    def on_writable(self) -> None:
        """The host took the last bytes; ``Stream.write`` may be called again."""
        ...

    def on_close(self) -> None:
        """The host closed the stream or the connection broke: release everything."""
        ...


@dataclass
class Counters:
    """What passed since the board's start; ``services`` counts streams and bytes by the service's name."""

    connections: int = 0
    streams: int = 0
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    services: dict[str, dict[str, int]] = field(default_factory=dict)

    def service(self, name: str) -> dict[str, int]:
        """The counters of one service."""
        return self.services.setdefault(name, {"streams": 0, "bytes_in": 0, "bytes_out": 0})


class Host(Protocol):
    """What a connection asks of the daemon it belongs to."""

    counters: Counters

    def banner(self) -> bytes:
        """The device's self-description for the handshake."""
        ...

    def open(self, stream: "Stream", destination: str) -> Service | None:
        """Start the service a stream asks for; ``None`` refuses it."""
        ...

    def closed(self, connection: "Connection") -> None:
        """A connection ended."""
        ...

    def outgoing(self, payload: bytes) -> bytes:
        """A payload about to leave; the place where a faulty cable damages it."""
        ...

    def traffic(self, connection: "Connection", size: int) -> float:
        """``size`` more bytes passed; returns for how many seconds to stop reading from the host (0: go on)."""
        ...


class Stream:
    """One stream: at most one unacknowledged packet on its way out.

    Attributes:
        local, remote: the two stream ids.
        name: the service's name up to the first colon or comma, for the counters.
    """

    def __init__(self, connection: "Connection", local: int, remote: int, name: str) -> None:
        self._connection = connection
        self.local = local
        self.remote = remote
        self.name = name
        self.service: Service | None = None
        self.writable = True
        self.closed = False
        self.unacknowledged = 0

    @property
    def max_payload(self) -> int:
        """Longest payload the peer takes."""
        return self._connection.max_payload

    def write(self, data: bytes) -> None:
        """Send one payload; only while ``writable``."""
        self.writable = False
        self._connection.counters.service(self.name)["bytes_out"] += len(data)
        self._connection.send(Packet(wire.WRTE, self.local, self.remote, self._connection.host.outgoing(data)))

    def consumed(self) -> None:
        """One more payload was dealt with: let the host send the next."""
        self.unacknowledged -= 1
        if not self.closed:
            self._connection.send(Packet(wire.OKAY, self.local, self.remote))

    def when_flushed(self, callback: Callable[[], None]) -> None:
        """Call back once everything queued on the connection is on its way."""
        self._connection.when_flushed(callback)

    def close(self) -> None:
        """End the stream from the device's side; the service is not told."""
        if not self.closed:
            self.closed = True
            self._connection.send(Packet(wire.CLSE, self.local, self.remote))
            self._connection.drop_stream(self.local)


class Connection:
    """A TCP connection that speaks the adb protocol."""

    def __init__(self, loop: Loop, sock: socket.socket, host: Host) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host = host
        self.counters = host.counters
        self.max_payload = wire.MAX_PAYLOAD_V1
        self._loop = loop
        self._sock = sock
        self._decoder = wire.Decoder()
        self._checksum = True
        self._online = False
        self._paused: set[str] = set()
        self._streams: dict[int, Stream] = {}
        self._next_id = 0
        self._out: deque[memoryview] = deque()
        self._after_flush: Callable[[], None] | None = None
        self.open = True
        self._rewatch()

    def send(self, packet: Packet) -> None:
        """Queue a packet; the queue is bounded because every stream has at most one payload on its way out."""
        if not self.open:
            return
        self.counters.packets_out += 1
        self.counters.bytes_out += wire.HEADER.size + len(packet.payload)
        self._out.append(memoryview(wire.encode(packet, with_checksum=self._checksum)))
        if len(self._out) == 1 and not self._paused:
            self._flush()
        self._slow_down(len(packet.payload))

    def when_flushed(self, callback: Callable[[], None]) -> None:
        """Call back once everything queued is on its way (at once if nothing is)."""
        if self._out and self.open:
            self._after_flush = callback
        else:
            callback()

    def drop_stream(self, local: int) -> None:
        """Forget a stream that is closed."""
        self._streams.pop(local, None)

    def pause(self, reason: str) -> None:
        """Neither read nor write until ``resume`` was called for every reason."""
        self._paused.add(reason)
        self._rewatch()

    def resume(self, reason: str) -> None:
        """End one ``pause``."""
        self._paused.discard(reason)
        self._rewatch()

    def close(self) -> None:
        """Break the connection; every service is told."""
        if not self.open:
            return
        self.open = False
        self._loop.forget(self._sock.fileno())
        self._sock.close()
        self._out.clear()
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.closed = True
            if stream.service is not None:
                stream.service.on_close()
        self.host.closed(self)

    def _rewatch(self) -> None:
        if self.open:
            events = 0 if self._paused else READ | (WRITE if self._out else 0)
            self._loop.watch(self._sock.fileno(), events, self._ready)

    def _slow_down(self, size: int) -> None:
        delay_s = self.host.traffic(self, size) if self.open else 0.0
        if delay_s > 0 and "slow" not in self._paused and self.open:
            self.pause("slow")
            self._loop.call_later(delay_s, lambda: self.resume("slow"))

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if events & READ and self.open:
            self._receive()

    def _flush(self) -> None:
        try:
            while self._out:
                sent = self._sock.send(self._out[0])
                if sent < len(self._out[0]):
                    self._out[0] = self._out[0][sent:]
                    break
                self._out.popleft()
        except BlockingIOError:
            pass
        except OSError:
            # Closing here would pull the ground from under the caller, who may be in the middle of a service.
            self._out.clear()
            self._loop.call_soon(self.close)
        self._rewatch()
        if not self._out and self._after_flush is not None:
            callback, self._after_flush = self._after_flush, None
            self._loop.call_soon(callback)

    def _receive(self) -> None:
        try:
            data = self._sock.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self.counters.bytes_in += len(data)
        try:
            for packet in self._decoder.feed(data):
                self.counters.packets_in += 1
                self._handle(packet)
                if not self.open:
                    return
        except ProtocolError:
            self.close()
            return
        self._slow_down(len(data))

    def _handle(self, packet: Packet) -> None:
        if packet.command == wire.CNXN:
            self._connect(packet)
        elif packet.command == wire.STLS or not self._online:
            # TLS was never offered, and nothing may be asked before the handshake.
            raise ProtocolError(f"unexpected packet {packet.command:#x}")
        elif packet.command == wire.OPEN:
            self._open(packet)
        elif packet.command in {wire.OKAY, wire.WRTE, wire.CLSE}:
            self._on_stream(packet)

    def _connect(self, packet: Packet) -> None:
        version, max_payload = packet.arg0, packet.arg1
        if version < wire.VERSION_MIN or max_payload < 1:
            raise ProtocolError(f"peer speaks version {version:#x}")
        version = min(version, wire.VERSION_NO_CHECKSUM)
        self.max_payload = min(max_payload, wire.MAX_PAYLOAD)
        for stream in list(self._streams.values()):
            stream.closed = True
            if stream.service is not None:
                stream.service.on_close()
        self._streams.clear()
        self._online = True
        banner = self.host.banner()
        self.send(Packet(wire.CNXN, wire.VERSION_NO_CHECKSUM, wire.MAX_PAYLOAD, banner))
        self._checksum = self._decoder.verify = version < wire.VERSION_NO_CHECKSUM

    def _open(self, packet: Packet) -> None:
        destination = packet.payload.rstrip(b"\0").decode("utf-8", "surrogateescape")
        if not packet.arg0:
            raise ProtocolError("stream id 0")
        self._next_id += 1
        name = destination.partition(":")[0].partition(",")[0]
        stream = Stream(self, self._next_id, packet.arg0, name)
        self._streams[stream.local] = stream
        # Services write as soon as they start, so the acknowledgement goes first and a refusal is a close after it
        # only where the service itself fails; an unknown name is refused with id 0.
        try:
            service = self.host.open(stream, destination)
        except OSError:
            # Out of descriptors or of memory: this one is refused, those that are open go on.
            service = None
        if service is None:
            self.drop_stream(stream.local)
            stream.closed = True
            self.send(Packet(wire.CLSE, 0, packet.arg0))
            return
        self.counters.streams += 1
        self.counters.service(name)["streams"] += 1
        stream.service = service
        self.send(Packet(wire.OKAY, stream.local, stream.remote))
        service.on_writable()

    def _on_stream(self, packet: Packet) -> None:
        stream = self._streams.get(packet.arg1)
        if stream is None or stream.service is None:
            if packet.command == wire.WRTE:
                self.send(Packet(wire.CLSE, packet.arg1, packet.arg0))
            return
        if packet.command == wire.WRTE:
            self.counters.service(stream.name)["bytes_in"] += len(packet.payload)
            stream.unacknowledged += 1
            if stream.unacknowledged > _UNACKNOWLEDGED_MAX:
                raise ProtocolError("the peer does not wait for acknowledgements")
            stream.service.on_data(packet.payload)
        elif packet.command == wire.OKAY:
            stream.writable = True
            stream.service.on_writable()
        else:
            stream.closed = True
            self.drop_stream(stream.local)
            # adbd answers a close with a close of its own, which the server ignores if it is done with the stream.
            self.send(Packet(wire.CLSE, stream.local, stream.remote))
            stream.service.on_close()
