"""What the klo analysis concludes from campaigns with known truth."""

import io
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as MplFigure

from devicelab.analyses import _stats, klo
from devicelab.analyses.klo import data as klo_data
from devicelab.analyses.klo.checklist import _QUESTIONS, _adjusted, _Answer
from devicelab.analyses.klo.cross import cross_table
from devicelab.analyses.klo.findings import decomposition, default_k
from devicelab.analyses.klo.model import LaunchCosts, best_constant
from devicelab.analyses.lut import plan
from devicelab.model.experiment import Finding, Measure
from devicelab.model.journal import Flag
from tests.klodata import Board, FrameResults, Levels, Truth, campaign

# GPU-bound when idle, producer-bound under load: the best K moves.
TRUTH = Truth(np.full(24, 2_000.0), np.full(24, 14_000.0), LaunchCosts(1_000.0, 30_000.0, 15_000.0))
LOADED = "1000 5000 20"
KS = (1, 2, 3, 4, 6, 8, 12, 0)
CHECKLIST = (
    "1. Does the constant K under load differ from the constant K when idle?",
    "2. Does the speed-up drop when the idle K is used under load?",
    "3. Does the K found under load keep the speed-up under load?",
    "4. Is the speed-up of dynamic K about the same idle and under load?",
)


def slowed(levels: Levels) -> float:
    return (8.0 if levels.get("load", "none") != "none" else 1.0) * (3.0 if levels.get("cpu") == "min" else 1.0)


@pytest.fixture(scope="module")
def moved() -> FrameResults:
    factors = {"load": ("none", LOADED), "policy": ("constant", "static", "dynamic"), "k": KS}
    return campaign(TRUTH, factors, board=Board(slower=slowed), repetitions=7, inferences=6)


def claims(results: FrameResults) -> dict[str, Finding]:
    found = klo.analyse(results)
    assert len({finding.claim for finding in found}) == len(found)
    return {finding.claim: finding for finding in found}


def test_the_checklist_comes_first_and_finds_a_k_that_moves(moved: FrameResults) -> None:
    found = klo.analyse(moved)
    assert tuple(finding.claim for finding in found[:4]) == CHECKLIST
    differs = found[0]
    idle = best_constant(TRUTH.p, TRUTH.g, TRUTH.costs)[0]
    slow = LaunchCosts(TRUTH.costs.flush_ns * 8, TRUTH.costs.start_idle_ns, TRUTH.costs.gap_ns)
    loaded = best_constant(TRUTH.p * 8, TRUTH.g, slow)[0]
    assert differs.verdict == "yes"
    assert differs.estimate == pytest.approx(loaded / idle, rel=0.35)
    assert differs.low is not None
    assert differs.high is not None
    assert differs.low > 1 or differs.high < 1
    assert found[1].verdict == "yes"
    assert all(finding.simulated for finding in found)


def test_a_null_result_is_a_result() -> None:
    factors = {"load": ("none", LOADED), "policy": ("constant", "dynamic"), "k": (1, 2, 4, 8)}
    found = klo.analyse(campaign(TRUTH, factors, repetitions=7, inferences=5))
    assert [finding.verdict for finding in found[:4]] == ["no", "no", "yes", "yes"]
    assert found[1].estimate == pytest.approx(1, abs=0.02)
    assert found[1].n == 7


def test_few_repetitions_are_not_enough_data() -> None:
    factors = {"load": ("none", LOADED), "policy": ("constant", "dynamic"), "k": (1, 4)}
    found = klo.analyse(campaign(TRUTH, factors, board=Board(slower=slowed), repetitions=3, inferences=3))
    assert [finding.verdict for finding in found[1:4]] == ["insufficient n"] * 3
    assert found[1].estimate is not None
    assert found[1].low is None


def test_a_checklist_that_cannot_be_answered_says_why() -> None:
    factors = {"load": ("none", LOADED), "k": (2, 4)}
    found = klo.analyse(campaign(TRUTH, factors, repetitions=6, inferences=3))
    assert found[1].verdict == "insufficient n"
    assert "K = 1 was not measured, so there is no speed-up" in found[1].reasons
    assert found[3].verdict == "insufficient n"
    assert "dynamic K was not run both idle and under load" in found[3].reasons


