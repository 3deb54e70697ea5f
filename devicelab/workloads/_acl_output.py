"""Reads what Arm Compute Library's benchmark programs print, JSON or text of several versions, and trusts none of it.

JSON: ``tests.NAME.measurements["OpenCLTimestamps/[queued]NODE/KERNEL GWS[..] LWS[..] #n"] = {"raw": [..], "unit":
"ns"}``; keys are sorted as text, so kernels are ordered by the number after ``#``; NODE and KERNEL may hold slashes. A
value of ``raw`` is a number or a list of texts; older versions give avg, min and max besides. Text: one line a
measurement, ``KEY:    AVG=2.5 ms, STDDEV=1 %, MIN=2 ms, , MAX=3 ms, , MEDIAN=2.4 ms``, fields in any order, doubled
commas in some versions; with a single iteration only AVG.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from devicelab.errors import MeasurementError
from devicelab.ground import budget
from devicelab.workloads._own_binary import number

# Longer names and more measurements than any network has are not looked at.
_MOST_ENTRIES = 1_000_000
_LONGEST_LINE = 20_000
_MOST_UNREAD = 8
_BEGIN = re.compile(r'\{\s*"(?:Version|CommandLine|CL_DEVICE_VERSION|Iterations|tests)"\s*:')
_KERNEL = re.compile(r"(?:\[(queued|flushed|start|end)\])?(.*) #(\d{1,6})", re.DOTALL)
_LINE = re.compile(r"(?P<key>[^\s/:][^:]{0,2000}):\s+(?P<fields>(?:AVG|STDDEV|MIN|MAX|MEDIAN)=.*)")
# A number without its unit was cut, or has a comma in it.
_FIELD = re.compile(r"(AVG|MIN|MAX|MEDIAN)=([-+0-9.eE]+) ([A-Za-zµ]+)(?=,|$)")
# Kernels' own time: of a GPU's, and of the CPU's (NEON, SVE), whose scheduler times them.
_TIMERS = ("OpenCLTimer", "SchedulerTimer")
_INSTRUMENTS = (*(f"{name}/" for name in _TIMERS), "OpenCLTimestamps/", "Wall clock")
_ENTRY = re.compile(r"(Version|CommandLine|CL_DEVICE_VERSION|Iterations) = (.{0,2000})")
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,20}m")
UNITS_NS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9}


@dataclass
class Series:
    """One measurement: its values, one an iteration (a single one from text), and their unit."""

    values: list[float]
    unit: str


@dataclass
class AclOutput:
    """What was printed.

    Attributes:
        stamps: "queued", "flushed", "start" or "end" → kernel number → series.
        durations: kernel number → series (OpenCLTimer, or SchedulerTimer for kernels of the CPU).
        names: kernel number → name.
        wall: wall-clock time of each iteration.
        info: version, device and command line as the program printed them.
        unread: instruments that were printed and mean nothing here.
        source: ``json`` or ``text``; text has medians instead of single values.
    """

    source: str
    stamps: dict[str, dict[int, Series]] = field(default_factory=dict)
    durations: dict[int, Series] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    wall: Series | None = None
    info: dict[str, str] = field(default_factory=dict)
    unread: dict[str, None] = field(default_factory=dict)


def read(output: bytes) -> AclOutput:
    """An output in whichever form it is.

    Raises:
        MeasurementError: nothing that can be used, cut off, or damaged; says where.
    """
    try:
        budget.lines(output)
    except ValueError as error:
        raise MeasurementError(f"the benchmark printed {error}") from error
    text = output.decode("utf-8", "replace")
    data = _find_json(text)
    found = _from_json(data) if data is not None else _from_text(text)
    if not (found.stamps or found.durations or found.wall):
        if found.unread:
            names = ", ".join(found.unread)
            raise MeasurementError(
                f"the benchmark printed no measurement: {names} {'is' if len(found.unread) == 1 else 'are'} not read",
                hint=f"instruments that are read: {', '.join(_TIMERS)}, OpenCLTimestamps, wall clock",
            )
        raise MeasurementError(
            "the benchmark printed no measurement",
            hint="probe its --help for the names of instruments, and look at its output in the run's record",
        )
    return found


def _find_json(text: str) -> dict[str, Any] | None:
    """The JSON object with ``tests`` in it; what the example itself printed may stand around it."""
    begin = _BEGIN.search(text)
    if begin is None:
        return None
    try:
        budget.within(text.encode())
    except ValueError as error:
        raise MeasurementError(f"the benchmark's JSON has {error}; no benchmark prints so much") from error
    try:
        data, _ = json.JSONDecoder().raw_decode(text, begin.start())
    except (ValueError, RecursionError) as error:  # a ValueError besides JSONDecodeError: a number of 5000 digits
        where = error.pos if isinstance(error, json.JSONDecodeError) else begin.start()
        cut = " (its end is missing)" if where >= len(text.rstrip()) - 1 else ""
        raise MeasurementError(
            f"the benchmark's JSON is damaged at character {where}{cut}",
            hint="was it killed, or did the benchmark report an error inside?",
        ) from error
    if not isinstance(data, dict) or not isinstance(data.get("tests"), dict):
        raise MeasurementError('the benchmark\'s JSON has no "tests"')
    return data


def _from_json(data: Mapping[str, Any]) -> AclOutput:
    found = AclOutput("json")
    for key in ("Version", "CL_DEVICE_VERSION", "CommandLine"):
        if isinstance(data.get(key), str):
            found.info[key] = data[key]
    tests = data["tests"]
    if len(tests) != 1:
        raise MeasurementError(f"the benchmark's JSON holds {len(tests)} tests instead of one")
    (test,) = tests.values()
    errors = test.get("errors") if isinstance(test, dict) else None
    if errors:
        raise MeasurementError(f"the benchmark reports an error: {str(errors[0])[:200]}")
    measurements = test.get("measurements") if isinstance(test, dict) else None
    if not isinstance(measurements, dict) or len(measurements) > _MOST_ENTRIES:
        raise MeasurementError('the benchmark\'s JSON has no "measurements"')
    for key, one in measurements.items():
        raw, unit = (one.get("raw"), one.get("unit")) if isinstance(one, dict) else (None, None)
        if not isinstance(raw, list) or not isinstance(unit, str):
            raise MeasurementError(f"measurement {key[:80]!r} has no raw values with a unit")
        _put(found, key, list(_flat(raw)), unit)
    return found


def _flat(raw: list[Any]) -> Iterator[Any]:
    """Values of ``raw``; a value may be a list of its own, the first of which counts."""
    for value in raw:
        yield value[0] if isinstance(value, list) and value else value


def _from_text(text: str) -> AclOutput:
    found = AclOutput("text")
    lines = text.splitlines()
    complete: set[str] = set()
    for place, coloured in enumerate(lines):
        if len(coloured) > _LONGEST_LINE:
            continue
        # Before any pattern looks at it: colours and blanks that a pattern may share out in many ways take it hours.
        line = _COLOUR.sub("", coloured).strip()
        if (entry := _ENTRY.fullmatch(line)) is not None:
            found.info[entry[1]] = entry[2]
        if line.startswith("ERROR: "):
            raise MeasurementError(f"the benchmark reports an error: {line[:200]}")
        measured = _LINE.fullmatch(line)
        fields = {name: (value, unit) for name, value, unit in _FIELD.findall(measured["fields"])} if measured else {}
        ours = line.startswith(_INSTRUMENTS)
        if ours and place == len(lines) - 1 and not text.endswith("\n") and not complete <= set(fields):
            raise MeasurementError(f"the benchmark's text ends within a line: {line[-80:]!r}", hint="was it killed?")
        if measured is None:
            continue
        value, unit = fields.get("MEDIAN", fields.get("AVG", ("", "")))
        if ours and not value:
            raise MeasurementError(f"no value with its unit in {line[:200]!r}")
        complete |= set(fields) if ours else set()
        _put(found, measured["key"], [value], unit)
    return found


def _put(found: AclOutput, key: str, raw: list[Any], unit: str) -> None:
    """Sort a measurement into its place; instruments that say nothing about time are left out."""
    instrument, _, rest = key.partition("/")
    if instrument == "Wall clock":  # "Wall clock timestamps" are points in time
        found.wall = _series(key, raw, unit)
        return
    kernel = _KERNEL.fullmatch(rest)
    if kernel is None or instrument not in {*_TIMERS, "OpenCLTimestamps"}:
        if instrument and len(found.unread) < _MOST_UNREAD:
            found.unread[instrument[:40]] = None
        return
    stamp, name, place = kernel[1], kernel[2], int(kernel[3])
    if (instrument == "OpenCLTimestamps") != (stamp is not None):
        return
    series = found.durations if stamp is None else found.stamps.setdefault(stamp, {})
    if place in series:
        raise MeasurementError(f"kernel #{place} is there twice: {name[:80]!r} and {found.names.get(place, '')[:80]!r}")
    series[place] = _series(key, raw, unit)
    found.names[place] = name


def _series(key: str, raw: list[Any], unit: str) -> Series:
    return Series([number(value, key[:80]) for value in raw], unit)
