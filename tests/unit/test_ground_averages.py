"""Averages of pairs: what is found by halving is what sorting all of them finds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicelab.analyses import _stats as s
from devicelab.ground.averages import Averages

_VALUES = st.one_of(
    st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=40),
    st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=1, max_size=40),
    st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.1 + 0.2, -0.3, 1e-12, 1e12]), min_size=1, max_size=40),
)


@given(_VALUES)
def test_every_place_holds_what_sorting_all_averages_puts_there(values: list[float]) -> None:
    x = np.array(values)
    plain, found = Averages(x, few=x.size), Averages(x, few=0)
    assert (found.size, found.below, found.above) == (plain.size, plain.below, plain.above)
    assert [found.at(place) for place in range(found.size)] == [plain.at(place) for place in range(plain.size)]
    assert found.median() == plain.median() == float(np.median([plain.at(place) for place in range(plain.size)]))


@given(st.lists(st.floats(-1.7e308, 1.7e308), min_size=1, max_size=30))
def test_no_pair_of_large_values_is_beyond_the_largest_number(values: list[float]) -> None:
    x = np.array([*values, 1.7e308, -1.7e308, 1.7e308])
    first, second = np.triu_indices(x.size)
    for few in (0, x.size):
        found = Averages(x, few=few)
        assert np.isfinite([found.at(0), found.at(found.size - 1), found.median()]).all()
        assert found.at(found.size - 1) == 1.7e308
        middle = float(np.median(x[first] / 2 + x[second] / 2))
        assert found.median() == pytest.approx(middle, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("spread", [1.0, 1e-13, 0.0])
def test_many_values_have_the_interval_that_all_averages_have(spread: float) -> None:
    x = 1 + spread * np.random.default_rng(3).normal(size=801)
    first, second = np.triu_indices(x.size)
    every = np.sort((x[first] + x[second]) / 2)
    got = s.location(x)
    assert got.estimate == float(np.median(every))
    assert got.low in every
    assert got.high in every
    rows = np.stack((x, -x), axis=1)
    for found, alone in zip(np.transpose(s.locations(rows)), (got, s.location(-x)), strict=True):
        assert list(found) == [alone.estimate, alone.low, alone.high]


def test_a_hundred_thousand_values_need_no_table_of_their_pairs() -> None:
    x = np.random.default_rng(5).normal(0.01, 1, size=100_000)
    got = s.location(x)
    assert got.low is not None
    assert got.high is not None
    assert 0.01 - 0.02 < got.low < got.estimate < got.high < 0.01 + 0.02
