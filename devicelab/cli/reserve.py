"""``devicelab reserve``: keep a device for yourself for some time."""

from typing import Annotated

import typer

from devicelab.cli import _complete
from devicelab.cli._out import JsonOption, print_json, say


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog='Example: devicelab reserve note10-a --for 2h --why "camera ready on Friday"')
    def reserve(
        device: Annotated[
            str, typer.Argument(help="Name, serial, address or board kind.", autocompletion=_complete.board)
        ],
        for_: Annotated[str, typer.Option("--for", help="How long: 90m, 2h, 3d.")] = "1h",
        why: Annotated[str, typer.Option("--why", help="Shown to whoever is refused.")] = "",
        release: Annotated[bool, typer.Option("--release", help="End it early.")] = False,
        force: Annotated[bool, typer.Option("--force", help="With --release: also somebody else's.")] = False,
        json_: JsonOption = False,
    ) -> None:
        """Keep a device: nights and other people's commands are refused with your name and reason until it is over.

        It ends by itself. What is at work there already goes on.
        """
        from dataclasses import asdict

        from devicelab.device import choose, reservation
        from devicelab.device.facts import open_device

        seconds = reservation.span_s(for_)
        opened = open_device(choose.choose(device))
        try:
            name = opened.facts.name
            if release:
                ended = reservation.release(opened, force=force)
                said = f"{name}: no more {ended.words()}" if ended else f"{name}: nobody had reserved it"
                found = ended
            else:
                found = reservation.reserve(opened, seconds, why)
                said = f"{name}: {found.words()}"
        finally:
            opened.transport.close()
        if json_:
            print_json({"device": name, "reservation": asdict(found) if found else None, "released": release})
        else:
            say(said)
