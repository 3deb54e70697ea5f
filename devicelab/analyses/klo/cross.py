"""How far clocks carry: T_prod and T_ker at each clock, and the K found in one condition used in another."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from devicelab.analyses import _findings, _frames, _stats
from devicelab.analyses.klo.common import MEANINGFUL, NEAR_ENOUGH, listed, shown_good, used, within
from devicelab.analyses.klo.condition import Condition, compared, over_best
from devicelab.analyses.klo.data import KloData
from devicelab.model import glossary
from devicelab.model.experiment import Finding, Verdict
from devicelab.model.results import Results


def findings(results: Results, data: KloData) -> tuple[Finding, ...]:
    """What each clock changes, then the cross tables of clocks."""
    found = (*_frequencies(results, data), *_crossed(data))
    return tuple(finding.model_copy(update={"simulated": data.simulated}) for finding in found)


def _frequencies(results: Results, data: KloData) -> Iterator[Finding]:
    figures = {"T_prod": "t_prod_median_ns", "the sum of T_ker": "t_ker_sum_ns", "an inference": "total_ns"}
    for word in ("cpu", "gpu"):
        if not any(word in condition.levels for condition in data.conditions):
            continue
        for group in data.along([word]):
            base = _fastest(group, word, results)
            for condition in group:
                if condition is base:
                    continue
                predicted = _clock_ratio(results, base, condition, word)
                for words, metric in figures.items():
                    values = _frames.metric(results, metric)
                    if len(values):
                        where = data.rest(condition, [word])
                        yield _frequency(words, where, base, condition, word, values, predicted)


def _fastest(group: tuple[Condition, ...], word: str, results: Results) -> Condition:
    """The condition of the highest sampled clock, or the one that is called ``max``, or the last."""
    sums = [sum(_clock(results, condition, word).values()) for condition in group]
    if any(sums):
        return group[int(np.argmax(sums))]
    return next((condition for condition in group if condition.levels[word] == "max"), group[-1])


def _clock(results: Results, condition: Condition, word: str, most: int = 3) -> dict[str, float]:
    """Median clock by node over the condition's first runs."""
    seen: dict[str, list[float]] = {}
    for run in condition.runs["run_id"].head(most):
        for path, value in _frames.clocks(results.evidence(run), word).items():
            seen.setdefault(path, []).append(value)
    return {path: float(np.median(values)) for path, values in seen.items()}


def _clock_ratio(results: Results, base: Condition, slow: Condition, word: str) -> tuple[float, float] | None:
    """Least and greatest factor by which the clocks of ``slow`` lie below those of ``base``."""
    fast, now = _clock(results, base, word), _clock(results, slow, word)
    ratios = [fast[path] / now[path] for path in fast.keys() & now.keys()]
    return (min(ratios), max(ratios)) if ratios else None


def _frequency(
    words: str,
    where: str,
    base: Condition,
    slow: Condition,
    word: str,
    values: "pd.Series[float]",
    predicted: tuple[float, float] | None,
) -> Finding:
    effect = compared(base.by_cell(values), slow.by_cell(values))
    name, level, top = _frames.WORDS[word], slow.levels[word], base.levels[word]
    reasons = []
    if predicted is not None:
        low, high = predicted
        span = f"{low:.2f}" if high < low * 1.01 else f"{low:.2f} to {high:.2f}"
        reasons.append(f"the {name} fell by a factor of {span}, so proportional to 1/f would be {span}")
        if words == "T_prod" and word == "cpu" and effect.low is not None and effect.high is not None:
            fits = low * 0.9 <= effect.low and effect.high <= high * 1.1
            apart = effect.high < low * 0.9 or effect.low > high * 1.1
            reasons.append("1/f fits" if fits else "1/f does not fit" if apart else "1/f cannot be told")
    claim = f"Does {name} {level} instead of {top} change {words}?{where}"
    return _findings.make(
        "klo", claim, _stats.differs(effect, MEANINGFUL), effect, unit=glossary.times(f"{name} {top}"), reasons=reasons
    )


