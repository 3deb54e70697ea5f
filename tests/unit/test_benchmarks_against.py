"""Two commits are told apart by the interval of their ratio, and growth by its exponent."""

import math
from collections.abc import Callable

import pytest

from benchmarks import growth
from benchmarks._against import apart


def _rounds(ratios: list[float]) -> list[tuple[dict[str, float], dict[str, float]]]:
    return [({"x": 10.0 * ratio, "mine": 1.0}, {"x": 10.0, "theirs": 1.0}) for ratio in ratios]


@pytest.mark.parametrize(
    ("ratios", "words"),
    [
        ([1.20, 1.22, 1.19, 1.21, 1.18, 1.25], "more"),
        ([0.80, 0.82, 0.79, 0.81, 0.78, 0.85], "less"),
        ([1.20, 0.90, 1.10, 0.80, 1.05, 0.97], "not told apart"),
        ([1.20, 1.22, 1.19], "too few rounds (3; 6 are the least)"),
    ],
)
def test_a_figure_differs_only_if_its_interval_says_so(ratios: list[float], words: str) -> None:
    (row,) = apart(_rounds(ratios))
    assert (row.what, row.words) == ("x", words)


def test_a_figure_that_was_nothing_has_no_ratio() -> None:
    assert apart([({"lost": 0.0}, {"lost": 0.0})] * 6) == ()


@pytest.mark.parametrize(
    ("cost", "steep"), [(lambda n: n, False), (lambda n: n * math.log(n), False), (lambda n: n**1.5, True)]
)
def test_what_grows_faster_than_n_log_n_is_called_too_steep(cost: Callable[[float], float], steep: bool) -> None:
    rows = [{"size": n, "cpu_s": cost(n)} for n in (1e3, 1e4, 1e5)]
    assert (growth.exponent(rows) > growth.steepest(rows)) is steep


def test_a_time_too_short_for_the_clock_has_no_exponent() -> None:
    assert math.isnan(growth.exponent([{"size": 10, "cpu_s": 0.001}, {"size": 100, "cpu_s": 0.01}]))
