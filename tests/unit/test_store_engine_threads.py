"""Many threads of one process write into one SQLite file."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from devicelab.errors import StoreError
from devicelab.model.night import Health
from devicelab.store import Store, engine

SEEN = Health(device="a", ok=True, at_unix_ns=1)


def test_a_writer_waits_for_the_others_of_its_process_however_long_they_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_S", 0.0)
    with Store.open(tmp_path / "s.sqlite") as store, ThreadPoolExecutor(8) as threads:
        with store._writer.begin() as connection:
            connection.execute(text("UPDATE health SET ok = 0"))
            waiting = [threads.submit(store.add_health, SEEN) for _ in range(8)]
            done, _ = threading.Event(), [one.add_done_callback(lambda _: done.set()) for one in waiting]
            assert not done.wait(0.3), "nobody gets in between, and nobody gives up"
        assert [one.result(60) for one in waiting] == [None] * 8
        assert len(store.health()) == 8


def test_a_transaction_that_fails_lets_the_next_one_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_S", 0.0)
    with Store.open(tmp_path / "s.sqlite") as store, Store.open(tmp_path / "s.sqlite") as other:
        with pytest.raises(OperationalError), store._writer.begin() as connection:
            connection.execute(text("UPDATE nonsense SET ok = 0"))
        with other._writer.begin() as connection:
            connection.execute(text("UPDATE health SET ok = 0"))
            with pytest.raises(StoreError, match="another process"):
                store.add_health(SEEN)
        store.add_health(SEEN)
        with pytest.raises(ZeroDivisionError), store._writer.begin():
            raise ZeroDivisionError
        store.add_health(SEEN)
        assert len(other.health()) == 2


def test_an_interruption_as_the_turn_comes_leaves_it_free(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.sqlite") as store, ThreadPoolExecutor(1) as threads:

        def interrupt(_connection: object) -> None:
            raise KeyboardInterrupt

        event.listen(store._engine, "begin", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.add_health(SEEN)
        event.remove(store._engine, "begin", interrupt)
        assert threads.submit(store.add_health, SEEN).result(20) is None
        assert len(store.health()) == 1
