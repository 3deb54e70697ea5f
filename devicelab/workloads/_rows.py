"""Rows of a program's output, in the form that an experiment describes: a pattern, CSV, JSON, JSON lines."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from devicelab.errors import MeasurementError
from devicelab.ground import budget
from devicelab.workloads._benchmarks import documents
from devicelab.workloads._own_binary import decoded, number, split

_MAX_ROW_VALUES = 100_000
# A line beyond this is not one of ours; it also bounds what a careless pattern can cost.
_LONGEST_LINE = 16_384
# Lines and characters of a pattern that are looked at to say what did not match.
_LINES_TRIED = 40
_PATTERN_TRIED = 400
_CHARACTERS_TRIED = 500

Row = dict[str, Any]
Rows = Iterator[tuple[int, Row | None]]


@dataclass(frozen=True)
class Form:
    """How rows are told from what else a program prints; see the parameters of the workload ``command``."""

    output: str
    pattern: str
    columns: tuple[str, ...]
    delimiter: str
    header: bool
    at: str


def rows(output: bytes, form: Form) -> Rows:
    """Numbered rows; ``None`` for a last line that was cut.

    Raises:
        MeasurementError: a damaged row, or more lines than any program prints.
    """
    lines, whole = split(decoded(output))
    read = {"regex": _from_regex, "jsonl": _from_json_lines, "csv": _from_csv, "json": _from_json}[form.output]
    yield from read(lines, form, whole)


def none_fits(output: bytes, form: Form) -> MeasurementError:
    """No line is a row: the line that comes nearest, what was looked for, and where they part."""
    lines, _ = split(decoded(output))
    spoken = [(at, line) for at, line in enumerate(lines, 1) if line.strip()]
    if not spoken:
        return MeasurementError("no line of the output is a row: it is empty")
    if form.output == "regex":
        at, line, matched, missing = _nearest(spoken, form.pattern)
        after = f"after {matched!r} {missing!r} does not match" if matched else f"{missing!r} matches nothing in it"
        told = f"line {at}, {budget.cut(line.strip(), 160)!r}, comes nearest to {form.pattern!r}: {after}"
    else:
        wanted = f"with the columns {', '.join(form.columns)}" if form.columns else "of numbers"
        shape = {"csv": f"fields between {form.delimiter!r}", "jsonl": "a JSON object", "json": "a JSON document"}
        at, line = spoken[-1]
        told = f"{shape[form.output]} {wanted} is looked for; the last line, {at}, is {budget.cut(line.strip(), 160)!r}"
    return MeasurementError(f"no line of the output is a row: {told}", hint="the whole output is in the run's record")


def is_number(value: object) -> bool:
    """Whether it can be read as a finite number."""
    try:
        number(value, "")
    except MeasurementError:
        return False
    return True


def _nearest(spoken: Sequence[tuple[int, str]], pattern: str) -> tuple[int, str, str, str]:
    """Line, its text, what matched of it, and the rest of the pattern: by the longest beginning that matches."""
    beginnings = []
    for length in range(min(len(pattern), _PATTERN_TRIED), 0, -1):
        try:
            beginnings.append((length, re.compile(pattern[:length])))
        except re.error:
            beginnings += _closed(pattern[:length], length)
    best: tuple[int, int, str, str] = (0, *spoken[-1], "")
    for at, line in spoken[-_LINES_TRIED:]:
        for length, beginning in beginnings:
            if length <= best[0]:
                break
            found = beginning.search(line[:_CHARACTERS_TRIED])
            if found is not None and found[0]:
                best = (length, at, line, found[0])
                break
    length, at, line, matched = best
    return at, line, matched, pattern[length:]


def _closed(begun: str, length: int) -> list[tuple[int, "re.Pattern[str]"]]:
    """A beginning that ends within a group, as a pattern."""
    try:
        return [(length, re.compile(f"{begun})"))]
    except re.error:
        return []


def _from_regex(lines: list[str], form: Form, whole: bool) -> Rows:
    pattern = re.compile(form.pattern)
    for place, line in enumerate(lines, 1):
        match = pattern.search(line) if len(line) <= _LONGEST_LINE else None
        if match is not None:
            # A number at the end of a cut line may have lost digits.
            cut = not whole and place == len(lines) and match.end() == len(line)
            yield place, None if cut else match.groupdict()


def _from_json_lines(lines: list[str], form: Form, whole: bool) -> Rows:
    for place, line in enumerate(lines, 1):
        if not line.lstrip().startswith("{"):
            continue  # what else the program says
        try:
            row = budget.loads(line.encode(), _MAX_ROW_VALUES)
        except ValueError as error:
            if place == len(lines) and not whole:
                yield place, None
                return
            raise MeasurementError(f"output line {place} is not JSON: {budget.cut(line.strip(), 120)!r}") from error
        if not form.columns or set(form.columns) & row.keys():
            yield place, row


def _from_json(lines: list[str], form: Form, whole: bool) -> Rows:  # noqa: ARG001 - a cut document is no JSON
    """Rows of a JSON document: an object, a list of them, or a list of numbers under the name of what holds it."""
    found = documents.first("\n".join(lines), "[{", "the output")
    name = "value"
    for step in filter(None, form.at.split(".")):
        inner = found.get(step) if isinstance(found, dict) else None
        if isinstance(found, list) and step.isdigit() and int(step) < len(found):
            inner = found[int(step)]
        if inner is None:
            known = ", ".join(map(str, found))[:200] if isinstance(found, dict) else type(found).__name__
            raise MeasurementError(f"the JSON has no {step!r} on the way to {form.at!r}; there is {known}")
        found, name = inner, step if not step.isdigit() else name
    for place, one in enumerate(found if isinstance(found, list) else [found], 1):
        if isinstance(one, dict):
            yield place, one
        elif is_number(one):
            yield place, {name: one}
        else:
            raise MeasurementError(
                f"value {place} of {form.at or 'the JSON'!r} is {str(one)[:40]!r}: no object, no number"
            )


def _from_csv(lines: list[str], form: Form, whole: bool) -> Rows:
    begin = _header(lines, form) if form.header else -1
    if begin is None:
        return
    try:
        names = list(form.columns)
        if form.header:
            names = [name.strip() for name in next(csv.reader([lines[begin]], delimiter=form.delimiter))]
        for place, line in enumerate(lines[begin + 1 :], begin + 2):
            if not line.strip():
                continue
            fields = next(csv.reader([line], delimiter=form.delimiter))
            if place == len(lines) and not whole:
                yield place, None
                return
            if len(fields) == len(names) and (form.header or _numbers(names, fields)):
                yield place, dict(zip(names, fields, strict=True))
            elif any(map(is_number, fields)) and (form.header or len(fields) > 1):
                wanted = "the header" if form.header else "columns"
                raise MeasurementError(
                    f"output line {place} has {len(fields)} fields, {wanted} {len(names)}: {budget.cut(line, 120)!r}"
                )
            # else it is what the program says besides
    except csv.Error as error:
        raise MeasurementError(f"the output is not CSV: {error}") from error


def _numbers(names: Sequence[str], fields: Sequence[str]) -> bool:
    """All fields that are wanted hold numbers; a column called ``_`` is not."""
    return all(is_number(value.strip()) for name, value in zip(names, fields, strict=True) if name != "_")


def _header(lines: list[str], form: Form) -> int | None:
    """The line that names the columns: it has the wanted names, or its fields are no numbers and the next line's are.

    Programs print other lines before it, with as many commas as they like.
    """
    wanted, first, some = set(form.columns), None, None
    for at, line in enumerate(lines):
        fields = _fields(line, form)
        if wanted and wanted <= set(fields):
            return at
        if wanted & set(fields) and some is None:
            some = at
        if len(fields) > 1 and first is None:
            first = at
        if not wanted and fields and all(fields) and not any(map(is_number, fields)):
            after = next((row for line in lines[at + 1 : at + 20] if (row := _fields(line, form))), [])
            if len(after) == len(fields) and any(map(is_number, after)):
                return at
    return first if some is None else some


def _fields(line: str, form: Form) -> list[str]:
    if len(line) > _LONGEST_LINE or not line.strip():
        return []
    try:
        return [field.strip() for field in next(csv.reader([line], delimiter=form.delimiter))]
    except csv.Error:
        return []
