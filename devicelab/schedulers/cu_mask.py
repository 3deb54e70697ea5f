"""AMD compute-unit masks: each tenant's process is confined to a share of the GPU's CUs (HSA_CU_MASK).

Parse errors in the mask are silently ignored by the runtime, so the mask is built here and never taken as text.
Source: ROCr runtime documentation, HSA_CU_MASK = "GPU_list:CU_list".
"""

import re
from collections.abc import Sequence

from devicelab.errors import ConfigError
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, RunRecord
from devicelab.schedulers._shared import SCRUBBED, environ_witnesses, not_given, on_cpu, pids, tenant_of
from devicelab.schedulers.base import Place, TenantTreatment, Treatment


def treat(variant: str, tenants: Sequence[Tenant], place: Place) -> Treatment:  # noqa: ARG001 - the protocol
    """``cu_mask:0-39,40-79``: CUs of the tenants in their order.

    Raises:
        ConfigError: not one range for each tenant.
    """
    return Treatment(
        tenants={
            name: TenantTreatment(env={"HSA_CU_MASK": f"0:{part}"}, env_scrub=SCRUBBED)
            for name, part in _ranges(variant, tenants).items()
        },
        witnesses=environ_witnesses("HSA_CU_MASK", tenants),
    )


def _ranges(variant: str, tenants: Sequence[Tenant]) -> dict[str, str]:
    ranges = variant.split(",") if variant else []
    if len(ranges) != len(tenants) or not all(re.fullmatch(r"[0-9]{1,4}-[0-9]{1,4}", part) for part in ranges):
        raise ConfigError(f"cu_mask:{variant}: one range of CUs for each tenant is expected, such as 0-39,40-79")
    return {tenant.name: part for tenant, part in zip(tenants, ranges, strict=True)}


def verify(variant: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:
    """The live processes carry the mask (that the runtime obeys it is not to be seen from outside)."""
    masks = _ranges(variant, tenants)
    for name in pids(record, tenants):
        if flags := not_given("cu_mask", record, name, {"HSA_CU_MASK": f"0:{masks[tenant_of(name)]}"}):
            return flags
    return on_cpu("cu_mask", tenants, record)
