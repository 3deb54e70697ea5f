"""Several tenants on one GPU (or CPU): does a scheduler give the important one its latency without starving others?

Judged per target of each tenant, with interval; a leg whose treatment was not seen is invalid and not judged here (its
runs are flagged). Where the native leg does not hurt the important tenant, a scheduler's verdict is "cannot tell here".
"""

import operator
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from devicelab.analyses import _frames, _plot, _stats
from devicelab.analyses._priority_data import (
    NS_PER_MS,
    QUANTILES,
    Key,
    Service,
    jain,
    legs,
    load,
    standalone_of,
)
from devicelab.analyses.base import Figure
from devicelab.errors import ConfigError
from devicelab.model.experiment import Finding, Tenant, Verdict
from devicelab.model.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MplFigure

# Native has to raise the important tenant's P99 by so much over standalone before a scheduler can be told from none.
HURT = 1.10

_BOUND = re.compile(r"\s*(<=|>=|<|>)\s*([0-9.]+)\s*")
FIGURES = (
    "p50_ms",
    "p99_ms",
    "p99.9_ms",
    "p50_ratio",
    "p99_ratio",
    "share_pct",
    "throughput_per_s",
    "dropped",
    "missed",
    "longest_gap_ms",
    "empty_seconds",
)


def analyse(results: Results) -> tuple[Finding, ...]:
    """Targets, discrimination, throughput shares and fairness of every leg."""
    services = load(results)
    simulated = _frames.simulated(results)
    found: list[Finding] = []
    important = max(results.experiment.tenants, key=lambda tenant: tenant.priority, default=None)
    if important is None or not services:
        return ()
    hurts = {pressure: _hurt(services, important, pressure) for leg, pressure in legs(services) if leg == "native"}
    found += [_discrimination(interval, important, pressure) for pressure, interval in hurts.items()]
    for leg, pressure in legs(services):
        for tenant in results.experiment.tenants:
            service = services.get((tenant.name, leg, pressure))
            if service is not None:
                found += _targets(service, tenant, services, hurts.get(pressure))
        found += _fairness(services, results.experiment.tenants, leg, pressure)
    return tuple(finding.model_copy(update={"simulated": simulated}) for finding in found)


def table(results: Results) -> pd.DataFrame:
    """One row a tenant, leg and pressure: latencies in ms with bounds, throughput, share, starvation, drops, n."""
    services = load(results)
    rows = []
    for service in services.values():
        row: dict[str, object] = {"tenant": service.tenant, "leg": service.leg, "pressure": service.pressure}
        for figure in FIGURES:
            got = figure_of(service, figure, services)
            row |= {figure: got.estimate, f"{figure} low": got.low, f"{figure} high": got.high}
        rows.append({**row, "requests": service.response_ns.size, "repetitions": service.repetitions})
    return pd.DataFrame(rows)


def figure_of(service: Service, figure: str, services: Mapping[Key, Service]) -> _stats.Interval:
    """A figure of a tenant in a leg, with its interval (unknown bounds: insufficient n).

    Raises:
        ConfigError: no such figure.
    """
    if figure not in FIGURES:
        raise ConfigError(f"no figure {figure!r} of a tenant", hint=f"there are {', '.join(FIGURES)}")
    alone = standalone_of(services, service)
    name = figure.rpartition("_")[0]
    if figure.endswith("_ms") and name in QUANTILES:
        return service.quantile_ms(QUANTILES[name])
    if figure.endswith("_ratio"):
        below = None if alone is None else alone.quantile_ms(QUANTILES[name])
        return _quotient(service.quantile_ms(QUANTILES[name]), below)
    if figure == "share_pct":
        below = None if alone is None else alone.range_of("throughput_per_s")
        return _quotient(service.range_of("throughput_per_s"), below).map(lambda share: 100 * share)
    return service.range_of(figure)


