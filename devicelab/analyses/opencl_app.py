"""Somebody else's OpenCL program under several K: does K matter here, which K is best, what would it save?

The same arrangement by condition as the analysis ``klo``, which says more about launch costs and models.
"""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from devicelab.analyses import _findings, _frames, _stats
from devicelab.analyses.klo import data as klo_data
from devicelab.analyses.klo.common import MEANINGFUL, listed
from devicelab.analyses.klo.condition import Condition, compared
from devicelab.model.experiment import Finding
from devicelab.model.results import Results

_FIGURES = (
    ("kernels", "Kernels of an inference", "kernels"),
    ("own_flushes", "Flushes of the program's own in an inference", "flushes"),
    ("t_prod_median_ns", "T_prod (median of a run)", "ns"),
    ("t_ker_mean_ns", "T_ker (mean of a kernel)", "ns"),
)


def analyse(results: Results) -> tuple[Finding, ...]:
    """For every condition: whether K matters, the best K, what it saves over the program's own period, and figures."""
    data = klo_data.load(results)
    found: list[Finding] = []
    for condition in data.conditions:
        figures = _figures(condition, results)
        found += _of_k(condition, figures)
        for name, claim, unit in _FIGURES:
            if name in figures:
                effect = _stats.median_interval(figures[name])
                found.append(_findings.make("opencl_app", f"{claim} ({condition.label})", "info", effect, unit=unit))
    return tuple(finding.model_copy(update={"simulated": data.simulated}) for finding in found)


def answer(results: Results) -> Finding:
    """Does K matter for this program: "yes" if it does under one condition at least, "no" if under none.

    The best K is a reason.
    """
    claim = "Does K matter here?"
    findings = analyse(results)
    found = [one for one in findings if one.claim.startswith(claim)]
    if not found:
        why = "no valid runs with two K or more"
        return Finding(
            analysis="opencl_app", claim=claim, verdict="insufficient n", reasons=(why,), quantity="k_matters", n=0
        )
    verdict = _findings.together([one.verdict for one in found], "yes")
    chosen = next(one for one in found if one.verdict == verdict)
    best = chosen.claim.replace(claim, "Best K")
    reasons = tuple(
        f"best K = {one.estimate:g}, {one.reasons[0]}"
        for one in findings
        if one.claim == best and one.estimate is not None
    )
    return chosen.model_copy(update={"quantity": "k_matters", "reasons": (*reasons, *chosen.reasons)})


ANSWERS = {"k_matters": answer}
_SLOWEST = "times the slowest K's time"


def _figures(condition: Condition, results: Results) -> dict[str, "pd.Series[float]"]:
    """Figures of the condition's runs, one a run."""
    runs = condition.runs["run_id"]
    found = {}
    for name in ("own_flushes", "t_prod_median_ns", "t_ker_sum_ns"):
        values = runs.map(_frames.metric(results, name)).astype("float64").dropna()
        if len(values):
            found[name] = values
    if condition.n_kernels is not None:
        found["kernels"] = pd.Series(float(condition.n_kernels), index=runs.index)
        if "t_ker_sum_ns" in found:
            found["t_ker_mean_ns"] = found["t_ker_sum_ns"] / condition.n_kernels
    return found


def _of_k(condition: Condition, figures: dict[str, "pd.Series[float]"]) -> Iterator[Finding]:
    if condition.near is None:
        return
    near, label = condition.near, condition.label
    worst = _slowest(condition)
    spread = compared(worst, condition.manual)
    tried = listed(condition.ks)
    reasons = [f"fastest K, chosen from the other repetitions, over the slowest, chosen likewise; measured K: {tried}"]
    if not condition.follows_k:
        reasons.append("the driver submits kernels by itself: a flush is host time alone")
    verdict = _stats.differs(spread, MEANINGFUL)
    yield _findings.make(
        "opencl_app", f"Does K matter here? ({label})", verdict, spread, unit=_SLOWEST, reasons=reasons
    )
    yield Finding(
        analysis="opencl_app",
        claim=f"Best K ({label})",
        verdict="info",
        estimate=float(near.best),
        unit="kernels",
        n=near.n,
        reasons=(f"within noise of it: {listed(near.k)}",),
    )
    own = _own_period(condition, figures)
    if own is None:
        return
    period, measured = own
    saved = compared(condition.total(measured), condition.manual)
    reasons = [f"the program by itself flushes about every {period} kernels; compared with K = {measured}, measured"]
    yield _findings.make(
        "opencl_app",
        f"Would another K be faster than the program's own? ({label})",
        _stats.falls(saved, MEANINGFUL),
        saved,
        unit="times the time with its own period",
        reasons=reasons,
    )


def _own_period(condition: Condition, figures: dict[str, "pd.Series[float]"]) -> tuple[int, int] | None:
    """Kernels a flush of the program's own, and the measured K nearest to it; ``None`` if either is not known."""
    if "own_flushes" not in figures or condition.n_kernels is None:
        return None
    flushes = float(figures["own_flushes"].median())
    period = max(1, round(condition.n_kernels / max(flushes, 1)))
    # By ratio: 8 is as far from 4 as 2 is.
    measured = min(condition.ks, key=lambda k: (abs(math.log(k / period)), k), default=None)
    return None if measured is None else (period, measured)


def _slowest(condition: Condition) -> "pd.Series[float]":
    """Totals by repetition at the slowest K of the *other* repetitions."""
    rows = condition.curve.dropna()
    values = rows.to_numpy(dtype=np.float64)
    if values.shape[0] < 2 or values.shape[1] == 0:
        return pd.Series(dtype="float64")
    others = (np.delete(values, number, axis=0) for number in range(len(values)))
    chosen = [values[number, int(np.argmax(np.median(rest, axis=0)))] for number, rest in enumerate(others)]
    return pd.Series(chosen, index=rows.index, dtype="float64")