def test_loads_without_an_idle_cell_leave_the_checklist_open() -> None:
    found = klo.analyse(campaign(TRUTH, {"load": (LOADED,), "k": (1, 4)}, repetitions=6, inferences=3))
    assert [finding.verdict for finding in found[:4]] == ["insufficient n"] * 4
    assert found[0].reasons == ("no cell with a load and the same cell without one",)


def test_an_experiment_without_loads_is_not_asked_about_them() -> None:
    found = klo.analyse(campaign(TRUTH, {"k": (1, 4)}, repetitions=6, inferences=3))
    assert not {finding.claim for finding in found} & set(CHECKLIST)


def test_each_network_has_its_own_number_of_kernels() -> None:
    small = Truth(TRUTH.p[:10], TRUTH.g[:10], TRUTH.costs)
    parts = [
        campaign(truth, {"network": (name,), "k": (1, 4, 0)}, repetitions=2, inferences=2)
        for name, truth in (("big", TRUTH), ("small", small))
    ]
    for number, part in enumerate(parts):
        for frame in (part.run_rows, part.metric_rows, part.sample_tables["kernels"]):
            frame["run_id"] = f"{number}-" + frame["run_id"]
    both = FrameResults(
        parts[0].experiment,
        pd.concat([part.run_rows for part in parts], ignore_index=True),
        pd.concat([part.metric_rows for part in parts]),
        {"kernels": pd.concat([part.sample_tables["kernels"] for part in parts])},
    )
    found = {one.label: one for one in klo_data.load(both).conditions}
    assert list(found["network big"].curve.columns) == [1, 4, 24]
    assert list(found["network small"].curve.columns) == [1, 4, 10]
    assert (found["network big"].n_kernels, found["network small"].n_kernels) == (24, 10)


def test_one_load_that_moves_k_is_enough_and_every_load_is_listed() -> None:
    def one_hurts(levels: Levels) -> float:
        return 8.0 if levels.get("placement") == "one-per-core" else 1.0

    factors = {"load": ("none", LOADED), "placement": ("free", "one-per-core"), "k": (1, 2, 3, 4, 8, 12)}
    found = claims(campaign(TRUTH, factors, board=Board(slower=one_hurts), repetitions=7, inferences=5))
    assert found[CHECKLIST[0]].verdict == "yes"
    assert found[f"{CHECKLIST[0]} (load {LOADED} free)"].verdict == "no"
    assert found[f"{CHECKLIST[0]} (load {LOADED} one-per-core)"].verdict == "yes"
    assert "of 2 loads 1 says yes, 1 says no" in found[CHECKLIST[0]].reasons[0]


def test_costs_k_speed_up_and_regret_of_each_condition(moved: FrameResults) -> None:
    found = claims(moved)
    k = found["Best constant K (idle)"]
    assert k.estimate == best_constant(TRUTH.p, TRUTH.g, TRUTH.costs)[0]
    assert any("flush 1.0 µs" in reason and "gap 14.9" in reason for reason in k.reasons)
    speedup = found["Is the measured best K faster than K = 1? (idle)"]
    assert speedup.verdict == "yes"
    assert speedup.estimate is not None
    assert speedup.estimate > 1.1
    for policy in ("the model's K", "the static schedule", "dynamic K"):
        assert found[f"Is {policy} within 5% of the measured best K? (idle)"].verdict == "yes"
    stale = found[f"Is the K found idle within 5% of the measured best K? (load {LOADED})"]
    assert stale.verdict == "no"
    assert stale.low is not None
    assert stale.low > 5
    assert stale.unit == "% extra time"


