"""The four questions of the lab's checklist, answered from data for every load and then for all loads together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from devicelab.analyses import _findings, _stats
from devicelab.analyses.klo.common import NEAR_ENOUGH, listed, shown_good, used
from devicelab.analyses.klo.condition import Condition, compared
from devicelab.analyses.klo.data import KloData
from devicelab.model import glossary
from devicelab.model.experiment import Finding, Verdict

# Speed-ups closer than this are "about the same". A single K's time varies by about 1% from run to run, a ratio of
# two speed-ups holds four of them.
SPEEDUP_TOLERANCE = 0.05

_UNDECIDED: tuple[Verdict, ...] = ("inconclusive", "insufficient n", "cannot tell here")


@dataclass(frozen=True)
class _Answer:
    """One question for one load."""

    condition: Condition
    effect: _stats.Interval
    verdict: Verdict
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Question:
    number: int
    text: str
    unit: str
    answer: Callable[[Condition, Condition], _Answer]
    notable: Verdict  # the answer that one load is enough for


def checklist(data: KloData) -> tuple[Finding, ...]:
    """Four findings, then the same for each load where there are several.

    The answer for all loads together is the notable one (K differs, the speed-up drops, is not kept, is not the same)
    if any single load shows it, the other one if every load shows that, else not enough data. An experiment without
    loads is not asked.
    """
    if not data.loaded:
        return ()
    overall, single = [], []
    for question in _QUESTIONS:
        answers = _adjusted(question, [question.answer(loaded, idle) for loaded, idle in data.pairs()])
        overall.append(_together(question, answers, data.simulated))
        if len(answers) > 1:
            single += [_finding(question, answer, data.simulated) for answer in answers]
    return (*overall, *single)


def _adjusted(question: _Question, answers: list[_Answer]) -> list[_Answer]:
    """Several loads are several tests: the notable answer must survive a Benjamini-Hochberg adjustment over them."""
    tested = [answer.effect.p for answer in answers]
    if len(answers) < 2 or all(p is None for p in tested):
        return answers
    adjusted = _stats.benjamini_hochberg([1.0 if p is None else p for p in tested])
    return [
        replace(
            answer, verdict="inconclusive", reasons=(*answer.reasons, f"not significant among {len(answers)} loads")
        )
        if answer.verdict == question.notable and p > 1 - _stats.CONFIDENCE
        else answer
        for answer, p in zip(answers, adjusted, strict=True)
    ]


def _together(question: _Question, answers: Sequence[_Answer], simulated: bool) -> Finding:
    claim = f"{question.number}. {question.text}"
    if not answers:
        reason = "no cell with a load and the same cell without one"
        return Finding(analysis="klo", claim=claim, verdict="insufficient n", reasons=(reason,), simulated=simulated)
    verdicts = [answer.verdict for answer in answers]
    verdict = _findings.together(verdicts, question.notable)
    deciding = [answer for answer in answers if answer.verdict == verdict]
    chief = max(deciding, key=lambda answer: abs(np.log(answer.effect.estimate)) if answer.effect.estimate > 0 else 0.0)
    about = () if len(answers) == 1 else (_tally(verdicts, chief),)
    return _finding(question, chief, simulated).model_copy(
        update={"claim": claim, "verdict": verdict, "reasons": (*about, *chief.reasons)}
    )


def _tally(verdicts: Sequence[Verdict], chief: _Answer) -> str:
    """How the loads answered, those words alone that occur: ``of 3 loads 1 says yes, 2 are not decided``."""
    counts = ((word, verdicts.count(word)) for word in ("yes", "no"))
    said = [f"{count} {'says' if count == 1 else 'say'} {word}" for word, count in counts if count]
    undecided = sum(one in _UNDECIDED for one in verdicts)
    if undecided:
        said.append(f"{undecided} {'is' if undecided == 1 else 'are'} not decided")
    return f"of {len(verdicts)} loads {', '.join(said)}; the figure is that of {chief.condition.label}"


def _finding(question: _Question, answer: _Answer, simulated: bool) -> Finding:
    return _findings.make(
        "klo",
        f"{question.number}. {question.text} ({answer.condition.label})",
        answer.verdict,
        answer.effect,
        unit=question.unit,
        reasons=answer.reasons,
        simulated=simulated,
    )


def _k_differs(loaded: Condition, idle: Condition) -> _Answer:
    effect = k_ratio(idle, loaded)
    shared = tuple(sorted(set(_near(loaded)) & set(_near(idle))))
    reasons = [f"K = {loaded.constant_k} under load, {idle.constant_k} idle{_how(loaded)}"]
    if shared:
        reasons.append(f"within noise of the best in both: {listed(shared)}")
    good = tuple(k for k in shared if all(shown_good(one, k) for one in (loaded, idle)))
    verdict: Verdict = "inconclusive"
    if effect.low is None or effect.high is None or not all(_conclusive(one) for one in (loaded, idle)):
        verdict = "insufficient n"
    elif good:
        verdict = "no"
        reasons.append(f"shown to cost at most {NEAR_ENOUGH:.0%} more than the best in both: {listed(good)}")
    elif not shared and (effect.low > 1 or effect.high < 1):
        verdict = "yes"
    return _Answer(loaded, effect, verdict, tuple(reasons))


def _conclusive(condition: Condition) -> bool:
    return condition.near is not None and condition.near.conclusive


def k_ratio(before: Condition, after: Condition) -> _stats.Interval:
    """The constant K of ``after`` over that of ``before``, with the widest bounds of the K that may be the best.

    Conservative: each of the two sets holds its best K with 95%, and the corners of both are taken.
    """
    if before.constant_k is None or after.constant_k is None:
        return _stats.NOTHING
    estimate = after.constant_k / before.constant_k
    n = min(len(before.curve), len(after.curve))
    if not before.k_set or not after.k_set:
        return _stats.Interval(estimate, None, None, n)
    return _stats.Interval(estimate, min(after.k_set) / max(before.k_set), max(after.k_set) / min(before.k_set), n)


def _how(condition: Condition) -> str:
    return " (from the fitted model)" if condition.model is not None else " (the fastest measured)"


def _near(condition: Condition) -> tuple[int, ...]:
    return condition.near.k if condition.near is not None else ()


def _speedup_drops(loaded: Condition, idle: Condition) -> _Answer:
    if idle.chosen_k == 1:
        reason = "the K found idle is 1: there is no speed-up over K = 1 to lose"
        return _Answer(loaded, _stats.NOTHING, "cannot tell here", (reason,))
    effect, reasons = _speedups(loaded, loaded.total_of(idle), idle, idle.total_of(idle))
    reasons = (f"K found idle: {used(loaded, idle)}", *reasons)
    return _Answer(loaded, effect, _stats.falls(effect, SPEEDUP_TOLERANCE), reasons)


def _speedup_kept(loaded: Condition, idle: Condition) -> _Answer:
    if idle.chosen_k == 1 and loaded.chosen_k == 1:
        reason = "the K found is 1 in both: there is no speed-up over K = 1 to keep"
        return _Answer(loaded, _stats.NOTHING, "cannot tell here", (reason,))
    effect, reasons = _speedups(loaded, loaded.total_of(loaded), idle, idle.total_of(idle))
    lost = _stats.falls(effect, SPEEDUP_TOLERANCE)
    kept: dict[Verdict, Verdict] = {"yes": "no", "no": "yes"}
    found = f"K found under load: {used(loaded, loaded)}; found idle: {used(idle, idle)}"
    reasons = (found, *reasons)
    return _Answer(loaded, effect, kept.get(lost, lost), reasons)


def _dynamic_same(loaded: Condition, idle: Condition) -> _Answer:
    ours, theirs = loaded.policies.get("dynamic"), idle.policies.get("dynamic")
    if ours is None or theirs is None:
        return _Answer(loaded, _stats.NOTHING, "insufficient n", ("dynamic K was not run both idle and under load",))
    effect, reasons = _speedups(loaded, ours, idle, theirs)
    changed = _stats.differs(effect, SPEEDUP_TOLERANCE)
    same: dict[Verdict, Verdict] = {"yes": "no", "no": "yes"}
    return _Answer(loaded, effect, same.get(changed, changed), reasons)


def _speedups(
    loaded: Condition, loaded_total: "pd.Series[float]", idle: Condition, idle_total: "pd.Series[float]"
) -> tuple[_stats.Interval, tuple[str, ...]]:
    """Speed-up over K = 1 under load, over the same idle: four runs of one block make one observation."""
    if 1 not in loaded.curve.columns or 1 not in idle.curve.columns:
        return _stats.NOTHING, ("K = 1 was not measured, so there is no speed-up",)
    loaded_gain, idle_gain = loaded.curve[1] / loaded_total, idle.curve[1] / idle_total
    effect = compared(idle_gain, loaded_gain)
    if effect.n == 0:
        return effect, ("no repetition has all four runs",)
    gains = f"speed-up over K = 1: {loaded_gain.median():.3f} under load, {idle_gain.median():.3f} idle"
    return effect, (gains, f"about the same means within {SPEEDUP_TOLERANCE:.0%}")


_OF_SPEED_UP = glossary.times("idle", "the speed-up")
_QUESTIONS = (
    _Question(
        1,
        "Does the constant K under load differ from the constant K when idle?",
        glossary.times("idle", "the K"),
        _k_differs,
        "yes",
    ),
    _Question(2, "Does the speed-up drop when the idle K is used under load?", _OF_SPEED_UP, _speedup_drops, "yes"),
    _Question(3, "Does the K found under load keep the speed-up under load?", _OF_SPEED_UP, _speedup_kept, "no"),
    _Question(4, "Is the speed-up of dynamic K about the same idle and under load?", _OF_SPEED_UP, _dynamic_same, "no"),
)
