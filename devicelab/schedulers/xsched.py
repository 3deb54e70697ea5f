"""XSched (OSDI 2025): a preemptive scheduler in front of the driver, taken as an installed prefix from lab.toml.

``xsched:POLICY`` (HPF, UP, LAX ...; default HPF), with settings in brackets: ``xsched:HPF(threshold=8,batch=4)``. Its
server is started by the plan, in a network namespace of its own where root allows (it listens on all addresses), and
ended with the SysV queues it leaves. LD_PRELOAD alone schedules nothing: every tenant gets the global scheduler,
automatic XQueues and the hints of its policy, and the server's log has to name the policy, a queue of its pid, and the
priority that the queue got. Names of variables and of log lines are those of v1.2.0 (they drifted: checksums of
everything in the prefix are recorded). Source: github.com/XpuOS/xsched, documents and source.
"""

import re
from collections.abc import Mapping, Sequence

from devicelab.errors import ConfigError, DeviceRefusedError
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Command, Witness
from devicelab.schedulers import _xsched_scripts as scripts
from devicelab.schedulers._shared import NO_MPS, SCRUBBED, not_seen, pids, said, settings_of, tenant_of
from devicelab.schedulers.base import Place, TenantTreatment, Treatment

POLICIES = ("HPF", "HHPF", "CHPF", "UP", "PUP", "SPUP", "KEDF", "LAX", "AWF", "CFS", "MLFQ")
PORT = 50000
# Smallest, largest and the value used where none is given (protocol/README.md). The batch is at most the threshold.
SETTINGS = {
    "threshold": (1, 1_000_000, 16),
    "batch": (1, 1_000_000, 8),
    "level": (1, 3, 1),
    "timeslice": (100, 100_000, None),
}
_VARIABLES = {"threshold": "THRESHOLD", "batch": "BATCH_SIZE", "level": "LEVEL", "timeslice": "TIMESLICE"}
FACTORS = {f"xsched_{name}": name for name in SETTINGS}
_MOST = 255
_KINDS = {"nvidia-server": "cuda", "amd-server": "hip"}
# Without these a policy schedules nothing: up.cpp, pup.cpp, kedf.cpp, lax.cpp. True: every tenant needs it; else one.
_HINTS = {
    "UP": ("utilization_pct", True),
    "PUP": ("utilization_pct", True),
    "SPUP": ("utilization_pct", True),
    "KEDF": ("deadline_ms", True),
    "LAX": ("laxity_ms", False),
}
# The policies whose log names each queue's priority (hpf.cpp, hhpf.cpp).
_SAY_PRIORITIES = frozenset(("HPF", "HHPF"))


def treat(variant: str, tenants: Sequence[Tenant], place: Place) -> Treatment:
    """The server with the policy, and every tenant in front of it.

    Raises:
        ConfigError: no such policy, setting or priority, a policy without the hints it needs, or lab.toml names no
            prefix.
        DeviceRefusedError: the device has neither an NVIDIA nor an AMD GPU.
    """
    policy, settings = _chosen(variant)
    _check_hints(policy, tenants)
    prefix = place.prefixes.get("xsched")
    if prefix is None:
        raise ConfigError(
            "where is XSched installed?", hint=f'lab.toml: [devices.{place.facts.name}.prefixes] xsched = "/opt/xsched"'
        )
    where, kind = f"{place.facts.dir}/xsched", _kind(place)
    server = (f"{prefix}/bin/xserver", policy, str(PORT))
    front = ("sh", "-c", scripts.FRONT, "sh", kind, place.prefixes.get(kind, ""), prefix, where)
    return Treatment(
        steps=(
            Command(
                do=("sh", "-c", scripts.START, "sh", where, str(PORT), place.python, *server),
                undo=("sh", "-c", scripts.STOP, "sh", where),
                why=f"start XSched's server with policy {policy}",
            ),
        ),
        tenants={
            tenant.name: TenantTreatment(env=environment(tenant, policy, settings), env_scrub=SCRUBBED, front=front)
            for tenant in tenants
        },
        witnesses=(
            Witness(name="xserver", argv=("sh", "-c", scripts.LOOK, "sh", where)),
            Witness(name="xsched files", argv=("sh", "-c", scripts.FILES, "sh", prefix)),
        ),
    )


def _chosen(variant: str) -> tuple[str, dict[str, int]]:
    """Policy and settings of a variant.

    Raises:
        ConfigError: no such policy or setting.
    """
    name, given = settings_of(variant)
    policy = name or "HPF"
    if policy not in POLICIES:
        raise ConfigError(f"xsched:{variant}: no such policy", hint=f"there are {', '.join(POLICIES)}")
    found = {setting: usual for setting, (_, _, usual) in SETTINGS.items() if usual is not None}
    for setting, text in given.items():
        low, high, _ = SETTINGS.get(setting, (0, -1, None))
        if not (text.isdecimal() and len(text) < 10 and low <= int(text) <= high):
            known = ", ".join(f"{one} ({least} to {most})" for one, (least, most, _) in SETTINGS.items())
            raise ConfigError(f"xsched:{variant}: {setting}={text} is no setting", hint=f"there are {known}")
        found[setting] = int(text)
    if found["batch"] > found["threshold"]:
        wanted = f"batch {found['batch']} is larger than threshold {found['threshold']}"
        raise ConfigError(f"xsched:{variant}: {wanted}", hint="set both: xsched:HPF(threshold=8,batch=4)")
    return policy, found