def test_the_decomposition_adds_up_to_the_profiled_time(moved: FrameResults) -> None:
    table = decomposition(moved, klo_data.load(moved).conditions)
    parts = table[["kernels_ns", "starved_ns", "launch_ns", "other_ns"]].sum(axis=1)
    assert parts.to_numpy() == pytest.approx(table["profiled_ns"].to_numpy())
    loaded = table[table["label"] != "idle"].set_index("k")
    assert loaded.loc[1, "launch_ns"] > 5 * loaded.loc[12, "launch_ns"]
    found = claims(moved)
    overhead = found["Launch overhead at K = 1 (idle)"]
    assert overhead.unit == "µs"
    assert any("starved" in reason and "launch" in reason for reason in overhead.reasons)


def test_t_prod_is_a_figure_of_each_k_over_repetitions_and_does_not_depend_on_the_list_of_k(
    moved: FrameResults,
) -> None:
    found = claims(moved)
    assert not any("Mean T_prod" in claim for claim in found)
    for k, true in ((1, 2 + 1), (4, 2 + 5 / 23), (24, 2)):  # µs; a flush stands before 23, 5 and none of 23 kernels
        one = found[f"T_prod at K = {k} (idle)"]
        assert one.n == 7
        assert one.low is not None
        assert one.high is not None
        assert one.low * 0.99 < true < one.high * 1.01
        assert any("first of each inference left out" in reason for reason in one.reasons)
    assert found["T_prod without flushes (idle)"].estimate == pytest.approx(2, rel=0.01)
    ratio = found[f"Does the load change T_prod? (load {LOADED})"]
    assert ratio.verdict == "yes"
    assert ratio.n == 7
    assert ratio.estimate == pytest.approx(8, rel=0.02)


def with_clocks(results: FrameResults, khz: dict[str, int]) -> FrameResults:
    path = "/sys/devices/system/cpu/cpufreq/policy4/scaling_cur_freq"
    for run_id, level in zip(results.run_rows["run_id"], results.run_rows["cpu"], strict=True):
        results.records[run_id]["samples"]["nodes"] = {path: [f"{khz[level]}\n", None, f"{khz[level]}\n"]}
    return results


def test_t_prod_at_another_clock_is_compared_with_1_over_f() -> None:
    factors = {"cpu": ("min", "max"), "k": (1, 4)}
    results = campaign(TRUTH, factors, board=Board(slower=slowed), repetitions=7, inferences=3)
    found = claims(with_clocks(results, {"min": 800_000, "max": 2_400_000}))
    t_prod = found["Does CPU clock min instead of max change T_prod?"]
    assert t_prod.verdict == "yes"
    assert t_prod.estimate == pytest.approx(3, rel=0.02)
    assert "1/f fits" in t_prod.reasons
    assert found["Does CPU clock min instead of max change the sum of T_ker?"].verdict == "no"
    flat = campaign(TRUTH, factors, repetitions=7, inferences=3)
    t_prod = claims(with_clocks(flat, {"min": 800_000, "max": 2_400_000}))[
        "Does CPU clock min instead of max change T_prod?"
    ]
    assert t_prod.verdict == "no"
    assert "1/f does not fit" in t_prod.reasons


def test_the_cross_table_shows_what_a_foreign_k_costs() -> None:
    factors = {"cpu": ("min", "max"), "k": (1, 2, 3, 4, 6, 8, 12)}
    board = Board(slower=lambda levels: 8.0 if levels["cpu"] == "min" else 1.0)
    results = campaign(TRUTH, factors, board=board, repetitions=7, inferences=5)
    table = cross_table(klo_data.load(results)).set_index(["found_at", "used_at"])
    own = table.loc[("CPU clock min", "CPU clock min")]
    foreign = table.loc[("CPU clock max", "CPU clock min")]
    assert own["ratio"] == pytest.approx(1, abs=0.02)
    assert foreign["ratio"] > 1.05
    found = claims(results)
    claim = "Is the K found at CPU clock max, used at CPU clock min, within 5% of the measured best K there?"
    assert found[claim].verdict == "no"
    assert found["Is one constant K good at every CPU clock?"].verdict == "no"


