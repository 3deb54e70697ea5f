"""What several schedulers need: the names to scrub, ranks of priorities, outputs of witnesses."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from devicelab.errors import ConfigError
from devicelab.ground import budget
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, ProgramResult, RunRecord
from devicelab.model.plan import Witness
from devicelab.schedulers.base import TenantTreatment

_MAX_HEADER_VALUES = 10_000
_VARIANT = re.compile(r"([A-Za-z0-9_.-]*)(?:\(([^()]*)\))?")

# What would switch a scheduler on behind our back.
SCRUBBED = ("LD_PRELOAD", "XSCHED_*", "CUXTRA_*", "CUDA_MPS_*", "HSA_CU_MASK", "ROC_GLOBAL_CU_MASK")

# Without the variable CUDA looks for a daemon, somebody else's too, in its default place (/tmp/nvidia-mps); where there
# is none it goes on without MPS. Source: NVIDIA Multi-Process Service documentation.
NO_MPS = {"CUDA_MPS_PIPE_DIRECTORY": "/nonexistent/no-mps"}


def settings_of(variant: str) -> tuple[str, dict[str, str]]:
    """A variant with settings in brackets: ``HPF(threshold=8,batch=4)`` is ``HPF`` and what it says.

    Raises:
        ConfigError: not of that form, or a setting that is given twice.
    """
    match = _VARIANT.fullmatch(variant)
    pairs = [part.strip().partition("=") for part in match[2].split(",")] if match and match[2] else []
    found = {key.strip(): value.strip() for key, _, value in pairs}
    if match is None or len(found) != len(pairs) or any(not (key and sign) for key, sign, _ in pairs):
        raise ConfigError(f"{variant!r} is no variant of a scheduler", hint="NAME or NAME(key=value,key=value)")
    return match[1], found


def plain(tenants: Sequence[Tenant]) -> dict[str, TenantTreatment]:
    """A clean environment for every tenant and nothing else."""
    return {tenant.name: TenantTreatment(env=NO_MPS, env_scrub=SCRUBBED) for tenant in tenants}


def ranks(tenants: Iterable[Tenant]) -> dict[str, int]:
    """Rank by priority, 0 for the most important; equal priorities have equal ranks."""
    names = list(tenants)
    levels = sorted({tenant.priority for tenant in names}, reverse=True)
    return {tenant.name: levels.index(tenant.priority) for tenant in names}


def pids(record: RunRecord, tenants: Iterable[Tenant]) -> dict[str, int]:
    """Pids of the tenants' processes that ran, by program name."""
    known = {tenant.name for tenant in tenants}
    measured = (result for result in record.programs if result.role == "measure")
    return {result.name: result.pid for result in measured if tenant_of(result.name) in known}


def tenant_of(program: str) -> str:
    """The tenant a program belongs to (copies are called NAME#2, NAME#3 ...)."""
    return program.partition("#")[0]


def copy_names(tenant: Tenant) -> tuple[str, ...]:
    """Program names of a tenant's processes."""
    return (tenant.name, *(f"{tenant.name}#{number}" for number in range(2, tenant.copies + 1)))


def proc_witnesses(what: str, script: str, tenants: Iterable[Tenant]) -> tuple[Witness, ...]:
    """A witness ``WHAT NAME`` for every process of the tenants: a shell script whose ``$1`` is its pid."""
    return tuple(
        Witness(name=f"{what} {name}", argv=("sh", "-c", script, "sh", f"{{pid:{name}}}"))
        for tenant in tenants
        for name in copy_names(tenant)
    )


def environ_witnesses(variable: str, tenants: Iterable[Tenant]) -> tuple[Witness, ...]:
    """Witnesses ``environ NAME`` that print the line ``variable=VALUE`` of each process; ``A|B`` is both."""
    # Nothing at all is the environment of a process that has ended: that proves neither answer.
    script = (
        'e=$(tr "\\0" "\\n" <"/proc/$1/environ") && [ -n "$e" ] || exit 2; '
        f'printf "%s\\n" "$e" | grep -E "^({variable})=" || :'
    )
    return proc_witnesses("environ", script, tenants)


def not_given(scheduler: str, record: RunRecord, name: str, variables: Mapping[str, str]) -> tuple[Flag, ...]:
    """The flag of a leg in which a process was not seen to have these variables (``environ_witnesses``)."""
    has = said(record, f"environ {name}")
    if has is None:
        return not_seen(scheduler, f"the environment of {name} could not be read while it ran")
    for variable, value in variables.items():
        if f"{variable}={value}" not in has.splitlines():
            return not_seen(scheduler, f"{name} does not have {variable}={value}")
    return ()


def said(record: RunRecord, name: str) -> str | None:
    """The output of a witness, ``None`` if it did not run or failed."""
    for witness in record.witnesses:
        if witness.name == name:
            return witness.stdout if witness.exit_code == 0 else None
    return None


def header(result: ProgramResult) -> Mapping[str, Any]:
    """What a tenant says of itself in its first line, nothing if that cannot be read."""
    try:
        data = budget.loads(result.output().partition(b"\n")[0], _MAX_HEADER_VALUES)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def on_cpu(scheduler: str, tenants: Iterable[Tenant], record: RunRecord) -> tuple[Flag, ...]:
    """The flag of a GPU scheduler's leg in which a model ran on the CPU by its own word, where it schedules nothing."""
    known = pids(record, tenants)
    for result in record.programs:
        if result.name in known:
            said_of_itself = header(result)
            if said_of_itself.get("tool") == "torch_tenant" and said_of_itself.get("device") == "cpu":
                return not_seen(scheduler, f"{result.name} ran on the CPU; does its torch see the GPU?")
    return ()


def not_seen(scheduler: str, why: str) -> tuple[Flag, ...]:
    """The flag of a leg whose treatment was not seen."""
    return (Flag(code="scheduler-not-seen", detail=f"{scheduler}: {why}"),)
