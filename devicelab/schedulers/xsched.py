"""XSched (OSDI 2025): a preemptive scheduler in front of the driver, taken as an installed prefix from lab.toml.

``xsched:POLICY`` (HPF, UP, LAX ...; default HPF). Its server is started by the plan, in a network namespace of its own
where root allows (it listens on all addresses), and ended with the SysV queues it leaves. LD_PRELOAD alone schedules
nothing: every tenant gets the global scheduler, automatic XQueues and a priority, and its pid has to appear in the
server's log. Names of variables are those of v1.2.0 (they drifted: checksums of the server and the shim are recorded).
Source: github.com/XpuOS/xsched, documents and source.
"""

import re
from collections.abc import Sequence

from devicelab.errors import ConfigError, DeviceRefusedError
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Command, Witness
from devicelab.schedulers._shared import NO_MPS, SCRUBBED, not_seen, pids, said
from devicelab.schedulers.base import Place, TenantTreatment, Treatment

POLICIES = ("HPF", "HHPF", "CHPF", "UP", "PUP", "SPUP", "KEDF", "LAX", "AWF", "CFS", "MLFQ")
PORT = 50000
# Batch has to be at most the threshold; these are the project's defaults.
_THRESHOLD, _BATCH = "16", "8"
_MOST = 255
_SHIMS = {"nvidia-server": "libshimcuda.so", "amd-server": "libshimhip.so"}

# Is there such a process, and not just its remains that nobody has waited for? Linux: proc_pid_status(5).
_ALIVE = r"""
alive() { grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null; }
ours() { alive "$1" && [ "$(cut -d' ' -f22 "/proc/$1/stat" 2>/dev/null)" = "$(cat "$2/start")" ]; }
"""

# $1: directory, then port and the server's argv. It is up when a socket of its own listens on the port, seen in its own
# network namespace. SysV queues that are there before are noted, and those that appear while it starts (own).
_START = (
    _ALIVE
    + r"""
d=$1; port=$(printf '%04X' "$2"); shift 2; mkdir -p "$d" || exit 1
queues() { awk 'NR > 1 {print $2}' /proc/sysvipc/msg 2>/dev/null | sort; }
queues >"$d/queues"
own() { queues | comm -13 "$d/queues" - >"$d/own"; :; }
if unshare -n true 2>/dev/null; then
  setsid unshare -n sh -c 'ip link set lo up 2>/dev/null; exec "$@"' sh "$@" </dev/null >"$d/log" 2>&1 &
else
  setsid "$@" </dev/null >"$d/log" 2>&1 &
fi
p=$!; echo $p >"$d/pid"; cut -d' ' -f22 "/proc/$p/stat" >"$d/start" 2>/dev/null
listens() {
  for inode in $(awk -v port=":$port" '$4 == "0A" && substr($2, length($2) - 4) == port {print $10}' \
    "/proc/$p/net/tcp" "/proc/$p/net/tcp6" 2>/dev/null)
  do ls -l "/proc/$p/fd" 2>/dev/null | grep -q "socket:\[$inode\]" && return 0; done
  return 1
}
n=0
until listens; do
  n=$((n + 1))
  if [ $n -ge 100 ] || ! alive "$p"; then
    own; tail -c 500 "$d/log" >&2; echo "the server does not listen" >&2; exit 1
  fi
  sleep 0.1
done
own
"""
)

_GONE = "the server had ended before"

# $1: directory. Ends only the process that was started: pid and start time have to be the same. A server that was
# killed leaves its SysV queue (and one that finds a queue asks on stdin): of the new queues that are ours those go that
# appeared while it started or in which it took part, once their last sender and receiver are no more. Other programs
# make queues meanwhile.
_STOP = (
    _ALIVE
    + rf"""
d=$1; [ -d "$d" ] || exit 0
p=$(cat "$d/pid" 2>/dev/null)
if [ -n "$p" ]; then
  ours "$p" "$d" || echo "{_GONE}"
  for signal in TERM KILL; do
    n=0; ours "$p" "$d" && kill -$signal "$p"
    while ours "$p" "$d" && [ $n -lt 30 ]; do n=$((n + 1)); sleep 0.1; done
  done
  awk -v me="$(id -u)" 'NR > 1 && ($8 == me || $10 == me) {{print $2, $6, $7}}' /proc/sysvipc/msg 2>/dev/null |
  while read -r q sender receiver; do
    [ "$sender" = "$p" ] || [ "$receiver" = "$p" ] || grep -qsx "$q" "$d/own" || continue
    grep -qx "$q" "$d/queues" || alive "$sender" || alive "$receiver" || ipcrm -q "$q"
  done
fi
rm -rf "$d"
"""
)

