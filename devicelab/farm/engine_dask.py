"""A farm of several hosts: a Dask scheduler, a worker on each host that offers its devices, one database for all.

A device is a resource ``device:NAME`` of every worker that reaches it, so Dask gives it one task at a time. When a
worker dies, its task goes to another worker with the same device, which takes the board over as it lies there: it
attaches to the agent that still works, or undoes what a dead one left, and measures only what is missing. If no other
worker has the device, it is waited for (the farm's ``patience_s``), then the task is moved or given up.

The scheduler and the workers execute what is sent to them: whoever reaches their ports is trusted. Use TLS, or a
network of their own.
"""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Self

from distributed import Client
from distributed import Future as Remote
from distributed.comm.core import CommClosedError

from devicelab import __version__
from devicelab.device.lab import DeviceEntry
from devicelab.errors import ConfigError, DeviceUnreachableError
from devicelab.farm import hosting, schedule
from devicelab.farm.care import Left
from devicelab.farm.dask_link import LOST, Tls, address_of, reaching, usable
from devicelab.farm.engine import MOST_DEVICES, OnProgress
from devicelab.farm.hosting import Offer, Order, resource
from devicelab.farm.selectors import Known
from devicelab.jobs.conductor import Progress
from devicelab.model.experiment import Experiment
from devicelab.model.night import Farm, Health, Task
from devicelab.store import Store

# How often a task that runs elsewhere is looked after, and how long a scheduler may take to answer.
_LOOK_S = 1.0
_CONNECT_S = 10.0
_VISIT_S = 120.0
# A host asks its devices what they are, those that do not answer as well.
_OFFER_S = 180.0
# Workers say every second or so that they live (more seldom where there are hundreds); one that has not for so long is
# stopped, or its host is.
_SILENT_S = 15.0


class DaskHosts:
    """The hosts behind a scheduler; close it, or use it in a ``with`` statement.

    Args:
        place: ``dask://HOST:PORT``.
        tls: files for encrypted connections.

    Raises:
        ConfigError: not such a place.
        DeviceUnreachableError: no scheduler answers there.
    """

    def __init__(self, place: str, tls: Tls | None = None) -> None:
        security = usable(tls)
        self._place = place
        address = address_of(place, tls=security is not None)
        with reaching(place):
            self._client = Client(address, security=security, timeout=_CONNECT_S, set_as_default=False)
        self._workers = Workers(self._client)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the scheduler; harmless when called twice."""
        self._client.close()

    def known_devices(self, store: Store) -> dict[str, Known]:  # noqa: ARG002 - each worker looks into its own
        """The devices of all workers by name; each worker is told which of them it offers.

        Raises:
            ConfigError: no worker of this version is there, or two hosts use one name for two devices.
            DeviceUnreachableError: the scheduler does not answer.
        """
        with self._asked():
            pool, chosen = merged(answered(each(self._client, hosting.offer, timeout_s=_OFFER_S)))
            for address, names in chosen.items():
                each(self._client, hosting.take_resources, names, workers=(address,))
        return pool

    def engine(self, farm: Farm, night: str, store: Store, on_progress: OnProgress | None = None) -> "DaskEngine":
        """Where the night's tasks are executed."""
        with self._asked():
            return DaskEngine(self._client, self._workers, self._place, farm, night, store, on_progress)

    def give_back(self, entry: DeviceEntry, campaigns: Collection[str]) -> Left | None:
        """``farm.care.last_visit`` on a host that reaches the device."""
        try:
            if not self._workers.offering(entry.name):
                return Left("no host that reaches it is there", DeviceUnreachableError.exit_code)
            visit = self._client.submit(
                hosting.visit, entry, tuple(campaigns), key=f"visit-{entry.name}-{secrets.token_hex(4)}",
                resources={resource(entry.name): 1}, pure=False,
            )  # fmt: skip
            left: Left | None = visit.result(timeout=_VISIT_S)
        except (*LOST, OSError):
            return Left("its host did not answer in time", DeviceUnreachableError.exit_code)
        return left

    def looks(self, store: Store, night: str) -> tuple[Health, ...]:  # noqa: ARG002 - each worker looks into its own
        """See ``Hosts.looks``; a host with several workers is looked at once."""
        with self._asked():
            found = each(self._client, hosting.look, night)
        return tuple({look.device: look for look in found.values() if isinstance(look, Health)}.values())

    @contextlib.contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except (OSError, TimeoutError, *LOST) as error:
            raise _gone(self._place) from error


def answered(offers: Mapping[str, Offer | Exception | None]) -> dict[str, Offer]:
    """The offers of devicelab's workers; one that died just now offers nothing.

    Raises:
        LabError: a worker's lab is wrong.
    """
    found = {}
    for address, offer in offers.items():
        if isinstance(offer, Exception) and not isinstance(offer, OSError | CommClosedError):
            raise offer
        if isinstance(offer, Offer):
            found[address] = offer
    return found


