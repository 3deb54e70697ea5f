"""``devicelab press``: at which pressure the question of a scheduler can be answered at all."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devicelab.cli._out import (
    BoardOption,
    ExperimentArgument,
    JsonOption,
    SetOption,
    StoreOption,
    echo,
    print_json,
    print_table,
    say,
    sweep_progress,
)
from devicelab.cli._rounds import AfterOption, BundleOption, write_next

if TYPE_CHECKING:
    from devicelab.jobs.press import Step


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Example: devicelab press dual_model --board gpuserver --set repetitions=6")
    def press(
        experiment: ExperimentArgument,
        ladder: Annotated[
            list[str] | None,
            typer.Option("--rung", help="A pressure, the mildest first (repeatable); batch:8 to copies:8 if left out."),
        ] = None,
        board: BoardOption = None,
        set_: SetOption = None,
        bundle: BundleOption = None,
        after: AfterOption = None,
        store: StoreOption = None,
        json_: JsonOption = False,
    ) -> None:
        """Turn the least important tenant up until native sharing visibly hurts the important one."""
        from devicelab.device import choose
        from devicelab.experiment import files
        from devicelab.jobs import press as pressing
        from devicelab.jobs.rounds import run_to_end
        from devicelab.store import Store

        base = files.load(experiment, set_ or ())
        entry = choose.choose(board)
        rungs = tuple(ladder or pressing.LADDER)
        with Store.open(store) as opened:
            rounds = [opened.results(one) for one in after or ()]
            if bundle is not None:
                step = pressing.next_step(base, rungs, rounds, at_once=True)
                write_next(step, entry, bundle, lambda: _show(step, json_=json_), _data(step), json_=json_)
                return
            following = partial(pressing.next_step, base, rungs)
            with sweep_progress(quiet=json_) as on_progress:
                step, _ = run_to_end(following, entry, opened, rounds, tell=say, on_progress=on_progress)
        _show(step, json_=json_)


def _show(step: "Step", *, json_: bool) -> None:
    from devicelab.jobs import press as pressing

    if json_:
        print_json({"why": step.why, **_data(step)})
        return
    if step.rungs:
        print_table(("pressure", "P50 over standalone", "P99 over standalone", ""), pressing.rows(step))
    echo(step.why)


def _data(step: "Step") -> dict[str, Any]:
    from devicelab.jobs import press as pressing

    return {"pressure": step.found, "rungs": [list(row) for row in pressing.rows(step)]}
