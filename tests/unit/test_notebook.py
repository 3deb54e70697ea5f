"""devicelab from Python: tidy frames with units, errors for names that nobody has, and the how-to as it is written."""

import gzip
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pytest

import devicelab as dl
from devicelab.errors import ConfigError, StoreError
from devicelab.store import Store

ROOT = Path(__file__).resolve().parents[2]
OLD = ROOT / "tests" / "data" / "version-0.1.0" / "complete.sqlite.gz"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the database of one campaign: eight runs, two loads, two K."""
    with gzip.open(OLD) as packed, (tmp_path / "devicelab.sqlite").open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    monkeypatch.delenv("DEVICELAB_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def results(folder: Path) -> Iterator[dl.Campaign]:
    with dl.open(folder / "devicelab.sqlite") as lab:
        yield lab.results()


def test_wide_has_a_row_a_run_with_factors_figures_and_their_units(results: dl.Campaign) -> None:
    wide, runs, metrics = results.wide(), results.runs(), results.metrics()
    assert list(wide.index) == list(runs.loc[runs["valid"], "run_id"])
    assert set(wide["k"]) == {1, 4}
    assert set(wide["load"]) == {"none", "1000 5000 20"}
    said = metrics[metrics["metric"] == "total_ns"].set_index("run_id")["value"]
    assert wide["total_ns"].to_dict() == said.loc[wide.index].to_dict()
    assert wide.attrs["units"]["total_ns"] == "ns"
    assert wide.attrs["units"].keys() <= set(wide.columns)


def test_invalid_runs_come_only_when_they_are_asked_for(results: dl.Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = results.runs()
    runs.loc[runs.index[0], "valid"] = False
    monkeypatch.setattr(results._results, "runs", lambda: runs)
    assert len(results.wide()) == len(runs) - 1
    assert len(results.wide(valid=False)) == len(runs)


def test_times_of_a_run_count_from_its_start(results: dl.Campaign) -> None:
    run = results.runs()["run_id"][2]
    spans, whole = results.spans(run), results.evidence(run)
    assert spans["start_ns"].min() == 0
    assert spans["end_ns"].max() == whole["t_end_ns"] - whole["t_start_ns"]
    assert set(results.timeline()["run_id"]) <= set(results.runs()["run_id"])
    assert (results.timeline(run)["t_ns"] >= 0).all()


def test_a_name_that_is_not_there_is_an_error_that_says_which_are(results: dl.Campaign) -> None:
    with pytest.raises(ConfigError) as table:
        results.samples("kernel")
    assert "kernels" in (table.value.hint or "")
    for ask in (results.timeline, results.spans, results.evidence):
        with pytest.raises(ConfigError, match="nosuch"):
            ask("nosuch")
    with dl.open() as lab, pytest.raises(ConfigError):
        lab.results("nosuch")
    with pytest.raises(AttributeError, match="did you mean 'sweep'"):
        dl.sweeep  # noqa: B018


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        dl.open(tmp_path / "none.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_campaigns_are_indexed_by_id_and_narrowed_by_what_is_named(folder: Path) -> None:
    with dl.open() as lab:
        (campaign,) = lab.campaigns().index
        assert lab.campaigns(experiment="old").loc[campaign, "runs_done"] == 8
        for wrong in ({"experiment": "olt"}, {"device": "nosuch"}, {"board": "nosuch"}):
            with pytest.raises(ConfigError, match=r"no .* named") as caught:
                lab.campaigns(**wrong)
            assert "known: " in (caught.value.hint or "")


def test_a_database_without_campaigns_is_an_empty_table(tmp_path: Path) -> None:
    Store.open(tmp_path / "new.sqlite").close()
    with dl.open(tmp_path / "new.sqlite") as lab:
        assert lab.campaigns(device="nobody").empty
        assert list(lab.campaigns(device="nobody").columns) == list(lab.campaigns().columns)


def test_the_howto_draws_its_three_plots(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mpl.use("Agg")
    runpy.run_path(str(ROOT / "docs" / "howto" / "notebook.py"))
    assert {path.name for path in folder.glob("*.png")} == {"inference-by-k.png", "t-prod.png", "one-run.png"}


@pytest.mark.parametrize(
    ("name", "unneeded"),
    [("__version__", "{'pandas', 'sqlalchemy', 'matplotlib', 'pydantic'}"), ("open", "{'matplotlib', 'adbutils'}")],
)
def test_what_is_needed_later_is_not_imported_before(name: str, unneeded: str) -> None:
    code = f"import sys, devicelab; devicelab.{name}; print({unneeded} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
