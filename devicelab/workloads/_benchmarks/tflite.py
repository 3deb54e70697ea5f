"""TensorFlow Lite's ``benchmark_model``, as a program or as the app that prints to the log; all times in microseconds.

A run prints a line of statistics for the warm-up, one for the measured inferences, and a summary of both::

    count=50 first=36190 curr=34201 min=34033 max=37012 avg=34250.4 std=380 p5=34050 median=34180 p95=34890
    Inference timings in us: Init: 8514, First inference: 52193, Warmup (avg): 41000.5, Inference (avg): 34250.4

``p5 median p95`` are there since 2024, the summary was ``Average inference timings in us: Warmup: …, Init: …, no stats:
…`` up to 2020. A mean has six digits (``2.95034e+06``). ``Timings (microseconds): count=…`` is the profiler's sum of
the operators' times, which is no time of an inference.
"""

import re
from collections.abc import Iterator

from devicelab.errors import MeasurementError
from devicelab.ground import budget
from devicelab.model.journal import Flag
from devicelab.model.measurement import Metric
from devicelab.workloads._benchmarks.results import NUMBER, Output, Result, count, cut, lines_of, nothing, time

_SOME = rf"(?:{NUMBER}|-?nan|-?inf)"
_SUMMARY = re.compile(
    r"Inference timings in us: "
    rf"Init: (?P<init>{_SOME}), First inference: (?P<first>{_SOME}), "
    rf"Warmup \(avg\): (?P<warmup>{_SOME}), Inference \(avg\): (?P<mean>{NUMBER})"
)
_OLD_SUMMARY = re.compile(
    rf"Average inference timings in us: Warmup: (?P<warmup>{_SOME}), Init: (?P<init>{_SOME}), "
    rf"(?:with stats: {_SOME}, )?no stats: (?P<mean>{NUMBER})"
)
_BEGINS = ("Inference timings in us", "inference timings in us")
_STATISTICS = re.compile(
    r"count=(?P<count>[0-9]{1,12})(?: first=(?P<first>[0-9]+))? curr=(?P<curr>[0-9]+)(?P<same>\(all same\))?"
    rf"(?: min=(?P<min>[0-9]+) max=(?P<max>[0-9]+) avg=(?P<avg>{NUMBER}) std=(?P<std>[0-9]+))?"
    r"(?: p5=(?P<p5>[0-9]+) median=(?P<median>[0-9]+) p95=(?P<p95>[0-9]+))?"
)
_GRAPH = re.compile(r"(?:Graph: \[|Loaded model )(?P<path>[^\]]{1,4096})")
# It went on, but not with what was asked for.
_ELSEWHERE = re.compile(
    r"will not be executed by the delegate|is unsupported on this platform"
    r"|[Ff]ailed to (?:apply|create|load) .{0,200}elegate"
)
_FAILED = re.compile(r"Benchmarking failed|\bERROR\b|\bFailed to\b|\bfailed\b")
_SHAPE = "Inference timings in us: Init: N, First inference: N, Warmup (avg): N, Inference (avg): N"
_MOST_REMARKS = 4


def read(text: str) -> Output:
    """What one or several runs printed.

    Flags: ``not-delegated`` (the delegate that was asked for took nothing: the CPU was measured), and as a remark
    ``program-complained`` for errors that it went on after.

    Raises:
        MeasurementError: no summary, one that was cut or contradicts its statistics, or a failure instead of one.
    """
    lines, whole = lines_of(text)
    results: list[Result] = []
    graph, statistics, begun = "", None, 0
    for at, line in enumerate(lines, 1):
        if (found := _GRAPH.search(line)) is not None:
            graph, begun = found["path"].rsplit("/", 1)[-1].removesuffix(".tflite"), at
        elif "count=" in line and "(microseconds)" not in line and "(bytes)" not in line:
            statistics, begun = _statistics(line, at), at
        elif any(words in line for words in _BEGINS):
            summary = _SUMMARY.search(line) or _OLD_SUMMARY.search(line)
            last = at == len(lines) and not whole
            if summary is None or last:
                raise _unread(at, line, last=last)
            results.append(_result(graph, summary, statistics, at))
            statistics, begun = None, 0
    if begun or not results:
        failed = [(at, line) for at, line in enumerate(lines, 1) if _FAILED.search(line)]
        if failed:
            at, line = failed[-1]
            said = budget.cut(line.strip(), 200)
            raise MeasurementError(f"benchmark_model failed, line {at}: {said!r}")
        if begun:
            raise cut(len(lines), lines[-1], "its summary (Inference timings in us)")
        raise nothing(lines, "the summary of benchmark_model", _SHAPE)
    return Output(results, {"program": "benchmark_model"}, tuple(_flags(lines)))


def _unread(at: int, line: str, *, last: bool) -> MeasurementError:
    if last:
        return cut(at, line, "its summary's end")
    return MeasurementError(f"line {at} is no summary: {budget.cut(line.strip(), 160)!r} is not like {_SHAPE!r}")


def _statistics(line: str, at: int) -> "re.Match[str]":
    found = _STATISTICS.search(line)
    if found is None or line[found.end() :].strip():
        raise MeasurementError(
            f"line {at} is no statistics of benchmark_model: {budget.cut(line.strip(), 160)!r} is not like "
            "'count=N first=N curr=N min=N max=N avg=N std=N'"
        )
    return found


def _result(graph: str, summary: "re.Match[str]", statistics: "re.Match[str] | None", at: int) -> Result:
    said = summary.groupdict()
    figures: dict[str, Metric] = {"mean_ns": time(said["mean"], "us", f"output line {at}, Inference (avg)")}
    # Without a warm-up they are 0 or nan: there was none.
    for key, name in (("init", "init_ns"), ("first", "first_ns"), ("warmup", "warmup_mean_ns")):
        value = said.get(key)
        if value is not None and "n" not in value and float(value) > 0:
            figures[name] = time(value, "us", f"output line {at}, {key}")
    runs = ""
    if statistics is not None:
        _agree(figures["mean_ns"], statistics, at)
        runs = statistics["count"]
        figures["inferences"] = count(runs, "count")
        only = statistics["avg"] is None
        for key in ("min", "max", "std", "p5", "median", "p95"):
            value = ("0" if key == "std" else statistics["curr"]) if only and key in {"min", "max"} else statistics[key]
            if value is not None:
                figures[f"{key}_ns"] = time(value, "us", f"output line {at}, {key}")
    return Result(graph, figures, {}, "mean_ns", f"the mean of {runs or 'all'} inferences")


def _agree(mean: Metric, statistics: "re.Match[str]", at: int) -> None:
    """The summary's mean is that of the last line of statistics, or a line is missing between them."""
    said = time(statistics["avg"] or statistics["curr"], "us", "avg")
    if abs(said.value - mean.value) > 1e-5 * mean.value + 1:
        raise MeasurementError(
            f"line {at}: a mean of {mean.value / 1e3:g} us is not that of the statistics before it, "
            f"{said.value / 1e3:g} us: lines are missing between them"
        )


def _flags(lines: list[str]) -> Iterator[Flag]:
    told = 0
    for at, line in enumerate(lines, 1):
        said = budget.cut(line.strip(), 200)
        if _ELSEWHERE.search(line):
            yield Flag(code="not-delegated", detail=f"line {at}: {said}")
            return
        if "ERROR" in line and told < _MOST_REMARKS:
            told += 1
            yield Flag(code="program-complained", detail=f"line {at}: {said}", remark=True)
