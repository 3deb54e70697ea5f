"""Campaigns and nights beside each other: what is done to one changes nothing that is told of another."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from devicelab.errors import StoreError
from devicelab.model.campaign import BinaryInfo
from devicelab.model.experiment import Experiment, Finding
from devicelab.model.journal import Flag
from devicelab.model.measurement import Measurement, Metric
from devicelab.model.night import CellVerdict, Farm, Health, JobEntry, Task
from devicelab.model.results import SYSTEM_TRACE
from devicelab.store import Store
from tests import labdata, nightdata
from tests.nightdata import History

KLO = labdata.experiment(factors={"load": tuple(labdata.LOADS)[:2]}, repetitions=2)
PAIR = labdata.experiment(name="pair", factors={"load": tuple(labdata.LOADS)[1:], "k": (2,)}, repetitions=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with labdata.new_store(tmp_path / "s.sqlite") as opened:
        yield opened


def said(number: int, *, emulated: bool) -> Measurement:
    tables = {"kernels": {"a": np.arange(3) + number}, f"own-{number}": {"b": np.arange(2)}}
    figures = {"total_ns": Metric(100.0 + number, "ns"), f"own_{number}": Metric(1.0, "1")}
    info = {"driver": f"driver {number}", "of": number}
    return Measurement(metrics=figures, tables=tables, info=info, simulated=emulated)


def campaign(store: Store, of: Experiment, number: int, night: str | None = None) -> str:
    """A campaign of which everything is another's: device, cells, programs, figures, tables, flags, findings."""
    cells, name = labdata.cells(of), f"c-{number}"
    binary = BinaryInfo(name=f"program-{number}", sha256=f"{number}" * 64, target="t", toolchain="z", compiler="c")
    store.begin_campaign(
        experiment=of, facts=labdata.facts(name=f"phone-{number}", kernel=f"kernel {number}"), cells=cells,
        command=f"command {number}", binaries=[*labdata.binaries()[:1], binary], plan_json=f'{{"plan": {number}}}',
        night=night, campaign=name,
    )  # fmt: skip
    for seq, (repetition, cell) in enumerate((r, cell) for r in range(of.repetitions) for cell in cells):
        run = labdata.run_id(name, cell, repetition)
        store.commit_run(
            name, cell, labdata.record(run, seq, stdout=f"{name} says {seq}"), repetition=repetition,
            measurements={
                "measure": said(number, emulated=number == 2), f"beside-{number}": said(number, emulated=False)
            },
            flags=[Flag(code=f"flag-{number}", detail=f"run {seq}")] if seq == 1 else (),
        )  # fmt: skip
        store.keep_output(name, run, SYSTEM_TRACE, f"trace {seq}".encode())
    store.add_findings(name, [Finding(analysis="load", claim=f"claim {number}", verdict="fail", reasons=("a", "b"))])
    store.finish_campaign(name, "complete", f"reason {number}")
    return name


def told(store: Store, name: str) -> dict[str, Any]:
    """Everything that can be asked about a campaign."""
    results = store.results(name)
    runs = results.runs()
    return {
        "info": results.info, "experiment": store.experiment(name), "facts": store.facts(name),
        "plan": store.plan_json(name), "cells": store.cells(name), "binaries": store.binaries(name),
        "findings": store.findings(name), "done": store.done_runs(name), "runs": runs, "metrics": results.metrics(),
        "samples": {table: results.samples(table) for table in results.tables()},
        "outputs": [
            (results.output(run, program), results.pruned(run, program))
            for run in runs["run_id"] for program in ("measure", SYSTEM_TRACE)
        ],
        "evidence": [results.evidence(run) for run in runs["run_id"]],
        "listed": [store.campaigns(device=results.info["device"]), store.campaigns(experiment=results.experiment.name)],
        "unfinished": store.unfinished(device=results.info["device"]),
    }  # fmt: skip


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return bool(one.equals(other) if isinstance(one, pd.DataFrame) else one == other)


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [name for name in one if not same(one[name], other[name])]


DEEDS: list[Callable[[Store, str], object]] = [
    lambda store, name: store.finish_campaign(name, "failed", "later", elsewhere=True),
    lambda store, name: store.plan_runs(name, 77),
    lambda store, name: store.add_findings(name, [Finding(analysis="load", claim="another", verdict="no")]),
    lambda store, name: store.keep_output(name, min(store.done_runs(name)), "measure", b"other words"),
    lambda store, name: store.thin_samples(name),
]


