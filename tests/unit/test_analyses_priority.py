"""What the priority analysis concludes from campaigns with known truth."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from devicelab.analyses import _stats, priority
from devicelab.analyses.priority.data import Windows, load
from devicelab.analyses.priority.figure_of import figure_of
from devicelab.errors import ConfigError
from devicelab.experiment import gauge, targets
from devicelab.model.experiment import Verdict
from devicelab.model.journal import Flag
from tests.klodata import FrameResults
from tests.tenantdata import campaign, concluded, experiment, response, tenants, throughput

HURTS = "does native sharing hurt high (P99 over standalone) at pressure copies:2?"
NATIVE = "native at pressure copies:2: high p99_ratio < 2"
NICE = "nice at pressure copies:2: high p99_ratio < 2"


@pytest.fixture(scope="module")
def results() -> FrameResults:
    return campaign(experiment(), response, throughput=throughput)


def test_a_scheduler_that_keeps_its_target_where_native_hurts_passes(results: FrameResults) -> None:
    got = concluded(results)
    assert got[HURTS].verdict == "yes"
    assert got[HURTS].estimate == pytest.approx(8, rel=0.05)
    assert got[NATIVE].verdict == "no"
    assert got[NICE].verdict == "pass"
    assert got[NICE].estimate == pytest.approx(1.2, rel=0.05)
    assert got["nice at pressure copies:2: low share_pct > 30"].verdict == "pass"
    assert got["nice at pressure copies:2: low share_pct > 30"].estimate == pytest.approx(40, abs=0.5)


def test_native_sharing_answers_and_never_fails(results: FrameResults) -> None:
    verdicts = {f.verdict for f in priority.analyse(results) if f.claim.startswith("native")}
    assert not verdicts & {"pass", "fail"}


def test_a_scheduler_that_breaks_its_target_fails() -> None:
    got = concluded(campaign(experiment(), lambda s, t, rng, n: response("native" if s == "nice" else s, t, rng, n)))
    assert got[NICE].verdict == "fail"


def test_where_native_does_not_hurt_a_kept_target_says_nothing() -> None:
    got = concluded(campaign(experiment(), lambda _, t, rng, n: response("standalone", t, rng, n)))
    assert got[HURTS].verdict == "no"
    assert got[NICE].verdict == "cannot tell here"
    assert any("does not visibly hurt" in reason for reason in got[NICE].reasons)


def test_a_wide_interval_does_not_show_that_native_sharing_hurts_nobody() -> None:
    def jumpy(_: str, tenant: str, rng: np.random.Generator, n: int) -> np.ndarray:
        times = rng.normal(5, 0.1, n)
        return np.where(rng.random(n) < 0.012, rng.uniform(5, 60, n), times) if tenant == "high" else times

    got = concluded(campaign(experiment(), jumpy))[HURTS]
    assert got.low is not None
    assert got.high is not None
    assert got.low < 1 < got.high
    assert got.verdict == "inconclusive"


def test_a_broken_target_is_a_failure_even_where_native_does_not_hurt() -> None:
    def odd(scheduler: str, tenant: str, rng: np.random.Generator, n: int) -> np.ndarray:
        return response({"nice": "native", "native": "standalone"}.get(scheduler, scheduler), tenant, rng, n)

    assert concluded(campaign(experiment(), odd))[NICE].verdict == "fail"


def test_a_median_is_judged_by_what_native_sharing_does_to_the_median() -> None:
    """Native sharing that hurts the median alone, as a fast card's does."""

    def tail(scheduler: str, tenant: str, rng: np.random.Generator, n: int) -> np.ndarray:
        times = rng.normal(5, 0.1, n) * (1.5 if scheduler == "native" and tenant == "high" else 1.0)
        return np.where(np.arange(n) < n // 20, 40.0, times)

    of = experiment(tenants=tenants(targets={"p50_ratio": "< 1.2", "p99_ratio": "< 1.2"}))
    got = concluded(campaign(of, tail))
    assert got["does native sharing hurt high (P50 over standalone) at pressure copies:2?"].verdict == "yes"
    assert got[HURTS].verdict == "no"
    assert got["nice at pressure copies:2: high p50_ratio < 1.2"].verdict == "pass"
    assert got["nice at pressure copies:2: high p99_ratio < 1.2"].verdict == "cannot tell here"


def test_without_a_native_leg_a_kept_target_says_nothing() -> None:
    of = experiment(factors={"scheduler": ("standalone", "nice"), "pressure": ("copies:2",)})
    assert concluded(campaign(of, response))[NICE].verdict == "cannot tell here"


def test_a_native_leg_that_says_nothing_is_not_said_to_hurt_nobody() -> None:
    def broken(scheduler: str, _repetition: int) -> tuple[Flag, ...]:
        return (Flag(code="timeout", detail="low"),) if scheduler == "native" else ()

    never = experiment(factors={"scheduler": ("standalone", "nice"), "pressure": ("copies:2",)})
    for results in (campaign(never, response), campaign(experiment(), response, flags=broken)):
        got = concluded(results)[NICE]
        assert got.verdict == "cannot tell here"
        assert got.reasons[0] == "whether native sharing hurts the important tenant's P99 here is not known"


def test_a_bound_inside_the_interval_is_inconclusive() -> None:
    of = experiment(tenants=tenants(targets={"p99_ratio": "< 1.2"}))
    got = concluded(campaign(of, response))
    assert got["nice at pressure copies:2: high p99_ratio < 1.2"].verdict == "inconclusive"


def test_few_requests_give_no_bounds_for_a_p99() -> None:
    got = concluded(campaign(experiment(), response, requests=50))
    assert got[HURTS].verdict == "insufficient n"
    assert got[NICE].verdict == "insufficient n"
    assert got[NICE].estimate is not None
    assert got[NICE].low is None


@pytest.mark.parametrize("repetitions", [2, 5])
def test_below_six_repetitions_nothing_has_bounds_or_a_verdict_however_many_requests(repetitions: int) -> None:
    found = priority.analyse(campaign(experiment(repetitions=repetitions), response, requests=3000))
    assert {one.verdict for one in found} == {"insufficient n", "info"}
    assert all(one.low is None for one in found)
    assert all(one.n <= repetitions for one in found)


def test_a_repetition_counts_once_however_many_requests_it_has() -> None:
    """One slow process of six widens the interval; requests of one process are not independent."""
    calm = load(campaign(experiment(), response))["high", "nice", "copies:2"].quantile_ms(0.99)
    count = iter(range(1000))

    def restless(scheduler: str, tenant: str, rng: np.random.Generator, n: int) -> np.ndarray:
        times = response(scheduler, tenant, rng, n)
        return times * (3 if scheduler == "nice" and tenant == "high" and next(count) == 0 else 1)

    wide = load(campaign(experiment(), restless))["high", "nice", "copies:2"].quantile_ms(0.99)
    assert calm.n == wide.n == 6
    assert calm.high is not None
    assert wide.low is not None
    assert wide.high is not None
    assert wide.low < calm.high < 10 < wide.high


def test_a_ratio_is_taken_repetition_by_repetition_so_that_drift_cancels() -> None:
    """Every repetition is 30% slower than the one before, in both legs: the ratio does not move."""
    blocks: dict[tuple[str, str], int] = {}

    def drifting(scheduler: str, tenant: str, rng: np.random.Generator, n: int) -> np.ndarray:
        blocks[scheduler, tenant] = blocks.get((scheduler, tenant), -1) + 1
        return response(scheduler, tenant, rng, n) * 1.3 ** blocks[scheduler, tenant]

    services = load(campaign(experiment(), drifting))
    got = figure_of(services["high", "nice", "copies:2"], "p99_ratio", services)
    assert got.n == 6
    assert got.low == pytest.approx(1.2, rel=0.02)
    assert got.high == pytest.approx(1.2, rel=0.02)


def test_a_tenant_that_gets_nothing_at_all_has_a_share_of_nothing() -> None:
    got = concluded(campaign(experiment(), response, throughput=lambda s, t: 0.0 if (s, t) == ("nice", "low") else 9.0))
    assert got["nice at pressure copies:2: low share_pct > 30"].verdict == "fail"


def test_a_leg_whose_treatment_was_not_seen_is_invalid_with_the_reason() -> None:
    def not_seen(scheduler: str, _repetition: int) -> tuple[Flag, ...]:
        return (Flag(code="scheduler-not-seen", detail="nice: odd"),) if scheduler == "nice" else ()

    got = concluded(campaign(experiment(), response, flags=not_seen))
    assert got[NICE].verdict == "invalid"
    assert got[NICE].estimate is None
    assert got[NICE].reasons == ("6 of 6 runs are invalid", "scheduler-not-seen: nice: odd")
    assert got["nice at pressure copies:2: low share_pct > 30"].verdict == "invalid"
    assert got[NATIVE].verdict == "no"  # the other legs go on


def test_an_invalid_run_is_left_out_and_said() -> None:
    def once(scheduler: str, repetition: int) -> tuple[Flag, ...]:
        return (Flag(code="timeout", detail="low"),) if scheduler == "nice" and repetition == 1 else ()

    got = concluded(campaign(experiment(repetitions=7), response, flags=once))[NICE]
    assert got.verdict == "pass"
    assert got.n == 6
    assert "1 of 7 runs are invalid" in got.reasons


def test_without_any_valid_run_every_target_is_invalid() -> None:
    got = priority.analyse(campaign(experiment(), response, flags=lambda *_: (Flag(code="x", detail="y"),)))
    assert {finding.verdict for finding in got} == {"insufficient n", "invalid"}
    assert priority.figures(campaign(experiment(), response, flags=lambda *_: (Flag(code="x", detail="y"),))) == ()


def test_an_experiment_without_tenants_has_nothing_to_say(results: FrameResults) -> None:
    none = experiment(tenants=(), factors={})
    assert priority.analyse(FrameResults(none, results.run_rows, results.metric_rows)) == ()


def test_the_least_pressure_that_hurts_is_found_in_the_experiments_order() -> None:
    pressures = ("batch:8", "batch:32", "batch:128")
    of = experiment(factors={"scheduler": ("standalone", "native"), "pressure": pressures})
    slow = {"batch:8": 1.0, "batch:32": 1.5, "batch:128": 4.0}
    results = campaign(of, lambda _, t, rng, n: response("standalone", t, rng, n))
    table = results.sample_tables["requests"]
    for pressure, factor in slow.items():
        rows = table["run_id"].str.contains(f"native/{pressure}/") & (table["program"] == "high")
        took = table.loc[rows, "end_ns"] - table.loc[rows, "scheduled_ns"]
        table.loc[rows, "end_ns"] = table.loc[rows, "scheduled_ns"] + (took * factor).astype(int)
    got = concluded(results)
    least = got["least pressure at which native sharing visibly hurts: at batch:32"]
    *told, last = least.reasons
    assert [reason.split(":")[1] for reason in told] == ["8", "32", "128"]
    assert last.startswith("chosen from these runs")


def test_pressures_that_are_numbers_keep_their_text_and_their_order() -> None:
    of = experiment(factors={"scheduler": ("standalone", "native", "nice"), "pressure": (2, 16)})
    results = campaign(of, response)
    assert results.run_rows["pressure"].dtype == float  # a leg without a pressure makes them so
    assert {pressure for _, _, pressure in load(results)} == {"", "2", "16"}
    got = concluded(results)
    assert got["least pressure at which native sharing visibly hurts: at 2"].n == 2
    assert got["nice at pressure 16: high p99_ratio < 2"].verdict == "pass"


def test_simulated_results_say_so(results: FrameResults) -> None:
    simulated = FrameResults(
        results.experiment, results.run_rows, results.metric_rows, results.sample_tables, {"simulated": True}
    )
    assert all(finding.simulated for finding in priority.analyse(simulated))


@pytest.mark.parametrize(
    ("low", "high", "text", "verdict"),
    [
        (1, 2, "< 3", "pass"), (1, 2, "< 1.5", "inconclusive"), (1, 2, "< 1", "fail"),
        (1, 2, "<= 2", "pass"), (1, 2, "> 0.5", "pass"), (1, 2, ">= 2", "inconclusive"), (1, 2, "> 2", "fail"),
        (None, None, "< 3", "insufficient n"), (1, None, "< 3", "insufficient n"),
    ],
)  # fmt: skip
def test_the_whole_interval_has_to_keep_a_bound(low: Any, high: Any, text: str, verdict: Verdict) -> None:
    (target,) = targets.of(tenants(targets={"p99_ms": text})[0])
    assert _stats.kept(low, high, target.keeps) == verdict


def test_an_unknown_figure_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="p98_ms"):
        targets.of(tenants(targets={"p98_ms": "< 3"})[0])


