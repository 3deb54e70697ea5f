"""At which pressure native sharing visibly hurts the important tenant, so that a scheduler can be told from none.

A ladder of pressures is climbed with the cheap legs alone (every tenant alone, and native sharing); the first at which
the P50 or the P99 surely exceeds what matters is looked at once more with other arrivals, since a ladder of many rungs
finds one by chance: what is chosen from data is judged on other data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from devicelab.analyses import _stats
from devicelab.analyses.priority.data import load
from devicelab.analyses.priority.verdicts import HURT, NATIVE, discriminates, hurts
from devicelab.errors import ConfigError
from devicelab.experiment.check import check
from devicelab.jobs import rounds
from devicelab.model.experiment import STANDALONE, Answer, Experiment
from devicelab.model.results import Results

LADDER = ("batch:8", "batch:32", "batch:128", "copies:2", "copies:4", "copies:8")
FIGURES = ("p50_ratio", "p99_ratio")
# The second look at a rung has other arrivals and another order.
_FRESH_SEED = 1_000_003


@dataclass(frozen=True)
class Rung:
    """What native sharing does to the important tenant at a pressure, by figure; ``fresh``: at the second look."""

    pressure: str
    hurt: Mapping[str, _stats.Interval]
    fresh: bool

    @property
    def hurts(self) -> bool:
        """Surely, in the median or in the tail."""
        return any(discriminates(got) for got in self.hurt.values())


@dataclass(frozen=True)
class Step(rounds.Step):
    """What comes next, the rungs so far, and the pressure that was found."""

    rungs: tuple[Rung, ...] = ()
    found: str = ""


def next_step(base: Experiment, ladder: Sequence[str], done: Sequence[Results], *, at_once: bool = False) -> Step:
    """The next round after these, or how it ended; pure.

    Args:
        base: whose tenants they are.
        ladder: pressures, the mildest first.
        done: campaigns of this climb.
        at_once: every rung that is left in one round, as for a machine that cannot be asked in between.

    Raises:
        ConfigError: no tenants, no ladder, or a campaign of something else.
    """
    if not base.tenants or not ladder:
        raise ConfigError(f"{base.name} has no tenants to press" if not base.tenants else "a ladder has pressures")
    rungs = tuple(rung for results in done for rung in _rungs(results, base))
    refuted = {rung.pressure for rung in rungs if rung.fresh and not rung.hurts}
    proved = next((rung for rung in rungs if rung.fresh and rung.hurts), None)
    if proved is not None:
        return Step(None, f"at {proved.pressure} native sharing hurts: {_said(proved)}", rungs, proved.pressure)
    seen = {rung.pressure for rung in rungs}
    todo = tuple(pressure for pressure in ladder if pressure not in seen)
    first = next((p for p in ladder for r in rungs if r.pressure == p and r.hurts and p not in refuted), None)
    if first is not None:
        return Step(_round(base, (first,), fresh=True), f"{first} seems to hurt: once more, with other arrivals", rungs)
    if todo:
        chosen = todo if at_once else todo[:1]
        return Step(_round(base, chosen, fresh=False), f"does native sharing hurt at {', '.join(chosen)}?", rungs)
    none = f"at no pressure up to {ladder[-1]} does native sharing visibly hurt: no scheduler can be judged here"
    return Step(None, none, rungs)


def _round(base: Experiment, pressures: Sequence[str], *, fresh: bool) -> Experiment:
    made = base.model_copy(
        update={
            "question": "Does native sharing hurt the important tenant here?",
            "answer": Answer(quantity="targets"),
            "factors": {**base.factors, "scheduler": (STANDALONE, NATIVE), "pressure": tuple(pressures)},
            "seed": base.seed + (_FRESH_SEED if fresh else 0),
            "repetitions": max(base.repetitions, _stats.MIN_REPETITIONS),
            "stop": None,
            "search": None,
            "analyses": ("priority",),
        }
    )
    check(made)
    return made


def _rungs(results: Results, base: Experiment) -> tuple[Rung, ...]:
    of = results.experiment
    if of.tenants != base.tenants or set(of.factors.get("scheduler", ())) != {STANDALONE, NATIVE}:
        raise ConfigError(
            f"campaign {results.campaign} is no round of this climb",
            hint="the same experiment and --set, and campaigns that `devicelab press` made",
        )
    services = load(results)
    by_figure = {figure: hurts(results, services, figure) for figure in FIGURES}
    fresh = of.seed != base.seed
    return tuple(
        Rung(pressure, {figure: got[pressure] for figure, got in by_figure.items()}, fresh)
        for pressure in by_figure[FIGURES[0]]
    )


def _said(rung: Rung) -> str:
    return ", ".join(
        f"{figure.partition('_')[0].upper()} {got.estimate:.2f} [{got.low:.2f}, {got.high:.2f}] times standalone"
        if got.low is not None and got.high is not None
        else f"{figure.partition('_')[0].upper()} not known"
        for figure, got in rung.hurt.items()
    )


def rows(step: Step) -> list[tuple[str, str, str, str]]:
    """One row a rung for people: pressure, what was seen of median and tail, and whether it hurts."""
    return [
        (
            f"{rung.pressure}{' (other arrivals)' if rung.fresh else ''}",
            *(
                "insufficient n"
                if got.low is None or got.high is None
                else f"{got.estimate:.2f} [{got.low:.2f}, {got.high:.2f}]"
                for got in rung.hurt.values()
            ),
            f"hurts (above {HURT})" if rung.hurts else "",
        )  # type: ignore[misc]
        for rung in step.rungs
    ]
