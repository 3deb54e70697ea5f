"""What goes into the store comes out again, once, in order, by whichever way it is asked for."""

import json
import stat
import threading
from pathlib import Path

import numpy as np
import pytest

from devicelab.errors import ConfigError, StoreError
from devicelab.model.experiment import Cell, Finding
from devicelab.model.journal import Flag, ProgramResult
from devicelab.model.measurement import Measurement, Metric
from devicelab.store import Store
from tests import labdata


@pytest.fixture
def store(tmp_path: Path) -> Store:
    with Store.open(tmp_path / "lab.sqlite") as opened:
        yield opened


def commit(store: Store, campaign: str, cell: Cell, identity: str, **changes: object) -> bool:
    arguments = {"measurements": {"measure": labdata.measurement(1)}, "flags": (), "repetition": 0, **changes}
    given = arguments.pop("record", labdata.record(identity))
    return store.commit_run(campaign, cell, given, **arguments)


def test_a_new_store_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    with Store.open(tmp_path / "new" / "lab.sqlite") as store:
        labdata.begin(store)
        for path in (tmp_path / "new").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_place_comes_from_the_environment_or_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEVICELAB_STORE", raising=False)
    Store.open().close()
    assert (tmp_path / "devicelab.sqlite").exists()
    monkeypatch.setenv("DEVICELAB_STORE", str(tmp_path / "other%20?#.sqlite"))
    Store.open().close()
    assert (tmp_path / "other%20?#.sqlite").exists()


def test_a_missing_store_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no results database"):
        Store.open(tmp_path / "lab.sqlite", create=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "http://example.org/x", "postgresql://[::bad"])
def test_a_url_of_another_kind_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Store.open(url)
    assert "secret" not in str(caught.value)


def test_a_campaign_is_described_as_it_was_begun(store: Store) -> None:
    campaign = labdata.begin(store)
    info = store.campaign()
    assert info.campaign == campaign
    assert (info.status, info.device, info.board, info.experiment) == ("running", "phone-1", "note10", "klo_under_load")
    assert (info.runs_planned, info.runs_done, info.ended_unix_ns) == (30, 0, None)
    assert store.experiment(campaign) == labdata.experiment()
    assert store.cells(campaign) == labdata.cells(labdata.experiment())
    assert store.plan_json(campaign) == '{"plan_version": 1}'
    assert store.binaries(campaign) == labdata.binaries()
    facts = store.facts(campaign)
    assert facts.model_dump() == labdata.facts().model_dump()
    assert facts.cpus_online == (0, 1, 2, 3)


def test_campaign_ids_sort_by_time(store: Store) -> None:
    times = [labdata.begin(store)[:15] for _ in range(3)]
    assert times == sorted(times)


def test_an_id_chosen_before_is_kept_and_taken_once(store: Store) -> None:
    of = labdata.experiment()
    arguments = {"experiment": of, "facts": labdata.facts(), "cells": labdata.cells(of), "command": "", "binaries": ()}
    assert store.begin_campaign(**arguments, plan_json=None, campaign="20261122-101500-3f2a") == "20261122-101500-3f2a"
    with pytest.raises(StoreError, match="stored already"):
        store.begin_campaign(**arguments, plan_json=None, campaign="20261122-101500-3f2a")


def test_a_run_is_stored_once(store: Store) -> None:
    campaign = labdata.begin(store)
    cell = store.cells(campaign)[0]
    assert commit(store, campaign, cell, "run-1")
    assert not commit(store, campaign, cell, "run-1", flags=[Flag(code="later", detail="ignored")])
    assert store.done_runs(campaign) == {"run-1"}
    assert (store.campaign().runs_done, store.campaign().runs_invalid) == (1, 0)
    assert len(store.results(campaign).runs()) == 1


