"""Campaigns with a stop rule: the answer and the checks by sequences, everything else without a verdict."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devicelab.analyses import sequential
from devicelab.analyses.klo.model import LaunchCosts
from devicelab.model.journal import Flag
from devicelab.report.build import conclude
from devicelab.store import Store
from tests.klodata import Board, FrameResults, Truth, campaign
from tests.labdata import begin

TRUTH = Truth(np.full(8, 20_000.0), np.full(8, 14_000.0), LaunchCosts(4_000.0, 30_000.0, 15_000.0))
FACTORS = {"load": ("none", "1000 5000 20"), "placement": ("free",), "k": (1, 4)}
ANSWER = {"quantity": "t_prod_median_ns", "by": "load", "against": {"load": "none"}, "within_pct": 5}
FAST = {"name": "fast", "metric": "total_ns", "where": {"load": "none", "k": 1}, "bound": "< 5 ms"}
SLOWER = {"name": "slower", "metric": "total_ns", "where": {"load": "1000 5000 20"}, "against": {"load": "none"}}


def adaptive(times: float, repetitions: int = 12, flags: Any = None, **fields: Any) -> FrameResults:
    slower = Board(slower=lambda levels: times if levels.get("load") != "none" else 1.0)
    board = slower if flags is None else Board(slower=slower.slower, flags=flags)
    rest = {"answer": ANSWER, "stop": {"until": "decided"}, "analyses": ["klo", "load"], **fields}
    return campaign(TRUTH, FACTORS, board=board, repetitions=repetitions, inferences=3, **rest)


@pytest.mark.parametrize(("times", "verdict"), [(1.0, "no"), (1.3, "yes"), (0.8, "yes")])
def test_the_answer_is_the_planted_one_with_its_kind_of_interval(times: float, verdict: str) -> None:
    (found,) = [one for one in conclude(adaptive(times)) if one.answer]
    assert (found.verdict, found.interval, found.quantity) == (verdict, "anytime", "t_prod_median_ns")
    assert found.low <= times <= found.high  # type: ignore[operator]
    assert found.comparison == "load 1000 5000 20 / idle"
    assert any("decided after" in reason for reason in found.reasons)


def test_checks_are_judged_by_sequences_in_their_own_units() -> None:
    found = {
        one.claim: one
        for one in conclude(adaptive(1.3, checks=[FAST, {**SLOWER, "bound": "< 5 %"}]))
        if one.analysis == "checks"
    }
    fast, slower = found["fast: total_ns < 5 ms"], found["slower: total_ns < 5 %"]
    assert (fast.verdict, fast.unit, fast.interval) == ("pass", "ms", "anytime")
    assert fast.high < 5  # type: ignore[operator]
    assert (slower.verdict, slower.unit) == ("fail", "%")
    assert 5 < slower.low < slower.estimate < 40  # type: ignore[operator]


def test_a_check_that_no_run_has_the_figure_of_is_invalid() -> None:
    lost = {"name": "lost", "metric": "no_such_ns", "bound": "< 5 ms"}
    (found,) = [one for one in conclude(adaptive(1.0, checks=[lost])) if one.analysis == "checks"]
    assert found.verdict == "invalid"


def test_intervals_of_a_fixed_n_are_shown_and_not_judged() -> None:
    found = [one for one in conclude(adaptive(1.3)) if one.analysis not in {"answer", "checks"}]
    with_interval = [one for one in found if one.low is not None]
    assert with_interval
    assert all(one.verdict == "info" and one.interval == "fixed n" for one in with_interval)
    fixed = adaptive(1.3, stop=None)
    assert any(one.verdict in {"yes", "no"} and one.low is not None for one in conclude(fixed))


def test_without_an_answer_yet_the_reason_is_what_ended_it() -> None:
    results = adaptive(1.0, repetitions=4)
    results.info["reason"] = "stopped early"
    (found,) = [one for one in conclude(results) if one.answer]
    assert found.verdict == "insufficient n"
    assert found.reasons[-1].endswith("stopped early"), "the last reason is what a headline says"


@pytest.mark.parametrize("kept", [0, 1])
def test_an_end_before_what_is_compared_has_run_is_no_answer_and_no_mistake(kept: int) -> None:
    whole = adaptive(1.0, repetitions=1)
    info = {**whole.info, "reason": "stopped early"}
    results = FrameResults(whole.experiment, whole.run_rows.iloc[:kept], whole.metric_rows, info=info)
    (found,) = [one for one in conclude(results) if one.answer]
    assert (found.verdict, found.quantity) == ("insufficient n", "t_prod_median_ns")
    assert found.reasons[-1].endswith("stopped early")


def test_cells_that_are_never_valid_leave_the_answer_open() -> None:
    def never(levels: Any, _: int) -> tuple[Flag, ...]:
        return (Flag(code="throttled", detail="hot"),) if levels["load"] != "none" else ()

    (found,) = [one for one in conclude(adaptive(1.3, flags=never)) if one.answer]
    assert found.verdict == "insufficient n"


def test_the_kind_of_interval_is_stored_and_shown(tmp_path: Path) -> None:
    results = adaptive(1.3)
    findings = conclude(results)
    with Store.open(tmp_path / "s.sqlite") as store:
        kept = begin(store)
        store.add_findings(kept, findings)
        assert store.findings(kept) == findings
    assert json.loads(findings[0].model_dump_json())["interval"] == "anytime"


def test_an_experiment_without_a_stop_rule_has_no_such_findings() -> None:
    assert sequential.analyse(adaptive(1.3, stop=None)) == ()
