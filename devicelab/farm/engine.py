"""Which hosts a farm has, and where tasks are executed: threads of this process, or workers (``engine_dask``)."""

import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from devicelab.device.lab import DeviceEntry
from devicelab.farm import host
from devicelab.farm.care import Left, Limits, last_visit
from devicelab.farm.pool import known_devices
from devicelab.farm.selectors import Known
from devicelab.farm.task import run_task
from devicelab.jobs.conductor import Progress
from devicelab.model.experiment import Experiment
from devicelab.model.night import Farm, Health, Task
from devicelab.store import Store

OnProgress = Callable[[Task, Progress], None]
"""Told after every run, from the thread that measures."""


MOST_DEVICES = 4096
"""At work at a time: each has a thread of the conductor."""


class Engine(Protocol):
    """Executes tasks, one at a time on a device; the conductor decides which."""

    def submit(self, task: Task, entry: DeviceEntry, experiment: Experiment, left_s: float | None) -> Future[Task]:
        """Begin a task that ends in ``left_s`` seconds at the latest; the future holds what ``run_task`` returns."""
        ...

    def stop(self) -> None:
        """Have every task end early: the devices are given back, and the futures end with waiting tasks."""
        ...

    def close(self) -> None:
        """Wait for what still runs, and release everything. Harmless when called twice."""
        ...


class Hosts(Protocol):
    """The hosts of a farm: which devices they have, and how a night is executed there."""

    def known_devices(self, store: Store) -> dict[str, Known]:
        """The devices by name (see ``pool.known_devices``)."""
        ...

    def engine(self, farm: Farm, night: str, store: Store, on_progress: OnProgress | None = None) -> Engine:
        """Where the night's tasks are executed."""
        ...

    def give_back(self, entry: DeviceEntry, campaigns: Collection[str]) -> Left | None:
        """See ``care.last_visit``."""
        ...

    def looks(self, store: Store, night: str) -> tuple[Health, ...]:
        """How each host is (``farm.host.look``)."""
        ...


class ThisHost:
    """The farm is what this computer reaches."""

    def known_devices(self, store: Store) -> dict[str, Known]:
        """See ``Hosts.known_devices``."""
        return known_devices(store=store)

    def engine(self, farm: Farm, night: str, store: Store, on_progress: OnProgress | None = None) -> Engine:
        """See ``Hosts.engine``."""
        return LocalThreads(store, farm, night, on_progress)

    def give_back(self, entry: DeviceEntry, campaigns: Collection[str]) -> Left | None:
        """See ``Hosts.give_back``."""
        return last_visit(entry, campaigns)

    def looks(self, store: Store, night: str) -> tuple[Health, ...]:
        """See ``Hosts.looks``."""
        return (host.look_again(store, night),)


class LocalThreads:
    """A thread of this process for each device.

    Args:
        store: used from all threads.
        farm: whose tasks come.
        night: its id.
        on_progress: see ``OnProgress``.
    """

    def __init__(self, store: Store, farm: Farm, night: str, on_progress: OnProgress | None = None) -> None:
        self._store, self._farm, self._night, self._on_progress = store, farm, night, on_progress
        self._stop = threading.Event()
        # A thread is started for a task when none is free; idle ones are used again.
        self._threads = ThreadPoolExecutor(max_workers=MOST_DEVICES, thread_name_prefix="device")

    def submit(self, task: Task, entry: DeviceEntry, experiment: Experiment, left_s: float | None) -> Future[Task]:
        """See ``Engine.submit``."""
        limits = Limits.ending_in(self._stop, left_s)
        return self._threads.submit(self._run, task, entry, experiment, limits)

    def _run(self, task: Task, entry: DeviceEntry, experiment: Experiment, limits: Limits) -> Task:
        def report(progress: Progress) -> None:
            if self._on_progress is not None:
                self._on_progress(task.model_copy(update={"device": entry.name}), progress)

        return run_task(
            self._store, self._farm, self._night, task, entry,
            experiment=experiment, limits=limits, on_progress=report,
        )  # fmt: skip

    def stop(self) -> None:
        """See ``Engine.stop``."""
        self._stop.set()

    def close(self) -> None:
        """See ``Engine.close``."""
        self._threads.shutdown(wait=True)
