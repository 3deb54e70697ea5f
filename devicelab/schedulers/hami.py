"""HAMi-core: a library in front of the driver that limits each process's share of the SMs, as an installed prefix.

``hami:50``: the less important tenants get 50% (CUDA_DEVICE_SM_LIMIT), the most important one is not limited. It is a
token bucket in user space; whether it holds in closed loops is open (HAMi issue 2863), so its leg says that the library
and the limit were there, and the figures what they did. Read, never run. Source: github.com/Project-HAMi/HAMi-core.
"""

from collections.abc import Sequence

from devicelab.errors import ConfigError, DeviceRefusedError
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Witness
from devicelab.schedulers._shared import (
    NO_MPS,
    SCRUBBED,
    environ_witnesses,
    not_given,
    not_seen,
    on_cpu,
    pids,
    proc_witnesses,
    ranks,
    said,
    tenant_of,
)
from devicelab.schedulers.base import Place, TenantTreatment, Treatment

_LIBRARY = "libvgpu.so"
# A library that is not there is only warned of by the loader, and the tenant runs without a limit.
_FRONT = """
lib=$1; shift
[ -e "$lib" ] || { echo "HAMi-core: there is no $lib (lab.toml: prefixes.hami names its folder)" >&2; exit 4; }
LD_PRELOAD=$lib exec "$@"
"""
_LOOK = f'test -r "/proc/$1/maps" && {{ grep -o "[^ ]*{_LIBRARY}" "/proc/$1/maps" | sort -u; echo looked; }}'


def treat(variant: str, tenants: Sequence[Tenant], place: Place) -> Treatment:
    """The library in front of the less important tenants, with their share.

    Raises:
        ConfigError: not a percentage, or lab.toml names no prefix.
        DeviceRefusedError: no NVIDIA GPU.
    """
    share = _share(variant)
    prefix = place.prefixes.get("hami")
    if prefix is None:
        where = f'lab.toml: [devices.{place.facts.name}.prefixes] hami = "/opt/hami"'
        raise ConfigError("where is HAMi-core installed?", hint=f"{where}, the folder of {_LIBRARY}")
    if place.facts.board.kind != "nvidia-server":
        raise DeviceRefusedError(
            f"HAMi-core needs an NVIDIA GPU; this is {place.facts.board.kind}", device=place.facts.name
        )
    library = f"{prefix}/{_LIBRARY}"
    limited = _limited(tenants)
    return Treatment(
        tenants={
            tenant.name: TenantTreatment(
                env={**NO_MPS, **({"CUDA_DEVICE_SM_LIMIT": share} if tenant in limited else {})},
                env_scrub=(*SCRUBBED, "CUDA_DEVICE_*"),
                front=("sh", "-c", _FRONT, "sh", library) if tenant in limited else (),
            )
            for tenant in tenants
        },
        witnesses=(
            *proc_witnesses("maps", _LOOK, tenants),
            *environ_witnesses("CUDA_DEVICE_SM_LIMIT", limited),
            Witness(name="hami files", argv=("sha256sum", library)),
        ),
    )


def _share(variant: str) -> str:
    if not variant.isdecimal() or len(variant) > 2 or not 1 <= int(variant) <= 99:
        raise ConfigError(
            f"hami:{variant}: the less important tenants' share of the SMs is expected, 1 to 99 (percent)"
        )
    return variant


def _limited(tenants: Sequence[Tenant]) -> tuple[Tenant, ...]:
    rank = ranks(tenants)
    return tuple(tenant for tenant in tenants if rank[tenant.name] > 0)


def verify(variant: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:
    """The library is mapped in every process that is limited and in no other, and carries its share."""
    limited = {tenant.name for tenant in _limited(tenants)}
    for name in pids(record, tenants):
        maps = said(record, f"maps {name}")
        if maps is None or "looked" not in maps:
            return not_seen("hami", f"what {name} has loaded could not be looked at")
        there = _LIBRARY in maps
        if there != (tenant_of(name) in limited):
            return not_seen("hami", f"{name} {'has' if there else 'does not have'} {_LIBRARY} loaded")
        limit = {"CUDA_DEVICE_SM_LIMIT": str(_share(variant))}
        if there and (flags := not_given("hami", record, name, limit)):
            return flags
    return on_cpu("hami", tenants, record)
