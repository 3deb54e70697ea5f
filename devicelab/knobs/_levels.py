"""Levels as users write them, and the frequency a level means on a device."""

import re
from collections.abc import Sequence
from fractions import Fraction

from devicelab.errors import ConfigError
from devicelab.model.experiment import Level

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*(hz|khz|mhz|ghz)?")
_SCALE = {"hz": 1, "khz": 1_000, "mhz": 1_000_000, "ghz": 1_000_000_000}


def text(want: Level) -> str:
    """A level as text in lower case: ``377000.0`` and ``377000`` are the same, booleans are ``on`` and ``off``."""
    if isinstance(want, bool):
        return "on" if want else "off"
    if isinstance(want, float) and want.is_integer():
        return str(int(want))
    return str(want).strip().lower()


def one_of(word: str, want: Level, known: Sequence[str]) -> str:
    """A level out of a few words.

    Raises:
        ConfigError: it is none of them.
    """
    chosen = text(want)
    if chosen not in known:
        raise ConfigError(f"{word} = {want!r} makes no sense", hint=f"one of: {', '.join(known)}")
    return chosen


def pick(
    word: str,
    want: Level,
    points: Sequence[int],
    *,
    where: str,
    unit: str,
    dishonest: Sequence[int] = (),
) -> int:
    """The table entry that a level means.

    Args:
        word: factor word, for messages.
        want: ``max``, ``min``, ``honest-min``, ``nearest:NUMBER`` or a number, all with or without a unit ("377MHz"). A
            number without unit is in the table's own unit; if the table has it only 1000 or 10⁶ times larger, that
            entry is meant (585 and 585000 for 585000000 Hz).
        points: the table, in any order.
        where: whose table ("policy4"), for messages.
        unit: the table's unit: ``Hz``, ``kHz``, or one that is no frequency (``MB/s``).
        dishonest: entries that ``honest-min`` skips.

    Raises:
        ConfigError: no such level, or not in the table; names the nearest entries.
    """
    table = sorted(set(points))
    chosen = text(want)
    if chosen == "max":
        return table[-1]
    if chosen == "min":
        return table[0]
    if chosen == "honest-min":
        honest = [point for point in table if point not in dishonest]
        return (honest or table)[0]
    kind, colon, rest = chosen.rpartition(":")
    number = _NUMBER.fullmatch(rest.strip())
    if number is None or (colon and kind.strip() != "nearest"):
        raise ConfigError(
            f"{word} = {want!r} makes no sense for {where}",
            hint=f"one of: max, min, honest-min, nearest:NUMBER, or a number in {unit}: {_list(table)}",
        )
    asked = _asked(number[1], number[2], table, unit)
    if colon:
        return min(table, key=lambda point: (abs(point - asked), point))
    if asked not in table:
        raise ConfigError(f"{where} has no {want} in its table ({unit})", hint=_neighbours(asked, table, unit))
    return int(asked)


def _asked(number: str, suffix: str | None, table: Sequence[int], unit: str) -> Fraction:
    value = Fraction(number)
    own = _SCALE.get(unit.lower())
    if suffix is not None:
        return value * _SCALE[suffix] / (own or _SCALE["mhz"])
    if own is not None and value not in table:
        for factor in (1_000, 1_000_000):
            if value * factor in table:
                return value * factor
    return value


def _neighbours(asked: Fraction, table: Sequence[int], unit: str) -> str:
    below = max((point for point in table if point < asked), default=None)
    above = min((point for point in table if point > asked), default=None)
    near = " and ".join(str(point) for point in (below, above) if point is not None)
    return f"nearest: {near} {unit}; say nearest:NUMBER to take the nearest one, or one of: {_list(table)}"


def _list(table: Sequence[int]) -> str:
    return " ".join(str(point) for point in table)
