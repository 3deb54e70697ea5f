"""Tenants that share one GPU (or CPU): legs, pressure and treatments; who runs in a cell, and how it is treated."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from devicelab.errors import ConfigError
from devicelab.experiment import targets
from devicelab.ground import registry
from devicelab.model.experiment import STANDALONE, Cell, Experiment, Level, Measure, Tenant
from devicelab.model.journal import Flag, RunRecord
from devicelab.schedulers.base import Place, Treatment, Tunable

WORDS = ("scheduler", "pressure", "tenant")
"""Factors of an experiment with tenants."""

MEASURED_ON = "measured_on"
"""Factor of an experiment that measures one program: the cores it is pinned to; ``free`` leaves it to the kernel."""

ALONE = "measure"
"""Name of the program of an experiment that measures one (``[measure]``): a tenant without company."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_ARRIVALS = re.compile(r"continuous|(?:fixed|poisson|every):([0-9]{1,9}(?:\.[0-9]{1,9})?)")
_MAX_COPIES, _MAX_BATCH = 1024, 65536


@dataclass(frozen=True)
class Leg:
    """A level of the factor ``scheduler``: ``native``, ``xsched:HPF``, ``standalone``, ``standalone+xsched:HPF``."""

    scheduler: str
    variant: str
    alone: bool


def check(experiment: Experiment) -> None:
    """Everything about the tenants that can be told before a device is touched.

    Raises:
        ConfigError: names that are not unique or not plain, arrivals, copies or targets that make no sense.
    """
    seen: set[str] = set()
    for tenant in experiment.tenants:
        if not _NAME.fullmatch(tenant.name) or tenant.name in seen:
            raise ConfigError(f"tenant {tenant.name!r}: a unique name of letters, digits, _ . - is expected")
        seen.add(tenant.name)
        arrivals = _ARRIVALS.fullmatch(tenant.arrivals)
        if arrivals is None or (arrivals[1] is not None and not 1e-6 <= float(arrivals[1]) <= 1e7):
            raise ConfigError(
                f"tenant {tenant.name}: arrivals {tenant.arrivals!r}",
                hint="continuous, fixed:RATE, poisson:RATE (requests a second) or every:SECONDS",
            )
        if not 1 <= tenant.copies <= _MAX_COPIES:
            raise ConfigError(f"tenant {tenant.name}: 1 to {_MAX_COPIES} copies, not {tenant.copies}")
        targets.of(tenant)


def parse_leg(level: Level) -> Leg:
    """What a level of ``scheduler`` means.

    Raises:
        ConfigError: no such scheduler.
    """
    text = str(level)
    alone = text == STANDALONE or text.startswith(f"{STANDALONE}+")
    rest = text.removeprefix(STANDALONE).removeprefix("+") if alone else text
    name, _, variant = (rest or "native").partition(":")
    if name not in registry.names("schedulers"):
        raise registry.unknown("scheduler", name, (STANDALONE, *registry.names("schedulers")))
    return Leg(name, variant, alone)


def expand(levels: dict[str, Level], experiment: Experiment) -> tuple[dict[str, Level], ...]:
    """A cell's levels, one for each tenant where the leg has every tenant alone."""
    if not experiment.tenants:
        return (levels,)
    with_leg = _with_settings({"scheduler": "native", **levels})
    if not parse_leg(with_leg["scheduler"]).alone:
        return (with_leg,)
    # Alone, nobody presses: the low-priority tenant's own cells keep the pressure, since it is its batch or copies.
    lowest = pressed(experiment.tenants).name
    cells = []
    for tenant in experiment.tenants:
        own = {**with_leg, "tenant": tenant.name}
        if tenant.name != lowest:
            own.pop("pressure", None)
        cells.append(own)
    return tuple(cells)


def settings_factors() -> dict[str, tuple[str, str]]:
    """Word of a factor → the scheduler that takes it and the setting's name there."""
    found: dict[str, tuple[str, str]] = {}
    for name in registry.names("schedulers"):
        scheduler = registry.scheduler(name)
        if isinstance(scheduler, Tunable):
            found |= {word: (name, setting) for word, setting in scheduler.FACTORS.items()}
    return found


