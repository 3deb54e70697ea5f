"""``devicelab tune``: which way of sharing serves a mix of tenants best."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devicelab.cli import _complete
from devicelab.cli._out import (
    BoardOption,
    ExperimentArgument,
    JsonOption,
    SetOption,
    StoreOption,
    echo,
    print_json,
    print_table,
    say,
    say_headline,
    stop_rule,
    sweep_progress,
)
from devicelab.cli._rounds import AfterOption, BundleOption, write_next

if TYPE_CHECKING:
    from devicelab.analyses.priority.choosing import Standing
    from devicelab.jobs.tune import Asked, Step
    from devicelab.model.results import Results


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(
        epilog="Example: devicelab tune dual_model --board gpuserver --aim low.throughput "
        "--keep 'high.p99_ratio < 1.2' --budget 20m"
    )
    def tune(
        experiment: ExperimentArgument,
        aim: Annotated[str, typer.Option("--aim", help="TENANT.FIGURE to bring as far as it goes.")],
        budget: Annotated[str, typer.Option("--budget", help='Time that all runs may take, such as 20m or "2 h".')],
        keep: Annotated[
            list[str] | None, typer.Option("--keep", help="TENANT.FIGURE < NUMBER that has to be kept (repeatable).")
        ] = None,
        try_: Annotated[
            list[str] | None,
            typer.Option(
                "--try",
                help="A level of `scheduler` to try (repeatable); what the board has if left out.",
                autocompletion=_complete.scheduler,
            ),
        ] = None,
        board: BoardOption = None,
        set_: SetOption = None,
        bundle: BundleOption = None,
        after: AfterOption = None,
        store: StoreOption = None,
        json_: JsonOption = False,
    ) -> None:
        """Search the schedulers for the one that serves best, and judge it on fresh arrivals."""
        from devicelab.device import choose
        from devicelab.experiment import files
        from devicelab.jobs import tune as tuning
        from devicelab.jobs.rounds import run_to_end
        from devicelab.store import Store

        base = files.load(experiment, set_ or ())
        entry = choose.choose(board)
        rule = stop_rule(budget=budget)
        what = tuning.asked(
            base,
            aim,
            keep or (),
            try_ or tuning.usual_candidates(entry.board or "", tuple(entry.prefixes)),
            rule.budget_s or 0.0,
        )
        with Store.open(store) as opened:
            rounds: list[Results] = [opened.results(one) for one in after or ()]
            if bundle is not None:
                step = tuning.next_step(base, what, rounds)
                write_next(step, entry, bundle, lambda: _show(step, what, json_=json_), _data(step), json_=json_)
                return
            following = partial(tuning.next_step, base, what)
            with sweep_progress(quiet=json_) as on_progress:
                done = run_to_end(following, entry, opened, rounds, tell=say, on_progress=on_progress)
        _conclude(done, what, json_=json_)


def _conclude(done: "tuple[Step, Any]", what: "Asked", *, json_: bool) -> None:
    from devicelab.jobs import sweep as sweeping

    step, last = done
    if json_:
        print_json({"why": step.why, **_data(step), "last": sweeping.as_json(last) if last is not None else None})
        return
    _show(step, what, json_=False)
    if last is not None:
        echo(f"report: {last.report}")
        if last.headline is not None:
            say_headline(last.headline)


def _show(step: "Step", what: "Asked", *, json_: bool) -> None:
    if json_:
        print_json({"why": step.why, **_data(step)})
        return
    if step.standing is not None:
        rows = [tuple(row.values()) for row in table(step.standing, what)]
        print_table(("scheduler", str(what.aim), *map(str, what.keep), "n", ""), rows)
    echo(step.why)


def _data(step: "Step") -> dict[str, Any]:
    if step.standing is None:
        return {}
    return {"best": step.standing.best, "going_on": list(step.standing.going_on), "unrun": list(step.standing.unrun)}


def table(standing: "Standing", what: "Asked") -> list[dict[str, Any]]:
    """One row a candidate: means of its aim and of what it has to keep, runs, and what became of it."""
    import numpy as np

    rows: list[dict[str, Any]] = []
    for one in sorted(standing.candidates, key=lambda c: (c.leg not in standing.going_on, c.leg in standing.broken)):
        if one.leg == standing.best:
            became = "best"
        elif one.leg in standing.broken:
            became = "breaks " + ", ".join(standing.broken[one.leg])
        else:
            became = "" if one.leg in standing.going_on else f"behind in {what.aim}"
        means = [f"{float(np.mean(list(part.values()))):.3g}" if part else "" for part in (one.aim, *one.keeps)]
        rows.append(
            {"scheduler": one.leg, **{str(i): text for i, text in enumerate(means)}, "n": one.repetitions, "": became}
        )
    rows += [
        {"scheduler": leg, **{str(i): "" for i in range(1 + len(what.keep))}, "n": 0, "": "no valid run"}
        for leg in standing.unrun
    ]
    return rows
