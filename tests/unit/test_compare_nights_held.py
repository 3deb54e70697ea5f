"""Changes that hold however often one looks, on planted histories."""

from collections.abc import Callable

import numpy as np
import pytest

from devicelab.compare.nights import held
from devicelab.compare.nights.assess import Panel, assess
from devicelab.compare.nights.held import Held
from devicelab.compare.nights.stats import Floats

Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]

NOISES: dict[str, Draw] = {
    "normal": lambda rng, size: rng.normal(size=size),
    "heavy": lambda rng, size: rng.standard_cauchy(size),
    "skewed": lambda rng, size: rng.exponential(size=size),
    "ties": lambda rng, size: rng.integers(0, 3, size).astype(np.float64),
}


def of(levels: Floats, ok: object = True) -> Held:
    last = np.full(len(levels), levels.shape[1] - 1)
    return held.held(levels, last, np.broadcast_to(np.asarray(ok), levels.shape).copy())


@pytest.mark.parametrize("noise", NOISES)
def test_a_year_of_looking_every_night_establishes_nothing_where_nothing_changes(noise: str) -> None:
    found = of(NOISES[noise](np.random.default_rng(1), (1000, 365)))
    assert (found.alarm >= 0).mean() <= held.ALARM


@pytest.mark.parametrize(("before", "within"), [(21, 8), (60, 5), (180, 4)])
def test_a_step_is_established_within_some_nights_and_its_first_night_is_known(before: int, within: int) -> None:
    levels = np.random.default_rng(2).normal(size=(100, before + within))
    levels[:50, before:] += 8
    levels[50:, before:] -= 8
    found = of(levels)
    assert (found.alarm >= before).mean() >= 0.95
    there = found.alarm >= 0
    assert np.median(np.abs(found.begins[there] - before)) == 0
    assert set(found.way[:50][there[:50]]) == {1}
    assert set(found.way[50:][there[50:]]) == {-1}


def test_a_step_back_is_established_as_well() -> None:
    levels = np.random.default_rng(3).normal(size=(50, 150))
    levels[:, 60:110] += 6
    found = of(levels)
    assert (found.way == -1).mean() >= 0.95
    assert np.median(found.begins) == 110


def test_figures_that_never_vary_establish_nothing_until_they_do() -> None:
    levels = np.full((1, 70), 5.0)
    assert of(levels[:, :60]).alarm[0] == -1
    levels[:, 60:] = 5.1
    assert of(levels).begins[0] == 60


def test_nights_that_may_not_be_compared_and_nights_to_come_change_nothing() -> None:
    rng = np.random.default_rng(4)
    levels = rng.normal(size=(20, 60))
    clean = of(levels)
    other = np.full((20, 75), 99.0)
    ok = np.zeros((20, 75), bool)
    other[:, 5:65], ok[:, 5:65] = levels, True
    found = held.held(other, np.full(20, 64), ok)
    assert np.array_equal(found.evidence, clean.evidence)


def test_one_wild_night_is_no_change() -> None:
    levels = np.random.default_rng(5).normal(size=(100, 100))
    levels[:, 80] += 50
    assert (of(levels).alarm >= 0).mean() <= held.ALARM


def test_a_small_step_that_no_single_night_shows_is_called_once_it_is_established() -> None:
    rng = np.random.default_rng(6)
    levels = 0.01 * rng.normal(size=(40, 129))
    levels[:, 120:] += 0.03
    values = levels[:, :, None] + 1e-4 * rng.normal(size=(40, 129, 5))
    got = assess(Panel.of(values, 7), np.full(40, 128))
    assert got.established.mean() >= 0.8
    assert np.array_equal(got.moved & got.established, got.established)
    assert np.median(got.begins[got.established]) == 120
    assert np.median(got.shift[got.established]) == pytest.approx(0.03, abs=0.01)


def test_what_is_established_but_below_what_counts_is_not_called() -> None:
    rng = np.random.default_rng(7)
    levels = 0.0005 * rng.normal(size=(20, 80))
    levels[:, 70:] += 0.005
    values = levels[:, :, None] + 1e-5 * rng.normal(size=(20, 80, 5))
    got = assess(Panel.of(values, 7), np.full(20, 79))
    assert not got.moved.any()
