"""A database server that restarts is waited for, and what was asked is done once."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from devicelab.errors import StoreError
from devicelab.model.night import Farm, JobEntry, Task
from devicelab.store import Store, patience
from devicelab.store.patience import memo, patient
from tests import labdata
from tests.faults.databases import Postgres
from tests.postgres import TOOLS

FARM = Farm(name="f", jobs=(JobEntry(experiment="e", devices="a"),))


class OperationalError(Exception):
    """As psycopg's, which has no state where no server answered."""

    def __init__(self, sqlstate: str | None = None) -> None:
        super().__init__("connection refused")
        self.sqlstate = sqlstate


class Asked:
    """Something like a store whose server is away for some calls."""

    def __init__(self, away: int, sqlstate: str | None = None, url: str = "postgresql://h/d") -> None:
        self._place: Any = make_url(url)
        self.patience_s = 60.0
        self.away, self.state, self.calls = away, sqlstate, 0

    @patient
    def ask(self) -> int:
        self.calls += 1
        memo().setdefault("first", self.calls)
        if self.calls <= self.away:
            raise StoreError("away") from DBAPIError("x", {}, OperationalError(self.state))
        return int(memo().get("first", 0))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_PAUSE_S", 0.0)


@pytest.mark.parametrize("state", [None, "57P01", "57P03", "08006", "53300"])
def test_a_server_that_is_away_is_asked_again(state: str | None) -> None:
    asked = Asked(3, state)
    assert asked.ask() == 1, "what was noted at first is there when it is asked again"
    assert asked.calls == 4
    assert memo() == {}


@pytest.mark.parametrize("state", ["28P01", "3D000", "23505", "42501", "53100"])
def test_what_waiting_does_not_mend_is_said_at_once(state: str) -> None:
    asked = Asked(3, state)
    with pytest.raises(StoreError):
        asked.ask()
    assert asked.calls == 1


@pytest.mark.parametrize(("state", "asked_again"), [("57P01", True), ("57P03", True), (None, False), ("08006", False)])
def test_who_opens_a_store_waits_for_a_server_that_answers_alone(state: str | None, asked_again: bool) -> None:
    asked = Asked(2, state)
    plain = asked.ask.__wrapped__  # type: ignore[attr-defined]
    if asked_again:
        patience.opening(lambda: plain(asked), asked)
        assert asked.calls == 3
    else:
        with pytest.raises(StoreError):
            patience.opening(lambda: plain(asked), asked)
        assert asked.calls == 1


def test_patience_ends() -> None:
    asked = Asked(10**9)
    asked.patience_s = 0.0
    with pytest.raises(StoreError):
        asked.ask()


def test_a_file_does_not_come_back_by_itself() -> None:
    asked = Asked(1)
    asked._place = "a path"
    with pytest.raises(StoreError):
        asked.ask()


# --- a real server ---------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Postgres]:
    made = Postgres()
    try:
        yield made
    finally:
        made.close()


@pytest.mark.slow
@pytest.mark.skipif(TOOLS is None, reason="no PostgreSQL server is installed")
def test_runs_and_tasks_of_a_night_survive_restarts_of_the_server(server: Postgres) -> None:
    of = labdata.experiment(repetitions=1)
    failed: list[BaseException] = []
    over = threading.Event()

    with Store.open(server.new("lab")) as store:

        def work(name: str) -> None:
            try:
                number = 0
                while not over.is_set() or number < 5:
                    number += 1
                    campaign = store.begin_campaign(
                        experiment=of, facts=labdata.facts(), cells=labdata.cells(of), command="", binaries=(),
                        plan_json="[]", campaign=f"2026{number:04d}-000000-{name}",
                    )  # fmt: skip
                    for seq, cell in enumerate(store.cells(campaign)):
                        record = labdata.record(f"{campaign}-{seq}", seq)
                        store.commit_run(campaign, cell, record, repetition=0, measurements={}, flags=())
                    store.finish_campaign(campaign, "complete")
                    night = store.begin_night(FARM)
                    task = Task(task_id="1.1", job=0, experiment="e", selector="a")
                    store.put_tasks(night, [task])
                    begun = task.model_copy(update={"status": "running"})
                    assert store.claim_task(night, "1.1", "waiting", begun)
                    assert store.tasks(night) == (begun,)
            except BaseException as error:  # noqa: BLE001
                failed.append(error)

        threads = [threading.Thread(target=work, args=(name,)) for name in ("aaaa", "bbbb", "cccc")]
        for thread in threads:
            thread.start()
        for _ in range(3):
            threading.Event().wait(0.7)
            server.stop()
            threading.Event().wait(0.7)
            server.start()
        over.set()
        for thread in threads:
            thread.join()
        assert failed == []
        assert store.check().problems == ()
        campaigns = store.campaigns()
        assert all(
            info.status == "complete" and info.runs_done == len(store.cells(info.campaign)) for info in campaigns
        )
        assert all(len(store.tasks(night.night)) == 1 for night in store.nights())
