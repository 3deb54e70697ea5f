"""What version 0.1.0 made still opens, goes on and comes in, and ids are what they were (tests/data/version-0.1.0).

The complete campaign, the one whose host was killed after three of eight runs, and the bundle's result are of the same
experiment, ``old.toml``, with the emulated GPU.
"""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from devicelab.device.lab import DeviceEntry
from devicelab.experiment import files, plan
from devicelab.jobs.import_ import import_result
from devicelab.jobs.sweep import conclude, sweep
from devicelab.store import Store

OLD = Path(__file__).resolve().parents[1] / "data" / "version-0.1.0"

COMPLETE, UNFINISHED, BUNDLED = "20261130-174329-cfd7bc", "20261130-174336-a02103", "20261130-174414-ee05e8"

CELLS = {
    "load=none, k=1": "8e870cab93695aae",
    "load=none, k=4": "6e585d348f5aef54",
    "load=1000 5000 20, placement=one-big, k=1": "29aa256f687cf6fe",
    "load=1000 5000 20, placement=one-big, k=4": "5d597b33369662bb",
}
# In the order in which they were performed.
RUNS = {
    COMPLETE: (
        "fb7b176f071ddd99", "a0aad42ecb5e7407", "1da103422108cc0a", "ed817fab78bf8c77",
        "68a807ec55cac903", "c99f3f7422b7b235", "8ae0b377469ff006", "a83d2fb5073d3928",
    ),
    UNFINISHED: ("be84799e7ce14482", "00e7f61944c83a58", "716fa06d02dbd45c"),
}  # fmt: skip

Unpack = Callable[[str], Path]


@pytest.fixture
def unpack(tmp_path: Path) -> Unpack:
    """A copy of an old file, unpacked."""

    def unpacked(name: str) -> Path:
        path = tmp_path / name
        with gzip.open(OLD / f"{name}.gz") as packed, path.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
        return path

    return unpacked


def test_cells_and_runs_of_an_old_experiment_have_the_ids_they_had() -> None:
    experiment = files.load(str(OLD / "old.toml"))
    cells = plan.cells(experiment)
    assert {cell.label(): cell.cell_id for cell in cells} == CELLS
    order = plan.order(cells, experiment.repetitions, experiment.seed)
    for campaign, known in RUNS.items():
        runs = [plan.content_id(campaign, cell.cell_id, str(repetition)) for cell, repetition in order]
        assert tuple(runs)[: len(known)] == known


def test_an_old_campaign_reads_and_concludes_as_it_did(unpack: Unpack, tmp_path: Path) -> None:
    with Store.open(unpack("complete.sqlite")) as store:
        before = store.findings(COMPLETE)
        runs = store.results(COMPLETE).runs()
        assert tuple(runs["run_id"]) == RUNS[COMPLETE]
        assert {(row.cell_id, row.repetition) for row in runs.itertuples()} == {
            (c, r) for c in CELLS.values() for r in (0, 1)
        }
        assert len(before) == 22
        findings, page = conclude(store, store.results(COMPLETE), tmp_path / "page")
        assert {one.analysis for one in findings} == {"klo", "load"}
        assert store.experiment(COMPLETE).question in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_old_unfinished_campaign_goes_on_and_every_run_is_done_once(
    unpack: Unpack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A machine that runs tests is not idle, and the old file's plan has no bound to set.
    monkeypatch.setattr("devicelab.experiment.foreign.flags", lambda *_: ())
    entry = DeviceEntry(name="local", address="local:", dir=str(tmp_path / "there"))
    with Store.open(unpack("unfinished.sqlite")) as store:
        planned = [run["run_id"] for one in json.loads(store.plan_json(UNFINISHED) or "[]") for run in one["runs"]]
        before = store.results(UNFINISHED).runs()
        done = sweep(files.load(str(OLD / "old.toml")), entry, store, resume=True, report_to=tmp_path / "page")
        assert (done.campaign, done.runs, done.planned) == (UNFINISHED, 8, 8)
        assert store.campaign(UNFINISHED).status == "complete"
        runs = store.results(UNFINISHED).runs()
        assert sorted(runs["run_id"]) == sorted(planned)
        old = runs[runs["run_id"].isin(RUNS[UNFINISHED])]
        assert tuple(old["t_unix_ns"]) == tuple(before["t_unix_ns"])


def test_the_result_of_an_old_bundle_comes_in(unpack: Unpack, tmp_path: Path) -> None:
    with Store.open(tmp_path / "new.sqlite") as store:
        imported = import_result(unpack("result.tar"), store)
        assert (imported.campaign, imported.new, imported.damaged) == (BUNDLED, 8, 0)
        assert store.campaign(BUNDLED).status == "complete"
        assert {cell.label(): cell.cell_id for cell in store.cells(BUNDLED)} == CELLS
        assert bool(store.results(BUNDLED).runs()["valid"].all())
