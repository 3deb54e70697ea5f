"""``devicelab doctor``: every precondition checked, each with what to do."""

import typer

from devicelab.cli._out import BoardOption, JsonOption, print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Example: devicelab doctor --board note10")
    def doctor(board: BoardOption = None, json_: JsonOption = False) -> None:
        """Check everything a measurement needs, on this computer and on a device; say what to do where it fails."""
        from dataclasses import asdict

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
