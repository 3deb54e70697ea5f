"""CUDA green contexts under MPS: each tenant's kernels stay on SMs of their own.

``green:40``: the less important tenants share 40% of the SMs, the most important one has the others; ``green:40+all``:
it has all of them. A green context partitions one process's work, and processes take turns on the card unless MPS joins
them, so the leg starts MPS. The driver rounds to its granularity (8 SMs on Hopper): every tenant says what it asked
for, what it was granted (read back from the context), and on how many SMs its blocks really ran. Under MPS each client
numbers its SMs from 0 (seen on an H200, driver 580), so that two partitions are disjoint cannot be read from the
numbers; it rests on the driver, which splits the same card in the same way in every process.
Source: CUDA driver API, green contexts (12.4); NVIDIA Multi-Process Service documentation (no thread percentage).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from devicelab.errors import ConfigError, DeviceRefusedError
from devicelab.ground import registry
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.tree import cpu_list
from devicelab.schedulers import mps
from devicelab.schedulers._shared import SCRUBBED, header, not_seen, on_cpu, pids, ranks, tenant_of
from devicelab.schedulers.base import Place, TenantTreatment, Treatment

# Granted instead of asked for: the driver's rounding explains less than this share of what was asked, or 8 SMs.
_ROUNDED = 0.1
_GRANULE = 8


def treat(variant: str, tenants: Sequence[Tenant], place: Place) -> Treatment:
    """MPS, and a share of the SMs as parameters of each tenant's workload.

    Raises:
        ConfigError: no such variant.
        DeviceRefusedError: a tenant's workload knows no green contexts.
    """
    pct, whole = _chosen(variant)
    for tenant in tenants:
        if "sm_pct" not in registry.workload(tenant.workload).Params.model_fields:
            raise DeviceRefusedError(
                f"tenant {tenant.name}: the workload {tenant.workload} has no parameter sm_pct",
                device=place.facts.name,
                hint="torch_model has",
            )
    env, steps = mps.daemon(place)
    return Treatment(
        steps=steps,
        tenants={
            name: TenantTreatment(env=env, env_scrub=SCRUBBED, params=_share(rank, pct, whole=whole))
            for name, rank in ranks(tenants).items()
        },
        witnesses=(mps.client_list(env),),
    )


def _chosen(variant: str) -> tuple[int, bool]:
    share, _, rest = variant.partition("+")
    if not (share.isdecimal() and len(share) < 3 and 1 <= int(share) <= 99) or variant not in {share, f"{share}+all"}:
        raise ConfigError(
            f"green:{variant}: the less important tenants' share of the SMs is expected, 1 to 99 (percent)",
            hint="green:40, or green:40+all, which leaves all SMs to the most important tenant",
        )
    return int(share), rest == "all"


def _share(rank: int, pct: int, *, whole: bool) -> dict[str, str | int | float | bool]:
    if rank == 0:
        return {} if whole else {"sm_pct": pct, "sm_part": "rest"}
    return {"sm_pct": pct, "sm_part": "first"}


def verify(variant: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:
    """MPS has every pid, and every tenant was granted its SMs, ran on them and on nobody else's."""
    flags = on_cpu("green", tenants, record) or mps.unconnected("green", tenants, record)
    if flags:
        return flags
    pct, whole = _chosen(variant)
    rank = ranks(tenants)
    granted: dict[str, int] = {}
    total = 0
    known = pids(record, tenants)
    for result in record.programs:
        if result.name not in known:
            continue
        share = _share(rank[tenant_of(result.name)], pct, whole=whole)
        if share:
            told = header(result)
            if why := _not_granted(told):
                return not_seen("green", f"{result.name} {why}")
            granted[str(share["sm_part"])], total = told["sm_granted"], told["sm_total"]
    if sum(granted.values()) > total:
        both = " and ".join(map(str, granted.values()))
        return not_seen("green", f"{both} SMs were granted of {total}, so that some serve both sides")
    return ()


def _not_granted(told: Mapping[str, Any]) -> str:
    """What is wrong with what a tenant says of its SMs; empty if nothing is."""
    asked, granted = told.get("sm_asked"), told.get("sm_granted")
    if type(asked) is not int or type(granted) is not int or type(told.get("sm_total")) is not int:
        return "does not say how many SMs it was granted"
    if abs(granted - asked) > max(_GRANULE, _ROUNDED * asked):
        return f"was granted {granted} SMs, not the {asked} that were asked for"
    ids = _ids(told)
    if not ids:
        return "does not say on which SMs it ran"
    if len(ids) > granted:
        return f"ran on {len(ids)} SMs, more than the {granted} it was granted"
    return ""


def _ids(told: Mapping[str, Any]) -> tuple[int, ...]:
    """Numbers of the SMs that served a tenant, by its own word; none if that cannot be read."""
    try:
        return cpu_list(str(told.get("sm_ids", "")))
    except ValueError:
        return ()
