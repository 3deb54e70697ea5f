"""Commands that write the store, killed before each of some of their SQL statements: nothing is half there."""

import gzip
import multiprocessing
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from devicelab.jobs.import_ import import_result
from devicelab.model.night import Retention
from devicelab.store import Store
from devicelab.store.retention import prune
from tests import labdata, nightdata
from tests.unit.test_jobs_import import result

pytestmark = pytest.mark.slow

_FORK = multiprocessing.get_context("fork")
_OLD = Path(__file__).parents[1] / "data" / "version-0.1.0" / "complete.sqlite.gz"
_KILLS = 15
"""Of each command, spread evenly over its statements."""


def _nights(path: Path) -> None:
    with Store.open(path) as store:
        nightdata.fill(store, nightdata.History(nights=4))


def _orphans(path: Path) -> None:
    with Store.open(path) as store:
        labdata.fill(store)
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA foreign_keys=ON")
        raw.execute("DELETE FROM campaigns")
    raw.close()


def _prune(path: Path) -> None:
    with Store.open(path) as store:
        prune(store, Retention(nights=1), farms={"nightly": 1})


def _vacuum(path: Path) -> None:
    with Store.open(path) as store:
        store.vacuum()


def _import(path: Path) -> None:
    with Store.open(path) as store:
        import_result(path.parent / "result.tar", store)


def _sweep(path: Path) -> None:
    """A campaign as a sweep stores it, begun once and each run stored once."""
    with Store.open(path) as store:
        open_ones = store.unfinished(device="phone-1")
        of = labdata.experiment(repetitions=1)
        if not open_ones and store.campaigns():
            return
        campaign = open_ones[0].campaign if open_ones else labdata.begin(store, of)
        for seq, cell in enumerate(labdata.cells(of)):
            if (run := labdata.run_id("c", cell, 0)) not in store.done_runs(campaign):
                store.commit_run(
                    campaign, cell, labdata.record(run, seq), repetition=0,
                    measurements={"measure": labdata.measurement(seq)}, flags=[],
                )  # fmt: skip
        store.finish_campaign(campaign, "complete")


COMMANDS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], None]]] = {
    "open an old one": (
        lambda path: path.write_bytes(gzip.decompress(_OLD.read_bytes())),
        lambda p: Store.open(p).close(),
    ),
    "prune": (_nights, _prune),
    "vacuum": (_orphans, _vacuum),
    "import": (lambda path: result(path.parent / "result.tar"), _import),
    "sweep": (lambda _: None, _sweep),
}


def _watched(act: Callable[[Path], None], path: Path, seen: Any, last: int | None) -> None:
    """Count the statements into ``seen``; the process ends itself before statement ``last``."""

    @event.listens_for(Engine, "connect")
    def _connected(connection: Any, _record: object) -> None:
        connection.set_trace_callback(_statement)

    def _statement(_sql: str) -> None:
        if seen.value == last:
            os.kill(os.getpid(), signal.SIGKILL)
        seen.value += 1

    act(path)


def _in_a_process(act: Callable[[Path], None], path: Path, last: int | None = None) -> tuple[int | None, int]:
    seen = _FORK.Value("i", 0)
    process = _FORK.Process(target=_watched, args=(act, path, seen, last))
    process.start()
    process.join()
    return process.exitcode, int(seen.value)


def _rows(path: Path) -> dict[str, int]:
    """How many rows each table has."""
    raw = sqlite3.connect(path)
    try:
        names = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: len(raw.execute(f'SELECT 1 FROM "{name}"').fetchall()) for name in names}  # noqa: S608
    finally:
        raw.close()


def _points(statements: int) -> Iterator[int]:
    yield from sorted({round(at * (statements - 1) / (_KILLS - 1)) for at in range(_KILLS)})


@pytest.mark.parametrize("command", COMMANDS)
def test_a_killed_command_leaves_a_whole_store_and_can_be_given_again(tmp_path: Path, command: str) -> None:
    prepare, act = COMMANDS[command]
    first = tmp_path / "first"
    first.mkdir()
    prepare(first / "lab.sqlite")
    whole = tmp_path / "whole"
    shutil.copytree(first, whole)
    exit_code, statements = _in_a_process(act, whole / "lab.sqlite")
    assert exit_code == 0
    assert statements >= 5
    for last in _points(statements):
        folder = tmp_path / f"at-{last}"
        shutil.copytree(first, folder)
        path = folder / "lab.sqlite"
        assert _in_a_process(act, path, last)[0] == -signal.SIGKILL
        with Store.open(path) as store:
            assert store.check().problems == (), last
        act(path)
        with Store.open(path) as store:
            assert store.check().problems == (), last
        assert _rows(path) == _rows(whole / "lab.sqlite"), last
