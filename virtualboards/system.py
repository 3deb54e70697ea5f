"""Android's userland as far as a board shows it: properties, services, su, mounts; the framework is in ``android``.

The programs are one shell script under many names that asks here over a socket; who asks is known from the socket's
peer credentials, so nothing that a script says about itself is believed.
"""

import contextlib
import os
import select
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from virtualboards import apps, linux
from virtualboards.adbd.shell import Child, exit_byte
from virtualboards.android import Answer, Framework, Push
from virtualboards.kernel import Kernel
from virtualboards.loop import READ, WRITE, Loop
from virtualboards.mounts import Mounts
from virtualboards.sandbox import SU_STREAMS
from virtualboards.users import Su

_PEER = struct.Struct("3i")
_CHATTER_S = 0.5
_REQUEST_MAX = 1 << 20
_SERVICE_ERRORS_SINCE = 29
"""API level from which ``start`` and ``stop`` complain about a service that does not exist."""

SETTABLE_BY_SHELL = ("debug.", "log.", "persist.log.", "sys.devicelab.")


class Board(Protocol):
    """What the system asks of its board."""

    loop: Loop
    kernel: Kernel

    def run_as_root(self, argv: list[str], fds: tuple[int, int, int], *, cwd: str, env: dict[str, str]) -> Child:
        """Start a program as root in a session of its own that is killed when it ends."""
        ...

    def run_as_app(self, argv: list[str], fds: tuple[int, int, int], *, cwd: str, env: dict[str, str]) -> Child:
        """Start a program as the user of an app; what it leaves behind goes on."""
        ...

    def reboot(self) -> None:
        """Go down and come up again."""
        ...

    def bind(self, source: str, target: str) -> Child:
        """Show the board's directory ``source`` (empty: nothing any more) at ``target`` too."""
        ...


class System:
    """Properties and services of one board, and the socket where its programs ask.

    Args:
        board: see ``Board``.
        props: properties at boot.
        services: vendor daemon → running at boot.
        su: how root is reached.
    """

    def __init__(self, board: Board, props: dict[str, str], services: dict[str, bool], su: Su) -> None:
        self._board = board
        self._boot = dict(props), dict(services)
        self._su = su
        self._requests: set[_Request] = set()
        self.props: dict[str, str] = {}
        self._services: dict[str, bool] = {}
        self._framework = Framework(board.kernel, lambda: self.props)
        self.mounts = Mounts(board.kernel.controllers)
        self.boot()

    def boot(self) -> None:
        """Properties and services as they are after a boot; ``persist.*`` and settings outlive it."""
        kept = {name: value for name, value in self.props.items() if name.startswith("persist.")}
        self.props = {**self._boot[0], **kept, "sys.boot_completed": "1"}
        self._services = dict(self._boot[1])
        self._framework.boot()
        self.mounts.boot()

    def services(self) -> dict[str, bool]:
        """Vendor daemons and whether they run at this moment."""
        return {**self._services, **self._board.kernel.services()}

    def all_props(self) -> dict[str, str]:
        """Every property that ``getprop`` shows."""
        states = {f"init.svc.{n}": "running" if running else "stopped" for n, running in self.services().items()}
        return {**self.props, **states}

    def serve(self, listener: socket.socket) -> None:
        """Answer requests from now on."""
        self._board.loop.watch(listener.fileno(), READ, lambda _: self._accept(listener))

    def kill_su(self) -> int:
        """End every root session that ``su`` holds open, as Magisk's daemon does when it dies; returns how many."""
        held = [request for request in self._requests if request.child is not None]
        for request in held:
            request.kill()
        return len(held)

    def answer(self, name: str, args: Sequence[str], uid: int, pid: int = 0) -> Answer:
        """What a program says and with which exit code."""
        handler: Callable[[Sequence[str], int], Answer] | None = getattr(self, f"_do_{name}", None)
        if handler is not None:
            return handler(args, uid)
        return self._framework.answer(name, args, pid) or Answer(127, f"{name}: not found\n")

    def chatter(self) -> None:
        """Something is logged every now and then while somebody reads, as on any phone."""
        if self._framework.log.followed:
            self._framework.log.write("D", "PowerManagerService", "nothing to do", 1)
            self._board.loop.call_later(_CHATTER_S, self.chatter)

    def unfollow(self, push: Push) -> None:
        """Nobody reads any more what ``push`` is given."""
        self._framework.log.forget(push)

    def su_command(self, args: Sequence[str]) -> list[str]:
        """Path and argv of what ``su ARGS`` runs as root.

        Raises:
            Answer: it runs nothing; says why.
        """
        if self._su == "magisk":
            return _magisk(list(args))
        if self._su in {"su-0", "adb-root"}:
            if args and args[0] not in {"0", "root"}:
                raise Answer(1, f"su: invalid uid/gid '{args[0]}'\n")
            program = list(args[1:]) or ["sh"]
            path = program[0] if "/" in program[0] else f"/system/bin/{program[0]}"
            return [path, *program]
        raise Answer(127, "/system/bin/sh: su: inaccessible or not found\n")

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        self._requests.add(_Request(self._board, self, sock, self._requests.discard))

    def _do_getprop(self, args: Sequence[str], uid: int) -> Answer:  # noqa: ARG002
        props = self.all_props()
        if not args:
            return Answer(0, "".join(f"[{name}]: [{props[name]}]\n" for name in sorted(props)))
        default = args[1] if len(args) > 1 else ""
        return Answer(0, props.get(args[0], default) + "\n")

    def _do_setprop(self, args: Sequence[str], uid: int) -> Answer:
        if len(args) != 2:
            return Answer(1, "setprop: Needs 2 arguments\n")
        name, value = args
        read_only = name.startswith("ro.") and name in self.props
        if read_only or len(value) > 91 or (uid and not name.startswith(SETTABLE_BY_SHELL)):
            return Answer(1, f"setprop: failed to set property '{name}' to '{value}'\n")
        if name in {"ctl.start", "ctl.stop"}:
            self._control(value, running=name == "ctl.start")
        else:
            self.props[name] = value
        return Answer(0)

    def _control(self, name: str, *, running: bool) -> bool:
        if name not in self.services():
            return False
        self._services[name] = running
        self._board.kernel.service(name, running)
        return True

    def _start_stop(self, names: Sequence[str], uid: int, word: str) -> Answer:
        if uid:
            return Answer(255, "Must be root\n")
        for name in names or ("zygote",):
            known = self._control(name, running=word == "start")
            if not known and names and int(self.props.get("ro.build.version.sdk", "0")) >= _SERVICE_ERRORS_SINCE:
                return Answer(1, f"Unable to {word} service '{name}'\nSee dmesg for error reason.\n")
        return Answer(0)

    def _do_start(self, args: Sequence[str], uid: int) -> Answer:
        return self._start_stop(args, uid, "start")

    def _do_stop(self, args: Sequence[str], uid: int) -> Answer:
        return self._start_stop(args, uid, "stop")

    def _do_reboot(self, args: Sequence[str], uid: int) -> Answer:  # noqa: ARG002
        # The shell may reboot: adbd's `reboot:` is this program.
        self._board.loop.call_later(0.05, self._board.reboot)
        return Answer(0)

    def _do_getenforce(self, args: Sequence[str], uid: int) -> Answer:  # noqa: ARG002
        return Answer(0, "Enforcing\n" if self.props.get("sys.devicelab.selinux", "1") == "1" else "Permissive\n")

    def _do_setenforce(self, args: Sequence[str], uid: int) -> Answer:
        if uid:
            return Answer(1, "setenforce: Couldn't set enforcing status: Permission denied\n")
        wanted = {"0": "0", "permissive": "0", "1": "1", "enforcing": "1"}.get(args[0].lower() if args else "")
        if wanted is None:
            return Answer(1, "setenforce: bad argument\n")
        self.props["sys.devicelab.selinux"] = wanted
        return Answer(0)


