"""The one finding that answers the experiment's question, from the claims that it rests on.

Either a figure of the runs, compared between the levels of one factor, or what an analysis concludes as a whole: such
an analysis has a table ``ANSWERS``, quantity → ``function(results) -> Finding``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from devicelab.analyses import _findings, _frames, _sides, _stats
from devicelab.analyses.base import Figure
from devicelab.ground import registry
from devicelab.model import glossary
from devicelab.model.experiment import Answer, Experiment, Finding, Level, Verdict
from devicelab.model.results import Results

_WORDS = {
    # The mean: a load interrupts the program now and then, which no kernel's median shows.
    "t_prod_mean_ns": "T_prod",
    "t_prod_median_ns": "the median T_prod",
    "total_ns": "the time of an inference",
    "t_ker_sum_ns": "the sum of T_ker",
    "flush_mean_ns": "the cost of a flush",
    "cpu_use_pct": "the CPU use of the whole device",
}
_LISTED = 8


def figures(results: Results) -> tuple[Figure, ...]:
    """What the answer compares, side by side: a row for each combination of the other levels, a dot for each level."""
    asked = results.experiment.answer
    if asked is None or not asked.by:
        return ()
    return _sides.figures(sides(asked, results), asked.quantity, words_of(asked.quantity), unit(asked, results))


def sides(asked: Answer, results: Results) -> pd.DataFrame:
    """The answer's figure of both sides, from valid runs: ``cell level estimate low high n``.

    A row a level and combination of what both sides have in common, medians over repetitions with their intervals.
    """
    runs = _frames.valid_runs(results)
    runs = runs[_matching(runs, asked.where)].reset_index(drop=True)
    if runs.empty or asked.by not in runs.columns:
        return pd.DataFrame()
    points, common = _compare_by(asked, runs)
    varying = _frames.varying(runs)
    named = [name for name in common if name in varying]
    runs = _observed(asked, results, runs)
    ranks = [[_frames.rank(level) for level in row] for row in runs[named].itertuples(index=False)]
    runs = runs.iloc[sorted(range(len(ranks)), key=ranks.__getitem__)]
    here = runs[asked.by].map(_frames.level_text)
    base = _frames.level_text(asked.against[asked.by])
    given = [_frames.level_text(level) for level in results.experiment.factors.get(asked.by, ())]
    rows: list[dict[str, object]] = []
    for level in dict.fromkeys((base, *given, *here)):
        part = runs[_matching(runs, asked.against)] if level == base else runs[here == level]
        for cell, values in _by(part, named).groupby(level="cell", sort=False) if len(part) else ():
            got = _stats.median_interval(values if points else np.exp(values))
            name = _frames.label({asked.by: level})
            told = {"estimate": got.estimate, "low": got.low, "high": got.high, "n": got.n}
            rows.append({"cell": cell, "level": name, **told})
    return pd.DataFrame(rows, columns=["cell", "level", "estimate", "low", "high", "n"])


def words_of(quantity: str) -> str:
    """A figure of the runs for people."""
    return _WORDS.get(quantity, quantity)


def unit(asked: Answer, results: Results) -> str:
    """Of the figure itself."""
    return "pct" if asked.quantity == "cpu_use_pct" else _frames.unit_of(results, asked.quantity)


@dataclass(frozen=True)
class Compared:
    """One level of the factor against the base.

    Attributes:
        claim: the effect with its simultaneous interval: it covers whichever level is picked afterwards.
        cells: the same for each pair of cells by what they have in common, plain 95% intervals.
    """

    claim: Finding
    cells: dict[str, _stats.Interval]


def analyse(results: Results) -> tuple[Finding, ...]:
    """Exactly one finding, the answer; nothing if the experiment names none.

    Figures are compared pair by pair: the same repetition, the same levels of everything else (T_prod at the same K).
    A repetition is one observation, the mean over its pairs: of ratios their geometric mean, of percentages the
    difference in points. "yes" needs the simultaneous 95% interval of some level to lie beyond what matters, "no" every
    interval within it and no single cell beyond it.
    """
    asked = results.experiment.answer
    if asked is None:
        return ()
    function = known(results.experiment).get(asked.quantity)
    found = function(results) if function is not None else _together(asked, results)
    return (found.model_copy(update={"analysis": "answer", "answer": True, "simulated": _frames.simulated(results)}),)


def known(experiment: Experiment) -> dict[str, Callable[[Results], Finding]]:
    """What the experiment's analyses conclude as a whole, by quantity."""
    found: dict[str, Callable[[Results], Finding]] = {}
    for name in experiment.analyses:
        if name in registry.usable_names("analyses"):
            found |= registry.answers(name)
    return found


