"""The adb server: reaching it, starting the default one, what it says about devices and why it refuses."""

import os
import re
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from adbutils import AdbConnection, AdbError, AdbTimeout, adb_path
from adbutils.errors import AdbInstallError

from devicelab.errors import ConfigError, DeviceRefusedError, DeviceUnreachableError, LabError
from devicelab.ground.sorting import Row, as_lab_error
from devicelab.transports.base import NotInstalledError

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 5037

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

_CONNECT_TIMEOUT_S = 5.0
_START_TIMEOUT_S = 30.0
_ANSWER_TIMEOUT_S = 20.0
_MAX_WORDS = 64 << 10

LOST_HINT = "check the cable; `devicelab doctor` tells whether the board is back"
_WIRELESS = "switch wireless debugging on again there, in the same network; a new pairing is `adb pair`"
_UNPLUGGED = "is it plugged in and switched on, with USB debugging allowed? `adb devices` has to list it"
_ACCEPT = "unlock the board's screen and accept this computer's key"
# A piece of the server's words → what to do. The first that occurs counts.
_HINTS = (
    ("unauthorized", _ACCEPT),
    ("authorizing", _ACCEPT),
    ("permission", "let your user open the USB device (udev rule, group plugdev), then plug the board in again"),
    ("more than one device", "name it by its port: adb:usb:PATH, as `adb devices -l` shows it"),
    ("offline", "plug the board out and in again; if it stays, reboot it"),
    ("not found", _UNPLUGGED),
    ("bootloader", "boot it: fastboot reboot"),
    ("recovery", "boot it: adb reboot"),
    ("sideload", "boot it: adb reboot"),
)


class RefusalError(AdbError):  # type: ignore[misc]
    """The server understood and said no."""


