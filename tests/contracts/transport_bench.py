"""What the transport contract is tested on: a device, a second way to it, and a wire that can be cut."""

import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from devicelab.transports.base import Transport

_PATIENCE_S = 30.0


def sh(text: str, *args: str) -> list[str]:
    """A shell command with its arguments from ``$1`` on."""
    return ["sh", "-c", text, "sh", *args]


class Wire:
    """A TCP relay on 127.0.0.1 that can be cut (all connections reset, new ones refused) and mended."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._budget: int | None = None
        self._listener: socket.socket | None = None
        self.port = 0
        self.connections = 0
        self.mend()

    def mend(self) -> None:
        """Take connections again, on the same port as ever."""
        with self._lock:
            if self._listener is not None:
                return
            self._budget = None
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self.port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Reset what is connected and refuse what comes."""
        with self._lock:
            listener, self._listener = self._listener, None
            pairs, self._pairs = self._pairs, set()
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for pair in pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def cut_after(self, count: int) -> None:
        """Cut by itself when so many bytes have passed from now on."""
        with self._lock:
            self._budget = count

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = (near, far)
            with self._lock:
                alive = self._listener is listener
                if alive:
                    self.connections += 1
                    self._pairs.add(pair)
            if alive:
                threading.Thread(target=self._relay, args=(pair,), daemon=True).start()
            else:
                near.close()
                far.close()

    def _relay(self, pair: tuple[socket.socket, socket.socket]) -> None:
        near, far = pair
        with near, far, selectors.DefaultSelector() as selector, suppress(OSError):
            selector.register(near, selectors.EVENT_READ, far)
            selector.register(far, selectors.EVENT_READ, near)
            while selector.get_map():
                for key, _ in selector.select():
                    source, sink = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    data = source.recv(65536)
                    if data:
                        self._spend(len(data))
                        sink.sendall(data)
                    else:
                        selector.unregister(source)
                        sink.shutdown(socket.SHUT_WR)
        with self._lock:
            self._pairs.discard(pair)

    def _spend(self, count: int) -> None:
        with self._lock:
            if self._budget is None:
                return
            self._budget -= count
            spent = self._budget <= 0
        if spent:
            self.cut()


@dataclass
class Bench:
    """A device under test.

    Attributes:
        connect: a new transport to it, over the wire if there is one.
        other: a second way to it that no cut touches.
        wire: ``None`` for this machine itself.
        dir: an empty folder on the device.
    """

    connect: Callable[[], Transport]
    other: Transport
    dir: str
    wire: Wire | None = None
    transport: Transport = field(init=False)

    def __post_init__(self) -> None:
        self.transport = self.connect()

    def listing(self, folder: str = ".") -> list[str]:
        """Names in a folder of ``dir``, hidden ones too."""
        done = self.other.run(["ls", "-A", f"{self.dir}/{folder}"])
        assert done.exit_code == 0, done
        return sorted(done.stdout.decode().splitlines())

    def read(self, remote: str) -> bytes:
        """A file of the device, over the way that no cut touches."""
        data = bytearray()
        done = self.other.run(["cat", remote], on_stdout=data.extend)
        assert done.exit_code == 0, done
        return bytes(data)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "the condition never came to hold"
            time.sleep(0.02)

    def wait_for(self, argv: Sequence[str]) -> None:
        """Wait until a command on the device succeeds."""
        self.until(lambda: self.other.run(argv).exit_code == 0)

    def alive(self, marker: str) -> list[str]:
        """Pids of the device's processes whose command line holds the marker."""
        script = 'for dir in /proc/[0-9]*; do echo "@@${dir#/proc/}"; cat "$dir/cmdline"; done 2>/dev/null; true'
        done = self.other.run(["sh", "-c", script])
        assert done.exit_code == 0, done
        processes = [part.partition(b"\n") for part in done.stdout.split(b"@@")[1:]]
        assert processes, done
        return [pid.decode() for pid, _, line in processes if marker.encode() in line]

    def drop(self) -> None:
        """Break the connection abruptly, and let new ones be made."""
        if self.wire is None:
            self.transport.close()
        else:
            self.wire.cut()
            self.wire.mend()

    def close(self) -> None:
        """Mend and release everything."""
        if self.wire is not None:
            self.wire.mend()
        self.other.run(["rm", "-rf", self.dir])
        self.transport.close()
        self.other.close()
        if self.wire is not None:
            self.wire.cut()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody takes connections on a port of 127.0.0.1."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def read_all(path: Path) -> str:
    """A log's text, if there is one."""
    return path.read_text(errors="replace") if path.exists() else ""