def test_a_target_that_nothing_could_keep_is_not_held_against_a_scheduler() -> None:
    """Native sharing keeps the GPU as busy as the tenants can; where that is too little, so is every scheduler's."""
    low = tenants()[1].model_copy(update={"targets": {"gpu_use_pct": "> 90", "share_pct": "> 60"}})
    of = experiment(tenants=(tenants()[0], low))
    got = concluded(campaign(of, response, throughput=throughput, gpu_use=lambda _: 60.0))
    use = got["nice at pressure copies:2: low gpu_use_pct > 90"]
    assert use.verdict == "cannot tell here"
    assert use.reasons[0].startswith("native sharing misses it too (62.5 [60, 65])")
    assert got["native at pressure copies:2: low gpu_use_pct > 90"].verdict == "no"
    assert got["nice at pressure copies:2: low share_pct > 60"].verdict == "fail"  # a scheduler shares as it likes
    lazy = concluded(campaign(of, response, gpu_use=lambda scheduler: 95.0 if scheduler == "native" else 60.0))
    assert lazy["nice at pressure copies:2: low gpu_use_pct > 90"].verdict == "fail"


def test_an_open_question_about_native_sharing_does_not_read_as_its_answer() -> None:
    def jumpy(scheduler: str, tenant: str, rng: np.random.Generator, n: int) -> np.ndarray:
        slow = rng.uniform(0.8, 1.6) if scheduler == "native" and tenant == "high" else 1.0
        return slow * rng.normal(5, 0.1, n)

    got = concluded(campaign(experiment(), jumpy))
    assert got[HURTS].verdict == "inconclusive"
    assert got[NICE].verdict == "cannot tell here"
    assert "cannot be told" in got[NICE].reasons[0]
    assert "does not" not in got[NICE].reasons[0]