def merged(offers: Mapping[str, Offer]) -> tuple[dict[str, Known], dict[str, tuple[str, ...]]]:
    """The devices of all hosts by name, and which of them each worker shall offer.

    A device belongs to every worker that sees it; one that nobody sees now, to all that know it from their lab.toml.

    Raises:
        ConfigError: no worker at all, a worker of another version, or one name for two devices.
    """
    if not offers:
        raise ConfigError("no devicelab worker is there", hint="on each host: `devicelab worker --scheduler HOST:8786`")
    for offer in offers.values():
        if offer.version != __version__:
            raise ConfigError(
                f"the worker on {offer.host} is devicelab {offer.version}, this is {__version__}",
                hint="install the same version everywhere",
            )
    pool: dict[str, Known] = {}
    places: dict[str, dict[str, Known]] = {}
    for address, offer in sorted(offers.items()):
        for device in offer.devices:
            places.setdefault(device.entry.name, {})[address] = device
    chosen: dict[str, list[str]] = {address: [] for address in offers}
    for name, known in sorted(places.items()):
        kept = {address: device for address, device in known.items() if device.present} or known
        units = {
            (hosting.unit(offers[address].host, device.entry)): offers[address].host for address, device in kept.items()
        }
        if len(units) > 1:
            raise ConfigError(
                f"two devices are called {name!r}: on {' and on '.join(sorted(set(units.values())))}",
                hint="give one of them another name in its host's lab.toml",
            )
        pool[name] = next(iter(kept.values()))
        for address in kept:
            chosen[address].append(name)
    return pool, {address: tuple(names) for address, names in chosen.items()}


def each(
    client: Client,
    function: Callable[..., Any],
    *args: object,
    workers: Collection[str] | None = None,
    timeout_s: float = _CONNECT_S,
) -> dict[str, Any]:
    """Have workers call a function, side by side: address → what it returned, or the exception.

    Each has ``timeout_s``: one that is stopped would be waited for without end, and the others with it.

    Raises:
        OSError, TimeoutError: the scheduler does not answer.
    """
    if workers is None:
        workers = client.scheduler_info(n_workers=-1)["workers"].keys()

    def call(address: str) -> Any:
        try:
            found = client.sync(
                client._run,  # noqa: SLF001 - what `run` calls, with a limit
                function,
                *args,
                workers=[address],
                on_error="return",
                callback_timeout=timeout_s,
            )
        except (OSError, TimeoutError, *LOST) as error:
            return error
        return found.get(address)

    with ThreadPoolExecutor(max(1, len(workers)), thread_name_prefix="worker") as threads:
        return dict(zip(workers, threads.map(call, workers), strict=True))


class Workers:
    """Which workers offer a device, and live.

    A worker that is stopped (SIGSTOP, a frozen host) keeps its connection, and the scheduler waits for it for minutes:
    what counts is that it is heard of, by this machine's clock.
    """

    def __init__(self, client: Client, silent_s: float = _SILENT_S) -> None:
        self._client, self._silent_s = client, silent_s
        self._heard: dict[str, tuple[object, float]] = {}
        self._lock = threading.Lock()
        self._known: tuple[float, Mapping[str, Mapping[str, Any]]] = (-_LOOK_S, {})

    def offering(self, device: str) -> tuple[str, ...]:
        """Addresses of those that offer the device now."""
        workers, now = self._asked(), time.monotonic()
        return tuple(
            address
            for address, worker in workers.items()
            if worker["resources"].get(resource(device)) and now - self._heard[address][1] < self._silent_s
        )

    def _asked(self) -> Mapping[str, Mapping[str, Any]]:
        """What the scheduler knows of the workers; it is asked once in a while, not by each of a thousand tasks."""
        with self._lock:
            at, workers = self._known
            if time.monotonic() - at < _LOOK_S / 2:
                return workers
            workers = dict(self._client.scheduler_info(n_workers=-1)["workers"])
            now = time.monotonic()
            for address, worker in workers.items():
                seen = worker.get("last_seen")
                if self._heard.get(address, (None,))[0] != seen:
                    self._heard[address] = (seen, now)
            self._known = now, workers
            return workers


