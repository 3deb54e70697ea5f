"""From a measured campaign to what the next one runs: constant K, static schedule and costs for the dynamic policy."""

from dataclasses import dataclass, replace

from devicelab.analyses import _frames
from devicelab.analyses.klo.common import unfit
from devicelab.analyses.klo.condition import Condition
from devicelab.analyses.klo.data import load
from devicelab.analyses.klo.model import LaunchCosts, best_constant, best_schedule
from devicelab.analyses.lut.table import LaunchTable, require_fits
from devicelab.errors import ConfigError
from devicelab.model.results import Results
from devicelab.model.schedule import MadeFor

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
        made_for: the condition that the schedule holds for.
        remarks: in what the table does not fit, whether the driver follows K at all, and the conditions left out.
    """

    label: str
    k: int
    makespan_ns: float
    batches: tuple[int, ...]
    schedule_ns: float
    costs: LaunchCosts
    costs_from: str
    made_for: MadeFor
    remarks: tuple[str, ...] = ()

    def settings(self) -> tuple[str, ...]:
        """``--set`` values for the klo workload."""
        costs = [self.costs.flush_ns, self.costs.start_idle_ns, self.costs.gap_ns, self.costs.flush_per_kernel_ns]
        if not costs[-1]:
            del costs[-1]
        return (
            f"measure.params.schedule={','.join(map(str, self.batches))}",
            f"measure.params.costs_ns={','.join(str(round(cost)) for cost in costs)}",
            f"measure.params.made_for={self.made_for.as_text()}",
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
            PlannedK(
                condition.label,
                k,
                makespan_ns,
                batches,
                schedule_ns,
                costs,
                source,
                _made_for(results, condition),
                (*remarks, *of_driver),
            )
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


def _made_for(results: Results, condition: Condition) -> MadeFor:
    info = results.info
    said: dict[str, object] = next((one for one in info.get("programs", {}).values() if "backend" in one), {})
    record = results.evidence(str(condition.runs["run_id"].iloc[0]))
    return MadeFor(
        unit=str(info.get("device", "")),
        board=str(info.get("board", "")),
        device=str(said.get("device", "")),
        driver=str(said.get("driver", "")),
        network=str(said.get("network", "")),
        levels={name: text for name, text in condition.levels.items() if text != "-"},
        clocks={**_frames.clocks(record, "cpu"), **_frames.clocks(record, "gpu")},
        campaign=results.campaign,
    )
