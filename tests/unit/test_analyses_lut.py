"""Launch cost tables: measured, kept with provenance, refused where they do not fit; the plan made with them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from devicelab.analyses import lut
from devicelab.analyses.klo import data as klo_data
from devicelab.analyses.klo.condition import WORST_RESIDUAL_PCT
from devicelab.analyses.klo.model import LaunchCosts, best_constant
from devicelab.analyses.lut.plan import plan
from devicelab.analyses.lut.table import DAY_NS
from devicelab.cli import klo as klo_cli
from devicelab.errors import ConfigError
from devicelab.model.experiment import Finding
from devicelab.store import Store
from devicelab.workloads import klo
from tests.klodata import Board, FrameResults, Levels, Truth, campaign

TRUTH = Truth(np.full(24, 8_000.0), np.full(24, 14_000.0), LaunchCosts(5_000.0, 30_000.0, 15_000.0))
POLICY0 = "/sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq"
INFO = {
    "device": "phone-1",
    "board": "note10",
    "gpu_driver": "OpenCL 2.0 v1.r19p0",
    "os_build": "samsung/d1/d1:12/SP1A",
    "kernel": "4.14.113",
    "version": "0.1.0",
    "simulated": True,
    "start_unix_ns": 1_700_000_000_000_000_000,
    "programs": {
        "measure": {"backend": "emulated", "device": "emulated GPU", "network": "mobilenet_v1", "kernels": 24}
    },
}


def slow_at_min(levels: Levels) -> float:
    return 3.0 if levels.get("cpu") == "min" else 1.0


@pytest.fixture(scope="module")
def results() -> FrameResults:
    found = campaign(
        TRUTH,
        {"cpu": ("min", "max"), "k": (1, 2, 4, 8, 0)},
        board=Board(slower=slow_at_min),
        repetitions=6,
        inferences=5,
    )
    found.info = INFO
    for record in found.records.values():
        record["samples"]["nodes"] = {POLICY0: ["1950000", None, "1950000"]}
    return found


@pytest.fixture(scope="module")
def table(results: FrameResults) -> lut.LaunchTable:
    return lut.measure(results)


def test_a_table_holds_the_costs_of_each_condition_and_where_they_come_from(table: lut.LaunchTable) -> None:
    fast = table.entry({"cpu": "max"})
    assert fast.flush_ns == pytest.approx(5_000, rel=0.05)
    assert fast.start_idle_ns == pytest.approx(30_000, rel=0.05)
    assert fast.gap_ns == pytest.approx(15_000, rel=0.05)
    assert fast.cpu_khz == {POLICY0: 1_950_000.0}
    assert fast.runs == 30
    low, high = fast.intervals_ns["flush_ns"]
    assert low < fast.flush_ns < high
    assert table.entry({"cpu": "min"}).flush_ns == pytest.approx(15_000, rel=0.05)
    assert (table.board, table.device, table.driver) == ("note10", "phone-1", "OpenCL 2.0 v1.r19p0")
    assert (table.backend, table.network, table.simulated) == ("emulated", "mobilenet_v1", True)
    assert table.campaign
    assert table.age_days(INFO["start_unix_ns"] + 3 * DAY_NS) == pytest.approx(3)


@pytest.mark.parametrize(("residual_pct", "unfit"), [(0.1, False), (WORST_RESIDUAL_PCT, False), (99.0, True)])
def test_nothing_is_concluded_from_a_fit_that_does_not_describe_what_was_measured(
    results: FrameResults, residual_pct: float, unfit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditions = []
    for one in klo_data.load(results).conditions:
        assert one.profile is not None
        fit = replace(one.profile.fit, residual_pct=residual_pct)
        conditions.append(replace(one, profile=replace(one.profile, fit=fit)))
    data = replace(klo_data.load(results), conditions=tuple(conditions))
    monkeypatch.setattr(klo_data, "load", lambda _: data)
    rows = lut.table(data)
    said = f"the fit does not describe what was measured: its median residual is {residual_pct:.0f}%"
    assert set(rows["unfit"]) == {said if unfit else ""}
    for row, found in zip(rows.to_dict("records"), lut.analyse(results), strict=False):
        assert found.verdict == ("inconclusive" if unfit or not row["identified"] else "info")
        assert (said in found.reasons) is unfit
    moves = lut.analyse(results)[len(rows) :]
    assert moves
    for found in moves:
        assert (said in found.reasons) is unfit
        assert found.verdict == "inconclusive" or not unfit
    assert unfit or {"yes", "no"} & {found.verdict for found in moves}


def test_a_table_comes_back_from_its_file_as_it_was(table: lut.LaunchTable, tmp_path: Path) -> None:
    lut.save(table, tmp_path / "note10.json")
    assert lut.load(tmp_path / "note10.json") == table


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"launch_table": 2}', "not json", '{"board": NaN}'])
def test_a_file_that_is_no_table_is_a_configuration_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="no launch cost table"):
        lut.load(path)


def test_a_missing_or_unwritable_file_is_a_configuration_error(table: lut.LaunchTable, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        lut.load(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="cannot write"):
        lut.save(table, tmp_path / "no" / "such" / "folder.json")


def test_negative_or_infinite_costs_are_no_table(table: lut.LaunchTable, tmp_path: Path) -> None:
    data = json.loads(table.model_dump_json())
    for wrong in (-1.0, 1e30):
        data["entries"][0]["flush_ns"] = wrong
        (tmp_path / "x.json").write_text(json.dumps(data))
        with pytest.raises(ConfigError, match=r"entries\.0\.flush_ns"):
            lut.load(tmp_path / "x.json")


def test_a_table_of_this_device_fits(table: lut.LaunchTable) -> None:
    assert lut.require_fits(table, INFO) == ()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"board": "qualcomm"}, "board"),
        ({"device": "phone-2"}, "device"),
        ({"gpu_driver": "OpenCL 2.0 v1.r26p0"}, "GPU driver"),
        ({"os_build": "samsung/d1/d1:13"}, "system build"),
        ({"simulated": False}, "simulated"),
    ],
)
def test_a_foreign_table_is_refused_unless_told(table: lut.LaunchTable, change: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        lut.require_fits(table, {**INFO, **change})
    (remark,) = lut.require_fits(table, {**INFO, **change}, foreign=True)
    assert word in remark


@pytest.mark.parametrize("foreign", [False, True])
def test_a_placeholder_is_refused_always(table: lut.LaunchTable, foreign: bool) -> None:
    unmeasured = table.entries[0].model_copy(update={"runs": 0})
    for invented in (
        table.model_copy(update={"placeholder": True}),
        table.model_copy(update={"entries": ()}),
        table.model_copy(update={"campaign": ""}),
        table.model_copy(update={"entries": (unmeasured,)}),
    ):
        with pytest.raises(ConfigError, match="placeholder"):
            lut.require_fits(invented, INFO, foreign=foreign)
    bad_fit = table.model_copy(update={"entries": (table.entries[0].model_copy(update={"residual_pct": 30.0}),)})
    with pytest.raises(ConfigError, match="off by 30%"):
        lut.require_fits(bad_fit, INFO, foreign=foreign)


@pytest.mark.parametrize(("worst", "fits"), [(10.0, True), (10.01, False)])
def test_a_table_fits_as_its_worst_entry_does(table: lut.LaunchTable, worst: float, fits: bool) -> None:
    good, bad = (table.entries[0].model_copy(update={"residual_pct": pct}) for pct in (1.0, worst))
    for entries in ((good, bad), (bad, good)):
        some = table.model_copy(update={"entries": entries})
        if fits:
            assert lut.require_fits(some, INFO) == ()
        else:
            with pytest.raises(ConfigError, match="off by 10%"):
                lut.require_fits(some, INFO)


def test_an_old_table_is_refused_where_an_age_is_set(table: lut.LaunchTable) -> None:
    now = INFO["start_unix_ns"] + 40 * DAY_NS
    assert lut.require_fits(table, INFO, now_unix_ns=now) == ()
    assert lut.require_fits(table, INFO, max_age_days=40, now_unix_ns=now) == ()
    for days, at in ((30, now), (39.9, now), (30, INFO["start_unix_ns"] - 1)):
        with pytest.raises(ConfigError, match="days ago"):
            lut.require_fits(table, INFO, max_age_days=days, now_unix_ns=at)


def test_a_condition_the_table_does_not_have_is_a_configuration_error(table: lut.LaunchTable) -> None:
    with pytest.raises(ConfigError, match="no entry"):
        table.entry({"cpu": "600000"})
    with pytest.raises(ConfigError, match="more than one"):
        table.entry({})


def test_costs_of_free_clocks_are_not_those_of_pinned_ones(table: lut.LaunchTable) -> None:
    free = table.model_copy(update={"entries": (table.entries[0].model_copy(update={"levels": {}}),)})
    assert free.entry({"load": "none"}) == free.entries[0]
    for pinned in ({"cpu": "min"}, {"gpu": "max"}):
        with pytest.raises(ConfigError, match="no entry"):
            free.entry(pinned)


def by_claim(results: FrameResults) -> dict[str, Finding]:
    return {finding.claim: finding for finding in lut.analyse(results)}


def test_only_the_costs_that_depend_on_the_clock_are_said_to(results: FrameResults) -> None:
    found = by_claim(results)
    flush = found["Does the cost of a flush differ at CPU clock min from CPU clock max?"]
    assert flush.verdict == "yes"
    assert flush.estimate == pytest.approx(3, rel=0.05)
    start = found["Does the start on an idle GPU differ at CPU clock min from CPU clock max?"]
    assert start.verdict == "no"
    cost = found["Cost of a flush (CPU clock max)"]
    assert cost.estimate == pytest.approx(5, rel=0.05)
    assert cost.unit == "µs"
    assert cost.simulated


def test_a_campaign_without_timestamps_has_no_costs(results: FrameResults) -> None:
    bare = FrameResults(results.experiment, results.run_rows, results.metric_rows, {}, INFO)
    assert [finding.verdict for finding in lut.analyse(bare)] == ["insufficient n"]
    assert lut.figures(bare) == ()
    with pytest.raises(ConfigError, match="no kernel timestamps"):
        lut.measure(bare)
    with pytest.raises(ConfigError, match="no kernel timestamps"):
        plan(bare)


def test_a_plan_gives_k_schedule_and_costs_for_the_next_experiment(results: FrameResults) -> None:
    planned = {one.label: one for one in plan(results)}
    fast = planned["CPU clock max"]
    assert fast.k == best_constant(TRUTH.p, TRUTH.g, TRUTH.costs)[0]
    assert sum(fast.batches) == 24
    assert fast.schedule_ns <= fast.makespan_ns
    schedule, costs, made_for = fast.settings()
    assert schedule == f"measure.params.schedule={','.join(map(str, fast.batches))}"
    assert costs.startswith("measure.params.costs_ns=")
    assert costs.count(",") == 2
    assert fast.made_for.levels["cpu"] == "max"
    assert made_for == f"measure.params.made_for={fast.made_for.as_text()}"


def test_a_flush_that_grows_with_its_batch_is_told_to_the_planner(results: FrameResults) -> None:
    (one, *_) = plan(results)
    grown = replace(one, costs=replace(one.costs, flush_per_kernel_ns=812.4))
    assert grown.settings()[1].endswith(",812")
    assert klo.Params.model_validate({"costs_ns": grown.settings()[1].partition("=")[2]}).costs_ns[3:] == (812,)


def test_a_plan_with_a_foreign_table_says_so(results: FrameResults, table: lut.LaunchTable) -> None:
    other = table.model_copy(update={"device": "phone-2", "campaign": "elsewhere"})
    with pytest.raises(ConfigError, match="does not fit"):
        plan(results, other)
    planned = plan(results, other, foreign=True)
    assert planned[0].costs_from == "elsewhere"
    assert "phone-2" in planned[0].remarks[0]


@pytest.fixture
def app(results: FrameResults, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    @contextmanager
    def opened(*_args: object, **_options: object) -> Iterator[SimpleNamespace]:
        one = SimpleNamespace(campaign=results.campaign)
        yield SimpleNamespace(campaign=lambda _name: one, results=lambda _name: results)

    monkeypatch.setattr(Store, "open", opened)
    made = typer.Typer()
    klo_cli.register(made)
    return made


def test_a_table_is_shown_and_written_from_the_command_line(app: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    shown = CliRunner().invoke(app, ["klo", "lut", "--to", str(path)])
    assert shown.exit_code == 0
    assert "CPU clock max" in shown.stdout
    assert "simulated" in shown.stdout
    assert lut.load(path).board == "note10"
    as_json = CliRunner().invoke(app, ["klo", "lut", "--json"])
    assert json.loads(as_json.stdout)["launch_table"] == 1


def test_a_plan_is_printed_with_the_settings_to_paste(app: typer.Typer, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["klo", "plan"])
    assert shown.exit_code == 0
    assert "--set measure.params.schedule=" in shown.stdout
    CliRunner().invoke(app, ["klo", "lut", "--to", str(tmp_path / "t.json")])
    as_json = CliRunner().invoke(app, ["klo", "plan", "--lut", str(tmp_path / "t.json"), "--json"])
    conditions = json.loads(as_json.stdout)["conditions"]
    assert {one["label"] for one in conditions} == {"CPU clock min", "CPU clock max"}
    assert conditions[0]["set"][0].startswith("measure.params.schedule=")


def condition(flush: float, gap: float, *, told: bool = True, repetitions: tuple[int, ...] = tuple(range(6))) -> Any:
    """A condition whose costs were fitted in these repetitions."""
    costs = LaunchCosts(flush, 30_000.0, gap)
    rows = np.tile([flush, 30_000.0, gap], (len(repetitions), 1))
    known = {"flush_ns": told, "start_idle_ns": True, "gap_ns": True}
    fitted = SimpleNamespace(costs=costs, identified=known, repetitions=repetitions, by_repetition=rows)
    return SimpleNamespace(profile=SimpleNamespace(fit=fitted), levels={"cpu": "max"}, unfit=False)


def test_costs_are_compared_where_both_are_told_and_that_of_the_base_is_not_nothing() -> None:
    def compared(base: Any, other: Any) -> list[tuple[float | None, int, str]]:
        return [(one.estimate, one.n, one.verdict) for one in lut._moved(base, other, ("cpu",), "")]

    base = condition(1_000.0, 0.5)
    assert compared(base, condition(2_000.0, 0.5)) == [(2, 6, "yes"), (1, 6, "no"), (1, 6, "no")]
    assert compared(condition(1_000.0, 0.0), condition(1_000.0, 9.0)) == [(1, 6, "no"), (1, 6, "no")]
    assert compared(base, condition(2_000.0, 0.5, told=False)) == [(1, 6, "no"), (1, 6, "no")]
    assert compared(condition(2_000.0, 0.5, told=False), base) == [(1, 6, "no"), (1, 6, "no")]
    few = compared(base, condition(2_000.0, 0.5, repetitions=(3, 4, 5, 6, 7, 8)))
    assert few[0] == (2, 3, "insufficient n"), "three repetitions have both"
