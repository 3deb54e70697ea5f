"""Campaigns in rounds: a pure function of the rounds so far says which comes next, or that it has ended.

A round is the same whether devicelab runs it itself or a bundle does: bundle, import, next bundle.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from devicelab.device.lab import DeviceEntry
from devicelab.jobs.conductor import Progress, SweepResult
from devicelab.jobs.sweep import sweep
from devicelab.model.experiment import Experiment
from devicelab.model.results import Results
from devicelab.store import Store


@dataclass(frozen=True)
class Step:
    """What comes next.

    Attributes:
        experiment: the next round; nothing: it has ended.
        why: one sentence for people.
    """

    experiment: Experiment | None
    why: str


AStep = TypeVar("AStep", bound=Step)


def run_to_end(
    next_step: Callable[[Sequence[Results]], AStep],
    entry: DeviceEntry,
    store: Store,
    rounds: Sequence[Results],
    *,
    tell: Callable[[str], None] = lambda _: None,
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[AStep, SweepResult | None]:
    """Perform the rounds that are left on a device that can be reached; the last step, and the last round's result.

    Raises:
        LabError: any of ``devicelab.errors``; rounds that are done are stored, ``--after`` goes on behind them.
    """
    every, last = list(rounds), None
    while True:
        step = next_step(every)
        if step.experiment is None:
            return step, last
        tell(f"round {len(every) + 1}: {step.why}")
        last = sweep(step.experiment, entry, store, on_progress=on_progress)
        every.append(store.results(last.campaign))
        if last.interrupted:
            after = " ".join(f"--after {results.campaign}" for results in every)
            return replace(step, experiment=None, why=f"interrupted; go on with {after}"), last
