"""``devicelab nights``: the nights of a farm, and how one compares with those before it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devicelab.cli import _complete
from devicelab.cli._out import JsonOption, StoreOption, echo, print_json, print_table
from devicelab.ground.times import duration

if TYPE_CHECKING:
    from devicelab.model.night import CellVerdict, NightInfo

_ROWS = 60


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog="Example: devicelab nights nightly-20261122 --check")
    def nights(
        night: Annotated[
            str | None,
            typer.Argument(
                help="A night's id or the beginning of it; `last` is the newest.", autocompletion=_complete.night
            ),
        ] = None,
        farm: Annotated[str | None, typer.Option(help="Only nights of this farm.")] = None,
        baseline: Annotated[
            int | None, typer.Option(min=1, help="Judge it now, against so many nights; the store is not changed.")
        ] = None,
        check: Annotated[
            bool, typer.Option("--check", help="Exit code 7 if there is a regression; see `alarm` in the farm file.")
        ] = False,
        limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Nights that are listed.")] = 20,
        store: StoreOption = None,
        json_: JsonOption = False,
    ) -> None:
        """List nights, or show how a night's figures moved against the nights before it, worst first.

        Verdicts are those the night ended with; a night without any (it was killed, or is not over) is judged now.
        """
        from devicelab.compare.nights import judge, rank
        from devicelab.errors import CheckFailedError, StoreError
        from devicelab.store import Store

        with Store.open(store, create=False) as opened:
            if night is None and not check and baseline is None:
                infos = opened.nights(farm=farm, limit=limit)
                counts = opened.night_counts() if infos else {}
                rows = [_summary(info, dict(counts[info.night].verdicts)) for info in infos]
                if json_:
                    print_json({"nights": rows})
                else:
                    _list(rows)
                return
            if night in {None, "last"}:
                newest = opened.nights(farm=farm, limit=1)
                if not newest:
                    of = f" of farm {farm!r}" if farm else ""
                    raise StoreError(f"no night{of} is stored in {opened}", hint="run `devicelab nightly` first")
                info = newest[0]
            else:
                info = opened.night(night)
            stored = () if baseline else opened.verdicts(night=info.night)
            verdicts = stored or judge(opened, info.night, baseline_nights=baseline or info.job.baseline_nights)
        ordered = sorted(verdicts, key=rank)
        if json_:
            print_json({**_summary(info, _counted(ordered)), "verdicts": [one.model_dump() for one in ordered]})
        else:
            _show(info, ordered, stored=bool(stored))
        regressions = [one for one in ordered if info.job.alarms(one)]
        if check and regressions:
            first = regressions[0]
            raise CheckFailedError(
                f"{len(regressions)} regression{'s' if len(regressions) > 1 else ''}: {first.metric} of "
                f"{first.experiment}, {first.cell} {_shift(first)}",
                device=first.device,
            )


def _summary(info: "NightInfo", counts: dict[str, int]) -> dict[str, Any]:
    return {
        "night": info.night,
        "farm": info.farm,
        "status": info.status,
        "exit_code": info.exit_code,
        "started_unix_ns": info.started_unix_ns,
        "ended_unix_ns": info.ended_unix_ns,
        "counts": counts,
    }


def _counted(verdicts: Sequence["CellVerdict"]) -> dict[str, int]:
    return {name: sum(one.verdict == name for one in verdicts) for name in dict.fromkeys(v.verdict for v in verdicts)}


def _list(rows: list[dict[str, Any]]) -> None:
    from devicelab.compare.nights import ORDER
    from devicelab.model.campaign import lasted_s

    if not rows:
        echo("no nights; `devicelab nightly` makes them")
        return
    lines = []
    for row in rows:
        took = lasted_s(row["started_unix_ns"], row["ended_unix_ns"])
        told = ", ".join(f"{row['counts'][name]} {name}" for name in ORDER if row["counts"].get(name))
        code = "–" if row["exit_code"] is None else row["exit_code"]
        lines.append((row["night"], row["status"], code, "–" if took is None else duration(took), told or "–"))
    print_table(("night", "status", "exit", "took", "verdicts"), lines, whole=("night",))


def _show(info: "NightInfo", verdicts: Sequence["CellVerdict"], *, stored: bool) -> None:
    judged = "as it ended" if stored else "judged now"
    echo(f"{info.night}, {info.status}, {judged}: " + _told(verdicts))
    shown = verdicts[:_ROWS]
    lines = [
        (one.verdict, one.device, f"{one.experiment}: {one.cell or 'all runs'}", one.metric, _shift(one), _why(one))
        for one in shown
    ]
    if lines:
        print_table(("verdict", "device", "cell", "figure", "shift [95 % interval]", "why"), lines)
    if len(verdicts) > len(shown):
        echo(f"and {len(verdicts) - len(shown)} more; --json prints all")


def _told(verdicts: Sequence["CellVerdict"]) -> str:
    counts = _counted(verdicts)
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing to compare"


def _shift(one: "CellVerdict") -> str:
    if one.shift_pct is None:
        return "–"
    ends = f" [{one.low_pct:+.1f}, {one.high_pct:+.1f}]" if one.low_pct is not None and one.high_pct is not None else ""
    return f"{one.shift_pct:+.1f} %{ends}"


def _why(one: "CellVerdict") -> str:
    """Reasons, and causes that no reason names; of the unchanged the threshold alone, so that the table stays short."""
    if one.verdict == "unchanged" and one.confirmed is None:
        return f"counts from {one.threshold_pct:.1f} %" if one.threshold_pct is not None else "; ".join(one.reasons)
    reasons = [reason.partition("; ")[2] if reason.startswith(_shift(one)) else reason for reason in one.reasons]
    causes = [cause for cause in one.causes if not any(cause in reason for reason in one.reasons)]
    return "; ".join([reason for reason in reasons if reason] + causes)
