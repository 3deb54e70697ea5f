"""CPU clock: one frequency for every policy (``cpu``), or only the governor (``governor``).

A frequency is pinned as floor = ceiling under whatever governor runs: ``userspace`` and ``scaling_setspeed`` are not
portable (Galaxy S9 and Note10 kernels have no such governor), so they serve only where the limits cannot be written, or
where ``setspeed:LEVEL`` asks for them (``devicelab.knobs._setspeed``). The order of the writes and what is restored:
``devicelab.knobs._limits``. Tables are read from the device and sorted, never taken to be in order (Exynos lists them
descending). Exynos' ``/sys/power/cpufreq_max_limit`` takes whole clusters offline when it is low, so it is recorded
with every run and never used to pin.
"""

import errno
from collections.abc import Iterable
from dataclasses import dataclass, replace

from devicelab.errors import ConfigError
from devicelab.knobs import _clusters, _heat, _levels, _limits, _proof, _setspeed, _tunables
from devicelab.knobs._clusters import clusters, show
from devicelab.knobs._domains import CPU, Domain, domains, uncovered
from devicelab.knobs.base import Phase, Setting
from devicelab.model.device import Cluster, Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Step, Write
from devicelab.model.tree import whole

WORDS = ("governor", "cpu")
PHASE = Phase.CLOCKS

_NODES = (
    "affected_cpus",
    "related_cpus",
    "cpuinfo_min_freq",
    "cpuinfo_max_freq",
    "scaling_available_frequencies",
    "scaling_boost_frequencies",
    "scaling_available_governors",
    "scaling_cur_freq",
    "scaling_driver",
    "scaling_governor",
    "scaling_max_freq",
    "scaling_min_freq",
    "scaling_setspeed",
    "stats/time_in_state",
)
# Limits that other programs may change: read before and after every run, so that interference is noticed.
_OTHERS = (
    "/sys/power/cpufreq_max_limit",
    "/sys/power/cpufreq_min_limit",
    "/sys/module/msm_performance/parameters/cpu_max_freq",
    "/sys/module/msm_performance/parameters/cpu_min_freq",
    "/sys/kernel/msm_performance/parameters/cpu_max_freq",
    "/sys/kernel/msm_performance/parameters/cpu_min_freq",
    "/sys/module/cpu_boost/parameters/input_boost_freq",
    "/proc/sys/kernel/sched_boost",
    "/proc/sys/walt/sched_boost",
    "/proc/sys/walt/input_boost/input_boost_freq",
)
GLOBS = (
    *(f"{CPU}/cpufreq/policy*/{node}" for node in _NODES),
    *(f"{CPU}/cpu*/cpufreq/{node}" for node in _NODES),
    *_tunables.GLOBS,
    *_OTHERS,
    *_heat.GLOBS,
)

_LEVELS = (
    'max, min, honest-min, a number in kHz, nearest:NUMBER, a level a policy ("4:1612800 7:min"), or any of them '
    "by the governor userspace (setspeed:max)"
)

# Drivers without a table (intel_pstate, amd-pstate) choose the clock themselves; what they report is measured, as it is
# for every driver of x86.
_MEASURED_SLACK = 0.05

# ACPI lists the turbo state as the highest fixed clock plus 1 MHz (Intel's convention for _PSS; acpi-cpufreq hands it
# on): a label that stands for whatever clock the processor likes.
_TURBO_KHZ = 1000

# USER_HZ, the unit of stats/time_in_state (drivers/cpufreq/cpufreq_stats.c).
_TICK_NS = 10_000_000


@dataclass(frozen=True)
class Policy:
    """One cpufreq policy as the facts show it; frequencies in kHz.

    Attributes:
        name: ``policy4`` (``cpu4`` on kernels that have no policy folders).
        dir: its folder.
        number: the one in its name.
        cpus: the CPUs it governs, online or not.
        online: at least one of them is, so that it can be read and written.
        table: ascending; empty if the driver has none.
        lowest, highest: bottom and top of what may be asked for.
        dishonest: entries whose real clock is not what they say.
        dirs: every folder of these CPUs (kernels before 4.3 have one a CPU).
        turbo: the entry that is no fixed clock, if there is one; the highest one is below it.
    """

    name: str
    dir: str
    number: int
    cpus: tuple[int, ...]
    online: bool
    table: tuple[int, ...]
    lowest: int | None
    highest: int | None
    dishonest: tuple[int, ...] = ()
    dirs: tuple[str, ...] = ()
    turbo: int | None = None

    def path(self, node: str) -> str:
        """A node of this policy."""
        return f"{self.dir}/{node}"


