"""CPU clusters of a device, and cores as users name them."""

import re
import sys

from devicelab.errors import ConfigError
from devicelab.model.device import Cluster, Facts
from devicelab.model.tree import cpu_list

CPU = "/sys/devices/system/cpu"
GLOBS = (
    f"{CPU}/present",
    f"{CPU}/online",
    f"{CPU}/offline",
    f"{CPU}/cpu*/cpu_capacity",
    f"{CPU}/cpufreq/policy*/related_cpus",
    f"{CPU}/cpufreq/policy*/cpuinfo_max_freq",
)
_LISTED = re.compile(r"[0-9]+(-[0-9]+)?([\s,]+[0-9]+(-[0-9]+)?)*")
_POLICY = re.compile(rf"{CPU}/cpufreq/policy([0-9]{{1,5}})/related_cpus")


def clusters(facts: Facts) -> tuple[Cluster, ...]:
    """The clusters, slowest first.

    Those of the board file if they fit the CPUs and policies the device has, else one a cpufreq policy, else (no
    policies) one a value of ``cpu_capacity``; a device that tells nothing is one cluster. Derived ones are named by
    speed: ``little``, ``big`` of two; ``little``, ``mid``, ``big`` of three, or ``little``, ``big``, ``prime`` where
    the fastest is a single CPU; ``little``, ``mid``, ``mid2``, ..., ``prime`` beyond.
    """
    present = facts.cpus_present
    policies = _by_policy(facts)
    if _fits(facts.board.clusters, present, policies):
        return facts.board.clusters
    left = tuple(cpu for cpu in present if not any(cpu in cpus for cpus in policies))
    told = [*policies, left] if policies and left else policies
    groups = _same_speed_together(facts, told) or _by_capacity(facts) or [present]
    groups.sort(key=lambda cpus: (_speed(facts, cpus), cpus))
    names = _names(groups)
    return tuple(
        Cluster(name=name, cpus=cpus, big=index > 0)
        for index, (name, cpus) in enumerate(zip(names, groups, strict=True))
    )


def _fits(named: tuple[Cluster, ...], present: tuple[int, ...], policies: list[tuple[int, ...]]) -> bool:
    """Whether a board file speaks of these CPUs: all of them, and no policy across two clusters."""
    every = sorted(cpu for cluster in named for cpu in cluster.cpus)
    whole = all(any(set(cpus) <= set(cluster.cpus) for cluster in named) for cpus in policies)
    return every == sorted(present) and whole


def resolve_cores(spec: str, facts: Facts) -> tuple[int, ...]:
    """The CPUs a user means, ascending.

    ``spec`` is ``all`` (the online ones), a cluster's name (``little``, ``big``, ``prime``, ...), CPU numbers ("4-7",
    "4,6"), a mask in hex ("0x30"), or several of these joined by ``+``. Where no cluster has the name ``big``,
    ``little`` or ``prime``, the fast clusters, the slow ones, or the fastest are meant.

    Raises:
        ConfigError: nothing of that kind, or CPUs that do not exist; the hint lists the clusters.
    """
    chosen: set[int] = set()
    for part in str(spec).split("+"):
        chosen.update(_resolve(part.strip().lower(), spec, facts))
    missing = sorted(chosen - set(facts.cpus_present))
    if missing:
        raise ConfigError(f"this device has no CPU {missing[0]} ({spec!r})", device=facts.name, hint=_known(facts))
    return tuple(sorted(chosen))


def _resolve(part: str, spec: str, facts: Facts) -> tuple[int, ...]:
    if part == "all":
        return facts.cpus_online
    known = clusters(facts)
    for cluster in known:
        if part == cluster.name.lower():
            return cluster.cpus
    if part in {"big", "little"}:
        named = tuple(cpu for c in known if c.big == (part == "big") for cpu in c.cpus)
        return named or known[-1].cpus
    if part == "prime":
        return known[-1].cpus
    if re.fullmatch(r"0x[0-9a-f]{1,1024}", part) and int(part, 16):
        mask = int(part, 16)
        return tuple(cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1)
    try:
        listed = cpu_list(part) if _LISTED.fullmatch(part) else ()
    except ValueError:
        listed = ()
    if not listed:
        raise ConfigError(f"{spec!r} names no CPUs", device=facts.name, hint=_known(facts))
    return listed


