"""What a thermal zone's number means, and which zones are no thermometers."""

import pytest
from board_trees import facts, zones

from devicelab.experiment import evidence
from devicelab.experiment.conditions import run_conditions
from devicelab.farm.health import hottest_c
from devicelab.knobs import thermal
from devicelab.model.temperature import celsius, is_battery_monitor, series_c, units_per_degree


@pytest.mark.parametrize(
    ("reading", "celsius"),
    [
        (45, 45.0),
        (149, 149.0),
        (655, 65.5),
        (1999, 199.9),
        (45000, 45.0),
        (-5000, -5.0),
        (-12, -12.0),
        (-274000, -274.0),
    ],
)
def test_units_are_told_by_the_size_of_a_reading(reading: int, celsius: float) -> None:
    assert reading / units_per_degree(reading) == celsius


@pytest.mark.parametrize(
    ("readings", "lowest", "highest"),
    [
        ((44, 45, -274000, 46), 44, 46),
        ((44, 45, 2147483647, 46), 44, 46),
        ((44, 2147483647, 2147483647), 44, 44),
        ((43500, 43400, 0, 43600), 43.4, 43.6),
        ((43500, 0, 0, 0), 43.5, 43.5),
        ((43500, 43400, -1, 43600), 43.4, 43.6),
        ((43500, 43400, 44, 43600), 43.4, 43.6),
        ((435, 434, 0, 2147483647), 43.4, 43.5),
        ((44, 45, 999, 46), 44, 46),
        ((-274000, 43500, -40000, 43400), 43.4, 43.5),
        ((-5000, -4000), -5, -4),
        ((-5, -274000), -5, -5),
    ],
)
def test_a_reading_that_dropped_out_is_no_temperature(readings: tuple[int, ...], lowest: float, highest: float) -> None:
    believed = [one for one in series_c(readings) if one is not None]
    assert (min(believed), max(believed)) == (lowest, highest)
    nodes = {"/sys/class/thermal/thermal_zone3/temp": tuple(map(str, readings))}
    record = {"t_start_ns": 0, "t_end_ns": 1, "samples": {"nodes": nodes}}
    assert run_conditions(record).temps_c == {"thermal_zone3": (lowest, highest)}


@pytest.mark.parametrize("reading", [-274000, 2147483647, 200_000, -2147483648])
def test_everybody_passes_over_a_zone_that_reads_what_no_silicon_has(reading: int) -> None:
    assert celsius(reading) is None
    assert hottest_c([f"{reading}\n", "41000\n"]) == 41
    device = facts("empty", change=zones([("cpu-thermal", f"{reading}\n"), ("soc_thermal", "40000\n")]))
    assert list(evidence.thermal_zones(device).values()) == ["soc_thermal"]
    assert [zone.type for zone in thermal.zones(device)] == ["soc_thermal"]
    samples = {"/sys/class/thermal/thermal_zone0/temp": (str(reading), str(reading))}
    assert run_conditions({"t_start_ns": 0, "t_end_ns": 1, "samples": {"nodes": samples}}).temps_c == {}


@pytest.mark.parametrize(
    ("kind", "reading", "monitor"),
    [
        ("soc", 87, True),
        ("soc", 41000, False),
        ("socd", 13, True),
        ("pm8150b-ibat-lvl0", 1200, True),
        ("pm8150b-vbat-lvl2", 3900, True),
        ("pm8350b-bcl-lvl1", 0, True),
        ("bcl-thermal", 5, True),
        ("vph-pwr-lvl0", 3900, True),
        ("soc_thermal", 41, False),
        ("soc-thermal", 41000, False),
        ("battery", 36300, False),
        ("cpu-1-0-usr", 43000, False),
    ],
)
def test_battery_monitors_are_told_from_thermometers(kind: str, reading: int, monitor: bool) -> None:
    assert is_battery_monitor(kind, reading) is monitor


def test_a_charge_in_percent_is_no_evidence_of_heat() -> None:
    texts = zones([("soc", "99\n"), ("cpu-thermal", "41000\n"), ("soc_thermal", "40000\n")])
    assert list(evidence.thermal_zones(facts("empty", change=texts)).values()) == ["cpu-thermal", "soc_thermal"]


def test_the_gpu_s_zones_are_evidence_though_the_cores_have_many() -> None:
    kinds = list(evidence.thermal_zones(facts("sm8150")).values())
    assert kinds == ["cpu-1-0-usr", "cpu-0-0-usr", "gpuss-0-usr", "gpuss-max-step", "cpu-1-1-usr", "cpu-0-1-usr"]
    assert list(evidence.thermal_zones(facts("exynos9825")).values()) == ["BIG", "MID", "LITTLE", "G3D"]
