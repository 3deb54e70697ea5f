"""Bounds of an experiment's checks, as text: ``"< 5 %"``, ``">= 1.2"``, ``"< 30 ms"``."""

import re

from devicelab.errors import ConfigError

_BOUND = re.compile(r"\s*(<=|>=|<|>)\s*([+-]?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*(%|[A-Za-zµ/1]*)\s*")

RATIO_UNITS = ("", "%", "x")
"""Units of a check that compares with other cells."""


def parse_bound(text: str) -> tuple[str, float, str]:
    """``"< 5 %"`` as comparison, number and unit.

    Raises:
        ConfigError: not such a text.
    """
    match = _BOUND.fullmatch(text)
    if match is None:
        raise ConfigError(f"no bound: {text!r}", hint='write a comparison and a number, such as "< 5 %" or ">= 1.2"')
    return match[1], float(match[2]), match[3]
