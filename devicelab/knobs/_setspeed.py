"""A CPU clock through the governor ``userspace`` and ``scaling_setspeed``: for policies whose limits do not hold.

Some vendors take the right to write ``scaling_min_freq`` and ``scaling_max_freq`` away even from root, and some drivers
pay no attention to them. Where the kernel has ``userspace``, that governor asks for one entry of the table and stays
there; the limits, whatever they are, still cut it off (drivers/cpufreq/cpufreq_userspace.c). AndroidX's
``lockClocks.sh`` does both.
"""

from devicelab.knobs import _limits
from devicelab.model.device import Facts
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Write
from devicelab.model.tree import whole

PREFIX = "setspeed:"
GOVERNOR = "userspace"
NODES = ("scaling_governor", "scaling_setspeed")


def wanted(level: str, folder: str, facts: Facts) -> bool:
    """The clock is to be set this way: it is said so, or the limits cannot be written and this can."""
    if level.startswith(PREFIX):
        return True
    limits = (f"{folder}/scaling_max_freq", f"{folder}/scaling_min_freq")
    return _limits.blocked(facts, *limits) is not None and refused(folder, facts) is None


def refused(folder: str, facts: Facts) -> str | None:
    """Why this way is not open, as a sentence; ``None`` if it is."""
    if GOVERNOR not in facts.tree.words(f"{folder}/scaling_available_governors"):
        return f"it has no governor {GOVERNOR}"
    return _limits.blocked(facts, *(f"{folder}/{node}" for node in NODES))


def out_of_reach(folder: str, khz: int, facts: Facts) -> str | None:
    """Why the limits in force cut this clock (kHz) off, as a sentence; ``None`` if they do not."""
    low, high = (facts.tree.number(f"{folder}/scaling_{end}_freq") for end in ("min", "max"))
    if (low is None or low <= khz) and (high is None or khz <= high):
        return None
    return f"limits that cannot be written leave {low} to {high} kHz, and not {khz}"


def steps(where: str, folder: str, khz: int, facts: Facts) -> tuple[Write, ...]:
    """The governor, then the clock; undone, the old governor comes back and forgets the clock."""
    governor, clock = (f"{folder}/{node}" for node in NODES)
    now = facts.tree.text(governor) or "not readable"
    # What is shown under another governor ("<unsupported>") is no value that could be written back.
    before = facts.tree.number(clock) if now == GOVERNOR else None
    chosen = () if now == GOVERNOR else (Write(path=governor, value=GOVERNOR, why=f"{where}: governor {GOVERNOR}"),)
    why = f"{where}: clock to {khz} kHz by the governor {GOVERNOR} ({now} now)"
    restore = str(khz if before is None else before)
    return (*chosen, Write(path=clock, value=str(khz), why=why, verify="first-int", restore=restore))


def moved(where: str, folder: str, khz: int, record: RunRecord) -> Flag | None:
    """A flag if governor or clock were not as set around the run. Code: ``limits-changed``."""
    for when, texts in (("before", record.before), ("after", record.after)):
        governor, clock = ((texts.get(f"{folder}/{node}") or "").strip() for node in NODES)
        if governor and governor != GOVERNOR:
            detail = f"{where}: governor {governor} {when} the run instead of {GOVERNOR}"
            return Flag(code="limits-changed", detail=detail)
        asked = whole(clock)
        if asked is not None and asked != khz:
            detail = f"{where}: scaling_setspeed was {asked} kHz {when} the run instead of {khz}"
            return Flag(code="limits-changed", detail=detail)
    return None
