"""What the number in a thermal zone's ``temp`` means, and whether it is to be believed: judged here for everybody."""

import re
import statistics
from collections.abc import Sequence

# Beyond these limits no processor runs (°C).
LOWEST_C = -30
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


def celsius(reading: int | None) -> float | None:
    """A single reading in °C; ``None`` for what no silicon has."""
    return series_c((reading,))[0]


def series_c(readings: Sequence[int | None]) -> tuple[float | None, ...]:
    """A zone's readings in °C; ``None`` where one is missing or not to be believed.

    All readings of a zone have one unit, told by those in the middle. Sensors drop out and read 0, -1, -274000 or
    2147483647: a reading is not believed if no silicon has it, if its size is that of another unit than the others', or
    if it is 0 or below while others are above.
    """
    possible = [one for one in readings if one is not None and LOWEST_C * 1000 <= one <= _HIGHEST_C * 1000]
    above = [one for one in possible if one > 0]
    if not possible:
        return (None,) * len(readings)
    per_degree = units_per_degree(statistics.median_low(above or possible))

    def believed(reading: int | None) -> float | None:
        if reading is None or (above and (reading <= 0 or units_per_degree(reading) != per_degree)):
            return None
        degrees = reading / per_degree
        return degrees if LOWEST_C <= degrees <= _HIGHEST_C else None

    return tuple(map(believed, readings))


def lowest_believed(reading: int) -> int:
    """The least reading to be believed of a zone that read this: see ``series_c``."""
    return 1 if reading > 0 else LOWEST_C * units_per_degree(reading)
