"""K as a contract with somebody else on the GPU: which K is the fastest that leaves a foreground program its frames?

Between two flushes the GPU is nobody else's, so the flush period is also how long others wait. From runs of klo with a
foreground (``foreground_hz``, ``foreground_within_ms``) at several K.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from devicelab.analyses import _findings, _frames, _stats
from devicelab.analyses.klo import data as klo_data
from devicelab.analyses.klo.common import MEANINGFUL
from devicelab.analyses.klo.condition import Condition
from devicelab.model.experiment import Finding, Verdict
from devicelab.model.results import Results

_NAME = "contract"
_P95 = "foreground_p95_ns"
_YES_NO: dict[Verdict, Verdict] = {"pass": "yes", "fail": "no"}


def analyse(results: Results) -> tuple[Finding, ...]:
    """For every condition: does a K keep the bound, does K decide how long the foreground waits, its p95 at each K."""
    data = klo_data.load(results)
    found: list[Finding] = []
    for condition in data.conditions:
        waits = _by_k(condition, _frames.metric(results, _P95))
        if waits.empty:
            continue
        if (bound_ns := _bound_ns(results)) is not None:
            found.append(_kept(condition, waits, bound_ns))
        if waits.shape[1] > 1:
            found.append(_decides(condition, waits))
        found += _figures(condition, waits)
    return tuple(one.model_copy(update={"simulated": data.simulated}) for one in found)


def answer(results: Results) -> Finding:
    """Does a K keep the bound? "yes" if one does under every condition. The fastest K that does is the first reason."""
    found = [one for one in analyse(results) if one.quantity == "k_contract"]
    if not found:
        why = "no valid runs with a foreground and a bound (foreground_hz, foreground_within_ms)"
        claim = "Does a K keep the foreground's bound?"
        return Finding(
            analysis=_NAME, claim=claim, verdict="insufficient n", reasons=(why,), quantity="k_contract", n=0
        )
    verdict = _findings.together([one.verdict for one in found], "no")
    return next(one for one in found if one.verdict == verdict)


ANSWERS = {"k_contract": answer}


def _bound_ns(results: Results) -> float | None:
    params: Mapping[str, object] = results.experiment.measure.params if results.experiment.measure is not None else {}
    within = params.get("foreground_within_ms")
    return float(within) * 1e6 if isinstance(within, int | float) and within > 0 else None


def _by_k(condition: Condition, values: "pd.Series[float]") -> pd.DataFrame:
    """A figure of the runs with constant K: index repetition, columns K."""
    runs = condition.runs[condition.runs["policy"] == "constant"]
    told = runs.assign(value=runs["run_id"].map(values)).dropna(subset=["value"])
    if told.empty:
        return pd.DataFrame()
    return told.pivot_table(index="repetition", columns="k_flushed", values="value", aggfunc="median")


def _kept(condition: Condition, waits: pd.DataFrame, bound_ns: float) -> Finding:
    totals = condition.curve.reindex(index=waits.index, columns=waits.columns)
    # What is chosen from data is judged on other data: each repetition with the K that the others choose.
    judged = {}
    for repetition in waits.index:
        k = _fastest(waits.drop(index=repetition), totals.drop(index=repetition), bound_ns)
        judged[repetition] = waits.loc[repetition, k if k is not None else _least(waits)]
    series = pd.Series(judged, dtype="float64").dropna()
    effect = _milliseconds(_stats.median_interval(series))
    bound_ms = bound_ns / 1e6
    chosen = _fastest(waits, totals, bound_ns)
    reasons = []
    if chosen is None:
        least = _least(waits)
        reasons.append(f"no K does; the least is {waits[least].median() / 1e6:.3g} ms at K = {least}")
    else:
        speed = f", an inference in {totals[chosen].median() / 1e6:.3g} ms" if totals[chosen].notna().any() else ""
        reasons.append(f"the fastest that does is K = {chosen}{speed}, p95 {waits[chosen].median() / 1e6:.3g} ms")
        best = _least(totals)
        if best != chosen:
            loss = 100 * (totals[chosen].median() / totals[best].median() - 1)
            reasons.append(f"K = {best} is the fastest of all; keeping the bound costs {loss:.2g} %")
    reasons.append("estimate and interval: the foreground's p95 at the K that the other repetitions choose")
    if not condition.follows_k:
        reasons.append("the driver submits kernels by itself: K decides nothing here")
    kept = _stats.kept(effect.low, effect.high, lambda value: value < bound_ms)
    return _findings.make(
        _NAME,
        f"Does a K keep the foreground's 95th percentile below {bound_ms:g} ms? ({condition.label})",
        _YES_NO.get(kept, kept),
        effect,
        unit="ms",
        reasons=reasons,
    ).model_copy(update={"quantity": "k_contract"})


def _least(values: pd.DataFrame) -> int:
    """The K of the least median."""
    middle = values.median()
    return min((int(k) for k in values.columns), key=lambda k: float(middle[k]))


def _fastest(waits: pd.DataFrame, totals: pd.DataFrame, bound_ns: float) -> int | None:
    """The K of the least time among those whose median p95 keeps the bound."""
    keeping = [int(k) for k in waits.columns if waits[k].median() < bound_ns and totals[k].notna().any()]
    middle = totals.median()
    return min(keeping, key=lambda k: float(middle[k]), default=None)


def _decides(condition: Condition, waits: pd.DataFrame) -> Finding:
    ks = sorted(int(k) for k in waits.columns)
    least, most = ks[0], ks[-1]
    both = waits[[least, most]].dropna()
    effect = _stats.blocked_ratio(both[least], both[most], both.index)
    listed = ", ".join(f"K = {k}: {waits[k].median() / 1e6:.3g} ms" for k in ks)
    reasons = [f"p95 at K = {most} over K = {least}", listed]
    if not condition.follows_k:
        reasons.append("the driver submits kernels by itself")
    claim = f"Does K decide how long the foreground waits? ({condition.label})"
    return _findings.make(_NAME, claim, _stats.differs(effect, MEANINGFUL), effect, unit="x", reasons=reasons)


def _figures(condition: Condition, waits: pd.DataFrame) -> Iterator[Finding]:
    for k in sorted(waits.columns):
        effect = _milliseconds(_stats.median_interval(waits[k].dropna()))
        claim = f"Foreground's 95th percentile at K = {int(k)} ({condition.label})"
        yield _findings.make(_NAME, claim, "info", effect, unit="ms")


def _milliseconds(effect: _stats.Interval) -> _stats.Interval:
    low, high = (None if value is None else value / 1e6 for value in (effect.low, effect.high))
    return _stats.Interval(float(np.float64(effect.estimate) / 1e6), low, high, effect.n)
