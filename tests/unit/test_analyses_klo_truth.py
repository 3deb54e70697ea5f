"""No verdict of the klo analysis that the data do not carry: campaigns of known truth, and traps that were seen."""

import re

import numpy as np
import pandas as pd
import pytest

from devicelab.analyses import klo, lut
from devicelab.analyses.klo import data as klo_data
from devicelab.analyses.klo.model import LaunchCosts, best_constant, best_schedule, constant_curve, simulate
from devicelab.analyses.klo.model.core import constant_batches
from devicelab.analyses.lut.plan import plan
from devicelab.errors import ConfigError
from devicelab.model.experiment import Finding
from tests.klodata import Board, FrameResults, Levels, Truth, campaign

LOADED = "1000 5000 20"
DIFFERS = "1. Does the constant K under load differ from the constant K when idle?"
DRIVER = "Does the driver submit when it is flushed? (all runs)"
# Far from either end of 24 kernels the best K is 4; flat enough that its neighbours are hardly worse.
TRUTH = Truth(np.full(24, 20_000.0), np.full(24, 18_000.0), LaunchCosts(8_000.0, 30_000.0, 15_000.0))


def claims(results: FrameResults) -> dict[str, Finding]:
    return {finding.claim: finding for finding in klo.analyse(results)}


def loaded(factor: float) -> Board:
    return Board(slower=lambda levels: factor if levels.get("load", "none") != "none" else 1.0)


# --- a claim about K stays within what was measured ---------------------------------------------------------------


def test_a_k_outside_of_those_measured_is_never_claimed() -> None:
    """K = 1 and 4 were run; the model's best lie far beyond, at other K idle and under load."""
    truth = Truth(np.full(29, 1_000.0), np.full(29, 14_000.0), LaunchCosts(1_000.0, 30_000.0, 20_000.0))
    results = campaign(truth, {"load": ("none", LOADED), "k": (1, 4)}, board=loaded(6.0), repetitions=8, inferences=4)
    beyond = {one.model_k for one in klo_data.load(results).conditions}
    assert len(beyond) == 2
    assert min(one for one in beyond if one) > 4
    found = claims(results)
    assert found[DIFFERS].verdict == "no"  # K = 4 is the best of both in both
    for name in ("idle", f"load {LOADED}"):
        k = found[f"Best constant K ({name})"]
        assert k.estimate == 4
        assert k.high is not None
        assert k.high <= 4
        assert any("outside of what was measured (1 to 4)" in reason for reason in k.reasons)


def test_a_k_within_noise_of_the_best_in_both_vetoes_that_k_differs() -> None:
    """A model that is sure of two K cannot say that K differs where the measured times say that one serves both."""
    results = campaign(TRUTH, {"load": ("none", LOADED), "k": (2, 3, 4, 5)}, board=loaded(1.25), run_noise=0.02, seed=3)
    data = klo_data.load(results)
    sets = [set(one.near.k) for one in data.conditions if one.near is not None]
    assert len(sets) == 2
    assert sets[0] & sets[1]
    assert claims(results)[DIFFERS].verdict != "yes"


def test_a_level_of_k_beyond_the_kernels_is_said_to_be_one_flush() -> None:
    k = claims(campaign(TRUTH, {"k": (1, 4, 32)}, repetitions=6, inferences=3))["Best constant K (all runs)"]
    assert "K = 32 is one flush of all 24 kernels: shown as K = 24" in k.reasons


# --- the driver is called what it is ------------------------------------------------------------------------------


def stamped(results: FrameResults, when: str) -> FrameResults:
    """SUBMIT of every kernel by itself, by a worker after the flush or at enqueue: every kernel looks like a batch."""
    table = results.sample_tables["kernels"]
    submit = table["queued_ns"] + 50
    if when == "after the flush":
        submit = table["submit_ns"] + 2_000 * table.groupby(["run_id", "inference", "batch"]).cumcount()
    results.sample_tables["kernels"] = table.assign(submit_ns=submit, batch=table["kernel"])
    return results


