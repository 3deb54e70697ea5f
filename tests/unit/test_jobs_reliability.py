"""A campaign half of whose runs do not count is none that was done well, and what helps is said."""

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from devicelab.cli import sweep as command
from devicelab.device import choose
from devicelab.device.lab import DeviceEntry
from devicelab.errors import MeasurementError
from devicelab.experiment import files, plan
from devicelab.experiment.remedies import REMEDIES
from devicelab.farm.task import run_task
from devicelab.jobs import sweep as sweeping
from devicelab.jobs.conductor import SweepResult
from devicelab.model.campaign import ENDED, unreliable
from devicelab.model.experiment import Cell
from devicelab.model.journal import Flag
from devicelab.model.night import Farm, JobEntry, Task
from devicelab.report import build
from devicelab.store import Store
from tests import labdata

REFUSED = ("affinity-refused", 18, "load4: the kernel refuses CPUs 4: Invalid argument")


@pytest.mark.parametrize(("invalid", "bad"), [(0, False), (17, False), (18, True), (36, True)])
def test_half_of_the_runs_flagged_is_too_many(invalid: int, bad: bool) -> None:
    assert unreliable(36, invalid) is bad
    assert not unreliable(0, 0)


@pytest.mark.parametrize(("every", "status"), [(0, "complete"), (3, "complete"), (2, "unreliable"), (1, "unreliable")])
def test_a_campaign_half_of_whose_runs_are_flagged_is_not_complete(tmp_path: Path, every: int, status: str) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        campaign = labdata.fill(store, labdata.experiment(repetitions=2), invalid_every=every)
        info = store.campaign(campaign)
        assert (info.status, bool(info.reason)) == (status, status == "unreliable")
        assert info.status in ENDED
        assert store.unfinished(device=info.device) == ()  # nothing is left to be done
        page = build.build_report(store, campaign, tmp_path / "page.html").read_text(encoding="utf-8")
        assert ("Unreliable." in page) == (status == "unreliable")


def swept(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Any:
    done = SweepResult(
        campaign="c", device="phone-1", board="qualcomm", simulated=True, runs=36, planned=36, invalid_cells=(),
        **{"invalid": 18, "reasons": (REFUSED,), **changes},
    )  # fmt: skip
    monkeypatch.setattr(sweeping, "sweep_into", lambda *_, **__: done)
    monkeypatch.setattr(choose, "choose", lambda *_: DeviceEntry(name="phone-1", address="adb:1"))
    app = typer.Typer()
    command.register(app)
    return CliRunner().invoke(app, ["quick"])


def test_a_sweep_half_of_whose_runs_are_flagged_ends_with_what_helps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    result = swept(monkeypatch)
    assert isinstance(result.exception, MeasurementError)
    assert result.exception.exit_code == 6
    assert "18 of 36 runs are flagged" in result.exception.message
    assert "isolation=hold" in str(result.exception.hint)
    assert "what helps:" in result.output
    assert "isolation=hold" in result.output
    assert swept(monkeypatch, invalid=17).exception is None


def test_a_night_with_an_unreliable_campaign_is_not_green(tmp_path: Path) -> None:
    """Two of three repetitions are flagged: every cell has a valid run, and the task is no good one all the same."""
    farm = Farm(name="f", jobs=(JobEntry(experiment="e", devices="phone-1"),))
    of = labdata.experiment(repetitions=3)
    refused = Flag(code="affinity-refused", detail="load4: the kernel refuses CPUs 4")
    with Store.open(tmp_path / "s.sqlite") as store:
        night = store.begin_night(farm)
        cells = labdata.cells(of)
        campaign = store.begin_campaign(
            experiment=of, facts=labdata.facts(), cells=cells, command="", binaries=(), plan_json=None, night=night
        )
        for repetition in range(3):
            for seq, cell in enumerate(cells):
                record = labdata.record(labdata.run_id(campaign, cell, repetition), seq)
                flags = [] if repetition == 2 else [refused]
                store.commit_run(campaign, cell, record, repetition=repetition, measurements={}, flags=flags)
        store.finish_campaign(campaign, "complete")
        task = Task(task_id="1.1", job=0, experiment="e", selector="phone-1", device="phone-1", campaign=campaign)
        store.put_tasks(night, [task])
        entry = DeviceEntry(name=store.campaign(campaign).device, address="adb:1")
        done = run_task(store, farm, night, task, entry, experiment=of)
    assert (done.status, done.exit_code) == ("complete", 6)
    assert f"{2 * len(cells)} of {3 * len(cells)} runs are flagged" in done.reason
    assert f"affinity-refused: {REMEDIES['affinity-refused']}" in done.reason


def pins(cell: Cell, cores: str | None) -> bool:
    return cell.levels.get("placement") not in {None, "free", "-"} or cores not in {None, "0"}


@pytest.mark.parametrize("name", files.known())
def test_a_shipped_experiment_that_pins_holds_the_cores_it_pins_to(name: str) -> None:
    """Core control takes idle big cores away, and an affinity call to one of them fails."""
    experiment = files.load(name)
    cores = experiment.measure.cores if experiment.measure is not None else None
    for cell in plan.cells(experiment):
        if pins(cell, cores):
            assert cell.levels.get("isolation") == "hold", cell.label()


def test_every_remedy_is_for_a_flag_that_the_documents_explain() -> None:
    text = Path(__file__).parents[2].joinpath("docs/howto/when-a-board-misbehaves.md").read_text(encoding="utf-8")
    assert [code for code in REMEDIES if f"`{code}`" not in text] == []
