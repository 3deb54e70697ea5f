"""``devicelab klo``: the launch model on the command line."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from devicelab.analyses.klo_model import LaunchCosts


def register(app: typer.Typer) -> None:
    """Add the command group to the application."""
    group = typer.Typer(no_args_is_help=True, help="Kernel launch overhead: what the model says.")
    group.command("model")(model)
    group.callback()(_group)
    app.add_typer(group, name="klo")


def _group() -> None:
    """Kernel launch overhead: what the model says."""


def model(
    *,
    n: Annotated[int, typer.Option("--n", min=1, max=100_000, help="Kernels of one inference.")],
    t_prod_us: Annotated[float, typer.Option(min=0, help="Time the host takes to produce a kernel.")],
    t_ker_us: Annotated[float, typer.Option(min=0, help="Time a kernel takes on the GPU.")],
    flush_us: Annotated[float, typer.Option(min=0, help="CPU time of one flush.")],
    start_idle_us: Annotated[float, typer.Option(min=0, help="From flush to start on an idle GPU.")],
    gap_us: Annotated[float, typer.Option(min=0, help="Gap between two batches when the next one waits.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, times in nanoseconds.")] = False,
) -> None:
    """Makespan for every flush period K, the best constant K and the best schedule, for N equal kernels."""
    from devicelab.analyses.klo_model import LaunchCosts
    from devicelab.errors import ConfigError

    try:
        costs = LaunchCosts(flush_us * 1e3, start_idle_us * 1e3, gap_us * 1e3)
        answer = _answer(n, t_prod_us * 1e3, t_ker_us * 1e3, costs)
    except ValueError as error:
        raise ConfigError(str(error), hint="fewer kernels, or look at --help") from error
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        _show(answer)


def _answer(n: int, t_prod_ns: float, t_ker_ns: float, costs: "LaunchCosts") -> dict[str, Any]:
    import numpy as np

    from devicelab.analyses import klo_model

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