def test_what_is_done_to_a_campaign_is_seen_in_it_and_in_no_other(store: Store) -> None:
    campaign(store, KLO, 1)
    first = told(store, "c-1")
    assert (len(first["runs"]), first["info"]["runs_done"], first["info"]["runs_planned"]) == (4, 4, 4)
    assert first["info"]["gpu_driver"] == "driver 1"
    assert (first["info"]["emulated"], first["info"]["simulated"]) == ((), False)
    assert list(first["info"]["programs"]) == ["beside-1", "measure"]
    campaign(store, PAIR, 2)
    second = told(store, "c-2")
    assert differences(first, told(store, "c-1")) == []
    assert not any(same(first[name], second[name]) for name in first if name != "unfinished")
    assert (second["info"]["emulated"], second["info"]["simulated"]) == (("measure",), True)
    for deed in DEEDS:
        deed(store, "c-2")
    assert differences(first, told(store, "c-1")) == []
    after = told(store, "c-2")
    assert {"info", "findings", "outputs", "unfinished"} <= set(differences(second, after))
    assert (after["info"]["runs_planned"], after["info"]["status"], after["info"]["reason"]) == (77, "failed", "later")
    assert [finding.claim for finding in after["findings"]] == ["another"]
    assert sum(words == b"other words" for words, _ in after["outputs"]) == 1
    assert store.check().problems == ()


def test_samples_are_dropped_with_the_system_s_trace_and_no_program_s_words(store: Store) -> None:
    campaign(store, KLO, 1)
    before = told(store, "c-1")
    assert store.thin_samples("c-1") == 4 * 2 * (3 + 2)
    after = told(store, "c-1")
    assert differences(before, after) == ["info", "samples", "outputs", "listed"]
    assert after["samples"] == {}
    assert after["info"]["dropped_samples"] == {"kernels": 24, "own-1": 16}
    said, traces = after["outputs"][::2], after["outputs"][1::2]
    assert said == before["outputs"][::2]
    assert traces == [(b"", True)] * 4


def test_a_run_measured_after_samples_were_dropped_has_its_own(store: Store) -> None:
    campaign(store, KLO, 1)
    store.thin_samples("c-1")
    cell = labdata.cells(KLO)[0]
    for name, number in (("late", 5), ("later", 6)):
        store.commit_run(
            "c-1", cell, labdata.record(name), repetition=3,
            measurements={"measure": said(1, emulated=False)}, flags=(),
        )  # fmt: skip
        assert store.campaign("c-1").runs_done == number
    assert store.check().problems == ()
    with store._writer.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO samples SELECT 1, program, name, rows, sha256, data FROM samples"
            " WHERE run = 5 AND name = 'kernels'"
        )
    (problem,) = store.check().problems
    assert problem.endswith("(kernels): there, but noted as dropped")


# --- nights --------------------------------------------------------------------------------------------------------

FARM = Farm(name="f", jobs=(JobEntry(experiment="e", devices="d"),))


def task(number: int, **more: Any) -> Task:
    return Task(task_id=f"t{number}", job=0, experiment="e", selector="tag=x", device=f"phone-{number}", **more)


def verdict(night: str, number: int, **more: Any) -> CellVerdict:
    fields = {
        "night": night, "experiment": "pair", "cell_id": f"c{number}", "cell": f"cell {number}", "device": "a",
        "program": "p", "metric": "m", "unit": "ns", "verdict": "regression", "shift_pct": 1.0, "low_pct": 0.5,
        "high_pct": 1.5, "n": 5, "n_baseline": 15, **more,
    }  # fmt: skip
    return CellVerdict.model_validate(fields)


def night(store: Store, number: int) -> str:
    name = store.begin_night(FARM.model_copy(update={"name": f"f{number}"}), night=f"n-{number}")
    own = campaign(store, PAIR, number, name)
    store.put_tasks(name, [task(number, status="complete", campaign=own), task(number + 10), task(number + 20)])
    store.put_verdicts(name, [verdict(name, number), verdict(name, number + 10, verdict="unchanged")])
    store.add_health(Health(device=f"phone-{number}", night=name, ok=True, at_unix_ns=number))
    store.finish_night(name, "complete", 0)
    return name


def of_night(store: Store, name: str) -> dict[str, Any]:
    """Everything that can be asked about a night."""
    (size,) = (one for one in store.night_sizes() if one.night == name)
    return {
        "info": store.night(name), "tasks": store.tasks(name), "campaigns": store.night_campaigns(name),
        "listed": store.campaigns(night=name), "health": store.health(night=name),
        "verdicts": store.verdicts(night=name), "counts": store.night_counts()[name],
        "flags": store.night_flags(name), "findings": store.night_findings(name), "size": size,
        "simulated": store.simulated_campaigns(name), "figures": sorted(store.figures([name]).value.tolist()),
        "series": store.nights(farm=store.night(name).farm), "last": store.last_begun(store.night(name).farm),
    }  # fmt: skip


NIGHT_DEEDS: list[Callable[[Store, str], object]] = [
    lambda store, name: store.finish_night(name, "failed", 7),
    lambda store, name: store.put_tasks(name, [task(2, reason="again"), task(99)]),
    lambda store, name: store.claim_task(name, "t12", "waiting", task(12, status="running")),
    lambda store, name: store.put_verdicts(name, [verdict(name, 5)]),
    lambda store, name: store.add_health(Health(device="z", night=name, ok=False, at_unix_ns=9)),
    lambda store, _: store.add_findings("c-2", [Finding(analysis="load", claim="fine", verdict="pass")]),
    lambda store, _: store.thin_samples("c-2"),
]


