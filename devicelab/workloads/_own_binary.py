"""What workloads that run somebody else's program share: how K reaches it, and what may be made of its numbers."""

import math
import re
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StringConstraints, model_validator

from devicelab.errors import MeasurementError
from devicelab.ground import budget
from devicelab.model.journal import Flag
from devicelab.model.measurement import Column, Measurement, Metric, Table
from devicelab.model.plan import Noun
from devicelab.workloads._launches import kernel_metrics, kernel_table, timestamp_flags
from devicelab.workloads.base import CommandLine

_WHOLE = re.compile(r"[-+]?[0-9]{1,19}")
# Differences of two such times still fit 64 bits.
MOST_NS = 2**61
Text = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00\n]*$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*=[^\x00\n]*$")]
# Writes its first argument to the file named by the second, then becomes the rest: the program keeps the process id
# that the agent watches. Everything variable is an argument, so nothing is ever quoted.
_WRITE_THEN_EXEC = 'printf %s "$1" > "$2" && shift 2 && exec "$@"'


class OwnBinary(Noun):
    """Parameters of a program that devicelab did not build.

    Attributes:
        k: kernels per flush, if the program can be told; 0 is everything in one flush.
        k_via: how it is told: ``argument``, ``environment``, ``file`` (written on the device before the start), or
            ``none`` (the program does not know K).
        k_name: the argument with ``{k}`` where K goes ("--flush={k}"), the variable's name, or the file's path.
        env: variables for the program, ``NAME=value``.
    """

    k: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    k_via: Literal["none", "argument", "environment", "file"] = "none"
    k_name: str = ""
    env: tuple[Variable, ...] = ()

    @model_validator(mode="after")
    def _k_can_be_told(self) -> Self:
        if self.k_via == "argument" and "{k}" not in self.k_name:
            raise ValueError('k_via = "argument" needs a k_name with {k} in it, such as "--flush={k}"')
        if self.k_via == "environment" and not self.k_name.isidentifier():
            raise ValueError('k_via = "environment" needs the name of a variable as k_name')
        if self.k_via == "file" and not self.k_name.startswith("/"):
            raise ValueError('k_via = "file" needs the path of a file on the device as k_name')
        return self

    def k_argument(self) -> tuple[str, ...]:
        """K as an argument; empty if it goes another way."""
        return (self.k_name.replace("{k}", str(self.k)),) if self.k_via == "argument" else ()

    def line(self, argv: tuple[str, ...]) -> CommandLine:
        """The command line with K and the environment."""
        env = dict(one.split("=", 1) for one in self.env)
        if self.k_via == "environment":
            env[self.k_name] = str(self.k)
        if self.k_via == "file":
            argv = ("sh", "-c", _WRITE_THEN_EXEC, "sh", str(self.k), self.k_name, *argv)
        return CommandLine(argv, env)


def decoded(output: bytes) -> str:
    """What a program printed, as text.

    Raises:
        MeasurementError: it has more lines than any program prints.
    """
    try:
        budget.lines(output)
    except ValueError as error:
        raise MeasurementError(f"the output has {error}") from error
    return output.decode("utf-8", "replace")


def split(text: str) -> tuple[list[str], bool]:
    """The lines, and whether the last one is whole: a program that ends its lines leaves nothing after it."""
    lines = text.split("\n")
    whole = not lines[-1]
    return lines[: len(lines) - whole], whole


def number(text: object, what: str) -> float:
    """A finite number from JSON, or from text; whole numbers stay exact, as a clock since 1970 in ns needs it.

    Raises:
        MeasurementError: it is none; ``what`` names the place.
    """
    if isinstance(text, str) and _WHOLE.fullmatch(text):
        return int(text)
    if isinstance(text, int) and not isinstance(text, bool) and abs(text) < 2**63:
        return text
    try:
        value = float(text) if isinstance(text, int | float | str) and not isinstance(text, bool) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise MeasurementError(f"{what}: {str(text)[:40]!r} is no number")
    return value


def nanoseconds(value: float, scale: float, what: str) -> int:
    """A time in nanoseconds as a whole number.

    Raises:
        MeasurementError: out of range.
    """
    time_ns = value * (int(scale) if isinstance(value, int) else scale)
    if not -MOST_NS <= time_ns <= MOST_NS:
        raise MeasurementError(f"{what}: {value:g} is out of range for a time")
    return round(time_ns)


def positive(times_ns: Column) -> Column:
    """The times of whole inferences, all above 0.

    Raises:
        MeasurementError: one is not.
    """
    if times_ns.size and times_ns.min() <= 0:
        raise MeasurementError(f"an inference took {int(times_ns.min())} ns: there is no such time")
    return times_ns


def from_stamps(stamps: tuple[NDArray[np.int64], ...], flags: tuple[Flag, ...] = ()) -> Measurement:
    """Tables and figures of QUEUED, SUBMIT, START and END, each of shape (inferences, kernels), in nanoseconds.

    Real batches are inferred from SUBMIT; timestamps that contradict each other are flagged.
    """
    queued, submit, start, end = stamps
    count = queued.shape[0]
    inferences = np.arange(count, dtype=np.int64)
    table = kernel_table(inferences, queued, submit, start, end)
    flushes = table["batch"].reshape(queued.shape)[:, -1].astype(np.int64) + 1
    total = end[:, -1] - queued[:, 0]
    profiled: Table = {
        "inference": inferences,
        "profiled": np.ones(count, dtype=np.int64),
        "total_ns": total,
        "flushes": flushes,
    }
    metrics = kernel_metrics(queued, submit, start, end)
    metrics["total_profiled_ns"] = Metric(float(np.median(total)), "ns")
    metrics["flushes"] = Metric(float(np.median(flushes)), "1")
    flags = (*flags, *timestamp_flags(queued, submit, start, end))
    tables: dict[str, Table] = {"kernels": table, "inferences": profiled}
    return Measurement(tables, metrics, {"kernels": int(queued.shape[1])}, flags)
