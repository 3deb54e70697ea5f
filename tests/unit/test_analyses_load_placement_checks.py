"""What the load, placement and checks analyses conclude from campaigns with known truth."""

import numpy as np
import pandas as pd
import pytest

from devicelab.analyses import checks, load, placement
from devicelab.model.experiment import Check, Finding
from devicelab.model.journal import Flag
from tests.klodata import Board, FrameResults, Levels, campaign, random_truth

TRUTH = random_truth(np.random.default_rng(1), 12)
FACTORS = {"load": ("none", "1000 5000 20"), "placement": ("free", "one-per-core")}


def disturbed(levels: Levels) -> float:
    return 1.5 if levels.get("placement") == "one-per-core" else 1.0


@pytest.fixture(scope="module")
def results() -> FrameResults:
    return campaign(TRUTH, FACTORS, board=Board(slower=disturbed), repetitions=8, noise=0.02)


def by_claim(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    return {finding.claim: finding for finding in findings}


def test_cpu_use_is_given_for_each_load_with_the_noted_figure_beside_it(results: FrameResults) -> None:
    got = by_claim(load.analyse(results))
    use = got["CPU use, whole device: load 1000 5000 20 one-per-core"]
    assert use.verdict == "info"
    assert use.estimate == pytest.approx(43, abs=3)
    assert use.low is not None
    assert use.low < use.estimate
    assert use.n == 8
    assert any("the lab noted 43%" in reason for reason in use.reasons)
    assert any("4 processes used 1.7" in reason for reason in use.reasons)
    assert use.simulated
    assert got["CPU use, whole device: idle"].estimate == pytest.approx(5, abs=2)
    assert got["Every load ran where it was placed, for the whole run, and ended"].verdict == "pass"


def test_a_load_that_did_not_run_fails_the_load_verdict_and_its_runs_do_not_count() -> None:
    def died(levels: Levels, repetition: int) -> tuple[Flag, ...]:
        return (Flag(code="load-died", detail="pid 8"),) if levels["load"] != "none" and repetition == 2 else ()

    got = by_claim(load.analyse(campaign(TRUTH, FACTORS, board=Board(flags=died), inferences=2)))
    ran = got["Every load ran where it was placed, for the whole run, and ended"]
    assert ran.verdict == "fail"
    assert ran.reasons == ("2 of 16 runs: load-died",)
    assert got["CPU use, whole device: load 1000 5000 20 free"].n == 7


def test_few_runs_give_cpu_use_without_an_interval() -> None:
    results = campaign(TRUTH, {"load": ("none",)}, repetitions=3, inferences=2)
    (use,) = load.analyse(results)
    assert use.estimate is not None
    assert use.low is None
    assert use.n == 3


def test_a_campaign_without_valid_runs_or_samples_is_said_to_have_too_little(results: FrameResults) -> None:
    none_valid = FrameResults(results.experiment, results.run_rows.assign(valid=False), results.metric_rows)
    assert [f.verdict for f in load.analyse(none_valid)] == ["pass"]
    no_samples = FrameResults(results.experiment, results.run_rows, results.metric_rows)
    assert load.analyse(no_samples)[0].verdict == "insufficient n"
    assert load.figures(no_samples) == ()


def test_only_the_placement_that_disturbs_is_said_to_disturb(results: FrameResults) -> None:
    got = by_claim(placement.analyse(results))
    disturbing = got["Does load 1000 5000 20 one-per-core change the T_prod?"]
    assert disturbing.verdict == "yes"
    assert disturbing.low is not None
    assert disturbing.high is not None
    assert disturbing.low < 1.5 < disturbing.high * 1.01
    harmless = got["Does load 1000 5000 20 free change the time of an inference?"]
    assert harmless.verdict == "no"
    assert harmless.estimate == pytest.approx(1, abs=0.01)
    assert harmless.n == 8


def test_refused_placements_are_named_in_the_reasons() -> None:
    def refused(levels: Levels, repetition: int) -> tuple[Flag, ...]:
        taken = levels.get("placement") == "one-per-core" and repetition < 3
        return (Flag(code="affinity-refused", detail="cpu 4: EINVAL"),) if taken else ()

    got = by_claim(placement.analyse(campaign(TRUTH, FACTORS, board=Board(flags=refused), inferences=2)))
    one = got["Does load 1000 5000 20 one-per-core change the time of an inference?"]
    assert one.verdict == "insufficient n"
    assert "3 of 8 runs are invalid: affinity-refused" in one.reasons


def test_placement_has_nothing_to_say_without_loads() -> None:
    results = campaign(TRUTH, {"k": (1, 4)}, repetitions=2, inferences=2)
    assert placement.analyse(results) == ()
    assert placement.figures(results) == ()


def check(results: FrameResults, **fields: object) -> Finding:
    one = Check.model_validate({"name": "c", "metric": "total_ns", **fields})
    experiment = results.experiment.model_copy(update={"checks": (one,)})
    (finding,) = checks.analyse(
        FrameResults(experiment, results.run_rows, results.metric_rows, {}, results.info, results.records)
    )
    return finding


LOADED = {"load": "1000 5000 20", "placement": "one-per-core"}


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({"where": {"load": "none"}, "bound": "< 10 s"}, "pass"),
        ({"where": {"load": "none"}, "bound": "> 10 s"}, "fail"),
        ({"metric": "t_prod_median_ns", "where": LOADED, "against": {"load": "none"}, "bound": "< 20 %"}, "fail"),
        ({"metric": "t_prod_median_ns", "where": LOADED, "against": {"load": "none"}, "bound": "<= 2"}, "pass"),
        ({"metric": "cpu_use_pct", "where": LOADED, "bound": "> 30 %"}, "pass"),
        ({"metric": "cpu_use_pct", "where": {"load": "none"}, "bound": "> 30"}, "fail"),
        ({"where": {"load": "20 20 20"}, "bound": "< 1 s"}, "insufficient n"),
    ],
)
def test_checks_pass_or_fail_by_their_interval(results: FrameResults, fields: dict, verdict: str) -> None:
    assert check(results, **fields).verdict == verdict


