"""Figures of a tenant in a leg (``devicelab.experiment.targets.FIGURES``), with their intervals."""

from collections.abc import Mapping

from devicelab.analyses import _stats
from devicelab.analyses.priority.data import QUANTILES, Key, Service, standalone_of
from devicelab.experiment import targets
from devicelab.ground.registry import unknown

_UNITS = {"share_pct": "%", "gpu_use_pct": "%", "throughput_per_s": "1/s", "empty_seconds": "s"}


def figure_of(service: Service, figure: str, services: Mapping[Key, Service]) -> _stats.Interval:
    """A figure of a tenant in a leg, with its interval (unknown bounds: insufficient n).

    Raises:
        ConfigError: no such figure.
    """
    if figure not in targets.FIGURES:
        raise unknown("figure of a tenant", figure, targets.FIGURES)
    alone = standalone_of(services, service)
    name, _, kind = figure.rpartition("_")
    if name in QUANTILES:
        own = service.quantile_ms(QUANTILES[name])
        if kind == "ms":
            return own
        return quotient(own, None if alone is None else alone.quantile_ms(QUANTILES[name]))
    if figure == "share_pct":
        below = None if alone is None else alone.range_of("throughput_per_s")
        return quotient(service.range_of("throughput_per_s"), below).map(lambda share: 100 * share)
    if figure.startswith("preemption_"):
        quantile = QUANTILES[name.removeprefix("preemption_")]
        base = _stats.NOTHING if alone is None else alone.quantile_ms(0.5, "service")
        return difference(service.quantile_ms(quantile, "service"), base)
    return service.range_of(figure)


def unit_of(figure: str) -> str:
    """The unit findings give a figure in."""
    if figure.endswith("_ms"):
        return "ms"
    return "x" if figure.endswith("_ratio") else _UNITS.get(figure, "1")


def basis(figure: str, service: Service) -> str:
    """What the bounds of a figure mean, a phrase."""
    many = f"{service.repetitions} repetition{'s' if service.repetitions != 1 else ''}"
    if figure.rpartition("_")[0] in QUANTILES or figure.startswith("preemption_"):
        return f"bounds: order statistics of {service.response_ns.size} requests, widened to the range over {many}"
    return f"bounds: range over {many}" if service.repetitions >= 3 else f"{many}: three are the least for bounds"


def quotient(above: _stats.Interval, below: _stats.Interval | None) -> _stats.Interval:
    """A ratio whose bounds are those of the worst corners: conservative."""
    if below is None or not below.estimate > 0:
        return _stats.NOTHING
    n = min(above.n, below.n)
    estimate = above.estimate / below.estimate
    if above.low is None or above.high is None or not below.low or not below.high:
        return _stats.Interval(estimate, None, None, n)
    return _stats.Interval(estimate, above.low / below.high, above.high / below.low, n)


def difference(above: _stats.Interval, below: _stats.Interval) -> _stats.Interval:
    """A difference whose bounds are those of the worst corners: conservative."""
    n = min(above.n, below.n)
    estimate = above.estimate - below.estimate
    if above.low is None or above.high is None or below.low is None or below.high is None:
        return _stats.Interval(estimate, None, None, n)
    return _stats.Interval(estimate, above.low - below.high, above.high - below.low, n)
