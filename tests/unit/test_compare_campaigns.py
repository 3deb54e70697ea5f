"""Two campaigns with known truth side by side."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from devicelab.cli import app
from devicelab.compare.campaigns import Comparison, Shift, compare
from devicelab.errors import ConfigError
from devicelab.model.journal import Flag
from devicelab.store import Store
from tests import klodata, labdata
from tests.klodata import Board, FrameResults, random_truth
from tests.tenantdata import campaign, experiment, response, tenants


def slow_nice(scheduler: str, tenant: str, rng: np.random.Generator, n: int) -> np.ndarray:
    return response("native" if scheduler == "nice" else scheduler, tenant, rng, n)


def shift_of(found: Comparison, where: str, metric: str) -> Shift:
    (one,) = [shift for shift in found.shifts if (shift.where, shift.metric) == (where, metric)]
    return one


@pytest.fixture(scope="module")
def baseline() -> FrameResults:
    return campaign(experiment(), response)


def test_equal_campaigns_do_not_differ_and_keep_their_targets(baseline: FrameResults) -> None:
    found = compare(baseline, campaign(experiment(), response, seed=2))
    assert found.changes == ()
    assert (found.only_a, found.only_b) == ((), ())
    assert {shift.verdict for shift in found.shifts if shift.kind == "ratio" and shift.metric != "p99.9_ms"} == {"no"}
    assert (
        shift_of(found, "high, nice, copies:2", "p99.9_ms").verdict == "insufficient n"
    )  # 3,688 requests are the least
    outcomes = {(one.where, one.outcome) for one in found.targets}
    assert ("high, nice, copies:2", "kept") in outcomes
    assert ("high, native, copies:2", "still fails") in outcomes
    assert found.regressed == ()


def test_a_leg_that_became_slow_is_found_and_its_target_regressed(baseline: FrameResults) -> None:
    found = compare(baseline, campaign(experiment(), slow_nice))
    p99 = shift_of(found, "high, nice, copies:2", "p99_ms")
    assert p99.verdict == "yes"
    assert p99.kind == "ratio"
    assert p99.effect == pytest.approx(8 / 1.2, rel=0.05)
    assert p99.low is not None
    assert p99.low < p99.effect
    assert shift_of(found, "high, native, copies:2", "p99_ms").verdict == "no"
    preempted = shift_of(found, "high, nice, copies:2", "preemption_p50_ms")
    assert (preempted.kind, preempted.verdict) == ("shift", "yes")
    assert [(one.where, one.target, one.a, one.b) for one in found.regressed] == [
        ("high, nice, copies:2", "p99_ratio < 2", "pass", "fail")
    ]


def test_a_target_is_fixed_by_the_other_way_round(baseline: FrameResults) -> None:
    found = compare(campaign(experiment(), slow_nice), baseline)
    assert "fixed" in {one.outcome for one in found.targets}


def test_a_baseline_leg_against_a_schedulers(baseline: FrameResults) -> None:
    found = compare(baseline, baseline, leg_a="native", leg_b="nice")
    p99 = shift_of(found, "high, native → nice, copies:2", "p99_ms")
    assert p99.effect == pytest.approx(1.2 / 8, rel=0.05)
    outcomes = {(one.where, one.target): (one.a, one.b, one.outcome) for one in found.targets}
    assert outcomes["high, native → nice, copies:2", "p99_ratio < 2"] == ("no", "pass", "fixed")
    assert found.changes == ()


@pytest.mark.parametrize(("leg_a", "leg_b"), [("native", None), (None, "nice"), ("native", "mps"), ("none", "nice")])
def test_legs_that_make_no_pair_are_refused(baseline: FrameResults, leg_a: str | None, leg_b: str | None) -> None:
    with pytest.raises(ConfigError, match="leg"):
        compare(baseline, baseline, leg_a=leg_a, leg_b=leg_b)


def test_another_version_of_an_installed_scheduler_is_named(baseline: FrameResults) -> None:
    def under(shim: str) -> FrameResults:
        results = campaign(experiment(), response)
        text = f"{'a' * 64}  /opt/xsched/bin/xserver\n{shim * 64}  /opt/xsched/lib/libshimcuda.so\n"
        witness = {"name": "xsched files", "exit_code": 0, "stdout": text}
        records = {run_id: {"witnesses": [witness]} for run_id in results.run_rows["run_id"] if "nice" in run_id}
        return replace(results, records=records)

    assert compare(under("b"), under("b")).changes == ()
    (change,) = compare(under("b"), under("c")).changes
    assert (change.what, change.a, change.b) == ("xsched libshimcuda.so", "b" * 12, "c" * 12)
    assert compare(baseline, under("b")).changes == ()  # a leg that only one has is a matter of the experiment


def test_few_requests_or_repetitions_are_not_enough(baseline: FrameResults) -> None:
    found = compare(baseline, campaign(experiment(repetitions=1), response, requests=50))
    assert shift_of(found, "high, nice, copies:2", "p99_ms").verdict == "insufficient n"
    assert shift_of(found, "high, nice, copies:2", "throughput_per_s").verdict == "insufficient n"
    assert {one.outcome for one in found.targets} == {"undecided"}


def test_a_leg_without_valid_runs_is_missing_and_its_target_undecided(baseline: FrameResults) -> None:
    invalid = campaign(experiment(), response, flags=lambda s, _: (Flag(code="x", detail="y"),) if s == "nice" else ())
    found = compare(baseline, invalid)
    assert found.only_a == ("high, nice, copies:2", "low, nice, copies:2")
    assert {one.b for one in found.targets if "nice" in one.where} == {"invalid"}
    assert {one.outcome for one in found.targets if "nice" in one.where} == {"undecided"}


def test_legs_that_only_one_has_are_named(baseline: FrameResults) -> None:
    fewer = campaign(experiment(factors={"scheduler": ("standalone", "native"), "pressure": ("copies:2",)}), response)
    found = compare(fewer, baseline)
    assert found.only_b == ("high, nice, copies:2", "low, nice, copies:2")


INFO: dict[str, Any] = {
    "board": "linux",
    "kernel": "6.8.0-40",
    "gpu_driver": "nvidia 570.1",
    "version": "0.1.0",
    "simulated": False,
    "programs": {"high": {"torch": "2.11", "device_name": "NVIDIA H100", "device_uuid": "GPU-1", "pid": 7, "seed": 3}},
    "binaries": {"agent": "a" * 64, "cpu_tenant": "b" * 64},
}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"device": "server-2"}, "device"),
        ({"board": "nvidia-server"}, "board"),
        ({"kernel": "6.8.0-41"}, "kernel"),
        ({"gpu_driver": "nvidia 580.2"}, "GPU driver"),
        ({"version": "0.2.0"}, "devicelab"),
        ({"simulated": True}, "simulated"),
        ({"programs": {"high": {"torch": "2.12", "device_name": "NVIDIA H100"}}}, "high: torch"),
        ({"programs": {"high": {"torch": "2.11", "device_name": "NVIDIA H200"}}}, "high: device_name"),
        (
            {"programs": {"high": {"torch": "2.11", "device_name": "NVIDIA H100", "device_uuid": "GPU-2"}}},
            "high: GPU",
        ),
        ({"binaries": {"agent": "a" * 64, "cpu_tenant": "c" * 64}}, "binary cpu_tenant"),
        ({"binaries": {"agent": "a" * 64}}, "binary cpu_tenant"),
    ],
)
def test_what_is_not_the_same_is_named(change: dict[str, Any], what: str) -> None:
    one = campaign(experiment(), response, info=INFO)
    two = campaign(experiment(), response, info={**INFO, **change})
    (found,) = compare(one, two).changes
    assert found.what == what
    assert found.a != found.b


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"duration_s": 5.0}, "setting duration_s"),
        ({"seed": 2}, "setting seed"),
        ({"name": "other"}, "experiment"),
        ({"tenants": tenants(arrivals="fixed:90")}, "tenant high: arrivals"),
        ({"tenants": tenants(params={"work_us": 5})}, "tenant high: params"),
    ],
)
def test_settings_that_differ_are_named(baseline: FrameResults, change: dict[str, Any], what: str) -> None:
    other = campaign(experiment(**change), response)
    assert [one.what for one in compare(baseline, other).changes] == [what]


def test_a_changed_bound_is_shown_with_both(baseline: FrameResults) -> None:
    other = campaign(experiment(tenants=tenants(targets={"p99_ratio": "< 1.1"})), response)
    found = {one.where: one for one in compare(baseline, other).targets}
    assert found["high, nice, copies:2"].target == "p99_ratio < 2, then < 1.1"
    assert found["high, nice, copies:2"].outcome == "regressed"


# --- campaigns without tenants -------------------------------------------------------------------------------------

TRUTH = random_truth(np.random.default_rng(1), 12)


@cache
def klo(slower: float = 1.0, repetitions: int = 8, k: tuple[int, ...] = (1, 4), seed: int = 1) -> FrameResults:
    factors: dict[str, tuple[Any, ...]] = {"load": ("none", "1000 5000 20"), "k": k}
    board = Board(slower=lambda levels: slower if levels.get("load") != "none" else 1.0)
    return klodata.campaign(TRUTH, factors, board=board, repetitions=repetitions, noise=0.01, inferences=3, seed=seed)


def test_cells_are_compared_by_metric_with_a_rank_interval() -> None:
    found = compare(klo(), klo(1.5, seed=2))
    loaded = [s for s in found.shifts if s.where.startswith("load=1000") and s.metric == "t_prod_median_ns"]
    idle = [s for s in found.shifts if s.where.startswith("load=none") and s.metric == "t_prod_median_ns"]
    assert len(loaded) == len(idle) == 2
    for one in loaded:
        assert one.verdict == "yes"
        assert one.effect == pytest.approx(1.5, rel=0.05)
        assert one.p is not None
        assert one.p < 0.05
    assert {one.verdict for one in idle} == {"no"}
    assert found.targets == ()


def test_figures_that_never_move_are_not_compared() -> None:
    found = compare(klo(), klo(seed=2))
    assert "k" not in {shift.metric for shift in found.shifts}


def test_cells_that_only_one_has_are_named() -> None:
    found = compare(klo(), klo(k=(1, 8), seed=2))
    assert all("k=4" in cell for cell in found.only_a)
    assert all("k=8" in cell for cell in found.only_b)
    assert len(found.only_a) == 2


def test_three_runs_a_cell_are_not_enough() -> None:
    found = compare(klo(repetitions=3), klo(repetitions=3, seed=2))
    assert {shift.verdict for shift in found.shifts} == {"insufficient n"}


def test_tenants_and_cells_have_nothing_in_common(baseline: FrameResults) -> None:
    with pytest.raises(ConfigError, match="no figure in common"):
        compare(baseline, klo())


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_what_moved_and_what_is_not_the_same(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        a, b = labdata.fill(store), labdata.fill(store, kernel="4.14.999")
    runner = CliRunner()
    words = ["compare", a, b, "--store", str(tmp_path / "s.sqlite")]
    shown = runner.invoke(app, words)
    assert shown.exit_code == 0, shown.output
    assert "4.14.113" in shown.output
    assert "4.14.999" in shown.output
    said = json.loads(runner.invoke(app, [*words, "--json"]).output)
    assert (said["a"], said["b"]) == (a, b)
    assert said["changes"] == [{"what": "kernel", "a": "4.14.113", "b": "4.14.999"}]
    assert said["shifts"]


def test_an_unknown_campaign_is_told(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.sqlite") as store:
        a = labdata.fill(store)
    done = CliRunner().invoke(app, ["compare", a, "2031", "--store", str(tmp_path / "s.sqlite")])
    assert isinstance(done.exception, ConfigError)
