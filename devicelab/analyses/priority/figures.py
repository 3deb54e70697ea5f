"""The figures of tenants: the target table, latencies by leg, requests against the neighbours' work, shares."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from devicelab.analyses import _frames, _plot
from devicelab.analyses.base import Figure
from devicelab.analyses.priority import alone, front
from devicelab.analyses.priority.data import NS_PER_MS, Key, Leg, Service, is_alone, leg_of, legs, shared
from devicelab.analyses.priority.figure_of import figure_of, unit_of
from devicelab.analyses.priority.verdicts import important_of, judged
from devicelab.model.experiment import Tenant
from devicelab.model.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MplFigure

_TONES = {"pass": "#00703c", "yes": "#00703c", "fail": "#b3261e", "no": "#b3261e", "invalid": "#b3261e"}
_POINTS = 400
_STRIP_REQUESTS = 12  # scheduled requests of the important tenant in a strip
_STRIP_LEGS = 8
_HEADS = 4  # legs side by side at the head of the target table
_CHARS = 17  # of a row's name in the width of a column
_INSIDE = 5  # curves whose names leave room for the curves


def figures(results: Results, services: Mapping[Key, Service]) -> Iterator[Figure]:
    """All figures the campaign has data for."""
    tenants = results.experiment.tenants
    if not services:
        return
    yield from _target_table(results, services)
    yield from front.figure(results, services)
    yield from alone.figure(results, services)
    for tenant in tenants:
        if any(service.tenant == tenant.name and service.response_ns.size for service in services.values()):
            yield _ecdf(results, services, tenant)
    yield from _strip(results)
    yield from _shares(results, services)


# --- the target table --------------------------------------------------------------------------------------------


def _target_table(results: Results, services: Mapping[Key, Service]) -> Iterator[Figure]:
    rows = [
        {
            "target": f"{one.tenant}: {one.target}",
            "leg": _leg_text(one.leg, results),
            "estimate": one.got.estimate,
            "low": one.got.low,
            "high": one.got.high,
            "unit": unit_of(one.target.figure),
            "verdict": one.verdict,
            "n": one.got.n,
        }
        for one in judged(results, services)
    ]
    if not rows:
        return
    data = pd.DataFrame(rows).astype({"low": float, "high": float})
    yield Figure(
        name="targets",
        title="Targets by leg, with verdicts",
        caption="Estimate and interval; the whole interval has to keep the bound. Native sharing makes no promise: yes "
        "or no; a scheduler passes or fails, or cannot be told from none where native sharing hurts nobody.",
        data=data,
        draw=partial(_draw_targets, data=data),
        answers=("targets",),
    )


def _draw_targets(figure: "MplFigure", *, data: pd.DataFrame) -> None:
    across, down = "leg", "target"
    if data[across].nunique() > _HEADS:  # heads of many legs would run into each other
        across, down = down, across
    rows, columns = list(dict.fromkeys(data[down])), list(dict.fromkeys(data[across]))
    named = max(1.4, max(len(row) for row in rows) / _CHARS)
    figure.set_size_inches(0.5 + 1.35 * (named + len(columns)), 0.5 + 0.46 * len(rows))
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-named, len(columns))
    axes.set_ylim(len(rows), -0.8)
    for x, head in enumerate(columns):
        axes.text(x + 0.5, -0.3, _wrapped(head), ha="center", va="center", fontsize=8, weight="bold")
    for y, row in enumerate(rows):
        axes.axhline(y, color=_plot.SHADE, linewidth=0.8)
        axes.text(0.04 - named, y + 0.5, row, va="center", fontsize=8)
    for cell in data.to_dict("records"):
        left, top = columns.index(cell[across]), rows.index(cell[down])
        verdict = str(cell["verdict"])
        colour = _TONES.get(verdict, _plot.GREY)
        axes.text(left + 0.5, top + 0.32, verdict, ha="center", va="center", fontsize=8, weight="bold", color=colour)
        axes.text(left + 0.5, top + 0.7, _estimate_text(cell), ha="center", va="center", fontsize=6.5, color=_plot.INK)


def _estimate_text(row: Mapping[Any, Any]) -> str:
    estimate, low, high = (float(row[name]) for name in ("estimate", "low", "high"))
    if not np.isfinite(estimate):
        return ""
    unit = {"1": "", "times that alone": " ×"}.get(str(row["unit"]), f" {row['unit']}")  # a cell is narrow
    ends = f" [{low:.3g}, {high:.3g}]" if np.isfinite(low) and np.isfinite(high) else ""
    return f"{estimate:.3g}{ends}{unit}"


# --- latency -----------------------------------------------------------------------------------------------------


def _ecdf(results: Results, services: Mapping[Key, Service], tenant: Tenant) -> Figure:
    order = {leg: i for i, leg in enumerate(legs(results))}
    own = [service for service in services.values() if service.tenant == tenant.name and service.response_ns.size]
    own.sort(key=lambda service: (not is_alone(service.leg), order.get((service.leg, service.pressure), 0)))
    curves = []
    for service in own:
        at = np.linspace(0, 1, min(_POINTS, service.response_ns.size + 1))
        values = np.quantile(service.response_ns / NS_PER_MS, at)
        label = _leg_text((service.leg, service.pressure), results)
        curves.append(
            pd.DataFrame({"leg": label, "response_ms": values, "share": at, "requests": service.response_ns.size})
        )
    data = pd.concat(curves, ignore_index=True)
    return Figure(
        name=_plot.name_of("latency", tenant.name),
        title=f"Response of {tenant.name} by leg (priority {tenant.priority})",
        caption=f"Requests of all valid repetitions, {tenant.arrivals}, from the scheduled time; one that still waited "
        "at the end counts with what it had waited. Grey line: the deadline, if there is one.",
        data=data,
        draw=partial(_draw_ecdf, data=data, deadline_ms=tenant.deadline_ms),
    )


def _draw_ecdf(figure: "MplFigure", *, data: pd.DataFrame, deadline_ms: float | None) -> None:
    beside = data["leg"].nunique() > _INSIDE
    figure.set_size_inches(9.5 if beside else 6.5, 3.4)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    for index, (leg, part) in enumerate(data.groupby("leg", sort=False)):
        style = _plot.STYLES[index % len(_plot.STYLES)]
        label = f"{leg} ({int(part['requests'].iloc[0])} requests)"
        axes.step(part["response_ms"], part["share"], color=_plot.colour(index), linestyle=style, label=label)
    if deadline_ms is not None:
        axes.axvline(deadline_ms, color=_plot.GREY, linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("response, ms (log)", fontsize=8)
    axes.set_ylabel("share of requests", fontsize=8)
    axes.set_ylim(0, 1.005)
    if beside:
        axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.02))
    else:
        axes.legend(fontsize=7, frameon=False)
    _plot.clean(axes, grid="both")


# --- requests against the neighbours' work -----------------------------------------------------------------------


def _strip(results: Results) -> Iterator[Figure]:
    """The important tenant's requests and what its neighbours did meanwhile: one run a leg, at its slowest request."""
    important = important_of(results.experiment.tenants).name
    requests = results.samples("requests")
    if requests.empty:
        return
    requests = requests.assign(tenant=requests["program"].str.partition("#")[0])
    strips = []
    for leg, run_id in _typical_runs(results, requests, important).items():
        mine = requests[requests["run_id"] == run_id]
        part = _around_slowest(mine, important)
        strips.append(part.assign(leg=_leg_text(leg, results), run_id=run_id))
    if not strips:
        return
    data = pd.concat(strips, ignore_index=True)
    yield Figure(
        name="requests-strip",
        title=f"Requests of {important} against the neighbours' work",
        caption="One run a leg (the one with the median P99), around its slowest request. Bars: being served, a row "
        "a process; pale, below them: waiting since the scheduled time, darker the more wait.",
        data=data,
        draw=partial(_draw_strip, data=data, tenants=[tenant.name for tenant in results.experiment.tenants]),
    )


