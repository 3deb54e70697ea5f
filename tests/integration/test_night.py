"""A night on virtual boards: whatever happens to boards or host, no run is lost or doubled and every board comes back.

``python -m tests.integration.nights --boards 20`` is the long form.
"""

import json
import os
import signal
from pathlib import Path

import pytest

from devicelab.store import Store
from tests.benches import Host, finished, left_behind, wait_for
from tests.integration.nights import KINDS, SHORT, Night, draw, perform
from tests.sim_fixtures import StartBoard

pytestmark = [pytest.mark.sim, pytest.mark.slow]

QUIET = """\
[[jobs]]
experiment = "every.toml"
devices = "tag=farm"
[[jobs]]
experiment = "some.toml"
devices = "any {some} of board=generic-android"
priority = -1
"""


@pytest.mark.timeout(900)
def test_a_night_with_faults_loses_no_run_and_takes_the_bad_boards_out(
    virtual_board: StartBoard, tmp_path: Path
) -> None:
    boards = [virtual_board(kind, name=f"{kind}-{n}", abi="x86_64", su="magisk") for kind in KINDS for n in range(3)]
    (tmp_path / "lab").mkdir()
    night = Night(boards, tmp_path / "lab")
    outcome = perform(night, draw([board.name for board in boards], SHORT, 1), some=1, repetitions=2)
    assert not outcome.violations, "\n".join([outcome.table(), *outcome.violations])


@pytest.fixture
def night(virtual_board: StartBoard, tmp_path: Path) -> Night:
    """Two boards that are well."""
    boards = [virtual_board(kind, name=kind, abi="x86_64", su="magisk") for kind in ("note10", "pixel")]
    (tmp_path / "lab").mkdir()
    made = Night(boards, tmp_path / "lab")
    made.write(some=1, repetitions=4, farm=QUIET)
    return made


@pytest.mark.timeout(600)
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_night_that_was_ended_goes_on_where_it_was(night: Night, ending: signal.Signals) -> None:
    host = night.commands.start(*night.words(), board=False)
    assert wait_for(lambda: _runs(night.store) >= 2 or not host.is_alive())
    os.kill(_pid(host), ending)
    code = finished(host)
    assert code == (130 if ending == signal.SIGTERM else -signal.SIGKILL), night.commands.said()
    if ending == signal.SIGTERM:
        assert _left(night) == [], "a polite end gives every board back"
    before = _runs(night.store)
    assert 2 <= before < 18

    junit, summary = night.place / "night.xml", night.place / "night.md"
    words = night.words("--resume", "--json", "--junit", str(junit), "--summary", str(summary))
    assert night.commands.run(*words, board=False) == 0, night.commands.said()
    said = json.loads(night.commands.last_words())
    assert [task["status"] for task in said["tasks"]] == ["complete"] * 3
    with Store.open(str(night.store)) as store:
        (info,) = store.nights()
        assert (info.status, info.exit_code) == ("complete", 0)
        ids = [run for one in store.campaigns() for run in store.results(one.campaign).runs()["run_id"]]
        assert all(one.status == "complete" and one.night == info.night for one in store.campaigns())
    assert len(ids) == len(set(ids)) == 2 * 8 + 2
    assert _left(night) == []
    assert "<testsuites" in junit.read_text(encoding="utf-8")
    assert info.night in summary.read_text(encoding="utf-8").replace("\\", "")
    assert night.commands.run(*night.words("--resume"), board=False) == 2, "nothing is left to resume"


@pytest.mark.timeout(600)
def test_the_time_of_a_night_runs_out_and_the_boards_are_given_back(night: Night) -> None:
    (night.place / "never.toml").write_text(
        'question = "?"\nrepetitions = 1\nhold_s = 0.2\n[factors]\nload = ["none"]\n'
        "[thermal]\nmin_c = 200\nwindow_s = 1\n",
        encoding="utf-8",
    )
    (night.place / "farm.toml").write_text(
        'budget_s = 15\n[[jobs]]\nexperiment = "never.toml"\ndevices = "tag=farm"\n'
        '[[jobs]]\nexperiment = "every.toml"\ndevices = "pixel"\npriority = 1\nset = { hold_s = 60 }\n',
        encoding="utf-8",
    )
    assert night.commands.run(*night.words("--json"), board=False) == 6, "nothing was measured"
    said = json.loads(night.commands.last_words())
    assert {task["status"] for task in said["tasks"]} == {"skipped"}
    reasons = [task["reason"] for task in said["tasks"]]
    assert all("the night's time ran out: 0 of 1 runs stored" in reason for reason in reasons[:2]), reasons
    assert "that much is not left" in reasons[2]
    assert _left(night) == []


@pytest.mark.timeout(600)
def test_a_board_that_somebody_holds_is_left_alone_and_the_work_goes_to_another(night: Night) -> None:
    farm = night.place / "farm.toml"
    farm.write_text(
        'wait_busy_s = 1\n[[jobs]]\nexperiment = "some.toml"\ndevices = "note10"\n'
        '[[jobs]]\nexperiment = "some.toml"\ndevices = "any 1 of note10, pixel"\nrepetitions = 2\n',
        encoding="utf-8",
    )
    holder = night.commands.start("load", "1000", "5000", "20", "--seconds", "600")
    note10 = night.benches["note10"]
    assert wait_for(lambda: note10.programs("overhead") or not holder.is_alive())
    assert night.commands.run(*night.words("--json"), board=False) == 3, night.commands.said()
    said = json.loads(night.commands.last_words())
    assert note10.programs("overhead"), "the other's load still runs"
    os.kill(_pid(holder), signal.SIGINT)
    finished(holder)
    assert [(task["device"], task["status"]) for task in said["tasks"]] == [
        ("note10", "skipped"),
        ("pixel", "complete"),
    ]
    assert "held by" in said["tasks"][0]["reason"]
    assert said["quarantined"] == []


def _pid(host: Host) -> int:
    assert host.pid is not None
    return host.pid


def _left(night: Night) -> list[str]:
    return [f"{name}: {what}" for name, one in night.benches.items() for what in left_behind(one, one.fresh)]


def _runs(path: Path) -> int:
    if not path.exists():
        return 0
    with Store.open(str(path)) as store:
        return sum(info.runs_done for info in store.campaigns())