def test_many_threads_store_every_run_exactly_once(store: Store, tmp_path: Path) -> None:
    campaign = labdata.begin(store)
    cell = store.cells(campaign)[0]
    stored: list[str] = []

    def work(offset: int, own: Store) -> None:
        for i in range(12):
            identity = f"run-{(i + offset) % 12}"
            if commit(own, campaign, cell, identity):
                stored.append(identity)

    with Store.open(tmp_path / "lab.sqlite") as second:
        threads = [threading.Thread(target=work, args=(3 * i, (store, second)[i % 2])) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(stored) == sorted(f"run-{i}" for i in range(12))
    assert store.campaign().runs_done == 12
    assert store.check().problems == ()


def test_stores_opened_at_the_same_time_make_the_schema_once(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            Store.open(tmp_path / "lab.sqlite").close()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_flags_from_everywhere_make_a_run_invalid(store: Store) -> None:
    campaign = labdata.begin(store)
    cell = store.cells(campaign)[0]
    agent = Flag(code="load-died", detail="pid 7")
    parser = Flag(code="out-of-order", detail="kernel 3")
    host = Flag(code="frequency-moved", detail="900000 kHz for 0.2 s")
    commit(
        store,
        campaign,
        cell,
        "run-1",
        record=labdata.record("run-1", flags=[agent]),
        measurements={"measure": Measurement(flags=(parser,))},
        flags=[host, agent],
    )
    runs = store.results(campaign).runs()
    assert runs["flags"].tolist() == [(agent, parser, host)]
    assert runs["valid"].tolist() == [False]
    assert store.campaign().runs_invalid == 1


def test_a_remark_is_kept_and_the_run_counts(store: Store) -> None:
    campaign = labdata.begin(store)
    remark = Flag(code="timestamps-out-of-order", detail="1 of 560 kernels", remark=True)
    commit(store, campaign, store.cells(campaign)[0], "run-1", measurements={"measure": Measurement(flags=(remark,))})
    runs = store.results(campaign).runs()
    assert [flag.detail for flag in runs["flags"].iloc[0]] == [remark.detail]
    assert runs["valid"].tolist() == [True]


def test_a_run_that_could_not_be_performed_is_invalid_without_flags(store: Store) -> None:
    campaign = labdata.begin(store)
    failed = labdata.record("run-1").model_copy(update={"status": "failed"})
    commit(store, campaign, store.cells(campaign)[0], "run-1", record=failed, measurements={})
    assert store.results(campaign).runs()["valid"].tolist() == [False]


def test_frames_hold_what_was_measured(store: Store) -> None:
    campaign = labdata.fill(store)
    results = store.results(campaign)
    runs = results.runs()
    assert len(runs) == 30
    assert runs["k"].tolist()[:6] == [1, 4] * 3
    assert set(runs["load"]) == set(labdata.LOADS)
    assert runs["valid"].dtype == bool
    assert runs["t_unix_ns"].is_monotonic_increasing

    first = labdata.measurement(0, k=1, use=0.04)
    metrics = results.metrics()
    mine = metrics[metrics["run_id"] == runs["run_id"][0]].set_index("metric")
    assert mine.loc["total_ns", "value"] == first.metrics["total_ns"].value
    assert mine.loc["total_ns", "unit"] == "ns"

    kernels = results.samples("kernels")
    assert len(kernels) == 30 * 8 * 12
    mine = kernels[kernels["run_id"] == runs["run_id"][0]]
    assert np.array_equal(mine["queued_ns"], first.tables["kernels"]["queued_ns"])
    assert results.tables() == ("inferences", "kernels")
    assert results.samples("requests").empty


def test_frames_cannot_be_changed_for_others(store: Store) -> None:
    results = store.results(labdata.fill(store, labdata.experiment(repetitions=1)))
    runs, kernels = results.runs(), results.samples("kernels")
    runs["valid"] = False
    kernels.loc[0, "end_ns"] = 0
    assert results.runs()["valid"].all()
    assert (results.samples("kernels")["end_ns"] > 0).all()


def test_tables_of_unlike_versions_are_joined(store: Store) -> None:
    campaign = labdata.begin(store)
    cell = store.cells(campaign)[0]
    commit(store, campaign, cell, "old", measurements={"m": Measurement(tables={"t": {"a": np.array([1])}})})
    newer = Measurement(tables={"t": {"a": np.array([2, 3]), "b": np.array([0.5, 0.6])}})
    commit(store, campaign, cell, "new", measurements={"m": newer})
    frame = store.results(campaign).samples("t").sort_values("a")
    assert frame["run_id"].tolist() == ["old", "new", "new"]
    assert frame["b"].fillna(-1).tolist() == [-1, 0.5, 0.6]


def test_a_figure_that_is_not_a_number_stays_one(store: Store) -> None:
    campaign = labdata.begin(store)
    figures = {"a": Metric(float("nan"), "ns"), "b": Metric(float("inf"), "ns")}
    commit(store, campaign, store.cells(campaign)[0], "r", measurements={"m": Measurement(metrics=figures)})
    values = store.results(campaign).metrics().set_index("metric")["value"]
    assert np.isnan(values["a"])
    assert values["b"] == np.inf


def test_evidence_comes_without_output_and_output_byte_for_byte(store: Store) -> None:
    campaign = labdata.begin(store)
    record = labdata.record("r", stdout="line\n" * 3)
    commit(store, campaign, store.cells(campaign)[0], "r", record=record)
    results = store.results(campaign)
    evidence = results.evidence("r")
    assert evidence["steps"][0]["after"] == "1612800"
    assert evidence["samples"]["nodes"][labdata.FREQUENCY][0] == "1612800"
    assert "stdout" not in evidence["programs"][0]
    assert results.output("r", "measure") == b"line\n" * 3
    assert results.output("r", "nobody") == b""
    with pytest.raises(StoreError, match="no run"):
        results.evidence("other")


def test_output_that_does_not_fit_its_checksum_flags_the_run(store: Store) -> None:
    campaign = labdata.begin(store)
    program = ProgramResult(name="measure", role="measure", pid=1, stdout="x", stdout_sha256="0" * 64)
    record = labdata.record("r").model_copy(update={"programs": (program,)})
    commit(store, campaign, store.cells(campaign)[0], "r", record=record)
    runs = store.results(campaign).runs()
    assert [flag.code for flag in runs["flags"][0]] == ["output-damaged"]


def test_info_says_what_ran_on_what(store: Store) -> None:
    info = store.results(labdata.fill(store, labdata.experiment(repetitions=1))).info
    assert info["device"] == "phone-1"
    assert info["board_title"] == "Galaxy Note10"
    assert info["os_build"] == "samsung/d1/d1:12/SP1A"
    assert info["binaries"] == {"agent": "a" * 64, "klo": "b" * 64}
    assert info["gpu_driver"] == "1.0"
    assert info["emulated"] == ("measure",)
    assert info["simulated"] is True


def test_hostile_text_from_a_device_is_stored_as_text(store: Store) -> None:
    campaign = labdata.begin(store, name="<script>alert(1)</script>", kernel="a\0b'; DROP TABLE runs; --")
    bad = Measurement(
        metrics={"'); DROP TABLE runs; --": Metric(1.0, "\0")},
        tables={"../../etc": {"\0col": np.array([1])}},
        info={"device": "\udc80 surrogate"},
        flags=(Flag(code="x\0", detail="<b>"),),
    )
    record = labdata.record("r").model_copy(update={"seq": 1 << 80, "t_unix_ns": -(1 << 90)})
    assert commit(store, campaign, store.cells(campaign)[0], "r", record=record, measurements={"m": bad})
    results = store.results(campaign)
    assert results.metrics()["metric"].tolist() == ["'); DROP TABLE runs; --"]
    assert results.tables() == ("../../etc",)
    assert store.check().ok


def test_a_campaign_is_found_by_prefix_or_as_the_latest(store: Store) -> None:
    with pytest.raises(ConfigError, match="no campaign is stored"):
        store.campaign()
    first, second = sorted(labdata.begin(store) for _ in range(2))
    assert store.campaign(first).campaign == first
    assert store.campaign().campaign == second
    with pytest.raises(ConfigError, match="several"):
        store.campaign(first[:4])
    with pytest.raises(ConfigError, match="no campaign '%'"):
        store.campaign("%")


def test_lists_are_narrowed(store: Store) -> None:
    here = labdata.begin(store)
    there = labdata.begin(store, labdata.experiment(name="other"), name="phone-2")
    assert {info.campaign for info in store.campaigns()} == {here, there}
    assert [info.campaign for info in store.campaigns(device="phone-2")] == [there]
    assert [info.campaign for info in store.campaigns(experiment="klo_under_load")] == [here]
    assert len(store.campaigns(limit=1)) == 1
    assert store.campaigns(night="n") == ()


def test_what_is_not_complete_is_unfinished(store: Store) -> None:
    done, cut, running = (labdata.begin(store) for _ in range(3))
    store.finish_campaign(done, "complete")
    store.finish_campaign(cut, "interrupted", "Ctrl-C")
    assert {info.campaign for info in store.unfinished(device="phone-1")} == {cut, running}
    assert store.unfinished(device="phone-1", experiment="other") == ()
    assert store.unfinished(device="phone-2") == ()
    assert store.campaign(cut).reason == "Ctrl-C"
    store.finish_campaign(cut, "complete")
    assert {info.campaign for info in store.unfinished(device="phone-1")} == {running}


def test_findings_of_an_analysis_replace_its_earlier_ones(store: Store) -> None:
    campaign = labdata.begin(store)
    load = Finding(analysis="load", claim="CPU use", verdict="info", estimate=43.0, unit="pct", n=5, reasons=("a", "b"))
    klo = Finding(analysis="klo", claim="K moves", verdict="no")
    store.add_findings(campaign, [load, klo])
    again = load.model_copy(update={"estimate": 44.0})
    store.add_findings(campaign, [again])
    store.add_findings(campaign, [])
    assert store.findings(campaign) == (klo, again)


def test_an_unknown_campaign_is_an_error(store: Store) -> None:
    cell = labdata.cells(labdata.experiment())[0]
    with pytest.raises(StoreError, match="no campaign"):
        commit(store, "nothing", cell, "r")
    with pytest.raises(StoreError, match="no campaign"):
        store.finish_campaign("nothing", "failed")


def test_what_is_no_number_cannot_be_a_sample(store: Store) -> None:
    campaign = labdata.begin(store)
    table = {"a": np.arange(2), "b": np.arange(3)}
    with pytest.raises(StoreError, match="unequal length"):
        commit(store, campaign, store.cells(campaign)[0], "r", measurements={"m": Measurement(tables={"t": table})})
    assert store.done_runs(campaign) == frozenset()


def test_a_cell_found_only_later_still_shows_its_levels(store: Store) -> None:
    campaign = labdata.begin(store)
    late = Cell(levels={"load": "none", "k": 99, "valid": True}, measured="klo")
    commit(store, campaign, late, "r")
    runs = store.results(campaign).runs()
    assert runs["k"].tolist() == [99]
    assert runs["factor_valid"].tolist() == [True]
    assert json.loads(json.dumps(runs["cell"][0])) == late.label()