def _typical_runs(results: Results, requests: pd.DataFrame, important: str) -> dict[Leg, str]:
    """By leg the valid run with the median P99 of the important tenant; of several pressures the last."""
    mine = requests[requests["tenant"] == important]
    p99 = (mine["end_ns"] - mine["scheduled_ns"]).groupby(mine["run_id"].astype(str)).quantile(0.99)
    runs: dict[Leg, list[str]] = {}
    for run in _frames.valid_runs(results).to_dict("records"):
        if run["run_id"] in p99.index:
            runs.setdefault(leg_of(run), []).append(run["run_id"])
    order = [leg for leg in legs(results) if leg in runs]
    last = next((pressure for scheduler, pressure in reversed(order) if not is_alone(scheduler)), "")
    chosen = [leg for leg in order if is_alone(leg[0])] + [leg for leg in order if shared(leg) and leg[1] == last]
    found = {}
    for leg in chosen[:_STRIP_LEGS]:
        ranked = sorted(runs[leg], key=lambda run_id: float(p99[run_id]))
        found[leg] = ranked[(len(ranked) - 1) // 2]
    return found


def _around_slowest(run: pd.DataFrame, important: str) -> pd.DataFrame:
    mine = run[run["tenant"] == important].sort_values("scheduled_ns")
    gaps = mine["scheduled_ns"].diff().dropna()
    length = float(np.clip(_STRIP_REQUESTS * (gaps.median() if len(gaps) else 1e8), 2e7, 1e10))
    slowest = mine.iloc[int(np.argmax(mine["end_ns"] - mine["scheduled_ns"]))]
    begin = max(0.0, float(slowest["scheduled_ns"] + slowest["end_ns"]) / 2 - length / 2)
    inside = run[(run["end_ns"] > begin) & (run["scheduled_ns"] < begin + length)]
    columns = {f"{name}_ms": (inside[f"{name}_ns"] - begin) / NS_PER_MS for name in ("scheduled", "start", "end")}
    frame = pd.DataFrame({"tenant": inside["tenant"], "program": inside["program"], **columns})
    return frame.assign(length_ms=length / NS_PER_MS)


def _draw_strip(figure: "MplFigure", *, data: pd.DataFrame, tenants: Sequence[str]) -> None:
    names = list(dict.fromkeys(data["leg"]))
    lanes = {leg: [t for t in tenants if ((data["leg"] == leg) & (data["tenant"] == t)).any()] for leg in names}
    figure.set_size_inches(7.0, 0.7 + sum(0.35 + 0.26 * len(found) for found in lanes.values()))
    figure.set_layout_engine("constrained")
    heights = [len(lanes[leg]) + 0.6 for leg in names]
    grid = figure.subplots(len(names), 1, squeeze=False, sharex=True, height_ratios=heights).ravel()
    longest = float(data["length_ms"].max())
    for axes, leg in zip(grid, names, strict=True):
        for lane, tenant in enumerate(lanes[leg]):
            part = data[(data["leg"] == leg) & (data["tenant"] == tenant)]
            _draw_lane(axes, part, lane, _plot.colour(tenants.index(tenant)))
        axes.set_yticks(range(len(lanes[leg])), lanes[leg])
        axes.set_ylim(len(lanes[leg]) - 0.4, -0.6)
        axes.set_xlim(0, longest)
        axes.set_title(leg, fontsize=8, loc="left", pad=2)
        _plot.clean(axes, grid="x")
    grid[-1].set_xlabel("ms", fontsize=8)


def _draw_lane(axes: "Axes", part: pd.DataFrame, lane: int, ink: str) -> None:
    """A tenant's lane: its processes one under the other, and below them what waits, darker the more waits."""
    waits = part[part["start_ms"] > part["scheduled_ms"]]
    spans = list(zip(waits["scheduled_ms"], waits["start_ms"] - waits["scheduled_ms"], strict=True))
    axes.broken_barh(spans, (lane + 0.22, 0.18), color=ink, alpha=0.2, linewidth=0)
    programs = list(dict.fromkeys(part["program"]))
    height = 0.6 / len(programs)
    for row, program in enumerate(programs):
        own = part[part["program"] == program]
        work = list(zip(own["start_ms"], own["end_ms"] - own["start_ms"], strict=True))
        thin = 0.3 if len(programs) < 8 else 0.1
        axes.broken_barh(work, (lane - 0.4 + row * height, height), facecolor=ink, edgecolor="white", linewidth=thin)


# --- shares ------------------------------------------------------------------------------------------------------


def _shares(results: Results, services: Mapping[Key, Service]) -> Iterator[Figure]:
    rows = []
    for leg in legs(results):
        for tenant in results.experiment.tenants:
            service = services.get((tenant.name, *leg))
            if service is not None and shared(leg):
                got = figure_of(service, "share_pct", services)
                rows.append((f"{_leg_text(leg, results)}: {tenant.name}", got.estimate, got.low, got.high, got.n))
    data = pd.DataFrame(rows, columns=["label", "estimate", "low", "high", "n"])
    data = data.astype({"estimate": float, "low": float, "high": float})
    if data["estimate"].notna().any():
        yield Figure(
            name="throughput-shares",
            title="What is left of each tenant's throughput",
            caption=f"Estimate, 95% interval over repetitions ({_plot.counted(list(data['n']))}); 100 is standalone.",
            data=data,
            draw=partial(_draw_shares, data=data),
        )


def _draw_shares(figure: "MplFigure", *, data: pd.DataFrame) -> None:
    axes = _plot.tall(figure, len(data))
    _plot.dots(axes, data)
    axes.axvline(100, color=_plot.GREY, linewidth=0.8)
    axes.set_xlim(left=0)
    axes.set_xlabel("throughput, % of standalone", fontsize=8)


def _leg_text(leg: Leg, results: Results) -> str:
    """A leg for people; the pressure is said where there are several."""
    several = len(results.experiment.factors.get("pressure", ())) > 1
    return f"{leg[0]}, {leg[1]}" if leg[1] and several else leg[0]


def _wrapped(head: str) -> str:
    return head.replace(", ", "\n").replace(": ", ":\n")
