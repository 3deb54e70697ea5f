"""A search for the scheduler that serves a mix of tenants best, in rounds; each is a campaign of a fixed design.

Screening rounds run every scheduler that may still be the best; the last round runs the chosen one, native sharing and
the others that came so far on arrivals that chose nothing (another seed): its campaign holds the certificate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from devicelab.analyses.priority import choosing
from devicelab.analyses.priority.choosing import Standing
from devicelab.analyses.priority.verdicts import NATIVE
from devicelab.errors import ConfigError
from devicelab.experiment import aims, tenancy
from devicelab.experiment.aims import Aim, Keep
from devicelab.experiment.check import check
from devicelab.ground import registry
from devicelab.ground.times import duration
from devicelab.jobs.rounds import Step as Round
from devicelab.model.experiment import STANDALONE, Answer, Experiment
from devicelab.model.results import Results
from devicelab.model.tuning import Tuning
from devicelab.workloads.base import OnPython

FEW = 2
"""Repetitions of every candidate in a screening round."""
SCREENINGS = 3
"""Screening rounds at most."""
FRESH = 6
"""Repetitions of the last round, the least for an interval; up to twice as many where the budget has room."""
FINALISTS = 3
"""Candidates of the last round at most, beside native sharing."""

# From starting a tenant to its first window, and from the last window to the next run, s; until runs tell. A model
# loads and warms up.
_START_S, _START_MODEL_S = 2.0, 16.0
# The last round's arrivals come from another seed.
_FRESH_SEED = 1_000_003

NVIDIA = (
    NATIVE, "mps", "mps:priority", "mps:50", "mps:25", "mps:50+priority", "mps:stream", "green:50", "green:25",
)  # fmt: skip
XSCHED = ("xsched:HPF", "xsched:HPF(threshold=8,batch=4)", "xsched:HPF(threshold=4,batch=2)")
CPU = (NATIVE, "nice:5", "nice:10", "nice:19")


@dataclass(frozen=True)
class Asked:
    """What is looked for: ``budget_s`` is the time all runs may take together."""

    aim: Aim
    keep: tuple[Keep, ...]
    candidates: tuple[str, ...]
    budget_s: float


@dataclass(frozen=True)
class Step(Round):
    """What comes next; ``standing`` is that of the candidates so far, nothing before the first round."""

    standing: Standing | None = None


def asked(experiment: Experiment, aim: str, keep: Sequence[str], candidates: Sequence[str], budget_s: float) -> Asked:
    """What is looked for, read and checked.

    Raises:
        ConfigError: no tenants, several pressures, an aim, bound or scheduler that is none, or nothing to choose from.
    """
    if not experiment.tenants:
        raise ConfigError(f"{experiment.name} has no tenants, so there is nothing to schedule")
    if len(experiment.factors.get("pressure", ())) > 1:
        raise ConfigError(
            "a scheduler is chosen for one pressure; this experiment has several",
            hint="--set 'pressure=[\"batch:128\"]'",
        )
    wanted = tuple(dict.fromkeys((NATIVE, *candidates)))
    for level in wanted:
        if tenancy.parse_leg(level).alone:
            raise ConfigError(f"{level}: a tenant alone is no way to share")
    if len(wanted) < 2:
        raise ConfigError("there is nothing to choose from", hint="--try mps --try green:50")
    tenants = experiment.tenants
    return Asked(aims.parse_aim(aim, tenants), tuple(aims.parse_keep(text, tenants) for text in keep), wanted, budget_s)


def usual_candidates(board: str, prefixes: Sequence[str]) -> tuple[str, ...]:
    """What is tried where nothing is named: by the kind of board and the software that lab.toml names there."""
    if board == "nvidia-server":
        return (*NVIDIA, *(XSCHED if "xsched" in prefixes else ()))
    if board == "amd-server":
        return (NATIVE, *(XSCHED if "xsched" in prefixes else ()))
    return CPU


def next_step(base: Experiment, what: Asked, rounds: Sequence[Results]) -> Step:
    """The next round after these, or why there is none; pure.

    Raises:
        ConfigError: the budget does not hold the least there is to do, or a round is of another search.
    """
    for results in rounds:
        _same_search(results, what)
    if rounds and rounds[-1].experiment.tuning is not None and rounds[-1].experiment.tuning.chosen:
        return Step(None, f"{rounds[-1].experiment.tuning.chosen} has its certificate", _standing(rounds[:-1], what))
    run_s = _run_s(base, rounds)
    alone = len(base.tenants)
    least = run_s * FRESH * (alone + 2)
    if not rounds:
        needed = run_s * FEW * (alone + len(what.candidates)) + least
        if needed > what.budget_s:
            raise ConfigError(
                f"{len(what.candidates)} candidates twice and a certificate take about {duration(needed)} of runs",
                hint="a larger --budget, fewer --try, or a shorter duration_s",
            )
        return Step(_round(base, what, what.candidates, (), number=1), f"every candidate {FEW} times")
    now = _standing(rounds, what)
    number = len(rounds) + 1
    left_s = what.budget_s - _spent_s(rounds)
    screening_s = run_s * FEW * (alone + len(now.going_on))
    if not now.decided and number <= SCREENINGS and left_s >= screening_s + least:
        again = tuple(leg for leg in what.candidates if leg in now.going_on)
        step = _round(base, what, again, rounds, number=number)
        return Step(step, f"{len(again)} may still be the best: {FEW} times more", now)
    if not now.best:
        kept = " and ".join(map(str, what.keep))
        return Step(None, f"no candidate {'seems to keep' if now.going_on else 'keeps'} {kept}", now)
    others = [leg for leg in now.going_on if leg not in {now.best, NATIVE}][: FINALISTS - 1]
    while others and left_s < run_s * FRESH * (alone + 2 + len(others)):
        others.pop()
    legs = tuple(dict.fromkeys((NATIVE, now.best, *others)))
    repetitions = min(2 * FRESH, max(FRESH, int(left_s / (run_s * (alone + len(legs))))))
    final = _round(base, what, legs, rounds, number=number, chosen=now.best, repetitions=repetitions)
    return Step(final, f"{now.best} is chosen; judged on fresh arrivals, {repetitions} times", now)


def _standing(rounds: Sequence[Results], what: Asked) -> Standing:
    known = choosing.candidates(rounds, what.aim, what.keep)
    return choosing.standing(known, what.aim, what.keep, what.candidates)


def _same_search(results: Results, what: Asked) -> None:
    tuning = results.experiment.tuning
    wanted = (str(what.aim), tuple(map(str, what.keep)))
    if tuning is None or (tuning.aim, tuning.keep) != wanted:
        raise ConfigError(
            f"campaign {results.campaign} is no round of this search",
            hint="the same --aim and --keep, and campaigns that `devicelab tune` made",
        )


def _round(
    base: Experiment,
    what: Asked,
    legs: Sequence[str],
    rounds: Sequence[Results],
    *,
    number: int,
    chosen: str = "",
    repetitions: int = FEW,
) -> Experiment:
    tuning = Tuning(
        aim=str(what.aim),
        keep=tuple(map(str, what.keep)),
        candidates=what.candidates,
        number=number,
        after=tuple(results.campaign for results in rounds),
        chosen=chosen,
    )
    kept = " and ".join(map(str, what.keep))
    under = f" under {kept}" if kept else ""
    question = f"Round {number}: which scheduler is best for {what.aim}{under}?"
    if chosen:
        question = f"Does {chosen}, chosen for {what.aim}, keep {kept or 'its aim'} on fresh arrivals?"
    made = base.model_copy(
        update={
            "question": question,
            "factors": {**base.factors, "scheduler": (STANDALONE, *legs)},
            # Other arrivals and another order in each round, and none of them in the last one.
            "seed": base.seed + (_FRESH_SEED if chosen else number - 1),
            "repetitions": repetitions,
            "stop": None,
            "search": None,
            "tuning": tuning,
            "answer": Answer(quantity="certificate") if chosen else base.answer,
            "analyses": ("priority",),
        }
    )
    check(made)
    return made


def _run_s(base: Experiment, rounds: Sequence[Results]) -> float:
    """How long a run takes, start to end: as those of the rounds did, or a guess."""
    lengths = [float(ns) / 1e9 for results in rounds for ns in results.runs().get("duration_ns", ())]
    if lengths:
        return sum(lengths) / len(lengths)
    models = any(isinstance(registry.workload(name), OnPython) for name in base.workloads)
    return base.span_s + base.settle_s + base.cooldown_s + (_START_MODEL_S if models else _START_S)


def _spent_s(rounds: Sequence[Results]) -> float:
    return sum(float(ns) / 1e9 for results in rounds for ns in results.runs().get("duration_ns", ()))
