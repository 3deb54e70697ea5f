"""Tenants that run alone: was each of them served, and how fast?"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from devicelab.analyses import _plot
from devicelab.analyses.base import Figure
from devicelab.analyses.priority.data import Key, Service, legs, shared
from devicelab.analyses.priority.verdicts import left_out
from devicelab.model.experiment import STANDALONE, Finding, Verdict
from devicelab.model.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MplFigure


def answer(results: Results, services: Mapping[Key, Service]) -> Finding:
    """Yes if every tenant completed requests alone in a valid run, no if one that ran did not; invalid if none did.

    One that was never run, in a campaign that was cut off, was neither served nor refused.
    """
    runs = results.runs()
    ran = set(runs["tenant"]) if "tenant" in runs else set()
    served: list[str] = []
    missed: list[str] = []
    unrun: list[str] = []
    for tenant in results.experiment.tenants:
        own = _alone(services, tenant.name)
        done = 0 if own is None else own.service_ns.size
        (served if done else missed if tenant.name in ran else unrun).append(tenant.name)
    why = [f"not served: {', '.join(missed)}"] if missed else []
    why += [f"not run: {', '.join(unrun)}"] if unrun else []
    why += [text for reasons in left_out(results).values() for text in reasons]
    verdict: Verdict = "no" if missed else "insufficient n" if unrun else "yes"
    return Finding(
        analysis="priority",
        claim="Is every tenant served alone?",
        verdict=verdict if served else "invalid",
        n=min((service.repetitions for service in services.values()), default=0),
        reasons=(f"{len(served)} of {len(results.experiment.tenants)} tenants completed requests", *why),
        quantity="served",
        comparison=STANDALONE,
    )


def figure(results: Results, services: Mapping[Key, Service]) -> Iterator[Figure]:
    """What each tenant does alone as a table, where tenants never ran together."""
    if any(shared(leg) for leg in legs(results)):
        return
    rows = []
    for tenant in results.experiment.tenants:
        own = _alone(services, tenant.name)
        if own is not None:
            model = " ".join(f"{tenant.params[key]}" for key in ("model", "mode") if key in tenant.params)
            batch = tenant.params.get("batch", 1)
            rate = own.figure("throughput_per_s").estimate
            p50, count = own.quantile_ms(0.5).estimate, own.service_ns.size
            rows.append((tenant.name, model, int(str(batch)), int(count), p50, rate, own.repetitions))
    columns = ["tenant", "model", "batch", "requests", "p50_ms", "throughput_per_s", "n"]
    data = pd.DataFrame(rows, columns=columns)
    if len(data):
        yield Figure(
            name="alone",
            title="Every tenant alone",
            caption="Requests of all valid repetitions, the median response and the rate of completions.",
            data=data,
            draw=partial(_draw, data=data),
        )


def _alone(services: Mapping[Key, Service], tenant: str) -> Service | None:
    return next((one for (name, leg, _), one in services.items() if (name, leg) == (tenant, STANDALONE)), None)


def _draw(figure: "MplFigure", *, data: pd.DataFrame) -> None:
    figure.set_size_inches(6.5, 0.6 + 0.24 * len(data))
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(len(data) + 0.4, -1)
    places = (0.01, 0.22, 0.60, 0.72, 0.86, 0.99)
    heads = ("tenant", "model", "batch", "requests", "P50, ms", "requests/s")
    for index, (x, head) in enumerate(zip(places, heads, strict=True)):
        align = "left" if index < 2 else "right"
        axes.text(x, -0.3, head, fontsize=8, weight="bold", ha=align, va="center")
        for y, row in enumerate(data.itertuples(index=False)):
            text = str(row[index]) if index < 4 else f"{float(row[index]):.4g}"
            axes.text(x, y + 0.5, text, fontsize=8, ha=align, va="center")
    for y in range(len(data) + 1):
        axes.axhline(y, color=_plot.SHADE, linewidth=0.8)
