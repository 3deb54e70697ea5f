"""One trial while it goes on: a sweep as a process, the fault that strikes it, and everything mended again."""

import contextlib
import datetime as dt
import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import psycopg

from devicelab.farm import clock
from devicelab.store import Store, engine
from devicelab.store.frames import StoredResults
from tests.benches import Host, wait_for
from tests.faults.databases import Postgres, Writer
from tests.faults.sites import BoardSite, Site, SmallDisk
from tests.faults.trials import Trial

_EXPERIMENT = """question = "Is anything lost?"
foreign_pct = 100
foreign_core_pct = 100
repetitions = {repetitions}
settle_s = 0.05
seed = {seed}
analyses = []

[factors]
load = ["none", "1000 5000 20"]
placement = ["one-big"]

[set]
{settings}

[measure]
workload = "klo"
timeout_s = 30

[measure.params]
backend = "emulated"
warmup = 1
inferences = 3
plain = 3
"""
_IMPATIENCE_S = 0.4
_DAY_S = 86_400.0
_LEAST_QUOTA_BYTES = 192 << 10


def _somebody_else() -> None:
    os.environ["LOGNAME"] = os.environ["USER"] = "somebody"


def step_with(offset_s: Any) -> None:
    """This process's wall clock is off by what the shared number says, from now on; monotonic clocks are not."""
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + offset_s.value
    # Some have taken the function itself; Dask and Tornado compare what they read.
    for module in list(sys.modules.values()):
        if getattr(module, "time", None) is real:
            module.time = time.time  # type: ignore[attr-defined]
    time.time_ns = lambda: real_ns() + int(offset_s.value * 1e9)
    clock.local_now = lambda: dt.datetime.fromtimestamp(time.time())  # type: ignore[assignment]  # noqa: DTZ006


