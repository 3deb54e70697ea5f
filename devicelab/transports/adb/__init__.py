"""An Android board over adb: ``adb:SERIAL``, or ``adb:SERIAL@host:port`` through another machine's adb server.

Where several boards have one serial, ``adb:usb:PATH`` names one by its USB port, as ``adb devices -l`` shows it.

Speaks to the server by adbutils; commands, file transfer and follows each take one stream of the device, which cost
about 100 ms on a phone. No adb server is ever killed: that would break every other board on it.
"""

import re
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from devicelab.errors import ConfigError, DeviceRefusedError, DeviceUnreachableError, LabError
from devicelab.transports import _scripts as scripts
from devicelab.transports._posix import PosixTransport
from devicelab.transports._source import Sent, Source
from devicelab.transports._stream import Stream
from devicelab.transports.adb import server as servers
from devicelab.transports.adb.server import Link, RefusalError, Server, reachable, unreachable
from devicelab.transports.adb.stream import LegacyStream, ShellStream
from devicelab.transports.adb.sync import Sync
from devicelab.transports.base import Attached, Transport

SCHEME = "adb"

_OPEN_TIMEOUT_S = 20.0
_RECOVER_TIMEOUT_S = 10.0
_PROBE_TIMEOUT_S = 10.0
_NUDGE_EVERY_S = 1.5
_RETRY_S = 0.3
# The length of a request is four hex digits; kept well below. An old adbd takes 4 KiB (MAX_PAYLOAD_V1), and a longer
# request aborts the adb server, which checks it with CHECK_LE.
_MAX_COMMAND_BYTES = 32_000
_MAX_LEGACY_COMMAND_BYTES = 4_000


def connect(address: str) -> Transport:
    """Connect to ``adb:SERIAL[@host[:port]]``.

    Raises:
        ConfigError: not such an address, or no adb program to start a server with.
        DeviceUnreachableError: no such board, or it is offline, unauthorised or does not answer.
    """
    transport = AdbTransport(address)
    state, words = transport.state()
    if state == "offline" or (not state and transport.by_network):
        transport.reconnect(timeout_s=_RECOVER_TIMEOUT_S)
    elif state != "device":
        twins = [f"{SCHEME}:{one.serial}" for one in transport.twins()] if "more than one" in words else []
        if twins:
            message = f"{len(twins)} boards have the serial {transport.serial}"
            raise ConfigError(message, device=address, hint=f"name one by its USB port: {', '.join(twins)}")
        raise unreachable(words or f"the board is in state {state}", address)
    return transport


def discover() -> tuple[Attached, ...]:
    """What the default adb server sees; it is started if there is none. A board that is not ready has a ``hint``.

    Raises:
        LabError: there is no server and none can be started.
    """
    found = servers.named("", "adb:").devices()
    return tuple(Attached(f"adb:{one.serial}", one.state, {**_hint(one.state), **one.details}) for one in found)


def _hint(state: str) -> dict[str, str]:
    return {} if state == "device" else {"hint": servers.advice(state)}


def listed_as(address: str) -> str | None:
    """The board's address without its server where that is the default one; others' boards are not listed."""
    try:
        asked, default = AdbTransport(address), servers.named("", address)
    except ConfigError:
        return None
    if not asked.server.same(default):
        return None
    if asked.serial.startswith("usb:"):  # listed by its serial, if that is one board's alone
        with suppress(LabError):
            path = asked.serial.removeprefix("usb:")
            return next(
                (f"{SCHEME}:{one.serial}" for one in default.devices() if one.details.get("usb") == path), address
            )
    return f"{SCHEME}:{asked.serial}"


