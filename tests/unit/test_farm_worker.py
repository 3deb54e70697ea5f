"""A worker's process: what it offers while it works, and how it leaves."""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("distributed")

from devicelab import __version__
from devicelab.device.lab import DeviceEntry
from devicelab.errors import ConfigError, DeviceUnreachableError
from devicelab.farm import hosting, worker
from devicelab.farm.hosting import Host, Order
from devicelab.farm.selectors import Known
from devicelab.model.experiment import Experiment
from devicelab.model.night import Farm, Health, JobEntry, Task
from devicelab.store import Store

PLACE = "tcp://farm:8786"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Store.open(tmp_path / "s.sqlite") as store:
        yield Host(store)


def ran(step: Coroutine[Any, Any, Any]) -> Any:
    """In a thread of its own: a browser's tests in the same process leave a loop running."""
    with ThreadPoolExecutor(1) as own:
        return own.submit(asyncio.run, step).result()


class Worked:
    """Dask's worker, which notes what it is asked to do; ``fails`` says what its scheduler does not answer to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: tuple[str, ...] = ()) -> None:
        self.did: list[str] = []
        self.fails = fails
        self.state = SimpleNamespace(total_resources={"device:b": 1, "device:a": 1})
        self.gone = asyncio.Event()
        monkeypatch.setattr(worker, "_Worker", self._made)
        monkeypatch.setattr(worker, "unmoved", lambda: None)
        monkeypatch.setattr(worker, "_GOODBYE_S", 60.0)

    async def _made(self, _address: str, **_: object) -> "Worked":
        return self

    async def finished(self) -> None:
        await self.gone.wait()

    async def _do(self, what: str) -> None:
        self.did.append(what)
        if what in self.fails:
            raise OSError("reset")

    async def set_resources(self, **amounts: int) -> None:
        await self._do(f"offers {sum(amounts.values())}")

    async def close_gracefully(self) -> None:
        await self._do("leaves")

    async def close(self, **_: object) -> None:
        await self._do("is closed")


Signals = dict[int, Callable[[], None]]


def served(host: Host, at_work: Callable[[str, Signals], None]) -> list[str]:
    said: list[str] = []
    signals: Signals = {}

    def say(text: str) -> None:
        said.append(text)
        at_work(text, signals)

    async def serve() -> None:
        # Signals are those of a main thread; what they would call is called here.
        asyncio.get_running_loop().add_signal_handler = signals.__setitem__  # type: ignore[method-assign,assignment]
        await worker._serve(PLACE, {}, host, say)

    ran(serve())
    return said


@pytest.mark.parametrize(
    ("fails", "did"),
    [
        ((), ["offers 0", "leaves"]),
        (("offers 0",), ["offers 0", "leaves"]),
        (("leaves",), ["offers 0", "leaves", "is closed"]),
    ],
)
def test_a_worker_that_is_asked_to_end_takes_its_offer_back_first_and_leaves_in_peace(
    monkeypatch: pytest.MonkeyPatch, host: Host, fails: tuple[str, ...], did: list[str]
) -> None:
    working = Worked(monkeypatch, fails)
    host.busy = 2

    def at_work(text: str, signals: Signals) -> None:
        if text.startswith("works"):
            assert set(signals) == {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
            signals[signal.SIGTERM]()
        else:
            assert working.did == ["offers 0"], "nothing new comes while devices are given back"
            assert host.stop_of("any night").is_set()
            with host._lock:
                host.busy = 0
                host._idle.notify_all()

    said = served(host, at_work)
    assert said == [f"works for {PLACE} with a, b", "ending: 2 devices are given back first"]
    assert working.did == did


def test_a_worker_whose_scheduler_is_gone_gives_its_devices_back_and_says_so(
    monkeypatch: pytest.MonkeyPatch, host: Host
) -> None:
    working = Worked(monkeypatch)
    with pytest.raises(DeviceUnreachableError, match=f"the scheduler at {PLACE} went away"):
        served(host, lambda *_: working.gone.set())
    assert working.did == [], "nobody is there who could be told"
    assert host.stop_of("any night").is_set()


# --- what Dask calls in the worker ---------------------------------------------------------------------------------


def test_a_process_that_is_no_worker_of_devicelab_has_nothing_and_does_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hosting, "_HOSTS", [])
    assert ran(hosting.offer()) is None
    assert ran(hosting.look("n")) is None
    hosting.stop("n")
    hosting.go_on("n")
    with pytest.raises(ConfigError, match="not devicelab's"):
        hosting.execute(order())


def test_a_worker_answers_for_its_host(monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
    monkeypatch.setattr(hosting, "_HOSTS", [])
    seen = Health(device="host:h", ok=True, at_unix_ns=1)
    monkeypatch.setattr(hosting.looking, "look_again", lambda store, night: (store, night, seen))
    monkeypatch.setattr(host, "devices", lambda: (Known(ENTRY),))
    hosting.begin(host)
    assert ran(hosting.look("n")) == (host.store, "n", seen)
    offer = ran(hosting.offer())
    assert offer is not None
    assert (offer.version, offer.devices) == (__version__, (Known(ENTRY),))
    hosting.stop("n")
    assert host.stop_of("n").is_set()
    hosting.go_on("n")
    assert not host.stop_of("n").is_set()


def test_a_worker_offers_exactly_what_it_is_told_to() -> None:
    told: dict[str, float] = {}

    async def set_resources(**amounts: float) -> None:
        told.update(amounts)

    dask: Any = SimpleNamespace(
        state=SimpleNamespace(total_resources={"device:a": 1, "device:b": 1, "GPU": 2}), set_resources=set_resources
    )
    ran(hosting.take_resources(("b", "c"), dask))
    assert told == {"device:a": 0, "device:b": 1, "device:c": 1}


# --- tasks at work -------------------------------------------------------------------------------------------------

ENTRY = DeviceEntry(name="a", address="adb:a")
FARM = Farm(name="f", jobs=(JobEntry(experiment="e", devices="a"),))


def order(task_id: str = "1.1", night: str = "n") -> Order:
    task = Task(task_id=task_id, job=0, experiment="e", selector="a")
    return Order(FARM, night, task, ENTRY, Experiment(question="?"), None)


def test_a_host_is_busy_with_as_many_tasks_as_are_executed_however_they_end(
    monkeypatch: pytest.MonkeyPatch, host: Host
) -> None:
    night = host.store.begin_night(FARM)
    orders = [order(f"1.{n}", night) for n in range(3)]
    host.store.put_tasks(night, [one.task for one in orders])
    inside, ends = threading.Barrier(4), {one.task.task_id: threading.Event() for one in orders}

    def run_task(_store: Store, _farm: Farm, _night: str, task: Task, *_: object, **__: object) -> Task:
        inside.wait(60)
        assert ends[task.task_id].wait(60)
        if task.task_id == "1.1":
            raise ZeroDivisionError
        return task

    monkeypatch.setattr(hosting, "run_task", run_task)
    ended: list[str] = []

    def execute(one: Order) -> None:
        try:
            host.execute(one, lambda _: None)
        except ZeroDivisionError:
            ended.append("broke")
        else:
            ended.append("well")

    threads = [threading.Thread(target=execute, args=(one,)) for one in orders]
    for thread in threads:
        thread.start()
    inside.wait(60)
    for thread, one in zip(threads, orders, strict=True):
        left = len(orders) - len(ended)
        assert host.busy == left
        ends[one.task.task_id].set()
        thread.join(60)
        assert host.busy == left - 1
    assert sorted(ended) == ["broke", "well", "well"]
    host.wait_until_idle()
