"""``devicelab compare``: two campaigns side by side."""

from typing import TYPE_CHECKING, Annotated

import typer

from devicelab.cli._out import JsonOption, StoreOption, complete_campaign, echo, print_json, print_table

if TYPE_CHECKING:
    from devicelab.compare.campaigns import Comparison, Shift

_ROWS = 60


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Example: devicelab compare 20261122-1015 20261123-0210 --leg-a native --leg-b mps")
    def compare(
        a: Annotated[
            str,
            typer.Argument(
                metavar="A",
                help="The baseline: a campaign's id or the beginning of it.",
                autocompletion=complete_campaign,
            ),
        ],
        b: Annotated[
            str, typer.Argument(metavar="B", help="What is compared with it.", autocompletion=complete_campaign)
        ],
        tolerance: Annotated[float, typer.Option(min=0, max=100, help="Percent that make no difference.")] = 5.0,
        leg_a: Annotated[str | None, typer.Option(help="Take this leg of A alone ...")] = None,
        leg_b: Annotated[str | None, typer.Option(help="... and compare it with this leg of B.")] = None,
        store: StoreOption = None,
        store_b: Annotated[str | None, typer.Option(help="Where B is stored, if not where A is.")] = None,
        json_: JsonOption = False,
    ) -> None:
        """Compare two campaigns: what moved, with intervals, and what became of each target.

        What else is not the same (device, driver, binaries, settings) is named first.

        Exit code 7 if a target that A kept is broken in B.
        """
        from dataclasses import asdict

        from devicelab.compare.campaigns import compare as compare_results
        from devicelab.errors import CheckFailedError
        from devicelab.store import Store

        with Store.open(store, create=False) as one, Store.open(store_b or store, create=False) as other:
            done = compare_results(
                one.results(one.campaign(a).campaign),
                other.results(other.campaign(b).campaign),
                tolerance=tolerance / 100,
                leg_a=leg_a,
                leg_b=leg_b,
            )
        if json_:
            print_json(asdict(done))
        else:
            _show(done)
        if done.regressed:
            first = done.regressed[0]
            raise CheckFailedError(f"{len(done.regressed)} targets regressed: {first.where}: {first.target}")


def _show(done: "Comparison") -> None:
    echo(f"A {done.a}, B {done.b}{' (simulated)' if done.simulated else ''}")
    if done.changes:
        rows = [(change.what, change.a or "–", change.b or "–") for change in done.changes]
        print_table(("not the same", "A", "B"), rows)
    else:
        echo("device, software, binaries and settings are the same")
    for side, only in (("A", done.only_a), ("B", done.only_b)):
        if only:
            echo(f"only in {side}: {'; '.join(only)}")
    if done.targets:
        targets = [(one.outcome, one.where, one.target, one.a, one.b) for one in done.targets]
        print_table(("outcome", "where", "target", "A", "B"), targets)
    order = ["yes", "inconclusive", "insufficient n", "no"]
    shifts = sorted(done.shifts, key=lambda shift: order.index(shift.verdict))
    if shifts:
        lines = [(s.verdict, s.where, s.metric, f"{s.a:.4g}", f"{s.b:.4g} {_unit(s)}", _effect(s)) for s in shifts]
        print_table(("differs", "where", "figure", "A", "B", "B against A [95 % interval]"), lines[:_ROWS])
    if len(shifts) > _ROWS:
        echo(f"and {len(shifts) - _ROWS} more; --json prints all")
    if not shifts:
        echo("the campaigns have no figure in common")


def _unit(shift: "Shift") -> str:
    return "" if shift.unit == "1" else shift.unit


def _effect(shift: "Shift") -> str:
    sign = "x " if shift.kind == "ratio" else "+ " if shift.effect >= 0 else "− "
    ends = f" [{shift.low:.3g}, {shift.high:.3g}]" if shift.low is not None and shift.high is not None else ""
    return f"{sign}{abs(shift.effect):.3g}{ends} (n = {shift.n_a}, {shift.n_b})"
