"""The battery: power_supply nodes, and what ``dumpsys battery`` and ``dumpsys thermalservice`` tell."""

from virtualboards.kernel.nodes import Tree
from virtualboards.kernel.power import HOME as _HOME
from virtualboards.kernel.power import Power
from virtualboards.kernel.thermal import Heat

_VOLTAGE_MV = 4123
# BatteryManager.BATTERY_STATUS_*.
_STATES = {"Charging": 2, "Discharging": 3, "Not charging": 4}
# Android's TemperatureType by the words zone types use.
_TYPES = (
    ("batt", 2),
    ("gpu", 1),
    ("G3D", 1),
    ("skin", 3),
    ("quiet", 3),
    ("cpu", 0),
    ("apc", 0),
    ("BIG", 0),
    ("MID", 0),
    ("LITTLE", 0),
)


def install(tree: Tree, heat: Heat) -> None:
    """Put what does not change of battery and charger into the tree; ``temp`` is in tenths of a degree."""
    fixed = {
        "health": "Good",
        "present": "1",
        "technology": "Li-ion",
        "type": "Battery",
        "cycle_count": "41",
    }
    for name, text in fixed.items():
        tree.file(f"{_HOME}/battery/{name}", f"{text}\n")
    tree.file(f"{_HOME}/battery/temp", lambda: f"{temperature(heat)}\n")
    tree.file(f"{_HOME}/usb/type", "USB\n")


def temperature(heat: Heat) -> int:
    """The battery's temperature in tenths of a degree: the battery zone's, else the board's."""
    zone = next((zone for zone in heat.zones if "batt" in zone.kind and not zone.spec.empty), None)
    return round(10 * (heat.zone_c(zone) if zone else heat.mass_c("board")))


def battery(heat: Heat, power: Power) -> dict[str, int | bool | str]:
    """What ``dumpsys battery`` shows: level (%), temperature (0.1 °C), voltage (mV), Android's numbers for the rest."""
    return {
        "ac_powered": False,
        "usb_powered": power.plugged,
        "wireless_powered": False,
        "status": _STATES[power.status],
        "health": 2,
        "present": True,
        "level": max(0, int(power.level_pct)),
        "scale": 100,
        "voltage": _VOLTAGE_MV,
        "temperature": temperature(heat),
        "technology": "Li-ion",
    }


def thermal(heat: Heat) -> dict[str, object]:
    """What ``dumpsys thermalservice`` shows: status (0 to 6) and temperatures (name, °C, type, status)."""
    rows: list[dict[str, object]] = []
    for zone in heat.zones:
        number = next((number for word, number in _TYPES if word in zone.kind), None)
        if number is not None and not zone.spec.empty:
            hot = bool(zone.spec.trip_c) and heat.zone_c(zone) >= zone.spec.trip_c
            value = round(heat.zone_c(zone), 1)
            rows.append({"name": zone.kind, "value": value, "type": number, "status": 2 if hot else 0})
    return {"status": heat.status(), "temperatures": rows}
