"""What a KLO campaign shows condition by condition: K, speed-ups, regrets, decomposition, T_prod, clocks."""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from devicelab.analyses import _findings, _frames, _stats
from devicelab.analyses.klo.common import MEANINGFUL, listed, unfit, used, within
from devicelab.analyses.klo.condition import Condition, best_over, over_best
from devicelab.analyses.klo.data import KloData
from devicelab.analyses.klo.driver import FOLLOWS_BELOW
from devicelab.analyses.klo.model.fit import NAMES
from devicelab.model import glossary
from devicelab.model.experiment import Finding, Verdict
from devicelab.model.results import Results

# Flush periods that frameworks use when nobody says otherwise: TFLite's GPU delegate by GPU, else that of MNN, TNN and
# Paddle-Lite.
_DEFAULTS = (("mali", 24, "TFLite on Mali"), ("adreno", 16, "TFLite on Adreno"), ("powervr", 16, "TFLite on PowerVR"))
_OTHER_DEFAULT = (10, "MNN, TNN, Paddle-Lite")

_POLICIES = {"static": f"the {glossary.STATIC}", "dynamic": glossary.DYNAMIC_K}

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
    return tuple(finding.model_copy(update={"simulated": data.simulated}) for finding in found)


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
            f"fitted costs: {costs}; median residual {profile.fit.residual_pct:.1f}% of {profile.fit.runs} runs"
        )
    else:
        reasons.append("no kernel timestamps: the fastest measured K stands for the model's")
    if condition.unfit:
        reasons.append(f"{unfit(condition)}; the fastest measured K stands for the model's")
    if not condition.follows_k:
        reasons.append("the driver submits kernels by itself, so that the model cannot predict K: the fastest measured")
    if condition.model_k is not None and condition.model_k not in range(condition.ks[0], condition.ks[-1] + 1):
        span = f"{condition.ks[0]} to {condition.ks[-1]}"
        reasons.append(f"the model's least time lies at K = {condition.model_k}, outside of what was measured ({span})")
    if condition.beyond and condition.n_kernels is not None:
        reasons.append(
            f"{listed(condition.beyond)} is one flush of all {condition.n_kernels} kernels: shown as K = "
            f"{condition.n_kernels}"
        )
    ks = condition.k_set
    yield Finding(
        analysis="klo",
        claim=f"Best constant K ({condition.label})",
        verdict="info",
        estimate=float(k),
        low=float(min(ks)) if ks else None,
        high=float(max(ks)) if ks else None,
        unit="kernels",
        n=len(condition.curve),
        reasons=tuple(reasons),
    )


def _of_driver(condition: Condition, results: Results) -> Iterator[Finding]:
    """Whether K means something to the driver: SUBMIT of the kernels against the flush of their batch."""
    early = condition.driver.early
    if early.n == 0:
        return
    verdict: Verdict = "insufficient n"
    if early.low is not None and early.high is not None:
        verdict = "yes" if early.high < FOLLOWS_BELOW else "no" if early.low > FOLLOWS_BELOW else "inconclusive"
    words = "the batches are those that were flushed"
    if not condition.follows_k:
        when = "each kernel when it is enqueued" if condition.driver.at_enqueue else "a part of the kernels by itself"
        words = f"it submits {when}: K is a hint it does not take"
    yield _findings.make(
        "klo",
        f"Does the driver submit when it is flushed? ({condition.label})",
        verdict,
        early.map(lambda share: 100 * share),
        unit="% of kernels submitted before their flush",
        reasons=(words,),
    )
    if condition.driver.at_enqueue:
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
    total = chosen.loc[flush.index].map(_frames.metric(results, "total_ns"))  # one run a repetition
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
    if condition.curve.shape[1] < 2 or condition.manual_k is None:
        return
    claim = f"Is the {glossary.MEASURED_BEST_K} faster than {{}}? ({condition.label})"
    manual = f"{glossary.MEASURED_BEST_K} = {condition.manual_k}, judged on repetitions it was not chosen from"
    if 1 in condition.ks:
        yield _faster(claim.format("K = 1"), condition, 1, manual)
    k, whose = default_k(results)
    n = condition.n_kernels
    if n is None:
        return
    flushed = min(k, n)
    words = f"the framework default K = {k} ({whose}{'' if flushed == k else f', here one flush of all {n}'})"
    if flushed in condition.ks:
        yield _faster(claim.format(words), condition, flushed, manual)
    else:
        reason = f"K = {flushed} was not run, and another one says nothing about it: add it to the levels of k"
        yield Finding(analysis="klo", claim=claim.format(words), verdict="cannot tell here", reasons=(reason,))


def _faster(claim: str, condition: Condition, base: int, manual: str) -> Finding:
    if condition.manual_k == base:
        reason = f"the {glossary.MEASURED_BEST_K} is K = {base} itself: there is nothing to compare"
        return Finding(
            analysis="klo", claim=claim, verdict="cannot tell here", n=len(condition.curve), reasons=(reason,)
        )
    effect = best_over(condition, base)
    return _findings.make(
        "klo", claim, _stats.differs(effect, MEANINGFUL), effect, unit="times as fast", reasons=(manual,)
    )


def policies(condition: Condition, idle: Condition | None) -> dict[str, tuple["pd.Series[float]", str]]:
    """Every policy of a condition: name → totals by repetition and a remark."""
    found: dict[str, tuple[pd.Series[float], str]] = {}
    if condition.model is not None:
        found[glossary.MODEL_K] = (condition.total_of(condition), f"K = {used(condition, condition)}")
    if idle is not None and idle is not condition and idle.chosen_k is not None:
        found["the K found idle"] = (condition.total_of(idle), f"K = {used(condition, idle)}")
    for policy, words in _POLICIES.items():
        if policy in condition.policies:
            found[words] = (condition.policies[policy], "")
    return {name: (totals, remark) for name, (totals, remark) in found.items() if len(totals)}


def _regrets(condition: Condition, idle: Condition | None) -> Iterator[Finding]:
    if condition.manual.empty or condition.curve.shape[1] < 2:
        return
    for name, (totals, remark) in policies(condition, idle).items():
        effect = over_best(condition, totals, constant=name not in _POLICIES.values())
        yield within(f"Is {name} within 5% of the {glossary.MEASURED_BEST_K}? ({condition.label})", effect, remark)


def decomposition(results: Results, conditions: Iterable[Condition]) -> pd.DataFrame:
    """Where an inference's time goes, by condition and K: medians over runs of kernels, starved, launch, in ns.

    Columns ``label k runs kernels_ns starved_ns launch_ns other_ns profiled_ns``; ``other_ns`` is the way to the first
    kernel, from QUEUED_1 to START_1. Profiled inferences, so the sum is what profiling makes of the time.
    """
    names = ("t_ker_sum_ns", "klo_total_ns", "starved_sum_ns", "launch_sum_ns")
    figures = {name: _frames.metric(results, name) for name in names}
    columns = ["label", "k", "runs", "kernels_ns", "starved_ns", "launch_ns", "other_ns", "profiled_ns"]
    if any(figure.empty for figure in figures.values()):
        return pd.DataFrame(columns=columns)
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
    return pd.DataFrame(rows, columns=columns)


def _decomposition(condition: Condition, results: Results) -> Iterator[Finding]:
    rows = {row["k"]: row for row in decomposition(results, (condition,)).to_dict("records")}
    if not rows:
        return
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
