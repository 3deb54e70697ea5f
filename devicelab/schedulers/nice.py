"""Niceness for tenants that run on the CPU: each step down in priority is a step up in niceness.

Each tenant is a session of its own; where the kernel weighs sessions (autogroups, sched(7)) the agent sets the
session's niceness too, and both are looked at.
"""

import re
from collections.abc import Sequence

from devicelab.errors import ConfigError
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, RunRecord
from devicelab.schedulers._shared import NO_MPS, SCRUBBED, not_seen, pids, proc_witnesses, ranks, said, tenant_of
from devicelab.schedulers.base import Place, TenantTreatment, Treatment

_LOWEST = 19
# Field 19 of /proc/PID/stat is the niceness (proc(5)); counted behind the command's bracket it is the 17th.
_LOOK = """
s=$(cat "/proc/$1/stat") || exit 1
set -- $1 ${s##*)}
shift 17; echo "nice $1"
"""
_LOOK_AT_SESSION = """
[ "$(cat /proc/sys/kernel/sched_autogroup_enabled 2>/dev/null)" = 1 ] && cat "/proc/$1/autogroup" 2>/dev/null; :
"""


def treat(variant: str, tenants: Sequence[Tenant], place: Place) -> Treatment:  # noqa: ARG001 - the protocol
    """Niceness 0 for the most important tenant, ``variant`` (default 19) for the least, evenly between."""
    lowest = _lowest(variant)
    return Treatment(
        tenants={
            name: TenantTreatment(env=NO_MPS, env_scrub=SCRUBBED, nice=nice)
            for name, nice in niceness(tenants, lowest).items()
        },
        witnesses=(*proc_witnesses("nice", _LOOK, tenants), *proc_witnesses("session", _LOOK_AT_SESSION, tenants)),
    )


def niceness(tenants: Sequence[Tenant], lowest: int = _LOWEST) -> dict[str, int]:
    """The niceness each tenant gets."""
    order = ranks(tenants)
    last = max(order.values(), default=0)
    return {name: round(lowest * rank / last) if last else 0 for name, rank in order.items()}


def _lowest(variant: str) -> int:
    if not variant:
        return _LOWEST
    if not variant.isdecimal() or not 1 <= int(variant) <= _LOWEST:
        raise ConfigError(f"nice:{variant}: a niceness from 1 to {_LOWEST} for the least important tenant is expected")
    return int(variant)


def verify(variant: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:
    """The kernel's own word for the niceness of every tenant's processes, and of their sessions."""
    wanted = niceness(tenants, _lowest(variant))
    for name in pids(record, tenants):
        expected = wanted[tenant_of(name)]
        own = _number(said(record, f"nice {name}"))
        if own is None:
            return not_seen("nice", f"the niceness of {name} could not be read")
        if own != expected:
            why = "; was devicelab itself started with it?" if expected == 0 else ""
            return not_seen("nice", f"{name} ran at niceness {own} instead of {expected}{why}")
        session = _number(said(record, f"session {name}"))
        if session is not None and session != expected:
            return not_seen("nice", f"the session of {name} had niceness {session} instead of {expected}")
    return ()


def _number(text: str | None) -> int | None:
    match = re.search(r"\bnice (-?\d{1,3})\s*$", text or "")
    return int(match[1]) if match else None
