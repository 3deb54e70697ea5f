"""Confidence sequences against the formulas they invert, at their bounds."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln

from devicelab.experiment import sequences as s


@pytest.mark.parametrize("share", [-0.1, 0.0, 1.0, 1.5, 2.0])
def test_a_share_lies_between_nought_and_one(share: float) -> None:
    for call in (
        lambda: s.location([1.0], share),
        lambda: s.quantile([1.0], 0.5, share),
        lambda: s.quantile([1.0], share),
        lambda: s.closes(6, share),
    ):
        with pytest.raises(ValueError, match="between 0 and 1"):
            call()


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.01, 0.0005])
@pytest.mark.parametrize("n", [6, 7, 20, 300])
def test_the_planned_width_is_where_the_t_mixture_is_as_rich_as_it_has_to_be(n: int, alpha: float) -> None:
    """E_n(t) = (1 + n)^(-1/2) ((1 + t^2 / (n - 1)) / (1 + t^2 / ((n - 1) (1 + n))))^(n / 2), with t^2 = n width^2."""
    width = s._half_width(n, alpha)
    if math.isinf(width):
        most = (1 + n) ** (n / 2 - 0.5)  # of E_n, as t grows
        assert most <= 1 / alpha
        return
    t2 = n * width**2
    wealth = (1 + n) ** -0.5 * ((1 + t2 / (n - 1)) / (1 + t2 / ((n - 1) * (1 + n)))) ** (n / 2)
    assert wealth == pytest.approx(1 / alpha)


@settings(max_examples=40)
@given(st.floats(0.01, 10), st.floats(0.02, 10), st.sampled_from([0.05, 0.01]))
def test_the_expected_number_is_the_first_that_is_enough(scatter: float, distance: float, alpha: float) -> None:
    got = s.expected(scatter, distance, alpha, most=50_000)
    if got is None:
        assert s._half_width(50_000, alpha) * scatter > distance * 0.999
        return
    assert s._half_width(got, alpha) * scatter <= distance
    assert got == s.least(alpha) or s._half_width(got - 1, alpha) * scatter > distance


def test_more_than_the_most_is_no_number_and_as_many_is() -> None:
    n = s.expected(1.0, 0.1)
    assert n is not None
    assert s.expected(1.0, 0.1, most=n) == n
    assert s.expected(1.0, 0.1, most=n - 1) is None
    for scatter, distance in ((math.nan, 1.0), (1.0, math.inf), (math.inf, 1.0), (1.0, 0.0), (1.0, -1.0)):
        assert s.expected(scatter, distance) is None
    assert s.expected(0.0, 1.0) == s.least()


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("n", [1, 6, 7, 25, 80])
def test_a_quantile_keeps_the_ranks_that_the_mixture_does_not_exclude(n: int, q: float) -> None:
    alpha, a, b = 0.05, 0.5 * q, 0.5 * (1 - q)

    def excluded(k: int) -> bool:
        log_e = betaln(a + k, b + n - k) - betaln(a, b) - k * math.log(q) - (n - k) * math.log(1 - q)
        return bool(log_e >= -math.log(alpha))

    stay = [k for k in range(n + 1) if not excluded(k)]
    got = s.quantile(np.arange(1.0, n + 1), q, alpha)
    # k values lie up to the quantile: it stands between the k-th and the next.
    assert got.low == (float(stay[0]) if stay[0] >= 1 else None)
    assert got.high == (float(stay[-1] + 1) if stay[-1] < n else None)
    assert got.n == n


@pytest.mark.parametrize("n", [6, 9, 20])
def test_a_bound_is_the_last_point_that_the_wealth_does_not_exclude(n: int) -> None:
    x = np.random.default_rng(n).normal(size=n)
    got = s.location(x)
    assert got.low is not None
    assert got.high is not None
    far = np.ptp(x)
    for bound, out in ((got.low, -1), (got.high, 1)):
        beyond = [s.wealth(x, bound + out * step * far)[-1] for step in (1e-3, 0.01, 0.1, 1.0, 10.0)]
        assert min(beyond) >= 20
        assert s.wealth(x, bound - out * 0.02 * far)[-1] < 20


def test_the_estimate_is_the_median_of_the_means_of_pairs() -> None:
    x = [0.0, 0.1, 0.4, 1.0, 1.1, 5.0, 9.0]
    pairs = [(a + b) / 2 for a, b in itertools.combinations_with_replacement(x, 2)]
    assert s.location(x).estimate == pytest.approx(np.median(pairs))
    assert s.location(x[:2]).estimate == pytest.approx(0.05)


@pytest.mark.parametrize("alpha", [0.3, 0.05, 0.01, 0.001])
def test_bounds_exist_from_the_number_on_at_which_the_wealth_can_reach_them(alpha: float) -> None:
    least = s.least(alpha)
    assert least >= s.MIN_REPETITIONS
    assert s.closes(least, alpha)
    assert not s.closes(least - 1, alpha)
    far = [1e9 + n for n in range(least)]  # all on one side of nought
    assert s.wealth(far)[-1] > 1 / alpha
    assert s.location(far, alpha).known
    assert not s.location(far[1:], alpha).known


def test_an_outlier_is_worth_no_more_than_a_stake() -> None:
    x = [1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.2]
    for wild in (1e3, 1e9, 1e300):
        calm, shaken = s.wealth(x)[-1], s.wealth([*x, wild])[-1]
        assert calm * 0.5 < shaken < calm * 2
    assert np.all(s.wealth([0.0, 0.0, 1.0, 0.0]) >= 0)


def test_a_sequence_is_mapped_with_its_open_sides() -> None:
    got = s.Anytime(0.0, None, 1.0, 9).map(math.exp)
    assert (got.estimate, got.low, got.high, got.n) == (1.0, None, math.e, 9)
    assert not got.known
    assert s.Anytime(0.0, 0.0, 1.0, 9).known
