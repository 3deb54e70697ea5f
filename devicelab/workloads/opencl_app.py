"""Somebody else's OpenCL program behind the OpenCL layer: its launches are recorded and its flush period is set.

The program is neither patched nor told. Its own standard output goes where its error text goes: the end of both is in
the run's record. See ``docs/reference/opencl-layer.md`` for what the layer does.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from devicelab.errors import MeasurementError
from devicelab.model.journal import Flag
from devicelab.model.measurement import Measurement, Metric, Table
from devicelab.model.schedule import Scheduled
from devicelab.workloads._launches import (
    GPU_KINDS,
    STAMPS,
    extensions_text,
    kernel_metrics,
    kernel_table,
    timestamp_flags,
)
from devicelab.workloads._layer_output import Inference, Records, read_records
from devicelab.workloads._own_binary import Text, Variable
from devicelab.workloads.base import AS_TEXT, CommandLine, Context
from devicelab.workloads.klo import Costs

NATIVE: tuple[str, ...] = ("opencl_layer",)
FILES: tuple[str, ...] = ()

# Inferences in which something that the program did made the layer flush besides K.
_FEW_OTHERS = 0.01
# Puts the layer in front and becomes the program. As a stand-in it has the name that programs look for; where Android's
# build.prop is there is no loader of layers. The records go to the standard output, the program's own to stderr.
_IN_FRONT = """\
dir=$1 form=$2
shift 2
if [ "$form" = auto ]; then
  if [ -e /system/build.prop ]; then form=stand-in; else form=layer; fi
fi
if [ "$form" = layer ]; then
  export OPENCL_LAYERS="$dir/opencl_layer"
else
  mkdir -p "$dir/layer" || exit 126
  ln -sf "$dir/opencl_layer" "$dir/layer/libOpenCL.so" || exit 126
  ln -sf "$dir/opencl_layer" "$dir/layer/libOpenCL.so.1" || exit 126
  export LD_LIBRARY_PATH="$dir/layer${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
