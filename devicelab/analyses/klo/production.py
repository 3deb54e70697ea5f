"""T_prod of every condition, K by K, and what a load does to it."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from devicelab.analyses import _findings, _stats
from devicelab.analyses.klo.common import MEANINGFUL
from devicelab.analyses.klo.condition import Condition, compared
from devicelab.analyses.klo.data import KloData
from devicelab.analyses.klo.model.core import Floats
from devicelab.model import glossary
from devicelab.model.experiment import Finding


def findings(data: KloData) -> tuple[Finding, ...]:
    """T_prod at every K and without flushes, then its ratio for every load to idle."""
    found = [*_levels(data), *_ratios(data)]
    return tuple(finding.model_copy(update={"simulated": data.simulated}) for finding in found)


def samples_by_cell(data: KloData, column: str) -> Iterator[tuple[Condition, str, Floats, pd.DataFrame]]:
    """Known values of a column of the kernel table by condition and K (or policy): its name, values, and its runs.

    Cells in the order of the conditions, K ascending.
    """
    if column not in data.kernels.columns:
        return
    codes, names = pd.factorize(data.kernels["run_id"])
    values = data.kernels[column].to_numpy(dtype=np.float64)
    known = np.isfinite(values)
    for condition in data.conditions:
        for (policy, k), part in condition.runs.groupby(["policy", "k_flushed"]):
            place = pd.Index(names).get_indexer(part["run_id"])
            timed = place >= 0
            chosen = known & np.isin(codes, place[timed])
            if chosen.any():
                name = f"K = {k}" if policy == "constant" else f"{policy} K"
                yield condition, name, values[chosen], part[timed]


def by_run(data: KloData) -> "pd.Series[float]":
    """Mean T_prod of each run in ns, by run: of each kernel the median over the inferences, then their mean.

    One long inference, or a stamp that is off, moves no kernel's median. The first kernel of an inference has none.
    """
    if data.kernels.empty:
        return pd.Series(dtype="float64")
    middle = data.kernels.groupby(["run_id", "kernel"], sort=False)["t_prod_ns"].median()
    return middle.groupby(level=0, sort=False).mean().dropna()


def without_flush(condition: Condition, kernels: pd.DataFrame) -> "pd.Series[float]":
    """Mean T_prod in ns of kernels before which nothing was flushed, by repetition.

    Each kernel's is the median over the repetition's runs that did not flush before it, so that it does not depend on
    which K were run; kernels that some repetition always flushed before are left out.
    """
    repetition = condition.runs.set_index("run_id")["repetition"]
    plain = kernels[~kernels["after_flush"] & (kernels["batch"] >= 0) & kernels["run_id"].isin(repetition.index)]
    middle = plain.groupby(["run_id", "kernel"], sort=False)["t_prod_ns"].median().dropna().reset_index()
    if middle.empty:
        return pd.Series(dtype="float64")
    middle = middle.assign(repetition=middle["run_id"].map(repetition))
    wide = middle.pivot_table(index="repetition", columns="kernel", values="t_prod_ns", aggfunc="median")
    table = wide.dropna(axis=1)
    return table.mean(axis=1).dropna()


def _levels(data: KloData) -> Iterator[Finding]:
    whole = by_run(data)
    for condition, cell, values, runs in samples_by_cell(data, "t_prod_ns"):
        if runs["policy"].iloc[0] != "constant":
            continue
        q50, q95, q99 = np.quantile(values / 1e3, [0.5, 0.95, 0.99])
        reason = (
            f"samples: median {q50:.1f}, 95% below {q95:.1f}, 99% below {q99:.1f} µs; {values.size:,} samples, the "
            "first of each inference left out"
        )
        figures = _stats.per_repetition(runs["run_id"].map(whole), runs["repetition"])
        yield _level(f"T_prod at {cell} ({condition.label})", figures, reason)
    for condition in data.conditions if len(data.kernels) else ():
        plain = without_flush(condition, data.kernels)
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
