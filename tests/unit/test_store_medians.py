"""Figures of many nights in one go: each is what a plain way over its own runs gives."""

import itertools
import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from devicelab.store.nights_overview import _medians, _ranks

Rows = list[tuple[tuple[int, int, int], float]]
KEYS = st.tuples(st.integers(0, 2), st.integers(5, 6), st.integers(1, 2))


@given(st.lists(st.tuples(KEYS, st.floats(-1e9, 1e9)), max_size=40))
def test_each_cell_of_each_night_has_the_median_of_its_runs_and_its_bounds(
    rows: Rows,
) -> None:
    group, cell, name = (np.asarray([key[at] for key, _ in rows], dtype=np.int64) for at in range(3))
    *keys, found = _medians(group, cell, name, np.asarray([value for _, value in rows], dtype=np.float64))
    expected = {key: sorted(value for _, value in part) for key, part in _grouped(rows)}
    assert list(zip(*keys, strict=True)) == list(expected)
    assert found["n"].tolist() == [len(values) for values in expected.values()]
    assert found["median"].tolist() == pytest.approx([statistics.median(values) for values in expected.values()])
    ranks = [_ranks(len(values)) for values in expected.values()]
    for bound, at in (("low", 0), ("high", 1)):
        ends = [values[places[at]] for values, places in zip(expected.values(), ranks, strict=True)]
        assert found[bound].tolist() == ends


def _grouped(rows: Rows) -> Iterator[tuple[tuple[int, int, int], Iterator[Any]]]:
    return itertools.groupby(sorted(rows), key=lambda row: row[0])


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 8, 9, 16, 17, 39, 100, 1029, 1030, 100_000])
def test_bounds_of_a_median_hold_it_with_95_percent_and_no_narrower_pair_does(n: int) -> None:
    """Few runs have their extremes; else the chance that all runs up to the bound lie on one side is below 2.5 %."""
    low, high = _ranks(n)
    assert low + high == n - 1
    assert 0 <= low <= high
    assert n >= 6 or low == 0
    if n >= 6:
        assert stats.binom.cdf(low, n, 0.5) <= 0.025 < stats.binom.cdf(low + 1, n, 0.5)