def test_a_share_of_more_than_all_there_is_has_a_remark() -> None:
    rates = {"nice": 112.0, "native": 80.0}
    got = concluded(campaign(experiment(), response, throughput=lambda scheduler, _: rates.get(scheduler, 100.0)))
    share = got["nice at pressure copies:2: low share_pct > 30"]
    assert share.estimate == pytest.approx(112, abs=0.1)
    assert any(reason.startswith("above 100%: alone it got less") for reason in share.reasons)
    fairness = got[
        "nice at pressure copies:2: fairness (Jain's index over each copy's share of its standalone throughput)"
    ]
    assert any("low: 112% of its standalone throughput; above 100%" in reason for reason in fairness.reasons)
    assert not any("above 100%" in r for r in got["native at pressure copies:2: low share_pct > 30"].reasons)


def test_what_waits_at_the_end_of_a_window_has_waited_until_its_own_end() -> None:
    of = experiment(duration_s=4.0, windows=3, pause_s=1.0)
    windows = Windows.of(of)
    ms = 1_000_000
    assert windows.left_ns(np.array([0, 3900 * ms, 5000 * ms, 8900 * ms])).tolist() == [
        4000 * ms, 100 * ms, 4000 * ms, 100 * ms,
    ]  # fmt: skip
    assert Windows.of(experiment(duration_s=4.0)).left_ns(np.array([3900 * ms])).tolist() == [100 * ms]