def claims(results: Results) -> tuple[Compared, ...]:
    """What the answer rests on, a claim for each level of the factor, in the experiment's order."""
    asked = results.experiment.answer
    return () if asked is None or not asked.by else _compared(asked, results)


def _together(asked: Answer, results: Results) -> Finding:
    claim = question_of(asked)
    singles = _compared(asked, results)
    if not singles:
        reason = f"no cell with another {asked.by} than {_text(asked.against)}, and the same cell with that"
        return Finding(
            analysis="answer", claim=claim, verdict="insufficient n", reasons=(reason,), quantity=asked.quantity
        )
    verdict = _findings.together([one.claim.verdict for one in singles], "yes")
    chief = max((one for one in singles if one.claim.verdict == verdict), key=_size)
    reasons = [reason for one in singles for reason in _reasons(one, asked)]
    if len(singles) > 1:
        reasons.insert(0, f"the figure is that of {chief.claim.comparison}; intervals hold for all {len(singles)}")
    return chief.claim.model_copy(update={"claim": claim, "verdict": verdict, "reasons": tuple(reasons)})


def question_of(asked: Answer) -> str:
    """The claim of the answer, as a question."""
    words = _WORDS.get(asked.quantity, asked.quantity)
    if asked.by == "policy":
        return f"Does the policy change {words}, compared with {_text(asked.against)}?"
    return f"Does the {_frames.WORDS.get(asked.by, asked.by)} change {words}?"


def _size(one: Compared) -> float:
    estimate = one.claim.estimate or 0.0
    if one.claim.unit == "points":
        return abs(estimate)
    return abs(math.log(estimate)) if estimate > 0 else 0.0


def _reasons(one: Compared, asked: Answer) -> list[str]:
    claim = one.claim
    reasons = [f"{claim.comparison}: {_shown(claim.estimate, claim.low, claim.high)}"]
    if len(one.cells) > 1:
        parts = [f"{name}: {_shown(got.estimate, got.low, got.high)}" for name, got in one.cells.items()]
        left = len(parts) - _LISTED
        reasons.append("; ".join(parts[:_LISTED]) + (f"; and {left} more" if left > 0 else ""))
    beyond = [name for name, got in one.cells.items() if _verdict(got, asked, claim.unit) == "yes"]
    if beyond and claim.verdict == "inconclusive":
        reasons.append(f"changed beyond {asked.within_pct:g}% at {', '.join(beyond[:3])}, not in the mean of all")
    if claim.verdict == "insufficient n":
        there = "1 repetition" if claim.n == 1 else f"{claim.n} repetitions"
        reasons.append(f"{there}; six are the least, more where several levels are compared at once")
    return reasons


def _shown(estimate: float | None, low: float | None, high: float | None) -> str:
    bounds = "" if low is None or high is None else f" [{low:.4g}, {high:.4g}]"
    return "no pair of valid runs" if estimate is None else f"{estimate:.4g}{bounds}"


def _verdict(effect: _stats.Interval, asked: Answer, unit: str) -> Verdict:
    """Whether a change is beyond what matters; ``differs`` for ratios, the same for differences."""
    within = asked.within_pct / 100
    if unit == "points":
        effect = effect.map(lambda points: 1 + points / 100)
    return _stats.differs(effect, within)


def _compared(asked: Answer, results: Results) -> tuple[Compared, ...]:
    every = results.runs()
    every = every[_matching(every, asked.where)]
    runs = every[every["valid"].astype(bool)].reset_index(drop=True)
    if runs.empty or asked.by not in runs.columns:
        return ()
    base = {word: _frames.level_text(level) for word, level in asked.against.items()}
    varying = _frames.varying(every)
    common = [name for name in _compare_by(asked, runs)[1] if name in varying]
    runs = _observed(asked, results, runs)
    before = _by(runs[_matching(runs, asked.against)], common)
    here, every_here = (frame[asked.by].map(_frames.level_text) for frame in (runs, every))
    order = [_frames.level_text(level) for level in results.experiment.factors.get(asked.by, ())]
    levels = [text for text in dict.fromkeys((*order, *every_here)) if text not in {"-", base[asked.by]}]
    paired = {level: _pairs(before, _by(runs[here == level], common)) for level in levels}
    # A level that was run and has no run that counts is an open claim, not an absent one.
    ran = {*every_here} if base[asked.by] in {*every_here} else set()
    planned = {level: pairs for level, pairs in paired.items() if len(pairs) or level in ran}
    return tuple(_claim(asked, level, pairs, len(planned)) for level, pairs in planned.items())


