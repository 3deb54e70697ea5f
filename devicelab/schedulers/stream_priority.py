"""CUDA stream priorities: a hint inside one context; between processes they act only under MPS (``mps:stream``)."""

from collections.abc import Sequence

from devicelab.errors import ConfigError, DeviceRefusedError
from devicelab.ground import registry
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, RunRecord
from devicelab.schedulers._shared import NO_MPS, SCRUBBED, header, not_seen, on_cpu, pids, ranks, tenant_of
from devicelab.schedulers.base import Place, TenantTreatment, Treatment


def treat(variant: str, tenants: Sequence[Tenant], place: Place) -> Treatment:
    """Stream priority -1 (high) for the most important tenant, 0 for the others.

    Raises:
        ConfigError: a variant was given.
        DeviceRefusedError: a tenant has no streams.
    """
    if variant:
        raise ConfigError(f"stream_priority has no variant {variant!r}")
    for tenant in tenants:
        if "stream_priority" not in registry.workload(tenant.workload).Params.model_fields:
            raise DeviceRefusedError(
                f"tenant {tenant.name}: the workload {tenant.workload} has no parameter stream_priority",
                device=place.facts.name,
                hint="torch_model has",
            )
    return Treatment(tenants=prioritised(tenants))


def prioritised(tenants: Sequence[Tenant]) -> dict[str, TenantTreatment]:
    """Each tenant's stream priority as a parameter of its workload."""
    return {
        name: TenantTreatment(env=NO_MPS, env_scrub=SCRUBBED, params={"stream_priority": -1 if rank == 0 else 0})
        for name, rank in ranks(tenants).items()
    }


def verify(variant: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:  # noqa: ARG001 - protocol
    """What the driver told every tenant of its own stream."""
    return on_cpu("stream_priority", tenants, record) or unprioritised("stream_priority", tenants, record)


def unprioritised(scheduler: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:
    """The flag of a leg in which a tenant's stream does not have its priority."""
    wanted = prioritised(tenants)
    known = pids(record, tenants)
    for result in record.programs:
        if result.name in known:
            priority = wanted[tenant_of(result.name)].params["stream_priority"]
            told = header(result).get("stream_priority")
            if type(told) is not int or told != priority:
                return not_seen(scheduler, f"the stream of {result.name} does not say that its priority is {priority}")
    return ()
