"""Kernel launch overhead of a network's kernels on a GPU: ``native/klo.cpp``.

One process is one repetition. Its output is JSON lines: a header, one object an inference, an end object.
"""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StringConstraints, model_validator

from devicelab.errors import MeasurementError
from devicelab.model.journal import Flag
from devicelab.model.measurement import Measurement, Metric, Table
from devicelab.model.schedule import Scheduled
from devicelab.workloads._klo_output import Foreground, Header, read_output
from devicelab.workloads._launches import (
    GPU_KINDS,
    STAMPS,
    extensions_text,
    kernel_metrics,
    kernel_table,
    timestamp_flags,
)
from devicelab.workloads.base import AS_TEXT, CommandLine, Context

NATIVE: tuple[str, ...] = ("klo",)
FILES: tuple[str, ...] = ()

_CostNs = Annotated[int, Field(ge=0, le=1_000_000_000)]
Costs = Annotated[tuple[_CostNs, ...], Field(min_length=3, max_length=4), AS_TEXT]
"""Flush, start on an idle GPU, gap between batches, and what each kernel of a batch adds to its flush, ns."""

_FEWEST_FRAMES = 20
_Count = Annotated[int, Field(ge=0, le=100_000)]
_Word = Annotated[str, StringConstraints(pattern=r"^[^\s-][^\n\x00]{0,199}$")]


class Params(Scheduled):
    """Parameters of the measurement.

    Attributes:
        backend: ``opencl``, ``emulated`` (a computed GPU timeline, marked as simulated), or ``auto``: OpenCL if the
            device has it.
        network: ``mobilenet_v1``, ``mobilenet_v2``, ``resnet50``, ``squeezenet``, or a file on the device.
        policy: flush every ``k`` kernels (``constant``), by ``schedule`` (``static``), or planned at each flush
            (``dynamic``).
        k: kernels per flush; 0 is everything in one flush.
        schedule: lengths of the batches, as a list or as text "4,4,8"; they sum up to the network's kernels.
        made_for: the condition that the schedule was made for; ``devicelab klo plan`` writes it. Runs under another
            one are invalid.
        foreign_schedule: use the schedule elsewhere all the same: such runs count, with a remark.
        inferences, plain, warmup: with every kernel's timestamps; without a profiling queue; before both.
        profile: inferences that give the planner its p and g (``dynamic`` only).
        costs_ns: flush, start on an idle GPU, gap between batches, and (may be left out) what each kernel of a batch
            adds to its flush: what the planner takes them to be (``dynamic`` with ``opencl`` needs them).
        flush_ns, start_idle_ns, gap_ns, flush_per_kernel_ns: costs of the emulated GPU, instead of its nominal ones or
            the board's.
        emulation: file with the emulated GPU's parameters on the device.
        platform, device: index or part of the name of the OpenCL platform and device.
        work_pct: parameter work per kernel, in percent of the usual.
        seed: of weights and input.
        pin: CPU of the producer, CPU of the driver's threads and perhaps CPU of the foreground ("0,4,5"), with OpenCL:
            sharing cores, who runs when decides more than K does. Left to the kernel if not given.
        foreground_hz: beside the plain inferences a foreground program draws so many frames a second, each one kernel
            on the same device (OpenCL only). 0: none.
        foreground_units, foreground_ker_ns: parameter work and kernel time of a frame, as of a ``kernel`` of a network.
        foreground_frames: plain inferences go on until so many frames were due.
        foreground_within_ms: what the frames' 95th percentile is to keep, for the analysis ``contract``. 0: no bound.
        foreground_queue: the frames have a queue of their own (``own``), or that of the inferences (``shared``).
    """

    backend: Literal["opencl", "emulated", "auto"] = "auto"
    network: _Word = "mobilenet_v1"
    policy: Literal["constant", "static", "dynamic"] = "constant"
    k: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    schedule: Annotated[tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...], AS_TEXT] = ()
    inferences: _Count = 10
    plain: _Count = 10
    warmup: _Count = 3
    profile: Annotated[int, Field(ge=1, le=100_000)] = 5
    costs_ns: Costs | None = None
    flush_ns: _CostNs | None = None
    start_idle_ns: _CostNs | None = None
    gap_ns: _CostNs | None = None
    flush_per_kernel_ns: _CostNs | None = None
    emulation: _Word | None = None
    platform: _Word | None = None
    device: _Word | None = None
    work_pct: Annotated[int, Field(ge=0, le=100_000)] = 100
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 1
    pin: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,4},[0-9]{1,4}(,[0-9]{1,4})?$")] | None = None
    foreground_hz: Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)] = 0
    foreground_units: Annotated[int, Field(ge=0, le=10_000_000)] = 200
    foreground_ker_ns: _CostNs = 20_000
    foreground_frames: Annotated[int, Field(ge=20, le=100_000)] = 200
    foreground_within_ms: Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)] = 0
    foreground_queue: Literal["own", "shared"] = "own"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.policy == "static" and not self.schedule:
            raise ValueError('policy "static" needs a schedule')
        if self.inferences + self.plain == 0:
            raise ValueError("inferences and plain are both 0: nothing to measure")
        if self.foreground_hz and (self.plain == 0 or self.backend == "emulated" or self.foreground_hz < 0.1):
            raise ValueError("a foreground (0.1 Hz at least) runs beside plain inferences, on OpenCL")
        return self


