"""llama.cpp's ``llama-bench``: ``-o json``, ``jsonl``, ``csv`` and ``md`` (its default), b1275 to b11325.

A test is ``pp512`` (512 tokens of a prompt), ``tg128`` (128 tokens one after the other), or both in one
(``pp512+tg128``), behind ``d`` tokens that are there already. JSON has the time of every repetition (``samples_ns``,
the whole test), CSV the mean and standard deviation, and the Markdown table the rate alone, in tokens a second. The
warm-up is not printed.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from devicelab.errors import MeasurementError
from devicelab.ground import budget
from devicelab.model.journal import Flag
from devicelab.model.measurement import Column, Metric
from devicelab.workloads._benchmarks import documents, markdown
from devicelab.workloads._benchmarks.results import (
    NUMBER,
    Output,
    Result,
    complaints,
    lines_of,
    nothing,
    rate,
    time,
    times,
)
from devicelab.workloads._own_binary import number

_RATE = re.compile(rf"({NUMBER})(?: ± ({NUMBER}))?")
# Of a row, all but these are what the test was set to.
_MEASURED = re.compile(
    r"^(?:avg|stddev|samples|n_prompt$|n_gen$|n_depth$|test_time|test$|t/s$|build_|model_size|size$|params$)"
)
_MOST_FLAGS = 8
_WORDS = "llama-bench's results"
_SHAPE = "| model | size | params | backend | ngl | test | t/s |"


def read(text: str) -> Output:
    """The tests of an output, in whichever form it is.

    Flags: ``output-truncated`` (the last line was cut and is not used), ``program-complained`` (a test failed).

    Raises:
        MeasurementError: no test, a cut or damaged one, or times and rates that contradict each other.
    """
    lines, whole = lines_of(text)
    flags: list[Flag] = []
    results: list[Result] = []
    for at, line in enumerate(lines, 1):
        if line.lstrip()[:1] not in {"|", "{", '"', "[", "]", "}"} and len(flags) < _MOST_FLAGS:
            flags += complaints(line, at)
    for at, row in _rows(text, lines, whole):
        if row is None:
            flags.append(Flag(code="output-truncated", detail=f"line {at} was cut: {budget.cut(lines[at - 1], 100)!r}"))
        else:
            results.append(_table_row(at, row) if "t/s" in row else _result(at, row))
    if not results:
        raise nothing(lines, _WORDS, _SHAPE)
    return Output(results, {"program": "llama-bench"}, tuple(flags))


def _rows(text: str, lines: list[str], whole: bool) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
    header = next(
        (at for at, line in enumerate(lines) if "avg_ns" in line and "n_prompt" in line and "," in line), None
    )
    if any(line.strip() in {"[", "[]"} or re.match(r"\s*\[\s*\{", line) for line in lines):
        for row in _listed(documents.first(text, "[", _WORDS)):
            yield 0, row
    elif any(line.lstrip().startswith("{") and "n_prompt" in line for line in lines):
        yield from _json_lines(lines, whole)
    elif header is not None:
        yield from _csv(lines, header, whole)
    else:
        yield from markdown.rows(lines, frozenset(("t/s",)), whole=whole)


def _listed(found: object) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(one, dict) and "avg_ns" in one for one in found):
        raise MeasurementError(f"{_WORDS} hold something that is no test")
    return found


def _json_lines(lines: list[str], whole: bool) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
    for at, line in enumerate(lines, 1):
        if not line.lstrip().startswith("{"):
            continue
        try:
            found = documents.on_line(line, at, _WORDS)
        except MeasurementError:
            if at == len(lines) and not whole:
                yield at, None
                return
            raise
        for row in found:
            if isinstance(row, dict) and "avg_ns" in row:
                yield at, row


def _csv(lines: list[str], header: int, whole: bool) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
    try:
        names = next(csv.reader([lines[header]]))
        for at, line in enumerate(lines[header + 1 :], header + 2):
            if not line.strip() or line == lines[header]:
                continue
            fields = next(csv.reader([line]))
            if at == len(lines) and not whole:
                yield at, None
            elif len(fields) == len(names):
                yield at, dict(zip(names, fields, strict=True))
            elif len(fields) > len(names) // 2:
                raise MeasurementError(f"line {at} has {len(fields)} fields, its header {len(names)}")
            # else the program says something besides
    except csv.Error as error:
        raise MeasurementError(f"{_WORDS} are no CSV: {error}") from error


def _result(at: int, row: Mapping[str, Any]) -> Result:
    where = f"output line {at}" if at else _WORDS
    prompt, generated, depth = (_tokens(row.get(key, 0), f"{where}, {key}") for key in ("n_prompt", "n_gen", "n_depth"))
    if prompt + generated <= 0:
        raise MeasurementError(f"{where}: a test without tokens")
    for key in ("avg_ns", "avg_ts"):
        if key not in row:
            raise MeasurementError(f"{where}: a test without {key}")
    figures: dict[str, Metric] = {
        "mean_ns": time(row["avg_ns"], "ns", f"{where}, avg_ns"),
        "tokens_per_s": rate(row["avg_ts"], f"{where}, avg_ts"),
    }
    # The mean of the rates is never below the rate of the mean time, and far above it only for wild times.
    ratio = figures["tokens_per_s"].value * figures["mean_ns"].value / 1e9 / (prompt + generated)
    if not 0.99 < ratio < 10:
        raise MeasurementError(
            f"{where}: {prompt + generated} tokens in {figures['mean_ns'].value:.0f} ns are not "
            f"{figures['tokens_per_s'].value:g} a second: are the columns the header's?"
        )
    if "stddev_ns" in row:
        figures["std_ns"] = time(row["stddev_ns"], "ns", f"{where}, stddev_ns")
    if "stddev_ts" in row:
        figures["tokens_std_per_s"] = rate(row["stddev_ts"], f"{where}, stddev_ts")
    samples: dict[str, Column] = {}
    if isinstance(row.get("samples_ns"), list) and row["samples_ns"]:
        column = times(row["samples_ns"], "ns", f"{where}, samples_ns")
        if abs(float(np.mean(column)) - figures["mean_ns"].value) > 1e-3 * figures["mean_ns"].value + 1:
            raise MeasurementError(f"{where}: avg_ns is not the mean of samples_ns")
        samples["total_ns"] = column
    kind = "+".join(f"{word}{n}" for word, n in (("pp", prompt), ("tg", generated)) if n)
    return Result(
        f"{kind} d{depth}" if depth else kind,
        figures,
        samples,
        "total_ns" if samples else "mean_ns",
        "the mean of a test's repetitions",
        _traits(row),
    )


def _tokens(value: object, where: str) -> int:
    found = number(value, where)
    if found != round(found) or not 0 <= found < 1 << 40:
        raise MeasurementError(f"{where}: {found:g} is no number of tokens")
    return int(found)


def _traits(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        key: str(value).rsplit("/", 1)[-1][:60]
        for key, value in row.items()
        if not _MEASURED.match(key) and isinstance(value, str | int | float | bool)
    }


def _table_row(at: int, row: Mapping[str, str]) -> Result:
    """A row of the Markdown table: its rate, in tokens a second; a time is not printed and none is made up."""
    found = _RATE.fullmatch(row["t/s"])
    name = row.get("test", "").replace(" @ d", " d").replace("pp ", "pp").replace("tg ", "tg")
    if found is None or not name:
        raise MeasurementError(f"line {at}: {row['t/s'][:60]!r} is not like '123.45 ± 0.67'")
    figures = {"tokens_per_s": rate(found[1], f"output line {at}, t/s")}
    if found[2] is not None:
        figures["tokens_std_per_s"] = rate(found[2], f"output line {at}, t/s")
    return Result(name, figures, traits=_traits(row))
