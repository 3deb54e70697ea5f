"""Kernel launch overhead of a network's kernels on a GPU: ``native/klo.cpp``.

One process is one repetition. Its output is JSON lines: a header, one object an inference, an end object.
"""

import hashlib
from collections.abc import Iterator
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StringConstraints, model_validator

from devicelab.errors import MeasurementError
from devicelab.model.journal import Flag
from devicelab.model.measurement import Measurement, Metric, Table
from devicelab.model.plan import Noun
from devicelab.workloads._klo_output import STAMPS, Header, read_output
from devicelab.workloads.base import AS_TEXT, CommandLine, Context

NATIVE: tuple[str, ...] = ("klo",)
FILES: tuple[str, ...] = ()

_FEW_CROSSED = 0.01
_CostNs = Annotated[int, Field(ge=0, le=1_000_000_000)]
Costs = Annotated[tuple[_CostNs, _CostNs, _CostNs], AS_TEXT]
"""Flush, start on an idle GPU, gap between batches, ns."""

_Count = Annotated[int, Field(ge=0, le=100_000)]
_Word = Annotated[str, StringConstraints(pattern=r"^[^\s-][^\n\x00]{0,199}$")]


class Params(Noun):
    """Parameters of the measurement.

    Attributes:
        backend: ``opencl``, ``emulated`` (a computed GPU timeline, marked as simulated), or ``auto``: OpenCL if the
            device has it.
        network: ``mobilenet_v1``, ``mobilenet_v2``, ``resnet50``, ``squeezenet``, or a file on the device.
        policy: flush every ``k`` kernels (``constant``), by ``schedule`` (``static``), or planned at each flush
            (``dynamic``).
        k: kernels per flush; 0 is everything in one flush.
        schedule: lengths of the batches, as a list or as text "4,4,8"; they sum up to the network's kernels.
        inferences, plain, warmup: with every kernel's timestamps; without a profiling queue; before both.
        profile: inferences that give the planner its p and g (``dynamic`` only).
        costs_ns: flush, start on an idle GPU, gap between batches: what the planner takes them to be (``dynamic``
            with ``opencl`` needs them).
        flush_ns, start_idle_ns, gap_ns: costs of the emulated GPU, instead of its nominal ones or the board's.
        emulation: file with the emulated GPU's parameters on the device.
        platform, device: index or part of the name of the OpenCL platform and device.
        work_pct: parameter work per kernel, in percent of the usual.
        seed: of weights and input.
        pin: CPU of the producer and CPU of the driver's threads ("0,4"), with OpenCL: sharing cores, who runs when
            decides more than K does. Left to the kernel if not given.
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
    emulation: _Word | None = None
    platform: _Word | None = None
    device: _Word | None = None
    work_pct: Annotated[int, Field(ge=0, le=100_000)] = 100
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 1
    pin: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,4},[0-9]{1,4}$")] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.policy == "static" and not self.schedule:
            raise ValueError('policy "static" needs a schedule')
        if self.inferences + self.plain == 0:
            raise ValueError("inferences and plain are both 0: nothing to measure")
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
    for name in ("warmup", "inferences", "plain", "work_pct", "seed", "flush_ns", "start_idle_ns", "gap_ns"):
        value = getattr(params, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", value]
    for name in ("emulation", "platform", "device", "pin"):
        value = getattr(params, name)
        if value is not None:
            words += [f"--{name}", value]
    return CommandLine(tuple(map(str, words)))


def parse(output: bytes, params: Params) -> Measurement:
    """The output of klo as tables ``kernels`` and ``inferences``, metrics, facts and flags.

    Flags: ``output-truncated`` (no end object; what came is used), those of ``timestamp_flags``, ``wrong-parameters``
    (the program says it measured something else than it was asked for).

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
    return Measurement(tables, metrics, _info(read.header), tuple(flags), simulated=read.header.simulated)


