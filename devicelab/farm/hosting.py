"""A host's side of a farm: what a worker does for whoever conducts a night elsewhere.

The functions here are called in a worker's process, by Dask. A worker writes to its own ``--store``, so that no
password travels through the scheduler.
"""

import asyncio
import platform
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from distributed import Worker, get_worker

from devicelab import __version__
from devicelab.device.lab import LOCAL, DeviceEntry, load_lab
from devicelab.errors import ConfigError, StoreError
from devicelab.farm import host as looking
from devicelab.farm.care import Left, Limits, last_visit
from devicelab.farm.pool import known_devices
from devicelab.farm.selectors import Known
from devicelab.farm.task import run_task
from devicelab.jobs.conductor import Progress
from devicelab.model.experiment import Experiment
from devicelab.model.night import Farm, Health, Task
from devicelab.store import Store

# Transports whose address means something else on every host; an adb serial names a board wherever it is plugged in.
_OF_THE_HOST = ("local", "qemu")


@dataclass(frozen=True)
class Offer:
    """What a worker has: its host's name, its version of devicelab, and the devices it knows."""

    host: str
    version: str
    devices: tuple[Known, ...]


@dataclass(frozen=True)
class Order:
    """A task to be executed on a device, with all that a host needs to know (see ``farm.task.run_task``).

    Attributes:
        left_s: of the night when the order is given. No point in time: hosts' clocks differ.
    """

    farm: Farm
    night: str
    task: Task
    entry: DeviceEntry
    experiment: Experiment
    left_s: float | None


class Host:
    """This process's side.

    Args:
        store: open; used from all threads.
        only: names of the devices to offer; empty: all.
    """

    def __init__(self, store: Store, only: Collection[str] = ()) -> None:
        self.store = store
        self._only = frozenset(only)
        self._stops: dict[str, threading.Event] = {}
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._ending = False
        self.busy = 0

    def devices(self) -> tuple[Known, ...]:
        """Those to offer; this computer itself only if its lab.toml has it.

        Raises:
            ConfigError: a name that is to be offered is not known here, or lab.toml is wrong.
        """
        lab = load_lab()
        found = {
            name: known
            for name, known in known_devices(lab, self.store).items()
            if name != LOCAL or LOCAL in lab.devices
        }
        missing = sorted(self._only - found.keys())
        if missing:
            raise ConfigError(f"no device {missing[0]!r} is known here", hint=f"known: {', '.join(sorted(found))}")
        return tuple(known for name, known in sorted(found.items()) if not self._only or name in self._only)

    def stop_of(self, night: str) -> threading.Event:
        """Set when the night's tasks shall end early."""
        with self._lock:
            event = self._stops.setdefault(night, threading.Event())
            if self._ending:
                event.set()
            return event

    def go_on(self, night: str) -> None:
        """The night begins, maybe again. A task that a dead conductor left at work keeps the event it knows."""
        with self._lock:
            if night in self._stops and self._stops[night].is_set():
                self._stops[night] = threading.Event()

    def end(self) -> None:
        """All tasks end early, and those that come are not begun: this worker goes away."""
        with self._lock:
            self._ending = True
            for event in self._stops.values():
                event.set()

    def execute(self, order: Order, report: Callable[[Progress], None]) -> Task:
        """Execute a task, or go on with one that a worker which died has left.

        Raises:
            StoreError: the database fails, or it is not the one that the night is in.
        """
        self.store.patience_s = order.farm.patience_s
        stored = {task.task_id: task for task in self._tasks(order.night)}
        task = taken_over(order, stored.get(order.task.task_id))
        if task is not order.task:
            self.store.claim_task(order.night, task.task_id, "running", task)
        with self._lock:
            self.busy += 1
        try:
            return run_task(
                self.store, order.farm, order.night, task, order.entry,
                experiment=order.experiment, limits=Limits.ending_in(self.stop_of(order.night), order.left_s),
                on_progress=report,
            )  # fmt: skip
        finally:
            with self._lock:
                self.busy -= 1
                self._idle.notify_all()

    def wait_until_idle(self) -> None:
        """Until no task is executed any more."""
        with self._idle:
            self._idle.wait_for(lambda: not self.busy)

    def _tasks(self, night: str) -> tuple[Task, ...]:
        tasks = self.store.tasks(night)
        if not tasks:
            raise StoreError(
                f"the worker on {platform.node()} writes to another database: {self.store} has no night {night}",
                hint="give --store the same postgresql://… on every host",
            )
        return tasks


def taken_over(order: Order, stored: Task | None) -> Task:
    """The task to execute: as it was ordered, or, if a worker died in this very attempt, waiting with its campaign."""
    if stored is None or stored.status != "running" or stored.device != order.entry.name:
        return order.task
    if stored.attempts != order.task.attempts + 1:
        return order.task
    return stored.model_copy(update={"status": "waiting", "attempts": order.task.attempts})


def unit(host: str, entry: DeviceEntry) -> str:
    """What tells one device from another of the same name."""
    scheme = entry.address.partition(":")[0]
    return f"{entry.address} {entry.dir} of {host}" if scheme in _OF_THE_HOST else entry.address


def resource(device: str) -> str:
    """Dask's name for a device."""
    return f"device:{device}"


def resources(devices: Iterable[Known]) -> dict[str, float]:
    """What a worker begins with: the devices that are there."""
    return {resource(known.entry.name): 1 for known in devices if known.present}


def topic(night: str) -> str:
    """Where the workers tell of progress."""
    return f"devicelab-{night}"


_HOSTS: list[Host] = []
"""This process's, once it has begun to work: Dask calls functions, which find it here."""


def begin(host: Host) -> None:
    """This process works for the host from now on."""
    _HOSTS[:] = [host]


def _host() -> Host | None:
    return _HOSTS[0] if _HOSTS else None


# Called by Dask in the worker.


async def offer() -> Offer | None:
    """What this worker has; ``None`` if it is no worker of devicelab."""
    host = _host()
    if host is None:
        return None
    return Offer(platform.node(), __version__, await asyncio.to_thread(host.devices))


async def take_resources(names: Collection[str], dask_worker: Worker) -> None:
    """Offer exactly these devices from now on."""
    old = [name for name in dask_worker.state.total_resources if name.startswith(resource(""))]
    await dask_worker.set_resources(**{**dict.fromkeys(old, 0), **{resource(name): 1 for name in names}})


def go_on(night: str) -> None:
    """See ``Host.go_on``."""
    host = _host()
    if host is not None:
        host.go_on(night)


def stop(night: str) -> None:
    """The night's tasks end early."""
    host = _host()
    if host is not None:
        host.stop_of(night).set()


def execute(order: Order) -> Task:
    """See ``Host.execute``; progress is told under the night's topic."""
    host = _host()
    if host is None:
        raise ConfigError(f"{platform.node()} has a worker that is not devicelab's", hint="start `devicelab worker`")
    worker = get_worker()

    def report(progress: Progress) -> None:
        said: dict[str, Any] = {"task_id": order.task.task_id, "progress": asdict(progress)}
        worker.log_event(topic(order.night), said)

    return host.execute(order, report)


async def look(night: str) -> Health | None:
    """How this host is; ``None`` if it is no worker of devicelab."""
    host = _host()
    return None if host is None else await asyncio.to_thread(looking.look_again, host.store, night)


def visit(entry: DeviceEntry, campaigns: Collection[str]) -> Left | None:
    """See ``farm.care.last_visit``."""
    return last_visit(entry, campaigns)
