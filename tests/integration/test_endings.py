"""Whatever ends the work on a board, it is given back as it was found, and no run is lost or stored twice.

A short selection by default; ``DEVICELAB_ENDINGS=100`` does as many random trials over every kind of board.
"""

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest

from devicelab.model.journal import seal_line
from devicelab.store import Store
from tests.benches import Bench, Commands, Host, finished, left_behind, stored, wait_for
from tests.integration import endings
from tests.integration.endings import Trial, draw, perform
from tests.sim_fixtures import StartBoard

pytestmark = [pytest.mark.sim, pytest.mark.slow]

_MANY = int(os.environ.get("DEVICELAB_ENDINGS", "0"))
_SEED = int(os.environ.get("DEVICELAB_ENDINGS_SEED", "1"))
_KINDS = endings.KINDS if _MANY else ("note10", "qualcomm")


def _trials(kind: str) -> list[Trial]:
    count = _MANY or len(endings.ENDINGS)
    return [trial for trial in draw(_SEED, count, _KINDS) if trial.kind == kind]


@pytest.mark.timeout(4 * 3600 if _MANY else 300)
@pytest.mark.parametrize("kind", _KINDS)
def test_a_board_is_given_back_as_it_was_found(kind: str, virtual_board: StartBoard, tmp_path: Path) -> None:
    bench = Bench(virtual_board(kind, name=kind, abi="x86_64", su=endings.ROOT.get(kind)), tmp_path)
    outcomes = [perform(bench, trial, tmp_path / f"trial{trial.number}.sqlite") for trial in _trials(kind)]
    bad = [outcome for outcome in outcomes if outcome.violations]
    assert not bad, "\n".join(map(str, bad))


def test_a_sweep_whose_host_was_killed_is_finished_by_resume_on_a_board(
    virtual_board: StartBoard, tmp_path: Path
) -> None:
    bench = Bench(virtual_board("pixel", name="pixel", abi="x86_64"), tmp_path)
    _resumed(bench, tmp_path)
    assert left_behind(bench, bench.fresh) == []


def test_a_sweep_whose_host_was_killed_is_finished_by_resume_on_this_machine(tmp_path: Path) -> None:
    there = tmp_path / "there"
    _resumed(Commands("here", f'address = "local:"\ndir = "{there}"', tmp_path, {}), tmp_path)
    assert not list((there / "plans").iterdir())
    assert (there / "state" / "undo.jsonl").read_bytes() == b""


def test_after_the_agent_was_killed_no_plan_is_left_on_the_device(tmp_path: Path) -> None:
    there = tmp_path / "there"
    commands = Commands("here", f'address = "local:"\ndir = "{there}"', tmp_path, {})
    experiment, store = tmp_path / "lost.toml", tmp_path / "lost.sqlite"
    experiment.write_text(
        'question = "Who cleans up?"\nforeign_pct = 100\nforeign_core_pct = 100\nrepetitions = 6\nhold_s = 0.5\n',
        encoding="utf-8",
    )
    host = commands.start("sweep", str(experiment), "--store", str(store), "--report", str(tmp_path / "report.html"))
    assert wait_for(lambda: _runs(store) >= 1 or not host.is_alive())
    os.kill(json.loads((there / "state" / "agent.json").read_text())["pid"], signal.SIGKILL)
    assert finished(host) == 0, commands.said()
    runs, planned = stored(store)
    assert (len(runs), len(set(runs)), planned) == (6, 6, 6)
    assert not list((there / "plans").iterdir())


