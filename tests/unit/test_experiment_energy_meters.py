"""Counters that say when they were updated, beyond their last update; which rails a sum holds; what is believed."""

from collections.abc import Mapping

import pytest

from devicelab.experiment.energy import meters
from devicelab.experiment.energy.totals import FaultError, Total

S = 1_000_000_000
RAPL = "/sys/class/powercap/intel-rapl:0"


@pytest.mark.parametrize(
    ("span_s", "more_s"), [((0, 10), 0), ((0, 11), 1), ((-1, 10), 1), ((-0.5, 10.5), 1), ((2, 8), 0), ((2, 10.5), 0.5)]
)
def test_a_rail_goes_on_beyond_its_last_update_as_it_did_before(span_s: tuple[float, float], more_s: float) -> None:
    """3 W, updated every second from 0 to 10: what was not seen is off by half of it."""
    span = (round(span_s[0] * S), round(span_s[1] * S))
    got = meters._updated("r", {n * S: 3.0 * n for n in range(11)}, span)
    assert got.joules == pytest.approx(3 * (span_s[1] - span_s[0]))
    assert got.error_j == pytest.approx(3 * more_s / 2)
    assert got.span_ns == span[1] - span[0]


@pytest.mark.parametrize(("end_s", "told"), [(11.11, True), (11.12, False)])
def test_a_tenth_of_the_span_may_lie_beyond_the_updates(end_s: float, told: bool) -> None:
    fresh = {n * S: 3.0 * n for n in range(11)}
    if told:
        assert meters._updated("r", fresh, (0, round(end_s * S))).joules == pytest.approx(3 * end_s)
        return
    with pytest.raises(FaultError, match=r"rail r: its updates span 10 s of the window") as fault:
        meters._updated("r", fresh, (0, round(end_s * S)))
    assert fault.value.code == "energy-too-short"


def test_a_rail_that_never_counts_is_off_and_one_that_falls_is_named() -> None:
    off = meters._updated("r", {n * S: 7.0 for n in range(4)}, (0, 3 * S))
    assert off == Total(0.0, 0.0, 3 * S, 4)
    with pytest.raises(FaultError, match=r"rail r: .*fell"):
        meters._updated("r", {0: 7.0, S: 8.0, 2 * S: 1.0}, (0, 2 * S))


@pytest.mark.parametrize("ahead_s", [-5.0, 0.0, 90.0])
def test_two_clocks_are_aligned_by_the_reading_that_came_the_soonest(ahead_s: float) -> None:
    """The rail takes 1 W until 5 s and 2 W from then on; readings come 0 to 0.4 s after their update."""
    delays = (0.3, 0.2, 0.0, 0.4, 0.1, 0.4, 0.3, 0.2, 0.1, 0.4, 0.3)
    rows = [
        (round((n + ahead_s + delay) * S), n * S, float(n if n <= 5 else 2 * n - 5)) for n, delay in enumerate(delays)
    ]
    span = (round((2 + ahead_s) * S), round((8 + ahead_s) * S))
    assert meters._stamped("r", rows, span).joules == pytest.approx(3 + 6)
    with pytest.raises(FaultError, match="went back"):
        meters._stamped("r", [*rows, (rows[-1][0] + S, 9 * S, 20.0)], span)
    same = [*rows, (rows[-1][0] + S, 10 * S, 15.0)]
    assert meters._stamped("r", same, span).joules == pytest.approx(3 + 6), "one that was not updated is no fault"


def rapl(**watts: float) -> meters.Reading:
    """A reading of domains by path suffix, named after the part before the two underscores; ``p0`` is a package."""
    names: dict[str, str | None] = {}
    nodes: Mapping[str, list[str | None]] = {}
    for number, (name, drawn) in enumerate(watts.items()):
        top, _, _ = name.partition("__")
        folder = f"{RAPL[:-1]}{number}" if "__" not in name else f"{RAPL}:{number}"
        names[f"{folder}/name"] = top.replace("_", "-")
        nodes = {**nodes, f"{folder}/energy_uj": [str(round(n * drawn * 1e6)) for n in range(6)]}
    found = meters.read([n * S for n in range(6)], nodes, names, (0, 5 * S))
    assert found is not None
    return found


def test_of_a_processor_the_platform_is_the_whole_else_packages_and_memory() -> None:
    packages = rapl(package_0=10.0, core__=4.0, dram__=2.0, uncore__=1.0)
    assert packages.total is not None
    assert packages.total.watts == pytest.approx(12)
    assert packages.scope == "processor by RAPL (package-0 + dram), not the whole device"
    assert {rail: total.watts for rail, total in packages.rails.items()} == pytest.approx(
        {"package-0": 10, "core": 4, "dram": 2, "uncore": 1}
    )
    platform = rapl(package_0=10.0, psys=15.0, dram__=2.0)
    assert platform.total is not None
    assert platform.total.watts == pytest.approx(15)
    assert platform.scope == "platform by RAPL (psys)"
    two = rapl(package_0=10.0, package_1=11.0)
    assert two.total is not None
    assert two.total.watts == pytest.approx(21)
    assert rapl(core__=4.0).total is None, "a part alone is no total"


@pytest.mark.parametrize(
    ("meter", "rails", "watts", "believed"),
    [
        ("odpm", 1, 0.01, True),
        ("odpm", 1, 0.0099, False),
        ("odpm", 1, 100.0, True),
        ("odpm", 1, 100.1, False),
        ("odpm", 3, 300.0, True),
        ("odpm", 3, 300.1, False),
        ("odpm", 0, 100.0, True),
        ("rapl", 1, 0.2, True),
        ("rapl", 1, 0.199, False),
        ("rapl", 1, 2_000.1, False),
        ("nvml", 1, 1.0, True),
        ("nvml", 1, 0.99, False),
        ("nvml", 2, 10_000.0, True),
        ("nvml", 2, 10_001.0, False),
        ("sensor", 1, 1e9, True),
    ],
)
def test_a_counter_that_would_have_drawn_what_no_device_draws_has_another_unit(
    meter: str, rails: int, watts: float, believed: bool
) -> None:
    total = Total(watts, 0.0, S, 5)
    reading = meters.Reading(meter, "it", total, {str(n): total for n in range(rails)})
    if believed:
        meters._believable(reading)
        return
    with pytest.raises(FaultError, match="it would have drawn") as fault:
        meters._believable(reading)
    assert fault.value.code == "energy-unit-unknown"