def _with_settings(levels: dict[str, Level]) -> dict[str, Level]:
    """Levels with a scheduler's settings as part of its variant; for another scheduler they say nothing.

    Raises:
        ConfigError: the variant has the setting already.
    """
    text = str(levels["scheduler"])
    leg, left, given = parse_leg(levels["scheduler"]), dict(levels), []
    for word, (scheduler, setting) in settings_factors().items():
        level = left.pop(word, None)
        if level is not None and scheduler == leg.scheduler:
            given.append(f"{setting}={level}")
            if re.search(rf"[(,]\s*{re.escape(setting)}\s*=", leg.variant):
                raise ConfigError(f"{text} has {setting} already; the factor {word} would set it again")
    if given:
        has = text.endswith(")")
        variant = text[:-1] + "," if has else f"{text}(" if leg.variant else f"{text}:("
        left["scheduler"] = f"{variant}{','.join(given)})"
    return left


def pressed(tenants: Sequence[Tenant]) -> Tenant:
    """The tenant that the factor ``pressure`` turns up: the least important one (the last of several)."""
    return min(reversed(tenants), key=lambda tenant: tenant.priority)


def words(experiment: Experiment) -> tuple[str, ...]:
    """Factors that the measured programs add: the tenants' words, or cores and parameters of what is measured alone."""
    if experiment.measure is not None:
        return (MEASURED_ON, *registry.workload(experiment.measure.workload).Params.model_fields)
    return (*WORDS, *settings_factors()) if experiment.tenants else ()


def everyone(cell: Cell, experiment: Experiment) -> tuple[Tenant, ...]:
    """All tenants of the experiment with a cell's pressure applied, or the program that is measured alone.

    ``pressure`` is ``batch:N`` (the pressed tenant's batch), ``copies:N`` or a number (copies).

    Raises:
        ConfigError: not such a pressure.
    """
    if experiment.measure is not None:
        return (_alone(experiment.measure, cell),)
    pressure = cell.levels.get("pressure")
    if pressure is None or not experiment.tenants:
        return experiment.tenants
    kind, _, number = str(pressure).rpartition(":")
    most = {"": _MAX_COPIES, "copies": _MAX_COPIES, "batch": _MAX_BATCH}.get(kind, 0)
    if not (number.isdecimal() and len(number) < 9 and 1 <= int(number) <= most):
        raise ConfigError(
            f"pressure {pressure!r}: batch:N (to {_MAX_BATCH}), copies:N or N (to {_MAX_COPIES}) is expected"
        )
    target = pressed(experiment.tenants).name
    return tuple(
        _press(tenant, kind, int(number)) if tenant.name == target else tenant for tenant in experiment.tenants
    )


def _alone(measure: Measure, cell: Cell) -> Tenant:
    """The measured program of a cell: levels that are parameters of its workload override those of ``[measure]``."""
    known = registry.workload(measure.workload).Params.model_fields
    levels = {name: level for name, level in cell.levels.items() if name in known}
    on = str(cell.levels.get(MEASURED_ON, measure.cores or "free"))
    cores = None if on == "free" else on
    return Tenant(name=ALONE, workload=measure.workload, params={**measure.params, **levels}, cores=cores)


def members(cell: Cell, experiment: Experiment) -> tuple[Tenant, ...]:
    """The measured programs that run in a cell, with its pressure applied.

    Raises:
        ConfigError: not such a pressure, or an unknown tenant.
    """
    if not experiment.tenants:
        return everyone(cell, experiment)
    only = cell.levels.get("tenant")
    chosen = tuple(tenant for tenant in everyone(cell, experiment) if only is None or tenant.name == only)
    if not chosen:
        raise registry.unknown("tenant", str(only), tuple(tenant.name for tenant in experiment.tenants))
    return chosen


def _press(tenant: Tenant, kind: str, number: int) -> Tenant:
    if kind != "batch":
        return tenant.model_copy(update={"copies": number})
    return tenant.model_copy(update={"params": {**tenant.params, "batch": number}})


def treatment(cell: Cell, experiment: Experiment, place: Place) -> Treatment:
    """What the cell's scheduler does; a tenant that runs alone is treated as it is beside the others."""
    if not experiment.tenants:
        return Treatment()
    leg = parse_leg(cell.levels.get("scheduler", "native"))
    return registry.scheduler(leg.scheduler).treat(leg.variant, everyone(cell, experiment), place)


def verify(cell: Cell, experiment: Experiment, record: RunRecord) -> tuple[Flag, ...]:
    """What of the cell's scheduler was not seen on the live processes of the run."""
    if not experiment.tenants:
        return ()
    leg = parse_leg(cell.levels.get("scheduler", "native"))
    return registry.scheduler(leg.scheduler).verify(leg.variant, everyone(cell, experiment), record)