def test_plans_that_failed_long_ago_do_not_keep_a_sweep_from_going_on(tmp_path: Path) -> None:
    there, store = tmp_path / "there", tmp_path / "old.sqlite"
    commands = Commands("here", f'address = "local:"\ndir = "{there}"', tmp_path, {})
    experiment = tmp_path / "old.toml"
    experiment.write_text(
        'question = "Is it over?"\nforeign_pct = 100\nforeign_core_pct = 100\nrepetitions = 3\nhold_s = 0.5\n',
        encoding="utf-8",
    )
    words = ("sweep", str(experiment), "--store", str(store), "--report", str(tmp_path / "report.html"))
    host = commands.start(*words)
    assert wait_for(lambda: _runs(store) >= 1 or not host.is_alive())
    os.kill(host.pid or 0, signal.SIGINT)
    assert finished(host) == 130, commands.said()
    with Store.open(store) as opened:
        (campaign,) = opened.campaigns()
    # One found the device busy, one could not restore it; both were mended by hand since.
    for name, file, text in (("0a", "agent.log", b"agent: busy: somebody\n"), ("0b", "journal.jsonl", _unrestored())):
        folder = there / "plans" / f"{campaign.campaign}-{name}"
        folder.mkdir()
        (folder / file).write_bytes(text)
    assert commands.run(*words, "--resume") == 0, commands.said()
    runs, planned = stored(store)
    assert (len(runs), len(set(runs)), planned) == (3, 3, 3)
    assert not list((there / "plans").iterdir())


def _unrestored() -> bytes:
    flag = {"code": "restore-failed", "detail": "/sys/a: it does not show its old value"}
    return seal_line({"event": "plan-end", "reason": "failure", "t_ns": 1, "runs_done": 0, "flags": [flag]})


def test_restore_by_force_ends_an_agent_whose_host_is_gone(virtual_board: StartBoard, tmp_path: Path) -> None:
    bench = Bench(virtual_board("pixel", name="pixel", abi="x86_64"), tmp_path)
    experiment = tmp_path / "long.toml"
    experiment.write_text(
        'question = "Who ends it?"\n'
        "foreign_pct = 100\nforeign_core_pct = 100\n"
        'repetitions = 1\nhold_s = 600.0\n[factors]\nload = ["1000 5000 20"]\n'
        '[set]\ncpu = "min"\n',
        encoding="utf-8",
    )
    host = bench.start("sweep", str(experiment), "--store", str(tmp_path / "long.sqlite"))
    assert wait_for(lambda: bench.programs("overhead") or not host.is_alive())
    _kill(host)
    assert bench.run("restore") == 3
    assert "restore --force" in bench.said()
    assert bench.run("restore", "--force") == 0, bench.said()
    assert left_behind(bench, bench.fresh) == []


def _resumed(commands: Commands, place: Path) -> None:
    """Kill the host while the second run goes on, come back twice: all runs are stored, each once."""
    experiment, store = place / "resumed.toml", place / "resumed.sqlite"
    experiment.write_text(
        'question = "Is every run stored once?"\n'
        "foreign_pct = 100\nforeign_core_pct = 100\n"
        "repetitions = 6\nhold_s = 0.5\nsettle_s = 0.1\n"
        '[factors]\nload = ["none", "1000 5000 20"]\n',
        encoding="utf-8",
    )
    words = ("sweep", str(experiment), "--store", str(store), "--report", str(place / "report.html"))
    host = commands.start(*words)
    assert wait_for(lambda: _runs(store) >= 1 or not host.is_alive())
    _kill(host)
    before = _runs(store)
    assert 1 <= before < 12, commands.said()
    assert commands.run(*words, "--resume") == 0, commands.said()
    runs, planned = stored(store)
    assert (len(runs), len(set(runs)), planned) == (12, 12, 12)
    assert commands.run(*words, "--resume") == 2, "nothing is left to resume"


def _kill(host: Host) -> None:
    assert host.pid is not None
    os.kill(host.pid, signal.SIGKILL)
    assert finished(host) == -signal.SIGKILL


def _runs(store: Path) -> int:
    if store.exists():
        # Not there yet, or being made at this moment.
        with contextlib.suppress(Exception):
            return len(stored(store)[0])
    return 0
