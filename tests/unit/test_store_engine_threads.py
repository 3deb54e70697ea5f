"""Many threads of one process write into one SQLite file."""

import contextlib
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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


def test_as_many_read_at_once_as_there_are_boards(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.sqlite") as store, contextlib.ExitStack() as open_ones:
        for _ in range(40):
            connection = open_ones.enter_context(store._engine.connect())
            assert connection.execute(text("SELECT count(*) FROM health")).scalar() == 0


class Locked:
    """A database that refuses to change its journal until a time, with an error of SQLite's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: int, until_s: float) -> None:
        self.code, self.until_s, self.now_s = code, until_s, 0.0
        self.mode = "delete"
        clock = SimpleNamespace(monotonic=lambda: self.now_s, sleep=self._sleep)
        monkeypatch.setattr(engine, "time", clock)

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def execute(self, statement: str) -> Any:
        if self.now_s < self.until_s:
            error = sqlite3.OperationalError("locked")
            error.sqlite_errorcode = self.code
            raise error
        self.mode = "wal" if statement.endswith("=WAL") else self.mode
        return SimpleNamespace(fetchone=lambda: (self.mode,))


BUSY = [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_BUSY_RECOVERY, sqlite3.SQLITE_LOCKED_SHAREDCACHE]


@pytest.mark.parametrize("code", [*BUSY, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN])
def test_whoever_opens_while_others_do_waits_his_turn_and_for_nothing_else(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    opened: Any = Locked(monkeypatch, code, engine.BUSY_S / 2)
    if code in BUSY:
        engine._write_ahead(opened)
        assert opened.mode == "wal"
        assert opened.now_s == pytest.approx(engine.BUSY_S / 2, abs=0.1)
        opened = Locked(monkeypatch, code, 2 * engine.BUSY_S)
    with pytest.raises(sqlite3.OperationalError):
        engine._write_ahead(opened)
    assert opened.now_s == pytest.approx(engine.BUSY_S if code in BUSY else 0, abs=0.1)


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
