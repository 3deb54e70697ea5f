"""The screen (``screen``) and the radios (``airplane``) of a phone: on or off, and back as they were.

Needs Android's own commands, not root. Whether the screen is on shows in the backlight's brightness. Settings are read
by whoever reads the facts and stand among the properties as ``settings.global.NAME``; where one is not known, what was
cannot be put back, so it is not changed.
"""

from devicelab.knobs import _levels
from devicelab.knobs.base import Phase, Setting
from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Command
from devicelab.model.tree import whole

WORDS = ("screen", "airplane")
PHASE = Phase.INTERFERENCE

_BACKLIGHTS = ("/sys/class/backlight/*/brightness", "/sys/class/leds/lcd-backlight/brightness")
GLOBS = _BACKLIGHTS

AIRPLANE_SETTING = "settings.global.airplane_mode_on"
"""The property under which facts hold the setting of that name (0 or 1)."""

# `cmd connectivity` knows airplane mode from Android 11 on; before, the setting and a broadcast only root may send.
_CMD_SDK = 30
# KEYCODE_SLEEP and KEYCODE_WAKEUP: unlike the power key, they do nothing if the screen is in that state already.
_KEYS = {"off": "223", "on": "224"}
_OTHER = {"on": "off", "off": "on"}


def applies(facts: Facts) -> bool:
    """An Android device."""
    return facts.os == "android"


def _brightness(facts: Facts) -> dict[str, int]:
    paths = (path for pattern in _BACKLIGHTS for path in facts.tree.glob(pattern))
    return {path: number for path in paths if (number := facts.tree.number(path)) is not None}


def plan(word: str, want: Level, facts: Facts) -> Setting:
    """Switch the screen or airplane mode.

    Raises:
        ConfigError: not ``on`` or ``off``.
    """
    level = _levels.one_of(word, want, ("on", "off"))
    return _screen(level, facts) if word == "screen" else _airplane(level, facts)


def _screen(level: str, facts: Facts) -> Setting:
    lit = _brightness(facts)
    if not lit:
        return Setting(unmet=("no backlight can be read, so it is not known whether the screen is on",))
    now = "on" if any(lit.values()) else "off"
    if now == level:
        return Setting(around=tuple(lit))
    step = Command(
        do=("input", "keyevent", _KEYS[level]),
        undo=("input", "keyevent", _KEYS[now]),
        why=f"screen {level} ({now} now)",
    )
    return Setting(steps=(step,), around=tuple(lit))


def _airplane(level: str, facts: Facts) -> Setting:
    state = facts.props.get(AIRPLANE_SETTING, "").strip()
    if state not in {"0", "1"}:
        return Setting(unmet=("the device does not tell whether airplane mode is on, so it is left as it is",))
    now = "on" if state == "1" else "off"
    if now == level:
        return Setting()
    if (whole(facts.props.get("ro.build.version.sdk")) or 0) >= _CMD_SDK:
        step = Command(
            do=_connectivity(level), undo=_connectivity(now), why=f"airplane mode {level}", survives_reboot=True
        )
        return Setting(steps=(step,))
    if facts.root == "none":
        return Setting(unmet=(f"no root: before Android 11 (SDK {_CMD_SDK}) only root may switch airplane mode",))
    return Setting(steps=tuple(_setting_and_broadcast(level)))


def _connectivity(level: str) -> tuple[str, ...]:
    return ("cmd", "connectivity", "airplane-mode", "enable" if level == "on" else "disable")


def _setting_and_broadcast(level: str) -> list[Command]:
    """The setting, then the broadcast that makes the radios look at it, and the same at the undo.

    Undone in reverse, the broadcast has to belong to the first step, which therefore only reads.
    """

    def put(state: str) -> tuple[str, ...]:
        return ("settings", "put", "global", "airplane_mode_on", "1" if state == "on" else "0")

    def tell(state: str) -> tuple[str, ...]:
        on = "true" if state == "on" else "false"
        return ("am", "broadcast", "-a", "android.intent.action.AIRPLANE_MODE", "--ez", "state", on)

    read = ("settings", "get", "global", "airplane_mode_on")
    why, was = f"airplane mode {level}", _OTHER[level]
    return [
        Command(do=read, undo=tell(was), why=f"{why}: at the end, tell the radios", survives_reboot=True),
        Command(do=put(level), undo=put(was), why=why, survives_reboot=True),
        Command(do=tell(level), why=f"{why}: tell the radios"),
    ]


def prove(word: str, want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
    """Code ``screen-changed``: the backlight was otherwise before or after the run. Airplane mode shows nowhere."""
    level = _levels.one_of(word, want, ("on", "off"))
    if word != "screen":
        return ()
    for when, texts in (("before", record.before), ("after", record.after)):
        seen = [text.strip() for path in _brightness(facts) if (text := texts.get(path)) is not None]
        if seen and ("off" if all(text == "0" for text in seen) else "on") != level:
            return (Flag(code="screen-changed", detail=f"the screen was {_OTHER[level]} {when} the run"),)
    return ()