# $1: directory. A line for each process that has a queue by the log, then a word on the server itself: the log of a
# long run is larger than what is kept of a witness.
_LOOK = (
    _ALIVE
    + r"""
d=$1; p=$(cat "$d/pid") || exit 1
LC_ALL=C sed -n 's/.*\(XQueue\) (0x[0-9a-fA-F]*) \(from process [0-9]* created\).*/\1 \2/p' "$d/log" | sort -u
ours "$p" "$d" && echo "server alive"; :
"""
)


def treat(variant: str, tenants: Sequence[Tenant], place: Place) -> Treatment:
    """The server with the policy, and every tenant in front of it.

    Raises:
        ConfigError: no such policy or priority, or lab.toml names no prefix.
        DeviceRefusedError: the device has neither an NVIDIA nor an AMD GPU.
    """
    policy = variant or "HPF"
    if policy not in POLICIES:
        raise ConfigError(f"xsched:{policy}: no such policy", hint=f"there are {', '.join(POLICIES)}")
    for tenant in tenants:
        if abs(tenant.priority) > _MOST:
            raise ConfigError(
                f"xsched: tenant {tenant.name} has priority {tenant.priority}; -{_MOST} to {_MOST} are known"
            )
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
                do=("sh", "-c", _START, "sh", where, str(PORT), *server),
                undo=("sh", "-c", _STOP, "sh", where),
                why=f"start XSched's server with policy {policy}",
            ),
        ),
        tenants={
            tenant.name: TenantTreatment(env=environment(tenant, prefix, place), env_scrub=SCRUBBED)
            for tenant in tenants
        },
        witnesses=(
            Witness(name="xserver", argv=("sh", "-c", _LOOK, "sh", where)),
            Witness(name="xsched files", argv=("sha256sum", server[0], f"{prefix}/lib/{_SHIMS[_kind(place)]}")),
        ),
    )


def environment(tenant: Tenant, prefix: str, place: Place) -> dict[str, str]:
    """The variables of one tenant's process.

    CUDA: the runtime opens libcuda.so.1, which the prefix's lib folder links to the shim. HIP: the shim is preloaded
    into the tenant's process alone (through a link folder the symbol versions break).
    """
    env = {
        **NO_MPS,
        "XSCHED_SCHEDULER": "GLB",
        "XSCHED_AUTO_XQUEUE": "ON",
        "XSCHED_AUTO_XQUEUE_LEVEL": "1",
        "XSCHED_AUTO_XQUEUE_THRESHOLD": _THRESHOLD,
        "XSCHED_AUTO_XQUEUE_BATCH_SIZE": _BATCH,
        "XSCHED_AUTO_XQUEUE_PRIORITY": str(tenant.priority),
        "XSCHED_CUDA_SINGLE_STREAM_PER_PROCESS": "ON",
    }
    if tenant.deadline_ms is not None:
        env["XSCHED_AUTO_XQUEUE_DEADLINE"] = str(round(tenant.deadline_ms * 1000))
        env["XSCHED_AUTO_XQUEUE_LAXITY"] = str(round(tenant.deadline_ms * 1000))
    if _kind(place) == "amd-server":
        hip = place.prefixes.get("hip", "/opt/rocm/lib/libamdhip64.so")
        return {**env, "LD_PRELOAD": f"{prefix}/lib/{_SHIMS['amd-server']}", "XSCHED_HIP_LIB": hip}
    cuda = place.prefixes.get("cuda", "/usr/lib/x86_64-linux-gnu/libcuda.so.1")
    return {**env, "LD_LIBRARY_PATH": f"{prefix}/lib", "XSCHED_CUDA_LIB": cuda, "CUXTRA_CUDA_LIB": cuda}


def _kind(place: Place) -> str:
    kind = place.facts.board.kind
    if kind not in _SHIMS:
        raise DeviceRefusedError(f"XSched needs an NVIDIA or AMD GPU; this is {kind}", device=place.facts.name)
    return kind


def verify(variant: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:  # noqa: ARG001 - protocol
    """The server lives and its log names every live pid ("XQueue (0x…) from process 678 created"), to the end."""
    text = said(record, "xserver")
    if text is None or "server alive" not in text.splitlines():
        return not_seen("xsched", "the server was not alive while the tenants ran")
    # With the queue's handle in records of earlier versions.
    seen = {int(pid) for pid in re.findall(r"XQueue (?:\(0x[0-9a-fA-F]+\) )?from process (\d{1,10}) created", text)}
    missing = [f"{name} (pid {pid})" for name, pid in pids(record, tenants).items() if pid not in seen]
    if missing:
        return not_seen("xsched", f"no XQueue for {', '.join(missing)}")
    if any(_GONE in (result.output or "") for result in record.restore):
        return not_seen("xsched", "the server ended before the tenants did")
    return ()
