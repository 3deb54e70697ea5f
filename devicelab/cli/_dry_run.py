"""What ``devicelab sweep --dry-run`` says: a summary one reads, and with ``--verbose`` every cell as it would run."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from devicelab.cli._out import echo

if TYPE_CHECKING:
    from devicelab.analyses.searching import Outlook
    from devicelab.experiment.plan import Planned
    from devicelab.model.device import Facts
    from devicelab.model.experiment import Experiment
    from devicelab.model.plan import Run
    from devicelab.model.stop import Stop

_VALUES = 8


def show_plan(
    experiment: "Experiment",
    planned: "Planned",
    facts: "Facts",
    likely: "dict[str, int | None]",
    *,
    search: "Outlook | None" = None,
    known_s: float | None = None,
    verbose: bool = False,
) -> None:
    """Print what a sweep would do.

    Args:
        experiment: what is to be measured.
        planned: its plans.
        facts: of the device.
        likely: claims of a stop rule, with the repetitions each is likely to take.
        search: what a search will do, of an experiment that is one.
        known_s: how long a run took on this device the last time; ``None`` if there was none.
        verbose: every cell instead of a summary.
    """
    echo(f"{facts.name}: {facts.board.title}{' (simulated)' if facts.simulated else ''}")
    runs = [run for plan in planned.plans for run in plan.runs]
    if search is not None:
        _show_search(experiment, search, _lasts(experiment, runs, search.runs, known_s))
    else:
        echo(f"{len(runs)} runs of {len(planned.cells)} cells, {_lasts(experiment, runs, len(runs), known_s)}")
        _show_stop_rule(experiment, likely)
    if experiment.rule is not None and experiment.rule.budget_s is not None:
        _show_budget(experiment.rule, runs, len(planned.cells), known_s, search)
    for word, reasons in planned.unmet.items():
        echo(f"not possible here: {word}: {'; '.join(reasons)}")
    if verbose:
        _show_cells(planned, facts, runs)
    else:
        _show_summary(experiment, facts, runs)
    echo("\nevery write is undone after its run; the order of runs is shuffled within each repetition")


def _lasts(experiment: "Experiment", runs: "Sequence[Run]", count: int, known_s: float | None) -> str:
    """How long so many such runs take: by the latest campaign, by how long tenants are observed, or by the plan."""
    from devicelab.ground.times import duration

    least_s = count * _least_s(runs)
    if known_s is not None:
        return f"about {duration(known_s * count, roughly=True)} (a run took {known_s:.3g} s the last time)"
    if experiment.tenants:
        return f"about {duration(least_s + experiment.duration_s * count, roughly=True)} and what starting takes"
    return f"at least {duration(least_s)} and the measurements" if least_s else "as long as the measurements take"


def _least_s(runs: "Sequence[Run]") -> float:
    """What a run takes by the plan, without its measurement."""
    from devicelab.experiment.plan import programmed_ms

    return sum(programmed_ms(run) for run in runs) / 1000 / max(1, len(runs))


def _show_summary(experiment: "Experiment", facts: "Facts", runs: "Sequence[Run]") -> None:
    """Factors, then each node once with its values, then each command line once."""
    for name, levels in experiment.factors.items():
        echo(f"  {name}: {_listed(map(str, levels))}")
    writes: dict[str, dict[str, None]] = {}
    why: dict[str, str] = {}
    for step in (step for run in runs for step in run.steps):
        what = step.path if step.kind == "write" else _line(step.do)
        writes.setdefault(what, {}).update({step.value: None} if step.kind == "write" else {})
        why.setdefault(what, step.why)
    if writes:
        echo(f"\nwrites ({len(writes)} nodes, each in some runs):")
    for what, values in writes.items():
        old = facts.tree.text(what) if values else None
        was = f" (was {old})" if old is not None else ""
        reason = why[what] if len(values) < 2 else f"for example {why[what]}"
        echo(f"  {what}{f' <- {_listed(values)}' if values else ''}{was}: {reason}")
    commands: dict[tuple[str, str], dict[str, None]] = {}
    for program in (program for run in runs for program in run.programs):
        commands.setdefault((program.role, program.argv[0]), {})[" ".join(program.argv)] = None
    echo("\ncommand lines:" if commands else "")
    for (role, _), lines in commands.items():
        others = f" (and {len(lines) - 1} more that differ in their arguments)" if len(lines) > 1 else ""
        echo(f"  {role}: {next(iter(lines))}{others}")
    echo("\n--verbose shows every cell")


def _line(words: Sequence[str]) -> str:
    """A command on one line: a script in it is left out, the step says what it is for."""
    return " ".join("..." if "\n" in word else word for word in words)


def _listed(values: Iterable[str]) -> str:
    known = list(values)
    return ", ".join(known[:_VALUES]) + (f" and {len(known) - _VALUES} more" if len(known) > _VALUES else "")


def _show_cells(planned: "Planned", facts: "Facts", runs: "Sequence[Run]") -> None:
    shown: set[str] = set()
    for run in runs:
        if run.cell_id in shown:
            continue
        shown.add(run.cell_id)
        echo(f"\ncell {run.cell_id}: {planned.cells[run.cell_id].label() or 'no factors'}")
        for step in run.steps:
            what = f"{step.path} <- {step.value}" if step.kind == "write" else _line(step.do)
            old = facts.tree.text(step.path) if step.kind == "write" else None
            echo(f"  {what}{f' (was {old})' if old is not None else ''}: {step.why}")
        for probe in run.probes:
            echo(f"  affinity call on CPUs {probe.cpus}: {probe.why}")
        for gate in run.gates:
            echo(f"  wait for {gate.path}: {gate.why}")
        for program in run.programs:
            where = f" on CPUs {','.join(map(str, program.cpus))}" if program.cpus is not None else ""
            echo(f"  {program.role}: {' '.join(program.argv)}{where}")


def _show_stop_rule(experiment: "Experiment", likely: "dict[str, int | None]") -> None:
    stop = experiment.stop
    if stop is None:
        return
    budget = f", {stop.budget} of runs" if stop.budget else ""
    echo(
        f"these are the first {stop.min_repetitions} repetitions; then until {stop.until}, "
        f"{stop.max_repetitions} repetitions at most{budget}"
    )
    for name, repetitions in likely.items():
        expected = "the first runs' scatter will tell how many it takes"
        if repetitions is not None:
            expected = f"likely {repetitions} repetitions, by the scatter of the latest campaign here"
        echo(f"undecided: {name}; {expected}")


def _show_search(experiment: "Experiment", outlook: "Outlook", lasts: str) -> None:
    """What is looked for, how many settings are tried, and how many runs that is."""
    search = experiment.search
    if search is None:
        return
    echo(f"a search of {outlook.settings} settings for the least {' and '.join(search.minimise)}")
    if outlook.likely < outlook.tried:
        tried = f"{outlook.first} are tried at first, {outlook.likely} at most if the launch model holds, else all"
    else:
        tried = "all are tried" if outlook.tried == outlook.settings else f"{outlook.tried} at most are tried"
    echo(f"{tried}; those that may be the best go on, and the winner is measured afresh")
    echo(f"{outlook.runs} runs at most, {lasts}")
    for metric, bound in search.constraints.items():
        echo(f"has to keep: {metric} {bound}")


def _show_budget(
    stop: "Stop", runs: "Sequence[Run]", cells: int, known_s: float | None, search: "Outlook | None"
) -> None:
    """How far the budget goes, by how long a run took the last time, or at least takes by the plan."""
    from devicelab.experiment.sequences import MIN_REPETITIONS

    each_s = known_s if known_s is not None else _least_s(runs)
    if stop.budget_s is None or each_s <= 0:
        return
    about = "at most" if known_s is None else "about"
    if search is not None:
        holds, wanted, what = int(stop.budget_s / each_s), search.runs, "runs"
    else:
        holds, wanted, what = int(stop.budget_s / each_s / cells), stop.min_repetitions, "repetitions of every cell"
    few = f"; below {MIN_REPETITIONS} nothing is decided" if search is None and holds < MIN_REPETITIONS else ""
    if known_s is not None or holds < wanted:
        echo(f"the budget of {stop.budget} holds {about} {holds} {what}{few}")
