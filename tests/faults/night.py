"""Whole nights under faults: ``python -m tests.faults --night --n 50 [--seed S] [--only SEED:NUMBER]``.

A night of real virtual boards with Dask and PostgreSQL: a scheduler, two workers that reach the same boards, a
conductor, each a process. Workers, scheduler, conductor, database, boards, their hub, disks and clocks are struck at
random instants; whoever died comes back as systemd would bring him back; a night that was left is gone on with. Judged:
every task complete and every run stored once, boards as they were, pages that say what the database says, and the exit
code.
"""

import contextlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from devicelab.errors import LabError
from devicelab.model.night import NightInfo
from devicelab.report import page, site
from devicelab.store import Store
from tests.benches import Host, finished, left_behind, wait_for
from tests.contracts.transport_bench import free_port
from tests.farms import Farm
from tests.faults.databases import Postgres
from tests.faults.night_trials import NIGHT_KINDS, NightOutcome, NightTrial, Strike, draw_night
from tests.faults.scene import step_with
from tests.faults.sites import BoardSite, SmallDisk
from tests.processes import kill_all
from virtualboards import lifecycle
from virtualboards.faults import Fault
from virtualboards.lifecycle import AdbServer

BOARDS = ("note10", "qualcomm", "pixel")
_WORKERS = ("w1", "w2")
_NIGHT_S = 300.0
_DAY_S = 86_400.0
_TRIES = 4

_JOBS = """\
patience_s = 40
wait_busy_s = 60
max_reboots = 3
attempts = 5
[health]
min_free_mib = 1
max_c = 80
[[jobs]]
experiment = "e.toml"
devices = "tag=farm"
[[jobs]]
experiment = "e.toml"
devices = "any 2 of tag=farm"
repetitions = 2
"""
_EXPERIMENT = """\
question = "Does every run of a night come home?"
foreign_pct = 100
foreign_core_pct = 100
repetitions = 5
hold_s = 0.5
settle_s = 0.1
analyses = []
[factors]
load = ["none", "1000 5000 20"]
[set]
cpu = "min"
"""


