"""Campaigns that stop when they have enough: their claims, with intervals that hold however often one looked.

The answer and the checks of an experiment with a stop rule are judged here, not by ``answer`` and ``checks``: an
interval for a fixed number of repetitions does not hold where the number was chosen by looking at the data.
"""

import math
from collections.abc import Collection, Sequence

from devicelab.analyses import _findings, _frames, answer, checks
from devicelab.errors import ConfigError
from devicelab.experiment import claims, stopping
from devicelab.experiment.blocks import Block, End, Fits
from devicelab.experiment.claims import Cells, Claim
from devicelab.experiment.stopping import Decision, Figures
from devicelab.model.experiment import Answer, Finding, Verdict
from devicelab.model.results import Results
from devicelab.model.stop import Stop

_KIND = "95 % confidence sequence: it holds however often one looked"
_JUDGED: tuple[Verdict, ...] = ("yes", "no", "pass", "fail", "inconclusive")


def ask(
    results: Results, cells: Cells, also: Collection[tuple[str, int]] = (), fits: Fits = lambda _: True
) -> Block | End:
    """The next block of a campaign with a stop rule, or why there is none.

    Args:
        results: what is stored.
        cells: of the campaign, in the experiment's order.
        also: runs that are not stored and shall not be asked for again.
        fits: whether so many runs fit what is left of the budget.

    Raises:
        ConfigError: there is nothing to decide.
    """
    found = claims.required(results.experiment, cells, answer.known(results.experiment))
    runs = results.runs()
    stored = {(str(cell), int(n)) for cell, n in zip(runs["cell_id"], runs["repetition"], strict=True)} | {*also}
    seen = {claim: figures_of(results, claim) for claim in found}
    return stopping.ask(_stop(results), found, tuple(cells), seen.__getitem__, stored, fits)


def decisions(results: Results, cells: Cells) -> tuple[tuple[Decision, ...], Block | End]:
    """Where every claim stands, and what would come next if the campaign went on."""
    step = ask(results, cells)
    done = step.done if isinstance(step, End) else step.repetitions.start
    found = claims.required(results.experiment, cells, answer.known(results.experiment))
    stop = _stop(results)
    return tuple(stopping.decide(one, figures_of(results, one), done, stop, len(found)) for one in found), step


def figures_of(results: Results, claim: Claim) -> Figures:
    """The claim's figure of every valid run of its cells, in the bound's unit; nothing where no run has it."""
    runs = _frames.valid_runs(results)
    runs = runs[runs["cell_id"].isin(claim.cells)]
    try:
        values = checks.values_of(claim.quantity, results, runs)
        scale = checks.scale_of(claim.quantity, claim.unit, results)[0] if claim.scale == "level" else 1.0
    except ConfigError:
        return {}
    return _frames.by_cell(runs, values / scale)


def analyse(results: Results) -> tuple[Finding, ...]:
    """The answer, then a finding a check; nothing for an experiment without a stop rule."""
    if results.experiment.stop is None or results.experiment.search is not None:
        return ()
    cells = cells_of(results)
    if not claims.of(results.experiment, cells, answer.known(results.experiment)):
        return _too_early(results)
    found, step = decisions(results, cells)
    ended = step.reason if isinstance(step, End) else str(results.info.get("reason") or "it was ended before that")
    findings = [_check(one, ended) for one in found if one.claim.of != claims.ANSWER]
    answering = [one for one in found if one.claim.of == claims.ANSWER]
    if answering and results.experiment.answer is not None:
        findings.insert(0, _answer(results.experiment.answer, answering, ended))
    simulated = _frames.simulated(results)
    return tuple(finding.model_copy(update={"simulated": simulated}) for finding in findings)


def _too_early(results: Results) -> tuple[Finding, ...]:
    """The answer of a campaign that was ended before what is compared had run."""
    asked = results.experiment.answer
    if asked is None:
        return ()
    ended = str(results.info.get("reason") or "it was ended before that")
    reason = f"what is compared has not run; {ended}"
    found = Finding(analysis="answer", claim=answer.question_of(asked), verdict="insufficient n", reasons=(reason,))
    told = {"answer": True, "quantity": asked.quantity, "simulated": _frames.simulated(results)}
    return (found.model_copy(update=told),)


