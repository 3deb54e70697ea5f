"""The driver's (or kernel's) own scheduling: nothing is switched on, and it is proved that nothing else was."""

import re
from collections.abc import Sequence

from devicelab.errors import ConfigError
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, RunRecord
from devicelab.schedulers._shared import not_seen, pids, plain, proc_witnesses, said
from devicelab.schedulers.base import Place, Treatment

# Only the lines that matter are sent back: a torch process maps thousands of files.
_LOOK = 'test -r "/proc/$1/maps" && { grep -iE "lib(shim|xsched|preempt)" "/proc/$1/maps"; echo looked; }'
_FOREIGN = re.compile(r"lib(?:shim|xsched|preempt)\S*\.so", re.IGNORECASE)


def treat(variant: str, tenants: Sequence[Tenant], place: Place) -> Treatment:  # noqa: ARG001 - the protocol
    """Scrub the environment; look at what every tenant's process has mapped."""
    if variant:
        raise ConfigError(f"native has no variant {variant!r}")
    return Treatment(tenants=plain(tenants), witnesses=proc_witnesses("maps", _LOOK, tenants))


def verify(variant: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:  # noqa: ARG001 - protocol
    """A foreign scheduler's library in a tenant makes the leg invalid."""
    for name in pids(record, tenants):
        maps = said(record, f"maps {name}")
        if maps is None or "looked" not in maps:
            return not_seen("native", f"what {name} has loaded could not be looked at")
        foreign = _FOREIGN.search(maps)
        if foreign:
            return not_seen("native", f"{name} has {foreign[0]} loaded, a scheduler's shim")
    return ()
