"""Reads the records of the OpenCL layer (JSON lines, ``docs/reference/opencl-layer.md``) and trusts none of them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from devicelab.errors import MeasurementError
from devicelab.model.plan import Noun
from devicelab.workloads._launches import STAMPS

_Ns = Annotated[int, Field(strict=True, ge=-(2**61), le=2**61)]
_Small = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]
_Text = Annotated[str, StringConstraints(max_length=65_536)]


class _Line(Noun):
    """A record. A newer layer may say more than we know."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pid: _Small


class Header(_Line):
    """A process that loaded the layer, and what the layer was told."""

    event: Literal["header"]
    layer: Literal[1]
    form: Literal["layer", "stand-in"]
    program: _Text
    policy: Literal["own", "constant", "static", "dynamic"]
    k: _Small
    schedule: tuple[_Small, ...] = ()
    profiling: bool
    non_uniform: bool = False
    wrong: _Text = ""


class Queue(_Line):
    """A command queue of the program, and its device."""

    event: Literal["queue"]
    queue: _Small
    handled: bool
    type: Literal["gpu", "cpu", "other"]
    noop: bool = False
    platform: _Text
    device: _Text
    driver: _Text
    extensions: _Text = ""
    in_order: bool = True
    profiling: bool = False


class Inference(_Line):
    """What lay between two waits; the arrays are there for the first inferences of a queue alone."""

    event: Literal["inference"]
    queue: _Small
    kernels: Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
    wait: _Text
    total_ns: _Ns
    planning_ns: _Ns = 0
    own_flushes: _Small
    batches: tuple[_Small, ...]
    prod_sum_ns: _Ns | None = None
    ker_sum_ns: _Ns | None = None
    idle_sum_ns: _Ns | None = None
    span_ns: _Ns | None = None
    flush_ns: tuple[_Ns, ...] = ()
    device_ns: _Ns = 0
    queued_ns: tuple[_Ns, ...] = ()
    submit_ns: tuple[_Ns, ...] = ()
    start_ns: tuple[_Ns, ...] = ()
    end_ns: tuple[_Ns, ...] = ()


class Note(_Line):
    """Something that the layer left alone."""

    event: Literal["note"]
    text: _Text


class End(_Line):
    """The process ended by itself."""

    event: Literal["end"]
    dropped: _Small
    unseen: _Small = 0
    swallowed: _Small = 0
    flushes: dict[str, _Small] = Field(default_factory=dict)


Record = Header | Queue | Inference | Note | End
_RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="event")])


@dataclass(frozen=True)
class Records:
    """The records of the process with most kernels: a program may start others, which load the layer too."""

    header: Header
    queues: tuple[Queue, ...]
    inferences: tuple[Inference, ...]
    notes: tuple[str, ...]
    end: End | None
    processes: int
    queue: Queue | None = field(default=None)


def read_records(output: bytes) -> Records:
    """All whole records; of several processes those of the busiest one, of its queues the busiest one's inferences.

    Raises:
        MeasurementError: no record, or a line that is none; names the line.
    """
    records = list(_records(output))
    headers = {one.pid: one for one in records if isinstance(one, Header)}
    if not headers:
        raise MeasurementError(
            "the program did not load the OpenCL layer, or did not use OpenCL",
            hint='its error text is in the run\'s record; try form = "stand-in", or see whether it takes OpenCL',
        )
    kernels: Counter[tuple[int, int]] = Counter()
    for one in records:
        if isinstance(one, Inference):
            kernels[one.pid, one.queue] += one.kernels
    pid, number = kernels.most_common(1)[0][0] if kernels else (next(iter(headers)), 0)
    if pid not in headers:
        raise MeasurementError(f"records of process {pid} without its header")
    mine = [one for one in records if one.pid == pid]
    queues = tuple(one for one in mine if isinstance(one, Queue))
    return Records(
        header=headers[pid],
        queues=queues,
        inferences=tuple(one for one in mine if isinstance(one, Inference) and one.queue == number),
        notes=tuple(one.text for one in mine if isinstance(one, Note)),
        end=next((one for one in mine if isinstance(one, End)), None),
        processes=len(headers),
        queue=next((one for one in queues if one.queue == number and one.handled), None),
    )


def _records(output: bytes) -> Iterator[Record]:
    lines = output.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            one = _RECORD.validate_json(line)
        except ValidationError as error:
            # The last line may be cut, and so may the one before a process that began afterwards.
            if number == len(lines) or b'"event":"header"' in lines[number].replace(b" ", b""):
                continue
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise MeasurementError(f"layer record, line {number}: {where}: {first['msg']}") from error
        if isinstance(one, Inference):
            _check(one, number)
        yield one


def _check(one: Inference, number: int) -> None:
    if sum(one.batches) != one.kernels or 0 in one.batches:
        raise MeasurementError(f"layer record, line {number}: the batches do not make up {one.kernels} kernels")
    if one.total_ns <= 0:
        raise MeasurementError(
            f"layer record, line {number}: an inference took {one.total_ns} ns: there is no such time"
        )
    lengths = {len(getattr(one, name)) for name in STAMPS}
    if lengths not in ({0}, {one.kernels}):
        raise MeasurementError(f"layer record, line {number}: there are not {one.kernels} timestamps of each kind")
