"""Verdicts at their bounds, and statistics against a slow and plain way to the same number."""

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from devicelab.analyses import _findings, _frames, answer, checks, energy
from devicelab.analyses import _stats as s
from devicelab.analyses import load as loads
from devicelab.analyses.klo.common import within
from devicelab.model.experiment import Experiment, Finding
from devicelab.model.journal import Flag
from tests.klodata import FrameResults, run_row

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12)


def interval(low: float, high: float) -> s.Interval:
    return s.Interval((low + high) / 2, low, high, 8)


@pytest.mark.parametrize(
    ("low", "high", "differs", "falls"),
    [
        (1.5, 2.0, "inconclusive", "no"),  # touches the bound from outside
        (1.501, 2.0, "yes", "no"),
        (0.5, 1.5, "no", "no"),  # fills it
        (0.499, 1.5, "inconclusive", "inconclusive"),
        (0.5, 1.501, "inconclusive", "no"),
        (0.1, 0.5, "inconclusive", "inconclusive"),
        (0.1, 0.499, "yes", "yes"),
    ],
)
def test_an_interval_that_touches_a_bound_is_not_beyond_it(low: float, high: float, differs: str, falls: str) -> None:
    assert s.differs(interval(low, high), 0.5) == differs
    assert s.falls(interval(low, high), 0.5) == falls


@pytest.mark.parametrize(("p", "verdict"), [(0.05, "yes"), (0.0501, "inconclusive"), (None, "yes")])
def test_an_adjusted_p_value_counts_up_to_five_percent(p: float | None, verdict: str) -> None:
    assert s.differs(interval(2, 3), 0.5, p_adjusted=p) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(1, 2, "pass"), (1, 3, "inconclusive"), (3, 4, "fail"), (None, 1, "insufficient n"), (1, None, "insufficient n")],
)
def test_an_interval_passes_whole_or_not(low: float | None, high: float | None, verdict: str) -> None:
    assert s.kept(low, high, lambda x: x < 3) == verdict


ALMOST = math.nextafter(1.05, 2)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.9, 1.05, "yes"),
        (0.9, ALMOST, "inconclusive"),
        (1.05, 1.2, "inconclusive"),
        (ALMOST, 1.2, "no"),
        (None, 1.0, "insufficient n"),
        (1.2, None, "insufficient n"),
        (None, None, "insufficient n"),
    ],
)
def test_a_cost_is_small_or_large_with_its_whole_interval_or_undecided(
    low: float | None, high: float | None, verdict: str
) -> None:
    got = within("?", s.Interval(1.0, low, high, 8), "why")
    assert got.verdict == verdict
    assert got.reasons == ("why",)
    if low is not None and high is not None:
        assert (got.low, got.high) == pytest.approx((100 * (low - 1), 100 * (high - 1)))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.9, 1.02, "yes"),
        (0.9, math.nextafter(1.02, 2), "inconclusive"),
        (1.02, 1.2, "inconclusive"),
        (math.nextafter(1.02, 2), 1.2, "no"),
        (None, 1.0, "insufficient n"),
        (1.2, None, "insufficient n"),
    ],
)
def test_the_fastest_is_the_cheapest_up_to_two_percent(low: float | None, high: float | None, verdict: str) -> None:
    assert energy._verdict(s.Interval(1.0, low, high, 8)) == verdict


@given(VALUES)
def test_the_pseudomedian_is_the_median_of_the_means_of_pairs(x: list[float]) -> None:
    pairs = [(a + b) / 2 for a, b in itertools.combinations_with_replacement(x, 2)]
    assert s.location(x).estimate == pytest.approx(np.median(pairs))
    assert s.shift(x, [0.0]).estimate == pytest.approx(np.median([-a for a in x]))


@given(VALUES, st.floats(0.01, 100), st.floats(-100, 100))
def test_what_is_turned_or_moved_has_an_interval_that_is(x: list[float], scale: float, by: float) -> None:
    got, turned, moved = s.location(x), s.location([-a for a in x]), s.location([scale * a + by for a in x])
    assert (got.known, got.p) == (turned.known, turned.p)
    assert moved.estimate == pytest.approx(scale * got.estimate + by, abs=1e-6)
    if got.low is not None and got.high is not None:
        assert (turned.low, turned.high) == (-got.high, -got.low)
        assert moved.low == pytest.approx(scale * got.low + by, abs=1e-6)
        assert moved.high == pytest.approx(scale * got.high + by, abs=1e-6)


