"""A virtual board from a capture: nodes that are recognised get their semantics, all others stay as they were read."""

import errno
import re
from pathlib import Path
from typing import Any

from devicelab.device.capture import Capture, read_capture
from devicelab.errors import ConfigError
from virtualboards.kernel import captured_parts as parts
from virtualboards.kernel.captured_parts import Nodes
from virtualboards.kernel.cpufreq import CPU_DIR
from virtualboards.kernel.spec import BoardSpec, MassSpec, PolicySpec, StaticSpec, Su

# How a real device gives root, and how the virtual one made of it does.
_SU: dict[str, Su] = {"none": "none", "su-c": "magisk", "su-0": "su-0", "adb-root": "adb-root", "self": "adb-root"}
_ANONYMOUS = {"ro.serialno", "ro.boot.serialno", "ril.serialnumber"}


def spec_from_capture(path: Path) -> BoardSpec:
    """The spec of a virtual board that answers like the device an archive was taken from.

    CPU policies, core_ctl, GPUs, buses, thermal zones and cpusets behave; everything else captured is there with its
    text and permissions, unless it cannot be recognised as belonging to a device's /sys, /proc or /dev.

    Raises:
        ConfigError: the archive is not a capture, or describes no device a virtual board can be.
    """
    return spec_of(read_capture(Path(path)))


def spec_of(capture: Capture) -> BoardSpec:
    """The spec made from an archive's content.

    Raises:
        ConfigError: the facts lack what a board needs, or the nodes contradict each other.
    """
    facts = capture.facts
    nodes = Nodes(capture.nodes)
    try:
        board = facts.get("board") or {}
        kernel = str(facts["kernel"])
        policies = parts.policies(nodes)
        if not policies:
            policies = _without_cpufreq(nodes)
        spec = BoardSpec(
            kind=_word(board.get("kind"), "captured"),
            title=f"{str(board.get('title') or facts.get('name') or 'captured device')[:200]}, virtual",
            policies=policies,
            offline=_offline(nodes, policies),
            has_capacity=bool(nodes.find(rf"{CPU_DIR}/cpu(\d+)/cpu_capacity")) or not policies[0].nodes,
            kernel=kernel if re.match(r"\d+\.\d+", kernel) else "4.14.0",
            abi=str(facts.get("abi") or "arm64-v8a"),
            su=_SU.get(str(facts.get("root")), "none"),
            props=_props(facts),
            qualcomm_sched=parts.isolates(nodes),
            exynos_qos="/sys/power/cpufreq_max_limit" in nodes and "/sys/power/cpufreq_table" in nodes,
            core_ctl=parts.core_ctl(nodes, policies),
            power=parts.power(nodes),
            gpu=parts.gpu(nodes),
            devfreq=parts.devfreq(nodes),
            masses=_masses(policies, gpu=parts.gpu(nodes) is not None),
            zones=parts.zones(nodes, policies),
            cpusets=parts.cpusets(nodes),
            stune=parts.groups(nodes, "/dev/stune"),
            uclamp=parts.groups(nodes, "/dev/cpuctl"),
            idle_states=parts.idle_states(nodes),
            present=_rest(nodes),
            sources=("capture",),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"the capture describes no device a virtual board can be: {error!r}") from error
    return spec


def _word(value: Any, otherwise: str) -> str:
    text = str(value or "")
    return text if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text) else otherwise


def _props(facts: dict[str, Any]) -> dict[str, str]:
    props = facts.get("props") or {}
    return {
        str(name): str(value)
        for name, value in props.items()
        if name not in _ANONYMOUS and not str(name).startswith("init.svc.")
    }


def _without_cpufreq(nodes: Nodes) -> tuple[PolicySpec, ...]:
    cpus = nodes.cpus(f"{CPU_DIR}/present") or (0,)
    return (PolicySpec(cpus, (1_000_000,), nodes=False),)


def _offline(nodes: Nodes, policies: tuple[PolicySpec, ...]) -> tuple[int, ...]:
    """CPUs that were offline; one stays online whatever the capture says."""
    every = sorted(cpu for policy in policies for cpu in policy.cpus)
    online = nodes.cpus(f"{CPU_DIR}/online")
    away = tuple(cpu for cpu in every if cpu not in online) if online else ()
    return away if len(away) < len(every) else ()


def _masses(policies: tuple[PolicySpec, ...], *, gpu: bool) -> tuple[MassSpec, ...]:
    # The thermal design of a captured device is not in its nodes: these are ordinary figures of a phone.
    names = tuple(policy.name for policy in policies)
    board = MassSpec("board", (*names, *(("gpu",) if gpu else ())), 7.0, 150.0, base="", idle_w=1.0)
    silicon = tuple(MassSpec(name, (name,), 9.0, 2.5) for name in names)
    return (board, *silicon, *((MassSpec("gpu", ("gpu",), 8.0),) if gpu else ()))


def _rest(nodes: Nodes) -> dict[str, StaticSpec]:
    rest = {}
    for path, node in nodes.items():
        kind = node.get("kind", "file")
        if kind == "dir" or re.match(r"/proc/(self|thread-self|\d+)(/|$)", path):
            continue
        if kind == "link":
            if node.get("target"):
                rest[path] = StaticSpec(target=node["target"])
            continue
        failed = 0 if node.get("text") is not None else node.get("errno", 0)
        # Permission to read is the mode's business; other errors are the node's own answer.
        rest[path] = StaticSpec(
            text=node.get("text") or "",
            mode=node.get("mode", 0o444),
            error=0 if failed in {errno.EACCES, errno.EPERM} else failed,
        )
    return rest
