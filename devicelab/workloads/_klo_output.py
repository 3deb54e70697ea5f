"""Reads klo's standard output (JSON lines) and trusts none of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from devicelab.errors import MeasurementError
from devicelab.ground import budget
from devicelab.model.journal import Flag, Many
from devicelab.model.plan import Noun
from devicelab.workloads._launches import STAMPS

_Ns = Annotated[int, Field(strict=True, ge=-(2**61), le=2**61)]  # differences of two still fit 64 bits
_Small = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]
_Text = Annotated[str, StringConstraints(max_length=65_536)]

# Six arrays of a network's kernels, with room.
_MOST_VALUES = 1_000_000


class _Line(Noun):
    """A line of output. A newer klo may say more than we know."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Header(_Line):
    """First line: what is measured on what."""

    event: Literal["header"]
    klo: Literal[1]
    backend: Literal["opencl", "emulated"]
    simulated: bool
    platform: _Text
    device: _Text
    driver: _Text
    extensions: _Text
    network: _Text
    kernels: Annotated[int, Field(strict=True, ge=1, le=100_000)]
    policy: Literal["constant", "static", "dynamic"]
    k: _Small
    emulation: _Text = ""
    clock: _Text = ""
    producer_cpu: _Small | None = None
    driver_cpu: _Small | None = None
    device_minus_host_ns: _Ns = 0


class Inference(_Line):
    """One inference; the four arrays of timestamps are empty where there was no profiling queue."""

    event: Literal["inference"]
    phase: Literal["warmup", "profile", "profiled", "plain"]
    total_ns: _Ns
    planning_ns: _Ns
    batches: Many[_Small]
    flush_ns: Many[_Ns]
    queued_ns: Many[_Ns] = ()
    submit_ns: Many[_Ns] = ()
    start_ns: Many[_Ns] = ()
    end_ns: Many[_Ns] = ()


class _Profile(_Line):
    event: Literal["profile"]


class _End(_Line):
    event: Literal["end"]
    inferences: _Small


_LINE: TypeAdapter[Header | Inference | _Profile | _End] = TypeAdapter(
    Annotated[Header | Inference | _Profile | _End, Field(discriminator="event")]
)


@dataclass(frozen=True)
class Output:
    """What was read, with a flag if the end is missing."""

    header: Header
    inferences: list[Inference]
    flags: tuple[Flag, ...]


def read_output(output: bytes) -> Output:
    """All lines of an output.

    Raises:
        MeasurementError: damaged; names the line. An output that only ends too early is flagged instead.
    """
    header: Header | None = None
    inferences: list[Inference] = []
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
        elif isinstance(line, _End):
            end = line
    if header is None:
        wrong = "klo's output ends within its header" if output.strip() else "klo printed nothing"
        raise MeasurementError(wrong, hint="its error text is in the run's record")
    if end is None:
        detail = f"the end object is missing after {len(inferences)} inferences"
        return Output(header, inferences, (Flag(code="output-truncated", detail=detail),))
    if end.inferences != len(inferences):
        raise MeasurementError(f"klo says it printed {end.inferences} inferences, but there are {len(inferences)}")
    return Output(header, inferences, ())


def _lines(output: bytes) -> Iterator[tuple[int, Header | Inference | _Profile | _End | None]]:
    """Numbered lines; ``None`` for a last line that was cut."""
    try:
        lines = budget.lines(output)
    except ValueError as error:
        raise MeasurementError(f"klo printed {error}") from error
    for number, line in enumerate(lines, 1):
        if number == len(lines):
            if line.strip():
                yield number, None
            return
        try:
            yield number, _LINE.validate_json(budget.within(line, _MOST_VALUES))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            detail = f"{where}: {first['msg']}" if where else first["msg"]
            raise MeasurementError(f"klo output line {number}: {detail}") from error
        except ValueError as error:
            raise MeasurementError(f"klo output line {number}: {error}") from error


def _check_shape(one: Inference, kernels: int, number: int) -> None:
    stamps = kernels if one.phase == "profiled" else None
    for name in STAMPS:
        found = len(getattr(one, name))
        if stamps is not None and found != stamps:
            raise MeasurementError(f"klo output line {number}: {name} has {found} entries for {kernels} kernels")
    if sum(one.batches) != kernels or 0 in one.batches or len(one.flush_ns) != len(one.batches):
        raise MeasurementError(f"klo output line {number}: the batches do not make up {kernels} kernels")
