"""``devicelab trace``: runs of a campaign as a Perfetto trace."""

from pathlib import Path
from typing import Annotated

import typer

from devicelab.cli._out import CampaignArgument, JsonOption, StoreOption, echo, print_json


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Example: devicelab trace 20261122-1015 7 --to run.pftrace")
    def trace(
        campaign: CampaignArgument = None,
        run: Annotated[
            str | None,
            typer.Argument(
                metavar="[RUN]",
                help="The run's id, the beginning of it, or its place in the campaign (from 1); all if left out.",
            ),
        ] = None,
        to: Annotated[
            Path | None,
            typer.Option(help="Where the trace goes; devicelab-report/CAMPAIGN.pftrace if left out.", dir_okay=False),
        ] = None,
        system: Annotated[
            bool, typer.Option("--system", help="What the system's tracer recorded of the run, as it came ([trace]).")
        ] = False,
        store: StoreOption = None,
        json_: JsonOption = False,
    ) -> None:
        """Write what happened in the runs as a trace for ui.perfetto.dev: phases, programs, kernels, clocks, heat."""
        from devicelab.report.system_trace import write_system_trace
        from devicelab.report.trace import choose_runs, write_trace
        from devicelab.store import Store
        from devicelab.store.export import file_stem

        with Store.open(store, create=False) as opened:
            results = opened.results(opened.campaign(campaign).campaign)
            chosen = choose_runs(results, run)
            if system:
                chosen, path = write_system_trace(results, chosen, to)
                if json_:
                    print_json({"campaign": results.campaign, "runs": list(chosen), "trace": str(path)})
                else:
                    echo(f"system trace of run {chosen[0]}: {path}")
                return
            stem = file_stem(results.campaign if run is None else f"{results.campaign}-{chosen[0]}")
            path = write_trace(results, chosen, to or Path("devicelab-report") / f"{stem}.pftrace").absolute()
        if json_:
            print_json({"campaign": results.campaign, "runs": list(chosen), "trace": str(path)})
        else:
            echo(f"trace of {len(chosen)} run{'' if len(chosen) == 1 else 's'}: {path}")
            echo("open it in ui.perfetto.dev: the file stays on this computer")
