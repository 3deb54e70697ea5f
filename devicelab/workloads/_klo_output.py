"""Reads klo's standard output (JSON lines) and trusts none of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from devicelab.errors import MeasurementError
from devicelab.model.journal import Flag, Many
from devicelab.workloads import _json_lines
from devicelab.workloads._json_lines import Line, LongText, Ns, Small
from devicelab.workloads._launches import STAMPS


class Header(Line):
    """First line: what is measured on what."""

    event: Literal["header"]
    klo: Literal[1]
    backend: Literal["opencl", "emulated"]
    simulated: bool
    device_type: Literal["gpu", "cpu", "other", "noop", ""] = ""
    platform: LongText
    device: LongText
    driver: LongText
    extensions: LongText
    network: LongText
    kernels: Annotated[int, Field(strict=True, ge=1, le=100_000)]
    policy: Literal["constant", "static", "dynamic"]
    k: Small
    emulation: LongText = ""
    clock: LongText = ""
    producer_cpu: Small | None = None
    driver_cpu: Small | None = None
    device_minus_host_ns: Ns = 0


class Inference(Line):
    """One inference; the four arrays of timestamps are empty where there was no profiling queue."""

    event: Literal["inference"]
    phase: Literal["warmup", "profile", "profiled", "plain"]
    begin_ns: Ns = 0
    total_ns: Ns
    planning_ns: Ns
    batches: Many[Small]
    flush_ns: Many[Ns]
    queued_ns: Many[Ns] = ()
    submit_ns: Many[Ns] = ()
    start_ns: Many[Ns] = ()
    end_ns: Many[Ns] = ()


class Foreground(Line):
    """Frames of the foreground program: when each was due and when it was there, from the same origin."""

    event: Literal["foreground"]
    queue: Literal["own", "shared"]
    period_ns: Ns
    drawn: Small
    scheduled_ns: Many[Ns]
    end_ns: Many[Ns]


class _Profile(Line):
    event: Literal["profile"]


class _End(Line):
    event: Literal["end"]
    inferences: Small


_LINE: TypeAdapter[Header | Inference | Foreground | _Profile | _End] = TypeAdapter(
    Annotated[Header | Inference | Foreground | _Profile | _End, Field(discriminator="event")]
)


@dataclass(frozen=True)
class Output:
    """What was read, with a flag if the end is missing; ``foreground`` where there was such a program."""

    header: Header
    inferences: list[Inference]
    flags: tuple[Flag, ...]
    foreground: Foreground | None = None


def read_output(output: bytes) -> Output:
    """All lines of an output.

    Raises:
        MeasurementError: damaged; names the line. An output that only ends too early is flagged instead.
    """
    header: Header | None = None
    inferences: list[Inference] = []
    foreground: Foreground | None = None
    end: _End | None = None
    for number, line in _lines(output):
        if line is None:
            break
        if end is not None:
            raise MeasurementError(f"klo output line {number}: something follows the end object")
        if (header is None) != isinstance(line, Header):
            wrong = "the header comes again" if header is not None else "the header is missing"
            raise MeasurementError(f"klo output line {number}: {wrong}")
        if isinstance(line, Header):
            header = line
        elif isinstance(line, Inference):
            _check_shape(line, header.kernels if header is not None else 0, number)
            inferences.append(line)
        elif isinstance(line, Foreground):
            if foreground is not None or len(line.scheduled_ns) != len(line.end_ns):
                raise MeasurementError(f"klo output line {number}: the frames come twice, or not in pairs")
            foreground = line
        elif isinstance(line, _End):
            end = line
    if header is None:
        wrong = "klo's output ends within its header" if output.strip() else "klo printed nothing"
        raise MeasurementError(wrong, hint="its error text is in the run's record")
    if end is None:
        detail = f"the end object is missing after {len(inferences)} inferences"
        return Output(header, inferences, (Flag(code="output-truncated", detail=detail),), foreground)
    if end.inferences != len(inferences):
        raise MeasurementError(f"klo says it printed {end.inferences} inferences, but there are {len(inferences)}")
    return Output(header, inferences, (), foreground)


def _lines(output: bytes) -> Iterator[tuple[int, Header | Inference | Foreground | _Profile | _End | None]]:
    """Numbered lines; ``None`` for a last line that was cut."""
    lines = _json_lines.split(output, "klo")
    for number, line in enumerate(lines, 1):
        if number == len(lines):
            if line.strip():
                yield number, None
            return
        yield number, _json_lines.read(_LINE, line, f"klo output line {number}")


def _check_shape(one: Inference, kernels: int, number: int) -> None:
    stamps = kernels if one.phase == "profiled" else None
    for name in STAMPS:
        found = len(getattr(one, name))
        if stamps is not None and found != stamps:
            raise MeasurementError(f"klo output line {number}: {name} has {found} entries for {kernels} kernels")
    if sum(one.batches) != kernels or 0 in one.batches or len(one.flush_ns) != len(one.batches):
        raise MeasurementError(f"klo output line {number}: the batches do not make up {kernels} kernels")
