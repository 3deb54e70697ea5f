"""Numbers as people read them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicelab.report.units import between, interval, number, quantity


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (12.3, "12.3"),
        (12.30000001, "12.3"),
        (0.01234567, "0.01235"),
        (123456.7, "123\u202f457"),
        (-3.5, "−3.5"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "∞"),
        (1.5e12, "1.500e+12"),
        (100.0, "100"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (3.1e6, "ns", "3.1\u00a0ms"),
        (12_000, "ns", "12\u00a0µs"),
        (43.0, "pct", "43\u00a0%"),
        (4, "1", "4"),
        (1612800, "khz", "1.613\u00a0GHz"),
        (5, "frames", "5\u00a0frames"),
        (None, "ns", "–"),
    ],
)
def test_quantities(value: float | None, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_both_ends_of_a_range_have_one_unit() -> None:
    assert interval(900, 1_100, "ns") == "[0.9, 1.1]\u00a0µs"
    assert interval(None, 1.0, "ns") == ""
    assert between(39.5, 41.2, "°C") == "39.5–41.2\u00a0°C"
    assert between(40.0, 40.0, "°C") == "40\u00a0°C"


@given(st.floats())
def test_every_float_can_be_shown(value: float) -> None:
    assert number(value)
    assert quantity(value, "ns")
