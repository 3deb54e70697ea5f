"""The devices of one worker: started when a trial first asks for them, ended with the worker."""

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from adbutils import adb_path

from devicelab.ground import registry
from devicelab.report import page
from tests import postgres
from tests.contracts import sshd
from tests.contracts.transport_bench import free_port
from tests.faults.databases import Postgres
from tests.faults.performing import Outcome, calm, perform
from tests.faults.sites import BoardSite, Calm, MachineSite, Site, SmallDisk
from tests.faults.trials import Trial
from virtualboards import lifecycle
from virtualboards.lifecycle import AdbServer

_DISK = "96m"


class Workshop:
    """One worker's devices, its host's disk and its database server.

    Args:
        number: of the worker; its adb server listens on ``ANDROID_ADB_SERVER_PORT`` + ``number`` if that is set.
        assumed: take this for the measure of an undisturbed sweep, instead of measuring one on every device.
    """

    def __init__(self, number: int = 0, assumed: Calm | None = None) -> None:
        self._assumed = assumed
        self._stack = contextlib.ExitStack()
        self._number = number
        self._sites: dict[tuple[str, str], Site] = {}
        self._postgres: Postgres | None = None
        self._place = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        self._disk = SmallDisk(self._place / "host", _DISK)
        self._stack.callback(self._disk.close)
        base = os.environ.get("ANDROID_ADB_SERVER_PORT")
        self._server = AdbServer("127.0.0.1", int(base) + number if base else free_port())
        self._set("ANDROID_ADB_SERVER_PORT", str(self._server.port))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def do(self, trial: Trial) -> Outcome:
        """Perform a trial on the device it asks for.

        Raises:
            AssertionError: even an undisturbed sweep does not do what it should there.
        """
        key = (trial.transport, trial.board if trial.transport == "adb" else "")
        if key not in self._sites:
            self._sites[key] = self._site(trial)
            self._sites[key].calm = self._assumed
            self._sites[key].ready = _draw_nothing
        site = self._sites[key]
        if site.calm is None:
            problems = calm(site, self._disk, trial)
            assert not problems, f"an undisturbed sweep on {site.name}: {problems}"
        if trial.kind.startswith("postgres") and self._postgres is None:
            self._postgres = Postgres()
            self._stack.callback(self._postgres.close)
        return perform(site, trial, self._disk, self._postgres)

    def _site(self, trial: Trial) -> Site:
        place = self._place / f"{trial.transport}-{len(self._sites)}"
        place.mkdir()
        if trial.transport == "adb":
            return self._board(trial.board, place)
        server = self._sshd() if trial.transport == "ssh" else None
        site = MachineSite(f"{trial.transport}-{self._number}", place, server)
        self._stack.callback(site.close)
        return site

    def _board(self, kind: str, place: Path) -> BoardSite:
        if not any(isinstance(site, BoardSite) for site in self._sites.values()):
            self._server.start()
            self._stack.callback(self._end_server)
        name = f"faults-{kind}-{os.getpid()}"
        board = lifecycle.up(kind, name=name, abi="x86_64", server=self._server)[0]
        self._stack.callback(lifecycle.down, [board.name])
        return BoardSite(board, self._server, place)

    def _end_server(self) -> None:
        subprocess.run([adb_path(), "-P", str(self._server.port), "kill-server"], check=False, capture_output=True)

    def _sshd(self) -> sshd.SshServer:
        folder = self._place / "sshd"
        folder.mkdir()
        server = sshd.start(folder)
        self._stack.callback(server.stop)
        server.know(f"[127.0.0.1]:{server.port}")
        # A home without a cache would have every program compiled once more.
        self._set("DEVICELAB_CACHE", str(registry.cache_dir()))
        self._set("HOME", str(server.home))
        self._set("SSH_AUTH_SOCK", "")
        return server

    def _set(self, name: str, value: str) -> None:
        old = os.environ.get(name)
        os.environ[name] = value
        self._stack.callback(lambda: os.environ.update({name: old}) if old is not None else os.environ.pop(name, None))


def _draw_nothing() -> None:
    """Figures are most of what a short sweep costs, and nothing can be lost in them."""
    page.built_in = lambda *_words, **_named: ()  # type: ignore[assignment]


def impossible(kind: str) -> str:
    """Why a kind of fault cannot be done on this machine; empty if it can."""
    if kind.startswith("postgres") and postgres.TOOLS is None:
        return "no PostgreSQL server is installed"
    return ""
