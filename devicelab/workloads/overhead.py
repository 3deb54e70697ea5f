"""The lab's CPU load: ``overhead T_sleep_us inner_iter log2_outer_iter`` (``native/overhead.cpp``)."""

from typing import Annotated

from pydantic import Field, ValidationError

from devicelab.errors import ConfigError, MeasurementError
from devicelab.model.measurement import Measurement, Metric
from devicelab.model.plan import Noun
from devicelab.workloads.base import CommandLine, Context

NATIVE: tuple[str, ...] = ("overhead",)
FILES: tuple[str, ...] = ()

_MAX = 2**63 - 1
_HINT = 'three integers "T_sleep_us inner_iter log2_outer_iter", such as "1000 5000 20"'


class Params(Noun):
    """Arguments of the load.

    Attributes:
        sleep_us: pause after each round, in microseconds.
        inner_iter: random numbers added up in a round.
        log2_outer_iter: 2 to this power rounds; a load is ended by SIGKILL, so this only has to be enough.
    """

    sleep_us: Annotated[int, Field(ge=0, le=2**31 * 1_000_000 - 1)]
    inner_iter: Annotated[int, Field(ge=0, le=_MAX)]
    log2_outer_iter: Annotated[int, Field(ge=0, le=62)] = 20

    def level(self) -> str:
        """The three numbers as an experiment's level: ``1000 5000 20``."""
        return f"{self.sleep_us} {self.inner_iter} {self.log2_outer_iter}"


def parse_level(text: str) -> Params:
    """The load that a level such as ``1000 5000 20`` stands for.

    Raises:
        ConfigError: not three integers, or one is out of range; says which.
    """
    words = text.split()
    names = tuple(Params.model_fields)
    if len(words) != len(names):
        raise ConfigError(f"load {text!r} has {len(words)} numbers instead of 3", hint=_HINT)
    for name, word in zip(names, words, strict=True):
        if not (word.isascii() and word.isdecimal() and len(word) <= len(str(_MAX))):
            raise ConfigError(f"load {text!r}: {name} is {word!r}, not an integer from 0", hint=_HINT)
    try:
        return Params.model_validate(dict(zip(names, map(int, words), strict=True)))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"load {text!r}: {first['loc'][0]}: {first['msg']}", hint=_HINT) from error


def command(params: Params, context: Context) -> CommandLine:
    """The command line of one load process."""
    numbers = (params.sleep_us, params.inner_iter, params.log2_outer_iter)
    return CommandLine((f"{context.dir}/overhead", *map(str, numbers)))


def parse(output: bytes, params: Params) -> Measurement:  # noqa: ARG001 - every workload is given its parameters
    """What a load printed: nothing if it was ended from outside, else the sum (metric ``sum``).

    Raises:
        MeasurementError: it printed anything else.
    """
    text = output.strip()
    if not text:
        return Measurement()
    if not text.isdigit() or len(text) > 20:
        raise MeasurementError(f"overhead printed {text[:60]!r} instead of a sum")
    return Measurement(metrics={"sum": Metric(float(int(text)), "1")})
