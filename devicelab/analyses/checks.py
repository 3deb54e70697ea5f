"""The experiment's own checks: a figure of some cells, or its ratio to other cells, against a bound."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from devicelab.analyses import _findings, _frames, _stats
from devicelab.errors import ConfigError
from devicelab.experiment.bounds import COMPARE, RATIO_UNITS, parse_bound
from devicelab.ground.registry import unknown
from devicelab.model.experiment import Check, Finding, Level
from devicelab.model.results import Results

_SCALES: dict[str, tuple[str, float]] = {
    "ns": ("ns", 1.0),
    "us": ("ns", 1e3),
    "µs": ("ns", 1e3),
    "ms": ("ns", 1e6),
    "s": ("ns", 1e9),
}
CPU_USE = "cpu_use_pct"


def analyse(results: Results) -> tuple[Finding, ...]:
    """One finding a check; each says how many were made.

    A check passes if the whole 95% interval of the median over repetitions keeps the bound, and fails if the whole
    interval breaks it; otherwise it is inconclusive, or says that n is insufficient. Of several cells each repetition
    counts with their median, if it has them all. With ``against`` the figure is the ratio of the two selections, each
    cell to the one that differs in what was selected alone, repetition by repetition; a bound in percent is then on
    the ratio less 1. The metric ``cpu_use_pct`` (CPU use of the whole device) is computed from the evidence; any other
    is a figure of the runs, ``PROGRAM.metric`` if several programs have it. A check that cannot be judged (no run has
    the metric, the unit does not fit) is ``invalid``.
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
    values = values_of(check.metric, results, runs)
    chosen = _select(runs, check.where, values)
    reasons = []
    if check.against is None:
        scale, shown = scale_of(check.metric, unit, results)
        whole = _whole(chosen)
        got = _stats.median_interval(whole / scale)
        reasons += _incomplete(chosen, whole)
    else:
        other = _select(runs, check.against, values)
        percent = unit == "%"
        if unit not in RATIO_UNITS:
            raise ConfigError(f"check {check.name!r}: a ratio has no unit {unit!r}", hint='use "%", "x" or none')
        got = _paired(other, chosen, {*check.where, *check.against}, runs)
        got = got.map(lambda x: (x - 1) * 100) if percent else got
        shown = "%" if percent else "1"
        reasons.append(f"{len(other)} valid runs of {_words(check.against)} to compare with")
    reasons.insert(0, f"{len(chosen)} valid runs of {_words(check.where)}")
    judged = _stats.kept(got.low, got.high, lambda figure: COMPARE[sign](figure, bound))
    if judged in {"insufficient n", "inconclusive"}:
        reasons.append("more repetitions would decide it")
    if (made := len(results.experiment.checks)) > 1:
        reasons.append(f"one of {made} checks: where a figure lies at its bound, each is wrong once in 40 by chance")
    return _findings.make(
        "checks",
        f"{check.name}: {check.metric} {check.bound}",
        judged,
        got,
        unit=shown,
        reasons=reasons,
        simulated=_frames.simulated(results),
    )


def values_of(metric: str, results: Results, runs: pd.DataFrame) -> "pd.Series[float]":
    """A check's figure of each run by ``run_id``.

    Raises:
        ConfigError: no run has it, or it is not said whose.
    """
    if metric == CPU_USE:
        return _frames.cpu_uses(results, runs)
    if "." not in metric and len(programs := _frames.programs_of(results, metric)) > 1:
        raise ConfigError(f"several programs have a {metric!r}", hint=f"say which: {programs[0]}.{metric}")
    values = _frames.metric(results, metric)
    if values.empty and len(runs):
        known = tuple(sorted({*results.metrics()["metric"].unique(), CPU_USE}))
        raise unknown("metric", metric, known)
    return values


def _select(runs: pd.DataFrame, where: Mapping[str, Level], values: "pd.Series[float]") -> pd.DataFrame:
    """The valid runs of the cells that match, with their ``figure``."""
    chosen = runs
    for name, level in where.items():
        if name not in _frames.factors(runs):
            raise unknown("factor", name, _frames.factors(runs))
        chosen = chosen[chosen[name].map(_frames.level_text) == _frames.level_text(level)]
    return chosen.assign(figure=chosen["run_id"].map(values).astype("float64")).dropna(subset=["figure"])


def _whole(chosen: pd.DataFrame) -> _stats.Floats:
    """The median over the cells for each repetition that has all of them: one that lacks some would stand apart."""
    table = chosen.pivot_table(index="repetition", columns="cell_id", values="figure").dropna()
    middle: _stats.Floats = table.median(axis=1).to_numpy(dtype=np.float64)
    return middle


def _incomplete(chosen: pd.DataFrame, whole: _stats.Floats) -> list[str]:
    cells, repetitions = chosen["cell_id"].nunique(), chosen["repetition"].nunique()
    said = [f"each repetition counts with the median of {cells} cells"] if cells > 1 else []
    if whole.size < repetitions:
        said.append(f"{repetitions - whole.size} of {repetitions} repetitions lack a cell and are left out")
    return said


def _paired(below: pd.DataFrame, above: pd.DataFrame, selected: set[str], runs: pd.DataFrame) -> _stats.Interval:
    """Ratio of the cells that agree in everything but what was selected; a load brings its placement with it."""
    apart = selected | ({"placement"} if "load" in selected else set())
    keys = ["repetition", *(name for name in _frames.factors(runs) if name not in apart)]
    one, two = (side.assign(**{name: side[name].map(_frames.level_text) for name in keys}) for side in (below, above))
    both = one.merge(two, on=keys, suffixes=("_below", "_above"))
    return _stats.blocked_ratio(both["figure_below"], both["figure_above"], both["repetition"])


def scale_of(metric: str, unit: str, results: Results) -> tuple[float, str]:
    """What a figure in its own unit is divided by to be in the bound's unit, and the unit to show.

    Raises:
        ConfigError: the units do not fit.
    """
    own = "%" if metric == CPU_USE else _frames.unit_of(results, metric)
    own = "%" if own == "pct" else own
    if unit in {"", own}:
        return 1.0, unit or own
    if unit in _SCALES and own in _SCALES:
        return _SCALES[unit][1] / _SCALES[own][1], unit
    raise ConfigError(f"{metric} is in {own}, the bound in {unit}")


def _words(where: Mapping[str, Level]) -> str:
    return ", ".join(f"{name} = {level}" for name, level in where.items()) or "all cells"
