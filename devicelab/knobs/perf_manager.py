"""Performance managers of vendors that set clocks against everybody's limits: ``perf_manager = "off"`` for the run.

MediaTek's PPM (``/proc/ppm``) and FPSGO rewrite CPU limits whatever sysfs says, Qualcomm's input boost lifts them at a
touch, and the power HAL of several vendors does so until a property is cleared, as AndroidX's ``lockClocks.sh`` does.
Sources: MediaTek's 4.14 (``drivers/misc/mediatek/base/power/ppm_v3``, ``fpsgo_v3``), AOSP, androidx.
"""

from dataclasses import dataclass

from devicelab.knobs import _levels, _limits
from devicelab.knobs.base import Phase, Setting
from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Command, Verify, Write

WORDS = ("perf_manager",)
PHASE = Phase.INTERFERENCE

_HAL = "vendor.powerhal.init"


@dataclass(frozen=True)
class _Switch:
    """A node that switches a manager: what to write for off and on, and what it reads when it is off."""

    path: str
    what: str
    off: str = "0"
    on: str = "1"
    reads_off: str = "0"


_SWITCHES = (
    _Switch("/proc/ppm/enabled", "MediaTek's PPM", reads_off="ppm is disabled"),
    _Switch("/sys/kernel/fpsgo/common/fpsgo_enable", "MediaTek's FPSGO"),
    _Switch("/sys/module/cpu_boost/parameters/input_boost_ms", "Qualcomm's input boost", on=""),
)
GLOBS = tuple(switch.path for switch in _SWITCHES)


def _there(facts: Facts) -> list[_Switch]:
    return [switch for switch in _SWITCHES if facts.tree.text(switch.path) is not None]


def applies(facts: Facts) -> bool:
    """The device has one of them."""
    return bool(_there(facts)) or facts.props.get(_HAL, "") not in {"", "0"}


def plan(word: str, want: Level, facts: Facts) -> Setting:
    """Switch them off, those that are on.

    Raises:
        ConfigError: not ``off`` or ``keep``.
    """
    if _levels.one_of(word, want, ("off", "keep")) == "keep":
        return Setting()
    steps: list[Write | Command] = []
    unmet: list[str] = []
    for switch in _there(facts):
        now = facts.tree.text(switch.path) or ""
        why_not = _limits.blocked(facts, switch.path)
        if now == switch.reads_off:
            continue
        if why_not is not None:
            unmet.append(f"{switch.what}: {why_not}")
            continue
        why = f"{switch.what} off, which sets clocks by itself ({now} now)"
        # PPM reads as a sentence, so it is judged by what is read around the run.
        verify: Verify = "exact" if switch.reads_off == switch.off else "none"
        steps.append(Write(path=switch.path, value=switch.off, why=why, verify=verify, restore=switch.on or now))
    value = facts.props.get(_HAL, "")
    if value not in {"", "0"}:
        if facts.root == "none":
            unmet.append(f"the power HAL: no root to clear {_HAL}")
        else:
            why = f"the power HAL is told to rest ({_HAL} is {value})"
            steps.append(Command(do=("setprop", _HAL, "0"), undo=("setprop", _HAL, value), why=why))
    around = tuple(switch.path for switch in _there(facts))
    return Setting(steps=tuple(steps), around=around, unmet=tuple(unmet))


def prove(word: str, want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
    """Code ``perf-manager-on``: a switch was on before or after the run."""
    if _levels.one_of(word, want, ("off", "keep")) == "keep":
        return ()
    blocked = {switch.path for switch in _there(facts) if _limits.blocked(facts, switch.path) is not None}
    for switch in _there(facts):
        for when, texts in (("before", record.before), ("after", record.after)):
            seen = (texts.get(switch.path) or "").strip()
            if seen and seen != switch.reads_off and switch.path not in blocked:
                detail = f"{switch.what} was on {when} the run ({switch.path}: {seen[:80]})"
                return (Flag(code="perf-manager-on", detail=detail),)
    return ()
