"""``devicelab press``: at which pressure the question of a scheduler can be answered at all."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devicelab.cli._out import (
    BoardOption,
    ExperimentArgument,
    JsonOption,
    SetOption,
    StoreOption,
    complete_campaign,
    echo,
    print_json,
    print_table,
    say,
    sweep_progress,
)

if TYPE_CHECKING:
    from devicelab.device.lab import DeviceEntry
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
        bundle: Annotated[
            Path | None,
            typer.Option("--bundle", help="Write the next round as an archive for a machine that cannot be reached."),
        ] = None,
        after: Annotated[
            list[str] | None,
            typer.Option(
                "--after", help="Campaign of an earlier round (repeatable).", autocompletion=complete_campaign
            ),
        ] = None,
        store: StoreOption = None,
        json_: JsonOption = False,
    ) -> None:
        """Turn the least important tenant up until native sharing visibly hurts the important one."""
        from devicelab.device import choose
        from devicelab.experiment import files
        from devicelab.jobs import press as pressing
        from devicelab.store import Store

        base = files.load(experiment, set_ or ())
        entry = choose.choose(board)
        rungs = tuple(ladder or pressing.LADDER)
        with Store.open(store) as opened:
            rounds = [opened.results(one) for one in after or ()]
            if bundle is not None:
                _write(pressing.next_step(base, rungs, rounds, at_once=True), entry, bundle, json_=json_)
                return
            with sweep_progress(quiet=json_) as on_progress:
                step, _ = pressing.run_to_end(base, rungs, entry, opened, rounds, tell=say, on_progress=on_progress)
        _show(step, json_=json_)


def _write(step: "Step", entry: "DeviceEntry", to: Path, *, json_: bool) -> None:
    from devicelab.jobs.bundle import write_bundle

    if step.experiment is None:
        _show(step, json_=json_)
        return
    manifest = write_bundle(step.experiment, entry, to)
    if json_:
        print_json({"bundle": str(to), "campaign": manifest.campaign, "why": step.why})
        return
    _show(step, json_=False)
    say(f"campaign {manifest.campaign}; there: tar -xf {to.name} && sh run.sh")
    say(f"here: devicelab import result.tar, then this command again with --after {manifest.campaign}")
    echo(str(to))


def _show(step: "Step", *, json_: bool) -> None:
    from devicelab.jobs import press as pressing

    if json_:
        print_json({"why": step.why, "pressure": step.found, "rungs": [list(row) for row in pressing.rows(step)]})
        return
    if step.rungs:
        print_table(("pressure", "P50 over standalone", "P99 over standalone", ""), pressing.rows(step))
    echo(step.why)
