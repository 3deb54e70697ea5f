"""The lab's CPU load: ``overhead T_sleep_us inner_iter log2_outer_iter`` (``native/overhead.cpp``).

Beside it ``overhead --hold PERCENT``: the same work, corrected by its own CPU clock so that a use is held.
"""

import re
from typing import Annotated

from pydantic import Field, ValidationError

from devicelab.errors import ConfigError, MeasurementError
from devicelab.model.measurement import Measurement, Metric
from devicelab.model.plan import Noun
from devicelab.workloads.base import CommandLine, Context

NATIVE: tuple[str, ...] = ("overhead",)
FILES: tuple[str, ...] = ()

_MAX = 2**63 - 1
_HINT = 'three integers "T_sleep_us inner_iter log2_outer_iter" ("1000 5000 20"), or a use to hold ("45%")'
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,4})?) ?%")
_NEAR = re.compile(rb"near ([0-9]{1,10}) ([0-9]{1,18})\n")


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


class Hold(Noun):
    """A use that each process of the load holds.

    Attributes:
        use_pct: CPU time it has, in percent of one core's time; 100: it never sleeps.
    """

    use_pct: Annotated[float, Field(ge=0.0001, le=100)]

    def level(self) -> str:
        """The use as an experiment's level: ``45%``."""
        return f"{_number(self.use_pct)}%"


def parse_level(text: str) -> Params | Hold:
    """The load that a level such as ``1000 5000 20`` or ``45%`` stands for.

    Raises:
        ConfigError: neither three integers nor a percentage, or out of range; says which.
    """
    if "%" in text:
        percent = _PERCENT.fullmatch(text.strip())
        if percent is None or not 0 < float(percent[1]) <= 100:
            raise ConfigError(f"load {text!r} is no use from 0.0001% to 100%", hint=_HINT)
        return Hold(use_pct=float(percent[1]))
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


def command(params: Params | Hold, context: Context) -> CommandLine:
    """The command line of one load process."""
    words = ("--hold", _number(params.use_pct)) if isinstance(params, Hold) else params.level().split()
    return CommandLine((f"{context.dir}/overhead", *words))


def near(output: bytes) -> Params | None:
    """The fixed load whose rounds were those of a held one; ``None`` if it did not come to saying so.

    It has the same work and sleep at the clock the core had then; its use is not held, and is lower by as much as the
    device's timers are late.
    """
    said = _NEAR.match(output)
    return None if said is None else Params(sleep_us=int(said[1]), inner_iter=int(said[2]))


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


def _number(pct: float) -> str:
    """As few digits as say it, at most four decimals."""
    return f"{pct:.4f}".rstrip("0").rstrip(".")