@pytest.mark.parametrize("n", [5, 6, 7, 30, 60, 61, 90])
def test_many_quantities_at_once_are_each_as_alone(n: int) -> None:
    rows = np.random.default_rng(n).normal(size=(n, 3))
    middle, low, high = s.locations(rows)
    for at in range(3):
        alone = s.location(rows[:, at])
        assert middle[at] == pytest.approx(alone.estimate)
        ends = (math.nan, math.nan) if alone.low is None else (alone.low, alone.high)
        assert (low[at], high[at]) == pytest.approx(ends, nan_ok=True)
    assert all(np.isnan(part).all() for part in s.locations(np.empty((0, 2))))


@pytest.mark.parametrize("n", [6, 10, 59, 60, 61, 120])
def test_the_interval_of_a_location_holds_what_its_test_does_not_reject(n: int) -> None:
    """The first value of each side that the signed-rank test would reject at 5 % lies outside."""
    x = np.random.default_rng(n).normal(size=n)
    got = s.location(x)
    assert got.low is not None
    assert got.high is not None
    step = 1e-9
    for bound, outside in ((got.low, -step), (got.high, step)):
        inside = s.location(x - (bound - outside))
        beyond = s.location(x - (bound + outside))
        assert inside.p is not None
        assert beyond.p is not None
        assert inside.p > 0.05 - 0.002 * (n > 60)
        assert beyond.p <= 0.05 + 0.002 * (n > 60)


@pytest.mark.parametrize(("n", "m"), [(6, 6), (30, 30), (30, 31), (50, 40)])
def test_the_rank_sum_p_value_is_that_of_scipy_on_both_sides_of_exact(n: int, m: int) -> None:
    rng = np.random.default_rng(n + m)
    x, y = rng.normal(size=n), rng.normal(0.3, size=m)
    exact = reference.mannwhitneyu(x, y, method="exact").pvalue
    assert s.shift(x, y).p == pytest.approx(exact, rel=1e-9 if n + m <= 60 else 0.02)
    assert s.shift(y, x).p == pytest.approx(s.shift(x, y).p)


@pytest.mark.parametrize("n", [6, 20, 61])
def test_a_median_of_ranks_has_symmetric_bounds_at_its_confidence(n: int) -> None:
    for q in (0.5, 0.3):
        got = s.quantile_interval(np.arange(1, n + 1), q)
        if got.low is None or got.high is None:
            continue
        low, high = int(got.low), int(got.high)
        assert reference.binom.cdf(low - 1, n, q) <= 0.025 or low == 1
        assert reference.binom.sf(high - 1, n, q) <= 0.025
        assert reference.binom.cdf(low, n, q) > 0.025, "no wider than it has to be"
        assert q != 0.5 or low + high == n + 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(-9, 9) | st.just(math.nan)), max_size=20))
def test_a_repetition_counts_once_with_its_mean(rows: list[tuple[str, float]]) -> None:
    groups: dict[str, list[float]] = {}
    for name, value in rows:
        if math.isfinite(value):
            groups.setdefault(name, []).append(value)
    expected = [float(np.mean(groups[name])) for name in sorted(groups)]
    got = s.per_repetition([value for _, value in rows], np.array([name for name, _ in rows], dtype=object))
    assert got.tolist() == pytest.approx(expected)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=9), st.floats(0.1, 10))
def test_b_over_a_is_b_over_a(a: list[float], factor: float) -> None:
    b = [factor * x for x in a]
    for got in (s.paired_ratio(a, b), s.blocked_ratio(a, b, range(len(a)))):
        assert got.estimate == pytest.approx(factor)
    assert s.ratio([1.0], [factor]).estimate == pytest.approx(factor)
    assert s.ratio([factor], [1.0]).estimate == pytest.approx(1 / factor)