def test_what_is_done_to_a_night_is_seen_in_it_and_in_no_other(store: Store) -> None:
    night(store, 1)
    first = of_night(store, "n-1")
    assert first["flags"] == (("phone-1", "pair", "flag-1", 1, "run 1"),)
    assert first["findings"] == (("c-1", "phone-1", "pair", "claim 1", "a; b"),)
    assert first["simulated"] == frozenset()
    assert len(first["figures"]) == 4, "of the run that is not flagged"
    night(store, 2)
    second = of_night(store, "n-2")
    assert differences(first, of_night(store, "n-1")) == []
    assert not any(same(first[name], second[name]) for name in first)
    assert second["simulated"] == {"c-2"} == store.simulated_campaigns()
    assert (first["counts"].simulated, second["counts"].simulated) == (False, True)
    assert second["counts"].tasks == {"complete": 1, "waiting": 2}
    assert second["counts"].verdicts == {"regression": 1, "unchanged": 1}
    assert second["counts"].devices == ("phone-12", "phone-2", "phone-22")
    marks = {store.night_counts()["n-2"].mark}
    for deed in NIGHT_DEEDS:
        deed(store, "n-2")
        marks.add(store.night_counts()["n-2"].mark)
    assert len(marks) == 1 + len(NIGHT_DEEDS), "a night's mark tells of whatever happens to it"
    assert set(first) - set(differences(second, of_night(store, "n-2"))) == {"flags", "simulated", "figures"}
    assert [one.task_id for one in store.tasks("n-2")] == ["t2", "t12", "t22", "t99"]
    store.delete_night("n-2")
    assert differences(first, of_night(store, "n-1")) == []
    with pytest.raises(StoreError):
        store.night("n-2")
    assert store.check().problems == ()


OTHERS: list[dict[str, Any]] = [
    *({"shift_pct": 1.001}, {"low_pct": 0.501}, {"high_pct": 1.501}, {"n": 6}, {"n_baseline": 16}),
    *({"confirmed": True}, {"since": "n-0"}, {"causes": ("a",)}, {"verdict": "improvement"}),
]


def test_a_verdict_that_is_another_one_changes_the_mark_of_its_night(store: Store) -> None:
    name = store.begin_night(FARM)
    marks = []
    for changed in ({}, *OTHERS, {}):
        store.put_verdicts(name, [verdict(name, 0, **changed), verdict(name, 1)])
        marks.append(store.night_counts()[name].mark)
    assert marks[0] == marks[-1]
    assert len(set(marks)) == 1 + len(OTHERS)


def test_figures_and_verdicts_of_many_nights_are_those_of_their_experiment(store: Store) -> None:
    """Medians are what the campaigns' own frames give; verdicts come oldest first, and what moved newest first."""
    histories = [
        History(nights=3, devices=("a", "b"), cells=2, repetitions=4, invalid_every=5),
        History(farm="other", experiment="pair", nights=2, first=10, devices=("a",), cells=2, repetitions=3, seed=5),
    ]
    put: list[CellVerdict] = []
    nights = [(of, nightdata.fill(store, of)) for of in histories]
    words = itertools.cycle(["regression", "unchanged", "improvement", "too noisy"])
    for of, ids in nights:
        for number, name in enumerate(ids, of.first):
            keys = itertools.product(range(of.cells), range(len(of.devices)))
            said = [nightdata.verdict(of, number, *key, verdict=next(words)) for key in keys]
            store.put_verdicts(name, said)
            put += said
    for of, ids in nights:
        expected: dict[tuple[str, str, str], tuple[int, float]] = {}
        for name in ids:
            for info in store.night_campaigns(name):
                results = store.results(info.campaign)
                runs = results.runs()
                both = results.metrics().merge(runs[runs["valid"]], on="run_id")
                for cell, values in both.groupby("cell_id")["value"]:
                    expected[name, info.device, str(cell)] = (len(values), values.median())
        frame = store.night_medians(of.experiment)
        keys_ = zip(frame["night"], frame["device"], frame["cell_id"], strict=True)
        assert dict(zip(keys_, zip(frame["n"], frame["median"], strict=True), strict=True)) == expected
        assert list(dict.fromkeys(frame["night"])) == list(ids)
        assert len(store.night_medians(of.experiment, [("measure", of.metric)])) == len(frame)
        assert store.night_medians(of.experiment, [("measure", "other")]).empty
        told = store.verdict_frame(of.experiment)
        own = [one for one in put if one.experiment == of.experiment]
        assert list(zip(told["night"], told["device"], told["cell_id"], told["verdict"], strict=True)) == [
            (one.night, one.device, one.cell_id, one.verdict) for one in own
        ]
    moved = [one for one in put if one.device == "a" and one.verdict in {"regression", "improvement"}]
    assert {(one.night, one.cell_id) for one in store.moved("a")} == {(one.night, one.cell_id) for one in moved}
    order = [one.night for one in store.moved("a")]
    started = {info.night: info.started_unix_ns for info in store.nights()}
    assert order == sorted(order, key=lambda name: -started[name])
    assert store.moved("a", limit=2) == store.moved("a")[:2]
