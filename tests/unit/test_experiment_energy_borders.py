"""Joules against plain ways to the same number, and the bounds at which a reading is no longer believed."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicelab.errors import ConfigError
from devicelab.experiment import targets, tenancy
from devicelab.experiment.energy import totals
from devicelab.experiment.energy.totals import FaultError, Total, of_counter, of_power
from devicelab.model.experiment import Cell, Experiment, Tenant

S = 1_000_000_000
WATTS = st.lists(st.floats(0, 20), min_size=4, max_size=12)


def times(n: int) -> list[int]:
    return [number * S for number in range(n)]


@given(WATTS, st.floats(0, 1), st.floats(0, 1))
def test_power_is_integrated_between_any_two_moments(watts: list[float], early: float, late: float) -> None:
    n = len(watts)
    start, end = round(early * S), round((n - 2 + late) * S)
    got = of_power(times(n), watts, start, end)
    fine = np.linspace(start, end, 20_001)
    power = np.interp(fine, times(n), watts)
    plain = float(np.sum((power[1:] + power[:-1]) / 2)) * (end - start) / S / 20_000
    assert got.joules == pytest.approx(plain, abs=0.01)
    assert got.watts == pytest.approx(got.joules / ((end - start) / S))
    assert (got.span_ns, got.readings) == (end - start, sum(start < t < end for t in times(n)))
    doubled = of_power(times(n), [2 * one for one in watts], start, end)
    assert doubled.joules == pytest.approx(2 * got.joules)
    assert doubled.error_j == pytest.approx(2 * got.error_j)


@given(WATTS)
def test_a_counter_of_a_power_tells_the_same_joules(watts: list[float]) -> None:
    n = len(watts)
    counts = np.concatenate(([0.0], np.cumsum([(a + b) / 2 for a, b in itertools.pairwise(watts)])))
    if counts[-1] <= 1e-9:
        return
    got = of_counter(times(n), counts.tolist(), 0, times(n)[-1])
    assert got.joules == pytest.approx(of_power(times(n), watts, 0, times(n)[-1]).joules)
    assert got.readings == n
    turned = [float(count % 50) for count in counts]
    if max(watts) < 10:
        again = of_counter(times(n), turned, 0, times(n)[-1], range_j=50.0) if min(np.diff(turned)) >= 0 else None
        assert again is None or again.joules == pytest.approx(got.joules)


def fault(call: Any) -> str:
    with pytest.raises(FaultError) as told:
        call()
    return str(told.value.code)


def test_a_counter_that_runs_over_is_told_from_one_that_was_reset() -> None:
    counts = [40.0, 44.0, 48.0, 2.0, 6.0]  # 4 W, over at 50 J
    assert of_counter(times(5), counts, 0, 4 * S, range_j=50.0).joules == pytest.approx(16)
    assert fault(lambda: of_counter(times(5), counts, 0, 4 * S)) == "energy-counter-reset"
    stands = [40.0, 44.0, 44.0, 48.0, 2.0, 6.0]  # one reading between two updates
    assert of_counter(times(6), stands, 0, 5 * S, range_j=50.0).joules == pytest.approx(16)
    # As much as it would have taken ten times the usual power: no overflow.
    jump = [0.0, 1.0, 2.0, 1.9]
    assert fault(lambda: of_counter(times(4), jump, 0, 3 * S, range_j=1e6)) == "energy-counter-reset"
    assert fault(lambda: of_counter(times(3), [5.0, 5.0, 5.0], 0, 2 * S)) == "energy-counter-stands"


def test_a_counter_that_stands_between_updates_is_off_by_their_distance() -> None:
    every = of_counter(times(9), [float(n) for n in range(9)], 0, 8 * S)
    assert (every.joules, every.error_j) == (8, 0), "new at every reading"
    rare = of_counter(times(9), [float(n // 4 * 4) for n in range(9)], 0, 8 * S)
    assert rare.joules == 8
    assert rare.error_j == pytest.approx(8 / 8 * 4), "a watt for the four seconds between its updates"


@pytest.mark.parametrize("missing", [0, 1, 2, 3, 4, 5])
def test_the_longest_gap_is_some_periods(missing: int) -> None:
    watts = [None if 3 <= n < 3 + missing else 1.0 for n in range(16)]
    allowed = missing + 1 <= totals._GAP_PERIODS
    if allowed:
        assert of_power(times(16), watts, 0, 15 * S).joules == pytest.approx(15)
    else:
        assert fault(lambda: of_power(times(16), watts, 0, 15 * S)) == "energy-gap"


@pytest.mark.parametrize(
    ("t_ns", "start", "end", "code"),
    [
        ([0, S], 0, 0, "energy-too-short"),
        ([0, S], 5, 4, "energy-too-short"),
        ([0], 0, S, "energy-too-short"),
        ([0, S, S], 0, S, "energy-gap"),
        ([0, 2 * S, S], 0, S, "energy-gap"),
    ],
)
def test_what_spans_no_time_is_no_energy(t_ns: list[int], start: int, end: int, code: str) -> None:
    assert fault(lambda: of_power(t_ns, [1.0] * len(t_ns), start, end)) == code


def test_meters_of_one_span_add_and_their_errors_are_independent() -> None:
    both = Total(1.0, 0.3, 9, 5) + Total(2.0, 0.4, 9, 3)
    assert (both.joules, both.span_ns, both.readings) == (3.0, 9, 3)
    assert both.error_j == pytest.approx(0.5)
    assert Total(1.0, 0.0, 0, 1).watts == 0


def test_noise_is_a_part_of_the_error_and_a_trend_is_not() -> None:
    n = 200
    rng = np.random.default_rng(1)
    flat = of_power(times(n), [5.0] * n, 0, (n - 1) * S)
    trend = of_power(times(n), np.linspace(1, 9, n).tolist(), 0, (n - 1) * S)
    noisy = of_power(times(n), (5 + rng.normal(0, 1, n)).tolist(), 0, (n - 1) * S)
    assert flat.error_j == 0
    assert trend.error_j < 0.01 * trend.joules
    assert noisy.error_j == pytest.approx(2 * np.sqrt(n), rel=0.4), "two standard errors of the mean, times the time"


# --- tenants -------------------------------------------------------------------------------------------------------


def tenants(**changes: Any) -> Experiment:
    one = {"name": "low", "workload": "cpu_tenant", **changes}
    both = [{"name": "high", "priority": 2, "workload": "cpu_tenant"}, one]
    return Experiment.model_validate({"name": "e", "question": "?", "tenants": both})


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({"arrivals": "fixed:0.000001"}, True),
        ({"arrivals": "fixed:0.0000009"}, False),
        ({"arrivals": "poisson:10000000"}, True),
        ({"arrivals": "poisson:10000001"}, False),
        ({"arrivals": "every:2.5"}, True),
        ({"arrivals": "every:"}, False),
        ({"arrivals": "often"}, False),
        ({"copies": 1}, True),
        ({"copies": 1024}, True),
        ({"copies": 1025}, False),
        ({"copies": 0}, False),
        ({"name": "x" * 32}, True),
        ({"name": "x" * 33}, False),
        ({"name": "high"}, False),
        ({"name": "-x"}, False),
        ({"targets": {"p99_ms": "< 50"}}, True),
        ({"targets": {"p99_ms": "< 0"}}, True),
        ({"targets": {"p99_ms": "< -1"}}, False),
        ({"targets": {"p99_ms": "< 50 ms"}}, False),
        ({"targets": {"p98_ms": "< 50"}}, False),
    ],
)
def test_a_tenant_is_checked_at_its_bounds(changes: dict[str, Any], taken: bool) -> None:
    try:
        tenancy.check(tenants(**changes))
    except (ConfigError, ValueError):
        assert not taken
    else:
        assert taken


@pytest.mark.parametrize(
    ("pressure", "copies", "batch"),
    [(1, 1, None), (1024, 1024, None), ("copies:2", 2, None), ("batch:65536", 1, 65_536), ("batch:1", 1, 1)],
)
def test_the_least_important_tenant_is_pressed(pressure: Any, copies: int, batch: int | None) -> None:
    high, low = tenancy.everyone(Cell(levels={"pressure": pressure}, measured="x"), tenants())
    assert (high.copies, high.params) == (1, {})
    assert (low.copies, low.params.get("batch")) == (copies, batch)


@pytest.mark.parametrize(
    "pressure", [0, 1025, "copies:1025", "batch:65537", "batch:0", "batch:", "size:2", "x", "000000001"]
)
def test_a_pressure_beyond_its_bounds_is_refused(pressure: Any) -> None:
    with pytest.raises(ConfigError, match="is expected"):
        tenancy.everyone(Cell(levels={"pressure": pressure}, measured="x"), tenants())


@pytest.mark.parametrize(("sign", "kept"), [("<", (1, 0, 0)), ("<=", (1, 1, 0)), (">", (0, 0, 1)), (">=", (0, 1, 1))])
def test_a_promise_is_kept_below_at_and_above_its_number(sign: str, kept: tuple[int, ...]) -> None:
    (target,) = targets.of(Tenant(name="t", workload="cpu_tenant", targets={"p99_ms": f"{sign} 50"}))
    assert [target.keeps(x) for x in (49.9, 50, 50.1)] == [bool(one) for one in kept]
    assert str(target) == f"p99_ms {sign} 50"
