"""What a total may be wrong by, part by part; and a battery's readings at the bounds of what is believed."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devicelab.experiment.energy import battery
from devicelab.experiment.energy.battery import Battery
from devicelab.experiment.energy.meters import Reading
from devicelab.experiment.energy.of_run import _info
from devicelab.experiment.energy.totals import FaultError, of_power

S = 1_000_000_000
FOLDER = "/sys/class/power_supply/battery"


def fault(call: Any) -> str:
    with pytest.raises(FaultError) as told:
        call()
    return str(told.value.code)


def power(watts: Sequence[float], every_s: float = 1.0) -> float:
    times = [round(n * every_s * S) for n in range(len(watts))]
    return of_power(times, list(watts), 0, times[-1]).error_j


def zigzag(*steps: float) -> list[float]:
    """Watts that go up and down by these steps in turn, so that both ends are alike where they cancel."""
    return [100.0, *(100.0 + x for x in itertools.accumulate(s * (-1) ** n for n, s in enumerate(steps)))]


@pytest.mark.parametrize("largest", [1.0, 4.9, 5.0])
def test_steps_up_to_five_times_the_usual_are_noise(largest: float) -> None:
    """Von Neumann: half the mean square of successive differences; the readings' ends add half of their difference."""
    steps = [1.0] * 5 + [largest, largest] + [1.0] * 5
    watts = zigzag(*steps)
    deviation = math.sqrt(sum(x * x for x in steps) / len(steps) / 2)
    ends = abs(watts[-1] - watts[0]) / 2
    assert power(watts) == pytest.approx(ends + 2 * deviation * 12 / math.sqrt(13))


@pytest.mark.parametrize("largest", [5.001, 50.0])
def test_of_a_rare_and_large_step_only_its_place_is_unknown(largest: float) -> None:
    watts = zigzag(*[1.0] * 5, largest, largest, *[1.0] * 5)
    noise = math.sqrt(1 / 2) * 12 / math.sqrt(13)
    placed = math.sqrt(2 * largest**2 / 12) * 12 / 12
    ends = abs(watts[-1] - watts[0]) / 2
    assert power(watts) == pytest.approx(ends + 2 * math.hypot(noise, placed))


@pytest.mark.parametrize(("readings", "known"), [(4, False), (5, True)])
def test_of_fewer_than_five_different_readings_the_scatter_is_not_known(readings: int, known: bool) -> None:
    watts = zigzag(*[1.0] * (readings - 1))
    ends = abs(watts[-1] - watts[0]) / 2
    assert (power(watts) > ends + 1e-9) is known


@pytest.mark.parametrize(("each", "late_s"), [(1, 0), (2, 2), (3, 3)])
def test_a_gauge_that_repeats_itself_may_be_as_late_as_it_measures_rarely(each: int, late_s: int) -> None:
    """A step in the middle of readings that come ``each`` times: the ends differ by 3 W."""
    watts = [w for w in (1.0, 1.0001, 1.0, 1.0001, 4.0, 4.0001, 4.0, 4.0001, 4.0) for _ in range(each)]
    step = 3.0
    # held until the next: half the ends' difference; late: all of it for as long as the gauge is old.
    expected = step / 2 + late_s * step
    placed = 2 * math.sqrt(step**2 / 12)
    assert power(watts) == pytest.approx(expected + placed, rel=0.02)


@given(st.floats(0.1, 9), st.floats(0.05, 2))
def test_a_step_held_until_the_next_reading_is_off_by_half_of_it(step: float, every_s: float) -> None:
    assert power([1.0, 1.0, 1.0 + step, 1.0 + step], every_s) == pytest.approx(step * every_s / 2)


# --- the battery's own count ---------------------------------------------------------------------------------------

UAH = 1e-6


def proved(fell: Sequence[float], drawn: float = 1.0) -> str:
    """A current of 1 A at 4 V for as long as the count takes; ``fell`` uAh a step, ``drawn`` times what was counted."""
    charges = [3.0, *(3.0 - x * UAH for x in itertools.accumulate(fell))]
    counted_ah = charges[0] - charges[-1]
    each_ns = max(1, round(abs(counted_ah) * drawn / len(fell) * 3600 * S))
    n = len(charges)
    nodes = {f"{FOLDER}/current_now": ["-1000000"] * n, f"{FOLDER}/voltage_now": ["4000000"] * n}
    times = [each_ns * number for number in range(n)]
    one = Battery(FOLDER, (4.0,) * n, tuple(charges), "")
    return battery.prove(one, times, nodes, (0, times[-1]))


