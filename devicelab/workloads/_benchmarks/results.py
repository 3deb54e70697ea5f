"""What a benchmark printed, whichever it is, and the tables and figures of a run made of it."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from devicelab.errors import MeasurementError
from devicelab.ground import budget
from devicelab.model.journal import Flag
from devicelab.model.measurement import Column, Measurement, Metric, Table
from devicelab.workloads._own_binary import nanoseconds, number, positive, split

NUMBER = r"[-+]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][-+]?[0-9]{1,3})?"
"""A number as programs print it; matches in linear time."""

INVALID = "called-invalid"
"""Code of the flag by which a program's own verdict is told."""

SCALES = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9, "sec": 1e9}
LONGEST_LINE = 65_536
_MOST_RESULTS = 10_000
_FAILED = re.compile(r"\b(?:error|fail(?:ed|ure)?|fatal|exception|abort(?:ed)?|can't|cannot)\b", re.IGNORECASE)
_PARTLY = re.compile(r"[Dd]on't support|[Nn]ot support")
_LINES_TRIED = 1_000


@dataclass(frozen=True)
class Result:
    """One model, test or benchmark of an output.

    Attributes:
        name: as the program calls it; empty if it does not.
        figures: summaries that were printed, one figure of the run each.
        samples: single values, columns of equal length; the median of each is a figure of the run.
        total: the figure or column that is the time of an inference; empty if none is.
        summary: what ``total`` is where no single values were printed ("the mean of 50").
        traits: what tells it from other results of the same name (threads, layers on the GPU).
        tables: further tables of single values, by their figure's name.
    """

    name: str
    figures: Mapping[str, Metric] = field(default_factory=dict)
    samples: Mapping[str, Column] = field(default_factory=dict)
    total: str = ""
    summary: str = ""
    traits: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Column] = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    """All results of an output, what the program said about itself, and reasons not to believe it."""

    results: Sequence[Result]
    info: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    flags: tuple[Flag, ...] = ()


def time(text: object, unit: str, what: str) -> Metric:
    """A time in nanoseconds.

    Raises:
        MeasurementError: no number, or out of range; ``what`` names the place.
    """
    value = number(text, what)
    whole = nanoseconds(value, SCALES[unit], what)
    # An iteration of a micro-benchmark may take 1.4 ns.
    return Metric(float(value) if unit == "ns" else float(whole), "ns")


def rate(text: object, what: str) -> Metric:
    """Something per second.

    Raises:
        MeasurementError: no number; ``what`` names the place.
    """
    return Metric(float(number(text, what)), "1/s")


def count(value: object, what: str) -> Metric:
    """A number of something.

    Raises:
        MeasurementError: no number; ``what`` names the place.
    """
    return Metric(float(number(value, what)), "1")


def times(values: Sequence[object], unit: str, what: str) -> Column:
    """Times in nanoseconds, whole ones unless they were printed with parts of a nanosecond.

    Raises:
        MeasurementError: one is no number, or out of range.
    """
    read = [number(one, what) for one in values]
    whole = np.array([nanoseconds(one, SCALES[unit], what) for one in read], dtype=np.int64)
    if unit == "ns" and any(one != round(one) for one in read):
        return np.array(read, dtype=np.float64)
    return whole


def lines_of(text: str) -> tuple[list[str], bool]:
    """The lines, without those that no program of ours prints, and whether the last one is whole."""
    lines, whole = split(text)
    return [line.rstrip("\r") if len(line) <= LONGEST_LINE else "" for line in lines], whole


def nothing(lines: Sequence[str], wanted: str, shape: str) -> MeasurementError:
    """No result was found: what was looked for, and the line that comes nearest to it."""
    ends = (*range(min(_LINES_TRIED, len(lines))), *range(max(_LINES_TRIED, len(lines) - _LINES_TRIED), len(lines)))
    spoken = [(at + 1, lines[at].strip()) for at in ends if lines[at].strip()]
    if not spoken:
        return MeasurementError(f"the output is empty; {wanted} was looked for")
    failed = next(((at, line) for at, line in spoken if _FAILED.search(line)), None)
    if failed is not None:
        said = budget.cut(failed[1], 200)
        return MeasurementError(f"the program failed, line {failed[0]}: {said!r}; {wanted} was looked for")
    words = set(re.findall(r"[A-Za-z]{2,}", shape))
    near = max(spoken, key=lambda one: (len(words & set(re.findall(r"[A-Za-z]{2,}", one[1]))), one[0]))
    return MeasurementError(
        f"no line of the output is {wanted}: line {near[0]} is {budget.cut(near[1], 160)!r}, not like {shape!r}",
        hint="is `output` the right one for this program? Its whole output is in the run's record",
    )


def cut(at: int, line: str, missing: str) -> MeasurementError:
    """The output ends within what is needed of it."""
    return MeasurementError(
        f"the output ends at line {at}, {budget.cut(line.strip(), 160)!r}, before {missing}",
        hint="was the program killed, or did it fail?",
    )