def _magisk(args: list[str]) -> list[str]:
    """Path and argv for Magisk's ``su [options] [-] [user]``, whose ``-c`` takes all that follows as the command."""
    shell = "/system/bin/sh"
    while args:
        word = args.pop(0)
        if word in {"-c", "--command"}:
            return [shell, "sh", "-c", " ".join(args)]
        if word in {"-v", "--version"}:
            raise Answer(0, "27.0:MAGISKSU\n")
        if word == "-V":
            raise Answer(0, "27000\n")
        if word in {"-s", "--shell"} and args:
            shell = args.pop(0)
        elif word not in {"-", "-l", "--login", "-m", "-p", "--preserve-environment", "-mm", "-M", "0", "root"}:
            raise Answer(1 if word.startswith("-") else 2, f"su: unknown user or option: {word}\n")
    return [shell, "sh"]


class _Request:
    """One program that asks: read the request, answer; for su, hold on until the root process has ended."""

    def __init__(self, board: Board, system: System, sock: socket.socket, forget: Callable[["_Request"], None]) -> None:
        self._board = board
        self._system = system
        self._sock = sock
        self._forget = forget
        self._data = bytearray()
        self._out = b""
        self._asker = -1
        self._followed = False
        self.child: Child | None = None
        sock.setblocking(False)
        self._pid, self._uid, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        board.loop.watch(sock.fileno(), READ, lambda _: self._read())

    def kill(self) -> None:
        """Kill the root process (its session goes with it)."""
        if self.child is not None:
            self.child.signal(9)

    def _read(self) -> None:
        try:
            data = self._sock.recv(65536)
        except OSError:
            data = b""
        self._data += data
        words = self._data.split(b"\0")
        count = int(words[0]) if words[0].isdigit() else -1
        if count >= 0 and len(words) >= count + 3:
            self._board.loop.watch(self._sock.fileno(), 0, lambda _: None)
            name, *args = (os.fsdecode(bytes(word)) for word in words[1 : count + 2])
            self._serve(name, args)
        elif not data or len(self._data) > _REQUEST_MAX:
            self._close()

    def _serve(self, name: str, args: list[str]) -> None:
        try:
            start = {
                "am": self._am,
                "mount": self._mount,
                "run-as": self._run_as,
                "su": self._start_su,
                "umount": self._unmount,
            }.get(name)
            answer = self._system.answer(name, args, self._uid, self._pid) if start is None else start(args)
        except Answer as early:
            answer = early
        if answer is not None:
            self._reply(answer)

    def _am(self, args: list[str]) -> Answer | None:
        """``am``: what concerns an app begins here, the framework answers the rest."""
        if args[:1] == ["force-stop"] and len(args) == 2:
            return self._start(self._board.run_as_root, apps.stop_argv(args[1]), lambda _: Answer(0))
        package, component = apps.component_of(args[1:])
        if args[:1] not in (["start"], ["instrument"]) or not package:
            return self._system.answer("am", args, self._uid, self._pid)
        wait = args[0] == "instrument"
        argv = apps.launch_argv(package, self._system.props.get(f"wrap.{package}", ""), wait=wait)

        def told(code: int) -> Answer:
            if wait:
                return Answer(0, f"INSTRUMENTATION_CODE: {0 if code else -1}\n")
            return Answer(0, apps.started(component, code))

        return self._start(self._board.run_as_app, argv, told)

    def _run_as(self, args: list[str]) -> Answer | None:
        return self._start(self._board.run_as_app, apps.run_as_argv(args), Answer)

    def _start_su(self, args: list[str]) -> Answer | None:
        return self._start(self._board.run_as_root, self._system.su_command(args), Answer)

    def _start(self, run: Callable[..., Child], argv: list[str], told: Callable[[int], Answer]) -> Answer | None:
        """Run a program with the caller's streams; it is answered when that has ended."""
        try:
            # Our peer is `nc`; the script that called it holds the caller's three streams.
            script = _parent(self._pid)
            self._asker = os.pidfd_open(script)
            fds = tuple(linux.descriptor_of(self._asker, fd) for fd in SU_STREAMS)
            cwd = str(Path(f"/proc/{script}/cwd").readlink())
        except OSError as error:
            return Answer(1, f"{argv[0]}: {error.strerror}\n")
        env = {"TERM": "dumb"}
        self.child = run(argv, (fds[0], fds[1], fds[2]), cwd=cwd, env=env)
        for fd in fds:
            os.close(fd)
        self.child.on_exit(lambda status: self._reply(told(exit_byte(status))))
        # A killed su takes its child along.
        self._board.loop.watch(self._asker, select.EPOLLIN, lambda _: self._asker_ended())
        return None

    def _mount(self, args: list[str]) -> None:
        mounts = self._system.mounts
        source, target = mounts.mount(args, self._uid)

        def bound(status: int) -> None:
            if status:
                mounts.failed(target)
            self._reply(
                Answer(0) if not status else Answer(1, f"mount: '{target}': {os.strerror(exit_byte(status))}\n")
            )

        self._board.bind(source, target).on_exit(bound)

    def _unmount(self, args: list[str]) -> None:
        target = self._system.mounts.unmount(args, self._uid)
        self._board.bind("", target).on_exit(lambda status: self._reply(Answer(1 if status else 0)))

    def _asker_ended(self) -> None:
        self._board.loop.forget(self._asker)
        self.kill()

    def _reply(self, answer: Answer) -> None:
        self.child = None
        text = answer.text if isinstance(answer.text, bytes) else answer.text.encode("utf-8", "surrogateescape")
        self._out = f"{answer.code}\n".encode() + text
        self._followed = answer.follow is not None
        if answer.follow is not None:
            answer.follow(self.more)
            self._board.loop.call_later(_CHATTER_S, self._system.chatter)
            with contextlib.suppress(OSError):
                self._asker = os.pidfd_open(_parent(self._pid))
                self._board.loop.watch(self._asker, READ, lambda _: self._close())
        self._write()

    def more(self, text: str) -> None:
        """Say more, while somebody listens."""
        waiting = bool(self._out)
        self._out += text.encode("utf-8", "surrogateescape")
        if len(self._out) > _REQUEST_MAX:
            self._close()
        elif not waiting:
            self._write()

    def _write(self) -> None:
        try:
            while self._out:
                self._out = self._out[self._sock.send(self._out) :]
        except BlockingIOError:
            self._board.loop.watch(self._sock.fileno(), WRITE, lambda _: self._write())
            return
        except OSError:
            self._followed = False
        if self._followed:
            self._board.loop.watch(self._sock.fileno(), 0, lambda _: None)
        else:
            self._close()

    def _close(self) -> None:
        self._system.unfollow(self.more)
        if self._sock.fileno() < 0:
            return
        self._board.loop.forget(self._sock.fileno())
        self._sock.close()
        if self._asker >= 0:
            self._board.loop.forget(self._asker)
            os.close(self._asker)
            self._asker = -1
        self._forget(self)


def _parent(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    return int(stat.rpartition(")")[2].split()[1])
