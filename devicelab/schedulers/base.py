"""What a scheduler is: a way to share one GPU (or CPU) between tenants, and the proof that it was on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from devicelab.model.device import Facts
from devicelab.model.experiment import Tenant
from devicelab.model.journal import Flag, RunRecord
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
    """What one tenant's process gets: environment, names scrubbed from it, niceness, cgroups, workload parameters.

    ``front`` is argv in front of the tenant's, which ends by taking its own place with it (``exec "$@"``).
    """

    env: Mapping[str, str] = field(default_factory=dict)
    env_scrub: tuple[str, ...] = ()
    nice: int = 0
    cgroups: tuple[str, ...] = ()
    params: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    front: tuple[str, ...] = ()


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


class Scheduler(Protocol):
    """A scheduler. A level of the factor ``scheduler`` is ``NAME`` or ``NAME:VARIANT`` (``xsched:HPF``, ``mps:50``).

    Its functions are given all tenants of the experiment, so that one that runs alone gets what it gets beside the
    others.
    """

    def treat(self, variant: str, tenants: Sequence[Tenant], place: Place) -> Treatment:
        """What to start, and what each tenant gets; pure.

        Raises:
            ConfigError: a variant that makes no sense.
            DeviceRefusedError: the device lacks what it needs.
        """
        ...

    def verify(self, variant: str, tenants: Sequence[Tenant], record: RunRecord) -> tuple[Flag, ...]:
        """What was not seen of the treatment on the live pids of those tenants that are in the record; pure.

        A leg whose treatment was not seen is invalid; every copy of a tenant is looked at.
        """
        ...


@runtime_checkable
class Tunable(Protocol):
    """A scheduler whose variants take settings in brackets that an experiment may vary as factors.

    ``FACTORS`` is the word of an experiment's factor → the setting's name: with ``xsched_threshold = [4, 8]`` a leg
    ``xsched:HPF`` becomes ``xsched:HPF(threshold=4)`` and ``xsched:HPF(threshold=8)``.
    """

    FACTORS: Mapping[str, str]
