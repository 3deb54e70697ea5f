"""``devicelab farm``: a farm that runs by itself."""

from pathlib import Path
from typing import Annotated

import typer

from devicelab.cli._out import JsonOption, StoreOption, echo, print_json, say

_FARM = Annotated[Path, typer.Argument(help="The farm file.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(name="farm", help="A farm that runs by itself: how it is, and its units.", no_args_is_help=True)
    app.add_typer(group)

    @group.command(epilog="Example: devicelab farm status farm.toml")
    def status(farm: _FARM, store: StoreOption = None, json_: JsonOption = False) -> None:
        """Say in five lines how the farm is: last night, tasks, verdicts, devices that are out, database."""
        import time
        from dataclasses import asdict

        from devicelab.farm.job import load
        from devicelab.farm.standing import standing
        from devicelab.store import Store

        with Store.open(store, create=False) as opened:
            lines = standing(opened, load(farm).farm.name, store, time.time())
        if json_:
            print_json({"status": [asdict(line) for line in lines]})
            return
        for line in lines:
            echo(f"{line.what}: {line.found}{f'  → {line.todo}' if line.todo else ''}")

    @group.command(epilog="Example: devicelab farm install farm.toml --at 22:00 --site /srv/www/lab")
    def install(
        farm: _FARM,
        at: Annotated[str, typer.Option(help="When nights begin, local time HH:MM.")] = "22:00",
        site: Annotated[Path | None, typer.Option("--site", help="Bring the pages in this folder up to date.")] = None,
        to: Annotated[
            Path | None, typer.Option("--to", help="Folder for the units; ~/.config/systemd/user, if left out.")
        ] = None,
        cron: Annotated[
            bool, typer.Option("--cron", help="Print a line for crontab instead; nothing is written.")
        ] = False,
        store: StoreOption = None,
        json_: JsonOption = False,
    ) -> None:
        """Write a systemd service and timer that conduct a night every day, and say what to do next.

        Nothing is enabled. Logs are the journal's, which keeps itself small. A URL with a password does not belong into
        a unit: use --store @FILE, or ~/.pgpass.
        """
        from devicelab.errors import ConfigError
        from devicelab.farm.job import load
        from devicelab.farm.standing import cron_line, units
        from devicelab.ground.files import replacing
        from devicelab.ground.safe_text import masked

        name, path = load(farm).farm.name, farm.absolute()
        if store is not None and masked(store) != store:
            raise ConfigError("a URL with a password does not belong into a unit", hint="--store @FILE, or ~/.pgpass")
        command = [*_own(), "nightly", str(path)]
        command += ["--site", str(site.absolute())] if site is not None else []
        command += ["--store", store] if store is not None else []
        made = units(name, command, path.parent, at)
        if cron:
            line = cron_line(command, path.parent, at, path.parent / f"{name}.log")
            if json_:
                print_json({"crontab": line, "files": []})
                return
            echo(line)
            say("rotate that log with logrotate; or use the units, whose logs are the journal's")
            return
        folder = to or Path("~/.config/systemd/user").expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for file, text in made.items():
                with replacing(folder / file) as part:
                    part.write_text(text, encoding="utf-8")
                if not json_:
                    echo(str(folder / file))
        except OSError as error:
            raise ConfigError(f"cannot write into {folder}: {error.strerror or error}") from error
        if json_:
            print_json({"crontab": None, "files": [str(folder / file) for file in made]})
            return
        say(f"begin:  systemctl --user daemon-reload && systemctl --user enable --now devicelab-{name}.timer")
        say("        loginctl enable-linger    (else nights run only while you are logged in)")
        say(
            f"look:   systemctl --user list-timers; journalctl --user -u devicelab-{name}; devicelab farm status {farm}"
        )
        say(f"end:    systemctl --user disable --now devicelab-{name}.timer")


def _own() -> list[str]:
    """How this command is started, by absolute paths."""
    import shutil
    import sys

    script = shutil.which(sys.argv[0])
    if script is not None and Path(script).name == "devicelab":
        return [str(Path(script).absolute())]
    return [sys.executable, "-c", "from devicelab.cli import main; main()"]