class Scene:
    """What a trial needs around it.

    Args:
        site: the device.
        trial: what is going to happen.
        disk: the host's disk: store, report and temporary files lie there.
        postgres: the database server, for trials about it.
    """

    def __init__(self, site: Site, trial: Trial, disk: SmallDisk, postgres: Postgres | None) -> None:
        self.site, self.trial, self._disk = site, trial, disk
        self.struck = False
        self.moment_s = 0.0
        self._writer: Writer | None = None
        self._cuts = 0
        self._reserved = False
        self._offset_s = multiprocessing.get_context("fork").Value("d", 0.0)
        self._postgres = postgres if trial.kind.startswith("postgres") else None
        self.folder = disk.where / f"trial-{trial.number}"
        (self.folder / "db").mkdir(parents=True)
        (self.folder / "tmp").mkdir()
        self.experiment = self.folder / f"faults{trial.number}.toml"
        settings = "\n".join(f'{word} = "{level}"' for word, level in trial.wants.items())
        text = _EXPERIMENT.format(repetitions=trial.repetitions, seed=trial.number + 1, settings=settings)
        self.experiment.write_text(text, encoding="utf-8")
        self._file = self.folder / "db" / "lab.sqlite"
        self.store = str(self._file) if self._postgres is None else self._postgres.new(f"trial{trial.number}")

    @property
    def sweep(self) -> tuple[str, ...]:
        """The words of the sweep."""
        report = str(self.folder / "report.html")
        return ("sweep", str(self.experiment), "--store", self.store, "--report", report)

    def prepare(self) -> None:
        """In the new process: temporary files go to the host's disk, and a lock is not waited for too long."""
        os.environ["TMPDIR"] = str(self.folder / "tmp")
        tempfile.tempdir = None
        if self.trial.part == "clock":
            step_with(self._offset_s)
        if self.trial.kind == "store-locked":
            engine.BUSY_S = _IMPATIENCE_S
        if self.trial.kind == "postgres-stopped":
            Store.patience_s = StoredResults.patience_s = _IMPATIENCE_S

    def disturb(self) -> Host:
        """Start the sweep and strike at the trial's moment; the process, which may have ended."""
        trial, site = self.trial, self.site
        assert site.calm is not None
        if trial.kind == "drop-at-byte" and isinstance(site, BoardSite):
            self._cuts = site.cuts()
            site.cut_at(round(trial.fraction * site.calm.bytes), trial.lasts_s)
        host = self.host = site.start(*self.sweep, prepare=self.prepare)
        self.moment_s = site.calm.moment_s(trial.fraction) if trial.moment_s is None else trial.moment_s
        host.join(self.moment_s)
        if host.is_alive():
            self._strikes()[trial.kind]()
        return host

    def _strikes(self) -> dict[str, Callable[[], None]]:
        site, lasts_s = self.site, self.trial.lasts_s
        trial = self.trial
        strikes: dict[str, Callable[[], None]] = {
            "host-killed": lambda: self._signal(signal.SIGKILL),
            "ctrl-c": lambda: self._signal(signal.SIGINT),
            "ctrl-c-twice": self._interrupt_twice,
            "sigterm": lambda: self._signal(signal.SIGTERM),
            "agent-killed": lambda: self._end_agent(signal.SIGKILL),
            "agent-ended": lambda: self._end_agent(signal.SIGTERM),
            "both-killed": self._kill_both,
            "host-stopped": self._stop_for_a_while,
            "second-sweep": lambda: self._hit(self._second),
            "reserved": lambda: self._hit(self._reserve),
            "read-meanwhile": lambda: self._hit(self._read),
            "clock-forward": lambda: self._hit(lambda: self._step(_DAY_S)),
            "clock-back": lambda: self._hit(lambda: self._step(-_DAY_S)),
            "drop": lambda: self._hit(lambda: site.cut(lasts_s)),
            "drop-at-byte": lambda: None,  # armed before the start
            "hang": lambda: self._hit(lambda: site.hang(lasts_s)),
            "store-locked": self._lock,
            "store-locked-briefly": self._lock,
            "store-moved": self._move,
            "store-deleted": self._delete,
            "postgres-disconnects": lambda: self._hit(self._database().disconnect),
            "postgres-stopped": lambda: self._hit(self._database().stop),
            "postgres-restarted": self._restart,
            "device-disk-full": lambda: self._hit(site.fill),
            "host-disk-full": lambda: self._hit(self._disk.fill),
            "host-quota": self._limit,
        }
        if isinstance(site, BoardSite):
            strikes["adb-server-killed"] = lambda: self._hit(site.kill_server)
            strikes["root-lost"] = lambda: self._hit(site.lose_root)
            strikes["reboot"] = lambda: self._hit(site.reboot)
            strikes["slow"] = lambda: self._hit(lambda: site.slow(lasts_s))
            strikes["corrupt"] = lambda: self._hit(lambda: site.damage(trial.number))
        return strikes

    def _hit(self, strike: Callable[[], None]) -> None:
        strike()
        self.struck = True

    def _signal(self, number: int) -> None:
        if self.host.pid is not None and self.host.is_alive():
            os.kill(self.host.pid, number)
            self.struck = True

    def _stop_for_a_while(self) -> None:
        self._signal(signal.SIGSTOP)
        time.sleep(self.trial.lasts_s)
        if self.host.pid is not None and self.host.is_alive():
            os.kill(self.host.pid, signal.SIGCONT)

    def _second(self) -> None:
        """Somebody starts the same sweep on the same device; he is told so, or gets his turn when it is free."""
        words = ("sweep", str(self.experiment), "--store", str(self.folder / "other.sqlite"))
        code = self.site.run(*words, "--report", str(self.folder / "other.html"))
        assert code in {0, 3, 6}, f"the second sweep: exit code {code}: {self.site.said()}"

    def _reserve(self) -> None:
        """Somebody else reserves the device: what goes on goes on."""
        other = self.site.start("reserve", self.site.name, "--for", "1h", prepare=_somebody_else, board=False)
        other.join()
        self._reserved = other.exitcode == 0

    def _read(self) -> None:
        """Somebody reads the store as it is written."""
        if self._there():
            until = time.monotonic() + self.trial.lasts_s
            while time.monotonic() < until and self._file.stat().st_size:
                with Store.open(str(self._file), create=False) as store:
                    assert all(store.results(info.campaign).runs() is not None for info in store.campaigns())

    def _step(self, seconds: float) -> None:
        self._offset_s.value += seconds

    def _interrupt_twice(self) -> None:
        self._signal(signal.SIGINT)
        self.host.join(self.trial.lasts_s / 5)
        self._signal(signal.SIGINT)

    def _end_agent(self, number: int) -> None:
        wait_for(lambda: self.site.agents() or not self.host.is_alive())
        for pid in self.site.agents():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                self.struck = True

    def _kill_both(self) -> None:
        wait_for(lambda: self.site.agents() or not self.host.is_alive())
        self._signal(signal.SIGKILL)
        self._end_agent(signal.SIGKILL)

    def _there(self) -> bool:
        """The store's file is there; very early the sweep has not opened it yet."""
        wait_for(lambda: self._file.exists() or not self.host.is_alive())
        return self._file.exists() and self.host.is_alive()

    def _lock(self) -> None:
        if not self._there():
            return
        self._writer = Writer(self._file)
        self.struck = True
        if self.trial.kind == "store-locked-briefly":
            time.sleep(self.trial.lasts_s)
            self._unlock()

    def _unlock(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _move(self) -> None:
        if self._there():
            (self.folder / "db").rename(self.folder / "away")
            self.struck = True

    def _delete(self) -> None:
        # Deleted after the end it is the user's own affair.
        if self._there() and not self._complete():
            self._hit(lambda: shutil.rmtree(self.folder / "db"))

    def _complete(self) -> bool:
        with contextlib.closing(sqlite3.connect(self._file)) as store, contextlib.suppress(sqlite3.OperationalError):
            return bool(store.execute("SELECT 1 FROM campaigns WHERE status IN ('complete', 'unreliable')").fetchone())
        return False

    def _database(self) -> Postgres:
        assert self._postgres is not None
        return self._postgres

    def _restart(self) -> None:
        """The server goes, and comes back after a while. Before the sweep has opened it, nobody would wait for it."""
        wait_for(lambda: self._begun() or not self.host.is_alive())
        if self.host.is_alive():
            self._hit(self._database().stop)
            time.sleep(self.trial.lasts_s)
            self._database().start()

    def _begun(self) -> bool:
        """The sweep has begun its campaign."""
        with contextlib.suppress(psycopg.Error), psycopg.connect(self.store) as connection:
            return bool(connection.execute("SELECT 1 FROM campaigns").fetchone())
        return False

    def _limit(self) -> None:
        """No file of the host may grow beyond what the store's have now."""
        if self.host.pid is not None and self._there():
            sizes = []
            for path in (self.folder / "db").iterdir():
                with contextlib.suppress(FileNotFoundError):  # SQLite's -wal and -shm come and go
                    sizes.append(path.stat().st_size)
            limit = max(_LEAST_QUOTA_BYTES, *sizes)
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(self.host.pid, resource.RLIMIT_FSIZE, (limit, limit))
                self.struck = True

    def mend(self) -> None:
        """Whatever was broken works again; what the sweep left behind is untouched."""
        with contextlib.ExitStack() as every:  # what cannot be mended keeps nothing else from it
            if self._postgres is not None:
                every.callback(self._postgres.start)
            every.callback(self._unlock)
            every.callback(self._disk.clear)
            if self._reserved:
                every.callback(self.site.run, "reserve", self.site.name, "--release", "--force", board=False)
                self._reserved = False
            every.callback(self.site.mend)
            if self.trial.kind == "drop-at-byte" and isinstance(self.site, BoardSite):
                self.struck = self.struck or self.site.cuts() > self._cuts
        away = self.folder / "away"
        if away.exists():
            assert not (self.folder / "db").exists(), "the sweep made a new store where the old one had been"
            away.rename(self.folder / "db")
        (self.folder / "db").mkdir(exist_ok=True)

    def exists(self) -> bool:
        """There is a store to be read."""
        return self._postgres is not None or (self._file.exists() and self._file.stat().st_size > 0)

    def close(self) -> None:
        """Remove the trial's files."""
        shutil.rmtree(self.folder, ignore_errors=True)
