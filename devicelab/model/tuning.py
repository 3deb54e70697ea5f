"""What a tuning looks for, kept with the campaign of each of its rounds."""

from typing import Annotated

from pydantic import Field

from devicelab.model.plan import Noun


class Tuning(Noun):
    """Part of an experiment with tenants that `devicelab tune` makes: one round of a search for a scheduler.

    Attributes:
        aim: `TENANT.FIGURE` to bring as far up (shares, rates) or down (times) as it goes.
        keep: bounds that have to be kept, `TENANT.FIGURE < NUMBER`.
        candidates: levels of `scheduler` that the search began with.
        number: of the round, from 1.
        after: campaigns of the rounds before, in order.
        chosen: in the last round, which judges it on arrivals that chose nothing: the scheduler that was chosen.
    """

    aim: str
    keep: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    number: Annotated[int, Field(ge=1, le=1000)] = 1
    after: tuple[str, ...] = ()
    chosen: str = ""
