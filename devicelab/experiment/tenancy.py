"""Tenants that share one GPU (or CPU): from an experiment's tenants and a leg to the programs of a run."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ValidationError

from devicelab import knobs
from devicelab.errors import ConfigError, MeasurementError
from devicelab.experiment import gauge, targets
from devicelab.ground import registry
from devicelab.model.experiment import STANDALONE, Cell, Experiment, Level, Tenant
from devicelab.model.journal import Flag, ProgramResult, RunRecord
from devicelab.model.measurement import Measurement
from devicelab.model.plan import Program, Step, Witness
from devicelab.schedulers.base import Place, TenantTreatment, Treatment
from devicelab.workloads.base import CommandLine, Context

WORDS = ("scheduler", "pressure", "tenant")

# Boards on which a model that is left to choose its device belongs on the GPU.
_GPU_SERVERS = frozenset(("nvidia-server", "amd-server"))

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_ARRIVALS = re.compile(r"continuous|(?:fixed|poisson|every):([0-9]{1,9}(?:\.[0-9]{1,9})?)")
_MAX_COPIES, _MAX_BATCH = 1024, 65536

# Loading and warming up a model took more than 16 s once: a barrier that gives up early loses a run.
_READY_MS = 300_000
# Printing a minute of requests and tearing a GPU context down take a while after the window.
_TAIL_MS = 120_000


@dataclass(frozen=True)
class Leg:
    """A level of the factor ``scheduler``: ``native``, ``xsched:HPF``, ``standalone``, ``standalone+xsched:HPF``."""

    scheduler: str
    variant: str
    alone: bool


@dataclass(frozen=True)
class Crowd:
    """The tenants' share of a run."""

    programs: tuple[Program, ...]
    steps: tuple[Step, ...]
    witnesses: tuple[Witness, ...]
    sample: tuple[str, ...] = ()


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
    with_leg = {"scheduler": "native", **levels}
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


def pressed(tenants: Sequence[Tenant]) -> Tenant:
    """The tenant that the factor ``pressure`` turns up: the least important one (the last of several)."""
    return min(reversed(tenants), key=lambda tenant: tenant.priority)


def everyone(cell: Cell, experiment: Experiment) -> tuple[Tenant, ...]:
    """All tenants of the experiment, with a cell's pressure applied.

    ``pressure`` is ``batch:N`` (the pressed tenant's batch), ``copies:N`` or a number (copies).

    Raises:
        ConfigError: not such a pressure.
    """
    pressure = cell.levels.get("pressure")
    if pressure is None:
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


def tenants_of(cell: Cell, experiment: Experiment) -> tuple[Tenant, ...]:
    """The tenants that run in a cell, with its pressure applied.

    Raises:
        ConfigError: not such a pressure, or an unknown tenant.
    """
    only = cell.levels.get("tenant")
    chosen = tuple(tenant for tenant in everyone(cell, experiment) if only is None or tenant.name == only)
    if not chosen:
        raise registry.unknown("tenant", str(only), tuple(tenant.name for tenant in experiment.tenants))
    return chosen


def _press(tenant: Tenant, kind: str, number: int) -> Tenant:
    if kind != "batch":
        return tenant.model_copy(update={"copies": number})
    return tenant.model_copy(update={"params": {**tenant.params, "batch": number}})


def params_of(tenant: Tenant, treatment: TenantTreatment) -> BaseModel:
    """The workload's parameters of a tenant.

    Raises:
        ConfigError: a parameter is unknown or has a wrong value.
    """
    model: type[BaseModel] = registry.module("workloads", tenant.workload).Params
    try:
        return model.model_validate({**tenant.params, **treatment.params})
    except ValidationError as error:
        raise ConfigError(f"tenant {tenant.name}: {registry.explain(error, model)}") from error


def treatment_of(cell: Cell, experiment: Experiment, place: Place) -> Treatment:
    """What the cell's scheduler does; a tenant that runs alone is treated as it is beside the others."""
    leg = parse_leg(cell.levels.get("scheduler", "native"))
    tenants = everyone(cell, experiment)
    treatment: Treatment = registry.module("schedulers", leg.scheduler).treat(leg.variant, tenants, place)
    return treatment


