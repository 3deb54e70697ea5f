"""Which CPUs are there: hotplug (``cores``), and core isolation (``isolation``).

On Qualcomm kernels ``core_ctl`` *isolates* idle big cores while ``online`` still says 1; an affinity call to such a
core fails with EINVAL. ``isolation = "hold"`` raises ``min_cpus`` to the cluster's size and then proves it by a real
affinity call to every big core, which is the only thing that tells.
"""

import re

from devicelab.knobs import _levels, _limits, _tunables, cpufreq
from devicelab.knobs._clusters import clusters, resolve_cores, show
from devicelab.knobs._domains import CPU
from devicelab.knobs.base import Phase, Setting
from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Probe, Write

WORDS = ("cores", "isolation")
PHASE = Phase.CPUS

_CORE_CTL = ("min_cpus", "max_cpus", "enable", "active_cpus", "need_cpus", "global_state")
# They change affinities behind the caller's back (boards with Qualcomm's sched_lib), or show who is isolated.
_WATCHED = tuple(
    f"/proc/sys/{where}/sched_lib_{what}" for where in ("kernel", "walt") for what in ("name", "mask_force")
)
GLOBS = (
    f"{CPU}/cpu*/online",
    f"{CPU}/cpu*/isolate",
    f"{CPU}/isolated",
    *(f"{CPU}/cpu*/core_ctl/{node}" for node in _CORE_CTL),
    *_WATCHED,
)

# What is read before and after a run; ``max_cpus`` follows ``min_cpus``.
_PROVING = ("min_cpus", "enable", "global_state")

ALL_ONLINE = "all-online"
HOLD = "hold"
_LISTED = re.compile(r"\s*(First )?CPU: ([0-9]{1,4})\s*")
_CORE_CTL_DIR = re.compile(rf"({CPU}/cpu([0-9]{{1,5}})/core_ctl)/[a-z_]+")


def applies(facts: Facts) -> bool:
    """The device has CPUs."""
    return bool(facts.cpus_present)


def online_after(want: Level, facts: Facts) -> tuple[int, ...]:
    """The CPUs that will be online once ``cores`` is at this level.

    Raises:
        ConfigError: no such CPUs.
    """
    if _levels.text(want) == ALL_ONLINE:
        return facts.cpus_present
    return resolve_cores(str(want), facts)


def with_online(online: tuple[int, ...], facts: Facts) -> Facts:
    """The facts as if exactly these CPUs were online.

    Policies without any of them are left out, so that nobody tries to write them, and so are idle states of CPUs that
    will be offline, which the kernel takes away, and their switches, so that nobody asks for those CPUs back; of other
    policies ``affected_cpus`` says which CPUs they will have.
    """
    changed = {f"{CPU}/online": show(online), f"{CPU}/offline": ""}
    away = [cpu for cpu in facts.cpus_present if cpu not in online]
    gone = [f"{CPU}/cpu{cpu}/{name}" for cpu in away for name in ("cpuidle/", "cpufreq/", "online")]
    for policy in cpufreq.policies(facts):
        left = [cpu for cpu in policy.cpus if cpu in online]
        changed[policy.path("affected_cpus")] = " ".join(map(str, left))
        gone += [] if left else [f"{folder}/" for folder in policy.dirs]
    nodes = []
    for path, node in facts.tree.items():
        if any(path.startswith(folder) for folder in gone):
            continue
        text = changed.get(path)
        nodes.append(node if text is None else node.model_copy(update={"text": text, "errno": 0}))
    # A copy would keep the tree that is cached in the old one.
    fields = {name: getattr(facts, name) for name in Facts.model_fields}
    board = facts.board.model_copy(update={"clusters": clusters(facts)})
    return Facts(**{**fields, "board": board, "nodes": tuple(nodes)})


def plan(word: str, want: Level, facts: Facts) -> Setting:
    """Bring CPUs online and offline, or hold them against isolation.

    Raises:
        ConfigError: no such level.
    """
    if word == "isolation":
        _levels.one_of(word, want, (HOLD,))
        return _hold(facts)
    return _hotplug(want, facts)


