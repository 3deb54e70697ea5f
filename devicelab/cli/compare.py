"""``devicelab compare``: campaigns side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devicelab.cli import _complete
from devicelab.cli._out import JsonOption, StoreOption, echo, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devicelab.compare.campaigns import Comparison
    from devicelab.model.campaign import CampaignInfo

_ROWS = 60


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Example: devicelab compare 20261122-1015 20261123-0210 --html compare.html")
    def compare(
        a: Annotated[
            str,
            typer.Argument(
                metavar="A",
                help="The baseline: a campaign's id or the beginning of it.",
                autocompletion=_complete.campaign,
            ),
        ],
        others: Annotated[
            list[str],
            typer.Argument(
                metavar="B...",
                help="What is compared with it; several make a matrix.",
                autocompletion=_complete.campaign,
            ),
        ],
        tolerance: Annotated[float, typer.Option(min=0, max=100, help="Percent that make no difference.")] = 5.0,
        leg_a: Annotated[str | None, typer.Option(help="Take this leg of A alone ...")] = None,
        leg_b: Annotated[str | None, typer.Option(help="... and compare it with this leg of B.")] = None,
        html: Annotated[Path | None, typer.Option(help="Also write a page there.", dir_okay=False)] = None,
        markdown: Annotated[
            Path | None, typer.Option(help="Also write Markdown there, for a pull request.", dir_okay=False)
        ] = None,
        store: StoreOption = None,
        store_b: Annotated[str | None, typer.Option(help="Where B is stored, if not where A is.")] = None,
        json_: JsonOption = False,
    ) -> None:
        """Compare campaigns: what moved, with intervals, and what became of each target.

        What else is not the same (device, driver, binaries, settings) is named first. The last line is the answer.

        Exit code 7 if a target that A kept is broken in B.
        """
        from dataclasses import asdict

        from devicelab.compare.campaigns import compare as compare_results
        from devicelab.errors import CheckFailedError
        from devicelab.report import comparison
        from devicelab.report.page import written
        from devicelab.store import Store

        every, infos = [], []
        with Store.open(store, create=False) as one, Store.open(store_b or store, create=False) as other:
            infos = [one.campaign(a), *(other.campaign(name) for name in others)]
            base = one.results(infos[0].campaign)
            for info in infos[1:]:
                theirs = other.results(info.campaign)
                every.append(compare_results(base, theirs, tolerance=tolerance / 100, leg_a=leg_a, leg_b=leg_b))
        if html is not None:
            comparison.write_page(every, infos, html)
        if markdown is not None:
            parts = (comparison.markdown(done, infos[0], info) for done, info in zip(every, infos[1:], strict=True))
            with written(markdown) as temporary:
                temporary.write_text("\n".join(parts), encoding="utf-8")
        if json_:
            told = [{**asdict(done), "answer": comparison.summary(done)} for done in every]
            print_json(told[0] if len(told) == 1 else {"comparisons": told})
        elif len(every) == 1:
            _show(every[0])
        else:
            _show_matrix(every, infos)
        regressed = [one for done in every for one in done.regressed]
        if regressed:
            first = regressed[0]
            raise CheckFailedError(f"{len(regressed)} targets regressed: {first.where}: {first.target}")


def _show(done: "Comparison") -> None:
    from devicelab.model.glossary import shown_verdict
    from devicelab.report.comparison import groups, summary

    echo(f"A {done.a}, B {done.b}{' (simulated)' if done.simulated else ''}")
    _show_changes(done)
    if done.targets:
        targets = [(one.outcome, one.where, one.target, one.a, one.b) for one in done.targets]
        print_table(("outcome", "where", "target", "A", "B"), targets)
    left = _ROWS
    for group in groups(done):
        rows = [(row.figure, row.where, row.a, row.b, row.change, row.n) for row in group.rows[:left]]
        if rows:
            head = ("figure", "where", "A", "B", "B against A [95 % interval]", "n")
            print_table(head, rows, title=f"{shown_verdict(group.verdict)[0]} {group.title}")
        left -= len(rows)
    hidden = len(done.shifts) - (_ROWS - left)
    if hidden:
        echo(f"and {hidden} more; --html and --json have all")
    echo(summary(done))


def _show_changes(done: "Comparison") -> None:
    if done.changes:
        rows = [(change.what, change.a or "–", change.b or "–") for change in done.changes]
        print_table(("not the same", "A", "B"), rows)
    else:
        echo("device, software, binaries and settings are the same")
    for side, only in (("A", done.only_a), ("B", done.only_b)):
        if only:
            echo(f"only in {side}: {'; '.join(only)}")


def _show_matrix(every: "Sequence[Comparison]", infos: "Sequence[CampaignInfo]") -> None:
    from devicelab.report.comparison import matrix, summary

    for number, info in enumerate(infos):
        name = f"B{number}" if number else "A"
        echo(f"{name}: {info.experiment} on {info.device}, {info.campaign}")
    rows = [
        (row.figure, row.where, row.base, *("–" if one is None else f"{one.b}, {one.change}" for one in row.others))
        for row in matrix(every)
    ]
    if rows:
        print_table(("figure", "where", "A", *(f"B{number}" for number in range(1, len(infos)))), rows[:_ROWS])
    if len(rows) > _ROWS:
        echo(f"and {len(rows) - _ROWS} more; --html and --json have all")
    for number, done in enumerate(every, 1):
        name = f"B{number}"
        echo(f"{name}: {summary(done, name)}")
