"""Bounds for what comes from elsewhere, looked at before anything is built from it: JSON grows thirtyfold in memory."""

import json
import re
from collections.abc import Callable
from typing import Any

MOST_VALUES = 4 << 20
"""Values in one text: samples of a run of many hours. Each takes some hundred bytes at most once it is read."""

MOST_LINES = 6_000_000
"""In the output of one program."""

# Possessive, and closed by the end of the text at last: linear whatever stands there.
_TEXTS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_MARKS = (b",", b"[", b"{")


def within(data: bytes, most_values: int = MOST_VALUES) -> bytes:
    """The JSON text itself, if it holds no more values.

    Raises:
        ValueError: it holds more.
    """
    if _marks(data) > most_values and _marks(_TEXTS.sub(b"", data)) > most_values:
        raise ValueError(f"more than {most_values} values")
    return data


def loads(data: bytes, most_values: int = MOST_VALUES, parse_int: Callable[[str], Any] | None = None) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: no JSON, nested too deep, or too many values.
    """
    try:
        return json.loads(within(data, most_values), parse_int=parse_int)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def lines(data: bytes, most: int = MOST_LINES) -> list[bytes]:
    """The lines without their ends; the last one is empty if the data end with a line's end.

    Raises:
        ValueError: there are more.
    """
    count = data.count(b"\n")
    if count > most:
        raise ValueError(f"{count} lines, {most} are the most")
    return data.split(b"\n")


def cut(text: str, most: int) -> str:
    """The text; of a longer one its beginning, with how long it was."""
    return text if len(text) <= most else f"{text[:most]}… (cut, {len(text)} characters)"


def _marks(data: bytes) -> int:
    return sum(data.count(mark) for mark in _MARKS)
