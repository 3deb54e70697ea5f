"""A finished run: what it measured, and every reason not to believe it."""

from devicelab import knobs
from devicelab.experiment import foreign, programs
from devicelab.model.device import Facts
from devicelab.model.experiment import Cell, Experiment
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.measurement import Measurement


def judge(
    record: RunRecord, cell: Cell, experiment: Experiment, facts: Facts
) -> tuple[dict[str, Measurement], tuple[Flag, ...]]:
    """A run's measurements by program, and its flags: the agent's, the programs', the scheduler's and the knobs'."""
    measurements, found = programs.read(record, cell, experiment, facts)
    flags = [*record.flags, *found, *foreign.flags(record.others, experiment)]
    if experiment.thermal is not None and experiment.thermal.max_c is not None:
        flags += knobs.prove("thermal", experiment.thermal.max_c, facts, record)
    for word in knobs.words():
        if word in cell.levels:
            flags += knobs.prove(word, cell.levels[word], knobs.assume(cell.levels, facts), record)
    return measurements, tuple(dict.fromkeys(flags))
