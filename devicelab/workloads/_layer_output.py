"""Reads the records of the OpenCL layer (JSON lines, ``docs/reference/opencl-layer.md``) and trusts none of them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from devicelab.errors import MeasurementError
from devicelab.model.journal import Many
from devicelab.workloads import _json_lines
from devicelab.workloads._json_lines import Line, LongText, Ns, Small
from devicelab.workloads._launches import STAMPS


class _OfProcess(Line):
    """A record, and the process that wrote it."""

    pid: Small


class Header(_OfProcess):
    """A process that loaded the layer, and what the layer was told."""

    event: Literal["header"]
    layer: Literal[1]
    form: Literal["layer", "stand-in"]
    program: LongText
    policy: Literal["own", "constant", "static", "dynamic"]
    k: Small
    schedule: Many[Small] = ()
    profiling: bool
    non_uniform: bool = False
    wrong: LongText = ""


class Queue(_OfProcess):
    """A command queue of the program, and its device."""

    event: Literal["queue"]
    queue: Small
    handled: bool
    type: Literal["gpu", "cpu", "other"]
    noop: bool = False
    platform: LongText
    device: LongText
    driver: LongText
    extensions: LongText = ""
    in_order: bool = True
    profiling: bool = False


class Inference(_OfProcess):
    """What lay between two waits; the arrays are there for the first inferences of a queue alone."""

    event: Literal["inference"]
    queue: Small
    kernels: Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
    wait: LongText
    begin_ns: Ns = 0
    total_ns: Ns
    planning_ns: Ns = 0
    own_flushes: Small
    batches: Many[Small]
    prod_sum_ns: Ns | None = None
    ker_sum_ns: Ns | None = None
    idle_sum_ns: Ns | None = None
    span_ns: Ns | None = None
    flush_ns: Many[Ns] = ()
    device_ns: Ns = 0
    queued_ns: Many[Ns] = ()
    submit_ns: Many[Ns] = ()
    start_ns: Many[Ns] = ()
    end_ns: Many[Ns] = ()


class Note(_OfProcess):
    """Something that the layer left alone."""

    event: Literal["note"]
    text: LongText


class End(_OfProcess):
    """The process ended by itself."""

    event: Literal["end"]
    dropped: Small
    unseen: Small = 0
    swallowed: Small = 0
    flushes: dict[str, Small] = Field(default_factory=dict)


Record = Header | Queue | Inference | Note | End
_RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="event")])


@dataclass(frozen=True)
class Records:
    """The records of the process with most kernels: a program may start others, which load the layer too."""

    header: Header
    inferences: tuple[Inference, ...]
    notes: tuple[str, ...]
    end: End | None
    processes: int
    queue: Queue | None


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
    queues = (one for one in mine if isinstance(one, Queue))
    return Records(
        header=headers[pid],
        inferences=tuple(one for one in mine if isinstance(one, Inference) and one.queue == number),
        notes=tuple(one.text for one in mine if isinstance(one, Note)),
        end=next((one for one in mine if isinstance(one, End)), None),
        processes=len(headers),
        queue=next((one for one in queues if one.queue == number and one.handled), None),
    )


def _records(output: bytes) -> Iterator[Record]:
    lines = _json_lines.split(output, "the OpenCL layer")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            one = _json_lines.read(_RECORD, line, f"layer record, line {number}")
        except MeasurementError:
            # The last line may be cut, and so may the one before a process that began afterwards.
            if number == len(lines) or b'"event":"header"' in lines[number].replace(b" ", b""):
                continue
            raise
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