def test_totals_alone_give_manual_k_without_a_model() -> None:
    results = campaign(TRUTH, {"load": ("none", LOADED), "k": (1, 4, 8, 0)}, board=Board(slower=slowed), repetitions=7)
    results.sample_tables = {}
    found = claims(results)
    assert found["Best constant K (idle)"].estimate in {4.0, 8.0}
    assert any("no kernel timestamps" in reason for reason in found["Best constant K (idle)"].reasons)
    assert "Is the model's K within 5% of the measured best K? (idle)" not in found
    curve = klo_data.load(results).conditions[0].curve
    assert list(curve.columns) == [1, 4, 8]  # how many kernels one flush holds is not known
    told = campaign(TRUTH, {"k": (1, 4, 8, 0)}, repetitions=2)
    told.sample_tables = {}
    told.info["programs"] = {"measure": {"kernels": 24, "device": "Mali-G76"}}
    assert list(klo_data.load(told).conditions[0].curve.columns) == [1, 4, 8, 24]
    assert default_k(told) == (24, "TFLite on Mali")


def test_a_driver_that_submits_by_itself_is_named_and_no_k_is_predicted_for_it() -> None:
    at_once = Board(submits=lambda flushed: (1,) * sum(flushed))
    results = campaign(TRUTH, {"k": KS}, board=at_once, repetitions=7, inferences=4)
    found = claims(results)
    asked = found["Does the driver submit when it is flushed? (all runs)"]
    assert asked.verdict == "no"
    assert asked.estimate == 100
    assert asked.n == 7
    assert any("submits kernels by itself" in reason for reason in found["Best constant K (all runs)"].reasons)
    assert not any("model's K" in claim for claim in found)
    saved = found["Most that one flush could save over K = 1 (all runs)"]
    totals = klo_data.load(results).conditions[0].curve[1]
    assert saved.estimate == pytest.approx(100 * 1_000 * 23 / totals.median(), rel=0.1)
    assert saved.reasons[-1] == "predicted K = 24, one flush"
    (curves,) = (figure for figure in klo.figures(results) if figure.name == "k-curves")
    assert not (curves.data["series"] == "model").any()
    (planned,) = plan.plan(results)
    assert "does not hold" in planned.remarks[0]
    pairs = Board(submits=lambda flushed: (2,) * (sum(flushed) // 2) if len(flushed) > sum(flushed) // 2 else flushed)
    obeyed = claims(campaign(TRUTH, {"k": KS}, board=pairs, repetitions=7, inferences=4))
    assert obeyed["Does the driver submit when it is flushed? (all runs)"].verdict == "yes"
    assert not any("by itself" in reason for reason in obeyed["Best constant K (all runs)"].reasons)
    assert not any("one flush" in claim for claim in obeyed)


def test_k_that_is_no_factor_comes_from_the_measurement() -> None:
    results = campaign(TRUTH, {"load": ("none", LOADED)}, repetitions=6, inferences=3)
    measure = Measure(workload="klo", params={"k": 4})
    results.experiment = results.experiment.model_copy(update={"measure": measure})
    data = klo_data.load(results)
    assert [list(condition.curve.columns) for condition in data.conditions] == [[4], [4]]
    found = klo.analyse(results)
    assert found[0].verdict in {"no", "insufficient n", "inconclusive"}
    assert any(finding.claim == "T_prod at K = 4 (idle)" for finding in found)


def test_invalid_runs_enter_nothing() -> None:
    def spoiled(levels: Levels, repetition: int) -> tuple[Flag, ...]:
        return (Flag(code="throttled", detail="x"),) if repetition == 1 else ()

    factors = {"load": ("none", LOADED), "k": (1, 4)}
    results = campaign(TRUTH, factors, board=Board(flags=spoiled), repetitions=7, inferences=3)
    bad = set(results.run_rows.loc[~results.run_rows["valid"], "run_id"])
    wrong = results.metric_rows["run_id"].isin(bad)
    results.metric_rows.loc[wrong, "value"] *= 1000
    data = klo_data.load(results)
    assert data.told
    assert not set(data.told) & bad
    assert klo.analyse(results)[1].n == 6
    assert max(condition.curve.max().max() for condition in data.conditions) < 5e6


def test_figures_name_their_load_also_where_no_run_without_one_is_valid() -> None:
    def spoiled(levels: Levels, repetition: int) -> tuple[Flag, ...]:
        return (Flag(code="throttled", detail="x"),) if levels["load"] == "none" else ()

    factors = {"load": ("none", LOADED), "k": (1, 4)}
    results = campaign(TRUTH, factors, board=Board(flags=spoiled), repetitions=7, inferences=3)
    (condition,) = klo_data.load(results).conditions
    assert condition.label == f"load {LOADED}"


def test_a_time_that_cannot_be_enters_no_curve() -> None:
    results = campaign(TRUTH, {"load": ("none", LOADED), "k": (1, 4)}, repetitions=7, inferences=3)
    totals = results.metric_rows["metric"] == "total_ns"
    results.metric_rows.loc[results.metric_rows[totals].index[:2], "value"] = (-1e6, 0.0)
    assert claims(results)
    assert all(condition.curve.min().min() > 0 for condition in klo_data.load(results).conditions)


def test_a_load_that_lost_its_data_does_not_make_the_answers_of_the_others_surer() -> None:
    question = next(one for one in _QUESTIONS if one.notable == "yes")

    def answer(p: float | None) -> Any:
        effect = _stats.Interval(0.8, 0.7, 0.9, 6, p)
        return _Answer(cast("Any", None), effect, "yes" if p is not None else "insufficient n", ())

    answers = [answer(p) for p in (0.03, 0.04, 0.9, None)]
    verdicts = [one.verdict for one in _adjusted(question, answers)]
    assert verdicts == ["inconclusive"] * 3 + ["insufficient n"]
    assert [one.verdict for one in _adjusted(question, answers[:2])] == ["yes", "yes"]


def test_a_campaign_without_runs_has_findings_that_say_so_and_no_figures() -> None:
    results = campaign(TRUTH, {"load": ("none", LOADED), "k": (1, 4)}, repetitions=1, inferences=2)
    results.run_rows = results.run_rows.assign(valid=False)
    assert [finding.verdict for finding in klo.analyse(results)] == ["insufficient n"] * 4
    assert klo.figures(results) == ()


def test_every_figure_is_drawn_and_carries_its_data_and_conditions(moved: FrameResults) -> None:
    figures = klo.figures(moved)
    names = [figure.name for figure in figures]
    assert names == ["k-curves", "k-heat-map", "t-prod", "cross-table-load", "decomposition", "timeline"]
    for figure in figures:
        drawn = MplFigure()
        figure.draw(drawn)
        page = io.StringIO()
        drawn.savefig(page, format="svg")
        assert "<svg" in page.getvalue()
        assert not figure.data.empty
        assert len(figure.caption) > 60
    curves = figures[0].data
    measured = curves[curves["series"] == "measured"]
    assert (measured["n"] == 7).all()
    assert (measured["low_ms"] <= measured["estimate_ms"]).all()
    assert measured.groupby("condition")["near_optimal"].any().all()


def test_many_conditions_go_to_several_figures() -> None:
    factors = {"load": ("none", *(f"{n} 100 20" for n in range(1, 11))), "k": (1, 4)}
    results = campaign(TRUTH, factors, repetitions=1, inferences=2)
    names = [figure.name for figure in klo.figures(results)]
    assert [name for name in names if name.startswith("k-curves")] == ["k-curves-1", "k-curves-2"]


@pytest.mark.slow
def test_a_million_samples_are_analysed_in_one_go() -> None:
    results = campaign(TRUTH, {"load": ("none", LOADED), "k": (1, 2, 4, 8)}, repetitions=8, inferences=3)
    table = results.sample_tables["kernels"]
    copies = 1_000_000 // len(table) + 1
    step = int(table["inference"].max()) + 1
    parts = [table.assign(inference=table["inference"] + number * step) for number in range(copies)]
    results.sample_tables = {"kernels": pd.concat(parts, ignore_index=True)}
    assert len(results.sample_tables["kernels"]) >= 1_000_000
    found = claims(results)
    assert f"{copies * 3 * 23 * 8:,} samples" in found["T_prod at K = 1 (idle)"].reasons[0]
