"""A finished run: what it measured, and every reason not to believe it."""

from dataclasses import replace

from devicelab import knobs
from devicelab.experiment import energy, foreign, loads, programs
from devicelab.experiment.energy.external import Rows
from devicelab.model.device import Facts
from devicelab.model.experiment import Cell, Experiment
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.measurement import Measurement


def judge(
    record: RunRecord, cell: Cell, experiment: Experiment, facts: Facts, meter: Rows | None = None
) -> tuple[dict[str, Measurement], tuple[Flag, ...]]:
    """A run's measurements by program, with its energy, and its flags: the agent's, programs', scheduler's, knobs'."""
    measurements, found = programs.read(record, cell, experiment, facts)
    flags = [*record.flags, *found, *foreign.flags(record.others, experiment)]
    flags += loads.flags(cell.levels.get("load", "none"), record)
    required = experiment.energy is not None and experiment.energy.required
    used, told = energy.measure(record, measurements, required=required, meter=meter)
    flags += told
    if used is not None:
        measurements = {**measurements, energy.PROGRAM: replace(used, simulated=facts.simulated)}
    if experiment.thermal is not None and experiment.thermal.max_c is not None:
        flags += knobs.prove("thermal", experiment.thermal.max_c, facts, record)
    levels, later = knobs.expanded(cell.levels, facts), knobs.assume(cell.levels, facts)
    for word in knobs.words():
        if word in levels:
            proved = knobs.prove(word, levels[word], later, record)
            flags += proved if word in cell.levels else (_aside(flag) for flag in proved)
    return measurements, tuple(dict.fromkeys(flags))


def _aside(flag: Flag) -> Flag:
    """A flag of a knob that came along with ``lock``: a GPU or a bus that slept proves nothing, which is said."""
    unused = flag.code in {"gpu-frequency-not-proven", "membus-frequency-not-proven"}
    return flag.model_copy(update={"remark": True}) if unused else flag