def test_a_bound_inside_the_interval_is_inconclusive(results: FrameResults) -> None:
    middle = check(results, where={"load": "none"}, bound="> 0").estimate
    assert middle is not None
    assert check(results, where={"load": "none"}, bound=f"< {middle:.0f} ns").verdict == "inconclusive"


def test_the_cells_of_one_repetition_are_one_observation_of_a_check() -> None:
    """Five repetitions of four K are five observations, of a level and of a ratio; six are enough."""
    factors = {"load": ("none", "1000 5000 20"), "k": (1, 2, 4, 6)}
    for repetitions, known in ((5, False), (6, True)):
        results = campaign(TRUTH, factors, repetitions=repetitions, inferences=2, noise=0.01)
        level = check(results, bound="< 10 s")
        ratio = check(results, where={"load": "1000 5000 20"}, against={"load": "none"}, bound="< 20 %")
        use = load.analyse(results)[0]
        for got in (level, ratio, use):
            assert got.n == repetitions
            assert (got.low is not None) == known
        assert level.verdict == ratio.verdict == ("pass" if known else "insufficient n")


def test_a_repetition_that_lost_a_cell_does_not_move_a_check() -> None:
    """K = 1 is the slow cell: without its partner a run says nothing about the load."""
    slow = Board(slower=lambda levels: 5.0 if levels["k"] == 1 else 1.0)
    factors = {"load": ("none", "1000 5000 20"), "k": (1, 6)}
    results = campaign(TRUTH, factors, board=slow, repetitions=8, inferences=2, noise=0.01)
    rows = results.run_rows
    results.run_rows = rows.assign(valid=~((rows["k"] == 1) & (rows["load"] == "none") & (rows["repetition"] < 7)))
    ratio = check(results, where={"load": "1000 5000 20"}, against={"load": "none"}, bound="< 10 %")
    assert ratio.verdict == "pass"
    assert ratio.estimate == pytest.approx(0, abs=2)
    level = check(results, where={"load": "none"}, bound="< 10 s")
    assert level.n == 1
    assert "7 of 8 repetitions lack a cell and are left out" in level.reasons


def test_a_family_of_checks_says_how_many_were_made(results: FrameResults) -> None:
    several = tuple(Check(name=f"c{number}", metric="total_ns", bound="< 1 s") for number in range(7))
    experiment = results.experiment.model_copy(update={"checks": several})
    found = checks.analyse(FrameResults(experiment, results.run_rows, results.metric_rows))
    assert all(any("one of 7 checks" in reason for reason in one.reasons) for one in found)
    assert not any("one of" in reason for reason in check(results, bound="< 1 s").reasons)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"bound": "about 5"}, "no bound"),
        ({"bound": "< 5 parsecs"}, "the bound in parsecs"),
        ({"metric": "totl_ns", "bound": "< 5"}, "total_ns"),
        ({"where": {"lod": "none"}, "bound": "< 5"}, "load"),
        ({"against": {}, "bound": "< 5 ms"}, "ratio has no unit"),
    ],
)
def test_a_check_that_makes_no_sense_is_invalid_and_spares_the_other_findings(
    results: FrameResults, fields: dict, words: str
) -> None:
    finding = check(results, **fields)
    assert finding.verdict == "invalid"
    assert words in " ".join(finding.reasons)


def test_a_metric_of_several_programs_needs_the_program_named(results: FrameResults) -> None:
    other = results.metric_rows.assign(program="second", value=1.0)
    two = FrameResults(results.experiment, results.run_rows, pd.concat([results.metric_rows, other]))
    assert "several programs" in check(two, bound="< 1 s").reasons[0]
    assert check(two, metric="second.total_ns", bound="< 2 ns").estimate == 1.0
