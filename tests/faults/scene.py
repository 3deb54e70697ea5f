"""One trial while it goes on: a sweep as a process, the fault that strikes it, and everything mended again."""

import contextlib
import os
import resource
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable

import psycopg

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
_LEAST_QUOTA_BYTES = 192 << 10


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
        strikes: dict[str, Callable[[], None]] = {
            "host-killed": lambda: self._signal(signal.SIGKILL),
            "ctrl-c": lambda: self._signal(signal.SIGINT),
            "ctrl-c-twice": self._interrupt_twice,
            "sigterm": lambda: self._signal(signal.SIGTERM),
            "agent-killed": lambda: self._end_agent(signal.SIGKILL),
            "agent-ended": lambda: self._end_agent(signal.SIGTERM),
            "both-killed": self._kill_both,
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
        return strikes

    def _hit(self, strike: Callable[[], None]) -> None:
        strike()
        self.struck = True

    def _signal(self, number: int) -> None:
        if self.host.pid is not None and self.host.is_alive():
            os.kill(self.host.pid, number)
            self.struck = True

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
            return bool(store.execute("SELECT 1 FROM campaigns WHERE status = 'complete'").fetchone())
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
            sizes = [path.stat().st_size for path in (self.folder / "db").iterdir()]
            limit = max(_LEAST_QUOTA_BYTES, *sizes)
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(self.host.pid, resource.RLIMIT_FSIZE, (limit, limit))
                self.struck = True

    def mend(self) -> None:
        """Whatever was broken works again; what the sweep left behind is untouched."""
        if self.trial.kind == "drop-at-byte" and isinstance(self.site, BoardSite):
            self.struck = self.struck or self.site.cuts() > self._cuts
        self.site.mend()
        self._disk.clear()
        self._unlock()
        if self._postgres is not None:
            self._postgres.start()
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
