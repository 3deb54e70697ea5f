"""What is wrong with an experiment and can be told without a device: a typo should not cost a night."""

from collections.abc import Collection, Mapping

from devicelab import knobs
from devicelab.errors import ConfigError
from devicelab.experiment import claims, plan, programs, tenancy
from devicelab.experiment.bounds import RATIO_UNITS, parse_bound
from devicelab.experiment.claims import level_text
from devicelab.ground import registry
from devicelab.model.experiment import Answer, Cell, Check, Experiment, Level
from devicelab.workloads import overhead


def check(experiment: Experiment, overridden: Collection[str] = ()) -> None:
    """Everything in an experiment that does not depend on the device.

    Args:
        experiment: as read, with overrides applied.
        overridden: factors whose levels the command line replaced; a check may name a level that is left out today.

    Raises:
        ConfigError: an unknown factor, workload, parameter, analysis or required word, a load that is none, or a check
            that can never be judged; with tenants, a factor that their analyses would take for repetitions.
    """
    for name in experiment.workloads:
        registry.workload(name)
    tenancy.check(experiment)
    cells = plan.cells(experiment)
    if experiment.tenants:
        _check_tenants_factors(cells)
    for level in _levels(cells).get("load", {}).values():
        if level != "none":
            overhead.parse_level(str(level))
    programs.check(experiment, cells)
    for name in experiment.analyses:
        registry.analysis(name)
    for word in experiment.require:
        if word not in knobs.words():
            raise registry.unknown("knob to require", word, tuple(knobs.words()))
    for one in experiment.checks:
        _check(one, _levels(cells), overridden)
    for figure, bound in experiment.search.constraints.items() if experiment.search is not None else ():
        try:
            parse_bound(bound)
        except ConfigError as error:
            raise ConfigError(f"search.constraints.{figure}: {error.message}", hint=error.hint) from error
    if experiment.stop is not None and experiment.search is None:
        claims.required(experiment, {cell.cell_id: cell.levels for cell in cells}, _concluded(experiment))
    if experiment.answer is not None:
        _check_answer(experiment, experiment.answer, _levels(cells), overridden)


def _check_answer(
    experiment: Experiment, answer: Answer, levels: Mapping[str, Mapping[str, Level]], overridden: Collection[str]
) -> None:
    try:
        for word, level in (*answer.against.items(), *answer.where.items()):
            _check_level(word, level_text(level), levels, overridden)
    except ConfigError as error:
        raise ConfigError(f"answer: {error.message}", hint=error.hint) from error
    if not answer.by:
        known = _concluded(experiment)
        if answer.quantity not in known:
            hint = 'a figure of the runs needs by and against: { by = "load", against = { load = "none" } }'
            wrong = registry.unknown("answer that an analysis of the experiment gives", answer.quantity, known)
            raise ConfigError(wrong.message, hint=f"{wrong.hint}; {hint}" if wrong.hint else hint)


def _concluded(experiment: Experiment) -> tuple[str, ...]:
    """Quantities that an analysis of the experiment concludes as a whole."""
    return tuple(quantity for name in experiment.analyses for quantity in registry.answers(name))


def _check_tenants_factors(cells: tuple[Cell, ...]) -> None:
    """Legs are told apart by scheduler, pressure and tenant alone: another factor's levels would be pooled."""
    for word, levels in _levels(cells).items():
        if word not in tenancy.WORDS and len(levels) > 1:
            raise ConfigError(
                f"factors.{word}: an experiment with tenants compares schedulers and pressures alone, "
                f"and would take the levels of {word} for repetitions of one leg",
                hint=f"hold {word} at one level, a sweep for each level",
            )


def _levels(cells: tuple[Cell, ...]) -> dict[str, dict[str, Level]]:
    """Factor → text of a level → the level, of all cells."""
    levels: dict[str, dict[str, Level]] = {}
    for cell in cells:
        for word, level in cell.levels.items():
            levels.setdefault(word, {})[level_text(level)] = level
    return levels


def _check(one: Check, levels: Mapping[str, Mapping[str, Level]], overridden: Collection[str]) -> None:
    try:
        _check_bound(one)
        for word, level in (*one.where.items(), *(one.against or {}).items()):
            _check_level(word, level_text(level), levels, overridden)
    except ConfigError as error:
        raise ConfigError(f"check {one.name!r}: {error.message}", hint=error.hint) from error


def _check_bound(one: Check) -> None:
    _, _, unit = parse_bound(one.bound)
    if one.against is not None and unit not in RATIO_UNITS:
        raise ConfigError(f"a ratio has no unit {unit!r}", hint='use "%", "x" or none')


def _check_level(word: str, level: str, levels: Mapping[str, Mapping[str, Level]], overridden: Collection[str]) -> None:
    if word not in levels:
        raise registry.unknown("factor of the experiment", word, tuple(levels))
    if word not in overridden and level not in levels[word]:
        raise registry.unknown(f"level of {word}", level, tuple(levels[word]))
