"""CUDA stream priorities: a hint inside one context; between processes they act only under MPS (``mps:stream``)."""

from collections.abc import Sequence

from devicelab.errors import ConfigError, DeviceRefusedError
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, RunRecord
from devicelab.schedulers._shared import SCRUBBED, not_seen, pids, ranks, tenant_of
from devicelab.schedulers.base import Place, TenantTreatment, Treatment


def treat(variant: str, tenants: Sequence[Tenant], place: Place) -> Treatment:
    """Stream priority -1 (high) for the most important tenant, 0 for the others.

    Raises:
        ConfigError: a variant was given.
        DeviceRefusedError: a tenant has no streams.
    """
    if variant:
        raise ConfigError(f"stream_priority has no variant {variant!r}")
    if any(tenant.workload != "torch_model" for tenant in tenants):
        raise DeviceRefusedError("stream priorities are for torch_model tenants", device=place.facts.name)
    return Treatment(tenants=prioritised(tenants))


def prioritised(tenants: Sequence[Tenant]) -> dict[str, TenantTreatment]:
    """Each tenant's stream priority as a parameter of its workload."""
    return {
        name: TenantTreatment(env_scrub=SCRUBBED, params={"stream_priority": -1 if rank == 0 else 0})
        for name, rank in ranks(tenants).items()
    }


def verify(variant: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:  # noqa: ARG001 - protocol
    """What every tenant says of its own stream."""
    wanted = prioritised(tenants)
    for result in record.programs:
        if result.name in pids(record, tenants):
            text = f'"stream_priority":{wanted[tenant_of(result.name)].params["stream_priority"]},'
            head = result.output()[:4096].decode("utf-8", "replace")
            if text not in head.replace(" ", ""):
                return not_seen("stream_priority", f"{result.name} does not say {text.rstrip(',')}")
    return ()
