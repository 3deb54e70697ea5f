"""What was asked is done once, though its answer was lost, and though two draw the same digits."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from devicelab.errors import StoreError
from devicelab.model.experiment import Finding
from devicelab.model.night import CellVerdict, Farm, Health, JobEntry, Task
from devicelab.store import Store, database, nights_writer, patience
from tests import labdata

FARM = Farm(name="f", jobs=(JobEntry(experiment="e", devices="d"),))
TASK = Task(task_id="t1", job=0, experiment="e", selector="d", status="waiting")
RUNNING = TASK.model_copy(update={"status": "running", "device": "d", "campaign": "c"})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with labdata.new_store(tmp_path / "s.sqlite") as opened:
        yield opened


class OperationalError(Exception):
    """As psycopg's where the connection breaks before the answer."""


class Breaking:
    """A way to the database on which the answer to the first transaction is lost: it was done all the same."""

    def __init__(self, real: Any) -> None:
        self.real, self.broke = real, False

    @contextlib.contextmanager
    def begin(self) -> Iterator[Any]:
        with self.real.begin() as connection:
            yield connection
        if not self.broke:
            self.broke = True
            raise DBAPIError("COMMIT", {}, OperationalError("the connection was lost"))


def begin(store: Store, campaign: str | None) -> str:
    of = labdata.experiment()
    return store.begin_campaign(
        experiment=of, facts=labdata.facts(), cells=labdata.cells(of), command="", binaries=labdata.binaries(),
        plan_json=None, campaign=campaign,
    )  # fmt: skip


DEEDS: list[tuple[Callable[[Store], object], object]] = [
    (lambda store: begin(store, "c"), "c"),
    (lambda store: begin(store, None) in {info.campaign for info in store.campaigns()}, True),
    (lambda store: store.begin_night(FARM, night="m"), "m"),
    (lambda store: store.begin_night(FARM) in {info.night for info in store.nights()}, True),
    (lambda store: store.put_tasks("n", [TASK]), None),
    (lambda store: store.claim_task("n", "t1", "waiting", RUNNING), True),
    (lambda store: store.add_findings("c", []), None),
    (lambda store: store.quarantine("d", "hot").reason, "hot"),
    (lambda store: store.finish_night("n", "complete", 0), None),
]


def test_what_was_done_though_its_answer_was_lost_is_not_done_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_PAUSE_S", 0.0)
    store._place = make_url("postgresql://host/name")
    store.begin_night(FARM, night="n")
    real = store._writer
    for deed, answer in DEEDS:
        breaking: Any = Breaking(real)
        monkeypatch.setattr(store, "_writer", breaking)
        assert deed(store) == answer
        assert breaking.broke
    monkeypatch.setattr(store, "_writer", real)
    assert len(store.campaigns()) == 2
    assert {info.night for info in store.nights()} > {"n", "m"}
    assert len(store.nights()) == 3
    assert store.tasks("n") == (RUNNING,)
    assert [one.reason for one in store.quarantines()] == ["hot"]


def test_what_somebody_else_did_is_not_taken_for_ones_own(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_PAUSE_S", 0.0)
    store._place = make_url("postgresql://host/name")
    for name in ("n", "m"):
        store.begin_night(FARM, night=name)
        store.put_tasks(name, [TASK, TASK.model_copy(update={"task_id": "t2"})])
    begin(store, "c")
    for again in (lambda: begin(store, "c"), lambda: store.begin_night(FARM, night="n")):
        with pytest.raises(StoreError, match="is stored already"):
            again()
    other = RUNNING.model_copy(update={"device": "other"})
    real = store._writer

    class TakenMeanwhile(Breaking):
        """The connection breaks before anything is done, and somebody else is faster then."""

        @contextlib.contextmanager
        def begin(self) -> Iterator[Any]:
            if not self.broke:
                self.broke = True
                with self.real.begin() as connection:
                    connection.exec_driver_sql(
                        "UPDATE tasks SET status = 'running', device = 'other', campaign = 'c'"
                        " WHERE night = 'n' AND task_id = 't1'"
                    )
                raise DBAPIError("BEGIN", {}, OperationalError("the connection was lost"))
            with self.real.begin() as connection:
                yield connection

    taken: Any = TakenMeanwhile(real)
    monkeypatch.setattr(store, "_writer", taken)
    assert not store.claim_task("n", "t1", "waiting", RUNNING)
    monkeypatch.setattr(store, "_writer", real)
    assert store.tasks("n")[0] == other
    assert not store.claim_task("n", "t1", "running", RUNNING, campaign="d"), "it is another attempt by now"
    assert not store.claim_task("n", "t2", "running", RUNNING.model_copy(update={"task_id": "t2"}))
    assert store.claim_task("n", "t1", "running", RUNNING, campaign="c")
    assert {one.status for one in (*store.tasks("n")[1:], *store.tasks("m"))} == {"waiting"}


def test_two_that_draw_the_same_digits_in_one_second_have_ids_of_their_own(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = itertools.chain(["c-1", "c-1", "c-2"], itertools.repeat("c-3"))
    monkeypatch.setattr(database, "new_id", lambda _now: next(drawn))
    assert [begin(store, None) for _ in range(2)] == ["c-1", "c-2"]
    monkeypatch.setattr(nights_writer.time, "time_ns", lambda: 1_800_000_000_999_999_999)
    digits = iter(["aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr(nights_writer.secrets, "token_hex", lambda bytes_: next(digits)[: 2 * bytes_])
    assert [store.begin_night(FARM) for _ in range(2)] == ["f-20270115-080000-aaaa", "f-20270115-080000-bbbb"]


def test_findings_and_tasks_keep_the_order_they_were_put_in(store: Store) -> None:
    campaign, other = begin(store, None), begin(store, None)
    store.begin_night(FARM, night="n")
    names = ("d", "b", "c", "a")
    for place, name in enumerate(names):
        for of in (campaign, other)[: 1 + place % 2]:
            found = [Finding(analysis=name, claim=f"{name}{n}", verdict="no") for n in range(2)]
            store.add_findings(of, found)
        store.put_tasks("n", [TASK.model_copy(update={"task_id": f"{name}{n}"}) for n in range(2)])
    every = [f"{name}{n}" for name in names for n in range(2)]
    assert [one.claim for one in store.findings(campaign)] == every
    assert [one.task_id for one in store.tasks("n")] == every
    store.add_findings(campaign, [Finding(analysis="b", claim="b again", verdict="yes")])
    assert [one.claim for one in store.findings(campaign)] == [*every[:2], *every[4:], "b again"]
    assert len(store.findings(other)) == 4


def test_looks_and_verdicts_name_nights_that_are_stored(store: Store) -> None:
    store.begin_night(FARM, night="n")
    own = CellVerdict(
        night="n",
        experiment="e",
        cell_id="c",
        cell="x",
        device="d",
        program="p",
        metric="m",
        unit="ns",
        verdict="unchanged",
    )
    store.put_verdicts("n", [own])
    with pytest.raises(ValueError, match="of another night"):
        store.put_verdicts("n", [own, own.model_copy(update={"night": "m"})])
    assert store.verdicts(night="n") == (own,)
    store.add_health(Health(device="d", ok=True, at_unix_ns=1))
    with pytest.raises(StoreError, match="no night 'm'"):
        store.add_health(Health(device="d", night="m", ok=True, at_unix_ns=1))
    assert len(store.health()) == 1
