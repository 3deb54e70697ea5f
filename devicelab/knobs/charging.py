"""Charging (``charging``): ``off`` keeps the charger from a phone, so that its battery feeds it alone and can be read.

A node that suspends the charger's input is used first (Qualcomm, Pixel: ``input_suspend``; Samsung:
``batt_slate_mode``). Where there is only one that spares the battery while the charger feeds the board
(``charging_enabled``), ``off`` keeps the battery from warming up, and energy is not told by it.

A battery that runs empty is a lost night: below a floor of charge (``off:40`` sets another) the plan does not suspend
it, neither does the agent at any run, and a run during which it is reached ends and gives the charger back.
"""

import re

from devicelab.errors import ConfigError
from devicelab.knobs import _levels
from devicelab.knobs.base import Phase, Setting
from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Floor, Write

WORDS = ("charging",)
PHASE = Phase.INTERFERENCE
LEVEL_FIRST = True

_SUPPLY = "/sys/class/power_supply/*"
SUSPENDERS = (
    f"{_SUPPLY}/input_suspend",
    f"{_SUPPLY}/batt_slate_mode",
    "/sys/kernel/debug/google_charger/input_suspend",
)
"""Nodes that keep a charger's input from the whole board while they read 1."""

_SPARERS = (f"{_SUPPLY}/charging_enabled", f"{_SUPPLY}/battery_charging_enabled")
_CAPACITY = f"{_SUPPLY}/capacity"
GLOBS = (*SUSPENDERS, *_SPARERS, _CAPACITY)

_FLOOR_PCT = 30
_LEAST_PCT = 10
_LEVEL = re.compile(r"off(?::([0-9]{1,2}))?")


def applies(facts: Facts) -> bool:
    """The device has a battery whose charger can be kept from it."""
    return _node(facts) is not None


def _node(facts: Facts) -> str | None:
    found = (path for pattern in (*SUSPENDERS, *_SPARERS) for path in facts.tree.glob(pattern))
    return next((path for path in found if facts.tree.number(path) in {0, 1}), None)


def _capacity(facts: Facts) -> tuple[str, int] | None:
    paths = sorted(facts.tree.glob(_CAPACITY), key=lambda path: (not path.endswith("/battery/capacity"), path))
    readable = ((path, number) for path in paths if (number := facts.tree.number(path)) is not None)
    return next(readable, None)


def plan(word: str, want: Level, facts: Facts) -> Setting:
    """Keep the charger away, or leave it.

    Raises:
        ConfigError: neither ``on`` nor ``off`` nor ``off:PCT``.
    """
    floor = _floor(word, want)
    node, charge = _node(facts), _capacity(facts)
    if node is None or floor is None:
        return Setting(around=(node,) if node is not None else ())
    if charge is None:
        return Setting(unmet=("the battery does not tell its charge, so the charger is left to it",))
    path, level = charge
    if level < floor:
        return Setting(unmet=(f"the battery is at {level}%, below the floor of {floor}%: it is left to charge",))
    value = _value(node)
    if not facts.tree[node].writable:
        return Setting(unmet=(f"no root: {node} cannot be written",))
    step = Write(
        path=node,
        value=value,
        why=f"keep the charger away while the battery has at least {floor}% ({level}% now)",
        verify="first-int",
        floor=Floor(path=path, min_value=floor),
    )
    return Setting(steps=(step,), around=(node, path))


def _value(node: str) -> str:
    return "0" if node.endswith("charging_enabled") else "1"


def _floor(word: str, want: Level) -> int | None:
    """The floor of ``off`` in percent, ``None`` for ``on``."""
    chosen = _levels.text(want)
    if chosen == "on":
        return None
    match = _LEVEL.fullmatch(chosen)
    floor = int(match[1]) if match is not None and match[1] else _FLOOR_PCT
    if match is None or floor < _LEAST_PCT:
        hint = f"on, off (down to {_FLOOR_PCT}% of charge) or off:PCT with at least {_LEAST_PCT}"
        raise ConfigError(f"{word} = {want!r} makes no sense", hint=hint)
    return floor


def prove(word: str, want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
    """Code ``charger-returned``: what keeps the charger away read otherwise before or after the run."""
    node = _node(facts)
    if node is None or _floor(word, want) is None or record.status == "failed":
        return ()
    for when, texts in (("before", record.before), ("after", record.after)):
        text = (texts.get(node) or "").strip()
        if text and text != _value(node):
            return (Flag(code="charger-returned", detail=f"{node} reads {text[:20]!r} {when} the run"),)
    return ()
