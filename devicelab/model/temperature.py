"""What the number in a thermal zone's ``temp`` means."""

import re

# Beyond these limits no processor runs (°C).
_HIGHEST_C = 150

# The kernel's interface says millidegrees; some drivers give degrees, older Qualcomm ones (tsens_tz_sensor*) tenths.
_TENTHS_BELOW = 2000

_BATTERY = re.compile(r"socd|.*[iv]bat.*|bcl.*|.*-bcl-.*|vph.*")
_CHARGE = re.compile(r"soc")
_FULL_PCT = 100


def units_per_degree(reading: float) -> int:
    """How many units of a zone's readings make a degree Celsius, judged by one of them: 1, 10 or 1000.

    Ambiguous only for what no board in use reads: above 150 °C, below 15 °C in tenths, below 2 °C in millidegrees.
    """
    size = abs(reading)
    return 1 if size <= _HIGHEST_C else 10 if size < _TENTHS_BELOW else 1000


def is_battery_monitor(kind: str, reading: int) -> bool:
    """Whether a zone of this type is the battery's current, voltage or charge.

    Phones register those as zones to be told of limits. ``soc`` is a charge in percent there ("state of charge"), but a
    chip's temperature elsewhere ("system on chip"); the numbers differ.
    """
    return bool(_BATTERY.fullmatch(kind)) or (bool(_CHARGE.fullmatch(kind)) and 0 <= reading <= _FULL_PCT)
