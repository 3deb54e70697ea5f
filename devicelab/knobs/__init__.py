"""What can be set on a device: one module a family, found by its name."""

from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import cast

from devicelab import boards
from devicelab.errors import LabError
from devicelab.ground import registry
from devicelab.knobs import _clusters, _domains
from devicelab.knobs._clusters import clusters, known, resolve_cores, show
from devicelab.knobs.base import Setting
from devicelab.model.device import Facts
from devicelab.model.experiment import Level, Thermal
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Gate

__all__ = [
    "assume",
    "baseline",
    "clusters",
    "families",
    "gates",
    "globs",
    "known",
    "prove",
    "resolve_cores",
    "setting",
    "settings",
    "show",
    "words",
]

# Steps are performed in this order and undone in reverse: first what would interfere (daemons), then which CPUs there
# are, then what they run at, then the rest. Words that are not named here come last.
_ORDER = (
    "daemons",
    "screen",
    "airplane",
    "cores",
    "isolation",
    "idle_states",
    "governor",
    "cpu",
    "membus",
    "gpu",
    "cpuset",
    "uclamp",
    "thermal",
)


@cache
def _families() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name in registry.names("knobs"):
        for word in registry.module("knobs", name).WORDS:
            found[word] = (*found.get(word, ()), name)
    known = [word for word in _ORDER if word in found]
    return {word: found[word] for word in (*known, *sorted(found.keys() - set(known)))}


@cache
def words() -> dict[str, str]:
    """Factor word → the module that answers to it, in the order in which steps are performed.

    A word of several families (``gpu``) has their names joined by ``|``; ``families`` tells which one a device has.
    """
    return {word: "|".join(names) for word, names in _families().items()}


@cache
def globs() -> tuple[str, ...]:
    """Every node pattern that knobs and board files need read; ``*`` does not cross a slash."""
    patterns = [pattern for name in registry.names("knobs") for pattern in registry.module("knobs", name).GLOBS]
    return tuple(dict.fromkeys((*_clusters.GLOBS, *boards.globs(), *patterns)))


def families(word: str, facts: Facts) -> tuple[str, ...]:
    """The modules that answer to a word on this device: the board file's choice first, generic interfaces last.

    Raises:
        ConfigError: nobody knows the word.
    """
    if word not in _families():
        raise registry.unknown("knob", word, tuple(words()))

    def rank(name: str) -> tuple[bool, bool, str]:
        return name != facts.board.gpu, getattr(_module(name), "GENERIC", False), name

    return tuple(name for name in sorted(_families()[word], key=rank) if _module(name).applies(facts))


def _module(name: str) -> ModuleType:
    return registry.module("knobs", name)


def setting(word: str, want: Level, facts: Facts) -> Setting:
    """The steps that bring a knob to a level on this device.

    What cannot be done is in ``Setting.unmet``; it is no error here, since the experiment decides whether it is one.

    Raises:
        ConfigError: nobody knows the word, or the level makes no sense on this device.
    """
    fitting = families(word, facts)
    if not fitting:
        looked = ", ".join(_families()[word])
        return Setting(unmet=(f"this device has nothing to set {word} with (looked for: {looked})",))
    try:
        return cast("Setting", _module(fitting[0]).plan(word, want, facts))
    except LabError as error:
        error.device = error.device or facts.name
        raise


def settings(levels: Mapping[str, Level], facts: Facts) -> dict[str, Setting]:
    """The settings of all knob words among these levels, in the order in which they are performed.

    Differs from calling ``setting`` for each in that clocks and probes are planned for the CPUs that will be online
    once ``cores`` is set.
    """
    later = assume(levels, facts)
    return {
        word: setting(word, levels[word], facts if word == "cores" else later) for word in words() if word in levels
    }


def assume(levels: Mapping[str, Level], facts: Facts) -> Facts:
    """The facts as they will be once the level of ``cores`` is set; the same facts without that word.

    Policies that will have no CPU left vanish; those that get CPUs back can be written.

    Raises:
        ConfigError: no such CPUs.
    """
    if "cores" not in levels:
        return facts
    cores = _module("cores")
    steps = setting("cores", levels["cores"], facts).steps
    done = {step.path: step.value for step in steps if step.kind == "write"}
    online = set(facts.cpus_online)
    for cpu in facts.cpus_present:
        state = done.get(f"{_domains.CPU}/cpu{cpu}/online")
        online = online | {cpu} if state == "1" else online - {cpu} if state == "0" else online
    return cast("Facts", cores.with_online(tuple(sorted(online)), facts))


def prove(word: str, want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
    """What of a setting did not hold during a run, with figures; empty if all of it did.

    ``facts`` are those the plan was made from, ``record`` is the run's journal record.
    """
    flags: list[Flag] = []
    for name in families(word, facts)[:1]:
        flags += _module(name).prove(word, want, facts, record)
    return tuple(dict.fromkeys(flags))


def baseline(thermal: Thermal, facts: Facts) -> Setting:
    """The gates that make every run start from the same temperature; what cannot be awaited is in ``unmet``."""
    return cast("Setting", _module("thermal").wait_for(thermal, facts))


def gates(thermal: Thermal, facts: Facts) -> tuple[Gate, ...]:
    """The gates of ``baseline`` alone."""
    return baseline(thermal, facts).gates
