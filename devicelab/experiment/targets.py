"""What a tenant may be promised: figures and bounds, such as ``p99_ms = "< 50"``."""

from dataclasses import dataclass

from devicelab.errors import ConfigError
from devicelab.experiment.bounds import COMPARE, parse_bound
from devicelab.ground import registry
from devicelab.model.experiment import Tenant

FIGURES = (
    "p50_ms",
    "p99_ms",
    "p99.9_ms",
    "p50_ratio",
    "p99_ratio",
    "p99.9_ratio",
    "share_pct",
    "throughput_per_s",
    "dropped",
    "missed",
    "longest_gap_ms",
    "empty_seconds",
    "preemption_p50_ms",
    "preemption_p99_ms",
    "gpu_use_pct",
    "joules_per_request",
    "net_joules_per_request",
)
"""Figures of a tenant in a leg.

``p50 p99 p99.9``: response from the scheduled time; ``_ratio`` over standalone. ``share_pct``: throughput in percent of
standalone. ``dropped``: requests never begun; ``missed``: those and the ones beyond the deadline. ``longest_gap_ms``
between completions and ``empty_seconds`` (whole seconds without one): starvation. ``preemption_*``: service time less
its standalone median, a proxy for the time until the neighbour's work makes room. ``gpu_use_pct``: the driver's gauge
("some kernel was running") over the leg. ``joules_per_request``: energy of the whole card, by the driver's
counter, over this tenant's completions alone, whoever else worked; ``net_`` less what the card takes while nobody works
(read in the pauses between windows).
"""


@dataclass(frozen=True)
class Target:
    """One promise: ``figure`` compared with ``bound``."""

    figure: str
    sign: str
    bound: float

    def keeps(self, value: float) -> bool:
        """Whether a value keeps the promise."""
        return COMPARE[self.sign](value, self.bound)

    def __str__(self) -> str:
        return f"{self.figure} {self.sign} {self.bound:g}"


def of(tenant: Tenant) -> tuple[Target, ...]:
    """A tenant's targets.

    Raises:
        ConfigError: a figure nobody knows, or a text that is no bound.
    """
    targets = []
    for figure, text in tenant.targets.items():
        if figure not in FIGURES:
            raise registry.unknown(f"figure of tenant {tenant.name}", figure, FIGURES)
        try:
            sign, bound, unit = parse_bound(text)
        except ConfigError as error:
            raise ConfigError(f"target {figure} of {tenant.name}: {error.message}", hint=error.hint) from error
        if unit or bound < 0:
            hint = "the figure's name has its unit; write a comparison and a number from 0 on, such as '< 50'"
            raise ConfigError(f"target {figure} of {tenant.name}: no bound: {text!r}", hint=hint)
        targets.append(Target(figure, sign, bound))
    return tuple(targets)
