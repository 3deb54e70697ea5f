"""Which scheduler serves a mix of tenants best: what is known of each after some rounds, and who goes on.

Who leaves is steered by pooled scatter (successive elimination; Even-Dar, Mannor, Mansour, JMLR 7, 2006), not by a
verdict: what is chosen is judged on arrivals that chose nothing, so that a bold elimination costs a little of the aim
and never a wrong interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from devicelab.analyses.priority.data import load, shared
from devicelab.analyses.priority.figure_of import rows_of
from devicelab.analyses.priority.verdicts import NATIVE
from devicelab.experiment import racing
from devicelab.experiment.aims import Aim, Keep
from devicelab.model.results import Results

# Chance that one which keeps its bounds leaves wrongly, over all of them; it only steers.
_RISK = 0.05
_ROUND = 1_000_000

Rows = Mapping[int, float]
"""Repetition (numbered over all rounds) → figure."""


@dataclass(frozen=True)
class Candidate:
    """A scheduler as far as it is known.

    Attributes:
        leg: level of ``scheduler``.
        aim: figure to bring up or down, by repetition.
        keeps: figures with bounds, in the order of those.
    """

    leg: str
    aim: Rows
    keeps: tuple[Rows, ...]

    @property
    def repetitions(self) -> int:
        """Valid runs it has."""
        return len(self.aim)


@dataclass(frozen=True)
class Standing:
    """Candidates by what is known of them.

    Attributes:
        candidates: all with a valid run.
        going_on: those that may still be the best, best first.
        best: the best that seems to keep every bound; empty: none does.
        broken: leg → the bounds it surely breaks.
        unrun: legs without a valid run.
    """

    candidates: tuple[Candidate, ...]
    going_on: tuple[str, ...]
    best: str
    broken: Mapping[str, tuple[str, ...]]
    unrun: tuple[str, ...] = ()

    @property
    def decided(self) -> bool:
        """One is left, or none."""
        return len(self.going_on) < 2


def candidates(rounds: Sequence[Results], aim: Aim, keeps: Sequence[Keep]) -> tuple[Candidate, ...]:
    """Every leg in which tenants ran together, over all rounds."""
    aims: dict[str, dict[int, float]] = {}
    kept: dict[str, list[dict[int, float]]] = {}
    for number, results in enumerate(rounds):
        services = load(results)
        for (tenant, leg, _), service in services.items():
            if not shared((leg, "")):
                continue
            own = kept.setdefault(leg, [{} for _ in keeps])
            for known, keep in zip(own, keeps, strict=True):
                if keep.tenant == tenant:
                    known.update(_rows(number, rows_of(service, keep.target.figure, services).to_dict()))
            if tenant == aim.tenant:
                aims.setdefault(leg, {}).update(_rows(number, rows_of(service, aim.figure, services).to_dict()))
    return tuple(Candidate(leg, aims[leg], tuple(kept[leg])) for leg in aims if aims[leg])


def _rows(number: int, rows: Mapping[object, float]) -> dict[int, float]:
    found = {number * _ROUND + int(float(str(n))): float(value) for n, value in rows.items()}
    return {n: value for n, value in found.items() if math.isfinite(value)}


def standing(known: Sequence[Candidate], aim: Aim, keeps: Sequence[Keep], wanted: Sequence[str] = ()) -> Standing:
    """Who goes on: not those that surely break a bound, nor those whose aim is surely behind the best of the others.

    One that seems to break a bound, though not surely, goes on only while its aim is the better one.
    """
    beyond = {one.leg: _beyond(one, keeps) for one in known}
    off = {leg: _surely(leg, beyond, keeps) for leg in beyond}
    broken = {leg: names for leg, names in off.items() if names}
    left = [one for one in known if one.leg not in broken]
    seem = [one for one in left if all(_mean(rows) <= 0 for rows in beyond[one.leg])]
    order = _by_aim(left, aim)
    best = next((leg for leg in order if leg in {one.leg for one in seem}), "")
    ahead = order[: order.index(best)] if best else order
    values = {one.leg: {n: _cost(x, aim) for n, x in one.aim.items()} for one in seem}
    alive = set(racing.standing(values).alive()) if best else set()
    going_on = tuple(leg for leg in order if leg in alive or leg in ahead)
    ran = {one.leg for one in known}
    return Standing(tuple(known), going_on, best, broken, tuple(leg for leg in wanted if leg not in ran))


def _cost(value: float, aim: Aim) -> float:
    """A positive figure of which less is better."""
    least = 1e-9
    return 1 / max(value, least) if aim.up else max(value, least)


def _by_aim(known: Sequence[Candidate], aim: Aim) -> list[str]:
    middle = {one.leg: float(np.mean([math.log(_cost(x, aim)) for x in one.aim.values()])) for one in known}
    # Where nothing tells them apart the driver's own sharing comes first: it needs nothing.
    return sorted(middle, key=lambda leg: (middle[leg], leg != NATIVE))


def _beyond(one: Candidate, keeps: Sequence[Keep]) -> list[Rows]:
    """By how much each repetition is beyond each bound: log of the ratio where there is one, else the difference."""
    found: list[Rows] = []
    for rows, keep in zip(one.keeps, keeps, strict=True):
        target, way = keep.target, 1 if keep.target.sign.startswith("<") else -1
        log = target.bound > 0 and all(x > 0 for x in rows.values())
        found.append({n: way * (math.log(x / target.bound) if log else x - target.bound) for n, x in rows.items()})
    return found


def _mean(rows: Rows) -> float:
    return float(np.mean(list(rows.values()))) if rows else math.inf


def _surely(leg: str, beyond: Mapping[str, list[Rows]], keeps: Sequence[Keep]) -> tuple[str, ...]:
    """The bounds that a leg breaks beyond Student's t of the scatter within all legs."""
    from scipy.stats import t as student

    found = []
    for index, keep in enumerate(keeps):
        every = [list(rows[index].values()) for rows in beyond.values()]
        freedom = sum(len(values) - 1 for values in every if values)
        own = list(beyond[leg][index].values())
        if not own or freedom < 1:
            continue
        squares = sum(float(np.square(np.array(values) - np.mean(values)).sum()) for values in every if values)
        error = math.sqrt(squares / freedom / len(own))
        if float(np.mean(own)) > float(student.isf(_RISK / len(beyond), freedom)) * error:
            found.append(str(keep))
    return tuple(found)
