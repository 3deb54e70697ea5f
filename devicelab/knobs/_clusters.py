"""CPU clusters of a device, and cores as users name them."""

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from devicelab.errors import ConfigError
from devicelab.knobs import _domains
from devicelab.knobs._domains import CPU
from devicelab.knobs._proof import residency
from devicelab.model.device import Cluster, Facts
from devicelab.model.tree import cpu_list

GLOBS = (
    *_domains.GLOBS,
    f"{CPU}/cpu*/cpu_capacity",
    f"{CPU}/cpu*/topology/core_siblings_list",
    f"{CPU}/cpu*/regs/identification/midr_el1",
    f"{CPU}/cpufreq/policy*/cpuinfo_max_freq",
    f"{CPU}/cpufreq/policy*/scaling_available_frequencies",
    f"{CPU}/cpufreq/policy*/stats/time_in_state",
    f"{CPU}/cpu*/cpufreq/cpuinfo_max_freq",
    f"{CPU}/cpu*/cpufreq/scaling_available_frequencies",
    f"{CPU}/cpu*/cpufreq/stats/time_in_state",
)

# Equal cores differ by their speed bins (below 1 % on Apple's, below 4 % on Intel's); the nearest clocks of different
# cores that are known are 6 % apart (Kirin 980: 1.81 and 1.90 GHz).
TOLERANCE = 0.05

_MIDR = re.compile(r"(?:0x)?([0-9a-fA-F]{8,16})")
_LISTED = re.compile(r"[0-9]+(-[0-9]+)?([\s,]+[0-9]+(-[0-9]+)?)*")


@dataclass(frozen=True)
class _Group:
    """CPUs that are known to be equal, and what tells how fast they are: capacity (0-1024) and top clock in kHz."""

    cpus: tuple[int, ...]
    capacity: int | None = None
    khz: int | None = None
    kind: frozenset[str] = frozenset()
    told: bool = True


@dataclass(frozen=True)
class Known:
    """The clusters, slowest first, and in sentences what could not be known about them."""

    clusters: tuple[Cluster, ...]
    doubts: tuple[str, ...] = ()


def clusters(facts: Facts) -> tuple[Cluster, ...]:
    """The clusters, slowest first; see ``known``."""
    return known(facts).clusters


def known(facts: Facts) -> Known:
    """The clusters, and what could not be known about them. The one place that decides which cores are big.

    Those of the board file if they fit the CPUs and clock domains the device has. Else CPUs of one clock domain are
    equal, and domains are told apart by ``cpu_capacity`` (if all tell it and not all the same), else by their highest
    clock; what lies within ``TOLERANCE`` is one cluster, unless the CPUs say that they are different cores (MIDR).
    CPUs of which cpufreq tells nothing belong to single CPUs of the same topology, or are a cluster of unknown speed,
    taken for the faster one if its numbers are higher. Derived clusters are named by speed: ``little``, ``big`` of
    two; ``little``, ``mid``, ``big`` of three, or ``little``, ``big``, ``prime`` where the fastest is a single CPU;
    ``little``, ``mid``, ``mid2``, ..., ``prime`` beyond. A device that tells nothing is one cluster, ``cpu``.
    """
    present, found = facts.cpus_present, _domains.domains(facts)
    if _fits(facts.board.clusters, present, [domain.cpus for domain in found]):
        return Known(facts.board.clusters)
    groups, doubts = _groups(facts, found)
    by = _measure(groups)
    if by is None:
        told = groups and all(group.khz or group.capacity for group in groups)
        equal = () if told else ("neither capacity nor clock is told, so all CPUs count as equal",)
        return Known((Cluster(name="cpu", cpus=present),), (*doubts, *equal))
    merged: list[list[_Group]] = []
    for group in sorted(groups, key=lambda group: (by(group), group.cpus)):
        last = merged[-1][0] if merged else None
        if last is not None and by(group) <= by(last) * (1 + TOLERANCE) and _alike(merged[-1], group):
            merged[-1].append(group)
        else:
            merged.append([group])
    sets = [tuple(sorted(cpu for group in one for cpu in group.cpus)) for one in merged]
    named = zip(_names(sets), sets, strict=True)
    return Known(tuple(Cluster(name=n, cpus=cpus, big=at > 0) for at, (n, cpus) in enumerate(named)), tuple(doubts))


