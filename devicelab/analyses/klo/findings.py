"""What a KLO campaign shows condition by condition: K, speed-ups, regrets, decomposition, T_prod, clocks."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from devicelab.analyses import _findings, _frames, _stats
from devicelab.analyses.klo.checklist import used
from devicelab.analyses.klo.common import MEANINGFUL, listed, within
from devicelab.analyses.klo.data import Condition, KloData, compared
from devicelab.analyses.klo.model.fit import NAMES
from devicelab.model.experiment import Finding, Verdict
from devicelab.model.results import Results

# Flush periods that frameworks use when nobody says otherwise: TFLite's GPU delegate by GPU, else that of MNN, TNN and
# Paddle-Lite.
_DEFAULTS = (("mali", 24, "TFLite on Mali"), ("adreno", 16, "TFLite on Adreno"), ("powervr", 16, "TFLite on PowerVR"))
_OTHER_DEFAULT = (10, "MNN, TNN, Paddle-Lite")

_SHARES = {
    "kernels_ns": "kernels",
    "starved_ns": "starved (nothing flushed yet)",
    "launch_ns": "launch (flushed, not started)",
    "other_ns": "before the first kernel",
}


def default_k(results: Results) -> tuple[int, str]:
    """The framework default to compare with, by the GPU that the program or the board names, and whose it is."""
    said = [str(info.get("device", "")) for info in results.info.get("programs", {}).values() if isinstance(info, dict)]
    text = " ".join((*said, str(results.info.get("board_title", "")))).lower()
    return next(((k, whose) for name, k, whose in _DEFAULTS if name in text), _OTHER_DEFAULT)


def findings(results: Results, data: KloData) -> tuple[Finding, ...]:
    """Findings of every condition, in the order of the conditions."""
    found: list[Finding] = []
    for condition in data.conditions:
        found += _of_k(condition)
        found += _of_driver(condition, results)
        found += _speedups(condition, results)
        found += _regrets(condition, data.idle_of(condition))
        found += _decomposition(condition, results)
    found += _t_prod(data)
    return tuple(finding.model_copy(update={"simulated": data.simulated}) for finding in found)


def samples_by_condition(data: KloData, column: str) -> Iterator[tuple[Condition, Any, Any]]:
    """Each condition that has kernel timestamps, with the known values of a column and the run number of each."""
    if column not in data.kernels.columns:
        return
    codes, runs = pd.factorize(data.kernels["run_id"])
    values = data.kernels[column].to_numpy(dtype=np.float64)
    known = np.isfinite(values)
    place = {run: number for number, condition in enumerate(data.conditions) for run in condition.runs["run_id"]}
    owner = np.array([place.get(run, -1) for run in runs], dtype=np.int64)[codes]
    for number, condition in enumerate(data.conditions):
        chosen = known & (owner == number)
        if chosen.any():
            yield condition, values[chosen], codes[chosen]


def _of_k(condition: Condition) -> Iterator[Finding]:
    k = condition.constant_k
    if k is None:
        return
    reasons = []
    if condition.near is not None:
        near = condition.near
        noise = "" if near.conclusive else f" (none can be excluded with {near.n} repetitions)"
        reasons.append(f"fastest measured K = {near.best}; within noise of it: {listed(near.k)}{noise}")
    profile = condition.profile
    if profile is not None:
        costs = ", ".join(_cost(name, condition) for name in NAMES)
        reasons.append(
            f"fitted costs: {costs}; median residual {profile.fit.residual_pct:.1f}% of {profile.fit.n} runs"
        )
    else:
        reasons.append("no kernel timestamps: the fastest measured K stands for the model's")
    if not condition.follows_k:
        reasons.append("the driver submits kernels by itself, so that the model cannot predict K: the fastest measured")
    draws = condition.k_draws
    low, high = np.quantile(draws, [0.025, 0.975]) if draws.size else (None, None)
    yield Finding(
        analysis="klo",
        claim=f"Constant K ({condition.label})",
        verdict="info",
        estimate=float(k),
        low=None if low is None else float(low),
        high=None if high is None else float(high),
        unit="kernels",
        n=len(condition.curve),
        reasons=tuple(reasons),
    )


def _of_driver(condition: Condition, results: Results) -> Iterator[Finding]:
    """A driver that K means nothing to: its real batches, inferred from SUBMIT, against the flushes."""
    if condition.submitted is None or condition.follows_k:
        return
    few = "fewer" if condition.submitted < 1 else "more"
    yield Finding(
        analysis="klo",
        claim=f"Does the driver submit when it is flushed? ({condition.label})",
        verdict="no",
        estimate=condition.submitted,
        unit="batches a flush",
        n=int((condition.runs["policy"] == "constant").sum()),
        reasons=(f"it submits {few} batches than are flushed: K is a hint it does not take",),
    )
    if condition.submitted > 1:
        yield from _one_flush(condition, results)


def _one_flush(condition: Condition, results: Results) -> Iterator[Finding]:
    """Where the driver submits at enqueue a flush is host time alone, so one is best: what that can save at most."""
    n = condition.n_kernels
    if n is None or condition.curve.empty:
        return
    k = int(min(condition.curve.columns))
    chosen = condition.runs[(condition.runs["policy"] == "constant") & (condition.runs["k_flushed"] == k)]["run_id"]
    flush = chosen.map(_frames.metric(results, "flush_mean_ns")).dropna()
    if k >= n or flush.empty:
        return
    total = chosen.loc[flush.index].map(_frames.metric(results, "total_ns"))
    fewer = -(-n // k) - 1
    yield _findings.make(
        "klo",
        f"Most that one flush could save over K = {k} ({condition.label})",
        "info",
        _stats.median_interval((flush * fewer / total).dropna() * 100),
        unit="%",
        reasons=(
            f"a flush submits nothing there: {flush.median() / 1e3:.2f} µs of host time each, {fewer} fewer of them",
            f"predicted K = {n}, one flush",
        ),
    )


def _cost(name: str, condition: Condition) -> str:
    if condition.profile is None:
        return ""
    fit = condition.profile.fit
    value = getattr(fit.costs, name) / 1e3
    interval = fit.intervals[name]
    text = f"{name.removesuffix('_ns').replace('_', ' ')} {value:.1f} µs"
    if not fit.identified[name]:
        return text + " (not identified)"
    return text if interval is None else f"{text} ({interval[0] / 1e3:.1f} to {interval[1] / 1e3:.1f})"


def _speedups(condition: Condition, results: Results) -> Iterator[Finding]:
    k, whose = default_k(results)
    measured = condition.measured_k(k)
    bases: list[tuple[str, int | None]] = [("K = 1", 1 if 1 in condition.curve.columns else None)]
    if measured is not None and condition.n_kernels is not None:
        exact = "" if measured == k else f", the nearest measured to {k}"
        bases.append((f"the framework default K = {measured} ({whose}{exact})", measured))
    for words, base in bases:
        if base is None or condition.curve.shape[1] < 2:
            continue
        effect = compared(condition.manual, condition.total(base))
        yield _findings.make(
            "klo",
            f"Is the manual K faster than {words}? ({condition.label})",
            _stats.differs(effect, MEANINGFUL) if effect.estimate >= 1 else _slower(effect),
            effect,
            unit="x speed-up",
            reasons=(f"manual K = {condition.manual_k}, judged on repetitions it was not chosen from",),
        )


def _slower(effect: _stats.Interval) -> Verdict:
    """A speed-up below 1 is no speed-up, however sure."""
    if effect.high is None:
        return "insufficient n"
    return "no" if effect.high <= 1 + MEANINGFUL else "inconclusive"


def policies(condition: Condition, idle: Condition | None) -> dict[str, tuple["pd.Series[float]", str]]:
    """Every policy of a condition: name → totals by repetition and a remark."""
    found: dict[str, tuple[pd.Series[float], str]] = {}
    if condition.model is not None:
        found["the model's K"] = (condition.total(condition.chosen_k), f"K = {used(condition, condition)}")
    if idle is not None and idle is not condition and idle.chosen_k is not None:
        found["the K found idle"] = (condition.total(idle.chosen_k), f"K = {used(condition, idle)}")
    for policy, words in (("static", "the static schedule"), ("dynamic", "dynamic K")):
        if policy in condition.policies:
            found[words] = (condition.policies[policy], "")
    return {name: (totals, remark) for name, (totals, remark) in found.items() if len(totals)}


def _regrets(condition: Condition, idle: Condition | None) -> Iterator[Finding]:
    if condition.manual.empty or condition.curve.shape[1] < 2:
        return
    for name, (totals, remark) in policies(condition, idle).items():
        yield within(
            f"Is {name} within 5% of the manual K? ({condition.label})", compared(condition.manual, totals), remark
        )


def decomposition(results: Results, conditions: Iterable[Condition]) -> pd.DataFrame:
    """Where an inference's time goes, by condition and K: medians over runs of kernels, starved, launch, in ns.

    Columns ``label k runs kernels_ns starved_ns launch_ns other_ns profiled_ns``; ``other_ns`` is the way to the first
    kernel, from QUEUED_1 to START_1. Profiled inferences, so the sum is what profiling makes of the time.
    """
    names = ("t_ker_sum_ns", "klo_total_ns", "starved_sum_ns", "launch_sum_ns")
    figures = {name: _frames.metric(results, name) for name in names}
    rows = []
    for condition in conditions:
        constant = condition.runs[condition.runs["policy"] == "constant"]
        for k, part in constant.groupby("k_flushed"):
            values = {name: part["run_id"].map(series).median() for name, series in figures.items()}
            if not all(np.isfinite(value) for value in values.values()):
                continue
            starved, launch = values["starved_sum_ns"], values["launch_sum_ns"]
            rows.append(
                {
                    "label": condition.label,
                    "k": int(str(k)),
                    "runs": len(part),
                    "kernels_ns": values["t_ker_sum_ns"],
                    "starved_ns": starved,
                    "launch_ns": launch,
                    "other_ns": values["klo_total_ns"] - starved - launch,
                    "profiled_ns": values["t_ker_sum_ns"] + values["klo_total_ns"],
                }
            )
    columns = ["label", "k", "runs", "kernels_ns", "starved_ns", "launch_ns", "other_ns", "profiled_ns"]
    return pd.DataFrame(rows, columns=columns)


def _decomposition(condition: Condition, results: Results) -> Iterator[Finding]:
    rows = {row["k"]: row for row in decomposition(results, (condition,)).to_dict("records")}
    wait = _frames.metric(results, "wait_for_flush_mean_ns")
    overhead = _frames.metric(results, "klo_total_ns")
    for k in dict.fromkeys((1, condition.manual_k)):
        row = rows.get(k)
        if row is None:
            continue
        constant = condition.runs["policy"] == "constant"
        runs = condition.runs.loc[constant & (condition.runs["k_flushed"] == k), "run_id"]
        got = _stats.median_interval(runs.map(overhead)).map(lambda ns: ns / 1e3)
        total = max(row["profiled_ns"], 1.0)
        shares = [f"{words} {row[name] / total:.0%}" for name, words in _SHARES.items()]
        waits = f"a kernel waits {runs.map(wait).median() / 1e3:.1f} µs for its flush on average"
        yield _findings.make(
            "klo",
            f"Launch overhead at K = {k} ({condition.label})",
            "info",
            got,
            unit="µs",
            reasons=(f"of a profiled inference: {', '.join(shares)}", waits),
        )


def _t_prod(data: KloData) -> Iterator[Finding]:
    """Mean T_prod over all samples but the first of each inference; the interval resamples whole repetitions."""
    for condition, values, runs in samples_by_condition(data, "t_prod_ns"):
        mean = _stats.nested_mean(values, runs).map(lambda ns: ns / 1e3)
        q50, q95, q99 = np.quantile(values, [0.5, 0.95, 0.99]) / 1e3
        shape = f"median {q50:.1f}, 95% below {q95:.1f}, 99% below {q99:.1f} µs"
        reasons = (f"{shape}; {values.size:,} samples, the first of each inference left out",)
        yield _findings.make("klo", f"Mean T_prod ({condition.label})", "info", mean, unit="µs", reasons=reasons)
