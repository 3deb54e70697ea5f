"""CPU idle states: ``idle_states = "off"`` keeps idle CPUs from sleeping deeply, so that waking costs nothing.

State 0 stays: it is a plain wait (or a poll), and without it there is nothing left to do in the idle loop. Qualcomm's
``lpm_levels`` has one switch for all CPUs, elsewhere every state of every CPU has its own.
"""

import re
from collections.abc import Iterable

from devicelab.knobs import _levels, _limits
from devicelab.knobs._clusters import show
from devicelab.knobs._domains import CPU
from devicelab.knobs.base import Phase, Setting
from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Write

WORDS = ("idle_states",)
PHASE = Phase.SLEEP

_LPM = "/sys/module/lpm_levels/parameters/sleep_disabled"
_STATE = f"{CPU}/cpu*/cpuidle/state*"
GLOBS = (_LPM, f"{_STATE}/name", f"{_STATE}/disable")


def _switches(facts: Facts) -> tuple[str, ...]:
    paths = facts.tree.glob(f"{CPU}/cpu*/cpuidle/state*/disable")
    return tuple(path for path in paths if re.search(r"/state[1-9]\d*/disable$", path))


def applies(facts: Facts) -> bool:
    """The device has idle states that can be switched."""
    return _LPM in facts.tree or bool(_switches(facts))


def _wanted(want: Level, facts: Facts) -> dict[str, str]:
    """Node → text for a level."""
    off = _levels.one_of("idle_states", want, ("on", "off")) == "off"
    if _LPM in facts.tree:
        return {_LPM: "Y" if off else "N"}
    return dict.fromkeys(_switches(facts), "1" if off else "0")


def _not_told(facts: Facts, online: Iterable[int]) -> tuple[int, ...]:
    """Of these CPUs those without known states: the kernel has none of a CPU that is offline."""
    if _LPM in facts.tree:
        return ()
    told = {path.split("/")[5] for path in facts.tree.glob(f"{CPU}/cpu*/cpuidle/state*/disable")}
    return tuple(cpu for cpu in online if f"cpu{cpu}" not in told)


def plan(word: str, want: Level, facts: Facts) -> Setting:
    """Switch deep idle states off or on.

    Raises:
        ConfigError: not ``on`` or ``off``.
    """
    steps: list[Write] = []
    unmet: dict[str, None] = {}
    wanted = _wanted(want, facts)
    silent = _not_told(facts, facts.cpus_online) if "1" in wanted.values() else ()
    for path, value in wanted.items():
        if facts.tree.text(path) == value:
            continue
        why_not = _limits.blocked(facts, path)
        if why_not is not None:
            unmet[why_not] = None
            continue
        state = facts.tree.text(f"{path.removesuffix('disable')}name") if path != _LPM else None
        name = state or "deep idle states"
        steps.append(Write(path=path, value=value, why=f"{word} {_levels.text(want)}: {name}"))
    sentences = list(unmet)[:1]
    if silent:
        sentences.append(
            f"the idle states of CPUs {show(silent)} could not be read while they were offline; bring them online "
            "before: `devicelab pin --knob cores=all-online`"
        )
    return Setting(steps=tuple(steps), around=tuple(wanted), unmet=tuple(sentences))


def prove(word: str, want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
    """What did not hold.

    Codes: ``idle-states-changed``, a switch that was elsewhere before or after the run; ``idle-states-not-proven``, a
    CPU that ran and whose states were not known when the run was planned.
    """
    wanted = _wanted(want, facts)
    for path, value in wanted.items():
        for when, texts in (("before", record.before), ("after", record.after)):
            seen = (texts.get(path) or "").strip()
            if seen and seen != value:
                detail = f"{word}: {path} was {seen} {when} the run instead of {value}"
                return (Flag(code="idle-states-changed", detail=detail),)
    ran = [cpu for cpu in facts.cpus_present if any(tick is not None for tick in record.samples.busy.get(str(cpu), ()))]
    silent = _not_told(facts, ran) if "1" in wanted.values() else ()
    if silent:
        detail = f"{word}: nothing was known of the idle states of CPUs {show(silent)}, so they were left as they are"
        return (Flag(code="idle-states-not-proven", detail=detail),)
    return ()