def test_a_driver_whose_worker_stamps_each_kernel_after_the_flush_follows_k() -> None:
    results = stamped(campaign(TRUTH, {"k": (1, 2, 4, 8, 0)}, repetitions=7, inferences=5), "after the flush")
    found = claims(results)
    assert found[DRIVER].verdict == "yes"
    assert found[DRIVER].estimate == 0
    (condition,) = klo_data.load(results).conditions
    true = best_constant(TRUTH.p, TRUTH.g, TRUTH.costs)[0]
    assert condition.model is not None
    curve = constant_curve(TRUTH.p, TRUTH.g, TRUTH.costs)
    assert condition.constant_k is not None
    assert curve[condition.constant_k - 1] <= 1.01 * curve[true - 1]
    assert condition.model.fit.residual_pct < 2
    assert "Most that one flush could save over K = 1 (all runs)" not in found


def test_a_driver_that_submits_at_enqueue_does_not_follow_k() -> None:
    board = Board(submits=lambda flushed: (1,) * sum(flushed))
    found = claims(stamped(campaign(TRUTH, {"k": (1, 2, 8)}, board=board, repetitions=7, inferences=4), "at enqueue"))
    assert found[DRIVER].verdict == "no"
    assert found[DRIVER].estimate == 100
    assert not any("model's K" in claim for claim in found)


def test_a_submit_that_waited_for_the_kernel_before_is_no_submit_at_the_flush() -> None:
    """PoCL stamps SUBMIT when the kernel before has ended: long kernels make it look as if it waited for the flush."""
    slow = Truth(np.full(24, 5_000.0), np.full(24, 400_000.0), LaunchCosts(300.0, 20_000.0, 20_000.0))
    board = Board(submits=lambda flushed: (1,) * sum(flushed))
    results = campaign(slow, {"k": (1, 2, 4, 8, 0)}, board=board, repetitions=6, inferences=4)
    table = results.sample_tables["kernels"]
    ended = table.groupby(["run_id", "inference"])["end_ns"].shift(fill_value=0)
    results.sample_tables["kernels"] = table.assign(submit_ns=np.maximum(table["queued_ns"] + 300, ended + 5_000))
    found = claims(results)
    assert found[DRIVER].verdict == "no"
    assert found[DRIVER].estimate == 100
    assert "each kernel when it is enqueued" in found[DRIVER].reasons[0]


