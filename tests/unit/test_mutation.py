"""The table of planted mistakes counts what mutmut judged, and shows a survivor as the line it changes."""

import json
from pathlib import Path

import pytest

from tests.mutation import judged

MUTATED = """
def x_wait__mutmut_orig(cooldown_s):
    return cooldown_s * 1000

def x_wait__mutmut_1(cooldown_s):
    return cooldown_s / 1000

def x_wait__mutmut_2(cooldown_s):
    return cooldown_s * 1001

def x_rest__mutmut_orig():
    return 1

def x_rest__mutmut_1():
    return 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A scratch folder as mutmut leaves it: killed, survived, out of time, reached by no test, not judged."""
    room = tmp_path / "knobs.waits" / "mutants" / "devicelab" / "knobs"
    room.mkdir(parents=True)
    (room / "waits.py").write_text(MUTATED)
    codes = {
        "wait__mutmut_1": 0,
        "wait__mutmut_2": 1,
        "wait__mutmut_3": 36,
        "rest__mutmut_1": 33,
        "rest__mutmut_2": None,
    }
    names = {f"devicelab.knobs.waits.x_{name}": code for name, code in codes.items()}
    (room / "waits.py.meta").write_text(json.dumps({"exit_code_by_key": names}))
    (tmp_path / "knobs.waits" / "sample.txt").write_text("\n".join(name for name in names if "rest" not in name) + "\n")
    return tmp_path / "knobs.waits"


def test_a_survivor_counts_against_the_score_and_a_timeout_for_it(folder: Path) -> None:
    score = judged.Score.of(folder)
    assert (score.mutants, score.judged, score.killed, score.survived) == (5, 3, 2, 1)
    assert "| knobs.waits | 5 | 3 | 2 | 1 | 0 | 0 | 67 % [21, 94] |" in judged.table([score])


def test_a_mutant_that_no_test_reaches_is_not_noticed(folder: Path) -> None:
    (folder / "sample.txt").write_text("devicelab.knobs.waits.x_rest__mutmut_1\n")
    assert judged.Score.of(folder).pct == 0
    assert judged.Score.of(folder).unreached == 1


def test_an_equivalent_mutant_is_neither_killed_nor_survived(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "- return cooldown_s * 1000\n  + return cooldown_s / 1000" in judged.survivors(folder)
    listed = {("knobs/waits.py", "return cooldown_s * 1000", "return cooldown_s / 1000")}
    monkeypatch.setattr(judged, "_equivalent", lambda: listed)
    assert (judged.Score.of(folder).pct, judged.Score.of(folder).equivalent) == (100, 1)
    assert judged.survivors(folder) == ""
