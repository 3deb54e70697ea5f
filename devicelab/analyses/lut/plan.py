"""From a measured campaign to what the next one runs: constant K, static schedule and costs for the dynamic policy."""

from dataclasses import dataclass, replace

from devicelab.analyses.klo.common import unfit
from devicelab.analyses.klo.data import load
from devicelab.analyses.klo.model import LaunchCosts, best_constant, best_schedule
from devicelab.analyses.lut.table import LaunchTable, require_fits
from devicelab.errors import ConfigError
from devicelab.model.results import Results

_UNFOLLOWED = "the driver submits kernels by itself: what the model says of K does not hold there"


@dataclass(frozen=True)
class PlannedK:
    """What the model recommends under one condition.

    Attributes:
        label: the condition.
        k, makespan_ns: constant K and its modelled time.
        batches, schedule_ns: static schedule and its modelled time.
        costs: the launch costs it rests on.
        costs_from: ``fit`` (this campaign) or the campaign of the table.
        remarks: in what the table does not fit, whether the driver follows K at all, and the conditions left out.
    """

    label: str
    k: int
    makespan_ns: float
    batches: tuple[int, ...]
    schedule_ns: float
    costs: LaunchCosts
    costs_from: str
    remarks: tuple[str, ...] = ()

    def settings(self) -> tuple[str, ...]:
        """``--set`` values for the klo workload."""
        costs = (self.costs.flush_ns, self.costs.start_idle_ns, self.costs.gap_ns)
        return (
            f"measure.params.schedule={','.join(map(str, self.batches))}",
            f"measure.params.costs_ns={','.join(str(round(cost)) for cost in costs)}",
        )


def plan(results: Results, table: LaunchTable | None = None, *, foreign: bool = False) -> tuple[PlannedK, ...]:
    """The recommendation for every condition of a campaign; one whose own fit does not describe it is left out.

    Args:
        results: production and kernel times come from its kernel timestamps.
        table: launch costs to use instead of the campaign's own fit.
        foreign: use the table though it was measured elsewhere.

    Raises:
        ConfigError: no kernel timestamps; no fit that describes what was measured; the table does not fit, or has no
            entry for a condition.
    """
    data = load(results)
    remarks = require_fits(table, results.info, foreign=foreign) if table is not None else ()
    found: list[PlannedK] = []
    worthless: list[str] = []
    for condition in data.conditions:
        profile = condition.profile
        if profile is None:
            continue
        if table is None and condition.unfit:
            worthless.append(f"{condition.label}: {unfit(condition)}")
            continue
        costs = profile.fit.costs if table is None else table.entry(condition.levels).costs
        k, makespan_ns = best_constant(profile.t_prod_ns, profile.t_ker_ns, costs)
        batches, schedule_ns = best_schedule(profile.t_prod_ns, profile.t_ker_ns, costs)
        of_driver = () if condition.follows_k else (_UNFOLLOWED,)
        source = "fit" if table is None else table.campaign
        found.append(
            PlannedK(condition.label, k, makespan_ns, batches, schedule_ns, costs, source, (*remarks, *of_driver))
        )
    if not found and worthless:
        raise ConfigError(
            f"campaign {results.campaign} has no fit to plan from: {'; '.join(worthless)}",
            hint="give launch costs with --lut, or measure again with the clocks pinned and nothing else running",
        )
    if not found:
        raise ConfigError(
            f"campaign {results.campaign} has no kernel timestamps to plan from",
            hint="run an experiment with the klo workload, such as k_constant",
        )
    return tuple(replace(one, remarks=(*one.remarks, *worthless)) for one in found)
