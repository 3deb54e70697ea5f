"""XSched (OSDI 2025): a preemptive scheduler in front of the driver, taken as an installed prefix from lab.toml.

``xsched:POLICY`` (HPF, UP, LAX ...; default HPF). Its server is started by the plan, in a network namespace of its own
where root allows (it listens on all addresses), and ended with its SysV queue. LD_PRELOAD alone schedules nothing:
every tenant gets the global scheduler, automatic XQueues and a priority, and its pid has to appear in the server's
log. Names of variables are those of v1.2.0 (they drifted: the prefix's version is recorded).
Source: github.com/XpuOS/xsched, documents and source.
"""

import re
from collections.abc import Sequence

from devicelab.errors import ConfigError, DeviceRefusedError
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Command, Witness
from devicelab.schedulers._shared import SCRUBBED, not_seen, pids, said
from devicelab.schedulers.base import Place, TenantTreatment, Treatment

POLICIES = ("HPF", "HHPF", "CHPF", "UP", "PUP", "SPUP", "KEDF", "LAX", "AWF", "CFS", "MLFQ")
PORT = 50000
# Batch has to be at most the threshold; these are the project's defaults.
_THRESHOLD, _BATCH = "16", "8"

# $1: directory, then the server's argv. SysV queues that appear while it starts are noted, to be removed at the end
# (kill -9 leaves them, and a server that finds one asks on stdin). It is up when its port is bound in its namespace.
_START = r"""
d=$1; shift; mkdir -p "$d" || exit 1
ipcs -q 2>/dev/null | awk '$2 ~ /^[0-9]+$/ {print $2}' | sort >"$d/queues.before"
if unshare -n true 2>/dev/null; then
  setsid unshare -n sh -c 'ip link set lo up 2>/dev/null; exec "$@"' sh "$@" </dev/null >"$d/log" 2>&1 &
else
  setsid "$@" </dev/null >"$d/log" 2>&1 &
fi
p=$!; echo $p >"$d/pid"; cut -d' ' -f22 "/proc/$p/stat" >"$d/start" 2>/dev/null
hex=$(printf ':%04X' 50000); n=0
until grep -q "$hex .* 0A " "/proc/$p/net/tcp" "/proc/$p/net/tcp6" 2>/dev/null; do
  n=$((n + 1)); [ -d "/proc/$p" ] && [ $n -lt 100 ] || { cat "$d/log" >&2; exit 1; }
  sleep 0.1
done
"""

# $1: directory. Ends only the process that was started: pid and start time have to be the same.
_STOP = r"""
d=$1; [ -f "$d/pid" ] || exit 0
p=$(cat "$d/pid")
if [ "$(cut -d' ' -f22 "/proc/$p/stat" 2>/dev/null)" = "$(cat "$d/start" 2>/dev/null)" ]; then
  kill "$p" 2>/dev/null; n=0
  while [ -d "/proc/$p" ] && [ $n -lt 30 ]; do n=$((n + 1)); sleep 0.1; done
  kill -9 "$p" 2>/dev/null
fi
ipcs -q 2>/dev/null | awk '$2 ~ /^[0-9]+$/ {print $2}' | sort >"$d/queues.after"
for q in $(comm -13 "$d/queues.before" "$d/queues.after"); do ipcrm -q "$q"; done
rm -rf "$d"
"""


def treat(variant: str, tenants: Sequence[Tenant], place: Place) -> Treatment:
    """The server with the policy, and every tenant in front of it.

    Raises:
        ConfigError: no such policy, or lab.toml names no prefix.
        DeviceRefusedError: the device has neither an NVIDIA nor an AMD GPU.
    """
    policy = variant or "HPF"
    if policy not in POLICIES:
        raise ConfigError(f"xsched:{policy}: no such policy", hint=f"there are {', '.join(POLICIES)}")
    prefix = place.prefixes.get("xsched")
    if prefix is None:
        raise ConfigError(
            "where is XSched installed?", hint=f'lab.toml: [devices.{place.facts.name}.prefixes] xsched = "/opt/xsched"'
        )
    where = f"{place.facts.dir}/xsched"
    server = (f"{prefix}/bin/xserver", policy, str(PORT))
    return Treatment(
        steps=(
            Command(
                do=("sh", "-c", _START, "sh", where, *server),
                undo=("sh", "-c", _STOP, "sh", where),
                why=f"start XSched's server with policy {policy}",
            ),
        ),
        tenants={
            tenant.name: TenantTreatment(env=environment(tenant, prefix, place), env_scrub=SCRUBBED)
            for tenant in tenants
        },
        witnesses=(Witness(name="xserver log", argv=("cat", f"{where}/log")),),
    )


def environment(tenant: Tenant, prefix: str, place: Place) -> dict[str, str]:
    """The variables of one tenant's process.

    CUDA: the runtime opens libcuda.so.1, which the prefix's lib folder links to the shim. HIP: the shim is preloaded
    into the tenant's process alone (through a link folder the symbol versions break).
    """
    env = {
        "XSCHED_SCHEDULER": "GLB",
        "XSCHED_AUTO_XQUEUE": "ON",
        "XSCHED_AUTO_XQUEUE_LEVEL": "1",
        "XSCHED_AUTO_XQUEUE_THRESHOLD": _THRESHOLD,
        "XSCHED_AUTO_XQUEUE_BATCH_SIZE": _BATCH,
        "XSCHED_AUTO_XQUEUE_PRIORITY": str(max(-255, min(255, tenant.priority))),
        "XSCHED_CUDA_SINGLE_STREAM_PER_PROCESS": "ON",
    }
    if tenant.deadline_ms is not None:
        env["XSCHED_AUTO_XQUEUE_DEADLINE"] = str(round(tenant.deadline_ms * 1000))
        env["XSCHED_AUTO_XQUEUE_LAXITY"] = str(round(tenant.deadline_ms * 1000))
    kind = place.facts.board.kind
    if kind == "amd-server":
        hip = place.prefixes.get("hip", "/opt/rocm/lib/libamdhip64.so")
        return {**env, "LD_PRELOAD": f"{prefix}/lib/libshimhip.so", "XSCHED_HIP_LIB": hip}
    if kind == "nvidia-server":
        cuda = place.prefixes.get("cuda", "/usr/lib/x86_64-linux-gnu/libcuda.so.1")
        return {**env, "LD_LIBRARY_PATH": f"{prefix}/lib", "XSCHED_CUDA_LIB": cuda}
    raise DeviceRefusedError(f"XSched needs an NVIDIA or AMD GPU; this is {kind}", device=place.facts.name)


def verify(variant: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:  # noqa: ARG001 - protocol
    """The server's log names every live pid ("XQueue (0x…) from process 678 created")."""
    text = said(record, "xserver log")
    if text is None:
        return not_seen("xsched", "the server's log could not be read; did it die?")
    seen = {int(pid) for pid in re.findall(r"XQueue \(0x[0-9a-fA-F]+\) from process (\d+) created", text)}
    missing = [f"{name} (pid {pid})" for name, pid in pids(record).items() if pid not in seen]
    return not_seen("xsched", f"no XQueue for {', '.join(missing)}") if missing else ()
