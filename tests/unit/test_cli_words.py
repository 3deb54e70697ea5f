"""What commands say while they work and before: once, in summary, with what is known."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devicelab.cli import command
from devicelab.cli._out import sweep_progress

pytestmark = pytest.mark.slow


def progress(done: int, cell: str = "k=1") -> Any:
    return SimpleNamespace(done=done, total=3, invalid=0, cell=cell, eta_s=None, undecided=())


def test_each_run_is_told_once_however_often_progress_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    with sweep_progress(quiet=False) as tell:
        assert tell is not None
        for one in (progress(0), progress(1), progress(1, "k=4"), progress(2), progress(2, "k=8")):
            tell(one)
    assert [line[:5] for line in capsys.readouterr().err.splitlines()] == ["[0/3]", "[1/3]", "[2/3]"]


def test_a_dry_run_is_a_summary_that_says_how_long_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ["--store", str(tmp_path / "none.sqlite")]

    def dry_run(*words: str) -> str:
        command()(args=["sweep", *words, "--board", "local", "--dry-run", *store], standalone_mode=False)
        return capsys.readouterr().out

    short = dry_run("dual_model", "--set", "repetitions=4")
    assert "16 runs of 4 cells, about 16 min" in short, "tenants are observed for a minute each"
    whole = dry_run("dual_model", "--set", "repetitions=4", "--verbose")
    assert whole.count("\ncell ") == 4
    assert "\ncell " not in short
    lines = short.splitlines()
    assert len(lines) == len(set(filter(None, lines))) + lines.count(""), "nothing is said twice"


def test_a_dry_run_says_of_a_search_what_it_will_try_and_how_far_a_budget_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def dry_run(*words: str) -> str:
        store = ("--store", str(tmp_path / "none.sqlite"))
        command()(args=["sweep", "quick", "--board", "local", "--dry-run", *words, *store], standalone_mode=False)
        return capsys.readouterr().out

    search = ("--set", "k=[1,4]", "--set", 'load=["none"]', "--set", 'search.minimise="total_ns"', "--set")
    said = dry_run(*search, 'search.constraints={ "flushes" = "< 9" }', "--budget", "1s")
    assert "a search of 2 settings for the least total_ns\nall are tried" in said
    assert "12 runs at most, at least " in said
    assert "has to keep: flushes < 9" in said
    assert "the budget of 1s holds at most " in said
    assert "of every cell" not in said
    short = dry_run("--budget", "5s")
    assert "repetitions of every cell; below 6 nothing is decided" in short
    assert "holds" not in dry_run("--budget", "5h")