def _quotient(above: _stats.Interval, below: _stats.Interval | None) -> _stats.Interval:
    """A ratio whose bounds are those of the worst corners: conservative."""
    if below is None or not below.estimate > 0:
        return _stats.NOTHING
    n = min(above.n, below.n)
    estimate = above.estimate / below.estimate
    if above.low is None or above.high is None or not below.low or not below.high:
        return _stats.Interval(estimate, None, None, n)
    return _stats.Interval(estimate, above.low / below.high, above.high / below.low, n)


def _hurt(services: Mapping[Key, Service], important: Tenant, pressure: str) -> _stats.Interval:
    native = services.get((important.name, "native", pressure))
    return figure_of(native, "p99_ratio", services) if native is not None else _stats.NOTHING


def _discrimination(hurt: _stats.Interval, important: Tenant, pressure: str) -> Finding:
    where = f" at pressure {pressure}" if pressure else ""
    verdict: Verdict = "insufficient n" if not hurt.known else "yes" if (hurt.low or 0) > HURT else "no"
    return Finding(
        analysis="priority",
        claim=f"does native sharing hurt {important.name} (P99 over standalone){where}?",
        verdict=verdict,
        estimate=_finite(hurt.estimate),
        low=hurt.low,
        high=hurt.high,
        unit="x",
        n=hurt.n,
        reasons=() if verdict == "yes" else (f"a scheduler can only be told from none where this exceeds {HURT}",),
    )


def _targets(
    service: Service, tenant: Tenant, services: Mapping[Key, Service], hurt: _stats.Interval | None
) -> list[Finding]:
    found = []
    for figure, bound in tenant.targets.items():
        match = _BOUND.fullmatch(bound)
        if match is None:
            raise ConfigError(f"target {figure} of {tenant.name}: {bound!r} is no bound such as '< 50'")
        got = figure_of(service, figure, services)
        verdict, reasons = _judge(got, match[1], float(match[2])), []
        is_scheduler = service.leg != "native"
        if is_scheduler and verdict == "pass" and (hurt is None or not hurt.known or (hurt.low or 0) <= HURT):
            verdict = "cannot tell here"
            reasons.append("native sharing does not visibly hurt the important tenant at this pressure")
        where = f" at pressure {service.pressure}" if service.pressure else ""
        found.append(
            Finding(
                analysis="priority",
                claim=f"{service.leg}{where}: {tenant.name} {figure} {match[1]} {match[2]}",
                verdict=verdict,
                estimate=_finite(got.estimate),
                low=got.low,
                high=got.high,
                unit=_unit(figure),
                n=got.n,
                reasons=tuple(reasons),
            )
        )
    return found


def _judge(got: _stats.Interval, comparison: str, bound: float) -> Verdict:
    if not got.known or got.low is None or got.high is None:
        return "insufficient n"
    keeps = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}[comparison]
    ends = (keeps(got.low, bound), keeps(got.high, bound))
    return "pass" if all(ends) else "inconclusive" if any(ends) else "fail"


def _fairness(services: Mapping[Key, Service], tenants: tuple[Tenant, ...], leg: str, pressure: str) -> list[Finding]:
    where = f" at pressure {pressure}" if pressure else ""
    shares = {}
    for tenant in tenants:
        service = services.get((tenant.name, leg, pressure))
        if service is not None:
            shares[tenant.name] = figure_of(service, "share_pct", services)
    known = {name: share.estimate for name, share in shares.items() if np.isfinite(share.estimate)}
    if not known or len(known) < len(tenants):
        return []
    index = jain(np.array(list(known.values())))
    starved = [name for name in known if services[name, leg, pressure].range_of("empty_seconds").estimate > 0]
    reasons = [f"{name}: {share:.0f}% of its standalone throughput" for name, share in known.items()]
    reasons += [f"{name} had whole seconds without a completion" for name in starved]
    return [
        Finding(
            analysis="priority",
            claim=f"{leg}{where}: fairness (Jain's index over shares of standalone throughput)",
            verdict="info",
            estimate=index,
            n=min(share.n for share in shares.values()),
            reasons=tuple(reasons),
        )
    ]


