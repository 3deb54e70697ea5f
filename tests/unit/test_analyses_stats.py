"""Intervals: known figures, coverage under known truth, and no interval where the data carry none."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from devicelab.analyses import _stats as s


@pytest.mark.parametrize(("n", "low", "high"), [(600, 589, 599), (3000, 2959, 2981)])
def test_a_p99_interval_uses_the_published_order_statistics(n: int, low: int, high: int) -> None:
    got = s.quantile_interval(np.arange(1, n + 1), 0.99)
    assert (got.low, got.high) == (low, high)


@given(st.integers(1, 5000), st.floats(0.001, 0.999), st.floats(0.0005, 0.9995))
def test_a_quantile_of_the_binomial_is_the_least_count_with_that_chance(n: int, q: float, chance: float) -> None:
    count = s._binomial_quantile(chance, n, q)
    assert reference.binom.cdf(count, n, q) >= chance * (1 - 1e-9)
    assert reference.binom.cdf(count - 1, n, q) < chance * (1 + 1e-9)


@pytest.mark.parametrize("n", [6, 7, 20, 368, 500])
@pytest.mark.parametrize("q", [0.1, 0.5, 0.9, 0.99])
def test_bounds_of_a_quantile_are_those_of_scipys_test(n: int, q: float) -> None:
    values = np.random.default_rng(n).normal(size=n)
    got, theirs = s.quantile_interval(values, q), reference.quantile_test(values, p=q).confidence_interval(0.95)
    assert got.known == bool(np.isfinite([theirs.low, theirs.high]).all())
    if got.known:
        assert (got.low, got.high) == (theirs.low, theirs.high)


@pytest.mark.parametrize(("q", "least"), [(0.5, 6), (0.99, 368), (0.999, 3688)])
def test_too_few_values_give_a_quantile_without_an_interval(q: float, least: int) -> None:
    assert s.quantile_interval(np.arange(least), q).known
    few = s.quantile_interval(np.arange(least - 1), q)
    assert not few.known
    assert few.n == least - 1
    assert math.isfinite(few.estimate)


def test_no_interval_from_fewer_than_six_repetitions() -> None:
    assert not s.location([1, 2, 3, 4, 5.0]).known
    assert s.location([1, 2, 3, 4, 5, 6.0]) == s.Interval(3.5, 1.0, 6.0, 6, 2 / 64)
    few = s.shift([1, 2, 3, 4, 5.0], np.arange(11, 31.0))
    assert not few.known
    assert few.n == 5
    six = s.shift(np.arange(6.0), 10 + np.arange(6.0))
    assert (six.estimate, six.low, six.high, six.n) == (10.0, 7.0, 13.0, 6)
    for function in (s.median_interval, s.location):
        assert not function([1, 2, 3, 4, 5.0]).known
        assert function([1, 2, 3, 4, 5, 6.0]).known


def test_cells_of_one_block_are_one_observation() -> None:
    """Five repetitions of ten cells are five observations, and what they share does not shrink with their number."""
    rng = np.random.default_rng(8)
    block = np.repeat(np.arange(5), 10)
    a = np.ones(50)
    assert not s.blocked_ratio(a, rng.lognormal(0, 0.1, 50), block).known
    block = np.repeat(np.arange(8), 10)
    shared = rng.normal(0, 0.1, 8)[block]
    got = s.blocked_ratio(np.ones(80), np.exp(shared + rng.normal(0, 0.001, 80)), block)
    assert got.n == 8
    assert got.low is not None
    assert got.high is not None
    assert got.high / got.low > 1.1
    assert s.per_repetition([1, 3, np.nan, 5.0], ["b", "b", "b", "a"]).tolist() == [5, 2]


@pytest.mark.parametrize(("q", "least"), [(0.5, 1), (0.99, 67), (0.999, 667)])
def test_a_quantile_of_a_run_needs_enough_samples_for_it(q: float, least: int) -> None:
    assert math.isfinite(s.run_quantile(np.arange(least), q))
    assert math.isnan(s.run_quantile(np.arange(least - 1), q))
    rng = np.random.default_rng(3)
    found = [s.run_quantile(rng.exponential(size=300), 0.99) for _ in range(2000)]
    assert np.median(found) == pytest.approx(-math.log(0.01), rel=0.01)


def test_exact_p_values_agree_with_scipy() -> None:
    rng = np.random.default_rng(1)
    for n, m in ((5, 7), (12, 12), (30, 20)):
        x, y = rng.normal(size=n), rng.normal(0.4, size=m)
        p = reference.mannwhitneyu(x, y, method="exact").pvalue
        assert s.shift(x, y).p == pytest.approx(p)
        p = reference.wilcoxon(x, method="exact").pvalue
        assert s.location(x).p == pytest.approx(p)


def test_ties_speak_for_neither_side() -> None:
    # Nine of ten are the same: SciPy's test with ties gives 0.37 and 1.0.
    assert s.shift([5.0] * 10, [5.0] * 9 + [6.0]).p == pytest.approx(0.739, abs=0.01)
    assert s.location([0.0] * 9 + [0.01]).p > 0.3
    rng = np.random.default_rng(4)
    false = [s.shift(rng.integers(0, 3, 12), rng.integers(0, 3, 12)).p < 0.05 for _ in range(400)]
    assert np.mean(false) <= 0.06


def test_the_normal_approximation_takes_over_smoothly() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(0.2, size=120)
    got = s.location(x)
    assert got.p == pytest.approx(reference.wilcoxon(x, method="exact").pvalue, rel=0.05)
    assert got.low is not None
    assert got.high is not None
    assert got.high - got.low == pytest.approx(4 * x.std() / math.sqrt(120), rel=0.15)


@pytest.mark.parametrize("n", [6, 8, 12])
def test_intervals_cover_the_truth_as_often_as_they_say(n: int) -> None:
    rng = np.random.default_rng(n)
    hits = np.zeros(3)
    trials = 400
    for _ in range(trials):
        a, b = rng.lognormal(0, 0.3, n), rng.lognormal(0.1, 0.3, n)
        for i, got in enumerate((s.median_interval(b), s.paired_ratio(a, b), s.ratio(a, b))):
            assert got.low is not None
            assert got.high is not None
            hits[i] += got.low <= math.exp(0.1) <= got.high
    assert (hits / trials >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / trials)).all()


@given(st.lists(st.floats(0, 1), max_size=20))
def test_adjusted_p_values_are_never_below_the_raw_ones_and_keep_their_order(p: list[float]) -> None:
    got = s.benjamini_hochberg(p)
    assert len(got) == len(p)
    assert all(adjusted >= raw - 1e-12 for adjusted, raw in zip(got, p, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(got[order]) >= -1e-12).all()


@given(st.lists(st.floats(-1e6, 1e6), max_size=30), st.lists(st.floats(-1e6, 1e6), max_size=30))
def test_any_values_give_ordered_bounds_around_the_estimate(a: list[float], b: list[float]) -> None:
    for got in (s.location(a), s.shift(a, b), s.median_interval(a)):
        if got.low is not None and got.high is not None:
            assert got.low <= got.estimate <= got.high
        if got.p is not None:
            assert 0 <= got.p <= 1


def test_values_that_are_not_numbers_are_left_out_and_nothing_gives_nothing() -> None:
    assert s.paired_ratio([1.0, np.nan, 2.0, 0.0], [2.0, 1.0, 4.0, 1.0]).n == 2
    assert s.ratio([1.0, -1.0], [2.0]).estimate == pytest.approx(2.0)
    for got in (s.location([]), s.shift([], [1.0]), s.median_interval([np.nan])):
        assert got.n == 0
        assert not got.known


@pytest.mark.parametrize("wrong", [0.0, 1.0, -0.1, 2.0])
def test_a_quantile_out_of_range_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        s.quantile_interval([1.0], wrong)


def test_pairs_of_unlike_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        s.paired_ratio([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="one shape"):
        s.per_repetition([1.0], [1, 2])


@pytest.mark.parametrize(
    ("low", "high", "differs", "falls"),
    [
        (1.03, 1.10, "yes", "no"),
        (0.80, 0.95, "yes", "yes"),
        (0.99, 1.01, "no", "no"),
        (0.97, 1.05, "inconclusive", "inconclusive"),
        (1.01, 1.05, "inconclusive", "no"),
        (None, None, "insufficient n", "insufficient n"),
    ],
)
def test_verdicts_need_the_whole_interval_on_one_side(
    low: float | None, high: float | None, differs: str, falls: str
) -> None:
    effect = s.Interval(1.0, low, high, 8)
    assert s.differs(effect, 0.02) == differs
    assert s.falls(effect, 0.02) == falls


def test_an_effect_that_is_one_of_many_needs_an_adjusted_p_value_too() -> None:
    effect = s.Interval(1.1, 1.05, 1.2, 8, p=0.01)
    assert s.differs(effect, 0.02, p_adjusted=0.04) == "yes"
    assert s.differs(effect, 0.02, p_adjusted=0.2) == "inconclusive"
