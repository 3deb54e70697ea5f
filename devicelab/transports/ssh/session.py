"""One connection over ssh, through paramiko. Transfer goes through commands (``cat``): a board needs no sftp server."""

import select
import shlex
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import paramiko

from devicelab.errors import DeviceUnreachableError, LabError
from devicelab.transports import _scripts as scripts
from devicelab.transports._posix import PosixTransport
from devicelab.transports._stream import ERR, EXIT, OUT, Event, Stream
from devicelab.transports.ssh import loginshell
from devicelab.transports.ssh.config import Target, resolve
from devicelab.transports.ssh.dial import HINT, Line, dial, failed

CONNECT_TIMEOUT_S = 20.0
"""So long a connection, a channel or a first answer may take."""
_RETRY_S = 0.5
_READ_BYTES = 256 << 10
# Linux takes 128 KiB for one argument (MAX_ARG_STRLEN), and the whole command is one to the login shell.
_MAX_COMMAND_BYTES = 100_000
# Of what comes before the command's own output so much is kept.
_MAX_NOISE = 16 << 10
# paramiko wakes the poll when something comes; this only bounds what a missed wake could cost.
_LOOK_MS = 1000


class SshTransport(PosixTransport):
    """One connection, a channel for every command; made anew when it was lost."""

    def __init__(self, address: str, target: Target | None = None) -> None:
        super().__init__(address)
        self._target = target or resolve(address.partition(":")[2], address)
        self._line: Line | None = None
        self._plain_shell: bool | None = None

    def _open(
        self, argv: Sequence[str], token: str, *, stdin: Iterator[bytes] | None = None, hold_stdin: bool = False
    ) -> Stream:
        command = "exec " + shlex.join(scripts.script(scripts.EXEC_AND_WAIT, token, *argv))
        data = command.encode("utf-8", "surrogateescape")
        if self._plain_shell is None:
            self._plain_shell = self._takes_words()
        if self._plain_shell:
            data = self._bounded(data, _MAX_COMMAND_BYTES)
        else:
            data = loginshell.encoded(self._bounded(data, _MAX_COMMAND_BYTES // loginshell.GROWTH))
        return _ChannelStream(self._started(data), self.address, token, stdin, hold_stdin=hold_stdin)

    def _takes_words(self) -> bool:
        """Whether the account's login shell quotes as POSIX says; csh and fish do not. Asked once.

        Where neither form of a command works, the plain one is used: what is said then is told.
        """
        token = scripts.new_token()
        for plain in (True, False):
            data = loginshell.question(token)
            channel, said = self._started(data if plain else loginshell.encoded(data)), b""
            with suppress(paramiko.SSHException, EOFError, OSError):
                channel.settimeout(CONNECT_TIMEOUT_S)
                channel.shutdown_write()
                # To its end: dropbear takes the end of a channel that was closed before for that of the next one.
                while len(said) < _MAX_NOISE and (more := channel.recv(_READ_BYTES)):
                    said += more
                channel.status_event.wait(CONNECT_TIMEOUT_S)
            channel.close()
            if token.encode() in said:
                return plain
        return True

    def _started(self, command: bytes) -> paramiko.Channel:
        channel = self._channel()
        # paramiko waits for the answer without end.
        patience = threading.Timer(CONNECT_TIMEOUT_S, channel.close)
        patience.daemon = True
        patience.start()
        try:
            channel.exec_command(command)
        except (paramiko.SSHException, EOFError, OSError) as error:
            channel.close()
            raise failed(self.address, error, "connection lost") from error
        finally:
            patience.cancel()
        return channel

    def _channel(self) -> paramiko.Channel:
        if self._alive():
            with suppress(paramiko.SSHException, EOFError, OSError):
                return self._session()
            # It had died without our knowing. Nothing was started yet, so one more try does no harm.
        self.dial(CONNECT_TIMEOUT_S)
        try:
            return self._session()
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise failed(self.address, error, "connection lost") from error

    def _session(self) -> paramiko.Channel:
        if self._line is None:
            raise EOFError("closed")
        return self._line.transport.open_session(timeout=CONNECT_TIMEOUT_S)

    def _alive(self) -> bool:
        return self._line is not None and self._line.transport.is_active()

    def reconnect(self, *, timeout_s: float = 60.0) -> None:
        """Connect unless connected; tries again until ``timeout_s`` are over while nobody answers."""
        deadline = time.monotonic() + timeout_s
        while not self._alive():
            try:
                self.dial(max(1.0, deadline - time.monotonic()))
            except DeviceUnreachableError:
                if time.monotonic() + _RETRY_S > deadline:
                    raise
                time.sleep(_RETRY_S)

    def dial(self, timeout_s: float) -> None:
        """Connect anew, in one attempt. Errors as in ``connect``."""
        self.close()
        self._line = dial(self.address, self._target, timeout_s)

    def close(self) -> None:
        """End the connection."""
        line, self._line = self._line, None
        if line is not None:
            line.close()


class _ChannelStream:
    """A channel: both outputs are drained here as they come, the input is fed from a thread of its own.

    The command's stdout begins behind the line with its token; before it stands what a login shell's rc file said.
    """

    def __init__(
        self, channel: paramiko.Channel, address: str, token: str, stdin: Iterator[bytes] | None, *, hold_stdin: bool
    ) -> None:
        self._channel, self._address = channel, address
        self._mark = f"{token}\n".encode()
        self._before: bytearray | None = bytearray()
        self._poll = select.poll()
        self._poll.register(channel.fileno(), select.POLLIN)
        self._feeder: threading.Thread | None = None
        self._failure: LabError | None = None
        if stdin is not None:
            self._feeder = threading.Thread(target=self._feed, args=(stdin,), daemon=True)
            self._feeder.start()
        elif not hold_stdin:
            self.end_input()

    def _feed(self, stdin: Iterator[bytes]) -> None:
        try:
            with suppress(OSError, EOFError, paramiko.SSHException):  # the command ended without reading it all
                for data in stdin:
                    self._channel.sendall(data)
            self.end_input()
        except LabError as error:
            self._failure = error
            self._channel.close()

    def read(self, timeout_s: float | None) -> Event | None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        channel = self._channel
        while True:
            over = channel.eof_received or channel.closed
            try:  # to take data is also to tell the peer that there is room again
                if channel.recv_stderr_ready():
                    return ERR, channel.recv_stderr(_READ_BYTES)
                if channel.recv_ready():
                    if data := self._own(channel.recv(_READ_BYTES)):
                        return OUT, data
                    if deadline is not None and time.monotonic() >= deadline:
                        return None
                    continue
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise self._lost() from error
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if over:
                if self._before:  # the command did not begin: what was said instead may tell why
                    said, self._before = bytes(self._before), None
                    return ERR, said
                return self._exit(left)
            if left == 0.0:
                return None
            self._poll.poll(_LOOK_MS if left is None else min(_LOOK_MS, left * 1000))

    def _own(self, data: bytes) -> bytes:
        if self._before is None:
            return data
        self._before += data
        _, mark, own = bytes(self._before).partition(self._mark)
        if mark:
            self._before = None
            return own
        del self._before[:-_MAX_NOISE]
        return b""

    def _exit(self, timeout_s: float | None) -> Event | None:
        if not self._channel.status_event.wait(timeout_s):
            return None
        if self._failure is not None:
            raise self._failure
        if self._channel.exit_status < 0:
            raise self._lost()
        return EXIT, bytes([self._channel.exit_status & 0xFF])

    def _lost(self) -> DeviceUnreachableError:
        return DeviceUnreachableError("connection lost while a command ran", device=self._address, hint=HINT)

    def end_input(self) -> None:
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.shutdown_write()

    def close(self) -> None:
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()
        if self._feeder is not None and self._feeder is not threading.current_thread():
            self._feeder.join()
