"""Findings from intervals."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from devicelab.analyses._stats import Interval
from devicelab.experiment.sequences import Anytime
from devicelab.model.experiment import Finding, Verdict


def make(
    analysis: str,
    claim: str,
    verdict: Verdict,
    effect: Interval | Anytime,
    *,
    unit: str,
    reasons: Sequence[str] = (),
    simulated: bool = False,
) -> Finding:
    """A finding whose estimate, bounds and n are those of an interval, and which holds as long as that does."""
    return Finding(
        analysis=analysis,
        claim=claim,
        verdict=verdict,
        estimate=known(effect.estimate),
        low=known(effect.low),
        high=known(effect.high),
        unit=unit,
        n=effect.n,
        reasons=tuple(reasons),
        simulated=simulated,
        interval="anytime" if isinstance(effect, Anytime) else "fixed n",
    )


_OPEN: tuple[Verdict, ...] = ("invalid", "insufficient n", "inconclusive", "cannot tell here")


def together(verdicts: Sequence[Verdict], notable: Verdict) -> Verdict:
    """One verdict for several claims, at least one: ``notable`` if any claim shows it, the other if every claim does.

    Otherwise it is open, as the claim is that has the least to say.
    """
    return next((one for one in (notable, *_OPEN) if one in verdicts), verdicts[0])


def known(value: float | None) -> float | None:
    """A number as it is stored in a finding: ``None`` for NaN."""
    return float(value) if value is not None and math.isfinite(value) else None


def interval(row: Mapping[Any, Any], estimate: str = "estimate") -> Interval:
    """The interval in a row of a table with the columns ``low``, ``high`` and ``n``."""
    return Interval(float(row[estimate]), known(row["low"]), known(row["high"]), int(row["n"]))