def policies(facts: Facts) -> tuple[Policy, ...]:
    """All policies, by number."""
    every = clusters(facts)
    return tuple(_policy(facts, domain, every) for domain in domains(facts))


def _policy(facts: Facts, domain: Domain, every: tuple[Cluster, ...]) -> Policy:
    # Folders of one policy on old kernels are one folder, read at different moments.
    table = next(filter(None, (_table(facts, folder) for folder in domain.dirs)), ())
    lowest, highest = (_told(facts, domain, f"cpuinfo_{end}_freq") for end in ("min", "max"))
    return Policy(
        name=domain.name,
        dir=domain.dir,
        number=domain.number,
        cpus=domain.cpus,
        online=_is_online(facts, f"{domain.dir}/affected_cpus", domain.cpus),
        table=table,
        lowest=table[0] if table else lowest,
        highest=table[-1] if table else highest,
        dishonest=tuple(khz for c in every if set(c.cpus) & set(domain.cpus) for khz in c.dishonest_khz),
        dirs=domain.dirs,
        turbo=table[-1] if len(table) > 1 and table[-1] - table[-2] == _TURBO_KHZ else None,
    )


def _told(facts: Facts, domain: Domain, node: str) -> int | None:
    numbers = (facts.tree.number(f"{folder}/{node}") for folder in domain.dirs)
    return next((number for number in numbers if number is not None), None)


def _is_online(facts: Facts, affected_path: str, cpus: tuple[int, ...]) -> bool:
    """An offline policy affects no CPU, or its nodes are busy; where neither is told, its CPUs decide."""
    affected = facts.tree.get(affected_path)
    if affected is None or (affected.text is None and affected.errno != errno.EBUSY):
        return bool(set(cpus) & set(facts.cpus_online))
    return bool(facts.tree.numbers(affected_path))


def _table(facts: Facts, folder: str) -> tuple[int, ...]:
    tree = facts.tree
    listed = tree.numbers(f"{folder}/scaling_available_frequencies")
    if not listed:
        # The residency counters list boost frequencies too, which no limit reaches.
        lowest, highest = (tree.number(f"{folder}/cpuinfo_{end}_freq") for end in ("min", "max"))
        counted = _proof.residency(tree.text(f"{folder}/stats/time_in_state"))
        listed = tuple(khz for khz in counted if (lowest or 0) <= khz <= (highest or khz))
    return tuple(sorted({khz for khz in listed if khz > 0}))


def applies(facts: Facts) -> bool:
    """The device has cpufreq policies."""
    return bool(policies(facts))


def plan(word: str, want: Level, facts: Facts) -> Setting:
    """Pin every policy, or set its governor.

    Raises:
        ConfigError: the level makes no sense here; the hint names those that do.
    """
    every = policies(facts)
    if not every:
        return Setting(unmet=("this device has no cpufreq policies",))
    if word == "governor":
        return _set_governors(want, every, facts)
    wants = _per_policy(want, every, facts)
    pinned = _merge(_pin(level, policy, facts) for policy in every if (level := wants.get(policy.name)) is not None)
    return replace(pinned, unmet=(*pinned.unmet, *_left_out(facts)))


def _left_out(facts: Facts) -> tuple[str, ...]:
    """CPUs without a policy, in sentences: before 4.3 a kernel takes an offline CPU's away with it."""
    left, told = uncovered(facts), facts.tree.get(f"{CPU}/offline")
    # Who decides which CPUs are online (``cores``) leaves the list empty.
    asleep = set(left) if told is None else set(_clusters.listed(told.text or ""))
    away = tuple(cpu for cpu in left if cpu not in facts.cpus_online and cpu in asleep)
    here = tuple(cpu for cpu in left if cpu in facts.cpus_online)
    said = []
    if away:
        how = "bring them online before: `devicelab pin --knob cores=all-online`"
        said.append(f"CPUs {show(away)} are offline and have no policy that could be set; {how}")
    if here:
        said.append(f"CPUs {show(here)} have no cpufreq policy, so their clock cannot be set")
    return tuple(said)


