"""A whole night with devices that do what a table says: what is skipped, what counts, and what may not get lost."""

import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devicelab.device.lab import DeviceEntry
from devicelab.errors import ConfigError, DeviceUnreachableError, StoreError
from devicelab.farm import closing, job, nightly
from devicelab.farm import night as conducting
from devicelab.farm.care import Left
from devicelab.farm.closing import Outputs
from devicelab.farm.nightly import NightResult
from devicelab.farm.selectors import Known
from devicelab.model.experiment import Finding
from devicelab.model.night import CellVerdict, Farm, Health, Task
from devicelab.store import Store
from tests import labdata

OWN = labdata.experiment(name="own", repetitions=1)
JOB = '[[jobs]]\nexperiment = "own.toml"\ndevices = "a, b"\n'
ANY = '[[jobs]]\nexperiment = "own.toml"\ndevices = "any 1 of b"\n'


def known(*names: str) -> dict[str, Known]:
    return {name: Known(DeviceEntry(name=name, address=f"adb:{name}", tags=("phone",)), "note10") for name in names}


class Pretending:
    """Hosts whose devices do what ``fates`` says: a function for the device's next task, or an error of the engine."""

    def __init__(self, store: Store, pool: dict[str, Known] | None = None, **fates: Any) -> None:
        self.store, self.pool, self.fates = store, pool or known("a", "b"), fates
        self.done: list[tuple[str, str]] = []
        self.visited: list[str] = []
        self.left: dict[str, Left] = {}
        self.night = ""

    def known_devices(self, *_: object) -> dict[str, Known]:
        return self.pool

    def engine(self, _: Farm, night: str, *_more: object) -> "Pretending":
        self.night = night
        return self

    def submit(self, task: Task, entry: DeviceEntry, *_: object) -> Future[Task]:
        future: Future[Task] = Future()
        update = {"device": entry.name, "status": "complete", "attempts": task.attempts + 1, "exit_code": 0}
        done = task.model_copy(update=update)
        fate = self.fates.get(entry.name)
        try:
            done = fate(self, done) if fate is not None else measured(self, done)
        except Exception as error:  # noqa: BLE001 - the future holds it
            future.set_exception(error)
            return future
        self.store.put_tasks(self.night, [done])
        self.done.append((task.task_id, entry.name))
        future.set_result(done)
        return future

    def looks(self, *_: object) -> tuple[()]:
        return ()

    def give_back(self, entry: DeviceEntry, *_: object) -> Left | None:
        self.visited.append(entry.name)
        return self.left.get(entry.name)

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


def measured(hosts: Pretending, task: Task) -> Task:
    facts, cells = labdata.facts(name=task.device), labdata.cells(OWN)
    campaign = hosts.store.begin_campaign(
        experiment=OWN, facts=facts, cells=cells, command="", binaries=(), plan_json=None, night=hosts.night
    )
    hosts.store.finish_campaign(campaign, "complete")
    return task.model_copy(update={"campaign": campaign})


def refused(_: Pretending, task: Task) -> Task:
    update = {"status": "waiting", "device": None, "reason": f"{task.device}: no root", "exit_code": 4}
    return task.model_copy(update=update)


def lost(hosts: Pretending, task: Task) -> Task:
    done = measured(hosts, task)
    hosts.store.add_health(
        Health(device=str(task.device), night=hosts.night, ok=False, reasons=("gone",), at_unix_ns=time.time_ns())
    )
    return done


def broken(hosts: Pretending, task: Task) -> Task:
    done = measured(hosts, task)
    hosts.store.quarantine(str(task.device), "could not be put back", hosts.night)
    return done.model_copy(update={"status": "failed", "exit_code": 8})


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEVICELAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.toml").write_text('question = "?"\n[factors]\nload = ["none"]\n', encoding="utf-8")
    return tmp_path


@pytest.fixture
def store(place: Path) -> Iterator[Store]:
    with Store.open(place / "s.sqlite") as opened:
        yield opened


def conducted(place: Path, hosts: Pretending, text: str = JOB, **options: Any) -> NightResult:
    (place / "farm.toml").write_text(text, encoding="utf-8")
    result = nightly.nightly(place / "farm.toml", hosts.store, conducting.SILENT, hosts=hosts, **options)
    assert hosts.store.nights()[0].exit_code == result.exit_code
    return result