@pytest.mark.parametrize(
    ("drawn", "said"),
    [(0.499, None), (0.501, "49.9%"), (0.9, "10.0%"), (1.0, "0.0%"), (1.5, "50.0%"), (1.999, "99.9%"), (2.001, None)],
)
def test_a_count_of_charge_proves_a_current_within_a_factor_of_two(drawn: float, said: str | None) -> None:
    if said is None:
        assert fault(lambda: proved([1000] * 20, drawn)) == "energy-unit-disproved"
    else:
        assert proved([1000] * 20, drawn) == f"its count of charge agrees within {said}"


def test_a_count_that_rose_says_that_something_charged() -> None:
    assert fault(lambda: proved([-1000] * 20)) == "energy-charging"
    assert fault(lambda: proved([1000] * 6 + [-1000] * 14)) == "energy-charging"


@pytest.mark.parametrize(
    ("fell", "shows"),
    [([1000] * 5, True), ([1000] * 4, False), ([1000] * 5 + [0] * 9, True), ([1000, -1000] * 4 + [1000] * 4, False)],
)
def test_a_count_that_moved_by_fewer_than_five_steps_shows_nothing(fell: list[float], shows: bool) -> None:
    assert bool(proved(fell)) is shows


@pytest.mark.parametrize(
    ("largest", "unit"),
    [(1, "mA"), (5_000, "mA"), (5_001, None), (19_999, None), (20_000, "uA"), (3_000_000, "uA"), (0, None)],
)
def test_a_current_is_in_milliamperes_up_to_five_thousand_and_in_microamperes_from_twenty(
    largest: int, unit: str | None
) -> None:
    nodes = {
        f"{FOLDER}/current_now": [str(-largest), str(-min(largest, 1)), None],
        f"{FOLDER}/voltage_now": ["4000", "4000", "4000"],
    }
    if unit is None:
        assert fault(lambda: battery.read(FOLDER, nodes)) == "energy-unit-unknown"
        return
    got, scale = battery.read(FOLDER, nodes), {"mA": 1e-3, "uA": 1e-6}[unit]
    assert got.watts == pytest.approx((4 * largest * scale, 4 * scale, None))
    assert got.told == f"current in {unit}, negative while discharging, voltage in mV"


@pytest.mark.parametrize(
    ("texts", "volts"),
    [
        (["2000", "30000"], (2.0, 30.0)),
        (["1999", "4000"], None),
        (["4000", "30001"], None),
        (["2000000", "30000000"], (2.0, 30.0)),
        (["1999999", "4000000"], None),
        (["4000000", "30000001"], None),
        (["4000", "4000000"], None),
        (["4000", None], (4.0, None)),
        ([None, None], None),
    ],
)
def test_a_voltage_is_one_that_a_battery_can_have(texts: list[str | None], volts: tuple[float, ...] | None) -> None:
    nodes = {f"{FOLDER}/current_now": ["1000"] * 2, f"{FOLDER}/voltage_now": texts}
    if volts is None:
        assert fault(lambda: battery.read(FOLDER, nodes)) == "energy-voltage"
    else:
        assert battery.read(FOLDER, nodes).watts == pytest.approx(volts)


@pytest.mark.parametrize(("other", "taken"), [(1, True), (2, True), (3, False)])
def test_two_readings_of_a_hundred_may_have_the_other_sign(other: int, taken: bool) -> None:
    for sign in (1, -1):
        texts = [str(-sign * 1000)] * other + [str(sign * 1000)] * (100 - other)
        nodes = {f"{FOLDER}/current_now": texts, f"{FOLDER}/voltage_now": ["4000"] * 100}
        if taken:
            assert np.mean(battery.read(FOLDER, nodes).watts) == pytest.approx(4 * (100 - 2 * other) / 100)
        else:
            assert fault(lambda nodes=nodes: battery.read(FOLDER, nodes)) == "energy-sign"


def test_power_is_in_microwatts_whatever_its_sign() -> None:
    got = battery.read(FOLDER, {f"{FOLDER}/power_now": ["2500000", "-2500000", "x"]})
    assert got.watts == (2.5, 2.5, None)


@pytest.mark.parametrize(("count", "ah"), [(49_999, 49.999), (50_000, 0.05), (1, 0.001)])
def test_a_count_of_charge_is_in_milliampere_hours_below_fifty_thousand(count: int, ah: float) -> None:
    nodes = {f"{FOLDER}/power_now": ["1", "1"], f"{FOLDER}/charge_counter": [str(count), None]}
    assert battery.read(FOLDER, nodes).charge_ah == pytest.approx((ah, None))


def test_how_readings_were_understood_is_told_where_it_is_known() -> None:
    assert _info(Reading("m", "s", None, told="t")) == {"meter": "m", "scope": "s", "understood_as": "t"}
    assert _info(Reading("m", "s", None)) == {"meter": "m", "scope": "s"}
