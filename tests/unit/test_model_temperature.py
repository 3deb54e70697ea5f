"""What a thermal zone's number means, and which zones are no thermometers."""

import pytest
from board_trees import facts, zones

from devicelab.experiment import evidence
from devicelab.model.temperature import is_battery_monitor, units_per_degree


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
