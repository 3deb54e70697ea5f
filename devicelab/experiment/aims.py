"""What a tuning is asked for, as text: an aim ``low.throughput``, and bounds to keep ``high.p99_ratio < 1.2``."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from devicelab.errors import ConfigError
from devicelab.experiment.bounds import parse_bound
from devicelab.experiment.targets import FIGURES, Target
from devicelab.ground import registry
from devicelab.model.experiment import Tenant

_SHORT = {"throughput": "throughput_per_s", "share": "share_pct"}
BIGGER_IS_BETTER = frozenset(("share_pct", "throughput_per_s", "gpu_use_pct"))
"""Figures that an aim brings up; all others it brings down."""

_KEEP = re.compile(r"\s*([^\s<>=]+)\s*([<>]=?.*)")


@dataclass(frozen=True)
class Aim:
    """A tenant's figure, and which way is better."""

    tenant: str
    figure: str

    @property
    def up(self) -> bool:
        """Bigger is better."""
        return self.figure in BIGGER_IS_BETTER

    def __str__(self) -> str:
        return f"{self.tenant}.{self.figure}"


@dataclass(frozen=True)
class Keep:
    """A tenant's figure with a bound that is to be kept."""

    tenant: str
    target: Target

    def __str__(self) -> str:
        return f"{self.tenant}.{self.target}"


def parse_aim(text: str, tenants: Sequence[Tenant]) -> Aim:
    """``low.throughput`` and the like; ``throughput`` and ``share`` are short for the figures' names.

    Raises:
        ConfigError: no such tenant or figure.
    """
    name, dot, figure = text.strip().rpartition(".")
    # p99.9_ms has a dot of its own.
    if name.endswith(".p99"):
        name, figure = name.removesuffix(".p99"), f"p99.{figure}"
    if not dot:
        raise ConfigError(f"no aim: {text!r}", hint="TENANT.FIGURE, such as low.throughput")
    names = tuple(tenant.name for tenant in tenants)
    if name not in names:
        raise registry.unknown("tenant", name, names)
    figure = _SHORT.get(figure, figure)
    if figure not in FIGURES:
        raise registry.unknown("figure of a tenant", figure, FIGURES)
    return Aim(name, figure)


def parse_keep(text: str, tenants: Sequence[Tenant]) -> Keep:
    """``high.p99_ratio < 1.2`` and the like.

    Raises:
        ConfigError: no such tenant or figure, or no bound.
    """
    match = _KEEP.fullmatch(text)
    if match is None:
        raise ConfigError(f"nothing to keep: {text!r}", hint="TENANT.FIGURE < NUMBER, such as 'high.p99_ratio < 1.2'")
    of = parse_aim(match[1], tenants)
    sign, bound, unit = parse_bound(match[2])
    if unit or bound < 0:
        raise ConfigError(f"no bound: {text!r}", hint="a comparison and a number from 0 on, without a unit")
    return Keep(of.tenant, Target(of.figure, sign, bound))