def finding(verdict: Any, analysis: str = "checks") -> Finding:
    return Finding(analysis=analysis, claim="latency: total_ns < 5 ms", verdict=verdict, reasons=("no such metric",))


# --- what counts -----------------------------------------------------------------------------------------------------


def test_a_check_that_cannot_be_judged_is_said_and_counts(
    place: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "conclude", lambda _: (finding("invalid"), finding("invalid", "load")))
    hosts, junit, summary = Pretending(store), place / "n.xml", place / "n.md"
    result = conducted(place, hosts, outputs=Outputs(junit, summary))
    assert result.exit_code == 2
    why = "a check cannot be judged: latency: total_ns < 5 ms: no such metric"
    assert [(task.status, task.exit_code, task.reason) for task in result.tasks] == [("complete", 2, why)] * 2
    assert 'type="exit-code-2"' in junit.read_text(encoding="utf-8")
    assert "cannot be judged" in summary.read_text(encoding="utf-8")


def test_an_analysis_that_breaks_costs_its_own_task_alone(
    place: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([ZeroDivisionError("x"), (finding("fail"),)])

    def conclude(_: object) -> tuple[Finding, ...]:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(closing, "conclude", conclude)
    result = conducted(place, Pretending(store))
    assert result.failed_checks == ("b: latency: total_ns < 5 ms",)
    assert [task.exit_code for task in result.tasks] == [1, 0]
    assert result.exit_code == 7


def test_a_failed_check_is_not_forgotten_if_the_comparison_breaks(
    place: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(*_: object) -> tuple[CellVerdict, ...]:
        raise ZeroDivisionError

    monkeypatch.setattr(closing, "conclude", lambda _: (finding("fail"),))
    monkeypatch.setattr(closing, "judge", judge)
    result = conducted(place, Pretending(store))
    assert (result.status, result.exit_code, len(result.failed_checks)) == ("complete", 7, 2)


def test_what_ends_the_confirmations_leaves_a_night_that_can_go_on(
    place: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: Pretending, task: Task) -> Task:
        if task.confirms is None:
            return measured(hosts, task)
        raise DeviceUnreachableError("the scheduler does not answer any more")

    def judge(_: Store, __: Farm, night: str) -> tuple[CellVerdict, ...]:
        return (
            CellVerdict(
                night=night, experiment="own", cell_id="x", cell="x", device="a", program="p", metric="m", unit="ns",
                verdict="regression",
            ),
        )  # fmt: skip

    monkeypatch.setattr(closing, "judge", judge)
    hosts = Pretending(store, a=gone)
    with pytest.raises(DeviceUnreachableError):
        conducted(place, hosts)
    assert store.nights()[0].status == "running"
    hosts.fates = {}
    result = conducted(place, hosts, resume=True)
    assert (result.status, [task.status for task in result.tasks]) == ("complete", ["complete"] * 3)


@pytest.mark.parametrize(("interrupted", "compared"), [(False, 2), (True, 1)])
def test_what_was_measured_once_more_is_compared_once_more_unless_it_was_ended(
    place: Path, store: Store, monkeypatch: pytest.MonkeyPatch, interrupted: bool, compared: int
) -> None:
    def once_more(hosts: Pretending, task: Task) -> Task:
        if task.confirms is not None and interrupted:
            raise KeyboardInterrupt
        return measured(hosts, task)

    nights: list[str] = []

    def judge(_: Store, __: Farm, night: str) -> tuple[CellVerdict, ...]:
        nights.append(night)
        worse = {"cell_id": "x", "cell": "x", "program": "p", "metric": "m", "unit": "ns", "verdict": "regression"}
        return (CellVerdict(night=night, experiment="own", device="a", **worse),)  # type: ignore[arg-type]

    monkeypatch.setattr(closing, "judge", judge)
    result = conducted(place, Pretending(store, a=once_more))
    assert nights == [result.night] * compared
    assert result.status == ("interrupted" if interrupted else "complete")


@pytest.mark.parametrize("step", ["tidy", "tell"])
def test_trouble_after_the_end_is_said_and_never_eats_a_worse_code(
    place: Path, store: Store, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def broken_step(*_: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(closing, step, broken_step)
    junit = place / "n.xml"
    result = conducted(place, Pretending(store), outputs=Outputs(junit))
    assert (result.exit_code, junit.exists()) == (2, True)
    assert conducted(place, Pretending(store, a=broken)).exit_code == 8


def test_a_page_that_breaks_spares_the_others(place: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def site(*_: object) -> Path:
        raise OverflowError

    monkeypatch.setattr("devicelab.report.site.update_site", site)
    result = conducted(place, Pretending(store), outputs=Outputs(place / "n.xml", None, place / "site"))
    assert (result.exit_code, (place / "n.xml").exists()) == (1, True)


def test_a_board_that_was_away_while_its_worker_was_ended_is_taken_by_the_next(place: Path, store: Store) -> None:
    tries: list[Task] = []

    def first_left_early(hosts: Pretending, task: Task) -> Task:
        tries.append(task)
        if len(tries) > 1:
            store.add_health(Health(device="a", night=hosts.night, ok=True, at_unix_ns=time.time_ns()))
            return measured(hosts, task)
        lost(hosts, task)
        return task.model_copy(update={"status": "waiting", "reason": "interrupted: not found", "campaign": None})

    result = conducted(place, Pretending(store, a=first_left_early))
    assert len(tries) == 2
    assert (result.exit_code, result.out) == (0, {})


def test_reports_that_are_missing_from_the_pages_are_no_silent_success(
    place: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = SimpleNamespace(problems=["no report of x: the disk is full"])
    monkeypatch.setattr("devicelab.report.site.update_site", lambda *_: made)
    result = conducted(place, Pretending(store), outputs=Outputs(None, None, place / "site"))
    assert result.exit_code == 2


# --- any N of --------------------------------------------------------------------------------------------------------


def test_a_task_that_every_device_refuses_counts_with_its_reason(place: Path, store: Store) -> None:
    result = conducted(place, Pretending(store, b=refused), ANY + JOB.replace("a, b", "a"))
    assert (result.tasks[0].status, result.tasks[0].exit_code) == ("skipped", 4)
    assert "b: no root" in result.tasks[0].reason
    assert result.exit_code == 4


def test_any_of_with_a_device_in_quarantine_since_an_earlier_night_is_said_and_is_no_failure(
    place: Path, store: Store
) -> None:
    store.quarantine("b", "screen broken")
    result = conducted(place, Pretending(store), ANY + JOB.replace("a, b", "a"))
    assert (result.tasks[0].status, result.tasks[0].exit_code) == ("skipped", 0)
    assert "b: in quarantine: screen broken" in result.tasks[0].reason
    assert result.exit_code == 0


def test_a_quarantine_excuses_as_many_places_as_it_takes(place: Path, store: Store) -> None:
    store.quarantine("b", "screen broken")
    text = JOB.replace("a, b", "any 3 of board=note10")
    result = conducted(place, Pretending(store), text)
    assert sorted((task.status, task.exit_code) for task in result.tasks) == [
        ("complete", 0),
        ("skipped", 0),
        ("skipped", 3),
    ]


def test_what_came_out_of_this_very_night_still_counts_when_it_goes_on(place: Path, store: Store) -> None:
    night = store.begin_night(job.load(_written(place, JOB)).farm)
    task = Task(task_id="1.1", job=0, experiment="own", selector="a, b", device="a", status="running", attempts=1)
    store.put_tasks(night, [task])
    store.quarantine("a", "could not be put back", night)
    hosts = Pretending(store)
    hosts.night = night
    measured(hosts, task)
    hosts.left = {"a": Left("could not be put back", 8)}
    result = conducted(place, hosts, resume=True)
    assert (result.tasks[0].status, result.tasks[0].exit_code) == ("skipped", 3)
    assert (result.exit_code, hosts.visited) == (8, ["a"]), "somebody looked whether it is as it was found"


def _written(place: Path, text: str) -> Path:
    (place / "farm.toml").write_text(text, encoding="utf-8")
    return place / "farm.toml"


# --- devices that come and go ----------------------------------------------------------------------------------------


def test_a_device_that_could_not_be_seen_again_counts(place: Path, store: Store) -> None:
    def cut(hosts: Pretending, task: Task) -> Task:
        update = {"status": "skipped", "reason": "the night's time ran out: the cable is out"}
        return lost(hosts, task).model_copy(update=update)

    hosts = Pretending(store, a=cut)
    hosts.left = {"a": Left("no answer", 3)}
    result = conducted(place, hosts)
    assert (result.exit_code, result.not_given_back, hosts.visited) == (3, {"a": "no answer"}, ["a"])
    hosts.left = {}
    assert conducted(place, hosts).exit_code == 0


def test_a_lost_device_whose_task_another_one_did_is_no_failure(place: Path, store: Store) -> None:
    def moved(hosts: Pretending, task: Task) -> Task:
        return lost(hosts, task).model_copy(update={"status": "waiting", "device": None, "exit_code": 3})

    hosts = Pretending(store, a=moved)
    hosts.left = {"a": Left("no host that reaches it is there", 3)}
    result = conducted(place, hosts, JOB.replace("a, b", "any 1 of a, b"))
    assert (result.tasks[0].device, result.exit_code, list(result.not_given_back)) == ("b", 0, ["a"])


def test_an_interruption_turns_no_waiting_task_into_a_skipped_one(place: Path, store: Store) -> None:
    def ended(hosts: Pretending, task: Task) -> Task:
        conductor.interrupted = True
        return lost(hosts, task).model_copy(update={"status": "waiting"})

    farm = job.load(_written(place, JOB + "priority = 1\n" + JOB.replace("a, b", "b, a")))
    hosts = Pretending(store, a=ended)
    conductor = conducting.Conductor(farm, hosts.pool, store, conducting.SILENT, hosts)  # type: ignore[arg-type]
    conductor.begin()
    conductor.conduct()
    assert {task.status for task in store.tasks(conductor.night)} <= {"waiting", "complete"}
    assert sum(task.status == "waiting" for task in store.tasks(conductor.night)) >= 2
    conductor.give_back()
    assert hosts.visited == ["a"]


def test_a_device_taken_out_meanwhile_gets_no_more_work(place: Path, store: Store) -> None:
    def by_hand(hosts: Pretending, task: Task) -> Task:
        store.quarantine("b", "screen broken")
        return measured(hosts, task)

    hosts = Pretending(store, a=by_hand)
    result = conducted(place, hosts, JOB + ANY)
    assert {device for _, device in hosts.done} == {"a"}
    assert result.out == {"b": "in quarantine: screen broken"}
    assert result.exit_code == 3


def test_a_device_that_is_away_costs_its_own_tasks_alone(place: Path, store: Store) -> None:
    assert conducted(place, Pretending(store)).exit_code == 0
    result = conducted(place, Pretending(store, known("a")))
    assert [(task.device, task.status, task.exit_code) for task in result.tasks] == [
        ("a", "complete", 0),
        ("b", "skipped", 3),
    ]
    assert result.tasks[1].reason == "b: it is not there now"
    assert result.exit_code == 3
    with pytest.raises(ConfigError, match="no device named 'z'"):
        conducted(place, Pretending(store), JOB.replace("a, b", "a, z"))


@pytest.mark.parametrize("words", ["tag=phone", "any 2 of tag=phone"])
def test_devices_of_a_tag_that_are_away_are_no_mistake_in_the_file(place: Path, store: Store, words: str) -> None:
    text = JOB.replace("a, b", words)
    other = {"c": Known(DeviceEntry(name="c", address="adb:c"), "qualcomm")}
    with pytest.raises(ConfigError):
        conducted(place, Pretending(store, other), text)
    assert conducted(place, Pretending(store), text).exit_code == 0
    assert conducted(place, Pretending(store, other), text).exit_code == 3


def test_a_night_goes_on_without_a_device_that_is_away(place: Path, store: Store) -> None:
    night = store.begin_night(job.load(_written(place, JOB)).farm)
    for number, device in enumerate("ab", 1):
        task = Task(task_id=f"1.{number}", job=0, experiment="own", selector="a, b", device=device)
        store.put_tasks(night, [task])
    result = conducted(place, Pretending(store, known("a")), resume=True)
    assert [task.status for task in result.tasks] == ["complete", "skipped"]


# --- going on --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "jobs = 5", "this is no TOML", None])
def test_a_night_goes_on_whatever_became_of_its_file(place: Path, store: Store, text: str | None) -> None:
    hosts = Pretending(store, a=lambda *_: (_ for _ in ()).throw(StoreError("the database went away")))
    with pytest.raises(StoreError):
        conducted(place, hosts)
    file = place / "farm.toml"
    file.unlink() if text is None else file.write_text(text, encoding="utf-8")
    result = nightly.nightly(file, store, conducting.SILENT, resume=True, hosts=Pretending(store))
    assert (result.status, result.exit_code) == ("complete", 0)
    with pytest.raises(ConfigError):
        nightly.nightly(file, store, conducting.SILENT, resume=True, hosts=Pretending(store))
