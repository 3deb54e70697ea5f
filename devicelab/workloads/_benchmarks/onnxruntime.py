"""ONNX Runtime's ``onnxruntime_perf_test``: what it prints, or the file of its results.

It prints means in milliseconds and latencies in seconds::

    Average inference time cost: 1.85739 ms
    Min Latency: 0.00183404 s

``Average time cost`` up to 1.1, ``Average inference time cost total`` since 1.23; in the file, ``Min Latency is
0.0559777sec``. The file has a line an inference, ``model, seconds, peak working set, CPU use, number``; since 1.24 the
seconds to submit it and the seconds to its end. The warm-up is in neither. ``First inference time cost`` is cut to
whole milliseconds and not read.
"""

import csv
import re
from collections.abc import Iterator

from devicelab.errors import MeasurementError
from devicelab.ground import budget
from devicelab.model.journal import Flag
from devicelab.model.measurement import Column, Metric
from devicelab.workloads._benchmarks.results import (
    NUMBER,
    Output,
    Result,
    count,
    cut,
    lines_of,
    nothing,
    rate,
    time,
    times,
)
from devicelab.workloads._own_binary import number

_UNIT = r"(?P<unit>ns|us|ms|sec|s)"
_LINES = (
    ("mean_ns", re.compile(rf"Average (?:inference )?time cost(?: total)?: {{0,4}}(?P<value>{NUMBER}) ?{_UNIT}")),
    ("session_ns", re.compile(rf"Session creation time cost: {{0,4}}(?P<value>{NUMBER}) ?{_UNIT}")),
    ("min_ns", re.compile(rf"Min Latency(?::| is) {{0,4}}(?P<value>{NUMBER}) ?{_UNIT}")),
    ("max_ns", re.compile(rf"Max Latency(?::| is) {{0,4}}(?P<value>{NUMBER}) ?{_UNIT}")),
    ("p{}_ns", re.compile(rf"P(?P<key>[0-9]{{2,4}}) Latency(?::| is) {{0,4}}(?P<value>{NUMBER}) ?{_UNIT}")),
)
_COUNT = re.compile(r"Total (?:inference requests|iterations): {0,4}([0-9]{1,12})")
_PER_S = re.compile(rf"Number of inferences per second: {{0,4}}({NUMBER})")
_TIMED = ("Average inference time", "Average time", "Session creation", "Min Latency", "Max Latency")
_OTHERS = ("P", "Latency", "Number of", "Total")
_FAILED = re.compile(r"\bERROR\b|[Ee]xception|[Ff]ailed|\[E:")
_SHAPE = "Average inference time cost: 1.85739 ms"
# Model, seconds (twice since 1.24), bytes, percent, number.
_FIELDS = {5: 1, 6: 2}


def read(text: str) -> Output:
    """What it printed or wrote.

    Flags: ``program-complained`` (a remark: it said something about an error, and went on).

    Raises:
        MeasurementError: no mean and no inferences, a damaged line, or inferences of several runs in one file.
    """
    lines, whole = lines_of(text)
    info = {"program": "onnxruntime_perf_test"}
    seconds = list(_written(lines, whole))
    figures, last = _printed(lines, whole)
    failed = [f"line {at}: {budget.cut(line.strip(), 200)}" for at, line in enumerate(lines, 1) if _FAILED.search(line)]
    flags = tuple(Flag(code="program-complained", detail=one, remark=True) for one in failed[:4])
    if seconds:
        samples: dict[str, Column] = {"total_ns": times(seconds, "s", "seconds of an inference")}
        return Output([Result("", {}, samples, "total_ns")], info, flags)
    if "mean_ns" not in figures:
        if failed:
            raise MeasurementError(f"onnxruntime_perf_test failed, {failed[-1]}")
        if last:
            raise cut(len(lines), lines[-1], "the average time")
        raise nothing(lines, "the mean of onnxruntime_perf_test", _SHAPE)
    inferences = f"{figures['inferences'].value:.0f}" if "inferences" in figures else "all"
    return Output([Result("", figures, {}, "mean_ns", f"the mean of {inferences} inferences")], info, flags)


def _printed(lines: list[str], whole: bool) -> tuple[dict[str, Metric], bool]:
    figures: dict[str, Metric] = {}
    for at, line in enumerate(lines, 1):
        if at == len(lines) and not whole and any(words in line for words in (*_TIMED, *_OTHERS)):
            raise cut(at, line, "its end")
        seen = False
        for name, pattern in _LINES:
            found = pattern.search(line)
            if found is None:
                continue
            seen = True
            key = name.format(_percentile(found["key"])) if "{}" in name else name
            value = time(found["value"], found["unit"], f"output line {at}")
            if figures.setdefault(key, value) != value:
                raise MeasurementError(f"line {at}: {key} is there twice, with different values: one run at a time")
        if not seen and "ubmission" not in line and any(line.lstrip().startswith(words) for words in _TIMED):
            raise MeasurementError(f"line {at} has no time with its unit: {budget.cut(line.strip(), 160)!r}")
        if (found := _COUNT.search(line)) is not None:
            figures["inferences"] = count(found[1], f"output line {at}")
        if (found := _PER_S.search(line)) is not None:
            figures["inferences_per_s"] = rate(found[1], f"output line {at}")
    _agree(figures)
    return figures, bool(figures)


def _percentile(digits: str) -> str:
    return digits if len(digits) == 2 else f"{digits[:2]}_{digits[2:]}"


def _agree(figures: dict[str, Metric]) -> None:
    low, mean, high = (figures.get(key) for key in ("min_ns", "mean_ns", "max_ns"))
    if low and mean and high and not low.value * 0.999 <= mean.value <= high.value * 1.001:
        raise MeasurementError(
            f"the mean, {mean.value:.0f} ns, is not between the minimum, {low.value:.0f} ns, and the maximum, "
            f"{high.value:.0f} ns: are several inferences under way at once, or is it a sum?"
        )


def _written(lines: list[str], whole: bool) -> Iterator[object]:
    """Seconds of every inference of the file.

    Raises:
        MeasurementError: a line that was cut or damaged, or inferences that are not numbered from 0: the program
            appends to the file of an earlier run.
    """
    expected = 0
    for at, line in enumerate(lines, 1):
        if line.count(",") not in {size - 1 for size in _FIELDS}:
            continue
        fields = [field.strip() for field in next(csv.reader([line]))]
        if len(fields) not in _FIELDS or not _numeric(fields[1:]):
            continue
        if at == len(lines) and not whole:
            raise cut(at, line, "its end")
        if fields[-1] != str(expected):
            raise MeasurementError(
                f"line {at}: inference {fields[-1][:20]} where {expected} was to come; perf_test appends to what is "
                "there already: give each run a file of its own"
            )
        expected += 1
        yield fields[_FIELDS[len(fields)]]


def _numeric(fields: list[str]) -> bool:
    try:
        return all(number(field, "") is not None for field in fields)
    except MeasurementError:
        return False