def _known(facts: Facts) -> str:
    listed = ", ".join(f"{c.name} = {show(c.cpus)}" for c in clusters(facts))
    return f"clusters: {listed}; or all, CPU numbers such as 4-7 or 4,6, a mask such as 0x30"


def show(cpus: tuple[int, ...]) -> str:
    """CPU numbers as the kernel lists them: ``0-3,7``."""
    parts: list[str] = []
    start = 0
    for index, cpu in enumerate(cpus):
        if index + 1 == len(cpus) or cpus[index + 1] != cpu + 1:
            parts.append(str(cpu) if index == start else f"{cpus[start]}-{cpu}")
            start = index + 1
    return ",".join(parts)


def _by_policy(facts: Facts) -> list[tuple[int, ...]]:
    """CPUs by policy; a policy that is offline and tells nothing has the CPUs from its number to the next policy."""
    tree, present = facts.tree, facts.cpus_present
    told: dict[int, tuple[int, ...]] = {}
    for path in tree.glob(f"{CPU}/cpufreq/policy*/related_cpus"):
        match = _POLICY.fullmatch(path)
        if match is not None:
            told[int(match[1])] = tuple(cpu for cpu in tree.numbers(path) if cpu in present)
    left = set(present) - {cpu for cpus in told.values() for cpu in cpus}
    for number in sorted(told):
        if not told[number]:
            later = min((other for other in told if other > number), default=max(present) + 1)
            told[number] = tuple(sorted(cpu for cpu in left if number <= cpu < later))
            left -= set(told[number])
    return [cpus for _, cpus in sorted(told.items()) if cpus]


def _same_speed_together(facts: Facts, groups: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Policies of single CPUs (servers have one a CPU) are no clusters: those of equal speed are one."""
    if any(len(cpus) > 1 for cpus in groups):
        return groups
    by_speed: dict[int, list[int]] = {}
    for cpus in groups:
        by_speed.setdefault(_speed(facts, cpus), []).extend(cpus)
    return [tuple(sorted(cpus)) for cpus in by_speed.values()]


def _by_capacity(facts: Facts) -> list[tuple[int, ...]]:
    by_capacity: dict[int, list[int]] = {}
    for cpu in facts.cpus_present:
        by_capacity.setdefault(facts.tree.number(f"{CPU}/cpu{cpu}/cpu_capacity") or 0, []).append(cpu)
    return [tuple(cpus) for cpus in by_capacity.values()]


def _speed(facts: Facts, cpus: tuple[int, ...]) -> int:
    """Something that grows with the speed of these CPUs: capacity and frequency, whatever is known.

    Nothing is known of a policy that is offline; those are the fast ones, which is why they were taken offline.
    """
    tree = facts.tree
    capacity = max((tree.number(f"{CPU}/cpu{cpu}/cpu_capacity") or 0 for cpu in cpus), default=0)
    frequency = max((tree.number(f"{CPU}/cpufreq/policy{cpu}/cpuinfo_max_freq") or 0 for cpu in cpus), default=0)
    return capacity * 10_000_000 + frequency if capacity or frequency else sys.maxsize


def _names(groups: list[tuple[int, ...]]) -> tuple[str, ...]:
    count = len(groups)
    if count == 1:
        return ("cpu",)
    if count == 2:
        return ("little", "big")
    if count == 3:
        return ("little", "big", "prime") if len(groups[-1]) == 1 else ("little", "mid", "big")
    middle = tuple(f"mid{index}" if index > 1 else "mid" for index in range(1, count - 1))
    return ("little", *middle, "prime" if len(groups[-1]) == 1 else "big")
