"""What the priority analysis measures: figures of tenants and legs, the table and the pictures of them."""

import math

import numpy as np
import pandas as pd
import pytest

from devicelab.analyses import priority
from devicelab.analyses.priority import front
from devicelab.analyses.priority.data import jain, load
from devicelab.analyses.priority.figure_of import figure_of
from devicelab.analyses.priority.verdicts import left_out
from devicelab.experiment import targets
from devicelab.model.journal import Flag
from tests.klodata import FrameResults
from tests.tenantdata import campaign, concluded, experiment, response, tenants, throughput

NICE = "nice at pressure copies:2: high p99_ratio < 2"


@pytest.fixture(scope="module")
def results() -> FrameResults:
    return campaign(experiment(), response, throughput=throughput)


def test_starvation_is_seconds_without_a_completion_beyond_those_alone() -> None:
    claim = "{} at pressure copies:2: is low, the least important, starved (whole seconds without a completion)?"

    def empty(scheduler: str, tenant: str) -> float:
        return 3.0 if scheduler == "nice" and tenant == "low" else 0.0

    got = concluded(campaign(experiment(), response, empty=empty))
    assert got[claim.format("nice")].verdict == "yes"
    assert got[claim.format("nice")].estimate == 3
    assert got[claim.format("native")].verdict == "no"
    rare = concluded(campaign(experiment(), response, empty=lambda _, tenant: 3.0 * (tenant == "low")))
    assert rare[claim.format("nice")].verdict == "no"
    assert any("alone it has up to 3" in reason for reason in rare[claim.format("nice")].reasons)


@pytest.mark.parametrize(
    ("ratios", "drawn"),
    [((1.2, 1.1), True), ((1.2, math.nan), True), ((math.nan, math.nan), False), ((1.2,), False)],
)
def test_the_front_is_drawn_where_legs_are_compared_though_one_told_no_tail(
    results: FrameResults, monkeypatch: pytest.MonkeyPatch, ratios: tuple[float, ...], drawn: bool
) -> None:
    rows = pd.DataFrame({"leg": ["native", "nice"][: len(ratios)], "p99_ratio": ratios})
    monkeypatch.setattr(front, "front", lambda *_: rows.assign(pressure="", share_pct=50.0))
    assert bool([*front.figure(results, {})]) is drawn


def test_fairness_is_jains_index_over_shares_of_standalone(results: FrameResults) -> None:
    got = concluded(results)[
        "native at pressure copies:2: fairness (Jain's index over each copy's share of its standalone throughput)"
    ]
    assert got.estimate == pytest.approx(1.5**2 / (2 * 1.25), rel=1e-3)
    assert "low: 50% of its standalone throughput" in got.reasons


@pytest.mark.parametrize(("shares", "index"), [([1, 1, 1], 1), ([1, 0, 0, 0], 0.25), ([5], 1), ([2, 1], 0.9)])
def test_jains_index(shares: list[float], index: float) -> None:
    assert jain(np.array(shares, float)) == pytest.approx(index)


def test_jains_index_of_nothing_is_unknown() -> None:
    assert np.isnan(jain(np.zeros(3)))


def test_dropped_and_missed_requests_are_counted_per_run() -> None:
    of = experiment(tenants=tenants(targets={"dropped": "<= 0", "missed": "<= 2"}, params={"queue": 1}))
    got = concluded(campaign(of, response, dropped=lambda scheduler, _: 2 if scheduler == "nice" else 0))
    assert got["nice at pressure copies:2: high dropped <= 0"].verdict == "fail"
    assert got["nice at pressure copies:2: high dropped <= 0"].estimate == 2
    assert got["nice at pressure copies:2: high missed <= 2"].verdict == "pass"
    assert got["native at pressure copies:2: high missed <= 2"].estimate == 400  # all beyond the deadline of 20 ms


def test_a_request_that_still_waits_at_the_end_counts_with_what_it_had_waited() -> None:
    services = load(campaign(experiment(), response, dropped=lambda *_: 50))
    waiting = services["high", "nice", "copies:2"]
    assert waiting.response_ns.size == 6 * 450
    assert waiting.quantile_ms(0.99).estimate > 3000  # the window is 4 s, the first of them were due at its beginning
    assert waiting.service_ns.size == 6 * 400
    queued = experiment(tenants=tenants(params={"queue": 1}))
    dropped = load(campaign(queued, response, dropped=lambda *_: 50))["high", "nice", "copies:2"]
    assert dropped.response_ns.size == 6 * 400  # a full queue drops; those never have a response