def infer_batches(queued_ns: NDArray[np.int64], submit_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which batch each kernel was really submitted in, counted from 0. Both arrays: inferences by kernels.

    K is only a hint to a driver, which may submit on its own. A kernel opens a batch if it was queued after the one
    before had been submitted already, or if it was submitted later than that one by more than half the usual T_prod
    (drivers that submit from another thread while the host goes on).
    """
    opens = np.ones(queued_ns.shape, dtype=bool)
    if queued_ns.shape[1] > 1:
        usual = np.median(np.diff(queued_ns, axis=1), axis=1, keepdims=True)
        apart = np.diff(submit_ns, axis=1) > np.maximum(usual / 2, 0)
        opens[:, 1:] = (queued_ns[:, 1:] > submit_ns[:, :-1]) | apart
    batches: NDArray[np.int64] = np.cumsum(opens, axis=1, dtype=np.int64) - 1
    return batches


def count_out_of_order(
    queued_ns: NDArray[np.int64], submit_ns: NDArray[np.int64], start_ns: NDArray[np.int64], end_ns: NDArray[np.int64]
) -> int:
    """Kernels that contradict QUEUED ≤ SUBMIT ≤ START ≤ END or the order of enqueueing (inferences by kernels)."""
    crossed = (queued_ns > submit_ns) | (submit_ns > start_ns) | (start_ns > end_ns)
    crossed[:, 1:] |= np.diff(queued_ns, axis=1) < 0
    return int(np.count_nonzero(crossed))


def timestamp_flags(
    queued_ns: NDArray[np.int64], submit_ns: NDArray[np.int64], start_ns: NDArray[np.int64], end_ns: NDArray[np.int64]
) -> tuple[Flag, ...]:
    """What is wrong with timestamps (inferences by kernels): ``timestamps-missing`` ``timestamps-out-of-order``.

    Real drivers cross a few now and then, which medians bear: up to 1 % of the kernels it is a remark.
    """
    stamps = {"QUEUED": queued_ns, "SUBMIT": submit_ns, "START": start_ns, "END": end_ns}
    for name, values in stamps.items():
        # One stamp may be 0, in a program that counts from its own start; all of an inference may not.
        if (values.shape[1] > 1 or name == "END") and (~values.any(axis=1)).any():
            detail = f"{name} is 0 for every kernel of an inference: the driver did not give it"
            return (Flag(code="timestamps-missing", detail=detail),)
    crossed = count_out_of_order(queued_ns, submit_ns, start_ns, end_ns)
    if not crossed:
        return ()
    detail = f"{crossed} of {queued_ns.size} kernels have timestamps out of order"
    few = crossed <= _FEW_CROSSED * queued_ns.size
    return (Flag(code="timestamps-out-of-order", detail=detail, remark=few),)


def kernel_table(
    rows: NDArray[np.int64],
    queued: NDArray[np.int64],
    submit: NDArray[np.int64],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
) -> Table:
    """The table ``kernels`` from timestamps (inferences by kernels); ``rows`` numbers the inferences."""
    count, kernels = queued.shape
    return {
        "inference": np.repeat(rows, kernels),
        "kernel": np.tile(np.arange(kernels, dtype=np.int64), count),
        "batch": infer_batches(queued, submit).ravel(),
        "queued_ns": queued.ravel(),
        "submit_ns": submit.ravel(),
        "start_ns": start.ravel(),
        "end_ns": end.ravel(),
    }


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


def kernel_metrics(
    queued: NDArray[np.int64], submit: NDArray[np.int64], start: NDArray[np.int64], end: NDArray[np.int64]
) -> dict[str, Metric]:
    """Figures from timestamps (inferences by kernels), all differences signed.

    The first kernel of an inference has no predecessor: it has no T_prod, T_idle, starved or launch share.
    """
    # Sums as floats: garbage of a driver must not wrap around.
    ker = (end - start).sum(axis=1, dtype=np.float64)
    before, later = end[:, :-1], start[:, 1:]
    starved = np.maximum(0, np.minimum(submit[:, 1:], later) - before)
    launch = later - np.maximum(submit[:, 1:], before)
    sums = {
        "t_ker_sum_ns": ker,
        "klo_total_ns": end[:, -1] - queued[:, 0] - ker,
        "idle_sum_ns": (later - before).sum(axis=1, dtype=np.float64),
        "starved_sum_ns": starved.sum(axis=1, dtype=np.float64),
        "launch_sum_ns": launch.sum(axis=1, dtype=np.float64),
    }
    metrics = {name: Metric(float(np.median(values)), "ns") for name, values in sums.items()}
    metrics["wait_for_flush_mean_ns"] = Metric(float((submit - queued).mean()), "ns")
    t_prod = np.diff(queued, axis=1)
    if t_prod.size:
        metrics["t_prod_mean_ns"] = Metric(float(t_prod.mean()), "ns")
        metrics["t_prod_median_ns"] = Metric(float(np.median(t_prod)), "ns")
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
        asked.append(("pin", params.pin, f"{header.producer_cpu},{header.driver_cpu}"))
    for what, wanted, found in asked:
        if wanted != found:
            yield Flag(code="wrong-parameters", detail=f"asked for {what} {wanted!r}, klo measured {str(found)[:80]!r}")


def _info(header: Header) -> dict[str, str | int | float | bool]:
    names = header.extensions.split()
    digest = hashlib.sha256(" ".join(sorted(names)).encode()).hexdigest()[:12]
    telling = [name for name in names if name.startswith(("cl_arm_", "cl_qcom_", "cl_img_", "cl_khr_priority"))]
    return {
        "backend": header.backend,
        "simulated": header.simulated,
        "platform": header.platform[:200],
        "device": header.device[:200],
        "driver": header.driver[:200],
        "extensions": " ".join((digest, *telling))[:2000],
        "network": header.network,
        "kernels": header.kernels,
        "policy": header.policy,
        "k": header.k,
        "emulation": header.emulation[:200],
        "clock": header.clock[:40],
        "device_minus_host_ns": header.device_minus_host_ns,
    }
