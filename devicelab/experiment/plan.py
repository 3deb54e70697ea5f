"""From an experiment and a device's facts to plans: pure functions; what ``--dry-run`` prints."""

import itertools
import math
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from devicelab import knobs
from devicelab.errors import ConfigError, DeviceRefusedError
from devicelab.experiment import energy, evidence, loads, programs, tenancy
from devicelab.experiment.energy import nvml
from devicelab.experiment.programs import Needs
from devicelab.ground import registry
from devicelab.knobs.base import Setting
from devicelab.model.device import Facts
from devicelab.model.experiment import Cell, Experiment
from devicelab.model.plan import Plan, Run, Sampling, Step, content_id
from devicelab.schedulers.base import Place

BLOCK = 1000
"""Runs a plan holds at most: each plan costs some streams, and keeps its journal on the device to its end."""
MAX_RUNS = 100_000
"""Of an experiment on one device: days at a second each."""
_MAX_COMBINATIONS = 1_000_000


@dataclass(frozen=True)
class Planned:
    """What a sweep is going to do.

    Attributes:
        cells: by cell id.
        plans: blocks of runs in the order they are performed.
        unmet: what the device could not be brought to do, by factor word (the experiment did not require it).
        needs: programs and scripts the plans need on the device.
    """

    cells: dict[str, Cell]
    plans: tuple[Plan, ...]
    unmet: dict[str, tuple[str, ...]]
    needs: Needs

    @property
    def runs(self) -> int:
        """Number of runs in all plans."""
        return sum(len(plan.runs) for plan in self.plans)


def words(experiment: Experiment) -> tuple[str, ...]:
    """Every word that may be a factor of this experiment."""
    return (*loads.WORDS, *knobs.words(), *tenancy.words(experiment))


def cells(experiment: Experiment) -> tuple[Cell, ...]:
    """The combinations of levels, without the excluded ones and without those that mean the same.

    A placement says nothing about a cell without load, so such cells are one.

    Raises:
        ConfigError: a factor nobody knows, or more combinations or runs than anybody has time for.
    """
    known = words(experiment)
    named = {*experiment.factors, *experiment.set, *(word for part in experiment.exclude for word in part)}
    for word in sorted(named):
        if word not in known:
            raise registry.unknown("factor", word, known)
    measured = content_id(
        experiment.measure.model_dump_json() if experiment.measure else "",
        *(tenant.identity() for tenant in experiment.tenants),
        repr((experiment.hold_s, experiment.duration_s, experiment.settle_s)),
        # A key that came later counts only where it says something, so that ids stay.
        *([repr((experiment.windows, experiment.pause_s))] if experiment.windows > 1 else []),
    )
    combinations = math.prod(map(len, experiment.factors.values()))
    if combinations > _MAX_COMBINATIONS:
        raise _too_many(f"{combinations} combinations of levels", _MAX_COMBINATIONS)
    unique: dict[str, Cell] = {}
    for levels in itertools.product(*experiment.factors.values()):
        chosen = {**experiment.set, **dict(zip(experiment.factors, levels, strict=True))}
        if any(all(chosen.get(w) == level for w, level in part.items()) for part in experiment.exclude):
            continue
        if chosen.get("load", "none") == "none":
            chosen.pop("placement", None)
        for own in tenancy.expand(chosen, experiment):
            cell = Cell(levels=own, measured=measured)
            unique.setdefault(cell.cell_id, cell)
        if len(unique) * experiment.first_repetitions > MAX_RUNS:
            raise _too_many(f"at least {len(unique) * experiment.first_repetitions} runs", MAX_RUNS)
    if not unique:
        raise ConfigError("every cell is excluded; nothing is left to run")
    return tuple(unique.values())


def _too_many(what: str, most: int) -> ConfigError:
    hint = "fewer levels or repetitions, `exclude`, or several experiments"
    return ConfigError(f"{what} are asked for; {most} are the most", hint=hint)


def order(chosen: Sequence[Cell], repetitions: int, seed: int, first: int = 0) -> tuple[tuple[Cell, int], ...]:
    """(cell, repetition) in blocks of one repetition each, every block shuffled by the seed.

    Blocks spread the repetitions of a cell over the whole time, so that a drift does not hit one cell alone.
    """
    ordered: list[tuple[Cell, int]] = []
    for repetition in range(first, first + repetitions):
        block = [(cell, repetition) for cell in chosen]
        random.Random(f"{seed}/{repetition}").shuffle(block)  # noqa: S311 - an order, not a secret
        ordered += block
    return tuple(ordered)


def settings(cell: Cell, experiment: Experiment, facts: Facts) -> dict[str, Setting]:
    """What each knob word of a cell has to do on this device.

    Raises:
        DeviceRefusedError: the device cannot do what the experiment requires.
    """
    asked = knobs.settings(cell.levels, facts)
    if experiment.thermal is not None:
        asked["thermal gate"] = knobs.baseline(experiment.thermal, facts)
    for word, setting in asked.items():
        if setting.unmet and (
            word in experiment.require or (word == "thermal gate" and "thermal" in experiment.require)
        ):
            wanted = f" = {cell.levels[word]!r}" if word in cell.levels else ""
            raise DeviceRefusedError(
                f"{word}{wanted} cannot be set: {'; '.join(setting.unmet)}",
                device=facts.name,
                hint="the experiment requires it; without that the runs are only marked",
            )
    return asked


