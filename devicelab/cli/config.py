"""``devicelab config``: where everything is that devicelab reads and writes."""

import typer

from devicelab.cli._out import JsonOption, StoreOption, print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Example: devicelab config")
    def config(store: StoreOption = None, json_: JsonOption = False) -> None:
        """Show where everything is: lab.toml, own boards and plug-ins, results, pages, caches; and what says so."""
        from dataclasses import asdict

        from devicelab.jobs.whereabouts import whereabouts

        places = whereabouts(store)
        if json_:
            print_json({"places": [asdict(place) for place in places]})
            return
        rows = [
            (one.what, one.path or "nowhere", "not there" if one.there is False else "", one.set_by) for one in places
        ]
        print_table(("what", "where", "", "said by"), rows, whole=("where",))
