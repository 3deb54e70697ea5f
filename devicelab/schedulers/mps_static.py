"""MPS with static partitions (CUDA 13.1): the less important tenants share so many chunks of SMs, as a partition.

``mps_static:4``: four chunks for the less important tenants, the most important one has the rest. The daemon is started
with ``-S``; where the installed one is older than 13.1 the leg is refused with its version. Read, never run (driver 580
has CUDA 13.0). Source: NVIDIA Multi-Process Service documentation (`-v`, `-S`, `lspart`, `sm_partition add DEVICE N`,
CUDA_MPS_SM_PARTITION).
"""

from collections.abc import Sequence

from devicelab.errors import ConfigError
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Command, Witness
from devicelab.schedulers import mps
from devicelab.schedulers._shared import (
    SCRUBBED,
    environ_witnesses,
    not_seen,
    on_cpu,
    pids,
    ranks,
    said,
    tenant_of,
)
from devicelab.schedulers.base import Place, TenantTreatment, Treatment

_LEAST = 13010

# $1: the least version (13010 is CUDA 13.1).
_GATE = r"""
v=$(nvidia-cuda-mps-control -v 2>/dev/null | grep -oE '[0-9]{5}' | head -1)
[ "${v:-0}" -ge "$1" ] && exit 0
echo "static partitions need nvidia-cuda-mps-control $1 or newer; this is ${v:-of no known version}" >&2
exit 1
"""
# $1: our directory, $2: chunks. Two partitions of the first card: the asked one, then as much as there is of the rest.
_MAKE = r"""
d=$1; control() { echo "$*" | nvidia-cuda-mps-control; }
card=$(nvidia-smi --query-gpu=uuid --format=csv,noheader | head -1)
id() { grep -oE "$card/[A-Za-z0-9]+" | head -1; }
control sm_partition add "$card" "$2" | id >"$d/first"
n=512
while [ $n -gt 0 ]; do
  control sm_partition add "$card" $n 2>/dev/null | id >"$d/rest"
  [ -s "$d/rest" ] && break
  n=$((n - 1))
done
[ -s "$d/first" ] && [ -s "$d/rest" ] && exit 0
echo "no two partitions could be made:" >&2; control lspart >&2; exit 1
"""
_FRONT = 'CUDA_MPS_SM_PARTITION=$(cat "$1") || exit 4; export CUDA_MPS_SM_PARTITION; shift; exec "$@"'


def treat(variant: str, tenants: Sequence[Tenant], place: Place) -> Treatment:
    """The daemon in static mode, two partitions, and every tenant in one of them.

    Raises:
        ConfigError: not a number of chunks.
    """
    if not variant.isdecimal() or len(variant) > 3 or int(variant) < 1:
        raise ConfigError(
            f"mps_static:{variant}: a number of chunks for the less important tenants is expected, from 1"
        )
    env, steps = mps.daemon(place, "-S")
    where = f"{place.facts.dir}/mps"
    directory, start = steps
    return Treatment(
        steps=(
            Command(do=("sh", "-c", _GATE, "sh", str(_LEAST)), undo=("true",), why="is this MPS new enough?"),
            directory,
            start,
            # The daemon takes its partitions with it.
            Command(
                do=("sh", "-c", _MAKE, "sh", where, variant), undo=("true",), env=env, why="make two SM partitions"
            ),
        ),
        tenants={
            name: TenantTreatment(
                env=env, env_scrub=SCRUBBED, front=("sh", "-c", _FRONT, "sh", f"{where}/{_part(rank)}")
            )
            for name, rank in ranks(tenants).items()
        },
        witnesses=(
            mps.client_list(env),
            Witness(
                name="mps partitions",
                argv=("sh", "-c", f'cd "{where}" && for p in first rest; do echo "$p $(cat $p)"; done'),
            ),
            *environ_witnesses("CUDA_MPS_SM_PARTITION", tenants),
        ),
    )


def _part(rank: int) -> str:
    return "rest" if rank == 0 else "first"


def verify(variant: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:  # noqa: ARG001 - protocol
    """MPS has every pid, and every process was started in its partition."""
    flags = on_cpu("mps_static", tenants, record) or mps.unconnected("mps_static", tenants, record)
    if flags:
        return flags
    made = dict(line.split() for line in (said(record, "mps partitions") or "").splitlines() if len(line.split()) == 2)
    rank = ranks(tenants)
    for name in pids(record, tenants):
        wanted = made.get(_part(rank[tenant_of(name)]))
        has = (said(record, f"environ {name}") or "").strip()
        if wanted is None or has != f"CUDA_MPS_SM_PARTITION={wanted}":
            return not_seen("mps_static", f"{name} was not started in its partition")
    return ()
