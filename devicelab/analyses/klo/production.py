"""T_prod of every condition, K by K, and what a load does to it."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from devicelab.analyses import _findings, _stats
from devicelab.analyses.klo.common import MEANINGFUL
from devicelab.analyses.klo.condition import Condition, compared
from devicelab.analyses.klo.data import KloData
from devicelab.analyses.klo.model.core import Floats
from devicelab.analyses.klo.told import Medians, RunTold
from devicelab.model import glossary
from devicelab.model.experiment import Finding


def findings(data: KloData) -> tuple[Finding, ...]:
    """T_prod at every K and without flushes, then its ratio for every load to idle."""
    found = [*_levels(data), *_ratios(data)]
    return tuple(finding.model_copy(update={"simulated": data.simulated}) for finding in found)


def samples_by_cell(data: KloData) -> Iterator[tuple[Condition, str, Floats, pd.DataFrame]]:
    """T_prod of all kernels in ns by condition and K (or policy): its name, values, and its runs.

    Cells in the order of the conditions, K ascending.
    """
    for condition in data.conditions:
        for (policy, k), part in condition.runs.groupby(["policy", "k_flushed"]):
            timed = part[part["run_id"].isin(data.told)]
            values = [data.told[run].t_prod_ns for run in timed["run_id"]]
            if sum(map(len, values)):
                name = f"K = {k}" if policy == "constant" else f"{policy} K"
                yield condition, name, np.concatenate(values, dtype=np.float64), timed


def by_run(data: KloData) -> "pd.Series[float]":
    """Mean T_prod of each run in ns, by run: of each kernel the median over the inferences, then their mean.

    One long inference, or a stamp that is off, moves no kernel's median. The first kernel of an inference has none.
    """
    table = _medians({run: one.middle for run, one in data.told.items()})
    return table.groupby("run_id", sort=False)["t_prod_ns"].mean().dropna()


def without_flush(condition: Condition, told: Mapping[str, RunTold]) -> "pd.Series[float]":
    """Mean T_prod in ns of kernels before which nothing was flushed, by repetition.

    Each kernel's is the median over the repetition's runs that did not flush before it, so that it does not depend on
    which K were run; kernels that some repetition always flushed before are left out.
    """
    repetition = condition.runs.set_index("run_id")["repetition"]
    plain = {run: told[run].batches(condition.driver).plain for run in repetition.index if run in told}
    middle = _medians(plain)
    if middle.empty:
        return pd.Series(dtype="float64")
    middle = middle.assign(repetition=middle["run_id"].map(repetition))
    wide = middle.pivot_table(index="repetition", columns="kernel", values="t_prod_ns", aggfunc="median")
    table = wide.dropna(axis=1)
    return table.mean(axis=1).dropna()


def _medians(told: Mapping[str, Medians]) -> pd.DataFrame:
    """``run_id kernel t_prod_ns``."""
    runs = np.repeat(np.array(list(told), dtype=object), [len(kernels) for kernels, _ in told.values()])
    kernels = [np.empty(0, dtype=np.int64), *(kernels for kernels, _ in told.values())]
    times = [np.empty(0), *(middle for _, middle in told.values())]
    return pd.DataFrame({"run_id": runs, "kernel": np.concatenate(kernels), "t_prod_ns": np.concatenate(times)})


def _levels(data: KloData) -> Iterator[Finding]:
    whole = by_run(data)
    for condition, cell, values, runs in samples_by_cell(data):
        if runs["policy"].iloc[0] != "constant":
            continue
        q50, q95, q99 = np.quantile(values / 1e3, [0.5, 0.95, 0.99])
        reason = (
            f"samples: median {q50:.1f}, 95% below {q95:.1f}, 99% below {q99:.1f} µs; {values.size:,} samples, the "
            "first of each inference left out"
        )
        figures = _stats.per_repetition(runs["run_id"].map(whole), runs["repetition"])
        yield _level(f"T_prod at {cell} ({condition.label})", figures, reason)
    for condition in data.conditions:
        plain = without_flush(condition, data.told)
        if len(plain):
            reason = "kernels before which nothing was flushed; what a flush costs is said apart"
            yield _level(f"T_prod without flushes ({condition.label})", np.asarray(plain, dtype=np.float64), reason)


def _level(claim: str, figures: Floats, reason: str) -> Finding:
    return _findings.make("klo", claim, "info", _stats.median_interval(figures / 1e3), unit="µs", reasons=(reason,))


def _ratios(data: KloData) -> Iterator[Finding]:
    values = by_run(data)
    if values.empty:
        return
    for loaded, idle in data.pairs():
        effect = compared(idle.by_cell(values), loaded.by_cell(values))
        yield _findings.make(
            "klo",
            f"Does the load change T_prod? ({loaded.label})",
            _stats.differs(effect, MEANINGFUL),
            effect,
            unit=glossary.times("idle"),
            reasons=("each K compared with itself, repetition by repetition",),
        )