def command(params: Params, context: Context) -> CommandLine:
    """The command line of one repetition."""
    words: list[object] = [f"{context.dir}/klo", "--backend", params.backend, "--network", params.network]
    if params.policy == "constant":
        words += ["--k", params.k]
    elif params.policy == "static":
        words += ["--schedule", ",".join(map(str, params.schedule))]
    else:
        words += ["--dynamic", "--profile", params.profile]
        if params.costs_ns is not None:
            words += ["--costs", ",".join(map(str, params.costs_ns))]
    for name in (
        "warmup",
        "inferences",
        "plain",
        "work_pct",
        "seed",
        "flush_ns",
        "start_idle_ns",
        "gap_ns",
        "flush_per_kernel_ns",
    ):
        value = getattr(params, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", value]
    for name in ("emulation", "platform", "device", "pin"):
        value = getattr(params, name)
        if value is not None:
            words += [f"--{name}", value]
    if params.foreground_hz:
        period_ns = round(1e9 / params.foreground_hz)
        frame = (period_ns, params.foreground_units, params.foreground_ker_ns, params.foreground_frames)
        words += ["--foreground", ",".join(map(str, frame))]
        words += ["--foreground-queue", params.foreground_queue]
    return CommandLine(tuple(map(str, words)))


def parse(output: bytes, params: Params) -> Measurement:
    """The output of klo as tables ``kernels`` and ``inferences``, metrics, facts and flags.

    Flags: ``output-truncated`` (no end object; what came is used), those of ``timestamp_flags``, ``wrong-parameters``
    (the program says it measured something else than it was asked for), ``foreground-starved`` (fewer than 20 frames).

    With a foreground also the table ``frames`` and ``foreground_p50_ns``, ``foreground_p95_ns``, ``foreground_max_ns``:
    from when a frame was due until it was there, over all that were due.

    Raises:
        MeasurementError: not klo's output, damaged inside, or no whole measured inference; names the line.
    """
    read = read_output(output)
    measured = [one for one in read.inferences if one.phase in {"profiled", "plain"}]
    if not measured:
        raise MeasurementError(
            "klo's output has no measured inference", hint="was it killed, or did it run out of time?"
        )
    flags = [*read.flags, *_mismatches(read.header, params)]
    profiled = np.array([one.phase == "profiled" for one in measured])
    total = np.array([one.total_ns for one in measured], dtype=np.int64)
    flushes = np.array([len(one.batches) for one in measured], dtype=np.int64)
    tables: dict[str, Table] = {
        "inferences": {
            "inference": np.arange(len(measured), dtype=np.int64),
            "profiled": profiled.astype(np.int64),
            "begin_ns": np.array([one.begin_ns for one in measured], dtype=np.int64),
            "total_ns": total,
            "flushes": flushes,
        }
    }
    metrics = _wall_metrics(total, profiled)
    metrics["flushes"] = Metric(float(np.median(flushes)), "1")
    flush_ns = np.concatenate([np.array(one.flush_ns, dtype=np.int64) for one in measured])
    metrics["flush_mean_ns"] = Metric(float(flush_ns.mean()), "ns")
    metrics["k"] = Metric(float(read.header.k), "1")
    if read.header.policy == "dynamic":
        metrics["planning_ns"] = Metric(float(np.median([one.planning_ns for one in measured])), "ns")
    if profiled.any():
        rows = np.flatnonzero(profiled)
        stamps = [np.array([getattr(measured[row], name) for row in rows], dtype=np.int64) for name in STAMPS]
        tables["kernels"] = kernel_table(rows, *stamps)
        metrics |= kernel_metrics(*stamps)
        flags += timestamp_flags(*stamps)
    if read.foreground is not None:
        tables["frames"], more, told = _frames(read.foreground)
        metrics |= more
        flags += told
    elif params.foreground_hz:
        flags.append(Flag(code="wrong-parameters", detail="klo says nothing of the foreground that it was asked for"))
    return Measurement(tables, metrics, _info(read.header), tuple(flags), simulated=read.header.simulated)


def _frames(said: Foreground) -> tuple[Table, dict[str, Metric], list[Flag]]:
    table: Table = {
        "scheduled_ns": np.array(said.scheduled_ns, dtype=np.int64),
        "end_ns": np.array(said.end_ns, dtype=np.int64),
    }
    took = table["end_ns"] - table["scheduled_ns"]
    metrics = {"foreground_drawn": Metric(float(said.drawn), "1"), "foreground_due": Metric(float(took.size), "1")}
    if took.size < _FEWEST_FRAMES:
        detail = f"{took.size} frames beside the inferences; {_FEWEST_FRAMES} at least tell a 95th percentile"
        return table, metrics, [Flag(code="foreground-starved", detail=f"{detail}: raise plain or foreground_hz")]
    for name, share in (("p50", 50), ("p95", 95), ("max", 100)):
        metrics[f"foreground_{name}_ns"] = Metric(float(np.percentile(took, share)), "ns")
    return table, metrics, []


def _wall_metrics(total: NDArray[np.int64], profiled: NDArray[np.bool_]) -> dict[str, Metric]:
    metrics = {}
    if not profiled.all():
        metrics["total_ns"] = Metric(float(np.median(total[~profiled])), "ns")
    if profiled.any():
        metrics["total_profiled_ns"] = Metric(float(np.median(total[profiled])), "ns")
    if len(metrics) == 2 and metrics["total_ns"].value > 0:
        cost = 100 * (metrics["total_profiled_ns"].value / metrics["total_ns"].value - 1)
        metrics["profiling_cost_pct"] = Metric(cost, "pct")
    return metrics


def _mismatches(header: Header, params: Params) -> Iterator[Flag]:
    name = params.network.rsplit("/", 1)[-1][:63]
    k = params.k if 0 < params.k < header.kernels else header.kernels
    asked: list[tuple[str, object, object]] = [
        ("network", name, header.network),
        ("policy", params.policy, header.policy),
        ("k", k if params.policy == "constant" else 0, header.k),
    ]
    if params.backend != "auto":
        asked.append(("backend", params.backend, header.backend))
    if params.pin is not None:
        asked.append(("pin", ",".join(params.pin.split(",")[:2]), f"{header.producer_cpu},{header.driver_cpu}"))
    for what, wanted, found in asked:
        if wanted != found:
            yield Flag(code="wrong-parameters", detail=f"asked for {what} {wanted!r}, klo measured {str(found)[:80]!r}")


def _info(header: Header) -> dict[str, str | int | float | bool]:
    return {
        "backend": header.backend,
        "simulated": header.simulated,
        "gpu": "emulated GPU" if header.backend == "emulated" else GPU_KINDS.get(header.device_type, "unknown"),
        "platform": header.platform[:200],
        "device": header.device[:200],
        "driver": header.driver[:200],
        "extensions": extensions_text(header.extensions),
        "network": header.network,
        "kernels": header.kernels,
        "policy": header.policy,
        "k": header.k,
        "emulation": header.emulation[:200],
        "clock": header.clock[:40],
        "device_minus_host_ns": header.device_minus_host_ns,
    }