def test_windows_of_one_start_are_one_repetition() -> None:
    """Three starts of many windows each carry no verdict: windows of one process are not independent."""
    of = experiment(repetitions=3, windows=40, pause_s=0.0, duration_s=0.1)
    got = concluded(campaign(of, response, throughput=throughput))
    assert got[NICE].verdict == "insufficient n"
    assert got[NICE].n == 3


def test_tenants_that_only_ran_alone_are_a_table_and_each_was_served_or_not() -> None:
    of = experiment(factors={"scheduler": ("standalone",)}, repetitions=1)
    good = campaign(of, response)
    assert priority.ANSWERS["served"](good).verdict == "yes"
    (table,) = (figure for figure in priority.figures(good) if figure.name == "alone")
    assert list(table.data["tenant"]) == ["high", "low"]
    assert list(table.data["requests"]) == [400, 400]
    bad = campaign(of, response, flags=lambda _s, _r: (Flag(code="output-unusable", detail="no torch"),))
    found = priority.ANSWERS["served"](bad)
    assert found.verdict == "invalid"
    assert "not served: high, low" in found.reasons
    assert any("no torch" in reason for reason in found.reasons)
    assert not [figure for figure in priority.figures(campaign(experiment(), response)) if figure.name == "alone"]
    cut = replace(good, run_rows=good.run_rows[good.run_rows["tenant"] == "high"])
    found = priority.ANSWERS["served"](cut)
    assert (found.verdict, found.reasons[1]) == ("insufficient n", "not run: low")


