"""The runs of a campaign that the system's tracer records: which are missing, and where their traces are kept."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from devicelab.device import runner
from devicelab.device.facts import Device
from devicelab.experiment import plan as planning
from devicelab.experiment import tracing
from devicelab.experiment.plan import Planned
from devicelab.ground import user
from devicelab.model.experiment import Experiment
from devicelab.model.plan import Plan, Run

if TYPE_CHECKING:
    from devicelab.store import Store


def todo(
    store: "Store", campaign: str, planned: Planned, device: Device, experiment: Experiment
) -> Iterator[tuple[Run, Plan, str]]:
    """Each run that is to be traced and is not stored yet, as a plan of its own, and where its trace will lie."""
    if experiment.trace is None:
        return
    done = set(store.done_runs(campaign))
    own = {tracing.run_id(campaign, cell) for cell in planned.cells}
    stored = store.results(campaign).runs()
    for cell_id in tracing.cells(experiment.trace, stored[~stored["run_id"].isin(own)]):
        if tracing.run_id(campaign, cell_id) in done or cell_id not in planned.cells:
            continue
        after = 1 + int(stored.loc[stored["cell_id"] == cell_id, "repetition"].max())
        chosen = (planned.cells[cell_id],)
        (plain,) = planning.runs_of(chosen, range(after, after + 1), experiment, device.place, campaign)
        plan_id = f"{campaign}-{tracing.run_id(campaign, cell_id)[:8]}"
        file = f"{runner.plan_dir(device, plan_id)}/{cell_id}.trace"
        run = tracing.traced(plain, experiment.trace, device.facts, campaign=campaign, file=file)
        plan = Plan(plan_id=plan_id, campaign=campaign, device=device.facts.name, holder=user.holder(), runs=(run,))
        yield run, plan, file


def keep(store: "Store", campaign: str, run: Run, device: Device, file: str, experiment: Experiment) -> None:
    """Fetch a run's trace and store it beside the run, if both are there."""
    if experiment.trace is None or run.run_id not in store.done_runs(campaign):
        return
    if data := runner.fetch(device, file, experiment.trace.most_mb << 20):
        store.keep_output(campaign, run.run_id, tracing.OUTPUT, data)