def _merge(settings: Iterable[Setting]) -> Setting:
    parts = tuple(settings)
    return Setting(
        steps=tuple(step for part in parts for step in part.steps),
        sample=tuple(path for part in parts for path in part.sample),
        around=tuple(dict.fromkeys(path for part in parts for path in part.around)),
        unmet=tuple(sentence for part in parts for sentence in part.unmet),
    )


def _per_policy(want: Level, found: tuple[Policy, ...], facts: Facts) -> dict[str, Level]:
    """Policy name → level. ``4:1612800 big:min`` names policies by number, by a CPU in them or by cluster."""
    words = _levels.text(want).replace(",", " ").split()
    if not words:
        raise ConfigError(f"cpu = {want!r} makes no sense", hint=_LEVELS)
    if len(words) == 1 and (":" not in words[0] or words[0].startswith(("nearest:", _setspeed.PREFIX))):
        return {policy.name: words[0] for policy in found}
    wants: dict[str, Level] = {}
    for part in words:
        name, colon, level = part.partition(":")
        fits = _named(name, found, facts) if colon and level else ()
        if not fits:
            known = ", ".join(f"{p.number} (CPUs {show(p.cpus)})" for p in found)
            raise ConfigError(f"cpu = {want!r}: {part!r} names no policy", hint=f"policies: {known}; {_LEVELS}")
        wants.update((policy.name, level) for policy in fits)
    return wants


def _named(name: str, found: tuple[Policy, ...], facts: Facts) -> tuple[Policy, ...]:
    number = name.removeprefix("policy").removeprefix("cpu")
    if number.isdecimal():
        return tuple(policy for policy in found if int(number) in policy.cpus)
    cpus = {cpu for cluster in clusters(facts) if cluster.name.lower() == name for cpu in cluster.cpus}
    return tuple(policy for policy in found if cpus & set(policy.cpus))


def target_khz(want: Level, policy: Policy) -> int:
    """The frequency a level means for a policy; see ``_levels.pick``.

    Raises:
        ConfigError: not a level, not in the table, or out of the range of a driver without table.
    """
    want = _levels.text(want).removeprefix(_setspeed.PREFIX)
    if policy.table:
        # Who names the turbo entry gets it, and is told that it proves nothing.
        named = want[:1].isdecimal()
        table = tuple(khz for khz in policy.table if named or khz != policy.turbo)
        return _levels.pick("cpu", want, table, where=policy.name, unit="kHz", dishonest=policy.dishonest)
    ends = tuple(khz for khz in (policy.lowest, policy.highest) if khz is not None)
    if not ends:
        raise ConfigError(f"{policy.name} tells neither a table nor a range of frequencies")
    number = want.removeprefix("nearest:")
    if number.isdecimal() and ends[0] <= int(number) <= ends[-1]:
        return int(number)
    return _levels.pick("cpu", want, ends, where=policy.name, unit="kHz")


def _limits_of(policy: Policy, facts: Facts, lowest: int, highest: int) -> _limits.Limits:
    tree = facts.tree
    ceiling = tree.number(policy.path("scaling_max_freq"))
    return _limits.Limits(
        where=policy.name,
        unit="kHz",
        floor_path=policy.path("scaling_min_freq"),
        ceiling_path=policy.path("scaling_max_freq"),
        floor=tree.number(policy.path("scaling_min_freq")),
        ceiling=ceiling,
        lowest=min(lowest, tree.number(policy.path("cpuinfo_min_freq")) or lowest),
        highest=max(highest, tree.number(policy.path("cpuinfo_max_freq")) or highest),
        heat=_heat.now(facts, "cpu", policy.cpus) if ceiling is not None and ceiling < highest else None,
    )


def _offline(policy: Policy) -> str:
    return (
        f"{policy.name}: its CPUs ({show(policy.cpus)}) are offline, so it can be neither read nor set; "
        'bring them online with cores = "all-online"'
    )


