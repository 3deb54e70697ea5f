"""Verdicts at their bounds, and statistics against a slow and plain way to the same number."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from devicelab.analyses import _stats as s

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
