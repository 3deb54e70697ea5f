"""A farm of several hosts: a Dask scheduler, a worker on each host that offers its devices, one database for all.

A device is a resource ``device:NAME`` of every worker that reaches it, so Dask gives it one task at a time. When a
worker dies, its task goes to another worker with the same device, which takes the board over as it lies there: it
attaches to the agent that still works, or undoes what a dead one left, and measures only what is missing. If no other
worker has the device, it is waited for (the farm's ``patience_s``), then the task is moved or given up.

The scheduler and the workers execute what is sent to them: whoever reaches their ports is trusted. Use TLS, or a
network of their own.
"""

import contextlib
import logging
import secrets
import ssl
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

from distributed import Client, KilledWorker
from distributed import Future as Remote
from distributed.comm.core import CommClosedError, FatalCommClosedError
from distributed.core import AsyncTaskGroupClosedError  # type: ignore[attr-defined]
from distributed.scheduler import NoValidWorkerError
from distributed.security import Security

from devicelab import __version__
from devicelab.device.lab import DeviceEntry
from devicelab.errors import ConfigError, DeviceUnreachableError, LabError
from devicelab.farm import hosting, schedule
from devicelab.farm.care import Left
from devicelab.farm.engine import OnProgress
from devicelab.farm.hosting import Offer, Order, resource
from devicelab.farm.selectors import Known
from devicelab.ground.sorting import Row, as_lab_error
from devicelab.jobs.conductor import Progress
from devicelab.model.experiment import Experiment
from devicelab.model.night import Farm, Health, Task
from devicelab.store import Store

SCHEME = "dask://"
DEFAULT_PORT = 8786

# How often a task that runs elsewhere is looked after, and how long a scheduler may take to answer.
_LOOK_S = 1.0
_CONNECT_S = 10.0
_VISIT_S = 120.0

_LOST = (KilledWorker, CancelledError, CommClosedError)

_START = "start it there: dask scheduler"
# What Dask raises while it connects: files of TLS that are wrong never mend themselves, a scheduler may come.
SORTED = (
    Row(
        (ssl.SSLError, FileNotFoundError, PermissionError, IsADirectoryError), ConfigError,
        "--tls-ca, --tls-cert and --tls-key name PEM files that may be read and belong together",
        says="the files for TLS cannot be used: {words}",
    ),
    Row(
        (FatalCommClosedError,), ConfigError, "give the same --tls-… files that the scheduler was started with",
        says="it does not take our certificate: {words}",
    ),
    Row((ValueError, TypeError), ConfigError, words="tls|security|expects", says="{words}"),
    Row((ImportError,), ConfigError, "install the same version of distributed everywhere"),
    Row((NoValidWorkerError,), DeviceUnreachableError, "start a worker on its host", says="no worker: {words}"),
    Row((*_LOST, AsyncTaskGroupClosedError, OSError), DeviceUnreachableError, _START, says="no scheduler answers"),
    Row((RuntimeError,), DeviceUnreachableError, _START, words="closed|shut ?down|not running", says="{words}"),
)  # fmt: skip


def failed(error: BaseException, place: str) -> LabError:
    """What an exception of Dask's means for a person."""
    return as_lab_error(SORTED, error, what=f"{place}")


@dataclass(frozen=True)
class Tls:
    """Files (PEM) for encrypted and mutually authenticated connections; all three or none."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def security(self) -> Security | None:
        """For Dask; ``None`` without files.

        Raises:
            ConfigError: only some of the files are given.
        """
        files = (self.ca, self.cert, self.key)
        if not any(files):
            return None
        if not all(files):
            raise ConfigError("TLS needs all three: --tls-ca, --tls-cert and --tls-key")
        return Security(
            require_encryption=True,
            tls_ca_file=self.ca,
            tls_client_cert=self.cert,
            tls_client_key=self.key,
            tls_worker_cert=self.cert,
            tls_worker_key=self.key,
        )


def address_of(place: str, *, tls: bool) -> str:
    """Dask's address of a scheduler given as ``dask://HOST[:PORT]`` or ``HOST[:PORT]``.

    Raises:
        ConfigError: it is neither.
    """
    rest = place.removeprefix(SCHEME)
    host, _, port = rest.rpartition(":") if ":" in rest else (rest, "", str(DEFAULT_PORT))
    if not host or "/" in host or not (port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f"not a scheduler: {place!r}", hint=f"{SCHEME}HOST:{DEFAULT_PORT}")
    return f"{'tls' if tls else 'tcp'}://{host}:{port}"


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
        security = tls.security() if tls is not None else None
        self._place = place
        address = address_of(place, tls=security is not None)
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # the errors here say it better
        try:
            self._client = Client(address, security=security, timeout=_CONNECT_S, set_as_default=False)
        except Exception as error:
            raise failed(error, place) from error

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
            pool, chosen = merged(answered(self._client.run(hosting.offer, on_error="return")))
            for address, names in chosen.items():
                self._client.run(hosting.take_resources, names, workers=[address], on_error="ignore")
        return pool

    def engine(self, farm: Farm, night: str, store: Store, on_progress: OnProgress | None = None) -> "DaskEngine":
        """Where the night's tasks are executed."""
        with self._asked():
            return DaskEngine(self._client, self._place, farm, night, store, on_progress)

    def give_back(self, entry: DeviceEntry, campaigns: Collection[str]) -> Left | None:
        """``farm.care.last_visit`` on a host that reaches the device."""
        try:
            if not offering(self._client, entry.name):
                return Left("no host that reaches it is there", DeviceUnreachableError.exit_code)
            visit = self._client.submit(
                hosting.visit, entry, tuple(campaigns), key=f"visit-{entry.name}-{secrets.token_hex(4)}",
                resources={resource(entry.name): 1}, pure=False,
            )  # fmt: skip
            left: Left | None = visit.result(timeout=_VISIT_S)
        except (*_LOST, OSError):
            return Left("its host did not answer in time", DeviceUnreachableError.exit_code)
        return left

    @contextlib.contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except (OSError, TimeoutError, *_LOST) as error:
            raise _gone(self._place) from error