def _not_told(policy: Policy) -> str:
    return (
        f"{policy.name}: its frequencies could not be read while its CPUs ({show(policy.cpus)}) were offline; "
        "bring them online before: `devicelab pin --knob cores=all-online`"
    )


def _tells(policy: Policy) -> bool:
    """Kernels from 5.19 on tell nothing of a policy that is offline, not even its frequencies."""
    return bool(policy.table) or policy.lowest is not None or policy.highest is not None


def _pin(want: Level, policy: Policy, facts: Facts) -> Setting:
    evidence = _evidence(policy, facts)
    if not _tells(policy):
        if policy.online:
            return Setting(sample=evidence.sample, around=evidence.around, unmet=(_not_told(policy),))
        return Setting(unmet=(_offline(policy),))
    target = target_khz(want, policy)
    if not policy.online:
        return Setting(unmet=(_offline(policy),))
    floor, ceiling = policy.path("scaling_min_freq"), policy.path("scaling_max_freq")
    if _setspeed.wanted(_levels.text(want), policy.dir, facts):
        return _pin_by_setspeed(policy, target, evidence, facts)
    why_not = _limits.blocked(facts, ceiling, floor)
    if why_not is not None:
        return Setting(sample=evidence.sample, around=evidence.around, unmet=(f"{policy.name}: {why_not}",))
    limits = _limits_of(policy, facts, policy.lowest or target, policy.highest or target)
    return Setting(steps=_limits.pin(limits, target), sample=evidence.sample, around=evidence.around)


def _pin_by_setspeed(policy: Policy, target: int, evidence: Setting, facts: Facts) -> Setting:
    around = (*evidence.around, *(policy.path(node) for node in _setspeed.NODES))
    why_not = _setspeed.refused(policy.dir, facts) or _setspeed.out_of_reach(policy.dir, target, facts)
    if why_not is not None:
        return Setting(sample=evidence.sample, around=around, unmet=(f"{policy.name}: {why_not}",))
    kept = (*_tunables.of_policy(policy.dir, facts), *_tunables.of_all(policy.dir, facts))
    steps = _setspeed.steps(policy.name, policy.dir, target, facts)
    leaves = steps[0].path == policy.path("scaling_governor")
    return Setting(steps=(*(kept if leaves else ()), *steps), sample=evidence.sample, around=around)


def _evidence(policy: Policy, facts: Facts) -> Setting:
    nodes = ("scaling_min_freq", "scaling_max_freq", "stats/time_in_state")
    heat = tuple(device.path for device in _heat.cooling(facts, "cpu", policy.cpus))
    own = tuple(path for node in nodes if (path := policy.path(node)) in facts.tree)
    others = tuple(path for path in _OTHERS if path in facts.tree)
    return Setting(sample=(policy.path("scaling_cur_freq"),), around=(*own, *heat, *others))


def _set_governors(want: Level, found: tuple[Policy, ...], facts: Facts) -> Setting:
    """What the old governors are set to is kept before any of them goes: several policies may share it."""
    chosen = _merge(_set_governor(want, policy, facts) for policy in found)
    leave = {step.path for step in chosen.steps if step.kind == "write"}
    kept: dict[str, Step] = {}
    for policy in found:
        if policy.path("scaling_governor") in leave:
            writes = (*_tunables.of_policy(policy.dir, facts), *_tunables.of_all(policy.dir, facts))
            kept |= {write.path: write for write in writes}
    return replace(chosen, steps=(*kept.values(), *chosen.steps))


def _set_governor(want: Level, policy: Policy, facts: Facts) -> Setting:
    path = policy.path("scaling_governor")
    if not policy.online:
        return Setting(unmet=(_offline(policy),))
    known = facts.tree.words(policy.path("scaling_available_governors"))
    chosen = _levels.text(want)
    if known and chosen not in known:
        raise ConfigError(f"{policy.name} has no governor {chosen!r}", hint=f"it has: {', '.join(known)}")
    why_not = _limits.blocked(facts, path)
    if why_not is not None:
        return Setting(around=(path,), unmet=(f"{policy.name}: {why_not}",))
    now = facts.tree.text(path) or "not readable"
    if now == chosen:
        return Setting(around=(path,))
    step = Write(path=path, value=chosen, why=f"{policy.name}: governor {chosen} ({now} now)")
    return Setting(steps=(step,), around=(path,))