class DaskEngine:
    """Implements ``engine.Engine``: tasks run in workers, looked after by a thread of this process each.

    Args:
        client: connected.
        workers: which of them live.
        place: of the scheduler, for messages.
        farm: whose tasks come.
        night: its id.
        store: the database that the workers write to as well.
        on_progress: see ``OnProgress``.
    """

    def __init__(
        self,
        client: Client,
        workers: Workers,
        place: str,
        farm: Farm,
        night: str,
        store: Store,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._client, self._place, self._on_progress = client, place, on_progress
        self._farm, self._night, self._store = farm, night, store
        self._tasks: dict[str, Task] = {}
        self._stopped = False
        self._workers = workers
        self._threads = ThreadPoolExecutor(max_workers=MOST_DEVICES, thread_name_prefix="device")
        each(client, hosting.go_on, night)  # one that died just now has no task yet
        client.subscribe_topic(hosting.topic(night), self._heard)

    def submit(self, task: Task, entry: DeviceEntry, experiment: Experiment, left_s: float | None) -> Future[Task]:
        """See ``Engine.submit``."""
        self._tasks[task.task_id] = task.model_copy(update={"device": entry.name})
        order = Order(self._farm, self._night, task, entry, experiment, left_s)
        ends = None if left_s is None else time.monotonic() + left_s
        return self._threads.submit(self._see_through, order, ends)

    def stop(self) -> None:
        """See ``Engine.stop``."""
        self._stopped = True
        with contextlib.suppress(OSError, TimeoutError, *LOST):
            each(self._client, hosting.stop, self._night)

    def close(self) -> None:
        """See ``Engine.close``."""
        self._threads.shutdown(wait=True)
        with contextlib.suppress(ValueError, OSError):
            self._client.unsubscribe_topic(hosting.topic(self._night))

    def _see_through(self, order: Order, ends: float | None) -> Task:
        """The task as a worker left it, or as it stands when no worker can do it any more."""
        for attempt in range(self._farm.attempts + 1):
            left_s = None if ends is None else max(0.0, ends - time.monotonic())
            order = replace(order, left_s=left_s)
            future = self._client.submit(
                hosting.execute, order, key=f"{self._night}-{order.task.task_id}-{attempt}-{secrets.token_hex(4)}",
                resources={resource(order.entry.name): 1}, priority=order.task.priority, retries=0, pure=False,
            )  # fmt: skip
            try:
                ended = self._result(future, order, ends)
            except LOST as error:
                if self._client.status != "running":
                    raise _gone(self._place) from error
            except OSError as error:  # no worker's: a task's own errors come back in the task
                raise _gone(self._place) from error
            else:
                return ended or self._host_gone(order, "no host that reaches the device came back, or answers")
        return self._host_gone(order, "every worker that measured it died")

    def _result(self, future: "Remote[Task]", order: Order, ends: float | None) -> Task | None:
        """The task when it has ended; ``None``: for too long nobody has offered its device, or ended in time."""
        missing_since: float | None = None
        late = float("inf") if ends is None else ends + max(self._farm.patience_s, _SILENT_S)
        # Waiting in `result` would have Dask's one loop wake up for each of a thousand tasks, every second.
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        while True:
            if done.wait(_LOOK_S) or future.done():
                return future.result(timeout=_CONNECT_S)
            if self._client.status != "running":
                raise _gone(self._place)
            now = time.monotonic()
            if self._workers.offering(order.entry.name):
                missing_since = None
            elif missing_since is None:
                missing_since = now
            missing = missing_since is not None and (self._stopped or now - missing_since > self._farm.patience_s)
            # Whoever works on it has the same end before his eyes, and gives the device back then.
            if missing or now > late:
                future.cancel(reason="no host reaches the device")
                return None

    def _host_gone(self, order: Order, why: str) -> Task:
        """The device gets no more work tonight; its task is moved if it may be, else it has failed.

        Its board ends the plan and restores itself alone; the next one who gets it undoes what is left.
        """
        store, night, name = self._store, self._night, order.entry.name
        stored = next((task for task in store.tasks(night) if task.task_id == order.task.task_id), order.task)
        if stored.status not in {"waiting", "running"}:
            return stored
        store.add_health(
            Health(
                device=name, night=night, task_id=stored.task_id, ok=False, reasons=(why,), at_unix_ns=time.time_ns()
            )
        )
        left = [info for info in store.night_campaigns(night) if info.campaign == stored.campaign]
        if left and left[0].status == "running":
            store.finish_campaign(left[0].campaign, "interrupted", why)
        attempts = stored.attempts if stored.status == "running" else stored.attempts + 1
        ended = stored.model_copy(update={"status": "failed", "reason": why, "exit_code": 3, "attempts": attempts})
        if self._stopped:
            ended = stored.model_copy(update={"status": "waiting", "reason": f"interrupted: {why}", "device": name})
        elif schedule.movable(stored) and attempts < self._farm.attempts:
            moved = {"status": "waiting", "device": None, "reason": f"{name}: {why}", "exit_code": 0}
            ended = ended.model_copy(update=moved)
        store.put_tasks(night, [ended])
        return ended

    def _heard(self, event: tuple[float, Mapping[str, Any]]) -> None:
        """A worker told of a run."""
        said = event[1]
        task = self._tasks.get(str(said.get("task_id")))
        if task is not None and self._on_progress is not None:
            self._on_progress(task, Progress(**said["progress"]))


def _gone(place: str) -> DeviceUnreachableError:
    return DeviceUnreachableError(
        f"the scheduler at {place} does not answer any more",
        hint="what was measured is stored; start it again, then `devicelab nightly FARM --resume`",
    )
