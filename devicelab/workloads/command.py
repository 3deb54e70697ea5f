"""Any program on the device: its output read as a public benchmark's, or by a parser that the experiment describes.

Rows are found in the program's standard output by a regular expression with named groups (one match a line), as JSON
lines, as a JSON document, or as CSV. A column whose name ends in ``_ns``, ``_us``, ``_ms`` or ``_s`` is a time and
becomes ``_ns``; a rate (``bytes_per_s``) stays what it is.

Columns named ``queued_ns submit_ns start_ns end_ns`` (one row a kernel, with ``kernel`` and ``inference`` if the
program prints them) make the tables that the klo analysis reads; ``total_ns`` (one row an inference) makes the time of
an inference. Any other columns are kept as the table ``samples``, with the median of each as a figure of the run.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from devicelab.errors import MeasurementError
from devicelab.model.journal import Flag
from devicelab.model.measurement import Column, Measurement, Metric, Table
from devicelab.workloads import _benchmarks
from devicelab.workloads._launches import STAMPS
from devicelab.workloads._own_binary import OwnBinary, Text, from_stamps, nanoseconds, number, positive
from devicelab.workloads._rows import Form, Row, is_number, none_fits, rows
from devicelab.workloads.base import CommandLine, Context

NATIVE: tuple[str, ...] = ()
FILES: tuple[str, ...] = ()

_UNITS_NS = {"_ns": 1.0, "_us": 1e3, "_ms": 1e6, "_s": 1e9}
_MOST_ROWS = 5_000_000
_REPORTS = "{dir}/reports/"
# Runs the program, then prints the file that it wrote. A file from before is never taken for one: in a folder of our
# own it is removed first, elsewhere it has to be newer than the start. Everything variable is an argument.
_THEN_PRINT = """\
report=$1 ours=$2 dir=$3
shift 3
mkdir -p "$dir/reports" || exit 126
if [ "$ours" = 1 ]; then rm -f "$report"; else : > "$dir/reports/.started"; fi || exit 126
"$@" >&2 || exit
if [ ! -f "$report" ]; then echo "it wrote no $report" >&2; exit 1; fi
if [ "$ours" != 1 ] && [ ! "$report" -nt "$dir/reports/.started" ]; then
  echo "it did not write $report: what is there is older than its start" >&2
  exit 1
