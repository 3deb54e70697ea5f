"""Any program on the device, read by a parser that the experiment describes: for a lab's own, patched binaries.

Rows are found in the program's standard output by a regular expression with named groups (one match a line), as JSON
lines, or as CSV. A column whose name ends in ``_ns``, ``_us``, ``_ms`` or ``_s`` is a time and becomes ``_ns``; a rate
(``bytes_per_s``) stays what it is.

Columns named ``queued_ns submit_ns start_ns end_ns`` (one row a kernel, with ``kernel`` and ``inference`` if the
program prints them) make the tables that the klo analysis reads; ``total_ns`` (one row an inference) makes the time of
an inference. Any other columns are kept as the table ``samples``, with the median of each as a figure of the run.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from devicelab.errors import MeasurementError
from devicelab.ground import budget
from devicelab.model.journal import Flag
from devicelab.model.measurement import Column, Measurement, Metric, Table
from devicelab.workloads._launches import STAMPS
from devicelab.workloads._own_binary import OwnBinary, Text, from_stamps, nanoseconds, number, positive
from devicelab.workloads.base import CommandLine, Context

_MAX_ROW_VALUES = 100_000

NATIVE: tuple[str, ...] = ()
FILES: tuple[str, ...] = ()

_UNITS_NS = {"_ns": 1.0, "_us": 1e3, "_ms": 1e6, "_s": 1e9}
_MOST_ROWS = 5_000_000
# A line beyond this is not one of ours; it also bounds what a careless pattern can cost.
_LONGEST_LINE = 16_384

Row = dict[str, Any]
Rows = Iterator[tuple[int, Row | None]]


class Params(OwnBinary):
    """Parameters; see ``OwnBinary`` for K.

    Attributes:
        argv: program and arguments, executed directly. ``{dir}`` at the start of a word stands for the directory of the
            plan's binaries, ``{k}`` anywhere for K.
        output: ``regex``, ``jsonl``, ``csv``, or ``none`` (nothing is read: the run's evidence is what counts).
        pattern: for ``regex``: named groups are the columns; lines that do not match are left out.
        columns: for ``jsonl`` and ``csv``: the columns to keep; all numbers if empty.
        rename: ``PRINTED=column``, for programs whose names are not ours.
        delimiter: of CSV.
        read_stderr: the rows are on standard error: it goes where standard output goes.
    """

    argv: Annotated[tuple[Text, ...], Field(min_length=1)]
    output: Literal["regex", "jsonl", "csv", "none"] = "none"
    pattern: str = ""
    columns: tuple[str, ...] = ()
    rename: tuple[Annotated[str, Field(pattern=r"^[^=]+=[A-Za-z_][A-Za-z0-9_]*$")], ...] = ()
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    read_stderr: bool = False

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
        return self


def command(params: Params, context: Context) -> CommandLine:
    """The command line as the experiment gives it."""
    words = (word.replace("{k}", str(params.k)) for word in (*params.argv, *params.k_argument()))
    argv = tuple(context.dir + word[5:] if word.startswith("{dir}") else word for word in words)
    return params.line(("sh", "-c", 'exec "$@" 2>&1', "sh", *argv) if params.read_stderr else argv)


def parse(output: bytes, params: Params) -> Measurement:
    """Rows of the output as tables and figures.

    Flags: ``output-truncated`` (the last line was cut; what came before is used), ``timestamps-out-of-order``.

    Raises:
        MeasurementError: no row, a row without one of the columns, or a value that is no number; names the line.
    """
    if params.output == "none":
        return Measurement()
    rows: list[Row] = []
    flags: tuple[Flag, ...] = ()
    places: list[int] = []
    for place, row in _rows(output, params):
        if row is None:
            flags = (Flag(code="output-truncated", detail=f"line {place} was cut"),)
            continue
        rows.append(row)
        places.append(place)
        if len(rows) > _MOST_ROWS:
            raise MeasurementError(f"the output has more than {_MOST_ROWS:,} rows")
    if not rows:
        raise MeasurementError(
            "no line of the output is a row", hint=f"it is read as {params.output}: look at it in the run's record"
        )
    columns = _columns(rows, places, params)
    if all(name in columns for name in STAMPS):
        return _kernels(columns, flags)
    if "total_ns" in columns and "kernel" not in columns:
        return _inferences(columns, flags)
    metrics = {name: Metric(float(np.median(values)), _unit(name)) for name, values in columns.items()}
    return Measurement({"samples": columns}, metrics, {}, flags)


def _rows(output: bytes, params: Params) -> Rows:
    """Numbered rows; ``None`` for a last line that was cut."""
    try:
        budget.lines(output)
    except ValueError as error:
        raise MeasurementError(f"the output has {error}") from error
    lines = output.decode("utf-8", "replace").split("\n")
    whole = not lines[-1]  # a program that ends its lines leaves nothing after the last one
    if whole:
        lines.pop()
    read = {"regex": _from_regex, "jsonl": _from_json_lines, "csv": _from_csv}[params.output]
    yield from read(lines, params, whole)


def _from_regex(lines: list[str], params: Params, whole: bool) -> Rows:
    pattern = re.compile(params.pattern)
    for place, line in enumerate(lines, 1):
        match = pattern.search(line) if len(line) <= _LONGEST_LINE else None
        if match is not None:
            # A number at the end of a cut line may have lost digits.
            cut = not whole and place == len(lines) and match.end() == len(line)
            yield place, None if cut else match.groupdict()


def _from_json_lines(lines: list[str], params: Params, whole: bool) -> Rows:
    for place, line in enumerate(lines, 1):
        if not line.lstrip().startswith("{"):
            continue  # what else the program says
        try:
            row = budget.loads(line.encode(), _MAX_ROW_VALUES)
        except ValueError as error:
            if place == len(lines) and not whole:
                yield place, None
                return
            raise MeasurementError(f"output line {place} is not JSON") from error
        if not params.columns or set(params.columns) & row.keys():
            yield place, row


def _from_csv(lines: list[str], params: Params, whole: bool) -> Rows:
    begin = _header(lines, params)
    if begin is None:
        return
    try:
        names = [name.strip() for name in next(csv.reader([lines[begin]], delimiter=params.delimiter))]
        for place, line in enumerate(lines[begin + 1 :], begin + 2):
            if not line.strip():
                continue
            fields = next(csv.reader([line], delimiter=params.delimiter))
            if place == len(lines) and not whole:
                yield place, None
                return
            if len(fields) == len(names):
                yield place, dict(zip(names, fields, strict=True))
            elif any(map(_is_number, fields)):
                raise MeasurementError(f"output line {place} has {len(fields)} fields, the header {len(names)}")
            # else it is what the program says besides
    except csv.Error as error:
        raise MeasurementError(f"the output is not CSV: {error}") from error


def _header(lines: list[str], params: Params) -> int | None:
    """The line that names the columns: it has the wanted names, or its fields are no numbers and the next line's are.

    Programs print other lines before it, with as many commas as they like.
    """
    wanted, first, some = set(params.columns), None, None
    for at, line in enumerate(lines):
        fields = _fields(line, params)
        if wanted and wanted <= set(fields):
            return at
        if wanted & set(fields) and some is None:
            some = at
        if len(fields) > 1 and first is None:
            first = at
        if not wanted and fields and all(fields) and not any(map(_is_number, fields)):
            after = next((row for line in lines[at + 1 : at + 20] if (row := _fields(line, params))), [])
            if len(after) == len(fields) and any(map(_is_number, after)):
                return at
    return first if some is None else some


def _fields(line: str, params: Params) -> list[str]:
    if len(line) > _LONGEST_LINE or not line.strip():
        return []
    try:
        return [field.strip() for field in next(csv.reader([line], delimiter=params.delimiter))]
    except csv.Error:
        return []


def _columns(rows: list[Row], places: list[int], params: Params) -> Table:
    """Rows as columns of numbers under their final names.

    Raises:
        MeasurementError: a column is missing in a row, is there twice, or holds something that is no number.
    """
    renamed = dict(one.split("=", 1) for one in params.rename)
    wanted = params.columns or tuple(name for name, value in rows[0].items() if _is_number(value))
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
        return name.removesuffix(suffix) + "_ns", times
    floats = np.array(values, dtype=np.float64)
    if name in {"inference", "kernel", "batch"}:
        if (floats != np.round(floats)).any() or (np.abs(floats) > 2**31).any():
            raise MeasurementError(f"{name} holds something that is no number of one")
        return name, floats.astype(np.int64)
    return name, floats


def _is_number(value: object) -> bool:
    try:
        number(value, "")
    except MeasurementError:
        return False
    return True


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
