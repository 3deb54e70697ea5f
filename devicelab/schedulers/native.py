"""The driver's (or kernel's) own scheduling: nothing is switched on, and it is proved that nothing else was."""

import re
from collections.abc import Sequence

from devicelab.errors import ConfigError
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Witness
from devicelab.schedulers._shared import not_seen, pids, plain, said
from devicelab.schedulers.base import Place, Treatment

# Only lines that matter are sent home: a torch process maps thousands of files.
_LOOK = 'test -r "/proc/$1/maps" && { grep -iE "lib(shim|xsched|preempt)" "/proc/$1/maps"; echo looked; }'
_FOREIGN = re.compile(r"lib(?:shim|xsched|preempt)\S*\.so", re.IGNORECASE)


def treat(variant: str, tenants: Sequence[Tenant], place: Place) -> Treatment:  # noqa: ARG001 - the protocol
    """Scrub the environment; look at what every tenant's process has mapped."""
    if variant:
        raise ConfigError(f"native has no variant {variant!r}")
    witnesses = tuple(
        Witness(name=f"maps {tenant.name}", argv=("sh", "-c", _LOOK, "sh", f"{{pid:{tenant.name}}}"))
        for tenant in tenants
    )
    return Treatment(tenants=plain(tenants), witnesses=witnesses)


def verify(variant: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:  # noqa: ARG001 - protocol
    """A foreign scheduler's library in a tenant makes the leg invalid."""
    for tenant in tenants:
        if tenant.name not in pids(record):
            continue
        maps = said(record, f"maps {tenant.name}")
        if maps is None or "looked" not in maps:
            return not_seen("native", f"what {tenant.name} has loaded could not be looked at")
        found = _FOREIGN.search(maps)
        if found:
            return not_seen("native", f"{tenant.name} has {found[0]} loaded, a scheduler's shim")
    return ()
