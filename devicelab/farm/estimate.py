"""How long a task takes: from what the same experiment took on the same kind of board before, else from its plan."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from devicelab.experiment import plan as planning
from devicelab.model.campaign import ENDED, CampaignInfo
from devicelab.model.experiment import Experiment
from devicelab.store import Store

# What a run costs beyond its programmed time, and a task beyond its runs: connecting, probing, pushing, restoring.
_RUN_OVERHEAD_S = 0.5
_TASK_OVERHEAD_S = 5.0
# A measurement's own length is not known from its plan.
_MEASUREMENT_S = 5.0
# Campaigns of the past that count.
_RECENT = 10


@dataclass(frozen=True)
class Estimate:
    """Seconds, and what they rest on: finished campaigns, the plan, or the plan with a guess for the measurement."""

    seconds: float
    basis: Literal["history", "plan", "guess"]


def count_runs(experiment: Experiment, cells: int = 0) -> int:
    """Runs of a task; ``cells`` are those that are wanted, 0: all."""
    return (cells or len(planning.cells(experiment))) * experiment.first_repetitions


def from_plan(experiment: Experiment, runs: int) -> Estimate:
    """What hold, settle, gate and cool-down times add up to."""
    measured = experiment.measure is not None
    length_s = _MEASUREMENT_S if measured else experiment.span_s if experiment.tenants else experiment.hold_s
    gate_s = experiment.thermal.window_s if experiment.thermal is not None else 0.0
    run_s = experiment.settle_s + length_s + experiment.cooldown_s + gate_s + _RUN_OVERHEAD_S
    return Estimate(_TASK_OVERHEAD_S + runs * run_s, "guess" if measured else "plan")


def from_history(campaigns: Iterable[CampaignInfo], runs: int) -> Estimate | None:
    """The median time per run of complete campaigns, times the runs; ``None`` without any."""
    lasted = (
        (info.ended_unix_ns - info.started_unix_ns, info.runs_done)
        for info in campaigns
        if info.status in ENDED and info.ended_unix_ns is not None and info.runs_done
    )
    # A clock that was set back in between says nothing.
    spans = [span_ns / 1e9 / runs_done for span_ns, runs_done in lasted if span_ns > 0]
    return Estimate(_TASK_OVERHEAD_S + runs * statistics.median(spans), "history") if spans else None


def within_budget(found: Estimate, experiment: Experiment) -> Estimate:
    """An estimate that is no longer than the experiment's own budget lets its runs be."""
    budget_s = experiment.rule.budget_s if experiment.rule is not None else None
    most_s = found.seconds if budget_s is None else _TASK_OVERHEAD_S + budget_s
    return replace(found, seconds=min(found.seconds, most_s))


class Estimator:
    """Estimates of experiments on kinds of boards, each looked up once.

    Args:
        store: where the past is; ``None``: there is none.
    """

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._past: dict[tuple[str, str | None], tuple[CampaignInfo, ...]] = {}
        # By identity: asked again and again for the same few experiments, and comparing them takes as long as counting.
        self._known: dict[tuple[int, str | None, int], tuple[Experiment, Estimate]] = {}

    def of(self, experiment: Experiment, kind: str | None, cells: int = 0) -> Estimate:
        """How long the experiment takes on a board of the kind (``None``: nobody knows which)."""
        key = (id(experiment), kind, cells)
        if key not in self._known:
            runs = count_runs(experiment, cells)
            found = from_history(self._history(experiment.name, kind), runs) or from_plan(experiment, runs)
            self._known[key] = experiment, within_budget(found, experiment)
        return self._known[key][1]

    def _history(self, experiment: str, kind: str | None) -> tuple[CampaignInfo, ...]:
        key = (experiment, kind)
        if key not in self._past and self._store is not None and kind is not None:
            found = self._store.campaigns(experiment=experiment, limit=200)
            same = (info for info in found if info.board == kind and info.status in ENDED and info.runs_done)
            self._past[key] = tuple(same)[:_RECENT]
        return self._past.get(key, ())