def _unit(figure: str) -> str:
    if figure.endswith("_ms"):
        return "ms"
    return {"share_pct": "%", "throughput_per_s": "1/s", "empty_seconds": "s"}.get(
        figure, "x" if figure.endswith("_ratio") else "1"
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def figures(results: Results) -> tuple[Figure, ...]:
    """Latency ECDFs by leg for every tenant, throughput shares, and a strip of requests against the neighbour's."""
    services = load(results)
    if not services:
        return ()
    found = [_ecdf(services, tenant) for tenant in results.experiment.tenants]
    return (*found, _shares(services, results.experiment.tenants))


def _ecdf(services: Mapping[Key, Service], tenant: Tenant) -> Figure:
    own = sorted((s for s in services.values() if s.tenant == tenant.name), key=lambda s: (s.pressure, s.leg))
    curves = []
    for service in own:
        at = np.linspace(0, 1, min(400, service.response_ns.size + 1))
        values = np.quantile(service.response_ns / NS_PER_MS, at)
        label = service.leg + (f", {service.pressure}" if service.pressure else "")
        curves.append(pd.DataFrame({"leg": label, "response_ms": values, "share": at, "n": service.response_ns.size}))
    data = pd.concat(curves, ignore_index=True)

    def draw(figure: "MplFigure") -> None:
        figure.set_size_inches(6.5, 3.4)
        figure.set_layout_engine("constrained")
        axes = figure.subplots()
        for index, (leg, part) in enumerate(data.groupby("leg", sort=False)):
            style = _plot.STYLES[index % len(_plot.STYLES)]
            count = int(part["n"].iloc[0])
            axes.step(
                part["response_ms"],
                part["share"],
                color=_plot.colour(index),
                linestyle=style,
                label=f"{leg} (n={count})",
            )
        if tenant.deadline_ms is not None:
            axes.axvline(tenant.deadline_ms, color=_plot.GREY, linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xlabel("response from the scheduled time, ms (log)", fontsize=8)
        axes.set_ylabel("share of requests", fontsize=8)
        axes.set_ylim(0, 1.005)
        axes.legend(fontsize=7, frameon=False)
        _plot.clean(axes, grid="both")

    return Figure(
        name=_plot.name_of("latency", tenant.name),
        title=f"Response of {tenant.name} by leg (priority {tenant.priority})",
        caption=f"Requests of all valid repetitions, {tenant.arrivals}; grey line: the deadline, if there is one.",
        data=data,
        draw=draw,
    )


def _shares(services: Mapping[Key, Service], tenants: tuple[Tenant, ...]) -> Figure:
    rows = []
    for leg, pressure in legs(services):
        for tenant in tenants:
            service = services.get((tenant.name, leg, pressure))
            if service is not None:
                got = figure_of(service, "share_pct", services)
                label = f"{leg}{f', {pressure}' if pressure else ''}: {tenant.name}"
                rows.append((label, got.estimate, got.low, got.high, got.n))
    data = pd.DataFrame(rows, columns=["label", "estimate", "low", "high", "n"]).astype({"low": float, "high": float})

    def draw(figure: "MplFigure") -> None:
        axes = _plot.tall(figure, len(data))
        _plot.dots(axes, data)
        axes.axvline(100, color=_plot.GREY, linewidth=0.8)
        axes.set_xlim(left=0)
        axes.set_xlabel("throughput, % of standalone", fontsize=8)

    return Figure(
        name="throughput-shares",
        title="What is left of each tenant's throughput",
        caption=f"Median and range over repetitions ({_plot.counted(list(data['n']))}); 100 is standalone.",
        data=data,
        draw=draw,
    )
