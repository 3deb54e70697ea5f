"""The experiment's own checks: a figure of some cells, or its ratio to other cells, against a bound."""

import operator
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from devicelab.analyses import _findings, _frames, _stats
from devicelab.errors import ConfigError
from devicelab.experiment.bounds import RATIO_UNITS, parse_bound
from devicelab.ground.registry import unknown
from devicelab.model.experiment import Check, Finding, Level, Verdict
from devicelab.model.results import Results

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SCALES: dict[str, tuple[str, float]] = {
    "ns": ("ns", 1.0),
    "us": ("ns", 1e3),
    "µs": ("ns", 1e3),
    "ms": ("ns", 1e6),
    "s": ("ns", 1e9),
}
CPU_USE = "cpu_use_pct"


def analyse(results: Results) -> tuple[Finding, ...]:
    """One finding a check.

    A check passes if the whole 95% interval of the median over runs keeps the bound, and fails if the whole interval
    breaks it; otherwise it is inconclusive, or says that n is insufficient. With ``against`` the figure is the ratio
    of the two selections; a bound in percent is then on the ratio less 1. The metric ``cpu_use_pct`` (CPU use of the
    whole device) is computed from the evidence; any other is a figure of the runs, ``PROGRAM.metric`` if several
    programs have it. A check that cannot be judged (no run has the metric, the unit does not fit) is ``invalid``.
    """
    runs = _frames.valid_runs(results)
    return tuple(_judged(check, results, runs) for check in results.experiment.checks)


def _judged(check: Check, results: Results, runs: pd.DataFrame) -> Finding:
    try:
        return _judge(check, results, runs)
    except ConfigError as error:  # the runs are there all the same, and so is everything else that was found
        return Finding(
            analysis="checks",
            claim=f"{check.name}: {check.metric} {check.bound}",
            verdict="invalid",
            reasons=(error.message, *((error.hint,) if error.hint else ())),
            simulated=_frames.simulated(results),
        )


def _judge(check: Check, results: Results, runs: pd.DataFrame) -> Finding:
    sign, bound, unit = parse_bound(check.bound)
    values = _values(check.metric, results, runs)
    chosen = values.reindex(_select(runs, check.where)).dropna()
    reasons = []
    if check.against is None:
        own = "%" if check.metric == CPU_USE else _frames.unit_of(results, check.metric)
        scale = _scale(check, unit, own)
        got = _stats.median_interval(chosen.to_numpy() / scale)
        shown = unit or own
    else:
        other = values.reindex(_select(runs, check.against)).dropna()
        percent = unit == "%"
        if unit not in RATIO_UNITS:
            raise ConfigError(f"check {check.name!r}: a ratio has no unit {unit!r}", hint='use "%", "x" or none')
        got = _stats.ratio(other.to_numpy(), chosen.to_numpy())
        got = got.map(lambda x: (x - 1) * 100) if percent else got
        shown = "%" if percent else "1"
        reasons.append(f"{len(other)} valid runs of {_words(check.against)} to compare with")
    reasons.insert(0, f"{len(chosen)} valid runs of {_words(check.where)}")
    verdict = _verdict(got, _COMPARE[sign], bound)
    if verdict in {"insufficient n", "inconclusive"}:
        reasons.append("more repetitions would decide it")
    return _findings.make(
        "checks",
        f"{check.name}: {check.metric} {check.bound}",
        verdict,
        got,
        unit=shown,
        reasons=reasons,
        simulated=_frames.simulated(results),
    )


def _verdict(got: _stats.Interval, keeps: Callable[[float, float], bool], bound: float) -> Verdict:
    if got.low is None or got.high is None:
        return "insufficient n"
    kept = (keeps(got.low, bound), keeps(got.high, bound))
    if all(kept):
        return "pass"
    return "inconclusive" if any(kept) else "fail"


def _values(metric: str, results: Results, runs: pd.DataFrame) -> "pd.Series[float]":
    if metric == CPU_USE:
        found = {run: _frames.cpu_use(results.evidence(run)) for run in runs["run_id"]}
        return pd.Series({run: np.nan if use is None else use for run, use in found.items()}, dtype="float64")
    if "." not in metric and len(programs := _frames.programs_of(results, metric)) > 1:
        raise ConfigError(f"several programs have a {metric!r}", hint=f"say which: {programs[0]}.{metric}")
    values = _frames.metric(results, metric)
    if values.empty and len(runs):
        known = tuple(sorted({*results.metrics()["metric"].unique(), CPU_USE}))
        raise unknown("metric", metric, known)
    return values


def _select(runs: pd.DataFrame, where: Mapping[str, Level]) -> list[str]:
    chosen = runs
    for name, level in where.items():
        if name not in _frames.factors(runs):
            raise unknown("factor", name, _frames.factors(runs))
        chosen = chosen[chosen[name].map(_frames.level_text) == _frames.level_text(level)]
    return [str(run) for run in chosen["run_id"]]


def _scale(check: Check, unit: str, own: str) -> float:
    """What a figure in the metric's own unit is divided by to be in the bound's unit."""
    own = "%" if own == "pct" else own
    if unit in {"", own}:
        return 1.0
    if unit in _SCALES and own in _SCALES:
        return _SCALES[unit][1] / _SCALES[own][1]
    raise ConfigError(f"check {check.name!r}: {check.metric} is in {own}, the bound in {unit}")


def _words(where: Mapping[str, Level]) -> str:
    return ", ".join(f"{name} = {level}" for name, level in where.items()) or "all cells"
