"""The condition that a static flush schedule was made for: elsewhere it may cost a third of the time."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from devicelab.model.plan import Noun


class MadeFor(Noun):
    """Where a schedule was made; what is empty here is not compared.

    Attributes:
        unit, board: the device by its name in lab.toml, and its kind.
        device, driver: the GPU and its driver as OpenCL names them.
        network: the network or program.
        levels: the condition: load, placement and what was set, by word; without K and policy.
        clocks: median clock while it was measured, by sampled node: kHz of a CPU, the node's own unit of a GPU.
        campaign: what it was made from.
    """

    unit: str = ""
    board: str = ""
    device: str = ""
    driver: str = ""
    network: str = ""
    levels: dict[str, str] = Field(default_factory=dict)
    clocks: dict[str, float] = Field(default_factory=dict)
    campaign: str = ""

    def as_text(self) -> str:
        """As one text, for ``--set`` and files: a parameter is a text, a number or a list."""
        return self.model_dump_json(exclude_defaults=True)


def _read(value: object) -> object:
    return MadeFor.model_validate_json(value) if isinstance(value, str) else value


class Scheduled(Noun):
    """What parameters of a workload with a static schedule have besides it.

    Attributes:
        made_for: the condition that the schedule was made for; `devicelab klo plan` writes it. Runs under another one
            are invalid.
        foreign_schedule: use the schedule elsewhere all the same: such runs count, with a remark.
    """

    made_for: Annotated[MadeFor | None, BeforeValidator(_read)] = None
    foreign_schedule: bool = False