def answered(offers: Mapping[str, Offer | Exception | None]) -> dict[str, Offer]:
    """The offers of devicelab's workers; one that died just now offers nothing.

    Raises:
        LabError: a worker's lab is wrong.
    """
    found = {}
    for address, offer in offers.items():
        if isinstance(offer, Exception) and not isinstance(offer, OSError):
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


def offering(client: Client, device: str) -> tuple[str, ...]:
    """Addresses of the workers that offer a device now."""
    workers: Mapping[str, Mapping[str, Any]] = client.scheduler_info(n_workers=-1)["workers"]
    return tuple(address for address, worker in workers.items() if worker["resources"].get(resource(device)))


class DaskEngine:
    """Implements ``engine.Engine``: tasks run in workers, looked after by a thread of this process each.

    Args:
        client: connected.
        place: of the scheduler, for messages.
        farm: whose tasks come.
        night: its id.
        store: the database that the workers write to as well.
        on_progress: see ``OnProgress``.
    """

    def __init__(
        self, client: Client, place: str, farm: Farm, night: str, store: Store, on_progress: OnProgress | None = None
    ) -> None:
        self._client, self._place, self._on_progress = client, place, on_progress
        self._farm, self._night, self._store = farm, night, store
        self._tasks: dict[str, Task] = {}
        self._stopped = False
        self._threads = ThreadPoolExecutor(max_workers=1024, thread_name_prefix="device")
        client.run(hosting.go_on, night, on_error="ignore")  # one that died just now has no task yet
        client.subscribe_topic(hosting.topic(night), self._heard)

    def submit(
        self, task: Task, entry: DeviceEntry, experiment: Experiment, until_unix_s: float | None
    ) -> Future[Task]:
        """See ``Engine.submit``."""
        self._tasks[task.task_id] = task.model_copy(update={"device": entry.name})
        order = Order(self._farm, self._night, task, entry, experiment, until_unix_s)
        return self._threads.submit(self._see_through, order)

    def stop(self) -> None:
        """See ``Engine.stop``."""
        self._stopped = True
        with contextlib.suppress(OSError, TimeoutError, *_LOST):
            self._client.run(hosting.stop, self._night, on_error="ignore")

    def close(self) -> None:
        """See ``Engine.close``."""
        self._threads.shutdown(wait=True)
        with contextlib.suppress(ValueError, OSError):
            self._client.unsubscribe_topic(hosting.topic(self._night))

    def _see_through(self, order: Order) -> Task:
        """The task as a worker left it, or as it stands when no worker can do it any more."""
        for attempt in range(self._farm.attempts + 1):
            future = self._client.submit(
                hosting.execute, order, key=f"{self._night}-{order.task.task_id}-{attempt}-{secrets.token_hex(4)}",
                resources={resource(order.entry.name): 1}, priority=order.task.priority, retries=0, pure=False,
            )  # fmt: skip
            try:
                ended = self._result(future, order)
            except _LOST as error:
                if self._client.status != "running":
                    raise _gone(self._place) from error
            except OSError as error:  # no worker's: a task's own errors come back in the task
                raise _gone(self._place) from error
            else:
                return ended or self._host_gone(order, "no host that reaches the device came back")
        return self._host_gone(order, "every worker that measured it died")

    def _result(self, future: "Remote[Task]", order: Order) -> Task | None:
        """The task when it has ended; ``None``: for too long nobody has offered its device."""
        missing_since: float | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                return future.result(timeout=_LOOK_S)
            if self._client.status != "running":
                raise _gone(self._place)
            if offering(self._client, order.entry.name):
                missing_since = None
                continue
            missing_since = missing_since or time.monotonic()
            if self._stopped or time.monotonic() - missing_since > self._farm.patience_s:
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
