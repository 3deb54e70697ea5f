"""Which setting is the best."""

from typing import Annotated

from pydantic import Field, field_validator

from devicelab.model.plan import Noun


class Search(Noun):
    """Instead of running every combination of levels: find the best one, and measure it afresh.

    Attributes:
        minimise: a figure of the runs ("total_ns"), or two ("total_ns", "energy_mj"): the first decides, both make the
            Pareto front.
        constraints: figure → bound that the setting has to keep, such as `"foreground_p95_ns" = "< 8 ms"`.
        trials: settings that are tried at most; never more than a third of a grid that is not tried whole.
        exhaustive: up to so many combinations all of them are tried.
    """

    minimise: tuple[Annotated[str, Field(min_length=1)], ...]
    constraints: dict[str, str] = Field(default_factory=dict)
    trials: Annotated[int, Field(ge=2, le=10_000)] = 40
    exhaustive: Annotated[int, Field(ge=0, le=10_000)] = 24

    @field_validator("minimise", mode="before")
    @classmethod
    def _one_or_two(cls, value: object) -> object:
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list | tuple) or len(found) not in {1, 2}:
            raise ValueError("minimise names a figure of the runs, or two")
        return found
