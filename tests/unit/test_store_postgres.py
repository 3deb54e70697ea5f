"""The same store on a real PostgreSQL server, started for these tests."""

import secrets
import threading
from pathlib import Path

import pytest

from devicelab.errors import StoreError
from devicelab.store import Store
from tests import labdata
from tests.postgres import TOOLS, free_port, new_database

pytestmark = [pytest.mark.slow, pytest.mark.skipif(TOOLS is None, reason="no PostgreSQL server is installed")]


@pytest.fixture
def server(postgres_server: str) -> str:
    return new_database(postgres_server, f"lab-{secrets.token_hex(4)}")


def test_a_campaign_comes_back_as_from_sqlite(server: str, tmp_path: Path) -> None:
    with Store.open(server) as there, Store.open(tmp_path / "lab.sqlite") as here:
        frames = []
        for store in (there, here):
            campaign = labdata.fill(store, labdata.experiment(repetitions=2), invalid_every=5)
            results = store.results(campaign)
            assert store.check().problems == ()
            assert store.vacuum() >= 0
            assert len(store.done_runs(campaign)) == 12
            assert store.facts(campaign).cpus_online == (0, 1, 2, 3)
            frames.append((results.runs(), results.metrics(), results.samples("kernels")))
        for from_there, from_here in zip(*frames, strict=True):
            drop = [name for name in ("run_id",) if name in from_there]
            assert from_there.drop(columns=drop).equals(from_here.drop(columns=drop))


def test_hostile_text_is_stored_as_text(server: str) -> None:
    with Store.open(server) as store:
        campaign = labdata.begin(store, name="a\0b", kernel="'; DROP TABLE runs; --")
        assert store.campaign(campaign).device == "a\ufffdb"


def test_workers_open_and_store_every_run_exactly_once(server: str) -> None:
    with Store.open(server) as store:
        campaign = labdata.begin(store)
        cell = store.cells(campaign)[0]
    stored: list[str] = []
    errors: list[BaseException] = []

    def work(offset: int) -> None:
        try:
            with Store.open(server) as own:
                for i in range(20):
                    name = f"run-{(i + offset) % 20}"
                    made = own.commit_run(
                        campaign,
                        cell,
                        labdata.record(name),
                        repetition=i,
                        measurements={"measure": labdata.measurement(i)},
                        flags=(),
                    )
                    if made:
                        stored.append(name)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work, args=(5 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(stored) == sorted(f"run-{i}" for i in range(20))


def test_a_server_that_does_not_answer_is_named_without_the_password() -> None:
    with pytest.raises(StoreError, match="does not answer") as caught:
        Store.open(f"postgresql://lab:secret@127.0.0.1:{free_port()}/lab")
    assert "secret" not in str(caught.value)