def cross_table(data: KloData) -> pd.DataFrame:
    """K found in one condition, used in another that differs in one factor: its time over the measured best K's there.

    Columns ``factor where found_at used_at k ratio low high n``; K is what would be chosen in the first
    condition.
    """
    rows: list[Mapping[str, object]] = []
    for factor, words in (("cpu", ("cpu",)), ("gpu", ("gpu",)), ("load", ("load", "placement"))):
        if not any(factor in condition.levels for condition in data.conditions):
            continue
        for group in data.along(words):
            where = data.rest(group[0], words)
            for found in group:
                for place in group:
                    if found.chosen_k is None or place.manual.empty or place.curve.shape[1] < 2:
                        continue
                    effect = over_best(place, place.total_of(found), constant=True)
                    rows.append(
                        {
                            "factor": factor,
                            "where": where.strip(" ()"),
                            "found_at": _frames.label({word: found.levels.get(word, "-") for word in words}),
                            "used_at": _frames.label({word: place.levels.get(word, "-") for word in words}),
                            "k": used(place, found),
                            "ratio": effect.estimate,
                            "low": effect.low,
                            "high": effect.high,
                            "n": effect.n,
                        }
                    )
    columns = ["factor", "where", "found_at", "used_at", "k", "ratio", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns).astype({"ratio": float, "low": float, "high": float})


def carried(data: KloData) -> Finding:
    """Whether the K found at each clock is good at every other: yes if each is, no if one is not."""
    claim = f"Is the K found at one clock, used at another, within 5% of the {glossary.MEASURED_BEST_K} there?"
    found = [*_carried(data)]
    if not found:
        nothing = ("no two clocks with several K each",)
        return Finding(analysis="klo", claim=claim, verdict="insufficient n", reasons=nothing, quantity="k_carried")
    verdict = _findings.together([one.verdict for one in found], "no")
    deciding = [one for one in found if one.verdict == verdict]
    chief = max(deciding, key=lambda one: -math.inf if one.estimate is None else one.estimate)
    reasons = (f"the figure is the dearest of {len(found)}: {chief.claim}", *chief.reasons)
    return chief.model_copy(update={"claim": claim, "verdict": verdict, "reasons": reasons, "quantity": "k_carried"})


def _carried(data: KloData) -> Iterator[Finding]:
    table = cross_table(data)
    for row in table[(table["factor"] != "load") & (table["found_at"] != table["used_at"])].to_dict("records"):
        where = f" ({row['where']})" if row["where"] else ""
        effect = _findings.interval(row, "ratio")
        used_at = f"Is the K found at {row['found_at']}, used at {row['used_at']}, within 5%"
        claim = f"{used_at} of the {glossary.MEASURED_BEST_K} there?{where}"
        yield within(claim, effect, f"K = {row['k']}")


def _crossed(data: KloData) -> Iterator[Finding]:
    yield from _carried(data)
    for word in ("cpu", "gpu"):
        if not any(word in condition.levels for condition in data.conditions):
            continue
        for group in data.along([word]):
            yield from _same_k(group, word, data.rest(group[0], [word]))


def _same_k(group: tuple[Condition, ...], word: str, where: str) -> Iterator[Finding]:
    sets = {condition.levels[word]: condition.near for condition in group}
    known = {level: near for level, near in sets.items() if near is not None}
    if len(known) < 2:
        return
    shared = sorted(set.intersection(*(set(near.k) for near in known.values())))
    conclusive = all(near.conclusive for near in known.values())
    good = tuple(k for k in shared if all(shown_good(condition, k) for condition in group if condition.near))
    verdict: Verdict = "inconclusive" if shared else "no"
    if not conclusive:
        verdict = "insufficient n"
    elif good:
        verdict = "yes"
    reasons = [
        f"{_frames.WORDS[word]} {level}: fastest K = {near.best}, within noise {listed(near.k)}"
        for level, near in known.items()
    ]
    reasons.append(f"in common: {listed(tuple(shared))}" if shared else "no K is within noise of the best at each")
    if good:
        reasons.append(f"shown to cost at most {NEAR_ENOUGH:.0%} more than the best at each: {listed(good)}")
    yield Finding(
        analysis="klo",
        claim=f"Is one constant K good at every {_frames.WORDS[word]}?{where}",
        verdict=verdict,
        n=min(near.n for near in known.values()),
        reasons=tuple(reasons),
    )
