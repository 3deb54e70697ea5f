"""Bounds of checks and of what tenants are promised, as text: ``"< 5 %"``, ``">= 1.2"``, ``"< 30 ms"``."""

import math
import operator
import re
from collections.abc import Callable

from devicelab.errors import ConfigError

COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
"""What the sign of a bound asks of a value and the number."""

_BOUND = re.compile(r"\s*(<=|>=|<|>)\s*([+-]?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*(%|[A-Za-zµ/1]*)\s*")

RATIO_UNITS = ("", "%", "x")
"""Units of a check that compares with other cells."""


def parse_bound(text: str) -> tuple[str, float, str]:
    """``"< 5 %"`` as comparison, number and unit.

    Raises:
        ConfigError: not such a text, or a number beyond all numbers.
    """
    match = _BOUND.fullmatch(text)
    if match is None or not math.isfinite(float(match[2])):
        raise ConfigError(f"no bound: {text!r}", hint='write a comparison and a number, such as "< 5 %" or ">= 1.2"')
    return match[1], float(match[2]), match[3]