@pytest.mark.parametrize("q", [0.01, 0.1, 0.5, 0.9, 0.99])
def test_a_low_quantile_of_a_run_needs_as_many_samples_as_the_high_one(q: float) -> None:
    def known(n: int, q: float) -> bool:
        return math.isfinite(s.run_quantile(np.arange(n), q))

    least = next(n for n in range(1, 200) if known(n, q))
    assert known(least, 1 - q)
    assert least == 1 or not known(least - 1, 1 - q)
    assert least == max(1, math.ceil((2 / 3) / min(q, 1 - q) - 1 / 3 - 1e-9))


# --- campaigns -----------------------------------------------------------------------------------------------------


def campaign(
    factor: float = 1.0, *, n: int = 8, unit: str = "ns", lost: frozenset[str] = frozenset(), **fields: Any
) -> FrameResults:
    """Runs of 1 ms, times ``factor`` under load, in blocks that drift; two levels of k."""
    rng = np.random.default_rng(5)
    rows, metrics = [], []
    for repetition in range(n):
        drift = float(np.exp(rng.normal(0, 0.2)))
        for load, k in itertools.product(("none", "heavy"), (1, 4)):
            run = f"{load}-{k}-{repetition}"
            flags = (Flag(code="load-died", detail="x"),) if run in lost else ()
            rows.append(run_row(run, repetition, len(rows), {"load": load, "k": k}, flags))
            value = 1e6 * drift * (factor if load == "heavy" else 1.0) * float(np.exp(rng.normal(0, 0.002)))
            metrics.append({"run_id": run, "program": "measure", "metric": "total_ns", "value": value, "unit": unit})
    asked = {"name": "e", "question": "?", "factors": {"load": ("none", "heavy"), "k": (1, 4)}, "repetitions": n}
    experiment = Experiment.model_validate({**asked, **fields})
    return FrameResults(experiment, pd.DataFrame(rows), pd.DataFrame(metrics))


def checked(bound: str, factor: float = 1.0, against: bool = False, **more: Any) -> Finding:
    one = {"name": "c", "metric": "total_ns", "where": {"load": "heavy"}, "bound": bound}
    if against:
        one["against"] = {"load": "none"}
    (found,) = checks.analyse(campaign(factor, checks=(one,), **more))
    return found


@pytest.mark.parametrize(("unit", "per_ns"), [("ns", 1), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("", 1)])
def test_a_bound_in_any_unit_of_time_is_the_same_bound(unit: str, per_ns: float) -> None:
    plain = checked("< 2000000")
    assert plain.verdict == "pass"
    got = checked(f"< {2e6 / per_ns:.10f} {unit}")
    assert got.verdict == "pass"
    assert got.estimate == pytest.approx(plain.estimate / per_ns)  # type: ignore[operator]
    assert got.high == pytest.approx(plain.high / per_ns)  # type: ignore[operator]
    assert checked(f"> {2e6 / per_ns:.10f} {unit}").verdict == "fail"
    assert checked(f"< {1e6 / per_ns:.10f} {unit}").verdict == "inconclusive"


def test_a_unit_that_does_not_fit_judges_nothing() -> None:
    assert checked("< 5 MHz").verdict == "invalid"
    assert checked("< 5 ms", against=True).verdict == "invalid"
    assert checked("< 5", unit="J").verdict == "fail"
    assert checked("< 5 ms", unit="J").verdict == "invalid"


@pytest.mark.parametrize(
    ("bound", "factor", "verdict"),
    [
        ("< 5 %", 1.02, "pass"),
        ("< 5 %", 1.2, "fail"),
        ("> 5 %", 1.2, "pass"),
        ("< 1.05 x", 1.02, "pass"),
        ("< 1.05", 1.2, "fail"),
        ("> -5 %", 0.9, "fail"),
    ],
)
def test_a_ratio_is_judged_within_blocks_that_drift(bound: str, factor: float, verdict: str) -> None:
    got = checked(bound, factor, against=True)
    assert got.verdict == verdict
    shown = (factor - 1) * 100 if "%" in bound else factor
    assert got.estimate == pytest.approx(shown, abs=0.5 if "%" in bound else 0.005)
    assert got.n == 8


