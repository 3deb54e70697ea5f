"""The table of planted mistakes counts what mutmut judged, and shows a survivor as the line it changes."""

import json
from pathlib import Path

import pytest

from tests.mutation import judged, memory, native

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
def sample(tmp_path: Path) -> Path:
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
    sample = tmp_path / "knobs.waits" / "knobs.waits.sample"
    sample.write_text("\n".join(name for name in names if "rest" not in name) + "\n")
    return sample


def test_a_survivor_counts_against_the_score_and_a_timeout_for_it(sample: Path) -> None:
    score = judged.Score.of(sample)
    assert (score.mutants, score.judged, score.killed, score.survived) == (5, 3, 2, 1)
    assert "| knobs.waits | 5 | 3 | 2 | 1 | 0 | 0 | 67 % [21, 94] |" in judged.table([score])


def test_a_mutant_that_no_test_reaches_is_not_noticed(sample: Path) -> None:
    sample.write_text("devicelab.knobs.waits.x_rest__mutmut_1\n")
    assert judged.Score.of(sample).pct == 0
    assert judged.Score.of(sample).unreached == 1


def test_an_equivalent_mutant_is_neither_killed_nor_survived(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "- return cooldown_s * 1000\n  + return cooldown_s / 1000" in judged.survivors(sample)
    listed = {("knobs/waits.py", "return cooldown_s * 1000", "return cooldown_s / 1000")}
    monkeypatch.setattr(judged, "_equivalent", lambda: listed)
    assert (judged.Score.of(sample).pct, judged.Score.of(sample).equivalent) == (100, 1)
    assert judged.survivors(sample) == ""


def test_only_the_tests_of_a_changed_file_are_found_out_again(tmp_path: Path) -> None:
    notes = {
        "duration_by_test": {"tests/unit/test_a.py::test_x": 1, "tests/unit/test_b.py::test_y": 1},
        "tests_by_mangled_function_name": {"f": ["tests/unit/test_a.py::test_x", "tests/unit/test_b.py::test_y"]},
    }
    stats = tmp_path / "mutants" / "mutmut-stats.json"
    stats.parent.mkdir()

    def kept(before: dict[str, int], now: dict[str, int]) -> list[str] | None:
        memory.forget(tmp_path, before)
        stats.write_text(json.dumps(notes))
        memory.forget(tmp_path, now)
        return sorted(json.loads(stats.read_text())["duration_by_test"]) if stats.exists() else None

    before = {"": 1, "tests/unit/test_a.py": 1, "tests/unit/test_b.py": 1}
    assert kept(before, before | {"tests/unit/test_c.py": 1}) == [*notes["duration_by_test"]]
    assert kept(before, before | {"tests/unit/test_a.py": 2}) == ["tests/unit/test_b.py::test_y"]
    assert kept(before, before | {"": 2}) is None


def test_what_tests_share_is_known_apart_from_the_tests(tmp_path: Path) -> None:
    for name in ("devicelab/a.py", "tests/conftest.py", "tests/unit/test_a.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    first = memory.known_by(tmp_path)
    assert set(first) == {"", "tests/unit/test_a.py"}
    (tmp_path / "tests" / "conftest.py").write_text("2")
    assert memory.known_by(tmp_path)[""] != first[""]


def test_a_line_of_the_agent_is_changed_at_one_place_and_never_in_a_text_or_comment() -> None:
    found = set(native.changes('  if (size < 7 && name == Text("a < 1")) ++left;  // below 3'))
    assert found == {
        '  if (size <= 7 && name == Text("a < 1")) ++left;  // below 3',
        '  if (size < 8 && name == Text("a < 1")) ++left;  // below 3',
        '  if (size < 7 || name == Text("a < 1")) ++left;  // below 3',
        '  if (size < 7 && name != Text("a < 1")) ++left;  // below 3',
        '  if (size < 7 && name == Text("a < 1")) --left;  // below 3',
    }
    assert not list(native.changes("// if a < 1"))
    assert all(native.mutants(part) for part in native.PARTS)
