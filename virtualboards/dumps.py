"""Texts of ``dumpsys`` as Android 10 and later print them.

Source: AOSP ``BatteryService.java`` (dumpInternal) and ``ThermalManagerService.java`` (dumpInternal).
"""

from collections.abc import Mapping


def battery_text(battery: Mapping[str, int | bool | str]) -> str:
    """``dumpsys battery``."""

    def word(name: str, default: int | bool | str) -> str:
        value = battery.get(name, default)
        return str(value).lower() if isinstance(value, bool) else str(value)

    rows = (
        ("AC powered", word("ac_powered", False)),
        ("USB powered", word("usb_powered", True)),
        ("Wireless powered", "false"),
        ("Max charging current", word("max_charging_current", 500000)),
        ("Max charging voltage", word("max_charging_voltage", 5000000)),
        ("Charge counter", word("charge_counter", 3000000)),
        ("status", word("status", 2)),
        ("health", word("health", 2)),
        ("present", word("present", True)),
        ("level", word("level", 100)),
        ("scale", "100"),
        ("voltage", word("voltage", 4200)),
        ("temperature", word("temperature", 250)),
        ("technology", word("technology", "Li-ion")),
    )
    return "Current Battery Service state:\n" + "".join(f"  {name}: {value}\n" for name, value in rows)


def thermal_text(thermal: Mapping[str, object], override: str | None) -> str:
    """``dumpsys thermalservice``; ``override`` is the status forced by ``cmd thermalservice override-status``."""
    readings = thermal.get("temperatures")
    lines = "".join(
        f"\tTemperature{{mValue={item.get('value', 0.0)}, mType={item.get('type', 0)}, "
        f"mName={item.get('name', '')}, mStatus={item.get('status', 0)}}}\n"
        for item in (readings if isinstance(readings, list) else ())
    )
    status = override if override is not None else thermal.get("status", 0)
    return (
        f"IsStatusOverride: {str(override is not None).lower()}\n"
        "ThermalEventListeners:\n\tcallbacks: 1\n\tkilled: false\n\tbroadcasts count: -1\n"
        "ThermalStatusListeners:\n\tcallbacks: 1\n\tkilled: false\n\tbroadcasts count: -1\n"
        f"Thermal Status: {status}\n"
        f"Cached temperatures:\n{lines}"
        "HAL Ready: true\n"
        "HAL connection:\n\tThermalHAL 2.0 connected: yes\n"
        f"Current temperatures from HAL:\n{lines}"
        "Current cooling devices from HAL:\n"
    )
