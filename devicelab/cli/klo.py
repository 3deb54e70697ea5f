"""``devicelab klo``: the launch model, launch cost tables and the K they lead to."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devicelab.cli import _complete
from devicelab.cli._out import (
    BoardOption,
    CampaignArgument,
    JsonOption,
    ReportOption,
    SetOption,
    StoreOption,
    echo,
    print_json,
    print_table,
    say,
    sweep_progress,
)

if TYPE_CHECKING:
    from devicelab.analyses.klo.model import LaunchCosts
    from devicelab.analyses.lut.table import Entry


def register(app: typer.Typer) -> None:
    """Add the command group to the application."""
    group = typer.Typer(no_args_is_help=True, help="Kernel launch overhead: the model, launch costs, K.")
    example = "--n 10 --t-prod-us 10 --t-ker-us 20 --flush-us 5 --start-idle-us 0 --gap-us 15"
    group.command("model", epilog=f"Example: devicelab klo model {example}")(model)
    group.command("lut", epilog="Example: devicelab klo lut 20261122-1015 --to note10.json")(lut)
    group.command("plan", epilog="Example: devicelab klo plan --lut note10.json")(plan)
    group.command("app", epilog="Example: devicelab klo app --board note10 --k 1,2,4,8 -- /data/local/tmp/bench --gpu")(
        app_
    )
    app.add_typer(group, name="klo")


def app_(
    program: Annotated[
        list[str] | None, typer.Argument(help="Program on the device and its arguments, after --.")
    ] = None,
    board: BoardOption = None,
    k: Annotated[str, typer.Option("--k", help="Flush periods to try; 0 is one flush before each wait.")] = "1,2,4,8,0",
    preset: Annotated[
        str, typer.Option(help="An experiment with the workload opencl_app.", autocompletion=_complete.experiment)
    ] = "opencl_app",
    push: Annotated[
        list[Path] | None, typer.Option(help="Put a file there first; {dir}/NAME is its path. Repeatable.", exists=True)
    ] = None,
    env: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the program. Repeatable.")] = None,
    set_: SetOption = None,
    store: StoreOption = None,
    report: ReportOption = None,
    json_: JsonOption = False,
) -> None:
    """Somebody else's OpenCL program, unchanged, under several K: does K matter here, which is best, what it saves."""
    from devicelab.cli import sweep as sweeps
    from devicelab.device import choose
    from devicelab.jobs import app as apps
    from devicelab.jobs import sweep as sweeping

    chosen = apps.experiment(preset, program or (), k, env or (), set_ or (), push or ())
    entry = choose.choose(board)
    with sweep_progress(quiet=json_) as on_progress:
        result = sweeping.sweep_into(chosen, entry, store, report_to=report, on_progress=on_progress)
    sweeps.conclude(result, json_=json_)


def model(
    *,
    n: Annotated[int, typer.Option("--n", min=1, max=100_000, help="Kernels of one inference.")],
    t_prod_us: Annotated[float, typer.Option(min=0, help="Time the host takes to produce a kernel.")],
    t_ker_us: Annotated[float, typer.Option(min=0, help="Time a kernel takes on the GPU.")],
    flush_us: Annotated[float, typer.Option(min=0, help="CPU time of one flush.")],
    start_idle_us: Annotated[float, typer.Option(min=0, help="From flush to start on an idle GPU.")],
    gap_us: Annotated[float, typer.Option(min=0, help="Gap between two batches when the next one waits.")],
    json_: JsonOption = False,
) -> None:
    """Makespan for every flush period K, the best constant K and the best schedule, for N equal kernels."""
    from devicelab.analyses.klo.model import LaunchCosts
    from devicelab.errors import ConfigError

    try:
        costs = LaunchCosts(flush_us * 1e3, start_idle_us * 1e3, gap_us * 1e3)
        answer = _answer(n, t_prod_us * 1e3, t_ker_us * 1e3, costs)
    except ValueError as error:
        raise ConfigError(str(error), hint="fewer kernels, or look at --help") from error
    if json_:
        print_json(answer)
    else:
        _show(answer)


def lut(
    campaign: CampaignArgument = None,
    to: Annotated[Path | None, typer.Option(help="Write the table there.", dir_okay=False)] = None,
    store: StoreOption = None,
    json_: JsonOption = False,
) -> None:
    """Fit launch costs for each condition of a campaign; with --to, keep them as a table with their provenance."""
    from devicelab.analyses import _frames
    from devicelab.analyses import lut as tables
    from devicelab.store import Store

    with Store.open(store, create=False) as opened:
        table = tables.measure(opened.results(opened.campaign(campaign).campaign))
    if to is not None:
        tables.save(table, to)
        say(f"launch cost table: {to}")
    if json_:
        print_json(table.model_dump(mode="json"))
        return
    rows = [
        (
            _frames.label(entry.levels),
            *(f"{getattr(entry, name) / 1e3:.1f}{_unsure(entry, name)}" for name in _COSTS),
            f"{entry.residual_pct:.1f}%",
            entry.runs,
        )
        for entry in table.entries
    ]
    print_table(("condition", "flush, µs", "start idle, µs", "gap, µs", "residual", "runs"), rows)
    if any(entry.not_identified for entry in table.entries):
        echo("* an upper bound: the runs cannot tell it")
    if table.simulated:
        echo("simulated: an emulated GPU or a virtual board had a share in these figures")


_COSTS = ("flush_ns", "start_idle_ns", "gap_ns")


def _unsure(entry: "Entry", name: str) -> str:
    return "*" if name in entry.not_identified else ""


