"""What a knob is: facts → plan → writes → proof → undo. A knob family is a module that keeps the Protocol ``Knob``.

The undo is the agent's: it restores what it read before each write (or ``Write.restore``).
"""

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, runtime_checkable

from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import Flag, RunRecord
from devicelab.model.plan import Gate, Probe, Step

_WORD = re.compile(r"[a-z][a-z0-9_]{0,30}")


class Phase(IntEnum):
    """When a family's steps are performed: by phase, within one by the family's name. They are undone in reverse."""

    INTERFERENCE = 1
    """What would change things behind our back: vendor daemons, the screen."""
    CPUS = 2
    """Which CPUs there are."""
    SLEEP = 3
    """How deep they sleep."""
    CLOCKS = 4
    """What CPUs, buses and the GPU run at."""
    REST = 5
    """Groups, boosts, temperatures."""


@dataclass(frozen=True)
class Setting:
    """A knob's share of a run.

    Attributes:
        steps: in the order to be performed.
        probes, gates: see the plan.
        sample: nodes to sample during the run as proof.
        around: nodes to read before and after as proof.
        cgroups: ``cgroup.procs`` files the measured programs join.
        unmet: what could not be done and why, one sentence each ("no root: ...").
    """

    steps: tuple[Step, ...] = ()
    probes: tuple[Probe, ...] = ()
    gates: tuple[Gate, ...] = ()
    sample: tuple[str, ...] = ()
    around: tuple[str, ...] = ()
    cgroups: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()


class Knob(Protocol):
    """A knob family.

    Attributes:
        WORDS: factor words it answers to ("cpu", "gpu", ...), in the order in which their steps are performed.
        GLOBS: absolute patterns of nodes whose texts it needs in the tree; ``*`` does not cross a slash.
        PHASE: when its steps are performed.
    """

    WORDS: tuple[str, ...]
    GLOBS: tuple[str, ...]
    PHASE: Phase

    def applies(self, facts: Facts) -> bool:
        """The device has such nodes."""
        ...

    def plan(self, word: str, want: Level, facts: Facts) -> Setting:
        """The steps for one wanted level; pure.

        Raises:
            ConfigError: the level makes no sense on this device (the message names those that do).
            DeviceRefusedError: the device does not let us.
        """
        ...

    def prove(self, word: str, want: Level, facts: Facts, record: RunRecord) -> tuple[Flag, ...]:
        """What did not hold during the run, with its figure; pure."""
        ...


@runtime_checkable
class GivesWay(Protocol):
    """A family that gives way: where ``GENERIC`` is true, others that answer to the same word come first."""

    GENERIC: bool


@runtime_checkable
class LevelFirst(Protocol):
    """A family whose ``plan`` judges the level first: it is asked for that where it does not apply, too."""

    LEVEL_FIRST: bool


def oddities(knob: Knob) -> tuple[str, ...]:
    """What of a family's constants the types do not tell, a sentence each that says what to change."""
    words = [f"the word {word!r} is none: letters, digits and _" for word in knob.WORDS if not _WORD.fullmatch(word)]
    nodes = [
        f"GLOBS has {glob!r}: an absolute path with * for what differs, and no ** or .."
        for glob in knob.GLOBS
        if not glob.startswith("/") or "**" in glob or ".." in glob.split("/") or "\n" in glob
    ]
    return (*(() if knob.WORDS else ("WORDS is empty: name the factor words it answers to",)), *words, *nodes)
