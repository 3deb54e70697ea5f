"""NVIDIA MPS: one server process shares a GPU's context between clients.

Variants, several joined by ``+`` (``mps:50+priority``): none; ``50`` (the less important tenants get 50% of the
threads, CUDA_MPS_ACTIVE_THREAD_PERCENTAGE); ``priority`` (they get client priority 1, below normal); ``stream`` (stream
priorities on top, which act under MPS).
A client that cannot connect runs silently without MPS, so every pid has to be in the server's client list.
Source: NVIDIA Multi-Process Service documentation; the names of the variables are its.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from devicelab.errors import ConfigError
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Command, Witness
from devicelab.schedulers import stream_priority
from devicelab.schedulers._shared import SCRUBBED, environ_witnesses, not_given, not_seen, pids, ranks, said, tenant_of
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
    f"echo get_client_list $s | {_CONTROL} | while read -r c; do echo client $c; done; done; "
    f"echo default $(echo get_default_active_thread_percentage | {_CONTROL})"
)


def daemon(place: Place, *options: str) -> tuple[dict[str, str], tuple[Command, ...]]:
    """What points a client to a control daemon of our own, in a directory of our own; and the steps that start it."""
    where = f"{place.facts.dir}/mps"
    env = {"CUDA_MPS_PIPE_DIRECTORY": f"{where}/pipe", "CUDA_MPS_LOG_DIRECTORY": f"{where}/log"}
    return env, (
        Command(
            do=("mkdir", "-p", f"{where}/pipe", f"{where}/log"),
            undo=("rm", "-rf", where),
            why="a directory for the MPS control daemon",
        ),
        Command(do=(_CONTROL, "-d", *options), undo=("sh", "-c", _QUIT, "sh", where), env=env, why="start MPS"),
    )


def client_list(env: Mapping[str, str]) -> Witness:
    """The witness that lists the servers' clients."""
    return Witness(name="mps clients", argv=("sh", "-c", _LIST), env=dict(env))


def treat(variant: str, tenants: Sequence[Tenant], place: Place) -> Treatment:
    """A control daemon of our own; clients are pointed to it.

    Raises:
        ConfigError: no such variant.
    """
    env, steps = daemon(place)
    parts = _parts(variant)
    return Treatment(
        steps=steps,
        tenants={
            name: TenantTreatment(
                env={**env, **_share(parts, rank)},
                env_scrub=SCRUBBED,
                params=stream_priority.prioritised(tenants)[name].params if "stream" in parts else {},
            )
            for name, rank in ranks(tenants).items()
        },
        witnesses=(client_list(env), *_share_witnesses(parts, tenants)),
    )


def _parts(variant: str) -> frozenset[str]:
    parts = variant.split("+") if variant else []
    shares = [part for part in parts if part.isdecimal()]
    known = all(part in {"priority", "stream"} or (part.isdecimal() and 1 <= int(part) <= 100) for part in parts)
    if not known or len(set(parts)) != len(parts) or len(shares) > 1:
        raise ConfigError(
            f"mps:{variant}: a percentage from 1 to 100, `priority` or `stream` is expected, or several joined by +"
        )
    return frozenset(parts)


def _share_witnesses(parts: Collection[str], tenants: Sequence[Tenant]) -> Iterator[Witness]:
    rank = ranks(tenants)
    for tenant in tenants:
        if variables := _share(parts, rank[tenant.name]):
            yield from environ_witnesses("|".join(sorted(variables)), (tenant,))


def _share(parts: Collection[str], rank: int) -> dict[str, str]:
    if rank == 0:
        return {}
    pct = next((part for part in parts if part.isdecimal()), None)
    shares = {} if pct is None else {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": pct}
    return shares | ({"CUDA_MPS_CLIENT_PRIORITY": "1"} if "priority" in parts else {})


def verify(variant: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:
    """Every tenant's pid has to be in the server's client list, and to have what the variant gives it."""
    parts = _parts(variant)
    return (
        unconnected("mps", tenants, record)
        or _unshared(parts, tenants, record)
        or (stream_priority.unprioritised("mps", tenants, record) if "stream" in parts else ())
    )


def unconnected(scheduler: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:
    """The flag of a leg in which a tenant is no client of the server, or the daemon did not last."""
    text = said(record, "mps clients")
    if text is None:
        return not_seen(scheduler, "the control daemon did not answer")
    clients = {int(pid) for pid in re.findall(r"^client (\d{1,10})", text, re.MULTILINE)}
    missing = [f"{name} (pid {pid})" for name, pid in pids(record, tenants).items() if pid not in clients]
    if missing:
        return not_seen(scheduler, f"not in the client list: {', '.join(missing)}")
    limit = re.search(r"^default (\d{1,3}(?:\.\d{1,3})?)$", text, re.MULTILINE)
    if limit is not None and float(limit[1]) < 100:
        return not_seen(scheduler, f"the control daemon lets every client have {limit[1]}% of the SMs alone")
    if any(_GONE in (result.output or "") for result in record.restore):
        return not_seen(scheduler, "the control daemon ended before the tenants did")
    return ()


def _unshared(parts: Collection[str], tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:
    """The flag of a leg in which a less important tenant's process does not have its share."""
    rank = ranks(tenants)
    for name in pids(record, tenants):
        share = _share(parts, rank[tenant_of(name)])
        if share and (flags := not_given("mps", record, name, share)):
            return flags
    return ()
