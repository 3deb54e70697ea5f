"""The measured programs of a run: built for the agent, and read again from its record.

A program that is measured alone is a tenant that runs alone, so there is one way for both.
"""

import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from devicelab import knobs
from devicelab.errors import ConfigError, LabError, MeasurementError
from devicelab.experiment import gauge, schedules, tenancy
from devicelab.ground import registry, toml
from devicelab.ground.safe_text import spoken
from devicelab.model.device import Facts
from devicelab.model.experiment import Cell, Experiment, Tenant
from devicelab.model.journal import Flag, ProgramResult, RunRecord
from devicelab.model.measurement import Measurement
from devicelab.model.plan import Program, Step, Witness
from devicelab.schedulers.base import Place, TenantTreatment
from devicelab.workloads import overhead
from devicelab.workloads.base import Context, OnGpu, OnPython, Prepared

# Boards on which a model that is left to choose its device belongs on the GPU.
_GPU_SERVERS = frozenset(("nvidia-server", "amd-server"))

# Loading and warming up a model took more than 16 s once: a barrier that gives up early loses a run.
_READY_MS = 300_000
# Printing a minute of requests and tearing a GPU context down take a while after the window.
_TAIL_MS = 120_000


@dataclass(frozen=True)
class Measured:
    """The measured programs' share of a cell's runs, with what their scheduler adds.

    ``programs`` gives those of one repetition: they differ in the seeds of their arrivals.
    """

    programs: Callable[[int], tuple[Program, ...]]
    steps: tuple[Step, ...] = ()
    witnesses: tuple[Witness, ...] = ()
    sample: tuple[str, ...] = ()


@dataclass(frozen=True)
class Needs:
    """What runs need on the device.

    Attributes:
        native: programs that are built for it.
        scripts: files of workloads (see ``Workload.FILES``).
        files: files of the experiment's ``push``, on this computer.
        python: lab.toml's interpreter.
    """

    native: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    python: bool = False


def needs(experiment: Experiment, cells: Iterable[Cell]) -> Needs:
    """What the agent, the loads and the measured programs of these cells need on the device."""
    native: list[str] = ["agent"]
    scripts: list[str] = []
    python = False
    if any(cell.levels.get("load", "none") != "none" for cell in cells):
        native += overhead.NATIVE
    for name in experiment.workloads:
        workload = registry.workload(name)
        native += workload.NATIVE
        scripts += workload.FILES
        python = python or (isinstance(workload, OnPython) and workload.PYTHON)
    return Needs(tuple(dict.fromkeys(native)), tuple(dict.fromkeys(scripts)), experiment.push, python)


def check(experiment: Experiment, cells: Iterable[Cell]) -> None:
    """The parameters of every measured program in every cell.

    Raises:
        ConfigError: one is unknown or has a wrong value, or a pressure or tenant is none.
    """
    for cell in cells:
        for tenant in tenancy.members(cell, experiment):
            params(tenant)


def params(tenant: Tenant, given: TenantTreatment | None = None) -> BaseModel:
    """The workload's parameters of a measured program, with those that its treatment gives.

    Raises:
        ConfigError: one is unknown or has a wrong value.
    """
    model = registry.workload(tenant.workload).Params
    try:
        return model.model_validate({**tenant.params, **(given.params if given is not None else {})})
    except ValidationError as error:
        whose = f"workload {tenant.workload}" if tenant.name == tenancy.ALONE else f"tenant {tenant.name}"
        raise ConfigError(f"{whose}: {toml.explain(error, model)}") from error


def measured(cell: Cell, experiment: Experiment, place: Place, cgroups: tuple[str, ...] = ()) -> Measured:
    """The measured programs of a cell's runs, all of which join ``cgroups``.

    Arrivals are the same in every leg of a repetition: their seed depends on the experiment's, the tenant and the
    repetition alone.
    """
    members = tenancy.members(cell, experiment)
    treatment = tenancy.treatment(cell, experiment, place)
    # Programs start after the steps, so they are placed on the CPUs that the steps leave online.
    later = replace(place, facts=knobs.assume(cell.levels, place.facts))
    makers: dict[str, Callable[[str, int], Program]] = {}
    for tenant in members:
        given = treatment.tenants.get(tenant.name, TenantTreatment())
        make = _maker(tenant, given, experiment, later, cgroups)
        makers |= {tenant.name if copy == 0 else f"{tenant.name}#{copy + 1}": make for copy in range(tenant.copies)}

    prepared: list[Step] = []
    for tenant in members:
        workload = registry.workload(tenant.workload)
        if isinstance(workload, Prepared):
            prepared += [step for step in workload.steps(params(tenant), place.facts) if step not in prepared]
    steps = (*treatment.steps, *prepared)

    def programs(repetition: int) -> tuple[Program, ...]:
        return tuple(make(name, repetition) for name, make in makers.items())

    runs = {f"{{pid:{name}}}" for name in makers}
    witnesses = tuple(
        witness
        for witness in treatment.witnesses
        if all(word in runs for word in witness.argv if word.startswith("{pid:"))
    )
    if not experiment.tenants:
        return Measured(programs, steps, witnesses)
    # The gauge comes last: it lasts as long as the window, and witnesses run one after the other.
    gauges = gauge.witnesses(place.facts, experiment.span_s, place.python)
    return Measured(programs, steps, (*witnesses, *gauges), gauge.nodes(place.facts))


