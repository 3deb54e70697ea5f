"""Figures of a tenant in a leg (``devicelab.experiment.targets.FIGURES``), with their intervals."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from devicelab.analyses import _stats
from devicelab.analyses.priority.data import NS_PER_MS, QUANTILES, Key, Service, standalone_of
from devicelab.experiment import targets
from devicelab.ground.registry import unknown

_UNITS = {
    "share_pct": "%",
    "gpu_use_pct": "%",
    "throughput_per_s": "1/s",
    "empty_seconds": "s",
    "joules_per_request": "J",
}


def figure_of(service: Service, figure: str, services: Mapping[Key, Service]) -> _stats.Interval:
    """A figure of a tenant in a leg, with its interval over repetitions (unknown bounds: insufficient n).

    A ratio to standalone is taken repetition by repetition: both legs stand in one block of the shuffled order.

    Raises:
        ConfigError: no such figure.
    """
    rows = rows_of(service, figure, services).dropna()
    name, _, kind = figure.rpartition("_")
    if rows.empty and name in QUANTILES:
        return _pooled(service, standalone_of(services, service), QUANTILES[name], kind)
    if figure.endswith("_ratio") or figure == "share_pct":
        return _stats.location(np.log(rows)).map(math.exp) if (rows > 0).all() else _stats.location(rows)
    return _stats.location(rows) if figure.startswith("preemption_") else _stats.median_interval(rows)


def _pooled(service: Service, alone: Service | None, q: float, kind: str) -> _stats.Interval:
    """A quantile of all requests, without bounds, where every run has too few for one of its own."""
    own = service.quantile_ms(q)
    if kind == "ms":
        return own
    below = math.nan if alone is None else alone.quantile_ms(q).estimate
    return _stats.Interval(own.estimate / below, None, None, 0) if below > 0 else _stats.NOTHING


def rows_of(service: Service, figure: str, services: Mapping[Key, Service]) -> "pd.Series[float]":
    """A figure of each repetition; empty or NaN where it cannot be told.

    Raises:
        ConfigError: no such figure.
    """
    if figure not in targets.FIGURES:
        raise unknown("figure of a tenant", figure, targets.FIGURES)
    alone = standalone_of(services, service)
    name, _, kind = figure.rpartition("_")
    if name in QUANTILES:
        column = f"response q{QUANTILES[name]}"
        return service.by_run[column] / NS_PER_MS if kind == "ms" else _over(service, alone, column)
    if figure == "share_pct":
        return 100 * _over(service, alone, "throughput_per_s")
    if figure.startswith("preemption_"):
        own = service.by_run[f"service q{QUANTILES[name.removeprefix('preemption_')]}"]
        base = own * np.nan if alone is None else alone.by_run["service q0.5"]
        return (own - base) / NS_PER_MS
    if figure.endswith("joules_per_request"):
        watts = service.by_run["card_w"]
        if figure.startswith("net_"):
            watts = watts - service.by_run["card_idle_w"]
        rate = service.by_run["throughput_per_s"]
        return watts / rate.where(rate > 0)
    return service.by_run[figure]


def _over(service: Service, alone: Service | None, column: str) -> "pd.Series[float]":
    """A column over the same tenant's alone, by repetition; NaN where there is no partner above 0."""
    own = service.by_run[column]
    if alone is None:
        return own * np.nan
    below = alone.by_run[column]
    return own / below.where(below > 0)


def unit_of(figure: str) -> str:
    """The unit findings give a figure in."""
    if figure.endswith("_ms"):
        return "ms"
    return "times that alone" if figure.endswith("_ratio") else _UNITS.get(figure.removeprefix("net_"), "1")


def basis(figure: str, service: Service) -> str:
    """What the bounds of a figure rest on, a phrase."""
    many = f"{service.repetitions} repetition{'s' if service.repetitions != 1 else ''}"
    least = _stats.MIN_REPETITIONS
    few = "" if service.repetitions >= least else f": {least} are the least for bounds"
    name = figure.rpartition("_")[0]
    if name in QUANTILES and service.by_run[f"response q{QUANTILES[name]}"].isna().all():
        per_run = "too few in each for a quantile of its own, which bounds need"
        return f"{service.response_ns.size} requests in {many}: {per_run}"
    if name in QUANTILES or figure.startswith("preemption_"):
        return f"{service.response_ns.size} requests in {many}, each repetition's own quantile counts once{few}"
    return f"{many}{few}"
