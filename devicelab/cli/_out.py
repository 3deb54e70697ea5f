"""How commands speak: options they share, tables, JSON, progress."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devicelab.cli import _complete
from devicelab.ground.safe_text import json_text, terminal
from devicelab.ground.times import duration

if TYPE_CHECKING:
    from devicelab.jobs.conductor import Progress
    from devicelab.model.stop import Stop
    from devicelab.report.headline import Headline
    from devicelab.report.serve import Pages


BoardOption = Annotated[
    str | None,
    typer.Option("--board", "-b", help="Device name, serial, address or board kind.", autocompletion=_complete.board),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Results database: a file, postgresql://…, or @FILE that names it; ./devicelab.sqlite if left out.",
        envvar="DEVICELAB_STORE",
    ),
]
ExperimentArgument = Annotated[
    str,
    typer.Argument(help="A TOML file, or the name of one in experiments/.", autocompletion=_complete.experiment),
]
CampaignArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[CAMPAIGN]",
        help="Its id or the beginning of it; the latest if left out.",
        autocompletion=_complete.campaign,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a value (repeatable).", autocompletion=_complete.override
    ),
]
ReportOption = Annotated[
    Path | None, typer.Option("--report", help="Where the page goes; devicelab-report/CAMPAIGN.html if left out.")
]


ServeOption = Annotated[
    bool, typer.Option("--serve", help="Serve it to this computer's browser (loopback) until Ctrl-C.")
]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port for --serve; 0 takes a free one.")]


def serve_pages(pages: "Pages", port: int, *, launch: bool) -> None:
    """Serve on loopback until Ctrl-C; the address is said, and opened if wanted."""
    from devicelab.report.serve import serve

    def ready(address: str) -> None:
        say(f"{address} (Ctrl-C ends it)")
        if launch:
            typer.launch(address)

    serve(pages, port=port, ready=ready)


def echo(text: object = "", *, err: bool = False) -> None:
    """A line on stdout (or stderr), without anything in it that a terminal obeys."""
    typer.echo(terminal(str(text)), err=err)


def print_json(data: Any) -> None:
    """One JSON object on stdout."""
    text = json_text(json.dumps(data, ensure_ascii=False, indent=1))
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(data, indent=1)
    typer.echo(text)


def say(text: str) -> None:
    """A line for people, on stderr, so that stdout stays for results."""
    echo(text, err=True)


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None, *, whole: Sequence[str] = ()
) -> None:
    """A table on stdout; cells are shown as they are, no markup is interpreted.

    Columns named in ``whole`` are not broken into lines where there is room for them: what one copies (an id, an
    address) stays in one piece.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # A log or a pipe has no width; wide lines keep a row on one line there, unless it was said how wide they may be.
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160)
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    texts = [["" if cell is None else terminal(str(cell)) for cell in row] for row in rows]
    room = console.width * 2 // 3
    for number, column in enumerate(columns):
        widest = max((len(row[number]) for row in texts), default=0)
        room -= widest if column in whole else 0
        table.add_column(column, overflow="fold", min_width=widest if column in whole and room >= 0 else None)
    for row in texts:
        table.add_row(*map(Text, row))
    console.print(table)


def say_headline(head: "Headline") -> None:
    """The answer of a campaign, last because that is what is read: caveats, what to do next, and the sentence."""
    for caveat in head.caveats:
        echo(caveat)
    if head.todo:
        echo(f"next: {head.todo} {head.command}".rstrip())
    echo(head.sentence)


def table_as_it_comes(
    columns: Sequence[tuple[str, int]], known: Sequence[Sequence[str]]
) -> Callable[[Sequence[object]], None]:
    """The head of a table on stdout whose rows are shown the moment they come.

    Args:
        columns: name and least width of each; the last one takes what it needs.
        known: what is known of the rows beforehand, for the widths.

    Returns:
        Shows a row.
    """
    widths = [
        max(len(name), least, *(len(terminal(row[number])) for row in known))
        for number, (name, least) in enumerate(columns)
    ]

    def show(cells: Sequence[object]) -> None:
        texts = ["" if cell is None else terminal(str(cell)).replace("\n", " ") for cell in cells]
        echo("  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip())
        sys.stdout.flush()

    show([name for name, _ in columns])
    return show


@contextmanager
def says_when_ending(what: str) -> Iterator[None]:
    """A signal that ends work on a device is answered at once: giving the device back takes seconds.

    Args:
        what: what is being done then, and how to go on; a line on stderr.
    """
    from devicelab.ground.interruption import announcing

    line = f"\r{terminal(what)}\n".encode(errors="replace")

    def say_it() -> None:
        with suppress(OSError):  # a terminal that is gone; from a signal handler nothing else is safe
            os.write(2, line)

    with announcing(say_it):
        yield


def time_left(eta_s: float | None) -> str:
    """An estimate for people: "about 12 min left"; nothing without one."""
    return "" if eta_s is None else f"about {duration(eta_s, roughly=True)} left"


@contextmanager
def sweep_progress(*, quiet: bool) -> Iterator["Callable[[Progress], None] | None"]:
    """A progress bar with the time left at a terminal, plain lines elsewhere, nothing when quiet."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bar() as update:
            yield update
    else:
        yield _lines()


def _lines() -> Callable[["Progress"], None]:
    """A line whenever another run is done: that one begins changes no number."""
    told: list[tuple[int, int]] = []

    def tell(progress: "Progress") -> None:
        now = (progress.done, progress.invalid)
        if told[-1:] != [now]:
            told.append(now)
            _line(progress)

    return tell


def _line(progress: "Progress") -> None:
    left = f", {time_left(progress.eta_s)}" if progress.eta_s is not None else ""
    flagged = f", {progress.invalid} flagged" if progress.invalid else ""
    open_ones = f" so far, {len(progress.undecided)} undecided" if progress.undecided else ""
    say(f"[{progress.done}/{progress.total}{flagged}{open_ones}{left}] {progress.cell}")


@contextmanager
def _bar() -> "Iterator[Callable[[Progress], None]]":
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, left="")

        def update(progress: "Any") -> None:
            left = time_left(progress.eta_s) or "estimating"
            flagged = f" ({progress.invalid} flagged)" if progress.invalid else ""
            flagged += f", {len(progress.undecided)} undecided" if progress.undecided else ""
            bar.update(
                task,
                completed=progress.done,
                total=progress.total,
                left=left + flagged,
                description=escape(terminal(progress.cell)),
            )

        yield update


def stop_rule(**typed: str) -> "Stop":
    """What ``--until`` and ``--budget`` say.

    Raises:
        ConfigError: one of them makes no sense; names the option.
    """
    from pydantic import ValidationError

    from devicelab.errors import ConfigError
    from devicelab.ground import toml
    from devicelab.model.stop import Stop

    try:
        return Stop.model_validate(typed)
    except ValidationError as error:
        raise ConfigError(f"--{toml.explain(error)}") from error
