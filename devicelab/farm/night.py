"""Conducts a night: gives every free device its next task, and goes on until nothing is left or time is over.

All decisions are made in one thread, which also gets the signals; tasks run where the engine puts them. What happened
is in the store before anything follows from it, so that ``resume`` goes on after a crash of this process.
"""

import contextlib
import fcntl
import os
import time
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import Protocol

from devicelab.errors import ConfigError, DeviceBusyError, DeviceUnreachableError, RestoreError
from devicelab.farm import clock, dose, schedule
from devicelab.farm.care import Left
from devicelab.farm.engine import Engine, Hosts, ThisHost
from devicelab.farm.estimate import Estimator, count_runs
from devicelab.farm.job import Job
from devicelab.farm.schedule import Schedule
from devicelab.farm.selectors import Known
from devicelab.ground import registry
from devicelab.jobs.conductor import Progress
from devicelab.model.night import NightInfo, Task
from devicelab.store import Store

# How often the conductor looks up while nothing ends: for the clock, and for people who watch.
_LOOK_S = 1.0

# A database that went away is waited for no longer once somebody wants to end.
_HURRY_S = 10.0

# Worst first; 0 is fine. A restore that failed is worst, since somebody has to go there; then what the night is for.
SEVERITY = (8, 7, 1, 2, 5, 4, 3, 6, 0)


class Watcher(Protocol):
    """Is told what happens in a night; ``progress`` is called from the threads that measure."""

    def begun(self, night: str, foretold: Schedule, ends_unix_s: float | None) -> None:
        """The night begins, or goes on."""
        ...

    def started(self, task: Task) -> None:
        """A task begins on ``task.device``."""
        ...

    def progress(self, task: Task, progress: Progress) -> None:
        """A run of a task ended."""
        ...

    def ended(self, task: Task, device: str) -> None:
        """A try of a task ended on the device."""
        ...

    def said(self, text: str) -> None:
        """Something that a person should know."""
        ...


class _Silent:
    """Nobody watches."""

    def begun(self, night: str, foretold: Schedule, ends_unix_s: float | None) -> None:
        """Nothing."""

    def started(self, task: Task) -> None:
        """Nothing."""

    def progress(self, task: Task, progress: Progress) -> None:
        """Nothing."""

    def ended(self, task: Task, device: str) -> None:
        """Nothing."""

    def said(self, text: str) -> None:
        """Nothing."""


SILENT: Watcher = _Silent()
"""For nights that nobody watches (``--json``)."""


def worst(codes: Iterable[int]) -> int:
    """The worst of several exit codes, by ``SEVERITY``."""
    return min(codes, key=lambda code: SEVERITY.index(code) if code in SEVERITY else 2, default=0)


def unfinished(store: Store, farm: str) -> NightInfo:
    """The farm's newest night, if it can go on.

    Raises:
        ConfigError: it is complete, or there is none.
    """
    newest = store.last_begun(farm)
    if newest is None or newest.status in {"complete", "failed"}:
        raise ConfigError(f"no unfinished night of farm {farm!r}", hint="start one without --resume")
    return newest


