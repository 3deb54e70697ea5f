"""GPU use of AMD cards as their tools print it: ``amd-smi metric --usage --json`` and ``rocm-smi --showuse --json``.

For machines whose kernel shows no ``gpu_busy_percent``. The forms of several versions are read: amd-smi's list of cards
(6.x), the same under ``gpu_data`` (7.x), values as ``{"value": 42, "unit": "%"}`` or as text, a note before the JSON,
and rocm-smi's table by card. Read in their issues and sources, never run on an AMD card.
Source: github.com/ROCm/amdsmi (issue 168), github.com/ROCm/rocm_smi_lib.
"""

import json
import re
import statistics
from collections.abc import Iterator
from typing import Any

from devicelab.ground import budget

# Prints one JSON text a reading, each closed by a line of its own; $1: seconds to go on for.
LOOK = r"""
end=$(($(date +%s) + $1))
while [ "$(date +%s)" -lt "$end" ]; do
  { amd-smi metric --usage --json || rocm-smi --showuse --json; } 2>/dev/null
  echo "-- end"; sleep 1
done
"""
END = "-- end"
_PERCENT = re.compile(r"\s*([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%?\s*")
_MAX_VALUES = 100_000


def use_pct(text: str) -> float | None:
    """Mean use of the busiest card over the readings in percent, ``None`` where nothing tells it."""
    by_card: dict[str, list[float]] = {}
    for part in text.split(END):
        for card, value in _cards(_json(part)):
            by_card.setdefault(card, []).append(value)
    return max((statistics.fmean(values) for values in by_card.values()), default=None)


def _json(text: str) -> Any:
    """The JSON value of a reading, behind whatever a tool says before it; ``None`` if there is none."""
    starts = [at for at in (text.find("["), text.find("{")) if at >= 0]
    if not starts:
        return None
    body = text[min(starts) :]
    try:
        value, end = json.JSONDecoder().raw_decode(body)
        budget.loads(body[:end].encode(), _MAX_VALUES)
    except (ValueError, RecursionError):
        return None
    return value


def _cards(value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict) and isinstance(value.get("gpu_data"), list):
        value = value["gpu_data"]
    if isinstance(value, list):
        for card in value:
            if isinstance(card, dict) and isinstance(usage := card.get("usage"), dict):
                number = _number(usage.get("gfx_activity"))
                if number is not None:
                    yield str(card.get("gpu"))[:20], number
    elif isinstance(value, dict):
        for name, card in value.items():
            if isinstance(card, dict):
                number = _number(card.get("GPU use (%)"))
                if number is not None:
                    yield str(name)[:20], number


def _number(value: Any) -> float | None:
    if isinstance(value, dict):
        value = value.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    match = _PERCENT.fullmatch(str(value))
    return float(match[1]) if match and float(match[1]) <= 100 else None
