"""As still as the board can be held, in one word: ``lock = "on"`` stands for a level of every knob that helps.

What AndroidX's ``lockClocks.sh`` does for some phones, for whatever the device has: vendor daemons and performance
managers stopped, all CPUs there and held, clocks of CPUs, memory buses and GPU at their highest; without root Android's
own fixed performance mode. Each part is set, proved and undone by its own knob; a level that a cell or a command gives
besides counts before the profile's. What cannot be locked is named by the part.
"""

from collections.abc import Mapping

from devicelab.knobs import _levels, daemons, perf_manager, performance_mode
from devicelab.knobs.base import Phase, Setting
from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import Flag, RunRecord

WORDS = ("lock",)
PHASE = Phase.INTERFERENCE
GLOBS: tuple[str, ...] = ()


def applies(facts: Facts) -> bool:
    """The device has CPUs."""
    return bool(facts.cpus_present)


def profile(facts: Facts) -> dict[str, Level]:
    """The levels that ``lock`` stands for on this device."""
    levels: dict[str, Level] = {}
    if facts.board.daemons and daemons.services(facts):
        levels["daemons"] = "stop"
    if perf_manager.applies(facts):
        levels["perf_manager"] = "off"
    levels |= {"cores": "all-online", "isolation": "hold", "cpu": "max", "membus": "max", "gpu": "max"}
    if facts.root == "none" and performance_mode.applies(facts):
        levels["performance_mode"] = "fixed"
    return levels


def expanded(levels: Mapping[str, Level], facts: Facts) -> dict[str, Level]:
    """The levels with those that ``lock`` stands for; the same without it.

    Raises:
        ConfigError: ``lock`` is neither ``on`` nor ``off``.
    """
    if "lock" not in levels or _levels.one_of("lock", levels["lock"], ("on", "off")) == "off":
        return dict(levels)
    return {**profile(facts), **levels}


def plan(word: str, want: Level, facts: Facts) -> Setting:
    """Nothing itself: its parts do it.

    Raises:
        ConfigError: not ``on`` or ``off``.
    """
    _levels.one_of(word, want, ("on", "off"))
    return Setting(unmet=() if applies(facts) else ("this device tells of no CPUs",))


def prove(word: str, want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:  # noqa: ARG001 - its parts do
    """Nothing itself."""
    return ()
