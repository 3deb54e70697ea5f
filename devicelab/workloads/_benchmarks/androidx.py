"""AndroidX Benchmark's JSON (``…-benchmarkData.json``), of Microbenchmark and Macrobenchmark.

Every benchmark has ``metrics``, one value a repetition (``timeNs``, ``timeToInitialDisplayMs``, ``allocationCount``),
and ``sampledMetrics``, many a repetition (``frameDurationCpuMs``, ``frameOverrunMs``): a metric's name ends in its
unit. ``timeNs`` is the time of one iteration of the measured loop, the mean of as many as fit in a repetition.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np

from devicelab.errors import MeasurementError
from devicelab.model.journal import Flag
from devicelab.model.measurement import Column, Metric
from devicelab.workloads._benchmarks import documents
from devicelab.workloads._benchmarks.results import SCALES, Output, Result, count, time, times
from devicelab.workloads._own_binary import number

_TIMES = {"Ns": "ns", "Us": "us", "Ms": "ms"}
_WORDS = "AndroidX Benchmark's JSON"
# What the library puts in front of a name when a measurement is not to be compared.
_WARNED = re.compile(r"^((?:[A-Z][A-Z0-9]*(?:-[A-Z0-9]+)*_)+)(?=[A-Za-z])")
_PERCENTILE = re.compile(r"P([0-9]{1,3})")


def read(text: str) -> Output:
    """All benchmarks of a file.

    Flags, as remarks: ``benchmark-warned`` (the library put a warning in front of a name), ``clocks-unlocked``.

    Raises:
        MeasurementError: no such JSON, cut or damaged, or a summary that is not that of its values.
    """
    found = documents.first(text, "{", _WORDS)
    benchmarks = found.get("benchmarks") if isinstance(found, dict) else None
    if not isinstance(benchmarks, list):
        raise MeasurementError(f"{_WORDS} has no list of benchmarks")
    if not benchmarks:
        raise MeasurementError(f"{_WORDS} has no benchmark: did its test fail?")
    results: list[Result] = []
    flags: list[Flag] = []
    for one in benchmarks:
        result, warned = _result(one)
        results.append(result)
        if warned:
            flags.append(Flag(code="benchmark-warned", detail=f"{result.name}: {warned}", remark=True))
    context = found.get("context")
    if isinstance(context, dict) and context.get("cpuLocked") is False:
        detail = "cpuLocked is false: AndroidX saw clocks that may change"
        flags.append(Flag(code="clocks-unlocked", detail=detail, remark=True))
    return Output(results, {"program": "androidx.benchmark"}, tuple(flags))


def _result(one: object) -> tuple[Result, str]:
    name = one.get("name") if isinstance(one, dict) else None
    if not isinstance(one, dict) or not isinstance(name, str) or not isinstance(one.get("metrics"), dict):
        raise MeasurementError(f"{_WORDS} holds a benchmark without a name or metrics")
    warned = _WARNED.match(name)
    plain = name[warned.end() :] if warned else name
    figures: dict[str, Metric] = {}
    columns: dict[str, Column] = {}
    sampled: dict[str, Column] = {}
    for key, metric in one["metrics"].items():
        where = f"{_WORDS}, {plain}, {key}"
        if not isinstance(metric, dict):
            raise MeasurementError(f"{where} is no object")
        called, unit = _named(key)
        runs = metric.get("runs")
        if not isinstance(runs, list) or not runs:
            raise MeasurementError(f"{where} has no runs")
        column = _column(runs, unit, where)
        _agree(metric, column, unit, where)
        columns[called] = column
    for key, metric in (one.get("sampledMetrics") or {}).items():
        where = f"{_WORDS}, {plain}, {key}"
        called, unit = _named(key)
        if not isinstance(metric, dict):
            raise MeasurementError(f"{where} is no object")
        for word, value in metric.items():
            if (place := _PERCENTILE.fullmatch(word)) is not None:
                stem, suffix = (called.removesuffix("_ns"), "_ns") if unit in SCALES else (called, "")
                figures[f"{stem}_p{place[1]}{suffix}"] = _metric(value, unit, where)
        runs = metric.get("runs")
        if isinstance(runs, list) and all(isinstance(run, list) for run in runs):
            values = list(chain.from_iterable(runs))
            if values:
                sampled[called] = _column(values, unit, where)
    samples, odd = _equal(columns)
    total = "time_ns" if "time_ns" in samples else ""
    traits = {"class": str(one.get("className", "")).rsplit(".", 1)[-1]}
    for trait, value in (one.get("params") or {}).items():
        traits[str(trait)] = str(value)
    result = Result(plain, figures, samples, total, "", traits, {**odd, **sampled})
    return result, warned[1].rstrip("_") if warned else ""


def _equal(columns: Mapping[str, Column]) -> tuple[dict[str, Column], dict[str, Column]]:
    """Columns of the most frequent length, which stand in one table, and the others."""
    sizes = [column.size for column in columns.values()]
    usual = max(sizes, key=lambda size: (sizes.count(size), size), default=0)
    return (
        {name: column for name, column in columns.items() if column.size == usual},
        {name: column for name, column in columns.items() if column.size != usual},
    )


def _named(key: str) -> tuple[str, str]:
    """A metric's name here and its unit there: ``timeToInitialDisplayMs`` is ``time_to_initial_display_ns`` in ms."""
    words = "_".join(_words(key)).lower()
    for suffix, unit in _TIMES.items():
        if key.endswith(suffix) and len(key) > len(suffix):
            return words.rsplit("_", 1)[0] + "_ns", unit
    return words, ""


def _words(key: str) -> Iterator[str]:
    yield from re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])|[A-Z]", key[:200])


def _metric(value: object, unit: str, where: str) -> Metric:
    return time(value, unit, where) if unit in SCALES else count(value, where)


def _column(values: list[object], unit: str, where: str) -> Column:
    if unit in SCALES:
        return times(values, unit, where)
    return np.array([number(value, where) for value in values], dtype=np.float64)


def _agree(metric: Mapping[str, Any], column: Column, unit: str, where: str) -> None:
    """Minimum and maximum, where they were printed, are those of the values."""
    for word, seen in (("minimum", float(column.min())), ("maximum", float(column.max()))):
        if word in metric:
            said = _metric(metric[word], unit, where).value
            if abs(said - seen) > 1e-6 * max(abs(said), abs(seen)) + (1 if unit in {"us", "ms"} else 0):
                raise MeasurementError(f"{where}: its {word} is not that of its runs")
