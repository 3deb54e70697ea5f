"""What a workload is: how to build its command line and how to read its output.

A workload is a module in this folder with

- ``Params``: a frozen pydantic model of its parameters (units in the names; unknown keys are errors),
- ``NATIVE``: names of programs in ``native/`` to build for it (``()`` if none), ``FILES``: other files to push,
- ``command(params, context) -> CommandLine``: argv and environment; pure,
- ``parse(output, params) -> Measurement``: pure; raises ``MeasurementError`` for output it cannot use at all and
  sets flags for output it can use in part.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Context:
    """Where things are on the device.

    ``dir`` is the directory of the plan's binaries; ``python`` the interpreter for script workloads; ``duration_s``
    how long a tenant runs; ``arrivals`` as in ``Tenant``; ``seed`` for arrivals; ``simulated`` virtual board.
    """

    dir: str = "{dir}"
    python: str = "python3"
    duration_s: float = 60.0
    arrivals: str = "continuous"
    deadline_ms: float | None = None
    seed: int = 1
    tenant: str = ""
    simulated: bool = False


@dataclass(frozen=True)
class CommandLine:
    """argv and environment of a program, with what it supports."""

    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    barrier: bool = False
