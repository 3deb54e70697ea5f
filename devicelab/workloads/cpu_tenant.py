"""A light tenant that serves requests of CPU work (``native/cpu_tenant.cpp``): priority experiments on any machine."""

from typing import Annotated

from pydantic import Field

from devicelab.model.measurement import Measurement
from devicelab.model.plan import Noun
from devicelab.workloads._requests import parse_requests
from devicelab.workloads.base import CommandLine, Context

NATIVE: tuple[str, ...] = ("cpu_tenant",)
FILES: tuple[str, ...] = ()


class Params(Noun):
    """Parameters of the tenant.

    Attributes:
        work_us: CPU time of a request on an idle core at its present clock, in microseconds.
        queue: requests that may wait; older ones are dropped (0: none are).
    """

    work_us: Annotated[float, Field(ge=0.1, le=1e8)] = 1000.0
    queue: Annotated[int, Field(ge=0, le=10**9)] = 0


def command(params: Params, context: Context) -> CommandLine:
    """The command line of one tenant process."""
    words = ("--work-us", params.work_us, "--arrivals", context.arrivals, "--duration-s", context.duration_s)
    more = ("--seed", context.seed, "--queue", params.queue)
    return CommandLine((f"{context.dir}/cpu_tenant", *map(str, (*words, *more, *context.in_windows))), barrier=True)


def parse(output: bytes, params: Params) -> Measurement:  # noqa: ARG001 - every workload is given its parameters
    """See ``parse_requests``."""
    return parse_requests(output, "cpu_tenant")