def _maker(
    tenant: Tenant, given: TenantTreatment, experiment: Experiment, place: Place, cgroups: tuple[str, ...]
) -> Callable[[str, int], Program]:
    """Makes a tenant's program from its name (each copy has one) and the repetition."""
    workload, chosen = registry.workload(tenant.workload), params(tenant, given)
    cpus = knobs.resolve_cores(tenant.cores, place.facts) if tenant.cores else None
    alone = experiment.measure
    timeout_s = alone.timeout_s if alone is not None else experiment.span_s

    def make(name: str, repetition: int) -> Program:
        context = Context(
            python=place.python,
            duration_s=experiment.duration_s,
            windows=experiment.windows,
            pause_s=experiment.pause_s if experiment.windows > 1 else 0.0,
            arrivals=tenant.arrivals,
            deadline_ms=tenant.deadline_ms,
            seed=zlib.crc32(f"{experiment.seed}/{name}/{repetition}".encode()) & 0x7FFFFFFF,
            tenant=name,
            simulated=place.facts.simulated,
        )
        line = workload.command(chosen, context)
        return Program(
            name=name,
            role="measure",
            argv=(*given.front, *line.argv),
            env={**line.env, **given.env},
            env_scrub=given.env_scrub,
            cpus=cpus,
            nice=given.nice,
            cgroups=(*cgroups, *given.cgroups),
            barrier=line.barrier,
            timeout_ms=round(timeout_s * 1000) + (_TAIL_MS if alone is None else 0),
            ready_timeout_ms=_READY_MS,
        )

    return make


def read(
    record: RunRecord, cell: Cell, experiment: Experiment, facts: Facts
) -> tuple[dict[str, Measurement], tuple[Flag, ...]]:
    """Every measured program's measurement, and why it is not to be believed: its output, or a treatment not seen.

    On a GPU server a model that was to choose its device and took the CPU is not believed. Of a run that could not be
    performed (its flags say why) only the programs' last words are added.
    """
    by_name = {tenant.name: tenant for tenant in tenancy.members(cell, experiment)}
    results = [one for one in record.programs if one.role == "measure" and one.name.partition("#")[0] in by_name]
    if record.status == "failed":
        said = [(result.name, words) for result in results if (words := _last_words(result))]
        return {}, tuple(Flag(code="output-unusable", detail=f"{name} said: {words}") for name, words in said)
    measurements: dict[str, Measurement] = {}
    flags: list[Flag] = []
    for result in results:
        tenant = by_name[result.name.partition("#")[0]]
        workload, chosen = registry.workload(tenant.workload), params(tenant)
        whose = "" if tenant.name == tenancy.ALONE else f"{result.name}: "
        try:
            measurement = workload.parse(result.output(), chosen)
        except (MeasurementError, ValueError) as error:
            told = error.message if isinstance(error, LabError) else str(error)
            words = _last_words(result)
            if _is_on_stderr(workload.parse, result, chosen):
                told, words = "its rows are on stderr: `read_stderr = true` reads them", ""
            flags.append(Flag(code="output-unusable", detail=f"{whose}{told}{f'; it said: {words}' if words else ''}"))
            continue
        if facts.simulated and not measurement.simulated:
            measurement = replace(measurement, simulated=True)
        # A copy says the same of itself as the first one.
        measurements[result.name] = measurement if result.name in by_name else replace(measurement, info={})
        flags += measurement.flags
        flags += schedules.flags(chosen, measurement, cell, facts, record)
        on_gpu = isinstance(workload, OnGpu) and workload.needs_gpu(chosen)
        if on_gpu and measurement.info.get("device") == "cpu" and facts.board.kind in _GPU_SERVERS:
            flags.append(Flag(code="not-on-gpu", detail=f"{result.name} ran on the CPU; does its torch see the GPU?"))
    if experiment.tenants and (gauged := gauge.read(record, experiment)) is not None:
        measurements[gauge.PROGRAM] = gauged
    return measurements, (*flags, *tenancy.verify(cell, experiment, record))


def _is_on_stderr(parse: Callable[[bytes, Any], Measurement], result: ProgramResult, chosen: object) -> bool:
    """What was looked for on stdout stands at the end of stderr, where many benchmarks print."""
    from devicelab.workloads import command  # with numpy, which a command that measures nothing does without

    if not (isinstance(chosen, command.Params) and result.stderr_tail):
        return False
    try:
        read = parse(result.stderr_tail.encode(), chosen)
        return bool(read.tables or read.metrics)
    except (MeasurementError, ValueError):
        return False


# How Python names what ended a program; torch adds lines of advice behind it.
_ERROR = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)\b.*")


def _last_words(result: ProgramResult) -> str:
    """The last line of what a program said, or behind a Python traceback the error's own."""
    lines = spoken(result.stderr_tail).splitlines()
    named = [line for line in lines if _ERROR.match(line)] if any("Traceback" in line for line in lines) else []
    return "".join((named or lines)[-1:])[:200]
