"""Benchmark examples of Arm Compute Library (built with ``benchmark_examples=1``), stock or patched.

They run a network through OpenCL and print the timestamps of every kernel. The stock library flushes as it likes; a
patched one may be told K (see ``OwnBinary``). Timer instruments swap in a profiling queue, so the wall time of a run
with one of them is no latency: measure latency in runs of its own with ``instruments = ["wall_clock_timer"]``.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from devicelab.errors import MeasurementError
from devicelab.model.journal import Flag
from devicelab.model.measurement import Measurement, Metric, Table
from devicelab.workloads._acl_output import UNITS_NS, AclOutput, Series, read
from devicelab.workloads._own_binary import OwnBinary, Text, from_stamps, nanoseconds, positive
from devicelab.workloads.base import CommandLine, Context

NATIVE: tuple[str, ...] = ()
FILES: tuple[str, ...] = ()

_STAMPS = ("queued", "flushed", "start", "end")


class Params(OwnBinary):
    """Parameters of the benchmark; see ``OwnBinary`` for K.

    Attributes:
        binary: path of the program on the device ("/data/local/tmp/benchmark_graph_mobilenet").
        instruments: names as its ``--help`` lists them; ask for nanoseconds (no ``_us`` or ``_ms``), scaled timestamps
            are cut to whole units.
        iterations: the first is not printed by the library, so at least 2.
        target, data_type: ``--target`` and ``--type`` of the example.
        example_args: more arguments of the example ("--threads=1"), without commas.
        output: ``json`` (written to the program's standard output by name) or ``text``, for versions without
            ``--json-file`` or devices that do not let a program open /dev/stdout.
        library_path: where libOpenCL.so and libarm_compute*.so are, if the loader does not find them.
    """

    binary: Text
    instruments: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")], ...] = (
        "opencl_timestamps",
        "wall_clock_timer",
    )
    iterations: Annotated[int, Field(ge=2, le=100_000)] = 20
    target: str = "CL"
    data_type: str = "F16"
    example_args: tuple[Annotated[str, Field(pattern=r"^[^,\x00\n]+$")], ...] = ()
    output: Literal["json", "text"] = "json"
    library_path: str | None = None


def command(params: Params, context: Context) -> CommandLine:
    """The command line; K as an argument goes to the example, not to the benchmark around it."""
    example = (f"--target={params.target}", f"--type={params.data_type}", *params.example_args, *params.k_argument())
    form = ("--log-format=none", "--json-file=/dev/stdout") if params.output == "json" else ("--log-format=pretty",)
    argv = (
        params.binary.replace("{dir}", context.dir),
        f"--instruments={','.join(params.instruments)}",
        f"--iterations={params.iterations}",
        *form,
        f"--example_args={','.join(example)}",
    )
    line = params.line(argv)
    if params.library_path is not None:
        line.env.setdefault("LD_LIBRARY_PATH", params.library_path)
    return line


def parse(output: bytes, params: Params) -> Measurement:
    """Tables ``kernels`` and ``inferences`` from timestamps, ``durations`` from timers, wall-clock metrics.

    Flags: ``timestamps-truncated`` (a unit coarser than ns), ``timestamps-out-of-order``, ``iterations-missing``
    (fewer than asked for).

    Raises:
        MeasurementError: no measurement, cut output, kernels missing in the middle, or values that are no numbers.
    """
    told = read(output)
    measured = Measurement()
    flags: list[Flag] = []
    if told.stamps and told.source == "json":
        stamps = _stamps(told)
        coarse = {series.unit for kernels in told.stamps.values() for series in kernels.values()} - {"ns"}
        if coarse:
            detail = f"timestamps in {', '.join(sorted(coarse))} are cut to whole units: ask for ns"
            flags.append(Flag(code="timestamps-truncated", detail=detail))
        measured = from_stamps(stamps)
    elif told.stamps:
        flags.append(Flag(code="timestamps-truncated", detail="text has medians of timestamps only: use JSON"))
    tables, metrics = dict(measured.tables), dict(measured.metrics)
    if told.durations:
        tables["durations"] = _durations(told.durations)
        per_inference = tables["durations"]["t_ker_ns"].reshape(-1, len(told.durations)).sum(axis=1)
        metrics.setdefault("t_ker_sum_ns", Metric(float(np.median(per_inference)), "ns"))
    if told.wall is not None:
        wall = positive(_times(told.wall, "wall clock"))
        # Any of the OpenCL instruments replaces the queue by a profiling one.
        name = "total_profiled_wall_ns" if told.stamps or told.durations else "total_ns"
        metrics[name] = Metric(float(np.median(wall)), "ns")
        tables["wall"] = {"iteration": np.arange(wall.size, dtype=np.int64), "total_ns": wall}
    counts = [len(tables["inferences"]["inference"])] if "inferences" in tables else []
    counts += [len(series.values) for series in (told.wall, *told.durations.values()) if series is not None]
    seen = min(counts, default=0)
    if told.source == "json" and 0 < seen < params.iterations - 1:
        detail = f"{seen} iterations of {params.iterations} were printed"
        flags.append(Flag(code="iterations-missing", detail=detail))
    return Measurement(tables, metrics, _info(told, measured.info), (*measured.flags, *flags))


def _stamps(found: AclOutput) -> tuple[NDArray[np.int64], ...]:
    """The four timestamps as arrays of shape (inferences, kernels)."""
    missing = [name for name in _STAMPS if name not in found.stamps]
    if missing:
        raise MeasurementError(f"the benchmark printed no [{missing[0]}] timestamps")
    matrices = tuple(_matrix(found.stamps[name], f"[{name}]") for name in _STAMPS)
    if len({matrix.shape for matrix in matrices}) != 1:
        counts = ", ".join(f"[{name}] {m.shape[0]} x {m.shape[1]}" for name, m in zip(_STAMPS, matrices, strict=True))
        raise MeasurementError(f"the timestamps do not fit together (values x kernels): {counts}")
    return matrices


def _matrix(kernels: Mapping[int, Series], what: str) -> NDArray[np.int64]:
    """Series of kernels 0..N-1 as an array of shape (inferences, kernels).

    Raises:
        MeasurementError: a kernel is missing, or has another number of values than the first.
    """
    for place in range(len(kernels)):
        if place not in kernels:
            raise MeasurementError(f"{what} of kernel #{place} is missing; the last one is #{max(kernels)}")
    columns = [_times(kernels[place], f"{what} of kernel #{place}") for place in range(len(kernels))]
    for place, column in enumerate(columns):
        if column.size != columns[0].size or column.size == 0:
            raise MeasurementError(
                f"{what} of kernel #{place} has {column.size} values, kernel #0 has {columns[0].size}"
            )
    return np.column_stack(columns)


def _times(series: Series, what: str) -> NDArray[np.int64]:
    scale = UNITS_NS.get(series.unit)
    if scale is None:
        raise MeasurementError(f"{what}: {series.unit[:20]!r} is no unit of time")
    return np.array([nanoseconds(value, scale, what) for value in series.values], dtype=np.int64)


def _durations(kernels: Mapping[int, Series]) -> Table:
    matrix = _matrix(kernels, "duration")
    count, n = matrix.shape
    return {
        "inference": np.repeat(np.arange(count, dtype=np.int64), n),
        "kernel": np.tile(np.arange(n, dtype=np.int64), count),
        "t_ker_ns": matrix.ravel(),
    }


def _info(found: AclOutput, more: Mapping[str, str | int | float | bool]) -> dict[str, str | int | float | bool]:
    info: dict[str, str | int | float | bool] = {"backend": "acl", "output": found.source, **more}
    for key, name in (("Version", "version"), ("CL_DEVICE_VERSION", "driver"), ("CommandLine", "command_line")):
        if key in found.info:
            info[name] = found.info[key][:500]
    if found.names:
        info.setdefault("kernels", len(found.names))
    return info
