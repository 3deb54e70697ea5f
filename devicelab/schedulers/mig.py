"""An existing MIG device: tenants run in it; the card's partition is never changed."""

import re
from collections.abc import Sequence

from devicelab.errors import ConfigError
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
    said,
    tenant_of,
)
from devicelab.schedulers.base import Place, TenantTreatment, Treatment

_UUID = re.compile(r"MIG-[0-9a-fA-F-]{36}")


def treat(variant: str, tenants: Sequence[Tenant], place: Place) -> Treatment:  # noqa: ARG001 - the protocol
    """``mig:MIG-uuid,MIG-uuid``: the tenants' devices in their order; one serves all.

    Raises:
        ConfigError: not such ids, or not one for each tenant.
    """
    return Treatment(
        tenants={
            name: TenantTreatment(env={**NO_MPS, "CUDA_VISIBLE_DEVICES": device}, env_scrub=SCRUBBED)
            for name, device in _given(variant, tenants).items()
        },
        witnesses=(
            Witness(name="gpus", argv=("nvidia-smi", "-L")),
            *environ_witnesses("CUDA_VISIBLE_DEVICES", tenants),
        ),
    )


def _given(variant: str, tenants: Sequence[Tenant]) -> dict[str, str]:
    devices = variant.split(",") if variant else []
    if not devices or not all(_UUID.fullmatch(device) for device in devices):
        raise ConfigError(f"mig:{variant}: ids as `nvidia-smi -L` prints them are expected (MIG-…)")
    if len(devices) not in {1, len(tenants)}:
        raise ConfigError(f"mig: {len(devices)} devices for {len(tenants)} tenants; give one, or one for each")
    every = devices * len(tenants) if len(devices) == 1 else devices
    return {tenant.name: device for tenant, device in zip(tenants, every, strict=True)}


def verify(variant: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:
    """The devices exist, by the driver's own list, and the live processes were given theirs.

    CUDA takes the first device it is shown, and fails rather than take another if that one is not there.
    """
    given = _given(variant, tenants)
    listed = said(record, "gpus") or ""
    missing = sorted({device for device in given.values() if device not in listed})
    if missing:
        return not_seen("mig", f"no such MIG device: {', '.join(missing)}")
    for name in pids(record, tenants):
        if flags := not_given("mig", record, name, {"CUDA_VISIBLE_DEVICES": given[tenant_of(name)]}):
            return flags
    return on_cpu("mig", tenants, record)