def _groups(facts: Facts, found: tuple[_domains.Domain, ...]) -> tuple[list[_Group], list[str]]:
    """Sets of equal CPUs: clock domains, and what is left besides them."""
    tree = facts.tree
    sets = [set(domain.cpus) for domain in found]
    left = set(_domains.uncovered(facts))
    for cpu in sorted(left):
        like = _like(facts, cpu, found)
        if like is not None:
            sets[like].add(cpu)
            left.discard(cpu)
    groups = [
        _Group(tuple(sorted(cpus)), _capacity(facts, cpus), _top_khz(facts, domain), _kind(facts, cpus))
        for cpus, domain in zip(sets, found, strict=True)
    ]
    # What is left is one cluster between two that are known.
    rest: dict[tuple[int | None, int], list[int]] = {}
    for cpu in sorted(left):
        before = sum(group.cpus[0] < cpu for group in groups)
        rest.setdefault((tree.number(f"{CPU}/cpu{cpu}/cpu_capacity"), before), []).append(cpu)
    groups += [
        _Group(tuple(cpus), capacity, None, _kind(facts, cpus), told=False) for (capacity, _), cpus in rest.items()
    ]
    doubts = []
    for group in groups:
        if found and group.capacity is None and group.khz is None:
            online = set(group.cpus) & set(facts.cpus_online)
            why = "have no clock that is told" if online else "are offline and tell neither capacity nor clock"
            doubts.append(f"CPUs {show(group.cpus)} {why}; how fast they are is a guess")
    return groups, doubts


def _like(facts: Facts, cpu: int, found: tuple[_domains.Domain, ...]) -> int | None:
    """Which domain's CPUs a CPU without one is like: it stands among them, or each CPU has a clock of its own.

    Then it is like those of its package, which before Linux 5.x is a cluster, or like all if they are all the same.
    """
    for at, domain in enumerate(found):
        if domain.cpus[0] < cpu < domain.cpus[-1]:
            return at
    single = [at for at, domain in enumerate(found) if len(domain.cpus) == 1]
    every = {c for domain in found for c in domain.cpus}
    for at in single:
        package = set(listed(facts.tree.text(f"{CPU}/cpu{found[at].cpus[0]}/topology/core_siblings_list") or ""))
        if cpu in package and (len(single) == len(found) or not package & every - set(found[at].cpus)):
            return at
    return 0 if len(single) == len(found) and len({_top_khz(facts, domain) for domain in found}) == 1 else None


def _measure(groups: list[_Group]) -> Callable[[_Group], int] | None:
    """What the groups are compared by; ``None`` if nothing tells them apart."""
    capacities = [group.capacity for group in groups]
    if len(groups) < 2:
        return None
    if None not in capacities and len(set(capacities)) > 1:
        return lambda group: group.capacity or 0
    clocked = [group for group in groups if group.khz]
    if not clocked:
        return None

    def clock(group: _Group) -> int:
        """What tells nothing is taken for faster than what stands before it, and as slow as can be if it is first."""
        before = max((one.khz or 0 for one in clocked if one.cpus[0] < group.cpus[0]), default=0)
        behind = any(one.cpus[0] > group.cpus[0] for one in clocked)
        return group.khz or (before + 1 if behind else sys.maxsize)

    return clock


def _alike(cluster: list[_Group], group: _Group) -> bool:
    """Nothing says that these are different cores."""
    if not (group.told and all(one.told for one in cluster)) and group.capacity is None:
        return False
    kinds = frozenset().union(*(one.kind for one in cluster))
    return not kinds or not group.kind or kinds == group.kind


def _capacity(facts: Facts, cpus: Iterable[int]) -> int | None:
    told = (facts.tree.number(f"{CPU}/cpu{cpu}/cpu_capacity") for cpu in cpus)
    return max((capacity for capacity in told if capacity), default=None)


def _top_khz(facts: Facts, domain: _domains.Domain) -> int | None:
    """The highest clock that a domain tells of; what the driver calls its maximum counts first."""
    tree, folders = facts.tree, domain.dirs
    for told in (
        [khz for folder in folders for khz in tree.numbers(f"{folder}/cpuinfo_max_freq")],
        [khz for folder in folders for khz in tree.numbers(f"{folder}/scaling_available_frequencies")],
        [khz for folder in folders for khz in residency(tree.text(f"{folder}/stats/time_in_state"))],
    ):
        if any(khz > 0 for khz in told):
            return max(told)
    return None