class Link(AdbConnection):  # type: ignore[misc]
    """adbutils' connection to a server, less its traps.

    The original starts a local server on the default port whenever any server does not answer, leaks the socket of an
    attempt that failed, may send a part of a command only, and sleeps 10 ms at every close.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._deadline: float | None = None
        super().__init__(host, port)

    def within(self, timeout_s: float) -> None:
        """From now on all that is sent and read has to be through by then, however much or little comes at a time."""
        self._deadline = time.monotonic() + timeout_s
        self.conn.settimeout(timeout_s)

    def _read_fully(self, n: int) -> bytes:
        data = bytearray()
        while len(data) < n and (piece := self._piece(n - len(data))):
            data += piece
        return bytes(data)

    def _piece(self, most: int) -> bytes:
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.conn.settimeout(left)
        return bytes(self.conn.recv(most))

    def read_until(self, enough: Callable[[bytes], bool] = lambda _: False) -> bytes:
        """What a service says until that is enough or it closes; some daemons never close.

        Raises:
            AdbError: more than such a service ever says.
        """
        data = bytearray()
        while not enough(bytes(data)) and (piece := self._piece(4096)):
            data += piece
            if len(data) > _MAX_WORDS:
                raise AdbError("the device says more than it may")
        return bytes(data)

    def read_string_block(self) -> str:
        """A text with its length in front. The original takes what there is of one that was cut for the whole.

        Raises:
            AdbError, EOFError: less came than was said, or the length is none.
        """
        length = self.read_exact(4)
        if not re.fullmatch(rb"[0-9A-Fa-f]{4}", length):
            raise AdbError(f"the adb server speaks another language: {length!r}")
        return bytes(self.read_exact(int(length, 16))).decode("utf-8", "replace")

    def _safe_connect(self) -> socket.socket:
        made = socket.create_connection(self._server, timeout=_CONNECT_TIMEOUT_S)
        # A server on another machine may vanish without a word (Linux, tcp(7)).
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3)):
            made.setsockopt(socket.IPPROTO_TCP, option, value)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def send_command(self, cmd: str | bytes) -> None:
        """Send a request with its length in front."""
        data = cmd.encode() if isinstance(cmd, str) else cmd
        self.conn.sendall(b"%04x%b" % (len(data), data))

    def check_okay(self) -> None:
        """Take the server's verdict.

        Raises:
            RefusalError: it said no, and why.
        """
        verdict = self.read_exact(4)
        if verdict == b"FAIL":
            raise RefusalError(self.read_string_block())
        if verdict != b"OKAY":
            raise AdbError(f"the adb server speaks another language: {verdict!r}")

    def close(self) -> None:
        """Close the socket. Harmless when called twice."""
        self.conn.close()


@dataclass(frozen=True)
class Device:
    """A line of ``adb devices -l``."""

    serial: str
    state: str
    details: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """An adb server.

    Attributes:
        ours: it is the machine's default server, which may be started when there is none. No server is ever killed.
    """

    host: str
    port: int
    ours: bool

    def same(self, other: "Server") -> bool:
        """The two are one server, as far as their names tell."""
        names = {self.host, other.host}
        return self.port == other.port and (len(names) == 1 or names <= _LOOPBACK)

    def connect(self, device: str) -> Link:
        """A fresh connection.

        Raises:
            DeviceUnreachableError: no server there, and it could not be started or is not ours to start.
        """
        try:
            return Link(self.host, self.port)
        except (AdbError, OSError) as error:
            if not self.ours:
                raise DeviceUnreachableError(
                    f"no adb server answers at {self.host}:{self.port}",
                    device=device,
                    hint=f"start it there: adb -a -P {self.port} nodaemon server start",
                ) from error
        self._start(device)
        with reachable(device):
            return Link(self.host, self.port)

    def _start(self, device: str) -> None:
        command = [program(device), "-P", str(self.port), "start-server"]
        with tempfile.TemporaryFile() as said:
            try:
                # A file and not a pipe: the server that stays behind would hold the pipe open.
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=_START_TIMEOUT_S, check=False
                )
                failed = done.returncode != 0
            except (OSError, subprocess.TimeoutExpired):
                failed = True
            said.seek(0)
            lines = said.read(16 << 10).decode(errors="replace").strip().splitlines()
            # Among its whole log adb's fatal line (F) tells why.
            text = next((line for line in lines if " F adb " in line), lines[-1] if lines else "it says nothing")
        if failed:
            hint = f"see what {' '.join(command)} says"
            raise DeviceUnreachableError(f"the adb server does not start: {text}", device=device, hint=hint)

    def ask(self, request: str, device: str, *, timeout_s: float = _ANSWER_TIMEOUT_S, answers: int = 1) -> str:
        """Send a request to the server itself and return its answer.

        Args:
            request: such as ``host:devices-l``.
            device: named in errors.
            timeout_s: for the answer.
            answers: how many ``OKAY`` come before it; 2 for ``wait-for`` requests, which answer with no text.

        Raises:
            DeviceUnreachableError: it refused (its words are the message) or did not answer in time.
        """
        link = self.connect(device)
        with reachable(device):
            try:
                link.within(timeout_s)
                link.send_command(request)
                for _ in range(answers):
                    link.check_okay()
                return "" if answers > 1 else str(link.read_string_block())
            finally:
                link.close()

    def devices(self) -> tuple[Device, ...]:
        """What is attached, in whatever state; boards that share a serial are called by their USB ports."""
        lines = (
            _device(line) for line in self.ask("host:devices-l", f"adb server {self.host}:{self.port}").splitlines()
        )
        return told_apart([device for device in lines if device is not None])


def told_apart(devices: Sequence[Device]) -> tuple[Device, ...]:
    """The devices, those with one serial under ``usb:PATH``, which adb takes as a serial; the serial is a detail then.

    Boards of one make may all have the maker's default serial. Where the server tells no path (on Windows, of some
    hubs), it is ``transport_id:N``, which holds until a board is plugged in anew.
    """
    often = Counter(device.serial for device in devices)

    def apart(device: Device) -> Device:
        word = next((word for word in ("usb", "transport_id") if device.details.get(word)), None)
        if often[device.serial] < 2 or word is None:
            return device
        details = {**device.details, "serial": device.serial}
        return replace(device, serial=f"{word}:{device.details[word]}", details=details)

    return tuple(map(apart, devices))


# Serial (Android's own service names hold blanks), state, and words with a colon (AOSP adb/transport.cpp).
_LINE = re.compile(
    r"(?P<serial>\S.*?)\s+(?P<state>device|offline|unauthorized|authorizing|connecting|detached|bootloader|recovery"
    r"|rescue|sideload|host|unknown|no permissions\b.*?)(?P<words>(?:\s+[a-z_]+:\S*)*)\s*"
)


def _device(line: str) -> Device | None:
    match = _LINE.fullmatch(line.strip())
    if match is not None:
        serial, state, words = match.group("serial", "state", "words")
    else:  # a state that a later adb knows
        serial, _, rest = line.strip().replace("\t", " ").partition(" ")
        state, _, words = rest.strip().partition(" ")
    if not state:
        return None
    if state.startswith("no permissions"):
        return Device(serial, "no permissions", {**_details(words), "error": state})
    return Device(serial, state, _details(words))


def _details(words: str) -> dict[str, str]:
    return dict(word.split(":", 1) for word in words.split() if ":" in word)


def program(device: str) -> str:
    """The adb program: ``ADBUTILS_ADB_PATH``, the one in ``PATH``, or the one that comes with adbutils.

    Raises:
        NotInstalledError: there is none.
    """
    try:
        return str(adb_path())
    except AdbError as error:
        hint = "install the Android platform tools, or set ADBUTILS_ADB_PATH"
        raise NotInstalledError("no adb program on this machine", device=device, hint=hint) from error


_SERVER = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^:\s\[\]]+))(?::(?P<port>[0-9]{1,5}))?")


def named(text: str, device: str) -> Server:
    """The server ``host[:port]``; empty: the one the environment names, else the machine's own.

    Raises:
        ConfigError: not such a text, or something in the environment that cannot be used.
    """
    if not text:
        return _from_environment(device)
    match = _SERVER.fullmatch(text)
    if match is None or not 0 < int(match["port"] or DEFAULT_PORT) < 65536:
        hint = "write adb:SERIAL or adb:SERIAL@host:port"
        raise ConfigError(f"not an adb server: {text!r}", device=device, hint=hint)
    return Server(match["six"] or match["host"], int(match["port"] or DEFAULT_PORT), ours=False)


def _from_environment(device: str) -> Server:
    """As adb itself looks (AOSP adb/client/commandline.cpp); ``ANDROID_ADB_SERVER_HOST`` is adbutils' own."""
    given = os.environ.get
    socket_spec = given("ADB_SERVER_SOCKET")
    if socket_spec:
        return _from_socket_spec(socket_spec, device)
    host = given("ANDROID_ADB_SERVER_ADDRESS") or given("ANDROID_ADB_SERVER_HOST") or DEFAULT_HOST
    port = _port(given("ANDROID_ADB_SERVER_PORT") or str(DEFAULT_PORT), "ANDROID_ADB_SERVER_PORT", device)
    return Server(host, port, ours=host in _LOOPBACK)


