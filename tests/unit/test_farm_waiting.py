"""What waits for a device, and for how long: nothing is counted twice, and no estimate exceeds the time allowed."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicelab.device.lab import DeviceEntry
from devicelab.farm import estimate, night
from devicelab.farm.job import understood
from devicelab.farm.night import Conductor
from devicelab.farm.schedule import Waiting
from devicelab.farm.selectors import Known
from devicelab.model.experiment import Experiment
from devicelab.model.night import Farm, JobEntry, Task

DEVICES = "abc"


def seconds(task: Task, device: str) -> float:
    return float(int(task.task_id) + DEVICES.index(device))


def alike(task: Task) -> int:
    return task.job


@given(
    st.lists(st.tuples(st.sampled_from([*DEVICES, None]), st.integers(0, 2)), max_size=12),
    st.data(),
)
def test_what_was_taken_waits_no_longer_and_everything_else_does(
    work: list[tuple[str | None, int]], data: st.DataObject
) -> None:
    """Whatever is taken in whatever order: what remains is told as by whoever looks at all of it."""
    rest = [
        Task(task_id=f"{number:02}", job=job, experiment="e", selector="any 1 of tag=x", device=device)
        for number, (device, job) in enumerate(work)
    ]
    waiting = Waiting(reversed(rest), seconds, alike)

    def fits(task: Task, device: str) -> bool:
        return (int(task.task_id) + DEVICES.index(device)) % 3 > 0

    while True:
        assert waiting.left() == rest
        own_s = {name: sum(seconds(task, name) for task in rest if task.device == name) for name in DEVICES}
        assert {name: waiting.own_s(name) for name in DEVICES} == own_s
        assert waiting.eager(DEVICES) == sorted(DEVICES, key=lambda name: (own_s[name], name))
        for name in DEVICES:
            own = [task for task in rest if task.device == name]
            others = [task for task in rest if task.device is None and fits(task, name)]
            firsts = {task.job: task for task in reversed(others)}
            found = waiting.candidates(name, fits)
            assert sorted(task.task_id for task in found) == sorted(task.task_id for task in (*own, *firsts.values()))
        if not rest:
            return
        waiting.remove(rest.pop(data.draw(st.integers(0, len(rest) - 1))))


def conductor(tmp_path: Path, max_s: float | None) -> Conductor:
    farm = Farm(name="f", jobs=(JobEntry(experiment="load_calibration", devices="a", max_s=max_s),))
    pool = {"a": Known(DeviceEntry(name="a", address="adb:a"), "note10")}
    store: Any = SimpleNamespace()
    return Conductor(understood(farm, tmp_path / "farm.toml"), pool, store, night.SILENT)


@pytest.mark.parametrize(("max_s", "lasts_s"), [(None, 100.0), (99.0, 99.0), (100.0, 100.0), (101.0, 100.0)])
def test_a_task_takes_what_is_estimated_and_no_longer_than_its_job_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_s: float | None, lasts_s: float
) -> None:
    asked: list[tuple[str | None, int]] = []

    def of(_self: object, _experiment: Experiment, kind: str | None, cells: int) -> estimate.Estimate:
        asked.append((kind, cells))
        return estimate.Estimate(100.0, "history")

    monkeypatch.setattr(estimate.Estimator, "of", of)
    task = Task(task_id="1.1", job=0, experiment="e", selector="a", cells=("x", "y"))
    conducts = conductor(tmp_path, max_s)
    assert conducts.seconds(task, "a") == lasts_s
    assert conducts.basis(task, "a") == "history"
    assert conducts.seconds(task, "away") == lasts_s
    assert asked == [("note10", 2), ("note10", 2), (None, 2)], "of this kind of board, for the cells that it measures"


@pytest.mark.parametrize(
    ("change", "runs"),
    [
        ({}, (40, 40)),
        ({"cells": ("x", "y")}, (10, 40)),
        ({"confirms": "1.0", "cells": ("x",)}, (5, 0)),
        ({"status": "skipped"}, (0, 0)),
    ],
)
def test_runs_of_a_night_are_counted_as_it_is_dosed_and_as_it_would_be_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], runs: tuple[int, int]
) -> None:
    monkeypatch.setattr(night, "count_runs", lambda _experiment, cells=0: 5 * (cells or 8))
    task = Task(task_id="1.1", job=0, experiment="e", selector="a", device="a").model_copy(update=change)
    assert conductor(tmp_path, None).runs_of([task]) == runs