def _hotplug(want: Level, facts: Facts) -> Setting:
    """First every wanted CPU comes online, then the others leave, so that there is always one left."""
    wanted = online_after(want, facts)
    online = facts.cpus_online
    come, leave = [cpu for cpu in wanted if cpu not in online], [cpu for cpu in online if cpu not in wanted]
    steps: list[Write] = []
    unmet: list[str] = []
    for cpu, state in (*((cpu, 1) for cpu in come), *((cpu, 0) for cpu in leave)):
        path = f"{CPU}/cpu{cpu}/online"
        verb = "bring online" if state else "take offline"
        if path not in facts.tree:
            unmet.append(f"CPU {cpu} cannot be switched here (it has no `online` node)")
        elif why_not := _limits.blocked(facts, path):
            unmet.append(f"CPU {cpu}: {why_not}")
        else:
            why = f"{verb} CPU {cpu} (cores = {want})"
            steps.append(Write(path=path, value=str(state), why=why, restore=str(1 - state)))
    return Setting(steps=(*_kept(steps, facts), *steps), around=(f"{CPU}/online",), unmet=tuple(unmet))


def _kept(steps: list[Write], facts: Facts) -> tuple[Write, ...]:
    """What the governors of policies that lose their last CPU are set to, to be given back when the CPUs are."""
    off = {step.path for step in steps if step.value == "0"}
    left = {cpu for cpu in facts.cpus_online if f"{CPU}/cpu{cpu}/online" not in off}
    gone = [policy for policy in cpufreq.policies(facts) if policy.online and not left & set(policy.cpus)]
    return tuple(write for policy in gone for write in _tunables.of_policy(policy.dir, facts))


def _controllers(facts: Facts) -> dict[str, tuple[int, ...]]:
    """core_ctl folder → CPUs of the cluster it governs: those it lists, and the cluster its first CPU is in."""
    found: dict[str, tuple[int, ...]] = {}
    for path in facts.tree.glob(f"{CPU}/cpu*/core_ctl/*"):
        match = _CORE_CTL_DIR.fullmatch(path)
        if match is not None:
            first = int(match[2])
            cpus = next((c.cpus for c in clusters(facts) if first in c.cpus), (first,))
            listed = _listed(facts.tree.text(f"{match[1]}/global_state") or "", first) & set(facts.cpus_present)
            found[match[1]] = tuple(sorted({*cpus, *listed}))
    return found


def _listed(state: str, first: int) -> set[int]:
    """CPUs of one cluster in ``global_state``, which tells of all of them: "CPU: 5", then "First CPU: 4"."""
    cpu, found = -1, set()
    for line in state.splitlines():
        match = _LISTED.fullmatch(line)
        if match is not None and not match[1]:
            cpu = int(match[2])
        elif match is not None and int(match[2]) == first:
            found.add(cpu)
    return found


def _hold(facts: Facts) -> Setting:
    steps: list[Write] = []
    unmet: list[str] = []
    watched = [path for path in (f"{CPU}/online", f"{CPU}/isolated", *_WATCHED) if path in facts.tree]
    for folder, cpus in _controllers(facts).items():
        watched += [path for node in _PROVING if (path := f"{folder}/{node}") in facts.tree]
        if not _controls(folder, cpus, facts):
            continue
        writes, why_not = _hold_cluster(folder, cpus, facts)
        steps += [write for write in writes if facts.tree.number(write.path) != int(write.value)]
        unmet += [f"CPUs {show(cpus)}: {why_not}"] if why_not else []
    watched += [path for cpu in facts.cpus_present if (path := f"{CPU}/cpu{cpu}/isolate") in facts.tree]
    offline = [cpu for cpu in _big(facts) if cpu not in facts.cpus_online and f"{CPU}/cpu{cpu}/online" in facts.tree]
    if offline:
        unmet.append(f'CPUs {show(tuple(offline))} are offline; bring them online with cores = "{ALL_ONLINE}"')
    probes = tuple(
        Probe(cpus=(cpu,), why=f"will the kernel place a task on CPU {cpu}?")
        for cpu in _big(facts)
        if cpu in facts.cpus_online
    )
    return Setting(steps=tuple(steps), probes=probes, around=tuple(watched), unmet=tuple(unmet))


def _controls(folder: str, cpus: tuple[int, ...], facts: Facts) -> bool:
    """Whether this core_ctl is at work: switched on, and one of its CPUs online."""
    return facts.tree.number(f"{folder}/enable") != 0 and bool(set(cpus) & set(facts.cpus_online))