fi
exec cat "$report"
"""


class Params(OwnBinary):
    """Parameters; see ``OwnBinary`` for K.

    Attributes:
        argv: program and arguments, executed directly. ``{dir}`` at the start of a word stands for the directory of the
            plan's binaries, ``{k}`` anywhere for K.
        output: ``regex``, ``jsonl``, ``json``, ``csv``, a public benchmark's (``tflite``, ``llama-bench``, ``ncnn``,
            ``mnn``, ``mnn-llm``, ``onnxruntime``, ``androidx``, ``mlperf``), or ``none`` (nothing is read: the run's
            evidence is what counts).
        pattern: for ``regex``: named groups are the columns; lines that do not match are left out.
        columns: for ``jsonl``, ``json`` and ``csv``: the columns to keep; all numbers if empty.
        rename: ``PRINTED=column``, for programs whose names are not ours.
        delimiter: of CSV.
        header: the CSV names its columns. Without, ``columns`` names every field; one called ``_`` is left out.
        at: for ``json``: where the rows are, such as ``results.0.runs``.
        result: of a public benchmark that prints several results: the one that is measured, by its name.
        any_verdict: a run that the benchmark itself calls invalid (MLPerf) counts, with a remark.
        read_stderr: the rows are on standard error: it goes where standard output goes.
        report: the file that the program writes and that is read in place of its standard output:
            ``{dir}/reports/NAME``, with the same word in ``argv``, or a path of the program's own, where it has to be
            newer than the program's start.
    """

    argv: Annotated[tuple[Text, ...], Field(min_length=1)]
    output: Literal[
        "regex", "jsonl", "json", "csv", "none",
        "tflite", "llama-bench", "ncnn", "mnn", "mnn-llm", "onnxruntime", "androidx", "mlperf",
    ] = "none"  # fmt: skip
    pattern: str = ""
    columns: tuple[str, ...] = ()
    rename: tuple[Annotated[str, Field(pattern=r"^[^=]+=[A-Za-z_][A-Za-z0-9_]*$")], ...] = ()
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    header: bool = True
    at: str = ""
    result: str = ""
    any_verdict: bool = False
    read_stderr: bool = False
    report: Text | None = None

    @field_validator("pattern")
    @classmethod
    def _a_pattern(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from error
        return pattern

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.output == "regex" and not re.compile(self.pattern).groupindex:
            raise ValueError('output = "regex" needs a pattern with named groups, such as (?P<total_us>[0-9.]+)')
        if not self.header and not (self.output == "csv" and self.columns):
            raise ValueError('header = false needs output = "csv" and columns, the name of every field')
        ours = self.report is not None and self.report.startswith(_REPORTS) and "/" not in self.report[len(_REPORTS) :]
        if self.report is not None and not (ours or self.report.startswith("/")):
            raise ValueError(f'report is "{_REPORTS}NAME", or the whole path of a file on the device')
        if self.report is not None and self.read_stderr:
            raise ValueError("report is read in place of what the program prints: leave read_stderr out")
        return self

    @property
    def form(self) -> Form:
        """How rows are found in the output."""
        return Form(self.output, self.pattern, self.columns, self.delimiter, self.header, self.at)


def command(params: Params, context: Context) -> CommandLine:
    """The command line as the experiment gives it."""
    words = (word.replace("{k}", str(params.k)) for word in (*params.argv, *params.k_argument()))
    argv = tuple(_placed(word, context) for word in words)
    if params.report is not None:
        ours = "1" if params.report.startswith(_REPORTS) else "0"
        report = _placed(params.report, context)
        return params.line(("sh", "-c", _THEN_PRINT, "sh", report, ours, context.dir, *argv))
    both = params.read_stderr or params.output in _benchmarks.ON_STDERR
    return params.line(("sh", "-c", 'exec "$@" 2>&1', "sh", *argv) if both else argv)


def _placed(word: str, context: Context) -> str:
    return context.dir + word[5:] if word.startswith("{dir}") else word


def parse(output: bytes, params: Params) -> Measurement:
    """Rows of the output as tables and figures.

    Flags: ``output-truncated`` (the last line was cut; what came before is used), ``timestamps-out-of-order``, and
    those of the benchmarks' readers.

    Raises:
        MeasurementError: no row, a row without one of the columns, or a value that is no number; names the line.
    """
    if params.output == "none":
        return Measurement()
    if params.output in _benchmarks.READERS:
        return _benchmarks.read(params.output, output, params.result, any_verdict=params.any_verdict)
    found: list[Row] = []
    flags: tuple[Flag, ...] = ()
    places: list[int] = []
    for place, row in rows(output, params.form):
        if row is None:
            flags = (Flag(code="output-truncated", detail=f"line {place} was cut"),)
            continue
        found.append(row)
        places.append(place)
        if len(found) > _MOST_ROWS:
            raise MeasurementError(f"the output has more than {_MOST_ROWS:,} rows")
    if not found:
        raise none_fits(output, params.form)
    columns = _columns(found, places, params)
    if all(name in columns for name in STAMPS):
        return _kernels(columns, flags)
    if "total_ns" in columns and "kernel" not in columns:
        return _inferences(columns, flags)
    metrics = {name: Metric(float(np.median(values)), _unit(name)) for name, values in columns.items()}
    return Measurement({"samples": columns}, metrics, {}, flags)


def _columns(rows: list[Row], places: list[int], params: Params) -> Table:
    """Rows as columns of numbers under their final names.

    Raises:
        MeasurementError: a column is missing in a row, is there twice, or holds something that is no number.
    """
    renamed = dict(one.split("=", 1) for one in params.rename)
    named = tuple(name for name in params.columns if name != "_")
    wanted = named or tuple(name for name, value in rows[0].items() if is_number(value))
    table: Table = {}
    for printed in wanted:
        name = renamed.get(printed, printed)
        values = [_value(row, printed, place) for row, place in zip(rows, places, strict=True)]
        final, column = _column(name, values)
        if final in table:
            raise MeasurementError(f"two columns are named {final!r}")
        table[final] = column
    if not table:
        raise MeasurementError("no column of the output holds numbers")
    return table


def _value(row: Mapping[str, Any], name: str, place: int) -> float:
    if row.get(name) is None:
        raise MeasurementError(f"output line {place} has no {name!r}")
    return number(row[name], f"output line {place}, {name}")


def _column(name: str, values: list[float]) -> tuple[str, Column]:
    suffix = next((one for one in _UNITS_NS if name.endswith(one) and not name.endswith(f"_per{one}")), None)
    if suffix is not None:
        scale = _UNITS_NS[suffix]
        times = np.array([nanoseconds(value, scale, name) for value in values], dtype=np.int64)
        if suffix == "_ns" and any(value != round(value) for value in values):
            return name, np.array(values, dtype=np.float64)  # parts of a nanosecond, of a loop's mean
        return name.removesuffix(suffix) + "_ns", times
    floats = np.array(values, dtype=np.float64)
    if name in {"inference", "kernel", "batch"}:
        if (floats != np.round(floats)).any() or (np.abs(floats) > 2**31).any():
            raise MeasurementError(f"{name} holds something that is no number of one")
        return name, floats.astype(np.int64)
    return name, floats


def _unit(name: str) -> str:
    per = next((f"1/{unit}" for unit in ("ns", "us", "ms", "s") if name.endswith(f"_per_{unit}")), None)
    return per or ("ns" if name.endswith("_ns") else "pct" if name.endswith("_pct") else "1")


def _kernels(columns: Table, flags: tuple[Flag, ...]) -> Measurement:
    """Tables of kernel timestamps; rows in the order printed, or sorted by inference and kernel where both are given.

    Raises:
        MeasurementError: the inferences have different numbers of kernels, or kernels are missing or doubled.
    """
    inference = _inference_of(columns)
    order = np.lexsort((columns.get("kernel", np.arange(inference.size)), inference))
    inference = inference[order]
    counts = np.unique(inference, return_counts=True)[1]
    if len(counts) > 1 and counts[-1] < counts[0]:
        flags = (*flags, Flag(code="output-truncated", detail=f"the last inference has {counts[-1]} kernels"))
        order, counts = order[: -counts[-1]], counts[:-1]
    if (counts != counts[0]).any():
        raise MeasurementError(f"inferences have {int(counts.min())} to {int(counts.max())} kernels")
    if "kernel" in columns:
        numbers = columns["kernel"][order].reshape(-1, int(counts[0]))
        if (numbers != numbers[0]).any() or (np.diff(numbers[0]) != 1).any():
            raise MeasurementError(
                "kernels of an inference are missing, or there twice",
                hint="they are numbered one after the other; if your numbers mean something else, leave `kernel` out",
            )
    stamps = tuple(columns[name][order].astype(np.int64).reshape(-1, int(counts[0])) for name in STAMPS)
    return from_stamps(stamps, flags)


def _inference_of(columns: Table) -> NDArray[np.int64]:
    """Number of the inference of each row: as printed, or counted where the kernel's number starts again."""
    rows = columns["queued_ns"].size
    if "inference" in columns:
        return columns["inference"].astype(np.int64)
    if "kernel" not in columns:
        return np.zeros(rows, dtype=np.int64)
    kernel = columns["kernel"].astype(np.int64)
    return np.concatenate(([0], np.cumsum(np.diff(kernel) <= 0))).astype(np.int64)


def _inferences(columns: Table, flags: tuple[Flag, ...]) -> Measurement:
    total = positive(columns["total_ns"])
    count = np.arange(total.size, dtype=np.int64)
    table: Table = {"inference": count, "profiled": np.zeros(total.size, dtype=np.int64), "total_ns": total}
    metrics = {"total_ns": Metric(float(np.median(total)), "ns")}
    others = {name: values for name, values in columns.items() if name not in {"total_ns", "inference"}}
    metrics |= {name: Metric(float(np.median(values)), _unit(name)) for name, values in others.items()}
    return Measurement({"inferences": {**table, **others}}, metrics, {}, flags)