def _kind(facts: Facts, cpus: Iterable[int]) -> frozenset[str]:
    """Which cores they are: implementer and part of MIDR_EL1 (Arm ARM, D19.2), without revisions."""
    told = (facts.tree.text(f"{CPU}/cpu{cpu}/regs/identification/midr_el1") for cpu in cpus)
    shapes = (_MIDR.fullmatch(text) for text in told if text)
    return frozenset(f"{int(m[1], 16) & 0xFF00FFF0:08x}" for m in shapes if m)


def listed(text: str) -> tuple[int, ...]:
    """CPUs of a kernel's list; none if it is no list."""
    try:
        return cpu_list(text)
    except ValueError:
        return ()


def _fits(named: tuple[Cluster, ...], present: tuple[int, ...], policies: list[tuple[int, ...]]) -> bool:
    """Whether a board file speaks of these CPUs: all of them, and no policy across two clusters."""
    every = sorted(cpu for cluster in named for cpu in cluster.cpus)
    whole = all(any(set(cpus) <= set(cluster.cpus) for cluster in named) for cpus in policies)
    return every == sorted(present) and whole


def resolve_cores(spec: str, facts: Facts) -> tuple[int, ...]:
    """The CPUs a user means, ascending.

    ``spec`` is ``all`` (the online ones), a cluster's name (``little``, ``big``, ``prime``, ...), CPU numbers ("4-7",
    "4,6"), a mask in hex ("0x30"), or several of these joined by ``+``. Where no cluster has the name ``big``,
    ``little`` or ``prime``, the fast clusters, the slow ones, or the fastest are meant. Of a device that was not asked
    (a bundle's) numbers and masks are taken as they are: whether those CPUs exist is seen there.

    Raises:
        ConfigError: nothing of that kind, or CPUs that do not exist, the hint lists the clusters; or a name, of a
            device that was not asked.
    """
    chosen: set[int] = set()
    for part in str(spec).split("+"):
        chosen.update(_resolve(part.strip().lower(), spec, facts))
    if not facts.tree:
        return tuple(sorted(chosen))
    missing = sorted(chosen - set(facts.cpus_present))
    if missing:
        raise ConfigError(f"this device has no CPU {missing[0]} ({spec!r})", device=facts.name, hint=_known(facts))
    return tuple(sorted(chosen))


def _resolve(part: str, spec: str, facts: Facts) -> tuple[int, ...]:
    if (numbered := _numbered(part)) is not None:
        return numbered
    if not facts.tree:
        raise ConfigError(
            f"which CPUs are {spec!r}? this device was not asked",
            device=facts.name,
            hint="CPU numbers such as 4-7 or 4,6, or a mask such as 0x30",
        )
    if part == "all":
        return facts.cpus_online
    every = clusters(facts)
    for cluster in every:
        if part == cluster.name.lower():
            return cluster.cpus
    if part in {"big", "little"}:
        named = tuple(cpu for c in every if c.big == (part == "big") for cpu in c.cpus)
        return named or every[-1].cpus
    if part == "prime":
        return every[-1].cpus
    raise ConfigError(f"{spec!r} names no CPUs", device=facts.name, hint=_known(facts))


def _numbered(part: str) -> tuple[int, ...] | None:
    """CPUs given by their numbers or as a mask; nothing where it is neither."""
    if re.fullmatch(r"0x[0-9a-f]{1,1024}", part) and int(part, 16):
        mask = int(part, 16)
        return tuple(cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1)
    return (listed(part) if _LISTED.fullmatch(part) else ()) or None


def _known(facts: Facts) -> str:
    every = ", ".join(f"{c.name} = {show(c.cpus)}" for c in clusters(facts))
    return f"clusters: {every}; or all, CPU numbers such as 4-7 or 4,6, a mask such as 0x30"


def show(cpus: tuple[int, ...]) -> str:
    """CPU numbers as the kernel lists them: ``0-3,7``."""
    parts: list[str] = []
    start = 0
    for index, cpu in enumerate(cpus):
        if index + 1 == len(cpus) or cpus[index + 1] != cpu + 1:
            parts.append(str(cpu) if index == start else f"{cpus[start]}-{cpu}")
            start = index + 1
    return ",".join(parts)


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
