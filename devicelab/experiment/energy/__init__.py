"""Energy as a measurement of every run: sampled by the agent, computed from what it sampled, said with its scope."""

import importlib
from typing import TYPE_CHECKING, Any

from devicelab.experiment.energy.sources import GLOBS, around, missing, sampled, tells

if TYPE_CHECKING:
    from devicelab.experiment.energy.meters import powers
    from devicelab.experiment.energy.of_run import PROGRAM, measure
    from devicelab.experiment.energy.totals import FaultError, Total, of_counter, of_power

_COMPUTES = {
    "of_run": ("PROGRAM", "measure"),
    "meters": ("powers",),
    "totals": ("FaultError", "Total", "of_counter", "of_power"),
}
"""What computes needs numpy, and is imported when it is used: every command that opens a device imports this."""

__all__ = [
    "GLOBS",
    "PROGRAM",
    "FaultError",
    "Total",
    "around",
    "measure",
    "missing",
    "of_counter",
    "of_power",
    "powers",
    "sampled",
    "tells",
]


def __getattr__(name: str) -> Any:
    for module, offered in _COMPUTES.items():
        if name in offered:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
