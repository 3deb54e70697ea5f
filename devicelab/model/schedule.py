"""The condition that a static flush schedule was made for: elsewhere it may cost a third of the time."""

import json

from pydantic import Field

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

    def as_toml(self) -> str:
        """As an inline table, for ``--set`` and files."""
        return _inline(self.model_dump(exclude_defaults=True))


def _inline(table: dict[str, object]) -> str:
    pairs = (f"{json.dumps(name)} = {_value(value)}" for name, value in table.items())
    return f"{{{', '.join(pairs)}}}"


def _value(value: object) -> str:
    # A JSON string is a TOML string, but for the delete character.
    return _inline(value) if isinstance(value, dict) else json.dumps(value).replace("\x7f", "\\u007f")


class Scheduled(Noun):
    """What parameters of a workload with a static schedule have besides it.

    Attributes:
        made_for: the condition that the schedule was made for; `devicelab klo plan` writes it. Runs under another one
            are invalid.
        foreign_schedule: use the schedule elsewhere all the same: such runs count, with a remark.
    """

    made_for: MadeFor | None = None
    foreign_schedule: bool = False
