"""What commands say while they work and before: once, in summary, with what is known."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devicelab.cli import command
from devicelab.cli._out import sweep_progress
from devicelab.errors import MeasurementError
from devicelab.jobs.load import Loader, LoadResult

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


class Lazy(Loader):
    """A device on which one process never gets more than an eighth."""

    def __init__(self) -> None:
        self.tries = 0

    def run(self, params: Any, **_: Any) -> LoadResult:
        self.tries += 1
        use = min(12.5, params.inner_iter / 4_000)
        return LoadResult(
            device="phone", board="b", simulated=False, args=(1, 1, 1), copies=1, cores=(), duration_s=1.0, cpu_pct=use,
            cpu_pct_by_core=dict.fromkeys(map(str, range(8)), use), cores_pct=use, left_behind=0, agent_pct=0.0,
            flags=(),
        )  # fmt: skip


def test_a_use_that_cannot_be_reached_is_said_to_be_so_at_once() -> None:
    loader = Lazy()
    with pytest.raises(MeasurementError, match=r"one process reaches at most 12\.5 % of .* 8 cores"):
        loader.search(45)
    assert loader.tries <= 4