def complaints(line: str, at: int) -> Iterator[Flag]:
    """What a line says of something that failed while the program went on; a remark where a part went elsewhere."""
    said = f"line {at}: {budget.cut(line.strip(), 200)}"
    if _PARTLY.search(line):
        yield Flag(code="program-complained", detail=said, remark=True)
    elif _FAILED.search(line):
        yield Flag(code="program-complained", detail=said)


def slug(name: str) -> str:
    """A name as part of a figure's: ``SqueezeNetV1.0.mnn`` is ``SqueezeNetV1_0_mnn``."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name[:200]).strip("_")


def measurement(output: Output, wanted: str, *, any_verdict: bool = False) -> Measurement:
    """Tables, figures and flags of a run.

    One result, or the wanted one, has plain figures (``mean_ns``), and ``total_ns`` if it has the time of an inference;
    of several, each figure has its result's name in front (``squeezenet_mean_ns``).

    Flags: the output's own; ``summary-only`` (a remark: ``total_ns`` is a summary that the program printed).

    Raises:
        MeasurementError: no result of that name, two that cannot be told apart, or a time that there is not.
    """
    if len(output.results) > _MOST_RESULTS:
        raise MeasurementError(f"the output has {len(output.results)} results; {_MOST_RESULTS} are the most")
    named = _told_apart(output.results)
    flags = tuple(
        flag.model_copy(update={"remark": True}) if any_verdict and flag.code == INVALID else flag
        for flag in output.flags
    )
    info = dict(output.info)
    if wanted:
        if slug(wanted) not in named:
            known = budget.cut(", ".join(named), 400)
            raise MeasurementError(
                f"no result is named {wanted!r}; there are {known}", hint="`result` takes one of them"
            )
        named = {slug(wanted): named[slug(wanted)]}
    if len(named) > 1:
        metrics: dict[str, Metric] = {}
        tables: dict[str, Table] = {}
        for name, one in named.items():
            metrics |= {f"{name}_{figure}": metric for figure, metric in _figures(one).items()}
            tables |= {f"{name}_{table}": columns for table, columns in _tables(one).items()}
        return Measurement(tables, metrics, info, flags)
    ((name, only),) = named.items()
    if name:
        info.setdefault("result", name)
    metrics, tables = _figures(only), _tables(only)
    if only.total:
        total = metrics[only.total]
        positive(np.array([total.value]))
        metrics["total_ns"] = total
        if only.total in only.samples:
            values = positive(only.samples[only.total])
            shown: Table = {
                "inference": np.arange(values.size, dtype=np.int64),
                "profiled": np.zeros(values.size, dtype=np.int64),
                "total_ns": values,
            }
            tables = {
                **{table: columns for table, columns in tables.items() if table != "samples"},
                "inferences": shown,
            }
            tables["inferences"] |= {key: column for key, column in only.samples.items() if key != only.total}
        else:
            detail = f"total_ns is {only.summary}, as printed; the program printed no single values"
            flags = (*flags, Flag(code="summary-only", detail=detail, remark=True))
    return Measurement(tables, metrics, info, flags)


def _figures(one: Result) -> dict[str, Metric]:
    medians = {
        name: Metric(float(np.median(values)), unit_of(name))
        for name, values in (*one.samples.items(), *one.tables.items())
        if values.size
    }
    return {**one.figures, **medians}


def unit_of(name: str) -> str:
    """The unit that a figure's name ends in."""
    return "1/s" if name.endswith("_per_s") else "ns" if name.endswith("_ns") else "1"


def _tables(one: Result) -> dict[str, Table]:
    samples: dict[str, Table] = {"samples": dict(one.samples)} if one.samples else {}
    return samples | {name: {name: values} for name, values in one.tables.items()}


def _told_apart(results: Sequence[Result]) -> dict[str, Result]:
    """Results under names of their own: of those that are called alike, what differs is part of the name.

    Raises:
        MeasurementError: nothing tells two of them apart.
    """
    if not results:
        raise MeasurementError("the output has no result")
    by_name: dict[str, list[Result]] = {}
    for one in results:
        by_name.setdefault(slug(one.name), []).append(one)
    told: dict[str, Result] = {}
    for name, alike in by_name.items():
        for one in alike:
            own = "_".join(filter(None, (name, *_differing(one, alike))))
            if own in told or (not own and len(results) > 1):
                raise MeasurementError(
                    f"two results are called {name or 'nothing'!r}, and nothing tells them apart",
                    hint="let the program measure one thing in a run",
                )
            told[own] = replace(one, name=own)
    return told


def _differing(one: Result, alike: Sequence[Result]) -> list[str]:
    words = []
    for trait, value in one.traits.items():
        if len(Counter(other.traits.get(trait) for other in alike)) > 1:
            words.append(slug(f"{trait}_{value}"))
    return words
