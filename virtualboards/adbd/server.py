"""The adb daemon of a virtual board: listens on the loopback interface and starts the services asked for."""

import socket
from collections.abc import Callable
from typing import Protocol

from virtualboards.adbd import shell
from virtualboards.adbd.connection import Connection, Counters, Service, Stream
from virtualboards.android import framebuffer
from virtualboards.loop import READ

BASE_FEATURES = ("cmd", "stat_v2", "ls_v2", "fixed_push_mkdir", "sendrecv_v2")

_PRODUCTION = "adbd cannot run as root in production builds\n"


class Board(shell.Board, Protocol):
    """What the daemon asks of its board."""

    def get_property(self, name: str) -> str:
        """An Android property, empty if unset."""
        ...

    def restart_adbd(self, *, root: bool) -> None:
        """Go on as root or as shell; connections drop."""
        ...

    def reboot(self) -> None:
        """Go down and come up again; connections drop."""
        ...


class Cable(Protocol):
    """What happens between board and host: the place of faults."""

    def outgoing(self, payload: bytes) -> bytes:
        """A payload about to leave."""
        ...

    def traffic(self, size: int) -> float:
        """``size`` more bytes passed; for how many seconds to pause."""
        ...


class Text:
    """A service that says one text, closes, and then acts (so that the text arrives first)."""

    def __init__(self, stream: Stream, text: str, then: Callable[[], None] | None = None) -> None:
        self._stream = stream
        self._text = text
        self._then = then

    def on_data(self, data: bytes) -> None:  # noqa: ARG002
        """Whatever the host says is acknowledged and ignored."""
        self._stream.consumed()

    def on_writable(self) -> None:
        """Say the text, then close."""
        if self._text:
            text, self._text = self._text, ""
            self._stream.write(text.encode())
        else:
            self._stream.close()
            self._act()

    def on_close(self) -> None:
        """The host has heard enough."""
        self._act()

    def _act(self) -> None:
        if self._then is not None:
            then, self._then = self._then, None
            self._stream.when_flushed(then)


class Blob:
    """A service that sends bytes, a payload at a time, and closes."""

    def __init__(self, stream: Stream, data: bytes) -> None:
        self._stream, self._left = stream, memoryview(data)

    def on_data(self, data: bytes) -> None:  # noqa: ARG002
        """Whatever the host says is acknowledged and ignored."""
        self._stream.consumed()

    def on_writable(self) -> None:
        """Send the next piece."""
        piece, self._left = self._left[: self._stream.max_payload], self._left[self._stream.max_payload :]
        if piece:
            self._stream.write(bytes(piece))
        else:
            self._stream.close()

    def on_close(self) -> None:
        """The host has seen enough."""


class Adbd:
    """Accepts connections from adb servers and opens services for them.

    Args:
        board: starts processes and knows the properties.
        cable: may damage, delay or count what passes.
        shell_v2: offer the feature ``shell_v2`` (without it every shell is v1).
        production: a user build, where ``adb root`` is refused.
    """

    def __init__(self, board: Board, cable: Cable, *, shell_v2: bool = True, production: bool = True) -> None:
        self.counters = Counters()
        self.root = False
        self._board = board
        self._cable = cable
        self._shell_v2 = shell_v2
        self._production = production
        self._connections: set[Connection] = set()
        self._listener: socket.socket | None = None
        self._hanging = False
        self.port = 0

    def listen(self) -> None:
        """Accept connections, at the same port every time. Harmless when it does already."""
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.setblocking(False)
        listener.listen(16)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._board.loop.watch(listener.fileno(), READ, lambda _: self._accept())

    def unlisten(self) -> None:
        """Refuse new connections; those that are open stay."""
        if self._listener is not None:
            self._board.loop.forget(self._listener.fileno())
            self._listener.close()
            self._listener = None

    def drop(self) -> None:
        """Break every connection, as a pulled cable does."""
        for connection in list(self._connections):
            connection.close()

    def hang(self, *, on: bool) -> None:
        """Stop (or go on) reading and writing on every connection, without closing any."""
        self._hanging = on
        for connection in self._connections:
            (connection.pause if on else connection.resume)("hang")

    def banner(self) -> bytes:
        """``device::ro.product.name=...;...;features=...``."""
        names = ("ro.product.name", "ro.product.model", "ro.product.device")
        props = "".join(f"{name}={self._board.get_property(name)};" for name in names)
        features = (("shell_v2",) if self._shell_v2 else ()) + BASE_FEATURES
        return f"device::{props}features={','.join(features)}".encode()

    def open(self, stream: Stream, destination: str) -> Service | None:
        """The service for a stream, or ``None`` for a name this device does not know."""
        name, _, rest = destination.partition(":")
        if name == "shell" or name.startswith("shell,"):
            arguments = shell.parse_arguments(name.partition(",")[2], rest)
            if arguments.v2 and self._shell_v2:
                return shell.ShellV2(self._board, stream, rest, arguments)
            return shell.raw_shell(self._board, stream, rest, arguments)
        if name == "exec":
            return shell.raw_shell(self._board, stream, rest, shell.ShellArguments(v2=False, pty=False, term="dumb"))
        if name == "framebuffer":
            return Blob(stream, framebuffer())
        if name == "sync":
            return shell.sync_service(self._board, stream)
        return self._control(stream, name)

    def outgoing(self, payload: bytes) -> bytes:
        """What really leaves in place of ``payload``."""
        return self._cable.outgoing(payload)

    def traffic(self, connection: Connection, size: int) -> float:  # noqa: ARG002
        """Pass the count on to the cable."""
        return self._cable.traffic(size)

    def closed(self, connection: Connection) -> None:
        """A connection ended."""
        self._connections.discard(connection)

    def _control(self, stream: Stream, name: str) -> Service | None:
        if name == "root":
            if self.root:
                return Text(stream, "adbd is already running as root\n")
            if self._production:
                return Text(stream, _PRODUCTION)
            return Text(stream, "restarting adbd as root\n", lambda: self._board.restart_adbd(root=True))
        if name == "unroot":
            if not self.root:
                return Text(stream, "adbd not running as root\n")
            return Text(stream, "restarting adbd as non root\n", lambda: self._board.restart_adbd(root=False))
        if name == "remount":
            text = "remount failed\n" if self.root else 'Not running as root. Try "adb root" first.\n'
            return Text(stream, text)
        if name == "reboot":
            return Text(stream, "", self._board.reboot)
        return None

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        connection = Connection(self._board.loop, sock, self)
        self._connections.add(connection)
        self.counters.connections += 1
        if self._hanging:
            connection.pause("hang")