class Yard:
    """Boards, adb server and database server of many nights."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.place = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="nights-")))
        self.disk = SmallDisk(self.place / "host", "64m")
        self._stack.callback(self.disk.close)
        self.server = AdbServer("127.0.0.1", free_port())
        os.environ["ANDROID_ADB_SERVER_PORT"] = str(self.server.port)
        self.server.start()
        self.sites: list[BoardSite] = []
        for kind in BOARDS:
            board = lifecycle.up(kind, name=f"night-{kind}-{os.getpid()}", abi="x86_64", server=self.server)[0]
            self._stack.callback(lifecycle.down, [board.name])
            place = self.place / kind
            place.mkdir()
            self.sites.append(BoardSite(board, self.server, place))
        self.postgres = Postgres()
        self._stack.callback(self.postgres.close)

    def close(self) -> None:
        """End everything."""
        with contextlib.suppress(Exception):
            self.server.start()
        self._stack.callback(self.sites[0].kill_server)
        self._stack.close()


class ChaosNight:
    """One night while it goes on.

    Args:
        yard: boards and servers.
        trial: what happens.
    """

    def __init__(self, yard: Yard, trial: NightTrial) -> None:
        self.yard, self.trial = yard, trial
        self.outcome = NightOutcome(trial)
        self.place = yard.place / f"night-{trial.number}"
        self.place.mkdir()
        self.pages = yard.disk.where / f"site-{trial.number}"
        self._offset_s = multiprocessing.get_context("fork").Value("d", 0.0)
        self._stopped: list[int] = []
        url = yard.postgres.new(f"night-{trial.seed}-{trial.number}")
        lab = "".join(
            f'[devices.{one.name}]\naddress = "{one.entry.address}"\ntags = ["farm"]\n'
            + ('root = "adb-root"\n' if one.entry.root == "adb-root" else "")
            for one in yard.sites
        )
        self.farm = Farm(self.place, lab, url, _JOBS)
        (self.place / "e.toml").write_text(_EXPERIMENT, encoding="utf-8")
        self.farm.commands.ready = self._ready
        self.store = url

    def _ready(self) -> None:
        """In every process: no figures are drawn, temporary files are on the small disk, the clock is the trial's."""
        page.built_in = lambda *_words, **_named: ()  # type: ignore[assignment]
        os.environ["TMPDIR"] = str(self.yard.disk.where)
        tempfile.tempdir = None
        step_with(self._offset_s)

    def play(self) -> NightOutcome:
        """The night, what happens to it, and how it is left."""
        began = time.monotonic()
        try:
            self._workers()
            code = self._disturbed()
            self._mend()
            self.outcome.codes.append(code)
            if code not in self.trial.allows(lambda kind: kind.codes | kind.last):
                self._complain(f"exit code {code}: {self._said()}")
            self._go_on()
            self._judge()
        except (AssertionError, LabError) as error:
            self._complain(f"{type(error).__name__}: {error}; said: {self._said()}")
        finally:
            self._mend()
            self.farm.close()
            shutil.rmtree(self.pages, ignore_errors=True)
        self.outcome.took_s = time.monotonic() - began
        return self.outcome

    def _complain(self, what: str) -> None:
        self.outcome.violations.append(what)

    def _said(self) -> str:
        return self.farm.commands.said()

    def _workers(self) -> None:
        """Those that are not there are started, as systemd does."""
        before = self.farm.said("works for")
        new = [name for name in _WORKERS if name not in self.farm.workers or not self.farm.workers[name].is_alive()]
        for name in new:
            words = ("worker", "--scheduler", f"127.0.0.1:{self.farm.port}", "--store", self.store, "--name", name)
            self.farm.workers[name] = self.farm.commands.start(*words, board=False)
        came = wait_for(lambda: self.farm.said("works for") >= before + len(new), 60.0)
        assert came, "a worker does not come back"

    def _conduct(self, *words: str) -> Host:
        return self.farm.conduct("--site", str(self.pages), *words)

    def _disturbed(self) -> int:
        self.night = self._conduct()
        if not self.trial.early:
            wait_for(lambda: self._measures() or not self.night.is_alive(), 60.0)
        lasting: list[tuple[float, Strike]] = []
        for strike in self.trial.strikes:
            self.night.join(strike.after_s)
            self._strike(strike)
            lasting.append((time.monotonic() + strike.lasts_s, strike))
            if not strike.with_next:
                self._outlast(lasting)
        self._outlast(lasting)
        self.night.join(_NIGHT_S)
        if self.night.is_alive():
            self._complain(f"the night does not end: {self._said()}")
            self.night.kill()
        return finished(self.night)

    def _measures(self) -> bool:
        with contextlib.suppress(LabError), Store.open(self.store) as store:
            return any(info.runs_done for info in store.campaigns())
        return False

    def _outlast(self, lasting: list[tuple[float, Strike]]) -> None:
        for until, strike in sorted(lasting, key=lambda pair: pair[0]):
            time.sleep(max(0.0, until - time.monotonic()))
            self._mended(strike)
        lasting.clear()

    def _site(self, strike: Strike) -> BoardSite:
        return self.yard.sites[int(strike.whom * len(self.yard.sites))]

    def _worker(self, strike: Strike) -> str:
        return _WORKERS[int(strike.whom * len(_WORKERS))]

    def _signal(self, host: Host, number: int) -> None:
        if host.is_alive() and host.pid is not None:
            os.kill(host.pid, number)

    def _strike(self, strike: Strike) -> None:
        match strike.kind:
            case "worker-killed" | "worker-ended" | "worker-stopped":
                numbers = {"killed": signal.SIGKILL, "ended": signal.SIGTERM, "stopped": signal.SIGSTOP}
                worker = self.farm.workers[self._worker(strike)]
                self._signal(worker, numbers[strike.kind.partition("-")[2]])
                self._stopped += [worker.pid] if strike.kind == "worker-stopped" and worker.pid else []
            case "workers-killed":
                for worker in self.farm.workers.values():
                    self._signal(worker, signal.SIGKILL)
            case "scheduler-killed" | "scheduler-and-worker-killed":
                self.farm.scheduler.kill()
                if strike.kind != "scheduler-killed":
                    self._signal(self.farm.workers[self._worker(strike)], signal.SIGTERM)
            case "conductor-killed" | "conductor-interrupted" | "conductor-ended":
                numbers = {"killed": signal.SIGKILL, "interrupted": signal.SIGINT, "ended": signal.SIGTERM}
                self._signal(self.night, numbers[strike.kind.partition("-")[2]])
            case "database-restarted":
                self.yard.postgres.stop()
            case "database-disconnects":
                self.yard.postgres.start()
                self.yard.postgres.disconnect()
            case "host-disk-full":
                self.yard.disk.fill()
            case "clock-forward" | "clock-back":
                self._offset_s.value += _DAY_S if strike.kind == "clock-forward" else -_DAY_S
            case "adb-server-killed":
                self.yard.sites[0].kill_server()
            case _:
                self._strike_boards(strike)

    def _strike_boards(self, strike: Strike) -> None:
        site, lasts_s = self._site(strike), strike.lasts_s
        match strike.kind:
            case "board-dropped":
                site.cut(lasts_s)
            case "board-hangs":
                site.hang(lasts_s)
            case "board-rebooted":
                site.reboot()
            case "board-root-lost":
                site.lose_root()
            case "board-agent-killed":
                kill_all(site.agents())
            case "board-disk-full":
                lifecycle.arm(site.name, [Fault("disk-full", for_s=lasts_s)])
            case "hub-off" | "hub-off-and-adb-server":
                for one in self.yard.sites:
                    one.cut(lasts_s)
                if strike.kind != "hub-off":
                    self.yard.sites[0].kill_server()
            case _:
                raise AssertionError(strike.kind)

    def _mended(self, strike: Strike) -> None:
        match NIGHT_KINDS[strike.kind].part:
            case "worker":
                self._wake()
                if self.farm.scheduler.poll() is None:
                    self._workers()
            case "scheduler":
                self._scheduler()
            case "database":
                self.yard.postgres.start()
            case "disk":
                self.yard.disk.clear()
            case "adb server" | "hub":
                self.yard.server.start()
            case _:
                pass

    def _wake(self) -> None:
        for pid in self._stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._stopped.clear()

    def _scheduler(self) -> None:
        """It is there again, and with it the workers, which ended without it."""
        if self.farm.scheduler.poll() is not None:
            self.farm.schedule()
            for name, worker in tuple(self.farm.workers.items()):
                worker.join(90.0)
                if worker.is_alive():
                    self._complain(f"worker {name} did not end without its scheduler: {self._said()}")
                    worker.kill()
            self._workers()

    def _mend(self) -> None:
        self._wake()
        self.yard.postgres.start()
        self.yard.disk.clear()
        self.yard.server.start()
        for one in self.yard.sites:
            one.mend()

    def _go_on(self) -> None:
        """Somebody comes back in the morning: what is unfinished is gone on with, without further faults."""
        while len(self.outcome.codes) < _TRIES:
            self._scheduler()
            self._workers()
            info = self._night()
            if info is not None and info.status in {"complete", "failed"}:
                return
            night = self._conduct(*(("--resume",) if info is not None else ()))
            night.join(_NIGHT_S)
            self.outcome.codes.append(finished(night))

    def _night(self) -> NightInfo | None:
        with Store.open(self.store) as store:
            nights = store.nights()
        assert len(nights) <= 1, f"{len(nights)} nights are stored"
        return nights[0] if nights else None

    def _judge(self) -> None:
        last = self.outcome.codes[-1]
        allowed = self.trial.allows(lambda kind: kind.last)
        with Store.open(self.store) as store:
            assert store.nights(), f"no night began; exit codes {self.outcome.codes}"
            (info,) = store.nights()
            if last not in allowed or info.exit_code != last or info.status != "complete":
                self._complain(f"{info.status}, exit code {last}, stored {info.exit_code}: {self._said()}")
            self._judge_runs(store, info, hurt=last not in {0, 6})
            self._complain_of(store.check().problems)
            self._judge_site(store, info)
        text = (self.place / "said.txt").read_text(encoding="utf-8", errors="replace")
        if "Traceback (most recent call last)" in text:
            self._complain(f"a traceback: {text[max(0, text.index('Traceback') - 300) :][:2500]}")
        for one in self.yard.sites:
            wait_for(lambda one=one: not one.programs("agent", "overhead"), 60.0)
            self._complain_of(f"{one.name}: {what}" for what in left_behind(one, one.fresh))
        codes = self.farm.end()
        if any(codes):
            self._complain(f"workers ended with {codes}: {self._said()}")

    def _complain_of(self, problems: Sequence[str] | object) -> None:
        self.outcome.violations.extend(map(str, problems))  # type: ignore[call-overload]

    def _judge_runs(self, store: Store, info: NightInfo, *, hurt: bool) -> None:
        """Every task complete (where a board was made unfit: or with a reason), every planned run stored once."""
        seen: list[str] = []
        for task in store.tasks(info.night):
            if task.status != "complete":
                if not (hurt and task.reason and task.status in {"failed", "skipped"}):
                    self._complain(f"{task.task_id} on {task.device}: {task.status} ({task.reason})")
                continue
            campaign = str(task.campaign)
            plans = json.loads(store.plan_json(campaign) or "[]")
            planned = sorted(run["run_id"] for plan in plans for run in plan["runs"])
            runs = sorted(map(str, store.results(campaign).runs()["run_id"]))
            seen += runs
            if sorted(set(planned)) != runs:
                self._complain(f"{task.task_id}: {len(runs)} runs stored, {len(set(planned))} planned")
        self.outcome.runs = len(seen)
        if len(seen) != len(set(seen)):
            self._complain("a run is stored twice")

    def _judge_site(self, store: Store, info: NightInfo) -> None:
        """The pages are those that somebody would get who makes them anew from the database."""
        if not self.pages.exists() or self.outcome.codes[-1] == 2:
            site.build_site(store, self.pages)  # a disk that was full may have cost the pages, not the night
        fresh = self.place / "site"
        made = site.update_site(store, fresh)
        self._complain_of(made.problems)
        wrong = [
            str(path.relative_to(fresh))
            for path in sorted(fresh.rglob("*.html"))
            if not (self.pages / path.relative_to(fresh)).is_file()
            or _said_in(self.pages / path.relative_to(fresh)) != _said_in(path)
        ]
        if wrong:
            self._complain(f"pages that do not say what the database says: {wrong[:5]}")
        if info.night not in (fresh / "index.html").read_text(encoding="utf-8"):
            self._complain("the night is not on the first page")


def _said_in(page_of: Path) -> str:
    """A page without the minute at which it was made."""
    return re.sub(r"made [-\d]+ [\d:]+ UTC", "", page_of.read_text(encoding="utf-8"))


def run_nights(trials: Sequence[NightTrial]) -> list[NightOutcome]:
    """All nights, one after another; those done until Ctrl-C."""
    page.built_in = lambda *_words, **_named: ()  # type: ignore[assignment]
    yard, outcomes = Yard(), []
    began = time.monotonic()
    try:
        for trial in trials:
            outcomes.append(ChaosNight(yard, trial).play())
            left_min = (time.monotonic() - began) / len(outcomes) * (len(trials) - len(outcomes)) / 60
            print(f"[{len(outcomes)}/{len(trials)}, about {left_min:.0f} min left] {outcomes[-1]}", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    finally:
        yard.close()
    return outcomes


def drawn(seed: int, count: int) -> list[NightTrial]:
    """The first nights of a seed."""
    return [draw_night(seed, number) for number in range(count)]
