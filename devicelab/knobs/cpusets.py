"""The scheduler's groups that the measured programs join: cpuset, and a boost (schedtune or uclamp).

``cpuset = "top-app"`` lets the programs run where that group may; the kernel ANDs every affinity with the group's CPUs.
``uclamp = 100`` asks for that share of the fastest CPU's capacity (percent) whatever the programs' own use is:
``schedtune.boost`` on 4.x kernels, ``cpu.uclamp.min`` from 5.x on. Both belong to the group, so the group joined is the
one whose value is set. Where the kernel has these controllers in its one hierarchy of version 2 (``/sys/fs/cgroup``,
``cpuset.cpus``), the groups are those; one that has groups below it takes no programs there.
"""

from devicelab.errors import ConfigError
from devicelab.knobs import _levels, _limits
from devicelab.knobs.base import Phase, Setting
from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Write

WORDS = ("cpuset", "uclamp")
PHASE = Phase.REST

_CPUSET = "/dev/cpuset"
_BOOSTED = "top-app"
_STUNE = f"/dev/stune/{_BOOSTED}"
_CPUCTL = f"/dev/cpuctl/{_BOOSTED}"
_V2 = "/sys/fs/cgroup"
_V2_CPUS = ("cpuset.cpus.effective", "cpuset.cpus")
GLOBS = (
    *(f"{_CPUSET}/{node}" for node in ("cpus", "cgroup.procs", "*/cpus", "*/cgroup.procs")),
    f"{_STUNE}/schedtune.boost",
    f"{_STUNE}/cgroup.procs",
    f"{_CPUCTL}/cpu.uclamp.min",
    f"{_CPUCTL}/cgroup.procs",
    *(f"{_V2}/*/{node}" for node in (*_V2_CPUS, "cgroup.procs")),
    f"{_V2}/{_BOOSTED}/cpu.uclamp.min",
)


def applies(facts: Facts) -> bool:  # noqa: ARG001 - asked of every family
    """Always: a device without such groups says so in ``unmet``."""
    return True


def groups(facts: Facts) -> dict[str, str]:
    """Cpuset name → CPUs as the kernel lists them; the group of all is ``root``."""
    return {name: facts.tree.text(node) or "" for name, node in _nodes(facts).items()}


def _nodes(facts: Facts) -> dict[str, str]:
    """Cpuset name → the node that lists its CPUs."""
    found = {}
    for path in (*facts.tree.glob(f"{_CPUSET}/cpus"), *facts.tree.glob(f"{_CPUSET}/*/cpus")):
        name = path.removeprefix(_CPUSET).removesuffix("cpus").strip("/")
        found[name or "root"] = path
    for node in () if found else _V2_CPUS:
        for path in facts.tree.glob(f"{_V2}/*/{node}"):
            found.setdefault(path.rsplit("/", 2)[-2], path)
    return found


def plan(word: str, want: Level, facts: Facts) -> Setting:
    """Join a group, and set its boost.

    Raises:
        ConfigError: no group of that name, or not a percentage.
    """
    return _join(want, facts) if word == "cpuset" else _boost(want, facts)


def _join(want: Level, facts: Facts) -> Setting:
    known = groups(facts)
    if not known:
        return Setting(unmet=(f"this device has no cpusets (neither {_CPUSET} nor {_V2}/*/cpuset.cpus is there)",))
    name = _levels.text(want)
    if name not in known:
        listed = ", ".join(f"{group} (CPUs {cpus})" for group, cpus in known.items())
        raise ConfigError(f"cpuset = {want!r}: no such group", hint=f"groups: {listed}")
    node = _nodes(facts)[name]
    procs = f"{node.rpartition('/')[0]}/cgroup.procs"
    why_not = _limits.blocked(facts, procs)
    watched = (node,)
    return Setting(around=watched, unmet=(why_not,)) if why_not else Setting(cgroups=(procs,), around=watched)


def _percent(want: Level) -> int:
    chosen = _levels.text(want).removesuffix("%").strip()
    if not chosen.isdecimal() or int(chosen) > 100:
        raise ConfigError(f"uclamp = {want!r} makes no sense", hint="a percentage: 0 to 100")
    return int(chosen)


def _boost_node(facts: Facts) -> tuple[str, str] | None:
    """The node that boosts and the ``cgroup.procs`` beside it."""
    places = ((_CPUCTL, "cpu.uclamp.min"), (f"{_V2}/{_BOOSTED}", "cpu.uclamp.min"), (_STUNE, "schedtune.boost"))
    for folder, node in places:
        if f"{folder}/{node}" in facts.tree:
            return f"{folder}/{node}", f"{folder}/cgroup.procs"
    return None


def _boost(want: Level, facts: Facts) -> Setting:
    percent = _percent(want)
    boost = _boost_node(facts)
    if boost is None:
        return Setting(unmet=("this device has neither uclamp nor schedtune groups",))
    node, procs = boost
    why_not = _limits.blocked(facts, node, procs)
    if why_not is not None:
        return Setting(around=(node,), unmet=(why_not,))
    # uclamp reads "50.00" and takes it as well; schedtune.boost is an integer.
    why = f"boost of {_BOOSTED} to {percent}% ({facts.tree.text(node)} now)"
    write = Write(path=node, value=str(percent), expect=_expected(node, percent), why=why)
    return Setting(steps=(write,), around=(node,), cgroups=(procs,))


def _expected(node: str, percent: int) -> str:
    if not node.endswith("uclamp.min"):
        return str(percent)
    return "max" if percent == 100 else f"{percent}.00"


def prove(word: str, want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
    """Codes: ``cpuset-changed`` (the group's CPUs), ``uclamp-changed``: read around the run."""
    if word == "cpuset":
        node = _nodes(facts).get(_levels.text(want), "")
        expected = facts.tree.text(node)
    else:
        boost = _boost_node(facts)
        node, expected = (boost[0], _expected(boost[0], _percent(want))) if boost else ("", None)
    if expected is None:
        return ()
    for when, texts in (("before", record.before), ("after", record.after)):
        seen = (texts.get(node) or "").strip()
        if seen and seen != expected:
            return (Flag(code=f"{word}-changed", detail=f"{node} was {seen} {when} the run instead of {expected}"),)
    return ()
