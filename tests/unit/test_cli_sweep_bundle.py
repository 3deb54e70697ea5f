"""``devicelab sweep --bundle``: what is shown beforehand, and that nothing is written then."""

import json
from pathlib import Path

import pytest

from tests.typed import Typed

LAB = """[devices.server]
address = "ssh:root@nowhere.invalid"
board = "nvidia-server"
"""
WORDS = ("sweep", "dual_model", "--board", "server", "--bundle", "there.tar", "--dry-run")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "lab.toml").write_text(LAB, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_dry_run_shows_a_bundles_runs_and_writes_nothing(place: Path, typed: Typed) -> None:
    answer = typed(*WORDS, "--json", "--set", "repetitions=2")
    assert answer.returncode == 0, answer.stderr
    runs = [run for plan in json.loads(answer.stdout)["plans"] for run in plan["runs"]]
    assert len(runs) == 2 * 4  # each tenant alone, native, mps
    assert [one.name for one in place.iterdir()] == ["lab.toml"]


def test_it_shows_the_fixed_plan_in_place_of_a_stop_rule(place: Path, typed: Typed) -> None:
    answer = typed("sweep", "quick", *WORDS[2:], "--until", "decided")
    assert answer.returncode == 0, answer.stderr
    assert "server" in answer.stdout
    assert "decided" not in answer.stdout
    assert not (place / "there.tar").exists()
