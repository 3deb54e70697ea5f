"""What a scheduler is: a way to share one GPU (or CPU) between tenants, and the proof that it was on.

A scheduler is a module in this folder with

- ``treat(variant, tenants, place) -> Treatment``: what to start, what each tenant gets; pure; raises ``ConfigError``
  for a variant that makes no sense and ``DeviceRefusedError`` where the device lacks what it needs,
- ``verify(variant, tenants, record) -> tuple[Flag, ...]``: was the treatment seen on the live pids? Pure; a leg whose
  treatment was not seen is invalid.

Both are given all tenants of the experiment, so that one that runs alone gets what it gets beside the others;
``verify`` looks at those that are in the record, every copy of each.

A level of the factor ``scheduler`` is ``NAME`` or ``NAME:VARIANT`` (``xsched:HPF``, ``mps:50``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from devicelab.model.device import Facts
from devicelab.model.plan import Step, Witness


@dataclass(frozen=True)
class Place:
    """Where tenants run: the device's facts, and what lab.toml says of installed software there.

    ``prefixes`` are folders by name (``xsched``); ``python`` is the interpreter that has torch.
    """

    facts: Facts
    prefixes: Mapping[str, str] = field(default_factory=dict)
    python: str = "python3"


@dataclass(frozen=True)
class TenantTreatment:
    """What one tenant's process gets: environment, names scrubbed from it, niceness, cgroups, workload parameters."""

    env: Mapping[str, str] = field(default_factory=dict)
    env_scrub: tuple[str, ...] = ()
    nice: int = 0
    cgroups: tuple[str, ...] = ()
    params: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Treatment:
    """A scheduler's share of a run.

    Attributes:
        steps: set-up, each with its undo (a server started, a daemon), performed before the tenants start.
        tenants: by tenant name.
        witnesses: commands run while the tenants are at work, whose output ``verify`` judges; one that names a pid
            (``{pid:NAME}``) is left out where that program does not run.
    """

    steps: tuple[Step, ...] = ()
    tenants: Mapping[str, TenantTreatment] = field(default_factory=dict)
    witnesses: tuple[Witness, ...] = ()
