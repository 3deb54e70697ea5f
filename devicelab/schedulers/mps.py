"""NVIDIA MPS: one server process shares a GPU's context between clients.

Variants: none; ``50`` (the less important tenants get 50% of the threads, CUDA_MPS_ACTIVE_THREAD_PERCENTAGE);
``priority`` (they get client priority 1, below normal); ``stream`` (stream priorities on top, which act under MPS).
A client that cannot connect runs silently without MPS, so every pid has to be in the server's client list.
Source: NVIDIA Multi-Process Service documentation; the names of the variables are its.
"""

import re
from collections.abc import Iterator, Sequence

from devicelab.errors import ConfigError
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Command, Witness
from devicelab.schedulers import stream_priority
from devicelab.schedulers._shared import SCRUBBED, environ_witnesses, not_seen, pids, ranks, said, tenant_of
from devicelab.schedulers.base import Place, TenantTreatment, Treatment

_CONTROL = "nvidia-cuda-mps-control"
_GONE = "the daemon had ended before"
# $1: the daemon's directory. A daemon that died leaves its servers: whatever carries our directory is ended, and that
# it is gone is proved.
_QUIT = rf"""
ours() {{
  for e in /proc/[0-9]*/environ; do
    p=${{e#/proc/}}; p=${{p%/environ}}
    case $(cat "/proc/$p/comm" 2>/dev/null) in nvidia-cuda-mps*)
      tr '\0' '\n' <"$e" 2>/dev/null | grep -qx "CUDA_MPS_PIPE_DIRECTORY=$1/pipe" && echo "$p";;
    esac
  done
}}
echo get_server_list | timeout 15 nvidia-cuda-mps-control >/dev/null 2>&1 || echo "{_GONE}"
echo quit | timeout 15 nvidia-cuda-mps-control >/dev/null 2>&1
n=0
while left=$(ours "$1"); [ -n "$left" ] && [ $n -lt 20 ]; do
  [ $n -ge 10 ] && kill -9 $left 2>/dev/null
  n=$((n + 1)); sleep 0.2
done
[ -z "$left" ] || {{ echo "still there: $left" >&2; exit 1; }}
"""
_LIST = (
    f"for s in $(echo get_server_list | {_CONTROL}); do echo server $s; "
    f"echo get_client_list $s | {_CONTROL} | while read -r c; do echo client $c; done; done"
)


def treat(variant: str, tenants: Sequence[Tenant], place: Place) -> Treatment:
    """A control daemon of our own, in a directory of our own; clients are pointed to it.

    Raises:
        ConfigError: no such variant.
    """
    where = f"{place.facts.dir}/mps"
    env = {"CUDA_MPS_PIPE_DIRECTORY": f"{where}/pipe", "CUDA_MPS_LOG_DIRECTORY": f"{where}/log"}
    return Treatment(
        steps=(
            Command(
                do=("mkdir", "-p", f"{where}/pipe", f"{where}/log"),
                undo=("rm", "-rf", where),
                why="a directory for the MPS control daemon",
            ),
            Command(do=(_CONTROL, "-d"), undo=("sh", "-c", _QUIT, "sh", where), env=env, why="start MPS"),
        ),
        tenants={
            name: TenantTreatment(
                env={**env, **_share(variant, rank)},
                env_scrub=SCRUBBED,
                params=stream_priority.prioritised(tenants)[name].params if variant == "stream" else {},
            )
            for name, rank in ranks(tenants).items()
        },
        witnesses=(Witness(name="mps clients", argv=("sh", "-c", _LIST), env=env), *_share_witnesses(variant, tenants)),
    )


def _share_witnesses(variant: str, tenants: Sequence[Tenant]) -> Iterator[Witness]:
    rank = ranks(tenants)
    for tenant in tenants:
        for variable in _share(variant, rank[tenant.name]):
            yield from environ_witnesses(variable, (tenant,))


def _share(variant: str, rank: int) -> dict[str, str]:
    if variant in {"", "stream"} or (rank == 0 and (variant == "priority" or variant.isdecimal())):
        return {}
    if variant == "priority":
        return {"CUDA_MPS_CLIENT_PRIORITY": "1"}
    if variant.isdecimal() and 1 <= int(variant) <= 100:
        return {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": variant}
    raise ConfigError(f"mps:{variant}: a percentage from 1 to 100, `priority` or `stream` is expected")


def verify(variant: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:
    """Every tenant's pid has to be in the server's client list, and to have what the variant gives it."""
    text = said(record, "mps clients")
    if text is None:
        return not_seen("mps", "the control daemon did not answer")
    clients = {int(pid) for pid in re.findall(r"^client (\d{1,10})", text, re.MULTILINE)}
    missing = [f"{name} (pid {pid})" for name, pid in pids(record, tenants).items() if pid not in clients]
    if missing:
        return not_seen("mps", f"not in the client list: {', '.join(missing)}")
    if any(_GONE in (result.output or "") for result in record.restore):
        return not_seen("mps", "the control daemon ended before the tenants did")
    return (
        stream_priority.unprioritised("mps", tenants, record)
        if variant == "stream"
        else _unshared(variant, tenants, record)
    )


def _unshared(variant: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:
    """The flag of a leg in which a less important tenant's process does not have its share."""
    rank = ranks(tenants)
    for name in pids(record, tenants):
        for variable, value in _share(variant, rank[tenant_of(name)]).items():
            if (said(record, f"environ {name}") or "").strip() != f"{variable}={value}":
                return not_seen("mps", f"{name} does not have {variable}={value}")
    return ()
