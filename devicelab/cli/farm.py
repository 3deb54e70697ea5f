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

    @group.command(epilog="Example: devicelab farm morning farm.toml")
    def morning(farm: _FARM, store: StoreOption = None, json_: JsonOption = False) -> None:
        """Check the database, say how the farm is, and tell whom the farm file names; exit code 7 if it needs a person.

        One message a day: with `when = "morning"` in [notify], nights say nothing.
        """
        import time
        from dataclasses import asdict

        from devicelab.farm.job import load
        from devicelab.farm.notify import notify
        from devicelab.farm.standing import morning as found_in
        from devicelab.store import Store

        file = load(farm).farm
        with Store.open(store, create=False) as opened:
            found = found_in(opened, file.name, store, time.time())
        if json_:
            print_json(asdict(found))
        else:
            echo(found.title)
            echo(found.body)
        for problem in notify(file.notify, found.title, found.body):
            say(problem)
        raise typer.Exit(found.exit_code)

    @group.command(epilog="Example: devicelab farm install farm.toml --at 22:00 --site /srv/www/lab")
    def install(
        farm: _FARM,
        at: Annotated[str, typer.Option(help="When nights begin, local time HH:MM.")] = "22:00",
        tell_at: Annotated[
            str | None, typer.Option(help="When people are told how the farm is, HH:MM: `farm morning` every day.")
        ] = None,
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
        from devicelab.farm.standing import cron_line, logrotate, units
        from devicelab.ground import places
        from devicelab.ground.files import replacing
        from devicelab.ground.safe_text import masked

        name, path = load(farm).farm.name, farm.absolute()
        if store is not None and masked(store) != store:
            raise ConfigError("a URL with a password does not belong into a unit", hint="--store @FILE, or ~/.pgpass")
        command = [*_own(), "nightly", str(path)]
        command += ["--site", str(site.absolute())] if site is not None else []
        command += ["--store", store] if store is not None else []
        telling = [*_own(), "farm", "morning", str(path), *(["--store", store] if store is not None else [])]
        made = units(name, command, path.parent, at, telling, tell_at or "")
        if cron:
            log = path.parent / f"{name}.log"
            line = cron_line(command, path.parent, at, log)
            if tell_at is not None:
                line += "\n" + cron_line(telling, path.parent, tell_at, log)
            if json_:
                print_json({"crontab": line, "files": []})
                return
            echo(line)
            say(f"rotate that log: a file /etc/logrotate.d/devicelab-{name} with\n{logrotate(log)}")
            return
        home = places.config_dir()
        if to is None and home is None:
            raise ConfigError("this user has no home, so there is no folder for the units", hint="name one with --to")
        folder = to or (home or Path()).parent / "systemd" / "user"
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
        timers = " ".join(file for file in made if file.endswith(".timer"))
        say(f"begin:  systemctl --user daemon-reload && systemctl --user enable --now {timers}")
        say("        loginctl enable-linger    (else nights run only while you are logged in)")
        say(
            f"look:   systemctl --user list-timers; journalctl --user -u devicelab-{name}; devicelab farm status {farm}"
        )
        say(f"end:    systemctl --user disable --now {timers}")


def _own() -> list[str]:
    """How this command is started, by absolute paths."""
    import shutil
    import sys

    script = shutil.which(sys.argv[0])
    if script is not None and Path(script).name == "devicelab":
        return [str(Path(script).absolute())]
    return [sys.executable, "-c", "from devicelab.cli import main; main()"]
