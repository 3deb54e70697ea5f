"""``devicelab doctor``: every precondition checked, each with what to do."""

from typing import Annotated

import typer

from devicelab.cli._out import BoardOption, JsonOption, print_json, print_table, say


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Example: devicelab doctor --board note10")
    def doctor(
        board: BoardOption = None,
        plugins: Annotated[
            bool,
            typer.Option("--plugins", help="Check what comes from outside the package instead: plug-ins, TOML files."),
        ] = False,
        json_: JsonOption = False,
    ) -> None:
        """Check everything a measurement needs, on this computer and on a device; say what to do where it fails."""
        from dataclasses import asdict

        if plugins:
            _plugins(board, json_=json_)
            return
        from devicelab.jobs.doctor import examine

        checks = examine(board)
        if json_:
            print_json({"ok": all(c.ok is not False for c in checks), "checks": [asdict(check) for check in checks]})
        else:
            marks = {True: "ok", False: "FAILED", None: "note"}
            print_table(("", "what", "found", "what to do"), [(marks[c.ok], c.what, c.found, c.todo) for c in checks])
        failed = [check for check in checks if check.ok is False]
        if failed:
            raise typer.Exit(failed[0].exit_code)


def _plugins(board: str | None, *, json_: bool) -> None:
    from dataclasses import asdict

    from devicelab.errors import ConfigError
    from devicelab.jobs import plugins

    found = plugins.examine(plugins.facts_of(board))
    wrong = [one for one in found if one.problems]
    if json_:
        print_json({"ok": not wrong, "plugins": [asdict(one) for one in found]})
    elif not found:
        say("nothing comes from outside the package")
    else:
        rows = [
            ("FAILED" if one.problems else "ok", one.kind, one.name, one.where, "; ".join(one.problems) or one.note)
            for one in found
        ]
        print_table(("", "kind", "name", "where", "what to change"), rows)
    if wrong:
        raise typer.Exit(ConfigError.exit_code)
