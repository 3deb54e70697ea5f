"""One virtual board as its host process sees it: adb daemon, userland, kernel and sandbox put together."""

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from devicelab.errors import LabError
from virtualboards.adbd.server import Adbd
from virtualboards.apps import APP_UID
from virtualboards.children import Child, Children
from virtualboards.faults import Fault, Faults
from virtualboards.kernel import BoardSpec, Kernel
from virtualboards.loop import Loop
from virtualboards.sandbox import Sandbox
from virtualboards.system import System
from virtualboards.users import SHELL_UID

_ADBD_RESTART_S = 0.2
"""Between the end of one adbd and its successor, after ``adb root``."""


class Board:
    """A running board.

    Args:
        spec: its kind.
        props: all properties at boot.
        kernel: the inner half, started.
        sandbox: built, and entered by init.
        loop: not running yet.
        control: this side of init's control socket.
        init_pid: init's pid.
        boot_s: how long a reboot takes.
    """

    def __init__(
        self,
        spec: BoardSpec,
        props: dict[str, str],
        kernel: Kernel,
        sandbox: Sandbox,
        loop: Loop,
        control: socket.socket,
        init_pid: int,
        *,
        boot_s: float,
    ) -> None:
        self.loop = loop
        self.kernel = kernel
        self._sandbox = sandbox
        self._boot_s = boot_s
        self._booting = False
        self._unplugged = False
        self._started = time.monotonic()
        self.children = Children(loop, control, init_pid)
        self.children.on_quiet = self._booted
        self.system = System(self, props, spec.services, spec.su)
        self.faults = Faults(self)
        self.adbd = Adbd(self, self.faults, shell_v2=spec.has_shell_v2, production=spec.su != "adb-root")
        self.system.serve(sandbox.listen())

    # What the adb daemon asks for.

    def shell(self, command: str, fds: tuple[int, int, int], *, term: str, tty: bool) -> Child:
        """Run a command line in ``sh``, or a login shell if it is empty."""
        argv = ["/system/bin/sh", "sh", "-c", command] if command else ["/system/bin/sh", "-sh"]
        return self.children.run(argv, fds, uid=self._adbd_uid, env={"TERM": term}, tty=tty)

    def sync(self, sock: socket.socket) -> Child:
        """Transfer files over ``sock`` with adbd's rights."""
        return self.children.sync(sock.fileno(), uid=self._adbd_uid)

    def open_pty(self) -> tuple[int, int]:
        """Master and slave of a new pseudo terminal."""
        return self._sandbox.open_pty()

    def get_property(self, name: str) -> str:
        """An Android property, empty if unset."""
        return self.system.props.get(name, "")

    def restart_adbd(self, *, root: bool) -> None:
        """Drop all connections and go on as root or shell."""
        self.adbd.unlisten()
        self.adbd.drop()
        self.adbd.root = root
        self.system.props["service.adb.root"] = "1" if root else "0"
        self.loop.call_later(_ADBD_RESTART_S, self._listen)

    def reboot(self) -> None:
        """Everything ends, the kernel forgets, /data stays; after ``boot_s`` adb answers again."""
        if self._booting:
            return
        self._booting = True
        self.adbd.unlisten()
        self.adbd.drop()
        self.children.reset()

    def _booted(self) -> None:
        self.kernel.reboot()
        self.system.boot()
        self.adbd.root = False

        def answer() -> None:
            self._booting = False
            self._listen()

        self.loop.call_later(self._boot_s, answer)

    def _listen(self) -> None:
        if not self._booting and not self._unplugged:
            self.adbd.listen()

    @property
    def _adbd_uid(self) -> int:
        return 0 if self.adbd.root else SHELL_UID

    # What the userland asks for.

    def run_as_root(self, argv: list[str], fds: tuple[int, int, int], *, cwd: str, env: dict[str, str]) -> Child:
        """Start a program for ``su``."""
        return self.children.run(argv, fds, uid=0, env=env, cwd=cwd, bound=True)

    def bind(self, source: str, target: str) -> Child:
        """Show a directory of the board at another place too; an empty source ends that."""
        return self.children.bind(source, target)

    def run_as_app(self, argv: list[str], fds: tuple[int, int, int], *, cwd: str, env: dict[str, str]) -> Child:
        """Start a program as the user of an app; what it leaves behind goes on."""
        return self.children.run(argv, fds, uid=APP_UID, env=env, cwd=cwd)

    # What faults do.

    def unplug(self) -> None:
        """Break every adb connection and refuse new ones."""
        self._unplugged = True
        self.adbd.unlisten()
        self.adbd.drop()

    def plug_in(self) -> None:
        """Accept connections again."""
        self._unplugged = False
        self._listen()

    def hang(self, *, on: bool) -> None:
        """Stop answering adb, or go on."""
        self.adbd.hang(on=on)

    def fill_disk(self, *, full: bool) -> None:
        """Leave no space in /data, or give it back."""
        self._sandbox.fill_disk(full=full)

    def kill_su(self) -> int:
        """End all root sessions."""
        return self.system.kill_su()

    def data_dir(self) -> Path:
        """The board's /data as this process sees it."""
        return self._sandbox.root / "data"

    # The control socket.

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a request of ``devicelab sim``; failures come back as ``error`` (and ``hint``)."""
        commands: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "ping": lambda _: {"pid": os.getpid()},
            "stats": lambda _: self._stats(),
            "fault": self._fault,
            "down": lambda _: self._down(),
        }
        command = commands.get(str(request.get("do")))
        if command is None:
            return {"error": f"no such request: {request.get('do')!r}"}
        try:
            return command(request)
        except (LabError, OSError, OverflowError, TypeError, ValueError) as error:
            return {"error": getattr(error, "message", str(error)), "hint": getattr(error, "hint", None)}

    def _fault(self, request: dict[str, Any]) -> dict[str, Any]:
        # One that makes no sense leaves those before it unarmed as well.
        for fault in [Fault.from_dict(data) for data in request.get("faults", ())]:
            self.faults.arm(fault)
        return {"armed": self.faults.armed}

    def _down(self) -> dict[str, Any]:
        self.loop.call_soon(self.loop.stop)
        return {"pid": os.getpid()}

    def _stats(self) -> dict[str, Any]:
        return {
            **asdict(self.adbd.counters),
            "up_s": round(time.monotonic() - self._started, 3),
            "root": self.adbd.root,
            "processes": sum(1 for _ in self.children.pids()) - 1,
            "faults": self.faults.done,
            "armed": self.faults.armed,
        }

    def close(self) -> None:
        """End everything in the board."""
        self.adbd.unlisten()
        self.adbd.drop()
        os.kill(self.children.init_pid, signal.SIGKILL)
        os.waitpid(self.children.init_pid, 0)
