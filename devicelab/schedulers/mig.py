"""An existing MIG device: tenants run in it; the card's partition is never changed."""

import re
from collections.abc import Sequence

from devicelab.errors import ConfigError
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Witness
from devicelab.schedulers._shared import SCRUBBED, not_seen, said
from devicelab.schedulers.base import Place, TenantTreatment, Treatment

_UUID = re.compile(r"MIG-[0-9a-fA-F-]{36}")


def treat(variant: str, tenants: Sequence[Tenant], place: Place) -> Treatment:  # noqa: ARG001 - the protocol
    """``mig:MIG-uuid,MIG-uuid``: the tenants' devices in their order; one serves all."""
    devices = _devices(variant)
    if len(devices) not in {1, len(tenants)}:
        raise ConfigError(f"mig: {len(devices)} devices for {len(tenants)} tenants; give one, or one for each")
    given = devices * len(tenants) if len(devices) == 1 else devices
    return Treatment(
        tenants={
            tenant.name: TenantTreatment(env={"CUDA_VISIBLE_DEVICES": device}, env_scrub=SCRUBBED)
            for tenant, device in zip(tenants, given, strict=True)
        },
        witnesses=(Witness(name="gpus", argv=("nvidia-smi", "-L")),),
    )


def _devices(variant: str) -> list[str]:
    devices = variant.split(",") if variant else []
    if not devices or not all(_UUID.fullmatch(device) for device in devices):
        raise ConfigError(f"mig:{variant}: ids as `nvidia-smi -L` prints them are expected (MIG-…)")
    return devices


def verify(variant: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:  # noqa: ARG001 - protocol
    """The devices exist, by the driver's own list."""
    listed = said(record, "gpus") or ""
    missing = [device for device in _devices(variant) if device not in listed]
    return not_seen("mig", f"no such MIG device: {', '.join(missing)}") if missing else ()
