"""``devicelab site``: the pages of a farm."""

from pathlib import Path
from typing import Annotated

import typer

from devicelab.cli._out import JsonOption, PortOption, ServeOption, StoreOption, echo, print_json, say, serve_pages


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Example: devicelab site /srv/farm --store postgresql://lab@db/devicelab")
    def site(
        directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the pages go: empty, or a site.")],
        farm: Annotated[str | None, typer.Option("--farm", help="Only the nights of this farm.")] = None,
        reports: Annotated[
            int, typer.Option(min=0, help="Newest nights whose campaigns get a report page, if they have none yet.")
        ] = 1,
        open_: Annotated[bool, typer.Option("--open", help="Show the list of nights in the browser.")] = False,
        serve: ServeOption = False,
        port: PortOption = 0,
        store: StoreOption = None,
        json_: JsonOption = False,
    ) -> None:
        """Make the site of the nights, or bring it up to date: pages to be read in the morning.

        A page a night, a device and an experiment, plain HTML that works from a file share. Only pages whose data
        changed are made anew.
        """
        from devicelab.report.site import update_site
        from devicelab.store import Store

        with Store.open(store, create=False) as opened:
            done = update_site(opened, directory, farm=farm, reports=reports)
        for problem in done.problems:
            say(problem)
        index = done.index.absolute()
        if json_:
            counts = {name: len(getattr(done, name)) for name in ("written", "kept", "removed")}
            print_json({"index": str(index), **counts, "problems": done.problems})
        else:
            echo(f"site: {index} ({len(done.written)} pages written, {len(done.kept)} unchanged)")
        if serve:
            from devicelab.report.serve import files_of

            serve_pages(files_of(directory), port, launch=open_)
        elif open_:
            typer.launch(index.as_uri())
