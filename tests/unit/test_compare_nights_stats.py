"""The numbers behind a night's verdicts, against plain references and planted truth."""

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devicelab.compare.nights import stats, trend
from devicelab.compare.nights.assess import WINDOWS, Panel, assess
from devicelab.compare.nights.stats import Window

numbers = st.floats(-1e6, 1e6, allow_nan=False)
groups = st.lists(numbers, min_size=1, max_size=7)


def padded(rows: list[list[float]]) -> np.ndarray:
    width = max(len(row) for row in rows)
    return np.array([row + [math.nan] * (width - len(row)) for row in rows])


@settings(max_examples=40, deadline=None)
@given(st.lists(groups, min_size=1, max_size=6))
def test_locations_are_medians_of_the_means_of_all_pairs(rows: list[list[float]]) -> None:
    plain = [statistics.median((a + b) / 2 for a, b in itertools.combinations_with_replacement(row, 2)) for row in rows]
    assert np.allclose(stats.locations(padded(rows)), plain)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(groups, groups), min_size=1, max_size=6))
def test_a_shift_is_the_median_of_all_differences(pairs: list[tuple[list[float], list[float]]]) -> None:
    plain = [statistics.median(a - b for a in new for b in old) for new, old in pairs]
    found = stats.shift(padded([new for new, _ in pairs]), padded([old for _, old in pairs]))
    assert np.allclose(found, plain)


def test_nothing_has_no_location_and_no_shift() -> None:
    assert np.isnan(stats.locations(np.full((2, 3), np.nan))).all()
    assert np.isnan(stats.shift(np.full((1, 2), np.nan), np.ones((1, 2)))).all()
    assert stats.locations(np.empty((0, 3))).shape == (0,)


@settings(max_examples=25, deadline=None)
@given(st.lists(numbers, min_size=0, max_size=14), st.sampled_from([Window(1), Window(2), Window(2, gap=3)]))
def test_the_history_of_shifts_is_what_each_night_would_have_seen(levels: list[float], window: Window) -> None:
    b = 3
    found = stats.history(np.array([levels]), window, b)[0]
    for night in range(len(levels)):
        first = night + 1 - window.reach(b)
        if first < 0:
            assert np.isnan(found[night])
        else:
            new, old = levels[night + 1 - window.k : night + 1], levels[first : first + b]
            assert found[night] == pytest.approx(statistics.median(x - y for x in new for y in old))


def test_a_spread_is_that_of_a_normal_variable_and_a_tenth_of_changes_moves_it_little() -> None:
    rng = np.random.default_rng(1)
    shifts = rng.normal(0, 2.0, (1, 4000))
    clean, n = stats.spread(shifts)
    assert clean[0] == pytest.approx(2.0, rel=0.05)
    assert n[0] == 4000
    shifts[0, :240] += 30
    assert stats.spread(shifts)[0][0] == pytest.approx(2.0, rel=0.3)
    assert np.isnan(stats.spread(np.full((1, 4), np.nan))[0][0])


def test_standard_errors_need_two_repetitions_and_one_wild_run_does_not_move_them() -> None:
    found = stats.standard_errors(
        np.array([[1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0, 500.0], [1.0] + [np.nan] * 4])
    )
    assert found[0] == found[1] == pytest.approx(1.4826 / math.sqrt(5))
    assert np.isnan(found[2])


def test_an_interval_widens_with_the_nights_and_not_only_with_the_repetitions() -> None:
    rng = np.random.default_rng(3)
    runs = rng.normal(0, 0.001, (1, 8, 5))
    calm, restless = runs.copy(), runs + rng.normal(0, 0.02, (1, 8, 1))
    widths = []
    for values in (calm, restless):
        levels = stats.locations(values)
        effects = levels[:, :7] - np.median(levels[:, :7], axis=1, keepdims=True)
        low, high = stats.bootstrap(values[:, 7:], values[:, :7], effects, resamples=400, inner=50, seed=1)
        assert low[0] < stats.shift(levels[:, 7:], levels[:, :7])[0] < high[0]
        widths.append(high[0] - low[0])
    assert widths[1] > 5 * widths[0]
    again = stats.bootstrap(values[:, 7:], values[:, :7], effects, resamples=400, inner=50, seed=1)
    assert (low, high) == again