exec 3>&1 1>&2
export DEVICELAB_LAYER_OUT=fd:3
exec "$@"
"""


class Params(Scheduled):
    """Parameters of the program and of the layer.

    Attributes:
        argv: program and arguments, executed directly. ``{dir}`` at the start of a word stands for the directory of the
            plan's binaries.
        env: variables for the program, ``NAME=value``.
        policy: ``own`` (the program flushes as it likes), ``constant`` (every ``k`` kernels), ``static`` (by
            ``schedule``), or ``dynamic`` (planned at each flush, as by klo).
        k: kernels a flush; 0 is one flush before each wait.
        schedule: lengths of the batches, as a list or as text "4,4,8". It holds for inferences of that many kernels: a
            program that does not have them is flagged.
        made_for: the condition that the schedule was made for; ``devicelab klo plan`` writes it. Runs under another
            one are invalid.
        foreign_schedule: use the schedule elsewhere all the same: such runs count, with a remark.
        costs_ns: flush, start on an idle GPU, gap between batches, flush per kernel (``dynamic`` only; the last may be
            left out).
        form: ``layer`` (an OpenCL loader is there), ``stand-in`` (a ``libOpenCL.so`` in front of the vendor's), or
            ``auto``: stand-in on Android.
        profiling: timestamps of every kernel. Without, the times of inferences are undisturbed.
        warmup: inferences at the start that do not count.
        min_kernels: fewer between two waits are no inference.
        non_uniform: tell the program that work-groups need not be uniform, which Arm Compute Library insists on.
        library: the vendor's OpenCL library, if the stand-in does not find it.
    """

    argv: Annotated[tuple[Text, ...], Field(min_length=1)]
    env: tuple[Variable, ...] = ()
    policy: Literal["own", "constant", "static", "dynamic"] = "constant"
    k: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    schedule: Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], AS_TEXT] = ()
    costs_ns: Costs | None = None
    form: Literal["auto", "layer", "stand-in"] = "auto"
    profiling: bool = True
    warmup: Annotated[int, Field(ge=0, le=100_000)] = 3
    min_kernels: Annotated[int, Field(ge=1, le=1_000_000)] = 2
    non_uniform: bool = False
    library: Text | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.policy == "static" and not self.schedule:
            raise ValueError('policy "static" needs a schedule')
        if self.policy == "dynamic" and self.costs_ns is None:
            raise ValueError('policy "dynamic" needs costs_ns, the launch costs measured on this device')
        if self.policy == "dynamic" and not self.profiling:
            raise ValueError('policy "dynamic" needs profiling')
        return self


def command(params: Params, context: Context) -> CommandLine:
    """The program with the layer in front."""
    told: dict[str, object] = {
        "profiling": int(params.profiling),
        "min_kernels": params.min_kernels,
        "non_uniform": int(params.non_uniform),
    }
    if params.policy == "constant":
        told["k"] = params.k
    elif params.policy == "static":
        told["schedule"] = ",".join(map(str, params.schedule))
    elif params.policy == "dynamic":
        told |= {"dynamic": 1, "costs": ",".join(map(str, params.costs_ns or ()))}
    if params.library is not None:
        told["opencl_lib"] = params.library
    env = dict(one.split("=", 1) for one in params.env)
    env |= {f"DEVICELAB_LAYER_{name.upper()}": str(value) for name, value in told.items()}
    argv = (context.dir + word[5:] if word.startswith("{dir}") else word for word in params.argv)
    return CommandLine(("sh", "-c", _IN_FRONT, "sh", context.dir, params.form, *argv), env)


def parse(output: bytes, params: Params) -> Measurement:
    """The layer's records as tables ``kernels`` and ``inferences``, metrics, facts and flags.

    What counts are the inferences with the usual number of kernels, without the first ``warmup`` of them.

    Flags: ``layer-refused`` (the layer did not understand what it was told), ``wrong-parameters``, ``k-not-steered``
    (flushes besides K in more than 1 % of the inferences), ``schedule-misfit`` (the schedule is for another number of
    kernels), ``kernels-dropped``, ``output-truncated`` (the process was killed; what it left is used), those of
    ``timestamp_flags``, and as remarks what the layer left alone.

    Raises:
        MeasurementError: no record, a damaged one, or no inference that counts.
    """
    read = read_records(output)
    usual = _usual(read.inferences)
    found = [one for one in read.inferences if one.kernels == usual][params.warmup :]
    if not found:
        raise MeasurementError(
            f"{len(read.inferences)} inferences of the program were seen, {params.warmup} of which are warm-up",
            hint="let it run more inferences, or lower warmup",
        )
    stamped = [one for one in found if one.queued_ns]
    total = np.array([one.total_ns for one in found], dtype=np.int64)
    flushes = np.array([len(one.batches) for one in found], dtype=np.int64)
    timed = params.profiling and found[0].ker_sum_ns is not None
    tables: dict[str, Table] = {
        "inferences": {
            "inference": np.arange(len(found), dtype=np.int64),
            "profiled": np.full(len(found), int(timed), dtype=np.int64),
            "begin_ns": np.array([one.begin_ns for one in found], dtype=np.int64),
            "total_ns": total,
            "flushes": flushes,
            "own_flushes": np.array([one.own_flushes for one in found], dtype=np.int64),
        }
    }
    metrics = {
        "total_profiled_ns" if timed else "total_ns": Metric(float(np.median(total)), "ns"),
        "flushes": Metric(float(np.median(flushes)), "1"),
        "own_flushes": Metric(float(np.median(tables["inferences"]["own_flushes"])), "1"),
        "k": Metric(float((params.k or usual) if params.policy == "constant" else 0), "1"),
    }
    if read.header.policy == "dynamic":
        metrics["planning_ns"] = Metric(float(np.median([one.planning_ns for one in found])), "ns")
    flags = list(_flags(read, found, usual, params))
    if stamped:
        stamps = [
            np.array([getattr(one, name) for one in stamped], dtype=np.int64)
            + np.array([[one.device_ns] for one in stamped], dtype=np.int64)
            for name in STAMPS
        ]
        tables["kernels"] = kernel_table(np.arange(len(stamped), dtype=np.int64), *stamps)
        metrics |= kernel_metrics(*stamps)
        flush_ns = np.concatenate([np.array(one.flush_ns, dtype=np.int64) for one in stamped])
        metrics["flush_mean_ns"] = Metric(float(flush_ns.mean()), "ns")
        flags += timestamp_flags(*stamps)
    noop = read.queue is not None and read.queue.noop
    return Measurement(tables, metrics, _info(read, usual, len(found)), tuple(flags), simulated=noop)


def _usual(inferences: tuple[Inference, ...]) -> int:
    """The number of kernels that inferences have, by how many kernels ran in such inferences."""
    kernels: Counter[int] = Counter()
    for one in inferences:
        kernels[one.kernels] += one.kernels
    return kernels.most_common(1)[0][0] if kernels else 0


def _flags(read: Records, found: list[Inference], usual: int, params: Params) -> Iterator[Flag]:
    header = read.header
    if header.wrong:
        yield Flag(code="layer-refused", detail=header.wrong[:200])
    asked = (params.policy, params.k if params.policy == "constant" else 0, params.schedule)
    said = (header.policy, header.k, header.schedule)
    if asked != said and not header.wrong:
        yield Flag(code="wrong-parameters", detail=f"asked for {asked}, the layer did {said}"[:200])
    expected = None
    if params.policy == "constant":
        expected = math.ceil(usual / params.k) if params.k else 1
    elif params.policy == "static":
        expected = len(params.schedule)
        if sum(params.schedule) != usual:
            detail = f"the schedule is for {sum(params.schedule)} kernels, an inference has {usual}"
            yield Flag(code="schedule-misfit", detail=detail)
            expected = None
    others = sum(len(one.batches) != expected for one in found) if expected is not None else 0
    if others:
        detail = f"{others} of {len(found)} inferences were not flushed {expected} times"
        yield Flag(code="k-not-steered", detail=detail, remark=others <= _FEW_OTHERS * len(found))
    if read.end is None:
        yield Flag(code="output-truncated", detail=f"the end record is missing after {len(read.inferences)} inferences")
    elif read.end.dropped:
        yield Flag(code="kernels-dropped", detail=f"{read.end.dropped} kernels were not recorded")
    if read.end is not None and read.end.flushes.get("silence"):
        detail = f"the program was silent while a flush was owed, {read.end.flushes['silence']} times"
        yield Flag(code="layer-watchdog", detail=detail, remark=True)
    for text in read.notes:
        yield Flag(code="layer-note", detail=text[:200], remark=True)
    if read.queue is not None and not read.queue.in_order:
        yield Flag(code="out-of-order-queue", detail="T_idle and gaps say nothing there", remark=True)


def _info(read: Records, usual: int, counted: int) -> dict[str, str | int | float | bool]:
    queue = read.queue
    kind = "unknown" if queue is None else GPU_KINDS["noop" if queue.noop else queue.type]
    return {
        "backend": "opencl",
        "simulated": queue is not None and queue.noop,
        "gpu": kind,
        "platform": queue.platform[:200] if queue else "",
        "device": queue.device[:200] if queue else "",
        "driver": queue.driver[:200] if queue else "",
        "extensions": extensions_text(queue.extensions if queue else ""),
        "network": read.header.program.rsplit("/", 1)[-1][:63],
        "form": read.header.form,
        "kernels": usual,
        "inferences": counted,
        "policy": read.header.policy,
        "k": read.header.k,
        "non_uniform": read.header.non_uniform,
        "processes": read.processes,
    }