def test_a_tenant_that_served_nothing_counts_with_no_request() -> None:
    of = experiment(tenants=tenants(targets={"dropped": "<= 0", "p99_ratio": "< 2"}))
    results = campaign(of, response, dropped=lambda scheduler, _: 7 if scheduler == "nice" else 0, empty=lambda *_: 4.0)
    served = results.sample_tables["requests"]
    lost = results.sample_tables["dropped"]
    nothing = served["run_id"].str.startswith("nice/") & (served["program"] == "high")
    results.sample_tables["requests"] = served[~nothing]
    got = concluded(results)
    assert got["nice at pressure copies:2: high dropped <= 0"].verdict == "fail"
    assert got["nice at pressure copies:2: high dropped <= 0"].estimate == 7
    assert got[NICE].verdict == "insufficient n"
    service = load(results)["high", "nice", "copies:2"]
    assert service.repetitions == 6
    assert service.response_ns.size == 6 * 7  # what waited to the end
    assert service.figure("empty_seconds").estimate == 4
    assert {figure.name for figure in priority.figures(results)} >= {"latency-high", "throughput-shares"}
    # Nobody's requests, not even waiting ones.
    results.sample_tables["requests"], results.sample_tables["dropped"] = served[:0], lost[:0]
    assert len(load(results)) == 6
    assert all(service.response_ns.size == 0 for service in load(results).values())
    assert concluded(results)[NICE].verdict == "insufficient n"
    assert {figure.name for figure in priority.figures(results)} == {"targets", "throughput-shares"}
    assert (priority.table(results)["requests"] == 0).all()


def test_preemption_is_service_time_less_its_standalone_median(results: FrameResults) -> None:
    services = load(results)
    got = figure_of(services["high", "native", "copies:2"], "preemption_p50_ms", services)
    assert got.estimate == pytest.approx((8 - 1) * 5 / 2, rel=0.02)  # half of the response is service
    assert got.low is not None
    tail = figure_of(services["high", "native", "copies:2"], "preemption_p99_ms", services)
    assert tail.estimate > got.estimate
    own = figure_of(services["high", "standalone", ""], "preemption_p50_ms", services)
    assert own.estimate == pytest.approx(0, abs=1e-9)


def test_gpu_use_is_a_target_of_the_leg() -> None:
    low = tenants()[1].model_copy(update={"targets": {"gpu_use_pct": "> 90"}})
    of = experiment(tenants=(tenants()[0], low))
    got = concluded(
        campaign(of, response, gpu_use=lambda scheduler: {"nice": 95.0, "native": 60.0}.get(scheduler, 30.0))
    )
    assert got["nice at pressure copies:2: low gpu_use_pct > 90"].verdict == "pass"
    assert got["nice at pressure copies:2: low gpu_use_pct > 90"].unit == "%"
    assert got["native at pressure copies:2: low gpu_use_pct > 90"].verdict == "no"
    unknown = concluded(campaign(of, response))
    assert unknown["nice at pressure copies:2: low gpu_use_pct > 90"].verdict == "insufficient n"


def test_a_schedulers_own_cost_is_told_from_a_tenant_alone_under_it() -> None:
    of = experiment(factors={"scheduler": ("standalone", "standalone+nice", "native"), "pressure": ("copies:2",)})
    got = concluded(campaign(of, response, throughput=lambda s, _: 97.0 if s == "standalone+nice" else 100.0))
    latency = got["standalone+nice: own cost of the scheduler, P50 of high over standalone"]
    assert latency.estimate == pytest.approx(1.05, rel=0.01)
    rate = got["standalone+nice at pressure copies:2: own cost of the scheduler, throughput of low over standalone"]
    assert rate.estimate == pytest.approx(97, abs=0.1)


def test_the_table_has_every_figure_of_every_tenant_and_leg(results: FrameResults) -> None:
    table = priority.table(results)
    assert len(table) == 6
    assert set(targets.FIGURES) <= set(table.columns)
    assert (table["repetitions"] == 6).all()


def test_a_strip_shows_one_run_of_each_leg(results: FrameResults) -> None:
    (strip,) = (one.data for one in priority.figures(results) if one.name == "requests-strip")
    assert set(strip["leg"]) == {"standalone", "native", "nice"}
    assert strip.groupby("leg")["run_id"].nunique().eq(1).all()


def test_a_latency_curve_counts_requests_by_that_name(results: FrameResults) -> None:
    (curve,) = [figure for figure in priority.figures(results) if figure.name == "latency-high"]
    assert "n" not in curve.data.columns
    assert set(curve.data["requests"]) == {6 * 400}


def test_of_what_speaks_against_the_runs_of_a_leg_the_three_most_frequent_are_said() -> None:
    said = ("a", "b", "c", "d")

    def flags(scheduler: str, repetition: int) -> tuple[Flag, ...]:
        """Of six repetitions a speaks against five, b against four, c three times, d twice."""
        spoken = [code for place, code in enumerate(said) if repetition <= 4 - place]
        return tuple(Flag(code=code, detail="x") for code in spoken) if scheduler == "nice" else ()

    found = left_out(campaign(experiment(), response, flags=flags, requests=2))
    assert found == {("nice", "copies:2"): ("5 of 6 runs are invalid", "a: x", "b: x", "c: x")}
    alike = left_out(campaign(experiment(), response, flags=lambda s, n: flags(s, min(n, 0)), requests=2))
    assert alike == {("nice", "copies:2"): ("6 of 6 runs are invalid", "a: x", "b: x", "c: x")}
