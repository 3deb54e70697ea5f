"""``devicelab quarantine``: devices that get no work from nights until somebody releases them."""

import time
from typing import Annotated

import typer

from devicelab.cli import _complete
from devicelab.cli._out import JsonOption, StoreOption, print_json, print_table, say


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(name="quarantine", help="Devices that get no work from nights.", no_args_is_help=True)
    app.add_typer(group)
    device_argument = Annotated[str, typer.Argument(help="The device's name.", autocompletion=_complete.board)]

    @group.command("list", epilog="Example: devicelab quarantine list --all")
    def list_(
        all_: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
        store: StoreOption = None,
        json_: JsonOption = False,
    ) -> None:
        """List the devices in quarantine, with the reasons."""
        from devicelab.store import Store

        with Store.open(store, create=False) as opened:
            held = opened.quarantines(active=not all_)
        if json_:
            print_json({"quarantines": [one.model_dump(mode="json") for one in held]})
            return
        if not held:
            say("no device is in quarantine")
            return
        rows = [(q.device, _day(q.since_unix_ns), _day(q.released_unix_ns), q.reason, q.note) for q in held]
        print_table(("device", "since", "released", "reason", "note"), rows)

    @group.command(epilog='Example: devicelab quarantine add note10-a --reason "battery swollen"')
    def add(
        device: device_argument,
        reason: Annotated[str, typer.Option("--reason", help="Why, one sentence.")],
        store: StoreOption = None,
        json_: JsonOption = False,
    ) -> None:
        """Take a device out by hand."""
        from devicelab.store import Store

        with Store.open(store) as opened:
            made = opened.quarantine(device, reason)
        if json_:
            print_json(made.model_dump(mode="json"))
            return
        say(f"{device}: in quarantine since {_day(made.since_unix_ns)}: {made.reason}")

    @group.command(epilog='Example: devicelab quarantine release note10-a --note "new battery"')
    def release(
        device: device_argument,
        note: Annotated[str, typer.Option("--note", help="What was done.")] = "",
        store: StoreOption = None,
        json_: JsonOption = False,
    ) -> None:
        """Give a device work again; how it is then counts as its proper state from now on."""
        from devicelab.errors import ConfigError
        from devicelab.store import Store

        with Store.open(store, create=False) as opened:
            if not opened.release(device, note):
                raise ConfigError(f"{device} is in no quarantine", hint="devicelab quarantine list")
        if json_:
            print_json({"device": device, "released": True, "note": note})
            return
        say(f"{device}: released")


def _day(unix_ns: int | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_ns / 1e9)) if unix_ns is not None else ""
