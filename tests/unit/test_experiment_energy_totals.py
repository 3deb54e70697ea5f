"""Joules from readings: the integral and the counter by slow and plain ways, errors by hand, and every bound."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicelab.experiment.energy.totals import FaultError, Total, of_counter, of_power

S = 1_000_000_000


def seconds(*at: float) -> list[int]:
    return [round(S * one) for one in at]


def code(found: Callable[..., Total], *args: Any, **more: Any) -> str:
    with pytest.raises(FaultError) as caught:
        found(*args, **more)
    return caught.value.code


@given(
    st.lists(st.tuples(st.integers(1, 4), st.floats(-5, 50)), min_size=3, max_size=12),
    st.floats(0, 0.49),
    st.floats(0.51, 1),
)
def test_joules_are_the_area_under_the_line_through_the_readings(
    steps: list[tuple[int, float]], first: float, last: float
) -> None:
    at, power, now = [], [], 0
    for gap, watts in steps:
        now += gap
        at.append(now)
        power.append(watts)
    start, end = (at[0] + share * (at[-1] - at[0]) for share in (first, last))
    area = 0.0
    for (t0, p0), (t1, p1) in zip(zip(at, power, strict=True), zip(at[1:], power[1:], strict=False), strict=False):
        low, high = max(t0, start), min(t1, end)
        if high > low:
            middle = p0 + (p1 - p0) * ((low + high) / 2 - t0) / (t1 - t0)  # of a straight piece
            area += middle * (high - low)
    got = of_power(seconds(*at), power, round(start * S), round(end * S))
    assert got.joules == pytest.approx(area, abs=1e-5)
    assert got.readings == sum(start < one < end for one in at)
    assert got.watts == pytest.approx(got.joules / (end - start), abs=1e-5)


@pytest.mark.parametrize(
    ("watts", "joules", "error"),
    [
        # Constant, and a peak in the middle: too few different readings for a scatter.
        ([4.0] * 6, 20.0, 0.0),
        ([1, 1, 3, 1, 1], 6.0, 0.0),
        # A ramp: half of what holding each reading would change, and the scatter of its steps.
        ([1, 2, 3, 4, 5, 6], 17.5, 2.5 + 2 * math.sqrt(1 / 2) * 5 / math.sqrt(6)),
        ([6, 5, 4, 3, 2, 1], 17.5, 2.5 + 2 * math.sqrt(1 / 2) * 5 / math.sqrt(6)),
        # Four different ones have no scatter, five have.
        ([1, 2, 3, 4], 7.5, 1.5),
        ([1, 2, 3, 4, 5], 12.0, 2.0 + 2 * math.sqrt(1 / 2) * 4 / math.sqrt(5)),
        # A gauge that is read twice as often as it measures: its age at both ends, and where its steps lie.
        ([1, 1, 2, 2, 3, 3, 4, 4, 5, 5], 27.0, 2.0 + 2 * 4.0 + 2 * math.sqrt(4 / 12)),
        # Three measurements tell its age, two do not.
        ([1, 1, 2, 2, 3, 3, 4], 13.5, 1.5 + 2 * 3.0),
        ([1, 1, 2, 2, 3], 7.0, 1.0),
        # One and a half periods apart: not told from new at every reading.
        ([0, 1, 2, 2, 3, 4, 4, 5], 18.5, 2.5 + 2 * math.hypot(math.sqrt(5 / 7 / 2) * 7 / math.sqrt(6), 0)),
        # One large step among small ones is the power's own: only its place is unknown.
        ([1, 2, 1, 2, 1, 9, 8, 9], 28.0, 4.0 + 2 * math.hypot(math.sqrt(1 / 2) * 7 / math.sqrt(8), math.sqrt(64 / 12))),
        # Five times the usual step is still usual.
        ([1, 2, 1, 2, 1, 6], 9.5, 2.5 + 2 * math.sqrt((4 + 25) / 5 / 2) * 5 / math.sqrt(6)),
    ],
)
def test_the_error_of_an_integral_is_that_of_its_parts(watts: list[float], joules: float, error: float) -> None:
    got = of_power(seconds(*range(len(watts))), watts, 0, (len(watts) - 1) * S)
    assert got.joules == pytest.approx(joules)
    assert got.error_j == pytest.approx(error)


@pytest.mark.parametrize(
    ("counts", "grown", "error"),
    [
        ([0, 10, 20, 30, 40], 40, 0.0),  # new at every reading
        ([0, 0, 20, 20, 40], 40, 40 / 4 * 2),  # as old as two readings
        ([0, 0, 0, 0, 40], 40, 40 / 4 * 4),  # one update: nobody knows when the one before was
        ([0, 10, 20, 20, 30], 30, 0.0),  # updates of 1, 1 and 2 s
    ],
)
def test_a_counter_is_wrong_by_what_it_did_not_show_yet(counts: list[float], grown: float, error: float) -> None:
    got = of_counter(seconds(0, 1, 2, 3, 4), counts, 0, 4 * S)
    assert (got.joules, got.readings, got.span_ns) == (grown, 5, 4 * S)
    assert got.error_j == pytest.approx(error)


def test_a_counter_is_interpolated_at_both_ends() -> None:
    got = of_counter(seconds(0, 1, 2, 3), [0, 10, 30, 60], S // 2, 5 * S // 2)
    assert (got.joules, got.readings) == (40.0, 2)


@pytest.mark.parametrize(("size", "joules"), [(25.0, 40.0), (55.0, 70.0), (55.1, None), (15.0, 30.0), (14.9, None)])
def test_a_counter_that_fell_ran_over_if_its_power_is_believable(size: float, joules: float | None) -> None:
    """It grew by 10 W; over at its range it would have been ``size - 15`` W for a second: 0 to 40 are believed."""
    args = (seconds(0, 1, 2, 3, 4), [0.0, 10.0, 20.0, 5.0, 15.0], 0, 4 * S)
    if joules is None:
        assert code(of_counter, *args, range_j=size) == "energy-counter-reset"
    else:
        assert of_counter(*args, range_j=size).joules == pytest.approx(joules)
    assert code(of_counter, *args) == "energy-counter-reset"


@pytest.mark.parametrize("last", [7.0, 7.5])
def test_a_counter_that_stands_tells_no_energy(last: float) -> None:
    args = (seconds(0, 1, 2), [7.0, 7.0, last], 0, 2 * S)
    if last > 7:
        assert of_counter(*args).joules == 0.5
    else:
        assert code(of_counter, *args) == "energy-counter-stands"


@pytest.mark.parametrize(("gap", "whole"), [(1.0, True), (5.0, True), (5.001, False)])
def test_readings_may_be_five_periods_apart_within_and_at_the_ends(gap: float, whole: bool) -> None:
    inside = (seconds(0, 1, 2, 2 + gap, 3 + gap, 4 + gap, 5 + gap), [1.0] * 7, 0, round((5 + gap) * S))
    before = (seconds(*range(7)), [1.0] * 7, -round(gap * S), 6 * S)
    after = (seconds(*range(7)), [1.0] * 7, 0, round((6 + gap) * S))
    for args in (inside, before, after):
        if whole:
            assert of_power(*args).joules == pytest.approx((args[3] - args[2]) / S)
        else:
            assert code(of_power, *args) == "energy-gap"


def test_a_gap_before_or_after_the_span_is_nobodys() -> None:
    at = seconds(0, 50, 51, 52, 53, 54, 100)
    assert of_power(at, [1.0] * 7, 51 * S, 53 * S).joules == pytest.approx(2)
    assert code(of_power, at, [1.0] * 7, 49 * S, 53 * S) == "energy-gap"


@pytest.mark.parametrize(
    ("at", "values", "start", "end", "fault"),
    [
        ([0, 1], [1.0, 1.0], 0, 1, ""),
        ([0], [1.0], 0, 1, "energy-too-short"),
        ([0, 1, 2], [1.0, None, None], 0, 1, "energy-too-short"),
        ([0, 1, 2], [1.0, None, 1.0], 0, 1, ""),
        ([0, 1], [1.0, 1.0], 1, 1, "energy-too-short"),
        ([0, 1, 1], [1.0, 1.0, 1.0], 0, 1, "energy-gap"),
        ([0, 1, 0.5], [1.0, 1.0, 1.0], 0, 1, "energy-gap"),
        ([5, 6], [1.0, 1.0], 0, 4, "energy-too-short"),
    ],
)
def test_two_readings_in_order_are_the_least(
    at: list[float], values: list[float | None], start: int, end: int, fault: str
) -> None:
    args = (seconds(*at), values, start * S, end * S)
    if fault:
        assert code(of_power, *args) == fault
    else:
        assert of_power(*args).joules == pytest.approx(end - start)


def test_two_meters_of_one_span_are_added_with_independent_errors() -> None:
    both = Total(3.0, 0.3, 2 * S, 7) + Total(4.0, 0.4, 2 * S, 5)
    assert (both.joules, both.readings, both.span_ns, both.watts) == (7.0, 5, 2 * S, 3.5)
    assert both.error_j == pytest.approx(0.5)
    assert Total(1.0, 0.0, 0, 0).watts == 0.0
