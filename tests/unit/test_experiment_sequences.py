"""Confidence sequences: the truth stays inside however often one looks, whatever the noise."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from devicelab.experiment import sequences

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
NOISE: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "heavy tails": lambda rng, shape: rng.standard_cauchy(size=shape),
    "two values": lambda rng, shape: rng.choice([-1.0, 1.0], shape),
    "mostly ties": lambda rng, shape: rng.choice([-1.0, 0, 0, 1.0], shape),
    "rare outliers": lambda rng, shape: rng.normal(size=shape) * np.where(rng.random(shape) < 0.05, 30, 1),
    "skewed in both cells": lambda rng, shape: rng.exponential(size=shape) - rng.exponential(size=shape),
    "growing": lambda rng, shape: rng.normal(size=shape) * np.geomspace(1, 20, shape[1]),
}


@pytest.mark.parametrize("noise", NOISE)
def test_the_wealth_against_the_truth_rarely_ever_reaches_its_bound(noise: str) -> None:
    rows = NOISE[noise](np.random.default_rng([7, len(noise)]), (800, 60)) + 3.0
    most = np.array([sequences.wealth(row, 3.0).max() for row in rows])
    for alpha in (0.05, 0.01):
        assert np.mean(most >= 1 / alpha) <= alpha + 2 * math.sqrt(alpha * (1 - alpha) / len(rows))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=6, max_size=6))
@example([5e-324, 4.4e5, 5e-324, 2.2e-308, 2.2e-308, 9.8e5])
def test_over_all_signs_the_wealth_is_one_on_average(magnitudes: list[float]) -> None:
    signs = itertools.product((-1.0, 1.0), repeat=6)
    after = np.array([sequences.wealth(np.array(magnitudes) * sign) for sign in signs])
    assert after.mean(axis=0) == pytest.approx(np.ones(6))


def test_an_interval_looked_at_after_every_repetition_holds_the_truth() -> None:
    rng = np.random.default_rng(11)
    lost = 0
    for row in rng.normal(0.3, 1, (20, 30)):
        got = [sequences.location(row[:n]) for n in range(2, 31)]
        lost += any(one.low is not None and one.high is not None and not one.low <= 0.3 <= one.high for one in got)
    assert lost <= 1


def test_the_interval_gets_as_narrow_as_the_data_allow() -> None:
    x = np.random.default_rng(2).normal(size=100)
    widths = [one.high - one.low for n in (7, 15, 40, 100) if (one := sequences.location(x[:n])).known]  # type: ignore[operator]
    assert len(widths) == 4
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 4 * 1.96 / math.sqrt(100)


def test_below_six_repetitions_there_is_no_interval() -> None:
    assert not sequences.location([1.0, 1.1, 0.9, 1.0, 1.05]).known
    assert sequences.location([1.0, 1.1, 0.9, 1.0, 1.05, 0.97]).known
    assert not sequences.quantile([1.0, 1.1, 0.9, 1.0, 1.05]).known
    assert sequences.quantile([1.0, 1.1, 0.9, 1.0, 1.05, 0.97]).known


def test_a_surer_sequence_needs_more_repetitions() -> None:
    assert sequences.least(0.05) == 6
    assert sequences.least(0.05) < sequences.least(0.01) < sequences.least(0.001)


def test_values_that_are_all_the_same_are_known_exactly() -> None:
    got = sequences.location([2.5] * 6)
    assert (got.estimate, got.low, got.high, got.n) == (2.5, 2.5, 2.5, 6)
    assert not sequences.location([2.5] * 5).known


def test_nothing_and_what_is_no_number_is_left_out() -> None:
    assert sequences.location([]).n == 0
    got = sequences.location([1, 2, math.nan, 3, math.inf, 4, 5, 6])
    assert got == sequences.location([1, 2, 3, 4, 5, 6])


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=20), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_the_interval_moves_with_the_values(x: list[float], scale: float, by: float) -> None:
    values = np.array(x)
    got, moved = sequences.location(values), sequences.location(values * scale + by)
    assert got.low is None or (moved.low is not None and got.low <= got.estimate <= got.high)  # type: ignore[operator]
    if got.known and np.ptp(values) > 1e-3:
        near = 0.02 * float(np.ptp(values)) * scale + 1e-6
        assert moved.low == pytest.approx(got.low * scale + by, abs=near)  # type: ignore[operator]
        assert moved.high == pytest.approx(got.high * scale + by, abs=near)  # type: ignore[operator]


@pytest.mark.parametrize("q", [0.5, 0.9])
def test_a_quantile_of_skewed_or_tied_values_stays_inside(q: float) -> None:
    rng = np.random.default_rng(5)
    truth = round(-math.log(1 - q) * 10)  # of an exponential in tenths, rounded up
    lost = 0
    for row in np.ceil(rng.exponential(size=(300, 60)) * 10):
        got = [sequences.quantile(row[:n], q) for n in range(1, 61)]
        lost += any((g.low is not None and g.low > truth) or (g.high is not None and g.high < truth) for g in got)
    assert lost <= 15


def test_the_expected_repetitions_grow_with_scatter_and_precision() -> None:
    wide, narrow = sequences.expected(1.0, 0.8), sequences.expected(1.0, 0.4)
    assert wide is not None
    assert narrow is not None
    assert sequences.least() < wide < narrow
    assert sequences.expected(2.0, 0.8) == narrow
    assert sequences.expected(1.0, 1e-6) is None
    assert sequences.expected(math.nan, 1.0) is None


def test_a_share_that_is_none_is_refused() -> None:
    for call in (lambda: sequences.location([1.0], 0), lambda: sequences.quantile([1.0], 1.0)):
        with pytest.raises(ValueError, match="must lie between 0 and 1"):
            call()


def test_long_sequences_become_as_narrow_as_their_number_allows() -> None:
    x = np.random.default_rng(8).normal(size=2000)
    halves = [(got.high - got.low) / 2 for n in (60, 300, 2000) if (got := sequences.location(x[:n])).low is not None]
    planned = [sequences._half_width(n, 0.05) for n in (60, 300, 2000)]
    assert halves == pytest.approx(planned, rel=0.6)
    assert halves[2] < 0.15


@pytest.mark.parametrize("n", [1, 2, 7, sequences._MANY, sequences._MANY + 1])
def test_running_medians_are_the_medians_of_all_so_far(n: int) -> None:
    rows = np.random.default_rng(n).normal(size=(2, n))
    want = [[np.median(row[: k + 1]) for k in range(n)] for row in rows]
    assert sequences._running_median(rows).tolist() == want
