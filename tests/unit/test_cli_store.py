"""devicelab report, export and store, as typed."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from devicelab.cli import report, store
from devicelab.errors import CheckFailedError, ConfigError, StoreError
from devicelab.model.measurement import Measurement
from devicelab.store import Store
from tests import hostile, labdata

pytestmark = pytest.mark.slow

app = typer.Typer()
report.register(app)
store.register(app)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICELAB_STORE", str(tmp_path / "lab.sqlite"))
    return tmp_path


def campaign_in(place: Path, **changes: object) -> str:
    with Store.open(place / "lab.sqlite") as opened:
        return labdata.fill(opened, labdata.experiment(repetitions=1), **changes)


def run(*words: str) -> str:
    return CliRunner().invoke(app, list(words), catch_exceptions=False, standalone_mode=False).stdout


def test_a_report_with_everything_beside_it(lab: Path) -> None:
    campaign = campaign_in(lab)
    said = json.loads(run("report", "--to", "page.html", "--junit", "j.xml", "--markdown", "m.md", "--json"))
    assert said["campaign"] == campaign
    assert said["report"] == str(lab / "page.html")
    assert (said["runs"], said["invalid"], said["simulated"]) == (6, 0, True)
    assert all((lab / name).stat().st_size for name in ("page.html", "j.xml", "m.md"))


def test_a_campaign_is_exported_in_both_formats(lab: Path) -> None:
    campaign = campaign_in(lab, invalid_every=3)
    files = run("export", campaign[:-1], "--to", "out", "--format", "both").split()
    assert {Path(name).name for name in files} >= {"campaign.json", "runs.csv", "runs.parquet", "evidence.jsonl"}
    kernels = pd.read_parquet(lab / "out" / "samples-kernels.parquet")
    assert kernels.equals(pd.read_csv(lab / "out" / "samples-kernels.csv").astype(kernels.dtypes))
    assert len(pd.read_csv(lab / "out" / "flags.csv")) == 2
    facts = json.loads((lab / "out" / "campaign.json").read_text())
    assert facts["info"]["device"] == "phone-1"
    lines = (lab / "out" / "evidence.jsonl").read_text().splitlines()
    assert len(lines) == 6
    assert json.loads(lines[0])["event"] == "run"
    assert not list((lab / "out").glob(".*"))


def test_hostile_names_stay_inside_the_folder(lab: Path) -> None:
    with Store.open(lab / "lab.sqlite") as opened:
        campaign = hostile.campaign(opened)
        table = {"/../..": np.array([1]), "": np.array([2.5])}
        measured = Measurement(tables={"../../../escaped": table, "..": table, "a/b": table, "a?b": table})
        cell = opened.cells(campaign)[0]
        record = labdata.record("more")
        opened.commit_run(campaign, cell, record, repetition=9, measurements={"m": measured}, flags=())
        written = opened.export(campaign, lab / "out", "both")
    assert all(path.parent == lab / "out" for path in written)
    assert len(set(written)) == len(written)
    assert {path.name for path in lab.iterdir()} <= {"out", "lab.sqlite"}


def test_lists_and_shows_for_people_and_machines(lab: Path) -> None:
    campaign = campaign_in(lab)
    assert campaign in run("store", "list")
    assert campaign in run("store", "list", "--board", "note10")
    assert "phone-1" in run("store", "show")
    assert [info["campaign"] for info in json.loads(run("store", "list", "--json"))["campaigns"]] == [campaign]
    shown = json.loads(run("store", "show", "--json"))
    assert (shown["status"], len(shown["cells"])) == ("complete", 6)
    assert json.loads(run("store", "list", "--board", "nobody", "--json")) == {"campaigns": []}


def test_a_sound_store_passes_its_check_and_a_damaged_one_does_not(lab: Path) -> None:
    campaign_in(lab)
    assert json.loads(run("store", "check", "--json"))["ok"] is True
    assert json.loads(run("store", "vacuum", "--json"))["freed_bytes"] >= 0
    with Store.open(lab / "lab.sqlite") as opened, opened._writer.begin() as connection:
        connection.exec_driver_sql("UPDATE evidence SET data = zeroblob(5) WHERE run = 1")
    with pytest.raises(CheckFailedError, match="1 problems"):
        run("store", "check")


@pytest.mark.parametrize("words", [("store", "list"), ("report",), ("export",), ("store", "check")])
def test_without_a_store_a_reader_says_so(lab: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(StoreError, match="no results database"):
        run(*words)
    assert not list(lab.iterdir())


def test_an_unknown_campaign_is_named(lab: Path) -> None:
    campaign_in(lab)
    with pytest.raises(ConfigError, match="no campaign 'x'"):
        run("report", "x")
