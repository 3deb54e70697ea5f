"""What a knob is: facts → plan → writes → proof → undo.

A knob family is a module in this folder with

- ``WORDS``: factor words it answers to ("cpu", "gpu", ...),
- ``GLOBS``: node patterns whose texts it needs in the tree,
- ``applies(facts) -> bool``: the device has such nodes,
- ``plan(word, want, facts) -> Setting``: the steps for one wanted level; pure; raises ``ConfigError`` for a level that
  makes no sense on this device (naming those that do) and ``DeviceRefusedError`` where the device does not let us,
- ``GENERIC = True`` (optional): other families that answer to the same word come first,
- ``prove(word, want, facts, record) -> tuple[Flag, ...]``: what did not hold during the run, with its figure; pure.

The undo is the agent's: it restores what it read before each write (or ``Write.restore``).
"""

from dataclasses import dataclass

from devicelab.model.plan import Gate, Probe, Step


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