@pytest.mark.parametrize("seed", range(4))
def test_change_points_are_the_cheapest_of_all_ways_to_cut(seed: int) -> None:
    chance = np.random.default_rng(seed)
    levels = chance.normal(size=12) + np.where(np.arange(12) >= chance.integers(3, 10), 9.0, 0.0)
    sd = trend.noise(levels, 1e-9)
    signal, penalty = trend.calmed(levels, sd) / sd, 4 * math.log(12)

    def cost(cuts: tuple[int, ...]) -> float:
        parts = np.split(signal, list(cuts))
        return sum(float(((part - part.mean()) ** 2).sum()) for part in parts) + penalty * len(cuts)

    ways = [
        cuts
        for count in range(4)
        for cuts in itertools.combinations(range(3, 10), count)
        if all(second - first >= 3 for first, second in itertools.pairwise((0, *cuts, 12)))
    ]
    assert trend.change_points(levels, 1e-9) == min(ways, key=cost)


def test_a_change_point_is_found_where_it_was_planted_and_single_bad_nights_are_none() -> None:
    rng = np.random.default_rng(5)
    levels = rng.normal(0, 0.01, 200)
    levels[120:] += 0.05
    levels[[20, 60, 160]] += 0.4
    assert [abs(point - 120) <= 1 for point in trend.change_points(levels, 0.001)] == [True]
    assert trend.change_points(np.zeros(200), 0.001) == ()
    assert trend.change_points(levels[:4], 0.001) == ()


def test_the_split_of_two_levels_is_exact_without_noise() -> None:
    levels = np.array([0.0, 0.1, 0.0, 0.1, 2.0, 2.1, 2.0])
    assert trend.split(levels) == 4
    assert trend.split(levels[:1]) == 0


def test_a_line_is_a_drift_and_a_step_is_none() -> None:
    rng = np.random.default_rng(7)
    noise = rng.normal(0, 0.01, 28)
    line = noise + 0.002 * np.arange(28)
    step = noise + 0.04 * (np.arange(28) >= 12)
    assert trend.drifts(line, trend.change_points(line, 0.001), 0.001)
    assert not trend.drifts(step, trend.change_points(step, 0.001), 0.001)


def test_planted_shifts_of_six_sigma_are_found_within_three_nights_and_little_else_is() -> None:
    rng = np.random.default_rng(11)
    cells, nights = 80, 120
    s = 0.01
    values = s * np.sqrt(2 / 3) * rng.normal(size=(cells, nights, 1))
    values = values + s * np.sqrt(5 / 3) * rng.normal(size=(cells, nights, 5))
    values += np.where(rng.random(values.shape) < 0.02, 0.3, 0.0)
    at = np.where(np.arange(cells) < 40, rng.choice([90, 110], cells), -1)
    sign = rng.choice([-1, 1], cells)
    for cell in np.flatnonzero(at >= 0):
        values[cell, at[cell] :] += 6 * s * sign[cell]
    values[rng.random(values.shape) < 0.05] = np.nan
    panel = Panel.of(values, 7)
    found, quiet, false = np.zeros(cells, dtype=bool), 0, 0
    for night in (90, 91, 92, 110, 111, 112):
        judged = assess(panel, np.full(cells, night))
        fresh = (at >= 0) & (night >= at) & (night < at + 3)
        found |= fresh & judged.moved & (np.sign(judged.shift) == sign)
        calm = (at < 0) | (night < at) | (night > at + 14)
        quiet, false = quiet + int(calm.sum()), false + int((calm & judged.moved).sum())
    assert found[at >= 0].mean() >= 0.95
    assert false / quiet <= 0.01


def test_a_drift_too_slow_for_the_last_week_is_found_against_weeks_before() -> None:
    rng = np.random.default_rng(13)
    values = 0.008 * rng.normal(size=(20, 200, 5)) + 0.005 * rng.normal(size=(20, 200, 1))
    values[:10, 120:] += 0.002 * np.arange(80)[:, None]
    panel = Panel.of(values, 7)
    found = np.zeros(20, dtype=bool)
    for night in (145, 150, 155):
        judged = assess(panel, np.full(20, night))
        found |= judged.moved & np.array([WINDOWS[window].gap > 0 for window in judged.window])
    assert found[:10].sum() >= 9
    assert not found[10:].any()
