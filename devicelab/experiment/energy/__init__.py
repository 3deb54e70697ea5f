"""Energy as a measurement of every run: sampled by the agent, computed from what it sampled, said with its scope."""

from devicelab.experiment.energy.measure import PROGRAM, measure
from devicelab.experiment.energy.meters import powers
from devicelab.experiment.energy.sources import GLOBS, around, missing, sampled, tells
from devicelab.experiment.energy.totals import FaultError, Total, of_counter, of_power

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
