"""Which CPUs share a clock: cpufreq's folders, one a policy (Linux 4.3 and later) or one an online CPU (before).

Phones are read while their governors take CPUs on and off, so that folders of one policy may tell different things:
what overlaps is one, and of several folders the one of an online CPU that tells most of its CPUs is used.
"""

import re
from dataclasses import dataclass

from devicelab.model.device import Facts

CPU = "/sys/devices/system/cpu"
GLOBS = (
    f"{CPU}/present",
    f"{CPU}/online",
    f"{CPU}/offline",
    f"{CPU}/cpufreq/policy*/related_cpus",
    f"{CPU}/cpufreq/policy*/affected_cpus",
    f"{CPU}/cpu*/cpufreq/related_cpus",
    f"{CPU}/cpu*/cpufreq/affected_cpus",
)

_POLICY = re.compile(rf"({CPU}/cpufreq/policy([0-9]{{1,5}}))/[a-z_]+")
_OWN = re.compile(rf"({CPU}/cpu([0-9]{{1,5}})/cpufreq)/[a-z_]+")


@dataclass(frozen=True)
class Domain:
    """CPUs with one clock.

    Attributes:
        dir: cpufreq's folder to be read and written.
        number: the one in the folder's name.
        cpus: those of the present CPUs that it governs, online or not; ascending.
        dirs: all folders that are of these CPUs, ``dir`` first.
    """

    dir: str
    number: int
    cpus: tuple[int, ...]
    dirs: tuple[str, ...]

    @property
    def name(self) -> str:
        """``policy4``, or ``cpu4`` on kernels that have no policy folders."""
        return f"{'policy' if '/policy' in self.dir else 'cpu'}{self.number}"


def domains(facts: Facts) -> tuple[Domain, ...]:
    """All clock domains, by their folder's number."""
    found = _folders(facts, _POLICY, f"{CPU}/cpufreq/policy*/*") or _folders(facts, _OWN, f"{CPU}/cpu*/cpufreq/*")
    told = _told(facts, found)
    # What overlaps is one.
    group_of: dict[int, set[int]] = {}
    for cpus in told.values():
        whole = cpus.union(*(group_of[cpu] for cpu in cpus if cpu in group_of))
        group_of.update(dict.fromkeys(whole, whole))
    folders: dict[int, list[str]] = {}
    for folder, cpus in told.items():
        if cpus:
            folders.setdefault(min(group_of[min(cpus)]), []).append(folder)
    online = set(facts.cpus_online)

    def rank(folder: str) -> tuple[bool, bool, int, int]:
        """Folders of policies as they are; of CPUs that of an online one first, in the policy it tells of."""
        own, number, cpus = "/policy" not in folder, found[folder], told[folder]
        return own and number not in online, own and number not in cpus, -len(cpus) if own else 0, number

    made = []
    for lowest, every in folders.items():
        ranked = sorted(every, key=rank)
        made.append(Domain(ranked[0], found[ranked[0]], tuple(sorted(group_of[lowest])), tuple(ranked)))
    return tuple(sorted(made, key=lambda domain: domain.number))


def _folders(facts: Facts, shape: re.Pattern[str], pattern: str) -> dict[str, int]:
    matches = filter(None, map(shape.fullmatch, facts.tree.glob(pattern)))
    return dict(sorted({match[1]: int(match[2]) for match in matches}.items(), key=lambda item: item[1]))


def _told(facts: Facts, found: dict[str, int]) -> dict[str, set[int]]:
    """The present CPUs of each folder; one that tells none is offline.

    A policy has the CPUs from its number to the next policy's then, a CPU's own folder that CPU.
    """
    present, numbers = set(facts.cpus_present), facts.tree.numbers
    told = {
        folder: {*numbers(f"{folder}/related_cpus"), *numbers(f"{folder}/affected_cpus")} & present for folder in found
    }
    left = present.difference(*told.values())
    for folder, number in found.items():
        if not told[folder]:
            later = min((n for n in found.values() if n > number), default=max(present) + 1)
            told[folder] = {cpu for cpu in left if (number <= cpu < later if "/policy" in folder else cpu == number)}
            left -= told[folder]
    return told


def uncovered(facts: Facts) -> tuple[int, ...]:
    """CPUs of which cpufreq tells nothing: offline ones on kernels before 4.3, or such without a clock to set."""
    covered = {cpu for domain in domains(facts) for cpu in domain.cpus}
    return tuple(cpu for cpu in facts.cpus_present if cpu not in covered)
