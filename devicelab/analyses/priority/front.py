"""The Pareto front of schedulers: the important tenant's latency against what is left for the least important one."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from devicelab.analyses import _plot
from devicelab.analyses.base import Figure
from devicelab.analyses.priority.data import Key, Service, legs, shared
from devicelab.analyses.priority.figure_of import figure_of
from devicelab.analyses.priority.verdicts import important_of
from devicelab.model.experiment import Tenant
from devicelab.model.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MplFigure

_LEAST_LEGS = 2


def front(results: Results, services: Mapping[Key, Service]) -> pd.DataFrame:
    """One row a shared leg and pressure: P50 and P99 ratio, share, their bounds, and whether it lies on the front.

    A leg is off the front if another of the same pressure is at least as good in P99 ratio and share, and better in one
    (by the estimates; intervals that overlap leave that open).
    """
    tenants = results.experiment.tenants
    important, least = important_of(tenants), least_of(tenants)
    rows = []
    for leg in legs(results):
        high, low = services.get((important.name, *leg)), services.get((least.name, *leg))
        if not shared(leg) or high is None or low is None or important.name == least.name:
            continue
        row: dict[str, object] = {"leg": leg[0], "pressure": leg[1], "n": high.repetitions}
        for name, service, figure in (
            ("p50_ratio", high, "p50_ratio"), ("p99_ratio", high, "p99_ratio"), ("share_pct", low, "share_pct"),
        ):  # fmt: skip
            got = figure_of(service, figure, services)
            row |= {name: got.estimate, f"{name} low": got.low, f"{name} high": got.high}
        rows.append(row)
    columns = [f"{name}{end}" for name in ("p50_ratio", "p99_ratio", "share_pct") for end in ("", " low", " high")]
    data = pd.DataFrame(rows, columns=["leg", "pressure", "n", *columns]).astype(dict.fromkeys(columns, float))
    data["on_front"] = [_undominated(row, data) for row in data.to_dict("records")]
    return data


def least_of(tenants: tuple[Tenant, ...]) -> Tenant:
    """The tenant of the lowest priority (the last of several)."""
    return min(reversed(tenants), key=lambda tenant: tenant.priority)


def _undominated(row: Mapping[object, object], data: pd.DataFrame) -> bool:
    ratio, share = float(str(row["p99_ratio"])), float(str(row["share_pct"]))
    if not (np.isfinite(ratio) and np.isfinite(share)):
        return False
    same = data[data["pressure"] == row["pressure"]]
    as_good = (same["p99_ratio"] <= ratio) & (same["share_pct"] >= share)
    better = (same["p99_ratio"] < ratio) | (same["share_pct"] > share)
    return not bool((as_good & better).any())


def figure(results: Results, services: Mapping[Key, Service]) -> Iterator[Figure]:
    """The front as a picture, where several schedulers shared the device."""
    data = front(results, services)
    if len(data) < _LEAST_LEGS or not np.isfinite(data["p99_ratio"]).any():
        return
    tenants = results.experiment.tenants
    high, low = important_of(tenants).name, least_of(tenants).name
    legs_at = zip(data["leg"], data["pressure"], data["p99_ratio"], data["share_pct"], strict=True)
    at = {f"{leg} {pressure}".strip(): (x, y) for leg, pressure, x, y in legs_at}
    yield Figure(
        name="front",
        title=f"What the latency of {high} costs {low}",
        caption="Estimates with 95% intervals over repetitions (none below six). Better is further left and further "
        "up; filled: on the Pareto front, no other leg of that pressure is better in one and as good in the other.",
        data=data,
        draw=partial(_draw, data=data, high=high, low=low),
        chart=_plot.points_chart(f"P99 of {high}, times standalone", f"throughput of {low}, % of standalone", at),
    )


def _draw(figure: "MplFigure", *, data: pd.DataFrame, high: str, low: str) -> None:
    figure.set_size_inches(7.2, 0.9 + max(3.2, 0.17 * len(data)))
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    pressures = list(dict.fromkeys(data["pressure"]))
    for number, row in enumerate(data.to_dict("records"), 1):
        ink = _plot.colour(pressures.index(row["pressure"]))
        x, y = float(row["p99_ratio"]), float(row["share_pct"])
        ends = [float(row[name]) for name in ("p99_ratio low", "p99_ratio high", "share_pct low", "share_pct high")]
        if all(map(np.isfinite, ends)):
            axes.plot(ends[:2], [y, y], color=ink, linewidth=0.9, alpha=0.6)
            axes.plot([x, x], ends[2:], color=ink, linewidth=0.9, alpha=0.6)
        fill = ink if row["on_front"] else "white"
        at = f", {row['pressure']}" if len(pressures) > 1 and row["pressure"] else ""
        # Names would lie on each other where schedulers are alike, so points have numbers.
        name = f"{number}  {row['leg']}{at}"
        axes.plot([x], [y], "o", color=fill, markeredgecolor=ink, markersize=6, label=name)
        axes.annotate(str(number), (x, y), xytext=(5, 4), textcoords="offset points", fontsize=7, color=ink)
    for index, pressure in enumerate(pressures):
        part = data[(data["pressure"] == pressure) & data["on_front"]].sort_values("p99_ratio")
        axes.step(part["p99_ratio"], part["share_pct"], where="post", color=_plot.colour(index), linewidth=0.8)
    axes.axvline(1, color=_plot.GREY, linewidth=0.8)
    axes.axhline(100, color=_plot.GREY, linewidth=0.8)
    axes.margins(x=0.1, y=0.1)
    axes.set_xlabel(f"P99 of {high}, times standalone", fontsize=8)
    axes.set_ylabel(f"throughput of {low}, % of standalone", fontsize=8)
    figure.legend(loc="outside right upper", fontsize=7, frameon=False, handletextpad=0.2)
    _plot.clean(axes, grid="both")