def prove(word: str, want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
    """What did not hold during the run.

    Codes: ``cpu-frequency-not-held``, ``cpu-frequency-not-proven``, ``throttled``, ``limits-changed``,
    ``governor-changed``.
    """
    every = policies(facts)
    ran = tuple(policy for policy in every if _ran(policy, record))
    if word == "governor":
        return tuple(flag for policy in ran if (flag := _same_governor(want, policy, record)) is not None)
    wants = _per_policy(want, every, facts) if ran else {}
    flags: list[Flag] = []
    for policy in ran:
        level = wants.get(policy.name)
        if level is not None and _tells(policy):
            by_setspeed = _setspeed.wanted(_levels.text(level), policy.dir, facts)
            flags += _judge(policy, target_khz(level, policy), facts, record, by_setspeed=by_setspeed)
        elif level is not None:
            detail = f"{policy.name}: its frequencies were not known when the run was planned, so it was not pinned"
            flags.append(Flag(code="cpu-frequency-not-proven", detail=detail))
    return tuple(flags)


def _ran(policy: Policy, record: RunRecord) -> bool:
    """Whether any CPU of the policy was online during the run; one that never was proves and needs nothing."""
    busy = record.samples.busy
    if busy:  # without CPUs that were never seen online
        return any(tick is not None for cpu in policy.cpus for tick in busy.get(str(cpu), ()))
    return policy.online or bool(record.before.get(policy.path("stats/time_in_state")))


def _judge(policy: Policy, target: int, facts: Facts, record: RunRecord, *, by_setspeed: bool) -> tuple[Flag, ...]:
    floor, ceiling = policy.path("scaling_min_freq"), policy.path("scaling_max_freq")
    cooling = _heat.cooling(facts, "cpu", policy.cpus)
    states = {
        device: state for device in cooling if (state := whole(record.after.get(device.path))) is not None and state > 0
    }
    heat = ", ".join(device.at(state) for device, state in states.items()) or None
    if by_setspeed:
        moved = _setspeed.moved(policy.name, policy.dir, target, record)
    else:
        moved = _proof.limits_moved(policy.name, record, floor, ceiling, target, "kHz", heat)
    samples = _proof.sampled(record, policy.path("scaling_cur_freq"))
    counted = _proof.spent(record, policy.path("stats/time_in_state"), tick_ns=_TICK_NS) if policy.table else {}
    if not policy.table:
        samples = _proof.above(samples, target, slack=_MEASURED_SLACK)
    why_not = "neither time_in_state nor a sample tells whether {} kHz held" if not (counted or samples) else ""
    if target == policy.turbo:
        why_not = "{} kHz is the turbo entry: it stands for no fixed clock"
    if why_not:
        unproven = Flag(code="cpu-frequency-not-proven", detail=f"{policy.name}: {why_not.format(target)}")
        return tuple(flag for flag in (moved, unproven) if flag is not None)
    slack = 0.0 if policy.table else _MEASURED_SLACK
    off = _proof.held("cpu-frequency", policy.name, counted or samples, target, "kHz", slack=slack)
    if off is None and counted:
        # Counters tell what was asked for. Where the clock is measured, one above it was not the one that was counted.
        measured = _proof.above(samples, target, slack=_MEASURED_SLACK)
        off = _proof.held("cpu-frequency", policy.name, measured, target, "kHz", slack=_MEASURED_SLACK)
    return tuple(flag for flag in (moved, off) if flag is not None)


def _same_governor(want: Level, policy: Policy, record: RunRecord) -> Flag | None:
    for when, texts in (("before", record.before), ("after", record.after)):
        seen = (texts.get(policy.path("scaling_governor")) or "").strip()
        if seen and seen != _levels.text(want):
            detail = f"{policy.name}: governor {seen} {when} the run instead of {_levels.text(want)}"
            return Flag(code="governor-changed", detail=detail)
    return None