def _maker(cell: Cell, experiment: Experiment, place: Place, campaign: str) -> Callable[[int], Run]:
    """Makes one repetition of a cell, as the agent performs it; what all repetitions share is asked once, here."""
    facts = place.facts
    chosen = settings(cell, experiment, facts)
    # Programs start after the steps, so they are placed on the CPUs that the steps leave online.
    later = knobs.assume(cell.levels, facts)
    background = loads.programs(cell.levels.get("load", "none"), str(cell.levels.get("placement", "free")), later)
    cgroups = tuple(path for setting in chosen.values() for path in setting.cgroups)
    measured = programs.measured(cell, experiment, place, cgroups)
    counting = _nvml(cell, experiment, place, campaign)
    counted = (node for _, node in counting)
    sample = (path for setting in chosen.values() for path in setting.sample)
    around = (path for setting in chosen.values() for path in setting.around)
    template = Run(
        run_id="",
        cell_id=cell.cell_id,
        repetition=0,
        steps=(
            *(step for setting in chosen.values() for step in setting.steps),
            *measured.steps,
            *(step for step, _ in counting),
        ),
        gates=tuple(gate for setting in chosen.values() for gate in setting.gates),
        probes=tuple(probe for setting in chosen.values() for probe in setting.probes),
        witnesses=measured.witnesses,
        sampling=Sampling(
            period_ms=round(1000 / experiment.sample_hz) if experiment.sample_hz else 0,
            nodes=tuple(dict.fromkeys((*evidence.sampled(facts), *sample, *measured.sample, *counted))),
            around=tuple(dict.fromkeys((*evidence.around(facts), *around))),
            idle_ms=round(experiment.energy.idle_s * 1000) if experiment.energy is not None else 0,
        ),
        settle_ms=round(experiment.settle_s * 1000),
        hold_ms=0 if experiment.workloads else round(experiment.hold_s * 1000),
        cooldown_ms=round(experiment.cooldown_s * 1000),
    )

    def make(repetition: int) -> Run:
        own = {
            "run_id": content_id(campaign, cell.cell_id, str(repetition)),
            "repetition": repetition,
            "programs": (*background, *measured.programs(repetition)),
        }
        return template.model_copy(update=own)

    return make


def _nvml(cell: Cell, experiment: Experiment, place: Place, campaign: str) -> tuple[tuple[Step, str], ...]:
    """What makes NVIDIA's energy counters a node, and the node; tenants have a witness of their own."""
    if experiment.tenants or not experiment.sample_hz or place.facts.board.kind != "nvidia-server":
        return ()
    return (nvml.step(content_id(campaign, cell.cell_id), place.python, experiment.sample_hz),)


def runs_of(
    chosen: Sequence[Cell], repetitions: range, experiment: Experiment, place: Place, campaign: str
) -> tuple[Run, ...]:
    """These repetitions of these cells, in the order in which they are performed."""
    makers = {cell.cell_id: _maker(cell, experiment, place, campaign) for cell in chosen}
    ordered = order(chosen, len(repetitions), experiment.seed, repetitions.start)
    return tuple(makers[cell.cell_id](repetition) for cell, repetition in ordered)


def plan_id(campaign: str, runs: Iterable[Run]) -> str:
    """A plan's id: the campaign's id, then a hash of the runs in it (so that a campaign's plans are found by name)."""
    return f"{campaign}-{content_id(*(run.run_id for run in runs), length=8)}"


def make(
    experiment: Experiment,
    place: Place,
    *,
    campaign: str,
    holder: str,
    only: Collection[str] = (),
    metered: bool = False,
) -> Planned:
    """All runs of an experiment on one device, as plans of at most ``BLOCK`` runs; with a stop rule the first of them.

    ``only`` are ids of the cells that are wanted; empty: all. ``metered``: an external meter reads the device.

    Raises:
        ConfigError, DeviceRefusedError: see the functions above; raised before anything is changed.
    """
    facts = place.facts
    tenancy.check(experiment)
    if not metered:
        _check_energy(experiment, facts)
    chosen = tuple(cell for cell in cells(experiment) if not only or cell.cell_id in only)
    if not chosen:
        raise ConfigError(f"{experiment.name} has none of the cells that are wanted any more")
    runs = runs_of(chosen, range(experiment.first_repetitions), experiment, place, campaign)
    plans = tuple(
        Plan(
            plan_id=plan_id(campaign, runs[start : start + BLOCK]),
            campaign=campaign,
            device=facts.name,
            holder=holder,
            runs=runs[start : start + BLOCK],
        )
        for start in range(0, len(runs), BLOCK)
    )
    unmet = {
        f"{word} = {levels[word]}" if word in levels else word: setting.unmet
        for cell in chosen
        for levels in (knobs.expanded(cell.levels, facts),)
        for word, setting in settings(cell, experiment, facts).items()
        if setting.unmet
    }
    return Planned({cell.cell_id: cell for cell in chosen}, plans, unmet, programs.needs(experiment, chosen))


def _check_energy(experiment: Experiment, facts: Facts) -> None:
    if experiment.energy is None or not experiment.energy.required:
        return
    if not experiment.sample_hz:
        raise ConfigError("energy is asked for, and sample_hz = 0 turns sampling off", hint="sample_hz = 10")
    if not energy.tells(facts):
        reasons = "; ".join(energy.missing(facts))
        hint = "--set energy.required=false runs it without energy"
        raise DeviceRefusedError(f"nothing here tells energy: {reasons}", device=facts.name, hint=hint)


def programmed_ms(run: Run) -> int:
    """How long a run lasts at least, as far as the plan says (a measurement's own length is not known)."""
    return run.sampling.idle_ms + run.settle_ms + run.hold_ms + run.cooldown_ms
