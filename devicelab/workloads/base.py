"""What a workload is: a program to run, how to build its command line and how to read its output (``Workload``)."""

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, BeforeValidator

from devicelab.model.device import Facts
from devicelab.model.measurement import Measurement
from devicelab.model.plan import Step

AS_TEXT = BeforeValidator(lambda value: value.replace(",", " ").split() if isinstance(value, str) else value)
"""Of a parameter that is a list: it may come as text ("4,4,8"), since a factor's level is one value."""


@dataclass(frozen=True)
class Context:
    """Where things are on the device.

    ``dir`` is the directory of the plan's binaries; ``python`` the interpreter for script workloads; ``duration_s``
    how long a tenant runs; ``arrivals`` as in ``Tenant``; ``seed`` for arrivals; ``simulated`` virtual board.
    ``windows`` of that length follow each other with ``pause_s`` between them, window w with the arrivals of
    ``seed + w``.
    """

    dir: str = "{dir}"
    python: str = "python3"
    duration_s: float = 60.0
    arrivals: str = "continuous"
    deadline_ms: float | None = None
    seed: int = 1
    tenant: str = ""
    simulated: bool = False
    windows: int = 1
    pause_s: float = 0.0

    @property
    def in_windows(self) -> tuple[str, ...]:
        """Words of a tenant's command line that ask for several windows; none for one."""
        return ("--windows", str(self.windows), "--pause-s", str(self.pause_s)) if self.windows > 1 else ()


@dataclass(frozen=True)
class CommandLine:
    """argv and environment of a program, with what it supports."""

    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    barrier: bool = False


class Workload(Protocol):
    """A workload.

    Attributes:
        Params: a frozen pydantic model of its parameters (units in the names; unknown keys are errors).
        NATIVE: names of programs in ``native/`` to build for it.
        FILES: other files to push: names in ``devicelab/workloads/scripts``, or absolute paths on this computer.
    """

    Params: type[BaseModel]
    NATIVE: tuple[str, ...]
    FILES: tuple[str, ...]

    def command(self, params: Any, context: Context) -> CommandLine:
        """Argv and environment for parameters that ``Params`` has read; pure."""
        ...

    def parse(self, output: bytes, params: Any) -> Measurement:
        """What the program's output says; pure. Flags say what of it can only be used in part.

        Raises:
            MeasurementError: it cannot be used at all.
        """
        ...


@runtime_checkable
class OnPython(Protocol):
    """A workload that runs on the interpreter which lab.toml names (``context.python``), where ``PYTHON`` is true."""

    PYTHON: bool


@runtime_checkable
class OnGpu(Protocol):
    """A workload that has its place on a GPU, as far as its parameters leave that open."""

    def needs_gpu(self, params: Any) -> bool:
        """With these parameters it belongs on the GPU of a board that has one: a run on the CPU is not believed."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """A workload for which something on the device has to be changed before it starts."""

    def steps(self, params: Any, facts: Facts) -> tuple[Step, ...]:
        """What is done before each run, each with its undo; pure.

        Raises:
            DeviceRefusedError: this device does not let us.
        """
        ...


def oddities(workload: Workload) -> tuple[str, ...]:
    """What of a workload's constants the types do not tell, a sentence each that says what to change."""
    config, found = workload.Params.model_config, []
    if config.get("extra") != "forbid":
        found.append('Params takes any key: give its model_config extra="forbid" (or derive it from Noun)')
    if not config.get("frozen"):
        found.append("Params can be changed: give its model_config frozen=True (or derive it from Noun)")
    return tuple(found)