def crowd(cell: Cell, repetition: int, experiment: Experiment, place: Place) -> Crowd:
    """The programs of a run with tenants, and what the scheduler adds.

    Arrivals are the same in every leg of a repetition: their seed depends on the experiment's, the tenant and the
    repetition alone.
    """
    tenants = tenants_of(cell, experiment)
    treatment = treatment_of(cell, experiment, place)
    # Tenants start after the steps: on the CPUs that are online then.
    later = replace(place, facts=knobs.assume(cell.levels, place.facts))
    programs = tuple(
        _program(tenant, copy, treatment.tenants[tenant.name], experiment, repetition, later)
        for tenant in tenants
        for copy in range(tenant.copies)
    )
    runs = {f"{{pid:{program.name}}}" for program in programs}
    witnesses = tuple(
        witness
        for witness in treatment.witnesses
        if all(word in runs for word in witness.argv if word.startswith("{pid:"))
    )
    # The gauge comes last: it lasts as long as the window, and witnesses run one after the other.
    gauges = gauge.witnesses(place.facts, experiment.duration_s)
    return Crowd(programs, treatment.steps, (*witnesses, *gauges), gauge.nodes(place.facts))


def _program(
    tenant: Tenant,
    copy: int,
    given: TenantTreatment,
    experiment: Experiment,
    repetition: int,
    place: Place,
) -> Program:
    name = tenant.name if copy == 0 else f"{tenant.name}#{copy + 1}"
    seed = zlib.crc32(f"{experiment.seed}/{name}/{repetition}".encode()) & 0x7FFFFFFF
    context = Context(
        python=place.python,
        duration_s=experiment.duration_s,
        arrivals=tenant.arrivals,
        deadline_ms=tenant.deadline_ms,
        seed=seed,
        tenant=name,
        simulated=place.facts.simulated,
    )
    line: CommandLine = registry.module("workloads", tenant.workload).command(params_of(tenant, given), context)
    return Program(
        name=name,
        role="measure",
        argv=line.argv,
        env={**line.env, **given.env},
        env_scrub=given.env_scrub,
        cpus=knobs.resolve_cores(tenant.cores, place.facts) if tenant.cores else None,
        nice=given.nice,
        cgroups=given.cgroups,
        barrier=line.barrier,
        timeout_ms=round(experiment.duration_s * 1000) + _TAIL_MS,
        ready_timeout_ms=_READY_MS,
    )


def judge(
    record: RunRecord, cell: Cell, experiment: Experiment, board: str = ""
) -> tuple[dict[str, Measurement], tuple[Flag, ...]]:
    """Every tenant's measurement, and why the leg is not to be believed: output, or a treatment that was not seen.

    On a GPU server (the kind of ``board``) a model that was to choose its device and took the CPU is not believed.

    Of a run that could not be performed (its flags say why) only the tenants' last words are added.
    """
    if record.status == "failed":
        said = [(result.name, words) for result in record.programs if (words := _last_words(result))]
        return {}, tuple(Flag(code="output-unusable", detail=f"{name} said: {words}") for name, words in said)
    tenants = tenants_of(cell, experiment)
    by_name = {tenant.name: tenant for tenant in tenants}
    measurements: dict[str, Measurement] = {}
    flags: list[Flag] = []
    for result in record.programs:
        tenant = by_name.get(result.name.partition("#")[0])
        if result.role != "measure" or tenant is None:
            continue
        workload = registry.module("workloads", tenant.workload)
        params = params_of(tenant, TenantTreatment())
        try:
            measured: Measurement = workload.parse(result.output(), params)
        except (MeasurementError, ValueError) as error:
            words = _last_words(result)
            also = f"; it said: {words}" if words else ""
            flags.append(Flag(code="output-unusable", detail=f"{result.name}: {error}{also}"))
            continue
        # A copy says the same of itself as the first one.
        measurements[result.name] = measured if result.name in by_name else replace(measured, info={})
        flags += measured.flags
        chose = tenant.workload == "torch_model" and getattr(params, "device", None) == "auto"
        if chose and measured.info.get("device") == "cpu" and board in _GPU_SERVERS:
            flags.append(Flag(code="not-on-gpu", detail=f"{result.name} ran on the CPU; does its torch see the GPU?"))
    if (gauged := gauge.read(record)) is not None:
        measurements[gauge.PROGRAM] = gauged
    leg = parse_leg(cell.levels.get("scheduler", "native"))
    flags += registry.module("schedulers", leg.scheduler).verify(leg.variant, everyone(cell, experiment), record)
    return measurements, tuple(flags)


def _last_words(result: ProgramResult) -> str:
    return "".join(result.stderr_tail.strip().splitlines()[-1:])[:200]


def native_programs(experiment: Experiment) -> tuple[str, ...]:
    """Native programs that the tenants need on the device."""
    return tuple(
        dict.fromkeys(
            name for tenant in experiment.tenants for name in registry.module("workloads", tenant.workload).NATIVE
        )
    )


def files(experiment: Experiment) -> tuple[str, ...]:
    """Scripts in ``devicelab/workloads/scripts`` that the tenants need on the device."""
    return tuple(
        dict.fromkeys(
            name for tenant in experiment.tenants for name in registry.module("workloads", tenant.workload).FILES
        )
    )
