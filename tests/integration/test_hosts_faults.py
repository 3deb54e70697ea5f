"""Hosts of a farm that end badly, listen too widely or speak otherwise: ends come, and words are for people."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from devicelab.store import Store
from tests.benches import finished, wait_for
from tests.certificates import Authority
from tests.farms import PATIENCE_S, Farm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * PATIENCE_S)]


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Callable[..., Farm]]:
    made: list[Farm] = []

    def make(jobs: str = "", *names: str, **options: str) -> Farm:
        lab = "".join(f'[devices.{n}]\naddress = "local:"\ndir = "{tmp_path}/{n}"\ntags = ["t"]\n' for n in names)
        made.append(Farm(tmp_path, lab, str(tmp_path / "lab.sqlite"), jobs, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_ends_when_its_scheduler_goes_at_the_same_moment(farm: Callable[..., Farm], number: int) -> None:
    here = farm("", "a")
    here.work(a=())
    (worker,) = here.workers.values()
    os.kill(here.scheduler.pid, number)
    worker.terminate()
    assert finished(worker) in {0, 3}
    assert "Traceback" not in here.commands.last_words()


def stop_between_transactions(pid: int, store: str) -> None:
    """SIGSTOP to one that is not writing: SQLite's lock would stay with it, and nobody could write any more."""
    with contextlib.closing(sqlite3.connect(store, timeout=PATIENCE_S, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        os.kill(pid, signal.SIGSTOP)
        assert wait_for(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, PATIENCE_S)
        connection.execute("ROLLBACK")


def test_a_stopped_worker_does_not_hold_up_the_night_and_undoes_nothing_later(farm: Callable[..., Farm]) -> None:
    here = farm('patience_s = 1\n[[jobs]]\nexperiment = "e.toml"\ndevices = "any 1 of tag=t"\n', "a", "b")
    here.work(a=("--device", "a"), b=("--device", "b"))
    night = here.conduct("--json")
    with Store.open(here.store) as store:
        assert wait_for(lambda: not night.is_alive() or any(c.runs_done for c in store.campaigns()), PATIENCE_S)
        stopped = store.campaigns()[0].device
        pid = int(here.workers[stopped].pid or 0)
        stop_between_transactions(pid, here.store)
        try:
            assert here.ended(night) == 0, here.commands.said()
            (info,) = store.nights()
            tasks = store.tasks(info.night)
            assert [(task.status, task.attempts) for task in tasks] == [("complete", 2)]
            assert tasks[0].device != stopped
        finally:
            os.kill(pid, signal.SIGCONT)
        # It wakes up, finds its night over, and changes nothing of it.
        assert here.end() == [0, 0]
        assert store.tasks(info.night) == tasks


def test_a_stopped_worker_does_not_outlast_the_nights_budget(farm: Callable[..., Farm]) -> None:
    here = farm('budget_s = 25\npatience_s = 1\n[[jobs]]\nexperiment = "e.toml"\ndevices = "a"\n', "a")
    here.work(a=())
    night = here.conduct("--json")
    with Store.open(here.store) as store:
        assert wait_for(lambda: not night.is_alive() or any(c.runs_done for c in store.campaigns()), PATIENCE_S)
        pid = int(here.workers["a"].pid or 0)
        stop_between_transactions(pid, here.store)
        try:
            assert here.ended(night) == 3, here.commands.said()
        finally:
            os.kill(pid, signal.SIGCONT)


def test_a_worker_listens_where_the_scheduler_is_and_has_no_page(farm: Callable[..., Farm]) -> None:
    here = farm("", "a")
    here.work(a=())
    listening = [
        one.laddr
        for one in psutil.Process(int(here.workers["a"].pid or 0)).net_connections("inet")
        if one.status == psutil.CONN_LISTEN
    ]
    assert [address.ip for address in listening] == ["127.0.0.1"]
    assert here.end() == [0]


@pytest.mark.parametrize(("theirs", "ours"), [(True, False), (False, True), (True, True)])
def test_tls_against_plain_and_another_authority_are_said_in_words(
    farm: Callable[..., Farm], tmp_path: Path, theirs: bool, ours: bool
) -> None:
    one, other = Authority(tmp_path / "one"), Authority(tmp_path / "other")
    here = farm("[[jobs]]\nexperiment = 'e.toml'\ndevices = 'a'\n", "a", **({"tls": one} if theirs else {}))
    words = other.words() if ours else ()
    place = f"127.0.0.1:{here.port}"
    for command in (
        ("worker", "--scheduler", place, "--store", here.store, *words),
        ("nightly", "farm.toml", "--engine", f"dask://{place}", "--store", here.store, *words),
    ):
        assert finished(here.commands.start(*command, board=False)) in {2, 3}
        said = here.commands.last_words()
        assert "Traceback" not in said
        assert place in said
        assert len(said.strip().splitlines()) <= 4, said


def test_a_farm_works_with_certificates_of_its_own_authority(farm: Callable[..., Farm], tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    here = farm("[[jobs]]\nexperiment = 'e.toml'\ndevices = 'a'\n", "a", tls=authority)
    here.work(a=authority.words())
    assert here.ended(here.conduct(*authority.words())) == 0, here.commands.said()
    assert here.end() == [0]


def test_loggers_of_others_say_nothing_before_our_error() -> None:
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "from devicelab.cli import main; main()",
            "nightly",
            "x.toml",
            "--engine",
            "dask://127.0.0.1:1",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 3
    assert "no scheduler answers" in said.stderr.splitlines()[0]
    assert "Traceback" not in said.stderr