def _from_socket_spec(text: str, device: str) -> Server:
    kind, _, place = text.partition(":")
    host, colon, port = place.rpartition(":")
    match = _SERVER.fullmatch(place)
    if kind != "tcp" or not (place.isdecimal() or (match and match["port"])):
        hint = "write tcp:PORT or tcp:HOST:PORT"
        raise ConfigError(f"cannot use ADB_SERVER_SOCKET: {text!r}", device=device, hint=hint)
    name = host.strip("[]") if colon else DEFAULT_HOST
    return Server(name, _port(port, "ADB_SERVER_SOCKET", device), ours=name in _LOOPBACK)


def _port(text: str, variable: str, device: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise ConfigError(f"{variable} is not a port: {text!r}", device=device)
    return int(text)


# What adbutils and sockets raise. What the server itself said is told by its words (``unreachable``).
_ANOTHER = "is it an adb server that listens there?"
SORTED = (
    Row((AdbInstallError,), DeviceRefusedError, says="adb: {words}"),
    Row((TimeoutError, AdbTimeout), DeviceUnreachableError, says="adb does not answer in time"),
    Row(
        (AdbError,), DeviceUnreachableError, _ANOTHER, "another language|unknown data|more than it may",
        says="adb: {words}",
    ),
    Row(
        (AdbError, EOFError), DeviceUnreachableError,
        words=r"^$|connection (is )?closed|connect to adb server failed|expected \d+ bytes|connection lost|sync error",
        says="adb: connection lost",
    ),
    Row((ValueError,), DeviceUnreachableError, _ANOTHER, words="invalid literal for int", says="adb: garbled: {words}"),
    Row((UnicodeError,), ConfigError, "is the server's name spelt right?", words="idna|label", says="adb: {words}"),
    Row((UnicodeError,), DeviceUnreachableError, _ANOTHER, says="adb: garbled: {words}"),
    Row((OSError,), DeviceUnreachableError, says="adb: {words}"),
)  # fmt: skip


@contextmanager
def reachable(device: str) -> Iterator[None]:
    """Turns what adbutils and sockets raise into an error of ours with a hint.

    Raises:
        DeviceUnreachableError: a row of ``SORTED``, or the server refused.
        UnsortedError: what no row knows.
    """
    try:
        yield
    except RefusalError as error:
        raise unreachable(str(error), device) from error
    except (AdbError, EOFError, OSError, ValueError) as error:
        raise as_lab_error(SORTED, error, device=device, hint=LOST_HINT) from error


def advice(words: str) -> str:
    """What to do about a state or a refusal, by the server's words."""
    return next((hint for piece, hint in _HINTS if piece in words), LOST_HINT)


def unreachable(words: str, device: str) -> LabError:
    """The error for what an adb server said, with what to do about it.

    Returns:
        ``ConfigError`` if several boards have the serial, which no waiting changes, else ``DeviceUnreachableError``.
    """
    text = words.strip().splitlines()[0] if words.strip() else "connection lost"
    hint = advice(text)
    if hint == _UNPLUGGED and "._tcp" in device:
        hint = _WIRELESS
    kind = ConfigError if "more than one device" in text else DeviceUnreachableError
    return kind(f"adb: {text}", device=device, hint=hint)
