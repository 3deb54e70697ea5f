"""Faults of meters that resemble those which boards are planted with: joules within one per cent, or a flag's name."""

from collections.abc import Callable

import pytest

from devicelab.experiment.energy import FaultError, meters

_S = 1_000_000_000
_END = 10 * _S
BATTERY = "/sys/class/power_supply/battery"
BAT = "/sys/class/power_supply/BAT"
ODPM = "/sys/bus/iio/devices/iio:device{}/energy_value"
RAPL = "/sys/class/powercap/intel-rapl:0"

Nodes = dict[str, list[str | None]]
TIMES = [i * _S // 10 for i in range(101)]


def battery(
    watts: Callable[[float], float], *, volts: float = 4.0, milli_v: bool = False, every_s: float = 0.1
) -> Nodes:
    """A battery that discharges, whose gauge measures once in so long."""
    steps = [round(i / 10 // every_s * every_s, 6) if every_s > 0.1 else i / 10 for i in range(101)]
    return {
        f"{BATTERY}/status": ["Discharging"] * 101,
        f"{BATTERY}/current_now": [str(round(-1e6 * watts(t) / volts)) for t in steps],
        f"{BATTERY}/voltage_now": [str(round(volts * (1e3 if milli_v else 1e6)))] * 101,
    }


def rails(*lines: Callable[[int], str], monitor: int = 0) -> Nodes:
    return {ODPM.format(monitor): ["\n".join(line(i) for line in lines) for i in range(101)]}


def rail(channel: int, name: str, watts: float, *, unit: float = 1e6) -> Callable[[int], str]:
    return lambda i: f"CH{channel}(T={i * 100})[{name}], {round((50 + watts * i / 10) * unit)}"


def read(nodes: Nodes, names: dict[str, str | None] | None = None, times: list[int] | None = None) -> meters.Reading:
    names = {f"{BATTERY}/type": "Battery", **(names or {})}
    found = meters.read(times or TIMES, nodes, names, (0, _END))
    assert found is not None
    return found


def joules(nodes: Nodes, names: dict[str, str | None] | None = None) -> float:
    total = read(nodes, names).total
    assert total is not None
    return total.joules


def code(nodes: Nodes, names: dict[str, str | None] | None = None, times: list[int] | None = None) -> str:
    with pytest.raises(FaultError) as caught:
        read(nodes, names, times)
    return caught.value.code


def test_a_voltage_in_millivolts_is_understood() -> None:
    assert joules(battery(lambda _: 2.0, milli_v=True)) == pytest.approx(20.0, rel=0.01)


@pytest.mark.parametrize("every_s", [0.5, 1.0, 2.0])
def test_a_gauge_that_measures_seldom_is_known_to_no_more_than_it_shows(every_s: float) -> None:
    # Idle until just after a measurement of the gauge, busy from then on: it notices one of its periods later.
    def truth(t: float) -> float:
        return 1.0 + 0.001 * (t % 3) if t < 0.05 else 5.0 + 0.001 * (t % 3)

    total = read(battery(truth, every_s=every_s)).total
    assert total is not None
    assert abs(total.joules - 50.0) <= total.error_j
    assert total.error_j / total.joules > 0.01  # which is said as `energy-uncertain`
    steady = read(battery(lambda t: 5.0 + 0.001 * (t % 3), every_s=every_s)).total
    assert steady is not None
    assert steady.joules == pytest.approx(50.0, rel=0.01)
    assert steady.error_j / steady.joules < 0.01


def test_a_sensor_that_vanishes_gives_no_partial_total() -> None:
    nodes = battery(lambda _: 2.0)
    nodes[f"{BATTERY}/current_now"][60:] = [None] * 41
    assert code(nodes) == "energy-gap"


@pytest.mark.parametrize("state", ["Full", "Not charging", "Charging", "Unknown", ""])
def test_a_battery_that_does_not_say_that_it_discharges_tells_nothing(state: str) -> None:
    nodes = battery(lambda _: 2.0)
    nodes[f"{BATTERY}/status"] = [state] * 101
    nodes["/sys/class/power_supply/ac/online"] = ["1"] * 101
    assert code(nodes) == "energy-charging"
    nodes[f"{BATTERY}/status"] = ["Discharging"] * 50 + [state] * 51
    nodes["/sys/class/power_supply/ac/online"] = ["0"] * 101
    assert code(nodes) == "energy-charger-changed"


def test_one_of_two_batteries_is_not_the_whole_device() -> None:
    one = battery(lambda _: 2.0)
    both = {path.replace(BATTERY, f"{BAT}{n}"): texts for n in range(2) for path, texts in one.items()}
    types: dict[str, str | None] = {f"{BAT}{n}/type": "Battery" for n in range(2)}
    assert code(both, types) == "energy-several-batteries"
    assert list(meters.powers(TIMES, both, types)) == []
    # Android's own speaks for its gauges.
    gauges = one | {path.replace(BATTERY, "/sys/class/power_supply/max1720x"): texts for path, texts in one.items()}
    assert joules(gauges, {"/sys/class/power_supply/max1720x/type": "Battery"}) == pytest.approx(20.0, rel=0.01)


def test_rails_of_the_same_name_are_all_counted() -> None:
    here = rails(rail(0, "VDD_CPU", 1.0), rail(1, "VDD_CPU", 2.0))
    found = read(here | rails(rail(0, "VDD_CPU", 4.0), monitor=1))
    assert found.total is not None
    assert found.total.joules == pytest.approx(70.0, rel=0.01)
    assert sorted(round(total.joules) for total in found.rails.values()) == [10, 20, 40]


def test_a_rail_that_is_renamed_or_whose_clock_goes_back_is_flagged() -> None:
    renamed = rails(lambda i: rail(0, "VDD_A" if i < 50 else "VDD_B", 2.0)(i))
    assert code(renamed) == "energy-too-short"
    back = rails(lambda i: rail(0, "VDD_A", 2.0)(i if i < 97 else i - 97))
    assert code(back) == "energy-counter-reset"


def test_a_processors_counter_that_runs_over_twice_goes_on() -> None:
    counts = [str(round((i * 2.0e6) % 90e6)) for i in range(101)]  # 20 W, over at 90 J
    limits: dict[str, str | None] = {f"{RAPL}/max_energy_range_uj": "90000000", f"{RAPL}/name": "package-0"}
    assert joules({f"{RAPL}/energy_uj": list(counts)}, limits) == pytest.approx(200.0, rel=0.01)


@pytest.mark.parametrize("unit", [1e3, 1e9])
def test_a_counter_in_another_unit_is_no_number(unit: float) -> None:
    assert code(rails(rail(0, "VDD_CPU", 2.0, unit=unit))) == "energy-unit-unknown"
    counts: list[str | None] = [str(round(30 * unit * i / 10)) for i in range(101)]
    assert code({f"{RAPL}/energy_uj": counts}, {f"{RAPL}/name": "package-0"}) == "energy-unit-unknown"


def test_times_that_go_back_are_no_order() -> None:
    times = [*TIMES[:50], TIMES[48], *TIMES[51:]]
    assert code(battery(lambda _: 2.0), times=times) == "energy-gap"
