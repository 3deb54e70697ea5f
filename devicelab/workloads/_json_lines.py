"""JSON lines that klo and the OpenCL layer print: types of their values, and how one is read without being trusted."""

from typing import Annotated, TypeVar

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from devicelab.errors import MeasurementError
from devicelab.ground import budget
from devicelab.model.plan import Noun

Ns = Annotated[int, Field(strict=True, ge=-(2**61), le=2**61)]  # differences of two still fit 64 bits
Small = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]
LongText = Annotated[str, StringConstraints(max_length=65_536)]
_T = TypeVar("_T")

# Six arrays of a network's kernels, with room.
_MOST_VALUES = 1_000_000


class Line(Noun):
    """A line of output. A newer program may say more than we know."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def split(output: bytes, who: str) -> list[bytes]:
    """The lines of an output; the last one is empty if the output is whole.

    Raises:
        MeasurementError: more than any program prints; ``who`` names it.
    """
    try:
        return budget.lines(output)
    except ValueError as error:
        raise MeasurementError(f"{who} printed {error}") from error


def read(kind: TypeAdapter[_T], line: bytes, place: str) -> _T:
    """What a line says.

    Raises:
        MeasurementError: damaged, or too many values; ``place`` names the line.
    """
    try:
        return kind.validate_json(budget.within(line, _MOST_VALUES))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise MeasurementError(": ".join(filter(None, (place, where, first["msg"])))) from error
    except ValueError as error:
        raise MeasurementError(f"{place}: {error}") from error
