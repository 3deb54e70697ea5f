"""Performance managers of vendors that set clocks against everybody's limits: ``perf_manager = "off"`` for the run.

MediaTek's PPM (``/proc/ppm``) and FPSGO rewrite CPU limits whatever sysfs says, Qualcomm's input boost lifts them at a
touch (under ``/proc/sys/walt`` since 5.15), its performance HAL through ``msm_performance``, whose limits count beside
everybody's, and the power HAL of several vendors does so until a property is cleared, as AndroidX's ``lockClocks.sh``
does. Sources: MediaTek's 4.14 (``drivers/misc/mediatek/base/power/ppm_v3``, ``fpsgo_v3``), Qualcomm's 4.14 to 6.1
(``msm_performance.c``, ``kernel/sched/walt/sysctl.c``), AOSP, androidx.
"""

import re
from dataclasses import dataclass

from devicelab.knobs import _levels, _limits
from devicelab.knobs.base import Phase, Setting
from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Command, Verify, Write

WORDS = ("perf_manager",)
PHASE = Phase.INTERFERENCE
LEVEL_FIRST = True

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
    _Switch("/sys/devices/system/cpu/cpu_boost/parameters/input_boost_ms", "Qualcomm's input boost", on=""),
    _Switch("/proc/sys/walt/input_boost/input_boost_ms", "Qualcomm's input boost", on=""),
)
_MSM = ("/sys/module/msm_performance/parameters", "/sys/kernel/msm_performance/parameters")
# A list "0:VALUE 1:VALUE ..." by CPU, and what stands there for no limit.
_MSM_FREE = {"cpu_max_freq": "4294967295", "cpu_min_freq": "0"}
_PAIR = re.compile(r"([0-9]{1,4}):([0-9]{1,10})")
GLOBS = (*(switch.path for switch in _SWITCHES), *(f"{folder}/{node}" for folder in _MSM for node in _MSM_FREE))


def _limits_of_hal(text: str, free: str) -> str | None:
    """What to write so that a list of limits limits nothing; ``None`` if it does not, or is no such list."""
    pairs = _PAIR.findall(text)
    if not pairs or all(value == free for _, value in pairs):
        return None
    return " ".join(f"{cpu}:{free}" for cpu, _ in pairs)


def _hal(facts: Facts) -> list[tuple[str, str]]:
    """Nodes of msm_performance that are there, and what stands in each for no limit."""
    nodes = [(f"{folder}/{node}", free) for folder in _MSM for node, free in _MSM_FREE.items()]
    return [(path, free) for path, free in nodes if _PAIR.search(facts.tree.text(path) or "")]


def _there(facts: Facts) -> list[_Switch]:
    return [switch for switch in _SWITCHES if facts.tree.text(switch.path) is not None]


def applies(facts: Facts) -> bool:
    """The device has one of them."""
    return bool(_there(facts)) or bool(_hal(facts)) or facts.props.get(_HAL, "") not in {"", "0"}


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
    for path, free in _hal(facts):
        now = facts.tree.text(path) or ""
        wanted, why_not = _limits_of_hal(now, free), _limits.blocked(facts, path)
        if wanted is not None and why_not is not None:
            unmet.append(f"limits of Qualcomm's performance HAL: {why_not}")
        elif wanted is not None:
            why = f"limits of Qualcomm's performance HAL away ({path.rsplit('/', 1)[-1]} is {now})"
            restore = " ".join(f"{cpu}:{value}" for cpu, value in _PAIR.findall(now))
            steps.append(Write(path=path, value=wanted, why=why, verify="none", restore=restore))
    value = facts.props.get(_HAL, "")
    if value not in {"", "0"}:
        if facts.root == "none":
            unmet.append(f"the power HAL: no root to clear {_HAL}")
        else:
            why = f"the power HAL is told to rest ({_HAL} is {value})"
            steps.append(Command(do=("setprop", _HAL, "0"), undo=("setprop", _HAL, value), why=why))
    around = (*(switch.path for switch in _there(facts)), *(path for path, _ in _hal(facts)))
    return Setting(steps=tuple(steps), around=around, unmet=tuple(unmet))


def prove(word: str, want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
    """Code ``perf-manager-on``: a switch was on, or a limit in force, before or after the run."""
    if _levels.one_of(word, want, ("off", "keep")) == "keep":
        return ()
    blocked = {switch.path for switch in _there(facts) if _limits.blocked(facts, switch.path) is not None}
    for switch in _there(facts):
        for when, texts in (("before", record.before), ("after", record.after)):
            seen = (texts.get(switch.path) or "").strip()
            if seen and seen != switch.reads_off and switch.path not in blocked:
                detail = f"{switch.what} was on {when} the run ({switch.path}: {seen[:80]})"
                return (Flag(code="perf-manager-on", detail=detail),)
    for path, free in _hal(facts):
        for when, texts in (("before", record.before), ("after", record.after)):
            seen = (texts.get(path) or "").strip()
            if _limits_of_hal(seen, free) is not None and _limits.blocked(facts, path) is None:
                detail = f"Qualcomm's performance HAL limited clocks {when} the run ({path}: {seen[:80]})"
                return (Flag(code="perf-manager-on", detail=detail),)
    return ()
