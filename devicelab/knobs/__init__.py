"""What can be set on a device: one module a family, found by its name."""

from collections.abc import Mapping
from functools import cache

from devicelab import boards
from devicelab.errors import LabError
from devicelab.ground import registry
from devicelab.knobs import _clusters, _domains, cores, lock
from devicelab.knobs import thermal as heat
from devicelab.knobs._clusters import clusters, known, resolve_cores, show
from devicelab.knobs.base import GivesWay, Knob, LevelFirst, Setting
from devicelab.model.device import Facts
from devicelab.model.experiment import Level, Thermal
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Gate

__all__ = [
    "assume",
    "baseline",
    "clusters",
    "expanded",
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


@cache
def _families(names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Word → the families that answer to it; words in the order in which their steps are performed."""
    found: dict[str, tuple[str, ...]] = {}
    places: dict[str, tuple[bool, int, str, int]] = {}
    own = registry.own_names("knobs")
    for name in names:
        family: Knob = registry.usable("knobs", name)
        for place, word in enumerate(family.WORDS):
            found[word] = (*found.get(word, ()), name)
            # A family from outside that knows a word of ours does not move its steps.
            mine = (name not in own, int(family.PHASE), name, place)
            places[word] = min(mine, places.get(word, mine))
    return {word: found[word] for word in sorted(found, key=lambda word: places[word][1:])}


def _by_word() -> dict[str, tuple[str, ...]]:
    return _families(registry.usable_names("knobs"))


def words() -> dict[str, str]:
    """Factor word → the module that answers to it, in the order in which steps are performed.

    A word of several families (``gpu``) has their names joined by ``|``; ``families`` tells which one a device has.
    """
    return {word: "|".join(names) for word, names in _by_word().items()}


def globs() -> tuple[str, ...]:
    """Every node pattern that knobs and board files need read; ``*`` does not cross a slash."""
    patterns = [glob for name in registry.usable_names("knobs") for glob in registry.usable("knobs", name).GLOBS]
    return tuple(dict.fromkeys((*_clusters.GLOBS, *boards.globs(), *patterns)))


def families(word: str, facts: Facts) -> tuple[str, ...]:
    """The modules that answer to a word on this device, the one that is used first.

    That is the board file's choice (``gpu``), else a family that comes with devicelab; generic interfaces come last.

    Raises:
        ConfigError: nobody knows the word.
    """
    if word not in _by_word():
        raise registry.unknown("knob", word, tuple(words()))

    own = registry.own_names("knobs")

    def rank(name: str) -> tuple[bool, bool, bool, str]:
        family = registry.usable("knobs", name)
        return name != facts.board.gpu, isinstance(family, GivesWay) and family.GENERIC, name not in own, name

    return tuple(
        name for name in sorted(_by_word()[word], key=rank) if registry.ask("knobs", name, "applies", facts) is True
    )


def setting(word: str, want: Level, facts: Facts) -> Setting:
    """The steps that bring a knob to a level on this device.

    What cannot be done is in ``Setting.unmet``; it is no error here, since the experiment decides whether it is one.

    Raises:
        ConfigError: nobody knows the word, or the level makes no sense on this device.
    """
    fitting = families(word, facts)
    if not fitting:
        names = _by_word().get(word, ())
        # A level that no device knows is a mistake here too.
        for family in map(registry.knob, names):
            if isinstance(family, LevelFirst) and family.LEVEL_FIRST:
                family.plan(word, want, facts)
        looked = ", ".join(names or ("none that works",))
        return Setting(unmet=(f"this device has nothing to set {word} with (looked for: {looked})",))
    try:
        return registry.knob(fitting[0]).plan(word, want, facts)
    except LabError as error:
        error.device = error.device or facts.name
        raise


def settings(levels: Mapping[str, Level], facts: Facts) -> dict[str, Setting]:
    """The settings of all knob words among these levels, in the order in which they are performed.

    ``lock`` is expanded to what it stands for. Differs from calling ``setting`` for each also in that clocks and probes
    are planned for the CPUs that will be online once ``cores`` is set.
    """
    every, later = expanded(levels, facts), assume(levels, facts)
    return {word: setting(word, every[word], facts if word == "cores" else later) for word in words() if word in every}


def expanded(levels: Mapping[str, Level], facts: Facts) -> dict[str, Level]:
    """The levels with those that ``lock`` stands for on this device; the same without that word."""
    return lock.expanded(levels, facts)


def assume(levels: Mapping[str, Level], facts: Facts) -> Facts:
    """The facts as they will be once the level of ``cores`` is set; the same facts without that word.

    Policies that will have no CPU left vanish; those that get CPUs back can be written.

    Raises:
        ConfigError: no such CPUs.
    """
    every = expanded(levels, facts)
    if "cores" not in every:
        return facts
    steps = setting("cores", every["cores"], facts).steps
    done = {step.path: step.value for step in steps if step.kind == "write"}
    online = set(facts.cpus_online)
    for cpu in facts.cpus_present:
        state = done.get(f"{_domains.CPU}/cpu{cpu}/online")
        online = online | {cpu} if state == "1" else online - {cpu} if state == "0" else online
    return cores.with_online(tuple(sorted(online)), facts)


def prove(word: str, want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
    """What of a setting did not hold during a run, with figures; empty if all of it did.

    ``facts`` are those the plan was made from, ``record`` is the run's journal record.
    """
    flags: list[Flag] = []
    for name in families(word, facts)[:1]:
        flags += registry.knob(name).prove(word, want, facts, record)
    return tuple(dict.fromkeys(flags))


def baseline(thermal: Thermal, facts: Facts) -> Setting:
    """The gates that make every run start from the same temperature; what cannot be awaited is in ``unmet``."""
    return heat.wait_for(thermal, facts)


def gates(thermal: Thermal, facts: Facts) -> tuple[Gate, ...]:
    """The gates of ``baseline`` alone."""
    return baseline(thermal, facts).gates
