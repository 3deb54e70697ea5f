"""``devicelab watch``: what goes on right now."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from devicelab.cli._out import JsonOption, PortOption, ServeOption, StoreOption, echo, print_json, serve_pages

if TYPE_CHECKING:
    from devicelab.report.watch import Now


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Example: devicelab watch --serve --open")
    def watch(
        once: Annotated[bool, typer.Option("--once", help="One look instead of one every few seconds.")] = False,
        every: Annotated[float, typer.Option(min=1, max=3600, help="Seconds between two looks.")] = 5.0,
        serve: ServeOption = False,
        port: PortOption = 0,
        open_: Annotated[bool, typer.Option("--open", help="With --serve: show it in the browser.")] = False,
        store: StoreOption = None,
        json_: JsonOption = False,
    ) -> None:
        """Watch boards at work: what runs, what is undecided, time left, the last flag.

        Only reads the store, so it disturbs nothing and works beside a night; Ctrl-C ends it.
        """
        from dataclasses import asdict

        from devicelab.report import watch as watching
        from devicelab.report.serve import Answer
        from devicelab.store import Store

        with Store.open(store, create=False) as opened:
            if serve:
                serve_pages(
                    lambda path: None if path else Answer("text/html", watching.page(opened)), port, launch=open_
                )
                return
            if json_:
                now = asdict(watching.look(opened))
                now["ended"] = [info.model_dump(mode="json") for info in now["ended"]]
                print_json(now)
                return
            if once or not sys.stdout.isatty():
                echo("\n".join(lines(watching.look(opened))))
                return
            from rich.live import Live
            from rich.text import Text

            with Live(refresh_per_second=4, screen=False) as screen:
                try:
                    while True:
                        screen.update(Text("\n".join(lines(watching.look(opened)))), refresh=True)
                        time.sleep(every)
                except KeyboardInterrupt:
                    return


def lines(now: "Now") -> list[str]:
    """The look as lines for a terminal."""
    from devicelab.ground.safe_text import terminal

    told = [f"{now.at} UTC: {len(now.boards) or 'nothing'} running"]
    if now.night:
        told.append(f"night of {now.night}: " + ", ".join(f"{count} {status}" for status, count in now.tasks))
    for one in now.boards:
        share = round(20 * one.done / max(one.planned, 1))
        simulated = " (simulated)" if one.simulated else ""
        told.append("")
        told.append(f"{one.device}: {one.experiment}{simulated}, {one.campaign}")
        flagged = f", {one.invalid} flagged" if one.invalid else ""
        left = f", {one.left} left" if one.left else ""
        told.append(f"  [{'#' * share}{'.' * (20 - share)}] {one.done} of {one.planned} runs{flagged}{left}")
        told += [f"  not decided: {claim}" for claim in one.undecided]
        told += [f"  last flag: {one.flag}"] if one.flag else []
        told += [f"  silent for {one.silent}: if nothing works on it any more, sweep --resume goes on"] * bool(
            one.silent
        )
    if now.ended:
        told.append("")
    told += [
        f"{one.device}: {one.experiment} {one.status}, {one.runs_done} of {one.runs_planned} runs" for one in now.ended
    ]
    return [terminal(line) for line in told]
