"""Niceness for tenants that run on the CPU: each step down in priority is a step up in niceness."""

from collections.abc import Sequence

from devicelab.errors import ConfigError
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, RunRecord
from devicelab.schedulers._shared import SCRUBBED, not_seen, proc_file, ranks, said
from devicelab.schedulers.base import Place, TenantTreatment, Treatment

_LOWEST = 19
# /proc/PID/stat, proc(5): niceness is the 19th field, counted from 1; the 17th after the command's closing bracket.
_NICE_FIELD = 16


def treat(variant: str, tenants: Sequence[Tenant], place: Place) -> Treatment:  # noqa: ARG001 - the protocol
    """Niceness 0 for the most important tenant, ``variant`` (default 19) for the least, evenly between."""
    lowest = _lowest(variant)
    return Treatment(
        tenants={
            name: TenantTreatment(env_scrub=SCRUBBED, nice=nice) for name, nice in niceness(tenants, lowest).items()
        },
        witnesses=tuple(proc_file(tenant, "stat") for tenant in tenants),
    )


def niceness(tenants: Sequence[Tenant], lowest: int = _LOWEST) -> dict[str, int]:
    """The niceness each tenant gets."""
    found = ranks(tenants)
    last = max(found.values(), default=0)
    return {name: round(lowest * rank / last) if last else 0 for name, rank in found.items()}


def _lowest(variant: str) -> int:
    if not variant:
        return _LOWEST
    if not variant.isdecimal() or not 1 <= int(variant) <= _LOWEST:
        raise ConfigError(f"nice:{variant}: a niceness from 1 to {_LOWEST} for the least important tenant is expected")
    return int(variant)


def verify(variant: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:
    """The kernel's own word for every tenant's niceness."""
    for name, wanted in niceness(tenants, _lowest(variant)).items():
        text = said(record, f"stat {name}") or ""
        fields = text.rpartition(")")[2].split()
        if len(fields) <= _NICE_FIELD:
            return not_seen("nice", f"the niceness of {name} could not be read")
        if fields[_NICE_FIELD] != str(wanted):
            return not_seen("nice", f"{name} ran at niceness {fields[_NICE_FIELD]} instead of {wanted}")
    return ()
