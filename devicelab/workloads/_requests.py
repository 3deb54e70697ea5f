"""What tenants print: a header, chunks of requests, an end object; read into a ``requests`` table with its figures."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from devicelab.errors import MeasurementError
from devicelab.ground import budget
from devicelab.model.journal import Flag
from devicelab.model.measurement import Measurement, Metric

_COLUMNS = ("scheduled_ns", "start_ns", "end_ns")
# Ten years in ns: beyond it a "time" is damage, not a time.
_MAX_NS = 10 * 365 * 86_400 * 10**9
_MAX_TEXT = 200
_MAX_WINDOWS = 10_000
# What a tenant says of the SMs of its green context: the card's, those it asked for, those it got.
_GRANTED = ("sm_total", "sm_asked", "sm_granted")


def parse_requests(output: bytes, tool: str) -> Measurement:
    """A tenant's output as tables, metrics and flags.

    Tables: ``requests`` (scheduled_ns, start_ns, end_ns from the common start, one row a request in order of start)
    and ``dropped`` (scheduled_ns). Metrics: ``requests``, ``dropped``, ``throughput_per_s`` (completions in the
    windows over their length), ``response_p50_ns`` and ``service_p50_ns`` (end minus scheduled, end minus start),
    ``lateness_p99_ns`` (start minus scheduled of requests that found the tenant idle: how well it keeps time),
    ``longest_gap_ns`` between completions (a window's ends included), ``empty_seconds`` (whole seconds of the windows
    without one), ``sm_total sm_asked sm_granted`` of a tenant in a green context. Flags: ``output-truncated``,
    ``requests-out-of-order``.

    Raises:
        MeasurementError: not such output; names the line.
    """
    try:
        lines = [line for line in budget.lines(output) if line.strip()]
    except ValueError as error:
        raise MeasurementError(f"{tool} printed {error}") from error
    if not lines:
        raise MeasurementError(f"{tool} printed nothing")
    header = _object(lines[0], 1)
    if header.get("tool") != tool:
        raise MeasurementError(f"line 1 is not the header of {tool}")
    parts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in _COLUMNS}
    end: dict[str, Any] | None = None
    for number, line in enumerate(lines[1:], 2):
        data = _object(line, number)
        if end is not None:
            raise MeasurementError(f"line {number}: something after the end")
        if data.get("end") is True:
            end = data
        else:
            _take(data.get("requests"), parts, number)
    columns = {name: np.concatenate(found) if found else np.empty(0, np.int64) for name, found in parts.items()}
    return _measurement(header, columns, end, tool)


def _object(line: bytes, number: int) -> dict[str, Any]:
    try:
        data = budget.loads(line)
    except ValueError as error:
        raise MeasurementError(f"line {number} is not JSON: {line[:60]!r}") from error
    if not isinstance(data, dict):
        raise MeasurementError(f"line {number} is not an object: {line[:60]!r}")
    return data


def _take(requests: object, parts: dict[str, list[NDArray[np.int64]]], number: int) -> None:
    if not isinstance(requests, dict) or set(requests) != set(_COLUMNS):
        raise MeasurementError(f"line {number} holds no requests")
    arrays = [_times(requests[name], number) for name in _COLUMNS]
    if len({array.size for array in arrays}) != 1:
        raise MeasurementError(f"line {number}: columns of unequal length")
    for name, array in zip(_COLUMNS, arrays, strict=True):
        parts[name].append(array)


def _times(values: object, number: int) -> NDArray[np.int64]:
    if not isinstance(values, list) or not all(type(v) is int and 0 <= v < _MAX_NS for v in values):
        raise MeasurementError(f"line {number}: times in ns are expected")
    return np.array(values, np.int64)


def _measurement(
    header: dict[str, Any], columns: dict[str, NDArray[np.int64]], end: dict[str, Any] | None, tool: str
) -> Measurement:
    scheduled, start, finish = (columns[name] for name in _COLUMNS)
    flags = []
    dropped = np.empty(0, np.int64)
    if end is None:
        flags.append(Flag(code="output-truncated", detail=f"{tool} did not print its end; {start.size} requests came"))
    else:
        dropped = _times(end.get("dropped_scheduled_ns", []), 0)
        if end.get("requests") != start.size:
            flags.append(Flag(code="output-truncated", detail=f"{start.size} of {end.get('requests')} requests came"))
    # One request after the other: each begins when it is due and the one before has ended.
    if np.any(finish < start) or np.any(start[1:] < finish[:-1]) or np.any(start < scheduled):
        flags.append(Flag(code="requests-out-of-order", detail=f"{tool} recorded times that cannot be"))
    metrics = {
        "requests": Metric(float(start.size), "1"),
        "dropped": Metric(float(dropped.size), "1"),
        **_rates(finish, *_windows(header)),
    }
    metrics |= {name: Metric(float(header[name]), "1") for name in _GRANTED if type(header.get(name)) is int}
    if start.size:
        metrics["response_p50_ns"] = Metric(float(np.median(finish - scheduled)), "ns")
        metrics["service_p50_ns"] = Metric(float(np.median(finish - start)), "ns")
        idle = np.concatenate(([True], scheduled[1:] > finish[:-1]))
        if header.get("arrivals") != "continuous" and idle.any():
            late = np.quantile((start - scheduled)[idle], 0.99, method="higher")
            metrics["lateness_p99_ns"] = Metric(float(late), "ns")
    return Measurement(
        tables={"requests": dict(columns), "dropped": {"scheduled_ns": dropped}},
        metrics=metrics,
        info={
            name[:_MAX_TEXT]: value[:_MAX_TEXT] if isinstance(value, str) else value
            for name, value in header.items()
            if isinstance(value, str | int | float | bool)
        },
        flags=tuple(flags),
    )


def _windows(header: dict[str, Any]) -> tuple[int, list[int]]:
    """Length of a window, and where each begins, from the common start."""
    duration_ns = _seconds(header, "duration_s", 1e-3)
    windows = header.get("windows", 1)
    if type(windows) is not int or not 1 <= windows <= _MAX_WINDOWS:
        raise MeasurementError("the header has no number of windows")
    every_ns = duration_ns + (_seconds(header, "pause_s", 0) if windows > 1 else 0)
    return duration_ns, [window * every_ns for window in range(windows)]


def _seconds(header: dict[str, Any], name: str, least: float) -> int:
    seconds = header.get(name)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not least <= seconds < 1e7:
        raise MeasurementError(f"the header has no {name}")
    return round(seconds * 1e9)


def _rates(finish: NDArray[np.int64], duration_ns: int, starts: list[int]) -> dict[str, Metric]:
    whole = duration_ns // 10**9
    count, gap, empty = 0, 0, 0
    for start in starts:
        inside = finish[(finish > start) & (finish <= start + duration_ns)] - start
        count += inside.size
        gap = max(gap, int(np.diff(np.concatenate(([0], inside, [duration_ns]))).max()))
        empty += whole - int(np.unique(inside[inside < whole * 10**9] // 10**9).size)
    return {
        "throughput_per_s": Metric(count / (len(starts) * duration_ns / 1e9), "1/s"),
        "longest_gap_ns": Metric(float(gap), "ns"),
        "empty_seconds": Metric(float(empty), "1"),
    }
