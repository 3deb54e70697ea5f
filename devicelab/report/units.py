"""Numbers and times for people: units scaled so that figures are short, ranges, counts."""

import datetime as dt
import math
from collections.abc import Iterable

from devicelab.model.glossary import unit_words

_STEPS = {
    "ns": ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")),
    "khz": ((1e6, "GHz"), (1e3, "MHz"), (1.0, "kHz")),
    "b": ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B")),
}


def scale(unit: str, values: Iterable[float]) -> tuple[float, str]:
    """Divisor and unit in which the largest of the values is at least 1 (``ns`` → µs, ms, s; ``khz`` → MHz, GHz).

    A unit that is not scaled gives 1 and its own name (``pct`` → %, ``1`` → nothing).
    """
    steps = _STEPS.get(unit.lower())
    if steps is None:
        return 1.0, unit_words(unit)
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return next(((divisor, name) for divisor, name in steps if largest >= divisor), steps[-1])


def number(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits, without an exponent where one can do without; "–" for none."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size >= 9 or size < -4:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    text = f"{value:,.{max(0, digits - 1 - size)}f}"
    # "12.30" pretends no more than "12.3"; thin spaces part the thousands.
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace(",", "\N{NARROW NO-BREAK SPACE}").replace("-", "−")


def quantity(value: float | None, unit: str, digits: int = 4) -> str:
    """A number with its unit: ``quantity(3.1e6, "ns")`` is "3.1 ms"."""
    if value is None or math.isnan(value):
        return "–"
    divisor, name = scale(unit, [value])
    name = "kernel" if name == "kernels" and value == 1 else name
    return f"{number(value / divisor, digits)}\N{NO-BREAK SPACE}{name}".strip()


def interval(low: float | None, high: float | None, unit: str, digits: int = 4) -> str:
    """A range in one unit: "[2.9, 3.3] ms"; empty if an end is missing.

    A unit of several words stands at the estimate beside it and is not said again.
    """
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ""
    divisor, name = scale(unit, [low, high])
    ends = f"[{number(low / divisor, digits)}, {number(high / divisor, digits)}]"
    if " " in name:
        return ends
    return f"{ends}\N{NO-BREAK SPACE}{name}".strip()


def between(low: float, high: float, unit: str, digits: int = 4) -> str:
    """A range as "39.5–41.2 °C", or one number where both ends are the same."""
    divisor, name = scale(unit, [low, high])
    ends = [number(low / divisor, digits), number(high / divisor, digits)]
    return f"{'–'.join(dict.fromkeys(ends))}\N{NO-BREAK SPACE}{name}".strip()


def clock(unix_ns: float) -> str:
    """Date and time in UTC, "2026-11-22 22:00:00"; a device's clock may be absurd."""
    try:
        return dt.datetime.fromtimestamp(unix_ns / 1e9, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return number(unix_ns / 1e9) + " s"