@pytest.mark.parametrize(("n", "verdict"), [(5, "insufficient n"), (6, "pass")])
def test_six_repetitions_are_the_least_for_a_verdict(n: int, verdict: str) -> None:
    assert checked("< 9 s", n=n).verdict == verdict
    assert checked("< 50 %", 1.2, against=True, n=n).verdict == verdict


def test_only_what_is_not_decided_is_said_to_need_more_repetitions() -> None:
    more = "more repetitions would decide it"
    for found in (checked("< 9 s"), checked("> 9 s"), checked("< 5 %", 1.2, against=True), checked("< 5 MHz")):
        assert found.verdict in {"pass", "fail", "invalid"}
        assert more not in found.reasons
    for found in (checked("< 1 ms"), checked("< 9 s", n=5), checked("< 0 %", against=True)):
        assert found.verdict in {"inconclusive", "insufficient n"}
        assert more in found.reasons


def test_a_repetition_that_lacks_a_cell_is_left_out_and_said() -> None:
    got = checked("< 9 s", lost=frozenset({"heavy-4-0"}))
    assert got.n == 7
    assert any("1 of 8 repetitions lack a cell" in reason for reason in got.reasons)
    assert not any("lack a cell" in reason for reason in checked("< 9 s").reasons)


def test_runs_without_load_placement_or_clock_are_one_row() -> None:
    results = campaign()
    results.run_rows = results.run_rows.drop(columns="load")
    (row,) = loads.table(results).to_dict("records")
    assert (row["label"], row["load"], row["placement"], row["cpu"]) == ("all runs", "-", "-", "-")


def answered(factor: float, against: str = "none", **more: Any) -> Finding:
    asked = {"quantity": "total_ns", "by": "load", "against": {"load": against}, "within_pct": 5}
    (found,) = answer.analyse(campaign(factor, answer=asked, **more))
    return found


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, "no"), (1.045, "no"), (1.055, "yes"), (0.955, "no"), (0.945, "yes")]
)
def test_a_change_beyond_what_matters_is_an_answer_either_way(factor: float, verdict: str) -> None:
    got = answered(factor)
    assert got.verdict == verdict
    assert got.estimate == pytest.approx(factor, abs=0.003)
    turned = answered(factor, against="heavy")
    assert turned.estimate == pytest.approx(1 / factor, abs=0.003)
    assert got.low is not None
    assert turned.high == pytest.approx(1 / got.low)


def test_an_answer_rests_on_repetitions_and_not_on_runs() -> None:
    assert answered(1.2).n == 8
    assert answered(1.2, n=5).verdict == "insufficient n"
    one_lost = answered(1.2, lost=frozenset({"heavy-1-3"}))
    assert one_lost.n == 7, "half of its pairs is missing, so the repetition is left out"


def test_levels_are_ordered_as_people_count() -> None:
    levels = [16, "none", 4.0, "b", "a", 1, None, 0.5]
    runs = pd.DataFrame({"run_id": range(8), "x": levels})
    found = _frames.grouped(runs, ["x"])
    assert [key for (key,) in found] == ["-", "none", "0.5", "1", "4", "16", "a", "b"]
    assert [len(part) for part in found.values()] == [1] * 8
    assert _frames.varying(runs.assign(y=4.0, z=[4, "4"] * 4)) == {"x"}


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ({"load": "none", "placement": "-", "cpu": "max"}, "idle, CPU clock max"),
        ({"load": "1000 5 2", "placement": "free"}, "load 1000 5 2 free"),
        ({"placement": "free", "k": "4"}, "placement free, K = 4"),
        ({"k": "-"}, "all runs"),
    ],
)
def test_a_cell_is_called_as_people_say_it(levels: dict[str, str], words: str) -> None:
    assert _frames.label(levels) == words


@pytest.mark.parametrize(
    ("verdicts", "one"),
    [
        (["no", "no"], "no"),
        (["no", "yes", "invalid"], "yes"),
        (["no", "inconclusive"], "inconclusive"),
        (["inconclusive", "insufficient n"], "insufficient n"),
        (["insufficient n", "invalid"], "invalid"),
        (["no", "cannot tell here"], "cannot tell here"),
    ],
)
def test_several_verdicts_are_as_open_as_the_openest(verdicts: list[Any], one: str) -> None:
    assert _findings.together(verdicts, "yes") == one