class AdbTransport(PosixTransport):
    """One board of an adb server. Nothing is held between two operations.

    Args:
        address: ``adb:SERIAL`` or ``adb:SERIAL@host:port``.

    Raises:
        ConfigError: not such an address.
    """

    scratch: ClassVar[str] = "/data/local/tmp"

    def __init__(self, address: str) -> None:
        super().__init__(address)
        rest = address.partition(":")[2]
        self.serial, at, server = rest.rpartition("@") if "@" in rest else (rest, "", "")
        if not self.serial.strip() or (at and not server) or not self.serial.isprintable():
            hint = "write adb:SERIAL or adb:SERIAL@host:port"
            raise ConfigError(f"not an adb address: {address!r}", device=address, hint=hint)
        self.server: Server = servers.named(server, address)
        self._features: frozenset[str] | None = None
        self._legacy: tuple[str, bytes] | None = None

    @property
    def _id(self) -> str:
        """The number by which the server is asked for a board whose serial others share; empty: it has its serial."""
        match = re.fullmatch(r"transport_id:([0-9]{1,18})", self.serial)
        return match[1] if match else ""

    def _request(self, what: str) -> str:
        """A request to the server about this board (AOSP adb/SERVICES.TXT)."""
        return f"host-transport-id:{self._id}:{what}" if self._id else f"host-serial:{self.serial}:{what}"

    @property
    def by_network(self) -> bool:
        """The server connects to it on request: HOST:PORT, or a name that wireless debugging announces (mDNS)."""
        return self.serial.rstrip(".").endswith("._tcp") or bool(
            re.fullmatch(r"(?!usb:|transport_id:).*:[0-9]+", self.serial)
        )

    def state(self) -> tuple[str, str]:
        """The state the server gives the board ("device", "offline", ...; empty: unknown to it), and its words."""
        try:
            return self.server.ask(self._request("get-state"), self.address), ""
        except LabError as error:
            if not isinstance(error.__cause__, RefusalError):
                raise
            words = error.message.removeprefix("adb: ")
            known = ("offline", "unauthorized", "authorizing")
            return next((state for state in known if state in words), ""), words

    def twins(self) -> tuple[servers.Device, ...]:
        """The boards that share this serial."""
        return tuple(one for one in self.server.devices() if one.details.get("serial") == self.serial)

    def _service(self, name: bytes) -> Link:
        """A stream to a service of the board.

        Raises:
            DeviceUnreachableError: no board, or it does not know the service.
        """
        link = self.server.connect(self.address)
        try:
            with reachable(self.address):
                link.within(_OPEN_TIMEOUT_S)
                link.send_command(f"host:transport-id:{self._id}" if self._id else f"host:transport:{self.serial}")
                link.check_okay()
                link.send_command(name)
                link.check_okay()
        except BaseException:
            link.close()
            raise
        return link

    @property
    def features(self) -> frozenset[str]:
        """What the board's adbd and the server can both do; asked once."""
        if self._features is None:
            text = self.server.ask(self._request("features"), self.address)
            self._features = frozenset(text.split(","))
        return self._features

    def _open(
        self, argv: Sequence[str], token: str, *, stdin: Iterator[bytes] | None = None, hold_stdin: bool = False
    ) -> Stream:
        if "shell_v2" not in self.features:
            return self._open_legacy(argv, token, stdin, hold_stdin=hold_stdin)
        # A held input has its own way to end (FOLLOW); the packet that closes an input is never sent into the void.
        text = scripts.EXEC if hold_stdin else scripts.EXEC_WITHOUT_INPUT if stdin is None else scripts.EXEC_AND_DRAIN
        command = f"set -- {shlex.join((token, *argv))}; {text}"
        data = self._bounded(command.encode("utf-8", "surrogateescape"), _MAX_COMMAND_BYTES)
        return ShellStream(self._service(b"shell,v2,raw:" + data), self.address, stdin)

    def _open_legacy(
        self, argv: Sequence[str], token: str, stdin: Iterator[bytes] | None, *, hold_stdin: bool
    ) -> Stream:
        service, newline = self._legacy or self._probe_legacy()
        source = "" if hold_stdin else "/dev/null"
        if stdin is not None:
            # The stream's input cannot be ended without its output, so the input goes ahead as a file.
            source = f"{self.scratch}/.{scripts.new_token()}"
            self._store(source, stdin, 0.0)
        words = scripts.script(scripts.LEGACY, token[:16], token[16:], source, *argv)
        command = "exec " + shlex.join(words)
        data = self._bounded(command.encode("utf-8", "surrogateescape"), _MAX_LEGACY_COMMAND_BYTES)
        return LegacyStream(self._service(service.encode() + data), self.address, token, newline)

    def _probe_legacy(self) -> tuple[str, bytes]:
        """Which service runs commands here, and what it makes of a newline.

        ``exec:`` (Android 5 and later) has no terminal; a ``shell:`` of older ones may, and changes newlines.
        """
        token = scripts.new_token()
        for service in ("exec:", "shell:"):
            with suppress(DeviceUnreachableError):
                link = self._service(f"{service}echo {token}".encode())
                with reachable(self.address):
                    try:
                        said = link.read_until(lambda said: b"\n" in said.partition(token.encode())[2])
                    finally:
                        link.close()
                newline = said.partition(token.encode())[2]
                if newline.strip(b"\r") == b"\n":
                    self._legacy = (service, newline)
                    return self._legacy
        raise DeviceUnreachableError("the board's shell does not answer", device=self.address, hint=servers.LOST_HINT)

    def _sync(self) -> Sync:
        return Sync(self._service(b"sync:"), self.address)

    def _upload(self, files: Sequence[tuple[Path, str]]) -> list[Sent]:
        sources = [(Source(local, self.address), remote) for local, remote in files]
        with self._sync() as sync:
            for source, remote in sources:
                sync.send(remote, source.chunks())
        return [source.sent() for source, _ in sources]

    def _store(self, remote: str, data: Iterator[bytes], timeout_s: float) -> None:  # noqa: ARG002 - a stall ends it
        with self._sync() as sync:
            sync.send(remote, data)

    def reconnect(self, *, timeout_s: float = 60.0) -> None:
        """Wait until the board runs commands again, and have the server connect to it anew meanwhile (to it alone)."""
        deadline = time.monotonic() + timeout_s
        self._features = self._legacy = None
        while True:
            left = max(0.1, deadline - time.monotonic())
            try:
                self._recover(left)
                self._prove_shell(min(left, _PROBE_TIMEOUT_S))
            except DeviceUnreachableError:
                if time.monotonic() + _RETRY_S > deadline:
                    raise
                time.sleep(_RETRY_S)
            else:
                return

    def _prove_shell(self, timeout_s: float) -> None:
        code = self._run(["sh", "-c", ":"], timeout_s).exit_code
        if code != 0:
            message = f"the board's shell does not work (exit code {code})"
            raise DeviceUnreachableError(message, device=self.address, hint="if it stays, reboot it")

    def _recover(self, timeout_s: float) -> None:
        """One nudge, and a wait for what comes of it."""
        state, words = self.state()
        if state == "device":
            return
        with suppress(DeviceUnreachableError):
            if state == "offline":
                self.server.ask(self._request("reconnect"), self.address, timeout_s=timeout_s)
            elif not state and self.by_network:
                self.server.ask(f"host:connect:{self.serial}", self.address, timeout_s=timeout_s)
        try:
            self._wait_for("device", min(timeout_s, _NUDGE_EVERY_S))
        except DeviceUnreachableError as error:
            raise (unreachable(words, self.address) if words else error) from error

    def _wait_for(self, state: str, timeout_s: float) -> None:
        request = self._request(f"wait-for-any-{state}")
        self.server.ask(request, self.address, timeout_s=timeout_s, answers=2)

    def become_root(self, *, timeout_s: float = 30.0) -> None:
        """Have adbd run as root (``adb root``), as builds for developers allow; this board's connections drop.

        Raises:
            DeviceRefusedError: a build for users; adbd's own words are in the message.
            DeviceUnreachableError: the board does not come back in time.
        """
        link = self._service(b"root:")
        with reachable(self.address):
            try:
                words = link.read_until(lambda said: b"\n" in said).decode(errors="replace").strip()
            finally:
                link.close()
        if "already running as root" in words:
            return
        if "restarting" not in words:
            raise DeviceRefusedError(words or "adbd does not say whether it may run as root", device=self.address)
        with suppress(DeviceUnreachableError):  # it may be back already
            self._wait_for("disconnect", 3.0)
        self.reconnect(timeout_s=timeout_s)

    def reboot(self) -> None:
        """Have adbd reboot the board (``adb reboot``), also where its shell hangs; nothing is waited for.

        Raises:
            DeviceUnreachableError: adbd does not answer.
        """
        link = self._service(b"reboot:")
        with suppress(DeviceUnreachableError), reachable(self.address):  # the answer is that the connection breaks
            try:
                link.read_until()
            finally:
                link.close()

    def close(self) -> None:
        """Nothing is held."""
