"""Android's own fixed performance mode (``performance_mode = "fixed"``), which needs no root: Android 11 and later.

The vendor chooses clocks that last (``PowerManager``, "fixed performance mode"; ``cmd power
set-fixed-performance-mode-enabled``, API level 30). It tells nowhere whether it is on, and a vendor without it says
nothing; so what is proved is what it is for: that clocks did not sink in the course of the run.
"""

import re

from devicelab.knobs import _levels
from devicelab.knobs._domains import CPU
from devicelab.knobs.base import Phase, Setting
from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Command
from devicelab.model.tree import whole

WORDS = ("performance_mode",)
PHASE = Phase.INTERFERENCE
LEVEL_FIRST = True
GLOBS: tuple[str, ...] = ()

_SDK = 30
_CLOCK = re.compile(rf"{CPU}/(?:cpufreq/(policy\d+)|(cpu\d+)/cpufreq)/scaling_cur_freq")
# Half of a run against the other half; a step of a frequency table is 4 to 8 %.
_SUNK = 0.03
_FEW = 8


def applies(facts: Facts) -> bool:
    """Android 11 or later."""
    return facts.os == "android" and (whole(facts.props.get("ro.build.version.sdk")) or 0) >= _SDK


def _command(state: str) -> tuple[str, ...]:
    return ("cmd", "power", "set-fixed-performance-mode-enabled", state)


def plan(word: str, want: Level, facts: Facts) -> Setting:
    """Switch it on for the run.

    Raises:
        ConfigError: not ``fixed`` or ``keep``.
    """
    if _levels.one_of(word, want, ("fixed", "keep")) == "keep":
        return Setting()
    if not applies(facts):
        return Setting(unmet=(f"fixed performance mode needs Android 11 (SDK {_SDK})",))
    step = Command(do=_command("true"), undo=_command("false"), why="Android's fixed performance mode")
    return Setting(steps=(step,), sample=tuple(path for path in facts.tree if _CLOCK.fullmatch(path)))


def prove(word: str, want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
    """What did not hold.

    Codes: ``performance-mode-refused``, the command failed; ``clock-not-sustained``, the highest clock of a policy sank
    from the first half of the run to the second; ``clock-not-proven``, too few samples to tell.
    """
    if _levels.one_of(word, want, ("fixed", "keep")) == "keep" or not applies(facts):
        return ()
    refused = [step for step in record.steps if step.do == _command("true") and not step.held]
    if refused:
        detail = f"{' '.join(_command('true'))}: exit code {refused[0].exit_code}"
        return (Flag(code="performance-mode-refused", detail=detail),)
    flags, told = [], False
    for path, texts in record.samples.nodes.items():
        match = _CLOCK.fullmatch(path)
        clocks = [khz for text in texts if (khz := whole(text)) is not None] if match else []
        if match is None or len(clocks) < _FEW:
            continue
        told = True
        first, second = max(clocks[: len(clocks) // 2]), max(clocks[len(clocks) // 2 :])
        if second < first * (1 - _SUNK):
            detail = (
                f"{match[1] or match[2]}: up to {first} kHz in the first half of the run, {second} kHz in the second"
            )
            flags.append(Flag(code="clock-not-sustained", detail=detail))
    if not told:
        return (
            Flag(code="clock-not-proven", detail="too few samples of the CPUs' clocks to tell whether they lasted"),
        )
    return tuple(flags)