def without_verdict(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """What other analyses found in a campaign with a stop rule: shown, not judged.

    Their intervals are for a number of repetitions that was fixed beforehand.
    """
    reason = "not judged: its interval is for a fixed number of repetitions, this campaign stopped by looking at others"
    return tuple(
        one.model_copy(update={"verdict": "info", "reasons": (*one.reasons, reason)})
        if one.verdict in _JUDGED and one.low is not None
        else one
        for one in findings
    )


def cells_of(results: Results) -> Cells:
    """The cells that ran, with their levels as they are stored."""
    runs = results.runs().drop_duplicates("cell_id")
    names = _frames.factors(runs)
    rows = zip(runs["cell_id"], *(runs[name] for name in names), strict=True)
    return {
        str(cell): {name: level for name, level in zip(names, levels, strict=True) if _frames.level_text(level) != "-"}
        for cell, *levels in rows
    }


def _stop(results: Results) -> Stop:
    stop = results.experiment.stop
    if stop is None:
        raise ConfigError(f"{results.experiment.name} has no stop rule")
    return stop


def _answer(asked: Answer, found: Sequence[Decision], ended: str) -> Finding:
    """Yes if any level is, no if each is, as where the number of repetitions is fixed."""
    verdict = _findings.together([one.verdict for one in found], "yes")
    chief = max((one for one in found if one.verdict == verdict), key=_size)
    reasons = [_reason(one, _name(one, asked), ended) for one in found]
    if len(found) > 1:
        reasons.insert(0, f"the figure is that of {_name(chief, asked)}; intervals hold for all {len(found)}")
    finding = _finding(chief, "insufficient n" if verdict == "invalid" else verdict, reasons)
    return finding.model_copy(
        update={
            "analysis": "answer",
            "claim": answer.question_of(asked),
            "answer": True,
            "unit": answer.unit_of(asked),
            "quantity": chief.claim.quantity,
            "comparison": answer.comparison_of(asked, chief.claim.level),
        }
    )


def _name(one: Decision, asked: Answer) -> str:
    return answer.comparison_of(asked, one.claim.level)


def _check(one: Decision, ended: str) -> Finding:
    finding = _finding(one, one.verdict, [_reason(one, one.claim.of, ended)])
    if one.claim.percent:
        change = {name: _percent(getattr(finding, name)) for name in ("estimate", "low", "high")}
        finding = finding.model_copy(update={**change, "unit": "%"})
    return finding.model_copy(update={"analysis": "checks"})


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else (ratio - 1) * 100


def _finding(one: Decision, verdict: Verdict, reasons: Sequence[str]) -> Finding:
    kind = (_KIND,) if one.got.low is not None or one.got.high is not None else ()
    return _findings.make("", one.claim.name, verdict, one.got, unit=one.claim.unit or "1", reasons=(*reasons, *kind))


def _reason(one: Decision, name: str, ended: str) -> str:
    bounds = "" if one.got.low is None or one.got.high is None else f" [{one.got.low:.4g}, {one.got.high:.4g}]"
    figure = f"{one.got.estimate:.4g}{bounds}" if one.got.n else "no pair of valid runs"
    if one.done and one.verdict in {one.claim.inside, one.claim.outside}:
        none = f", no difference larger than {_within(one)}" if one.verdict == "no" else ""
        return f"{name}: {figure}{none}, decided after {one.at} repetitions"
    if one.done and one.verdict == "inconclusive":
        return f"{name}: {figure}, as precise as was asked for after {one.at} repetitions"
    return f"{name}: {figure}, not decided after {one.at} repetitions; {ended}"


def _within(one: Decision) -> str:
    if one.claim.scale == "points":
        return f"{one.claim.high:g} points"
    return f"{(one.claim.high - 1) * 100:.3g} %"


def _size(one: Decision) -> float:
    estimate = one.got.estimate
    if one.claim.scale == "ratio":
        return abs(math.log(estimate)) if estimate > 0 else 0.0
    return abs(estimate) if math.isfinite(estimate) else 0.0