def plan(
    campaign: CampaignArgument = None,
    lut: Annotated[Path | None, typer.Option(help="Launch costs from this table instead.", dir_okay=False)] = None,
    foreign: Annotated[bool, typer.Option("--foreign", help="Use the table though it was measured elsewhere.")] = False,
    store: StoreOption = None,
    json_: JsonOption = False,
) -> None:
    """Constant K, static schedule and launch costs for what runs next, from a campaign's kernel timestamps."""
    from devicelab.analyses import lut as tables
    from devicelab.analyses.lut import plan as klo_plan
    from devicelab.store import Store

    table = tables.load(lut) if lut is not None else None
    with Store.open(store, create=False) as opened:
        planned = klo_plan.plan(opened.results(opened.campaign(campaign).campaign), table, foreign=foreign)
    for remark in dict.fromkeys(f"{one.label}: {remark}" for one in planned for remark in one.remarks):
        say(remark)
    if json_:
        print_json(
            {
                "conditions": [
                    {**asdict(one), "made_for": one.made_for.model_dump(), "set": one.settings()} for one in planned
                ]
            }
        )
        return
    rows = [(one.label, one.k, _us(one.makespan_ns), _runs(list(one.batches)), _us(one.schedule_ns)) for one in planned]
    print_table(("condition", "constant K", "time", "static schedule", "time"), rows)
    for one in planned:
        echo(f"{one.label}: " + " ".join(f"--set {shlex.quote(setting)}" for setting in one.settings()))


def _answer(n: int, t_prod_ns: float, t_ker_ns: float, costs: "LaunchCosts") -> dict[str, Any]:
    import numpy as np

    from devicelab.analyses.klo import model as klo_model

    p, g = np.full(n, t_prod_ns), np.full(n, t_ker_ns)
    curve = klo_model.constant_curve(p, g, costs)
    k, makespan = klo_model.best_constant(p, g, costs)
    batches, best = klo_model.best_schedule(p, g, costs)
    near = klo_model.near_optimal_set(np.arange(1, n + 1), curve, tolerance=0.02)
    kernels = float(g.sum())
    return {
        "n": n,
        "t_prod_ns": t_prod_ns,
        "t_ker_ns": t_ker_ns,
        "costs": {"flush_ns": costs.flush_ns, "start_idle_ns": costs.start_idle_ns, "gap_ns": costs.gap_ns},
        "curve": [{"k": i + 1, "makespan_ns": float(value)} for i, value in enumerate(curve)],
        "best_constant": {"k": k, "makespan_ns": makespan, "overhead_ns": makespan - kernels},
        "best_schedule": {"batches": list(batches), "makespan_ns": best, "overhead_ns": best - kernels},
        "near_optimal": {"tolerance_pct": 2.0, "k": list(near.k)},
        "formulas": klo_model.root_estimates(n, t_prod_ns, t_ker_ns, costs),
        "floor_ns": klo_model.floor_ns(p, g, costs),
        "speedup_over_k1": float(curve[0]) / makespan if makespan > 0 else 1.0,
    }


def _show(answer: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    best = answer["best_constant"]
    static = answer["best_schedule"]
    near = set(answer["near_optimal"]["k"])
    rules = {name.replace("_", "-"): value for name, value in answer["formulas"].items()}
    facts = Table.grid(padding=(0, 2))
    facts.add_row("best constant K", f"{best['k']}: {_us(best['makespan_ns'])}")
    facts.add_row("best schedule", f"{_runs(static['batches'])}: {_us(static['makespan_ns'])}")
    facts.add_row("within 2% of best K", f"{len(near)} of {answer['n']}: {_ranges(sorted(near))}")
    facts.add_row("speed-up over K = 1", f"{answer['speedup_over_k1']:.2f}")
    facts.add_row("no schedule below", _us(answer["floor_ns"]))
    for name, value in rules.items():
        facts.add_row(f"{name} rule", "-" if value is None else f"K = {value:.1f}")
    console.print(facts)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("K", "makespan", "over the best", ""):
        table.add_column(heading, justify="right")
    for row in _worth_showing(answer["curve"], best["k"]):
        over = row["makespan_ns"] / best["makespan_ns"] - 1 if best["makespan_ns"] > 0 else 0.0
        mark = "best" if row["k"] == best["k"] else "near" if row["k"] in near else ""
        table.add_row(str(row["k"]), _us(row["makespan_ns"]), f"{over:+.1%}", mark)
    console.print(table)


def _worth_showing(curve: list[dict[str, Any]], best: int, limit: int = 40) -> list[dict[str, Any]]:
    """All of a short curve; of a long one K in roughly equal ratios, with both ends and the best."""
    import numpy as np

    n = len(curve)
    if n <= limit:
        return curve
    ks = set(np.unique(np.geomspace(1, n, limit).round().astype(int)).tolist()) | {best}
    return [curve[k - 1] for k in sorted(ks)]


def _us(time_ns: float) -> str:
    return f"{time_ns / 1e3:,.1f} µs"


def _runs(batches: list[int]) -> str:
    """Batch lengths for people, repeats gathered: ``1, 3, 6`` or ``4 x 12, 3``."""
    from itertools import groupby

    groups = [(length, len(list(same))) for length, same in groupby(batches)]
    text = [f"{length} x {times}" if times > 1 else str(length) for length, times in groups]
    return ", ".join(text if len(text) <= 20 else [*text[:10], "...", *text[-9:]])


def _ranges(ks: list[int]) -> str:
    """``2-5, 8``."""
    parts: list[list[int]] = []
    for k in ks:
        if parts and k == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], k]
        else:
            parts.append([k])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
