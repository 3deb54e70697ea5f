"""What the system's tracer cost: runs that it recorded against the same cells without it."""

import numpy as np

from devicelab.analyses import _findings, _frames, _stats
from devicelab.experiment import tracing
from devicelab.model.experiment import Finding
from devicelab.model.results import Results

_FIGURES = ("total_ns", "total_profiled_ns", "response_p50_ns", "wall_ns")


def analyse(results: Results) -> tuple[Finding, ...]:
    """One finding: the median cost over the traced cells, of the first figure that the runs have; "info"."""
    if results.experiment.trace is None:
        return ()
    runs = results.runs()
    is_traced = runs["flags"].map(lambda flags: any(flag.code == "traced" for flag in flags)).astype(bool)
    claim = "What the system's tracer costs"
    if not is_traced.any():
        why = (
            "no run was flagged, so none was traced"
            if results.experiment.trace.when == "flagged"
            else "none was traced"
        )
        return (Finding(analysis="tracing", claim=claim, verdict="info", reasons=(why,)),)
    plain = runs[runs["valid"].astype(bool) & ~is_traced]
    for name in _FIGURES:
        values = _frames.metric(results, name)
        with_tracer = {
            str(cell): float(values[run])
            for cell, run in zip(runs.loc[is_traced, "cell_id"], runs.loc[is_traced, "run_id"], strict=True)
            if run in values.index
        }
        without = {str(cell): list(part["run_id"].map(values).dropna()) for cell, part in plain.groupby("cell_id")}
        grown = tracing.costs(without, with_tracer)
        if grown:
            got = _stats.median_interval(np.array(grown))
            reasons = (f"{name} of {len(grown)} traced runs over the median of their cells without the tracer",)
            return (_findings.make("tracing", claim, "info", got, unit="%", reasons=reasons),)
    reason = f"{int(is_traced.sum())} runs were traced; no figure of theirs can be compared"
    return (Finding(analysis="tracing", claim=claim, verdict="info", reasons=(reason,)),)