def test_a_driver_that_flushes_now_and_then_by_itself_is_no_driver_that_follows_k() -> None:
    def every_six(flushed: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(part for length in flushed for part in constant_batches(length, 6))

    found = claims(campaign(TRUTH, {"k": (1, 12, 0)}, board=Board(submits=every_six), repetitions=6, inferences=4))
    assert found[DRIVER].verdict == "no"
    assert "a part of the kernels by itself" in found[DRIVER].reasons[0]


# --- what rests on a fit ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def worthless() -> FrameResults:
    """Every inference is held up for long, each at another kernel, as where everything shares a core.

    Medians of kernels do not show it; inferences last four times as long as the model says.
    """
    results = campaign(TRUTH, {"load": ("none", LOADED), "k": (1, 2, 4, 8)}, repetitions=8, inferences=5)
    table = results.sample_tables["kernels"]
    held = 3_000_000 * (table["kernel"] > 3 * table["inference"] + 1)
    stamps = {name: table[name] + held for name in ("queued_ns", "submit_ns", "start_ns", "end_ns")}
    results.sample_tables["kernels"] = table.assign(**stamps)
    return results


def test_nothing_is_concluded_from_a_fit_that_does_not_describe_what_was_measured(worthless: FrameResults) -> None:
    for condition in klo_data.load(worthless).conditions:
        assert condition.profile is not None
        assert condition.profile.fit.residual_pct > 30
    found = claims(worthless)
    assert not any("model's K" in claim for claim in found)
    for name in ("idle", f"load {LOADED}"):
        assert any("the fit does not describe" in reason for reason in found[f"Best constant K ({name})"].reasons)
    assert not any("from the fitted model" in reason for reason in found[DIFFERS].reasons)
    costs = lut.analyse(worthless)
    assert {one.verdict for one in costs} <= {"inconclusive"}
    assert all(any("the fit does not describe" in reason for reason in one.reasons) for one in costs)
    with pytest.raises(ConfigError, match="median residual is"):
        plan(worthless)
    (curves,) = (figure for figure in klo.figures(worthless) if figure.name == "k-curves")
    assert not (curves.data["series"] == "model").any()


def test_a_flush_that_grows_with_its_batch_is_fitted_and_planned_with() -> None:
    costs = LaunchCosts(9_000.0, 30_000.0, 5_000.0, flush_per_kernel_ns=1_500.0)
    truth = Truth(np.full(48, 54_000.0), np.full(48, 31_000.0), costs)
    results = campaign(truth, {"k": (1, 2, 4, 8, 16, 0)}, repetitions=8, inferences=8)
    (condition,) = klo_data.load(results).conditions
    assert condition.profile is not None
    found = condition.profile.fit.costs
    assert found.flush_ns == pytest.approx(9_000, rel=0.1)
    assert found.flush_per_kernel_ns == pytest.approx(1_500, rel=0.1)
    assert condition.profile.fit.residual_pct < 1
    assert any("each kernel of a batch adds to its flush" in one.claim for one in lut.analyse(results))
    flat = klo_data.load(campaign(TRUTH, {"k": (1, 2, 4, 8, 0)}, repetitions=8, inferences=8)).conditions[0]
    assert flat.profile is not None
    assert flat.profile.fit.costs.flush_per_kernel_ns == 0


def test_a_flush_that_grows_is_simulated_as_the_recursion_says() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        n = int(rng.integers(1, 9))
        p, g = rng.uniform(1, 30, n), rng.uniform(1, 30, n)
        costs = LaunchCosts(*rng.uniform(0, 20, 4))
        ready, end = 0.0, -np.inf
        curve = constant_curve(p, g, costs)
        for k in range(1, n + 1):
            ready, end, at = 0.0, -np.inf, 0
            for length in constant_batches(n, k):
                ready += p[at : at + length].sum() + costs.flush_ns + length * costs.flush_per_kernel_ns
                end = max(ready + costs.start_idle_ns, end + costs.gap_ns) + g[at : at + length].sum()
                at += length
            assert curve[k - 1] == pytest.approx(end)
            assert simulate(p, g, costs, constant_batches(n, k)).makespan_ns == pytest.approx(end)
        assert best_schedule(p, g, costs)[1] <= curve.min() * (1 + 1e-9)


# --- chosen and judged --------------------------------------------------------------------------------------------


def equal(seed: int, repetitions: int = 8, **more: object) -> FrameResults:
    """Every K takes the same time, runs differ by 3%, every twelfth is far off."""
    factors = {"k": (1, 2, 3, 4, 6, 8, 12, 0)}
    results = campaign(TRUTH, factors, repetitions=repetitions, inferences=2, seed=seed)
    rng = np.random.default_rng(seed)
    totals = results.metric_rows["metric"] == "total_ns"
    noise = rng.lognormal(0, 0.03, totals.sum()) * np.where(rng.random(totals.sum()) < 1 / 12, 1.4, 1.0)
    results.metric_rows.loc[totals, "value"] = 1e6 * noise
    return results


def test_the_best_of_equal_k_is_not_faster_and_nothing_is_better_than_the_best() -> None:
    for seed in range(3):  # a bound below 1, where none is kept, was seen at each of twelve
        found = claims(equal(seed))
        speed = found.get("Is the measured best K faster than K = 1? (all runs)")
        if speed is not None and speed.low is not None:
            assert speed.verdict != "yes"
            assert speed.estimate is not None
            assert 1 <= speed.low <= speed.estimate
        for claim, one in found.items():
            if "within 5% of the measured best K" in claim and one.low is not None:
                assert one.estimate is not None
                assert 0 <= one.low <= one.estimate


def test_the_manual_k_is_not_compared_with_itself() -> None:
    truth = Truth(np.full(24, 2_000.0), np.full(24, 14_000.0), LaunchCosts(1_000.0, 30_000.0, 15_000.0))
    results = campaign(truth, {"k": (1, 4, 10)}, repetitions=7, inferences=3)
    found = claims(results)
    one = found["Is the measured best K faster than the framework default K = 10 (MNN, TNN, Paddle-Lite)? (all runs)"]
    assert one.verdict == "cannot tell here"
    assert one.estimate is None
    assert "the measured best K is K = 10 itself" in one.reasons[0]


@pytest.mark.parametrize("ks", [(1, 4, 16), (1, 2, 4)])
def test_a_default_k_that_was_not_run_is_said_and_not_judged_by_another(ks: tuple[int, ...]) -> None:
    """Between two that were run, or beyond them all."""
    results = campaign(TRUTH, {"k": ks}, repetitions=7, inferences=3)
    (one,) = (finding for claim, finding in claims(results).items() if "framework default" in claim)
    assert one.verdict == "cannot tell here"
    assert "K = 10 was not run" in one.reasons[0]
    assert "the nearest" not in one.claim


def test_a_default_k_beyond_the_kernels_is_one_flush() -> None:
    short = Truth(TRUTH.p[:8], TRUTH.g[:8], TRUTH.costs)
    found = claims(campaign(short, {"k": (1, 2, 0)}, repetitions=7, inferences=3))
    (claim,) = (claim for claim in found if "framework default" in claim)
    assert "here one flush of all 8" in claim
    assert found[claim].verdict in {"yes", "no", "inconclusive", "cannot tell here"}


@pytest.mark.parametrize("repetitions", [2, 3, 5])
def test_below_six_repetitions_there_is_no_interval_and_no_verdict(repetitions: int) -> None:
    factors = {"load": ("none", LOADED), "policy": ("constant", "static", "dynamic"), "k": (1, 2, 4, 8, 10)}
    results = campaign(TRUTH, factors, board=loaded(6.0), repetitions=repetitions, inferences=3)
    found = (*klo.analyse(results), *lut.analyse(results))
    assert {one.verdict for one in found} <= {"insufficient n", "info", "cannot tell here", "inconclusive"}
    assert all(one.low is None and one.high is None for one in found)
    assert all(one.n <= repetitions for one in found if not re.match("Most that", one.claim))


def test_n_counts_repetitions_however_many_k_there_are() -> None:
    def slow(levels: Levels) -> float:
        return 2.0 if levels["cpu"] == "min" else 1.0

    results = campaign(TRUTH, {"cpu": ("min", "max"), "k": (1, 2, 4, 8)}, board=Board(slower=slow), repetitions=7)
    found = (*klo.analyse(results), *lut.analyse(results))
    assert {one.n for one in found if one.low is not None} == {7}


def test_lost_runs_do_not_bend_a_ratio_over_several_k() -> None:
    """K = 1 is slow and lost with the load: what is left of it idle has no partner."""
    results = campaign(TRUTH, {"load": ("none", LOADED), "k": (1, 12)}, repetitions=8, inferences=3)
    rows = results.run_rows
    results.run_rows = rows.assign(valid=~((rows["k"] == 1) & (rows["load"] != "none") & (rows["repetition"] > 0)))
    one = claims(results)[f"Does the load change T_prod? (load {LOADED})"]
    assert one.verdict == "no"
    assert isinstance(results.run_rows, pd.DataFrame)