def test_joules_a_request_are_the_whole_cards_and_say_so() -> None:
    results = campaign(experiment(), response, throughput=throughput)
    rows = [
        (run, gauge.PROGRAM, name, watts, "W")
        for run in results.run_rows["run_id"]
        for name, watts in (("card_w", 400.0), ("card_idle_w", 100.0))
    ]
    more = pd.DataFrame(rows, columns=list(results.metric_rows.columns))
    results = replace(results, metric_rows=pd.concat([results.metric_rows, more], ignore_index=True))
    found = concluded(results)["nice at pressure copies:2: energy a request of low, whole card"]
    assert found.verdict == "info"
    assert (found.estimate, found.unit) == (pytest.approx(10, rel=0.01), "J")  # 400 W at 40 requests a second
    assert "gross" in found.reasons[0]
    assert "net of idle (100 W while loaded and at rest): 7.5 J" in found.reasons[1]


def several(repetitions: int, slow: dict[str, float]) -> FrameResults:
    """Schedulers of which each is truly so much slower than alone."""
    of = experiment(factors={"scheduler": ("standalone", "native", "nice:5", "nice:10")}, repetitions=repetitions)

    def times(scheduler: str, tenant: str, rng: np.random.Generator, n: int) -> np.ndarray:
        return (slow.get(scheduler, 1.0) if tenant == "high" else 1.0) * rng.normal(5, 0.1, n)

    return campaign(of, times, requests=100)


def test_a_scheduler_chosen_among_several_is_judged_by_repetitions_that_did_not_choose() -> None:
    slow = {"native": 8.0, "nice:5": 3.0, "nice:10": 1.2}
    few = priority.answer(several(6, slow))
    assert few.verdict == "insufficient n"
    assert any("12 repetitions are the least" in reason for reason in few.reasons)
    enough = priority.answer(several(12, slow))
    assert enough.verdict == "yes"
    assert enough.comparison == "scheduler nice:10 / standalone"
    assert enough.n == 6
    assert any("nice:10 was chosen by the earlier half" in reason for reason in enough.reasons)


def test_one_scheduler_was_not_chosen_and_none_that_keeps_needs_no_second_look() -> None:
    assert priority.answer(campaign(experiment(), response, throughput=throughput)).verdict == "yes"
    assert priority.answer(several(6, {"native": 8.0, "nice:5": 3.0, "nice:10": 3.0})).verdict == "no"


def test_the_sms_a_tenant_was_granted_are_shown() -> None:
    results = campaign(experiment(), response, throughput=throughput)
    rows = [
        (run, "low", name, value, "1")
        for run in results.run_rows["run_id"]
        if run.startswith("nice/")
        for name, value in (("sm_total", 132.0), ("sm_asked", 33.0), ("sm_granted", 40.0))
    ]
    more = pd.DataFrame(rows, columns=list(results.metric_rows.columns))
    found = concluded(replace(results, metric_rows=pd.concat([results.metric_rows, more], ignore_index=True)))
    granted = found["nice at pressure copies:2: SMs that low was granted"]
    assert (granted.estimate, granted.n) == (40, 6)
    assert "asked for 33 of the card's 132" in granted.reasons[0]
    assert not any("was granted" in claim and "high" in claim for claim in found)