def _compare_by(asked: Answer, runs: pd.DataFrame) -> tuple[bool, list[str]]:
    """Whether differences in points are compared, not ratios; factors that both sides have in common."""
    apart = {*asked.against, "placement"} if asked.by == "load" else {*asked.against}
    return asked.quantity.endswith("_pct"), [name for name in _frames.factors(runs) if name not in apart]


def _observed(asked: Answer, results: Results, runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with the column ``observed``: the figure, its logarithm where ratios are compared."""
    observed = runs["run_id"].map(_values(asked.quantity, results, runs)).astype("float64")
    if not asked.quantity.endswith("_pct"):
        return runs.assign(observed=np.log(observed.where(observed > 0)))
    return runs.assign(observed=observed)


def _matching(runs: pd.DataFrame, where: Mapping[str, Level]) -> "pd.Series[bool]":
    chosen = pd.Series(data=True, index=runs.index)
    for word, level in where.items():
        if word in runs.columns:
            chosen &= runs[word].map(_frames.level_text) == _frames.level_text(level)
    return chosen


def _claim(asked: Answer, level: str, pairs: pd.DataFrame, family: int) -> Compared:
    points = asked.quantity.endswith("_pct")
    unit = unit_of(asked)
    convert: Callable[[float], float] = (lambda x: x) if points else math.exp
    effect = _stats.location(_by_repetition(pairs), 1 - (1 - _stats.CONFIDENCE) / family).map(convert)
    cells = {
        str(name): _stats.location(part["change"].to_numpy()).map(convert)
        for name, part in pairs.groupby("cell", sort=False)
        if name
    }
    verdict = _verdict(effect, asked, unit)
    if verdict == "no" and any(_verdict(got, asked, unit) == "yes" for got in cells.values()):
        verdict = "inconclusive"
    words = comparison_of(asked, level)
    claim = _findings.make(
        "answer", f"{_WORDS.get(asked.quantity, asked.quantity)}: {words}", verdict, effect, unit=unit
    )
    return Compared(claim.model_copy(update={"quantity": asked.quantity, "comparison": words}), cells)


def unit_of(asked: Answer) -> str:
    """Of the answer's effect: ``points`` of a percentage, or times what it is compared with."""
    base = _frames.level_text(asked.against[asked.by])
    return "points" if asked.quantity.endswith("_pct") else glossary.times(_frames.label({asked.by: base}))


def comparison_of(asked: Answer, level: str) -> str:
    """What is over what: a level of the factor over the base."""
    base = {word: _frames.level_text(one) for word, one in asked.against.items()}
    return f"{_frames.label({asked.by: level})} / {_frames.label(base)}"


def _text(against: Mapping[str, Any]) -> str:
    return ", ".join(f"{word} = {level}" for word, level in against.items())


def _values(quantity: str, results: Results, runs: pd.DataFrame) -> "pd.Series[float]":
    if quantity == "cpu_use_pct":
        return _frames.cpu_uses(results, runs)
    return _frames.metric(results, quantity)


def _by(part: pd.DataFrame, common: Sequence[str]) -> "pd.Series[float]":
    """Mean by repetition and the levels in common."""
    texts = {name: part[name].map(_frames.level_text) for name in common}
    words = [_frames.label({name: texts[name][row] for name in common}) if common else "" for row in part.index]
    keys = pd.MultiIndex.from_arrays([part["repetition"].to_numpy(), words], names=["repetition", "cell"])
    return part["observed"].set_axis(keys).dropna().groupby(level=["repetition", "cell"], sort=False).mean()


def _pairs(before: "pd.Series[float]", after: "pd.Series[float]") -> pd.DataFrame:
    both = pd.concat([before.rename("before"), after.rename("after")], axis=1, join="inner")
    return (both["after"] - both["before"]).rename("change").reset_index()


def _by_repetition(pairs: pd.DataFrame) -> "pd.Series[float]":
    """One figure a repetition: the mean over its pairs, of which a few may be missing.

    A missing pair must not shift the mean to that of the others, so each cell's own mean stands in for it. Cells and
    repetitions of which more than half is missing are left out: too much would be stood in for.
    """
    table = pairs.pivot_table(index="repetition", columns="cell", values="change")
    table = table.loc[:, table.notna().mean() > 0.5] if len(table) else table
    table = table[table.notna().mean(axis=1) > 0.5]
    return table.fillna(table.mean()).mean(axis=1)
