"""When an experiment has enough."""

import re
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from devicelab.model.plan import Noun

DECIDED = "decided"
_PRECISION = re.compile(r"\s*(?:±|\+/?-)?\s*(\d+(?:\.\d+)?)\s*%\s*")
_BUDGET = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|min|m|h)\s*")
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Stop(Noun):
    """Repetitions until the experiment is answered, instead of a fixed number of them.

    Attributes:
        until: `"decided"`: each claim of the answer and of the checks is yes or no; or `"± 2 %"`: the half-width of
            each claim's interval is that small.
        min_repetitions: of every cell before anything is judged; below 6 no interval exists.
        max_repetitions: of a cell; what is open then stays "inconclusive".
        budget: time that the runs may take together ("90 s", "30 min", "2 h"); no limit if not given.
    """

    until: str = DECIDED
    min_repetitions: Annotated[int, Field(ge=2, le=100_000)] = 6
    max_repetitions: Annotated[int, Field(ge=2, le=100_000)] = 60
    budget: str = ""

    @field_validator("until", "budget", mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        """A bare number is wrong because of its unit, not because it is no text."""
        return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator("until")
    @classmethod
    def _known(cls, value: str) -> str:
        precision = _PRECISION.fullmatch(value)
        if precision is not None and 0 < float(precision[1]) < 100:
            return f"± {float(precision[1]):g} %"
        if value != DECIDED:
            raise ValueError('"decided" or a precision such as "± 2 %" (above 0, below 100 %) is expected')
        return value

    @field_validator("budget")
    @classmethod
    def _a_time(cls, value: str) -> str:
        match = _BUDGET.fullmatch(value)
        if value and (match is None or not 0 < float(match[1]) * _SECONDS[match[2]] <= 31 * 86_400):
            raise ValueError('a time such as "90 s", "30 min" or "2 h" (above 0, at most 31 days) is expected')
        return value

    @model_validator(mode="after")
    def _in_order(self) -> "Stop":
        if self.min_repetitions > self.max_repetitions:
            raise ValueError(
                f"min_repetitions = {self.min_repetitions} is above max_repetitions = {self.max_repetitions}"
            )
        return self

    @property
    def precision(self) -> float | None:
        """The wanted half-width as a share (0.02), ``None`` where the claims are to be decided."""
        match = _PRECISION.fullmatch(self.until)
        return float(match[1]) / 100 if match else None

    @property
    def budget_s(self) -> float | None:
        """The budget in seconds."""
        match = _BUDGET.fullmatch(self.budget)
        return float(match[1]) * _SECONDS[match[2]] if match else None