@contextlib.contextmanager
def alone(farm: str) -> Iterator[None]:
    """One conductor of a farm at a time on this machine; the lock ends with the process, however it ends.

    Raises:
        DeviceBusyError: another process conducts a night of this farm.
    """
    folder = registry.cache_dir() / "farm"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / f"{farm}.lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            who = file.read(64).strip()
            raise DeviceBusyError(
                f"a night of farm {farm!r} is going on (pid {who})", hint="wait for its end"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@contextlib.contextmanager
def alone_in(store: Store, farm: str) -> Iterator[None]:
    """One conductor of a farm at a time in a database that several hosts share.

    Raises:
        DeviceBusyError: another host conducts a night of this farm.
    """
    with store.only_one(f"night of {farm}") as first:
        if not first:
            raise DeviceBusyError(
                f"a night of farm {farm!r} is going on, conducted by another process with the same database",
                hint="wait for its end; `devicelab nights` names its host",
            )
        yield


def _alike(task: Task) -> Hashable:
    """Tasks of one ``any N of`` take equally long wherever they go."""
    return task.job, task.priority, task.cells, task.confirms


class Conductor:
    """One night.

    Args:
        job: the farm file, understood.
        pool: devices by name.
        store: where everything goes.
        watcher: is told what happens.
        hosts: where tasks run; ``None``: in threads of this process.
    """

    def __init__(
        self,
        job: Job,
        pool: Mapping[str, Known],
        store: Store,
        watcher: Watcher,
        hosts: Hosts | None = None,
    ) -> None:
        self.job, self.pool, self.store, self.watcher = job, dict(pool), store, watcher
        self._hosts: Hosts = hosts or ThisHost()
        self._estimates = Estimator(store)
        self.night = ""
        self.tasks: dict[str, Task] = {}
        self.out: dict[str, str] = {}
        self.ends_unix_s: float | None = None
        self._ends_s: float | None = None  # by time.monotonic: clocks are set in the night
        self.interrupted = False
        self._tried: dict[str, set[str]] = {}
        self._out_before: frozenset[str] = frozenset()

    def seconds(self, task: Task, device: str) -> float:
        """How long a task takes on a device, seconds."""
        known = self.pool.get(device)
        experiment = self.job.experiments[task.job]
        found = self._estimates.of(experiment, known.kind if known else None, len(task.cells)).seconds
        longest = self.job.farm.jobs[task.job].max_s
        return found if longest is None else min(found, longest)

    def basis(self, task: Task, device: str) -> str:
        """What the estimate of a task on a device rests on: ``history``, ``plan`` or ``guess``."""
        known = self.pool.get(device)
        return self._estimates.of(self.job.experiments[task.job], known.kind if known else None, len(task.cells)).basis

    def runs_of(self, tasks: Iterable[Task]) -> tuple[int, int]:
        """Runs of these tasks, and of the same with every cell once."""
        known = [task for task in tasks if task.status != "skipped" or task.at_rest]
        runs = [(task, partial(count_runs, self.job.experiments[task.job])) for task in known]
        tonight = sum(of(len(task.cells)) for task, of in runs if not task.at_rest)
        return tonight, sum(of() for task, of in runs if task.confirms is None)

    def fits(self, task: Task, device: str) -> bool:
        """The device may do the task: it is meant, and did no other of the same ``any N of`` tonight."""
        return self._fits(task, device, self._takers())

    def _takers(self) -> dict[int, dict[str, set[str]]]:
        """Job → device → ids of its tasks that are, or were, that device's; confirmations apart."""
        found: dict[int, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for task in self.tasks.values():
            if task.device is not None and task.confirms is None:
                found[task.job][task.device].add(task.task_id)
        return found

    def _fits(self, task: Task, device: str, takers: Mapping[int, Mapping[str, set[str]]]) -> bool:
        if task.device is not None:
            return task.device == device
        known = self.pool.get(device)
        taken = takers.get(task.job, {}).get(device, set()) - {task.task_id}
        fresh = not taken and device not in self._tried.get(task.task_id, ())
        return known is not None and fresh and self.job.selectors[task.job].fits(known)

    def left_s(self) -> float | None:
        """Until the night ends, seconds; ``None``: it has no end. ``ends_unix_s`` is for people."""
        return None if self._ends_s is None else self._ends_s - time.monotonic()

    def foretell(self, tasks: Iterable[Task] | None = None) -> Schedule:
        """How the night will go."""
        waiting = [task for task in (tasks or self.tasks.values()) if task.status == "waiting"]
        left_s = self.left_s()
        working = [name for name in self.pool if name not in self.out]
        fits = partial(self._fits, takers=self._takers())
        return schedule.foretell(waiting, working, fits, self.seconds, left_s, _alike)

    def prepare(self, night: str | None = None) -> tuple[Task, ...]:
        """The tasks of a new night, and who is out from the beginning; nothing is stored.

        Args:
            night: the one that goes on, if one does: what came out of it is news all the same.
        """
        now = clock.local_now()
        ends = clock.ends_at(self.job.farm, now)
        self.ends_unix_s = ends.timestamp() if ends is not None else None
        self._ends_s = time.monotonic() + ends.timestamp() - now.timestamp() if ends is not None else None
        found = self.store.quarantines(active=True)
        self.out = {one.device: f"in quarantine: {one.reason}" for one in found}
        self._out_before = frozenset(one.device for one in found if night is None or one.night != night)
        tasks = schedule.make_tasks(self.job, self.pool)
        farm = self.job.farm
        if farm.dose is None or night is not None:  # a night that goes on has its tasks
            return tasks
        return dose.dosed(tasks, self.job.experiments, self.store, farm.name, farm.dose, now.timestamp())

    def begin(self) -> None:
        """Store a new night with its tasks."""
        tasks = self.prepare()
        self.night = self.store.begin_night(self.job.farm)
        self.store.put_tasks(self.night, tasks)
        self.tasks = {task.task_id: task for task in tasks}

    def go_on(self, info: NightInfo) -> None:
        """Take up a night that a dead process or a signal left."""
        self.prepare(info.night)
        self.night = info.night
        self.tasks = {task.task_id: task for task in self.left_of(info)}
        self.store.finish_night(self.night, "running", None)
        self.store.put_tasks(self.night, tuple(self.tasks.values()))

    def left_of(self, info: NightInfo) -> tuple[Task, ...]:
        """The night's tasks as they are taken up: what was running is tried again, where it was if that is possible."""
        tasks = []
        for task in self.store.tasks(info.night):
            again = task
            if task.status == "running":
                again = task.model_copy(update={"status": "waiting", "attempts": max(0, task.attempts - 1)})
            if again.status == "waiting" and again.device in self.out and schedule.movable(again):
                again = again.model_copy(update={"device": None})
            tasks.append(again)
        return tuple(tasks)

    def add(self, tasks: Iterable[Task]) -> None:
        """Further tasks of the same night (confirmations)."""
        chosen = tuple(tasks)
        self.store.put_tasks(self.night, chosen)
        self.tasks |= {task.task_id: task for task in chosen}

    def conduct(self) -> None:
        """Until nothing waits that can be done, or the time is over, or a signal came."""
        engine = self._hosts.engine(self.job.farm, self.night, self.store, self.watcher.progress)
        running: dict[Future[Task], tuple[str, Task]] = {}
        try:
            self._skip_tasks_without_a_device()
            while True:
                try:
                    self._assign(engine, running)
                    if not running:
                        break
                    for future in wait(running, timeout=_LOOK_S, return_when=FIRST_COMPLETED).done:
                        self._take(future, *running.pop(future))
                except KeyboardInterrupt:
                    left = len(running)
                    self.watcher.said(f"ending: {left} device{'s' if left != 1 else ''} will be given back first")
                    self.interrupted = True
                    self.store.patience_s = min(self.store.patience_s, _HURRY_S)
                    engine.stop()
        finally:
            self._end(engine)
        if not self.interrupted:
            self._skip_the_rest()

    def _end(self, engine: Engine) -> None:
        """Nothing runs any more afterwards; further signals do not hurry it, or devices would be left as they are."""
        while True:
            try:
                engine.stop()
                engine.close()
            except KeyboardInterrupt:
                self.interrupted = True
                self.watcher.said("still giving devices back")
            else:
                return

    def give_back(self) -> dict[str, Left]:
        """Visit the devices that were lost once more; those that could not be given back even then."""
        performed = self.store.night_campaigns(self.night)
        campaigns, worked = [info.campaign for info in performed], {info.device for info in performed}
        not_given_back = {}
        for device in sorted(self.out.keys() & worked & self.pool.keys()):
            left = self._hosts.give_back(self.pool[device].entry, campaigns)
            if left is not None:
                not_given_back[device] = left
                if left.exit_code == RestoreError.exit_code:
                    self.store.quarantine(device, left.reason, self.night)
        return not_given_back

    def _assign(self, engine: Engine, running: "dict[Future[Task], tuple[str, Task]]") -> None:
        if self.interrupted:
            return
        busy = {device for device, _ in running.values()}
        tasks = (task for task in self.tasks.values() if task.status == "waiting")
        waiting, takers = schedule.Waiting(tasks, self.seconds, _alike), self._takers()
        fits = partial(self._fits, takers=takers)
        idle = [name for name in self.pool if name not in busy and name not in self.out]
        for device in waiting.eager(idle):
            left_s = self.left_s()
            task = schedule.pick(waiting.candidates(device, fits), device, fits, self.seconds, left_s)
            if task is None:
                continue
            if self._taken_out(device):
                self._assign(engine, running)  # its tasks may go elsewhere now
                return
            waiting.remove(task)
            begun = task.model_copy(update={"device": device, "status": "running"})
            self.tasks[task.task_id] = begun
            if task.confirms is None:
                takers[task.job][device].add(task.task_id)
            self.watcher.started(begun)
            experiment = self.job.experiments[task.job]
            future = engine.submit(task, self.pool[device].entry, experiment, self.left_s())
            running[future] = (device, task)

    def _taken_out(self, device: str) -> bool:
        """Somebody may have put the device into quarantine a moment ago: a person, or another farm."""
        found = self.store.quarantines(device=device, active=True)
        if found:
            self._put_out(device, f"in quarantine: {found[0].reason}")
        return bool(found)

    def _put_out(self, device: str, reason: str) -> None:
        self.out[device] = reason
        self.watcher.said(f"{device} gets no more work tonight: {reason}")
        if not self.interrupted:  # otherwise what waits goes on later
            self._skip_tasks_without_a_device()

    def _take(self, future: "Future[Task]", device: str, task: Task) -> None:
        """What came of a task; an error here is the store's or the engine's, and ends the night."""
        ended = future.result()
        self.tasks[task.task_id] = ended
        self._tried.setdefault(task.task_id, set()).add(device)
        newest = self.store.health(device=device, night=self.night, limit=1)
        self.watcher.ended(ended, device)
        if self._taken_out(device):
            return
        # A worker that was ended while the board was away says nothing of the board: who comes next looks for himself.
        left_early = ended.status == "waiting" and ended.reason.startswith("interrupted") and not self.interrupted
        if newest and not newest[0].ok and not left_early:
            self._put_out(device, "; ".join(newest[0].reasons))
        elif ended.status == "waiting" and not self.interrupted:
            self._skip_tasks_without_a_device()

    def _skip_tasks_without_a_device(self) -> None:
        """Tasks whose device is out, or that no device of those left fits, are skipped at once, with the reason."""
        working = [name for name in self.pool if name not in self.out]
        fits = partial(self._fits, takers=self._takers())
        changed: list[Task] = []
        excused: Counter[int] = Counter()
        for task in self.tasks.values():
            if task.status != "waiting":
                continue
            free = task
            if task.device is not None and task.device in self.out and schedule.movable(task):
                free = task.model_copy(update={"device": None})
            may = working if free.device is None else [free.device] * (free.device in self.pool)
            if any(device not in self.out and fits(free, device) for device in may):
                changed += [free] if free is not task else []
                continue
            why = f"no device that fits {free.selector!r} is left"
            code = free.exit_code or DeviceUnreachableError.exit_code
            if free.device is not None:
                why = f"{free.device}: {self.out.get(free.device, 'it is not there now')}"
                # That a device is in quarantine since an earlier night is no news.
                code = 0 if free.device in self._out_before else code
            elif not free.exit_code and excused[free.job] < self._missing_before(free.job):
                excused[free.job] += 1
                code = 0
            why = "; ".join(filter(None, (why, free.reason if free.device is None else "", *self._out_of(free))))
            changed.append(free.model_copy(update={"status": "skipped", "reason": why, "exit_code": code}))
        self.add(changed)

    def _out_of(self, task: Task) -> tuple[str, ...]:
        """Why devices that an ``any N of`` task might have gone to are out since an earlier night."""
        if task.device is not None:
            return ()
        return tuple(f"{name}: {self.out[name]}" for name in sorted(self._meant(task.job) & self._out_before))

    def _missing_before(self, job: int) -> int:
        """How many of a job's ``any N of`` tasks have no place since devices are in quarantine from earlier nights."""
        meant, already = self._meant(job), len(self._excused(job))
        well = len(meant - self._out_before)
        return min(len(meant & self._out_before), max(0, (self.job.selectors[job].count or 0) - well)) - already

    def _excused(self, job: int) -> tuple[Task, ...]:
        tasks = (task for task in self.tasks.values() if task.job == job and task.device is None)
        return tuple(task for task in tasks if task.status == "skipped" and not task.exit_code)

    def _meant(self, job: int) -> frozenset[str]:
        return frozenset(name for name, known in self.pool.items() if self.job.selectors[job].fits(known))

    def _skip_the_rest(self) -> None:
        self._skip_tasks_without_a_device()
        rest = [task for task in self.tasks.values() if task.status == "waiting"]
        reasons = {task.task_id: why for task, why in self.foretell().dropped}
        for task in rest:
            why = reasons.get(task.task_id, "no time was left") + (f"; {task.reason}" if task.reason else "")
            self.add([task.model_copy(update={"status": "skipped", "reason": why})])
