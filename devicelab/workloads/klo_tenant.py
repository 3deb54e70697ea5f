"""Inferences on OpenCL as a tenant: ``native/klo.cpp`` serves requests, so that priorities can be tried on a phone.

Without OpenCL each process computes a GPU of its own (emulated, marked as simulated): then only the CPU is shared.
"""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from devicelab.model.measurement import Measurement
from devicelab.model.plan import Noun
from devicelab.workloads._requests import parse_requests
from devicelab.workloads.base import CommandLine, Context

NATIVE: tuple[str, ...] = ("klo",)
FILES: tuple[str, ...] = ()

_Word = Annotated[str, StringConstraints(pattern=r"^[^\s-][^\n\x00]{0,199}$")]


class Params(Noun):
    """Parameters of the tenant.

    Attributes:
        backend: ``opencl``, ``emulated``, or ``auto``: OpenCL if the device has it.
        network: as in the workload ``klo``; one inference is one request.
        k: kernels per flush; 0 is everything in one flush.
        queue: requests that may wait; older ones are dropped (0: none are).
        warmup: inferences before the common start.
        platform, device: index or part of the name of the OpenCL platform and device.
        emulation: file with the emulated GPU's parameters on the device.
        work_pct: parameter work per kernel, in percent of the usual.
    """

    backend: Literal["opencl", "emulated", "auto"] = "auto"
    network: _Word = "mobilenet_v1"
    k: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    queue: Annotated[int, Field(ge=0, le=10**9)] = 0
    warmup: Annotated[int, Field(ge=1, le=100_000)] = 20
    platform: _Word | None = None
    device: _Word | None = None
    emulation: _Word | None = None
    work_pct: Annotated[int, Field(ge=0, le=100_000)] = 100


def command(params: Params, context: Context) -> CommandLine:
    """The command line of one tenant process."""
    words: list[object] = [f"{context.dir}/klo", "--serve", context.arrivals, "--duration-s", context.duration_s]
    words += ["--arrival-seed", context.seed, *context.in_windows]
    for name, value in params.model_dump(exclude_none=True).items():
        words += [f"--{name.replace('_', '-')}", value]
    return CommandLine(tuple(map(str, words)), barrier=True)


def parse(output: bytes, params: Params) -> Measurement:  # noqa: ARG001 - every workload is given its parameters
    """See ``parse_requests``; an emulated GPU marks its figures as simulated."""
    measured = parse_requests(output, "klo")
    return replace(measured, simulated=measured.info.get("simulated") is not False)