def _hold_cluster(folder: str, cpus: tuple[int, ...], facts: Facts) -> tuple[list[Write], str | None]:
    """``max_cpus`` first: some versions clamp ``min_cpus`` to it. Without these nodes, ``enable`` off.

    ``max_cpus`` is never lowered: it may govern more CPUs than the cluster that is known.
    """
    low, high, enable = (f"{folder}/{node}" for node in ("min_cpus", "max_cpus", "enable"))
    size = str(max(len(cpus), facts.tree.number(high) or 0))
    why_not = _limits.blocked(facts, high, low)
    if why_not is None:
        steps = [
            Write(path=path, value=size, why=f"hold all {size} CPUs {show(cpus)}: {name}", verify="first-int")
            for path, name in ((high, "max_cpus"), (low, "min_cpus"))
        ]
        return steps, None
    if _limits.blocked(facts, enable) is None:
        why = f"hold CPUs {show(cpus)}: core_ctl off ({why_not})"
        return [Write(path=enable, value="0", why=why, verify="first-int")], None
    return [], why_not


def _big(facts: Facts) -> tuple[int, ...]:
    """CPUs that are worth holding: those of the fast clusters, or all of a device with one cluster."""
    known = clusters(facts)
    return tuple(cpu for c in known if c.big for cpu in c.cpus) or tuple(cpu for c in known for cpu in c.cpus)


def prove(word: str, want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
    """What did not hold.

    Codes: ``core-went-offline``, ``core-came-online``, ``core-not-held``, ``isolation-changed``.
    """
    if word == "cores":
        return _same_cores(want, facts, record)
    flags = []
    for probe in record.probes:
        if probe.errno or set(probe.granted) != set(probe.cpus):
            got = f"errno {probe.errno}" if probe.errno else f"it granted {show(probe.granted) or 'none'}"
            detail = f"the kernel does not place a task on CPU {show(probe.cpus)}: {got}"
            flags.append(Flag(code="core-not-held", detail=detail))
    for cpu in facts.cpus_present:
        for when, texts in (("before", record.before), ("after", record.after)):
            if (texts.get(f"{CPU}/cpu{cpu}/isolate") or "").strip() == "1" and cpu in _big(facts):
                flags.append(Flag(code="core-not-held", detail=f"CPU {cpu} was isolated {when} the run"))
    for folder, cpus in _controllers(facts).items():
        flags += _controller_moved(folder, cpus, facts, record)
    return tuple(flags)


def _controller_moved(folder: str, cpus: tuple[int, ...], facts: Facts, record: RunRecord) -> list[Flag]:
    """Flags where core_ctl's nodes changed during the run, or were not as they had been set."""
    asked = {write.path: write.value for write in _hold_cluster(folder, cpus, facts)[0]}
    asked = asked if _controls(folder, cpus, facts) else {}
    flags = []
    for name in ("min_cpus", "enable"):
        path = f"{folder}/{name}"
        before, after = ((texts.get(path) or "").strip() for texts in (record.before, record.after))
        told = f"core_ctl of CPUs {show(cpus)}: {name}"
        if before and after and before != after:
            flags.append(Flag(code="isolation-changed", detail=f"{told} went from {before} to {after} during the run"))
        elif path in asked and (before or after) not in {"", asked[path]}:
            detail = f"{told} was {before or after} during the run instead of {asked[path]}"
            flags.append(Flag(code="isolation-changed", detail=detail))
    return flags


def _same_cores(want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
    wanted = online_after(want, facts)
    count = max(map(len, record.samples.busy.values()), default=0)
    flags = []
    for cpu in facts.cpus_present:
        # The agent leaves out a CPU that it never saw online.
        ticks = record.samples.busy.get(str(cpu), (None,) * count)
        away = sum(tick is None for tick in ticks)
        if cpu in wanted and away:
            detail = f"CPU {cpu} was offline in {away} of {len(ticks)} samples"
            flags.append(Flag(code="core-went-offline", detail=detail))
        elif cpu not in wanted and len(ticks) > away:
            detail = f"CPU {cpu} was online in {len(ticks) - away} of {len(ticks)} samples"
            flags.append(Flag(code="core-came-online", detail=detail))
    return tuple(flags)
