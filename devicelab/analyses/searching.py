"""Searches: the best setting of all combinations, how it was found, and what it takes on fresh runs."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from devicelab.analyses import _findings, _frames, _stats, checks
from devicelab.analyses.klo import data as klo_data
from devicelab.analyses.klo.model import constant_curve
from devicelab.errors import ConfigError
from devicelab.experiment import plan, proposing, racing, sequences
from devicelab.experiment.blocks import Block, End, Fits
from devicelab.experiment.bounds import COMPARE, parse_bound
from devicelab.experiment.claims import Cells
from devicelab.experiment.racing import FRESH, Predicted, Predictor, Proposer, Values, Won
from devicelab.model.experiment import Experiment, Finding
from devicelab.model.results import Results
from devicelab.model.search import Search
from devicelab.model.stop import Stop

# With so few K it is cheaper to try them all than to trust a model.
_FEW_K = 4
# K that are run before the model is asked: the least, the middle one, the largest.
_SCOUTS = 3
_TIME = "total_ns"
# Share of a large grid that is tried at most.
_TRIED = 1 / 3
_LISTED = 6


@dataclass(frozen=True)
class Outlook:
    """What a search will do, before any of its runs.

    Attributes:
        settings: of the grid.
        first: settings that are tried before anything is known.
        tried: at most.
        likely: the same, if the launch model holds (where K alone is searched; else as ``tried``).
        runs: in all, at most (of a large grid: if no setting is proposed twice).
    """

    settings: int
    first: int
    tried: int
    likely: int
    runs: int


class _Before:
    """A campaign as it was before one of its repetitions; see ``Results``."""

    def __init__(self, results: Results, repetition: int) -> None:
        self.campaign, self.info, self.experiment = results.campaign, results.info, results.experiment
        self._results = results
        runs = results.runs()
        self._runs = runs[runs["repetition"] < repetition].reset_index(drop=True)

    def runs(self) -> pd.DataFrame:
        return self._runs.copy()

    def metrics(self) -> pd.DataFrame:
        return self._of_these(self._results.metrics())

    def samples(self, table: str) -> pd.DataFrame:
        return self._of_these(self._results.samples(table))

    def evidence(self, run_id: str) -> dict[str, Any]:
        return self._results.evidence(run_id)

    def _of_these(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame["run_id"].isin(set(self._runs["run_id"]))].reset_index(drop=True)


def ask(
    results: Results, cells: Cells, also: Collection[tuple[str, int]] = (), fits: Fits = lambda _: True
) -> Block | End:
    """The next block of a search, or why there is none; arguments as those of ``sequential.ask``.

    Raises:
        ConfigError: Optuna is needed and not there, a constraint's unit does not fit.
    """
    step = _step(results, cells, also, fits)
    if not isinstance(step, Won):
        return step
    return End("found", f"the best of {len(cells)} settings was found; {len(_tried(results))} were tried")


def outlook(experiment: Experiment, cells: Cells) -> Outlook:
    """How many settings a search tries and how many runs that takes.

    Raises:
        ConfigError: Optuna is needed and not there.
    """
    search, stop, count = experiment.search or Search(minimise=(_TIME,)), experiment.rule or Stop(), len(cells)
    likely = None
    if _k_alone(experiment, cells):
        batches: tuple[int, ...] = (_SCOUTS, count - _SCOUTS)
        likely = min(count, _SCOUTS + racing.NEAREST)
    elif count <= search.exhaustive:
        batches = (count,)
    else:
        proposing.require_optuna(count)
        batches = proposing.batches(_trials(search, count))
    tried = sum(batches)
    return Outlook(count, batches[0], tried, likely or tried, racing.most_runs(stop, count, batches))


def analyse(results: Results) -> tuple[Finding, ...]:
    """The best setting with its interval, its constraints, and the Pareto front of two aims; nothing without a search.

    Everything said of the winner rests on its fresh runs alone.
    """
    search = results.experiment.search
    if search is None:
        return ()
    cells = {cell.cell_id: cell.levels for cell in plan.cells(results.experiment)}
    aim = search.minimise[0]
    try:
        step = _step(results, cells)
    except ConfigError as error:
        reasons = (error.message, *((error.hint,) if error.hint else ()))
        return (Finding(analysis="searching", claim=f"Best setting for {aim}", verdict="invalid", reasons=reasons),)
    if not isinstance(step, Won):
        ended = step.reason if isinstance(step, End) else str(results.info.get("reason") or "it was ended before that")
        found = [Finding(analysis="", claim=f"Best setting for {aim}", verdict="insufficient n", reasons=(ended,))]
    else:
        found = [_best(results, cells, step, search), *_constraints(results, step, search)]
    if len(search.minimise) > 1:
        found.append(_front(results, cells, search))
    found[0] = found[0].model_copy(update={"answer": True, "quantity": aim})
    common = {"analysis": "searching", "simulated": _frames.simulated(results), "interval": "anytime"}
    return tuple(finding.model_copy(update=common) for finding in found)


def _step(
    results: Results, cells: Cells, also: Collection[tuple[str, int]] = (), fits: Fits = lambda _: True
) -> Block | End | Won:
    experiment = results.experiment
    search, stop = experiment.search or Search(minimise=(_TIME,)), experiment.rule or Stop()
    runs = results.runs()
    stored = {(str(cell), int(n)) for cell, n in zip(runs["cell_id"], runs["repetition"], strict=True)} | {*also}
    predict = _k_model(results, cells)
    allowed = partial(_keeping, _bounded(results, search)) if search.constraints else None
    return racing.ask(
        stop,
        _proposer(experiment, cells, search, predict),
        tuple(cells),
        _figures(results, search.minimise[0]),
        stored,
        fits,
        predict or (lambda _: None),
        allowed,
    )


def _proposer(experiment: Experiment, cells: Cells, search: Search, predict: Predictor | None) -> Proposer:
    if predict is not None:
        ordered = sorted(cells, key=lambda cell: _k_of(cells[cell].get("k", 0)))
        scouts = (ordered[0], ordered[len(ordered) // 2], ordered[-1])  # _SCOUTS
        return racing.from_prediction(tuple(cells), predict, scouts)
    if len(cells) <= search.exhaustive:
        return racing.all_at_once(tuple(cells))
    return proposing.from_optuna(cells, _trials(search, len(cells)), experiment.seed)


def _trials(search: Search, cells: int) -> int:
    """Settings of a large grid that are tried."""
    return max(2, min(search.trials, round(_TRIED * cells)))


def _k_model(results: Results, cells: Cells) -> Predictor | None:
    """The launch model, fitted to what ran before; where constant K alone is searched, for the time of an inference."""
    if not _k_alone(results.experiment, cells):
        return None
    known: dict[int, Predicted | None] = {}

    def predict(values: Values) -> Predicted | None:
        after = 1 + max((n for row in values.values() for n in row), default=-1)
        if after not in known:
            known[after] = _curve(_Before(results, after), cells)
        return racing.trusted(known[after], tuple(cells), values)

    return predict


def _k_alone(experiment: Experiment, cells: Cells) -> bool:
    """Whether the launch model can tell which settings to try: more than a few K, for the time of an inference."""
    klo = experiment.measure is not None and experiment.measure.workload == "klo"
    timed = experiment.search is not None and experiment.search.minimise[0] == _TIME
    return klo and timed and _varied(cells) == {"k"} and len(cells) > _FEW_K


def _curve(results: Results, cells: Cells) -> Predicted | None:
    conditions = klo_data.load(results).conditions
    profile = conditions[0].model if len(conditions) == 1 else None
    if profile is None:
        return None
    curve = constant_curve(profile.t_prod_ns, profile.t_ker_ns, profile.fit.costs)
    return {cell: float(curve[min(_k_of(levels.get("k", 0)), curve.size) - 1]) for cell, levels in cells.items()}


def _k_of(level: object) -> int:
    """K for sorting and for the model; 0 is one flush for everything, beyond every other."""
    k = int(level) if isinstance(level, int | float) else 0
    return k if k > 0 else 1 << 30


def _varied(cells: Cells) -> set[str]:
    """Factors with more than one level."""
    words = {word for levels in cells.values() for word in levels}
    return {word for word in words if len({str(levels.get(word)) for levels in cells.values()}) > 1}


def _figures(results: Results, metric: str, unit: str = "") -> dict[str, dict[int, float]]:
    """Cell id → repetition → a figure of its valid run, in the unit given."""
    runs = _frames.valid_runs(results)
    if runs.empty:
        return {}
    values = checks.values_of(metric, results, runs)
    scale = checks.scale_of(metric, unit, results)[0] if unit else 1.0
    return _frames.by_cell(runs, values / scale)


def _bounded(results: Results, search: Search) -> list[tuple[Values, Callable[[float], bool]]]:
    """The figures of each constraint, and whether one keeps it."""
    found: list[tuple[Values, Callable[[float], bool]]] = []
    for metric, text in search.constraints.items():
        sign, bound, unit = parse_bound(text)
        found.append((_figures(results, metric, unit), partial(_keeps, sign, bound)))
    return found


def _keeps(sign: str, bound: float, value: float) -> bool:
    return COMPARE[sign](value, bound)


def _keeping(bounded: Sequence[tuple[Values, Callable[[float], bool]]], before: int) -> frozenset[str]:
    """Settings whose median figures kept every constraint in the repetitions before one."""
    kept: list[set[str]] = []
    for figures, keeps in bounded:
        rows = {cell: [x for n, x in row.items() if n < before] for cell, row in figures.items()}
        kept.append({cell for cell, row in rows.items() if row and keeps(float(np.median(row)))})
    return frozenset(set.intersection(*kept))


def _best(results: Results, cells: Cells, won: Won, search: Search) -> Finding:
    aim = search.minimise[0]
    got = _afresh(_figures(results, aim), won)
    rivals = [cell for cell in won.standing.alive() if cell != won.cell]
    tried = len(_tried(results))
    kept = f", {len(won.standing.cells)} of them keep the constraints" if search.constraints else ""
    runs = f"in {len(results.runs())} runs; as many runs of each would have been {len(cells) * len(won.fresh)}"
    reasons = [
        f"{tried} of {len(cells)} settings were tried{kept}, {runs}",
        f"the interval is that of {len(won.fresh)} fresh runs, none of which it was chosen by",
    ]
    if rivals:
        named = "; ".join(_label(cells, cell) for cell in rivals[:_LISTED])
        reasons.append(f"could not be told from it: {named}" + ("; and more" if len(rivals) > _LISTED else ""))
    claim = f"Best setting for {aim}: {_label(cells, won.cell)}"
    return _findings.make("", claim, "info", got, unit=_frames.unit_of(results, aim), reasons=reasons)


def _constraints(results: Results, won: Won, search: Search) -> list[Finding]:
    found = []
    for metric, text in search.constraints.items():
        sign, bound, unit = parse_bound(text)
        got = _afresh(_figures(results, metric, unit), won)
        found.append(
            _findings.make(
                "",
                f"The best setting keeps {metric} {text}",
                _stats.kept(got.low, got.high, partial(_keeps, sign, bound)),
                got,
                unit=unit or _frames.unit_of(results, metric),
                reasons=("on fresh runs",),
            )
        )
    return found


def _front(results: Results, cells: Cells, search: Search) -> Finding:
    """Settings that no other beats in both aims, by the medians of what they were tried with; constraints are kept."""
    first, second = (_medians(_figures(results, aim)) for aim in search.minimise)
    kept = _keeping(_bounded(results, search), FRESH) if search.constraints else first.keys()
    both = {cell: (first[cell], second[cell]) for cell in first.keys() & second.keys() & kept}
    front = [
        cell
        for cell, (a, b) in both.items()
        if not any(x <= a and y <= b and (x, y) != (a, b) for x, y in both.values())
    ]
    front.sort(key=lambda cell: both[cell])
    units = [_frames.unit_of(results, aim) for aim in search.minimise]
    were = "were tried and keep the constraints" if search.constraints else "were tried"
    reasons = tuple(f"{_label(cells, c)}: {both[c][0]:.5g} {units[0]}, {both[c][1]:.5g} {units[1]}" for c in front)
    return Finding(
        analysis="",
        claim=f"Pareto front of {' and '.join(search.minimise)}: {len(front)} of {len(both)} settings that {were}",
        verdict="info",
        n=racing.FEW,
        reasons=(*reasons, "medians of few runs: a setting near the front may belong to it"),
    )


def _medians(values: Values) -> dict[str, float]:
    chosen = {cell: [x for n, x in row.items() if n < FRESH] for cell, row in values.items()}
    return {cell: float(np.median(row)) for cell, row in chosen.items() if row}


def _tried(results: Results) -> set[str]:
    """Settings that ran before the winner's fresh runs."""
    runs = results.runs()
    return set(runs.loc[runs["repetition"] < FRESH, "cell_id"])


def _afresh(values: Values, won: Won) -> sequences.Anytime:
    row = values.get(won.cell, {})
    return sequences.quantile([row[n] for n in won.fresh if n in row])


def _label(cells: Cells, cell: str) -> str:
    varied = _varied(cells)
    return ", ".join(f"{word} = {level}" for word, level in cells[cell].items() if word in varied) or "the only one"
