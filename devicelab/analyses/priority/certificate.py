"""The last round of a tuning: does what was chosen keep its bounds on arrivals that chose nothing?"""

from collections.abc import Iterator, Mapping

import numpy as np

from devicelab.analyses import _stats
from devicelab.analyses._findings import make
from devicelab.analyses.priority.data import Key, Service
from devicelab.analyses.priority.figure_of import basis, figure_of, rows_of, unit_of
from devicelab.analyses.priority.verdicts import NATIVE, left_out
from devicelab.experiment import aims
from devicelab.experiment.aims import Keep
from devicelab.model.experiment import STANDALONE, Finding, Verdict
from devicelab.model.results import Results


def certificate(results: Results, services: Mapping[Key, Service]) -> Iterator[Finding]:
    """A finding a bound that was to be kept, then the aim: its figure, and how much of native sharing's that is."""
    tuning = results.experiment.tuning
    if tuning is None or not tuning.chosen:
        return
    tenants = results.experiment.tenants
    for _, found in _bounds(results, services):
        yield found
    aim = aims.parse_aim(tuning.aim, tenants)
    own = _of(services, aim.tenant, tuning.chosen)
    if own is None:
        return
    got = figure_of(own, aim.figure, services)
    reasons = [basis(aim.figure, own)]
    native = _of(services, aim.tenant, NATIVE)
    if native is not None and tuning.chosen != NATIVE:
        over = _stats.paired_ratio(*_paired(native, own, aim.figure, services))
        if over.low is not None and over.high is not None:
            reasons.append(f"{over.estimate:.3g} [{over.low:.3g}, {over.high:.3g}] times native sharing's")
    yield make(
        "priority", f"certificate: {aim} of {tuning.chosen}", "info", got, unit=unit_of(aim.figure), reasons=reasons
    )


def answer(results: Results, services: Mapping[Key, Service]) -> Finding:
    """Whether the chosen scheduler keeps every bound."""
    tuning = results.experiment.tuning
    if tuning is None or not tuning.chosen:
        nothing = ("no round that judges a choice",)
        return Finding(
            analysis="priority", claim="Does the choice keep its bounds?", verdict="insufficient n", reasons=nothing
        )
    claim = f"Does {tuning.chosen} keep {' and '.join(tuning.keep) or 'its aim'} on fresh arrivals?"
    every = _bounds(results, services)
    words: dict[Verdict, Verdict] = {"pass": "yes", "fail": "no"}
    verdicts = [words.get(one.verdict, one.verdict) for _, one in every]
    order: tuple[Verdict, ...] = ("invalid", "no", "insufficient n", "inconclusive", "yes")
    verdict = next((one for one in order if one in verdicts), "info")
    chief = next((one for one, said in zip(every, verdicts, strict=True) if said == verdict), None)
    found = Finding(
        analysis="priority",
        claim=claim,
        verdict=verdict,
        quantity="certificate",
        comparison=f"scheduler {tuning.chosen} / {STANDALONE}",
    )
    if chief is None:
        return found
    keep, decided = chief
    said = {name: getattr(decided, name) for name in ("estimate", "low", "high", "unit", "n")}
    return found.model_copy(update={**said, "reasons": (f"the figure is {keep}", *decided.reasons)})


def _bounds(results: Results, services: Mapping[Key, Service]) -> list[tuple[Keep, Finding]]:
    """Each bound that was to be kept, and whether it was."""
    tuning = results.experiment.tuning
    if tuning is None:
        return []
    keeps = [aims.parse_keep(text, results.experiment.tenants) for text in tuning.keep]
    return [(keep, _kept(results, services, keep, tuning.chosen)) for keep in keeps]


def _kept(results: Results, services: Mapping[Key, Service], keep: Keep, chosen: str) -> Finding:
    claim = f"certificate: {chosen} keeps {keep} on fresh arrivals"
    own = _of(services, keep.tenant, chosen)
    if own is None:
        why = next((reasons for leg, reasons in left_out(results).items() if leg[0] == chosen), ("no run",))
        return Finding(analysis="priority", claim=claim, verdict="invalid", reasons=why)
    got = figure_of(own, keep.target.figure, services)
    verdict = _stats.kept(got.low, got.high, keep.target.keeps)
    return make(
        "priority", claim, verdict, got, unit=unit_of(keep.target.figure), reasons=(basis(keep.target.figure, own),)
    )


def _of(services: Mapping[Key, Service], tenant: str, leg: str) -> Service | None:
    return next((one for (name, of, _), one in services.items() if (name, of) == (tenant, leg)), None)


def _paired(
    native: Service, own: Service, figure: str, services: Mapping[Key, Service]
) -> tuple[list[float], list[float]]:
    ours, theirs = (rows_of(one, figure, services).dropna().to_dict() for one in (own, native))
    both = [n for n in ours if n in theirs and np.isfinite(theirs[n])]
    return [theirs[n] for n in both], [ours[n] for n in both]