def _check_hints(policy: str, tenants: Sequence[Tenant]) -> None:
    for tenant in tenants:
        if abs(tenant.priority) > _MOST:
            raise ConfigError(
                f"xsched: tenant {tenant.name} has priority {tenant.priority}; -{_MOST} to {_MOST} are known"
            )
    if policy == "AWF":
        raise ConfigError(
            "xsched:AWF schedules by which window is active, and no tenant has one",
            hint="LAX, HPF and KEDF are for programs without windows",
        )
    key, everyone = _HINTS.get(policy, ("", False))
    without = [tenant.name for tenant in tenants if key and getattr(tenant, key) is None]
    if without and (everyone or len(without) == len(tenants)):
        whose = ", ".join(without) if everyone else "none of the tenants"
        raise ConfigError(
            f"xsched:{policy} needs {key}" + (f" of {whose}" if everyone else ": none of the tenants has it"),
            hint=f"[[tenants]] {key} = …; without it the policy schedules nothing",
        )


def environment(tenant: Tenant, policy: str, settings: Mapping[str, int]) -> dict[str, str]:
    """The variables of one tenant's process; times are microseconds there.

    A hint that its policy does not know is left out: LAX takes any laxity as the time until which a queue waits.
    """
    env = {
        **NO_MPS,
        "XSCHED_SCHEDULER": "GLB",
        "XSCHED_AUTO_XQUEUE": "ON",
        "XSCHED_AUTO_XQUEUE_PRIORITY": str(tenant.priority),
        "XSCHED_CUDA_SINGLE_STREAM_PER_PROCESS": "ON",
    }
    env |= {f"XSCHED_AUTO_XQUEUE_{_VARIABLES[name]}": str(value) for name, value in settings.items()}
    if policy == "KEDF" and tenant.deadline_ms is not None:
        env["XSCHED_AUTO_XQUEUE_DEADLINE"] = str(round(tenant.deadline_ms * 1000))
    if policy == "LAX" and tenant.laxity_ms is not None:
        env["XSCHED_AUTO_XQUEUE_LAXITY"] = str(round(tenant.laxity_ms * 1000))
    if _HINTS.get(policy, ("",))[0] == "utilization_pct" and tenant.utilization_pct is not None:
        env["XSCHED_AUTO_XQUEUE_UTILIZATION"] = str(round(tenant.utilization_pct))
    return env


def _kind(place: Place) -> str:
    kind = place.facts.board.kind
    if kind not in _KINDS:
        raise DeviceRefusedError(f"XSched needs an NVIDIA or AMD GPU; this is {kind}", device=place.facts.name)
    return _KINDS[kind]


def verify(variant: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:
    """The server lives to the end, has the policy, and its log names a queue of every live pid, with its priority."""
    text = said(record, "xserver")
    if text is None or "server alive" not in text.splitlines():
        return not_seen("xsched", "the server was not alive while the tenants ran")
    # With the queue's handle in records of earlier versions.
    seen = {int(pid) for pid in re.findall(r"XQueue (?:\(0x[0-9a-fA-F]+\) )?from process (\d{1,10}) created", text)}
    running = pids(record, tenants)
    missing = [f"{name} (pid {pid})" for name, pid in running.items() if pid not in seen]
    if missing:
        return not_seen("xsched", f"no XQueue for {', '.join(missing)}")
    if any(scripts.GONE in (result.output or "") for result in record.restore):
        return not_seen("xsched", "the server ended before the tenants did")
    return _unlike_wanted(variant, tenants, running, text)


def _unlike_wanted(variant: str, tenants: Sequence[Tenant], running: Mapping[str, int], text: str) -> tuple[Flag, ...]:
    """The flag of a leg whose server had another policy, or gave a queue another priority, by its own log."""
    told = re.search(r"^policy ([A-Za-z]+)$", text, re.MULTILINE)
    if told is None:  # a record of an earlier version, which did not ask
        return ()
    policy, _ = _chosen(variant)
    if told[1] != policy:
        return not_seen("xsched", f"the server's log says policy {told[1]}, not {policy}")
    if policy in _SAY_PRIORITIES:
        wanted = {tenant.name: tenant.priority for tenant in tenants}
        for name, pid in running.items():
            got = re.findall(rf"^process {pid} priority (-?\d{{1,4}})$", text, re.MULTILINE)
            if got != [str(wanted[tenant_of(name)])]:
                given = " and ".join(got) or "none"
                return not_seen(
                    "xsched", f"{name} should have priority {wanted[tenant_of(name)]}, its queue got {given}"
                )
    return ()
