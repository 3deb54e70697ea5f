"""Two campaigns side by side: what moved, by how much with what certainty, and what became of each target.

Tenants are compared by figure, leg and pressure; other campaigns by cell and metric. Whatever else is not the same
(device, board, operating system, driver, binaries, settings) is named first.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from devicelab.analyses import _frames, _stats
from devicelab.analyses.priority.data import Key, Leg, Service, legs, load
from devicelab.analyses.priority.figure_of import figure_of, rows_of, unit_of
from devicelab.analyses.priority.verdicts import Judged, judged
from devicelab.compare.changes import Change, changes
from devicelab.errors import ConfigError
from devicelab.experiment import targets
from devicelab.model.experiment import Verdict
from devicelab.model.results import Results

TOLERANCE = 0.05
"""A ratio within 1 +- this is no difference that matters."""

_RATIOS = ("p50_ms", "p99_ms", "p99.9_ms", "throughput_per_s", "longest_gap_ms")
_SHIFTS = ("share_pct", "gpu_use_pct", "preemption_p50_ms", "preemption_p99_ms", "dropped", "missed", "empty_seconds")

Outcome = Literal["kept", "fixed", "regressed", "still fails", "undecided"]


@dataclass(frozen=True)
class Shift:
    """A figure in both campaigns.

    Attributes:
        where: the cell, or tenant and leg, for people.
        unit: of ``a`` and ``b``.
        a, b: the estimates; ``n_a`` and ``n_b`` the numbers they rest on.
        kind: ``ratio`` (b over a) or ``shift`` (b less a, in ``unit``).
        effect, low, high: with its 95% interval over repetitions; ``None`` where there is too little data.
        verdict: does it differ by more than what matters? ``yes no inconclusive``, "insufficient n".
        p: adjusted for the family of all figures compared, where the method gives one.
    """

    where: str
    metric: str
    unit: str
    a: float
    b: float
    n_a: int
    n_b: int
    kind: Literal["ratio", "shift"]
    effect: float
    low: float | None
    high: float | None
    verdict: Verdict
    p: float | None = None


@dataclass(frozen=True)
class TargetShift:
    """A target in both campaigns: its verdicts, and what became of it."""

    where: str
    target: str
    a: Verdict
    b: Verdict
    outcome: Outcome


@dataclass(frozen=True)
class Comparison:
    """What two campaigns have in common and where they differ.

    Attributes:
        a, b: ids of the campaigns.
        changes: what is not the same besides the figures.
        only_a, only_b: cells or legs that one of them lacks (or has no valid run of).
        shifts: figures, in the order of ``a``.
        targets: of tenants.
    """

    a: str
    b: str
    changes: tuple[Change, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    shifts: tuple[Shift, ...]
    targets: tuple[TargetShift, ...] = ()
    simulated: bool = field(default=False)

    @property
    def regressed(self) -> tuple[TargetShift, ...]:
        """Targets that were kept in ``a`` and are broken in ``b``."""
        return tuple(one for one in self.targets if one.outcome == "regressed")


def compare(
    a: Results, b: Results, *, tolerance: float = TOLERANCE, leg_a: str | None = None, leg_b: str | None = None
) -> Comparison:
    """Compare campaign ``b`` with the baseline ``a``.

    Args:
        a: the baseline.
        b: what is compared with it.
        tolerance: of a ratio; differences are judged against this share of the baseline.
        leg_a: take this leg of ``a`` alone (``native``) ...
        leg_b: ... and compare it with this one of ``b`` (``mps``); name both or none.

    Raises:
        ConfigError: one has tenants and the other has none, or only one leg is named.
    """
    if bool(a.experiment.tenants) != bool(b.experiment.tenants):
        raise ConfigError("one campaign has tenants, the other has none; they have no figure in common")
    if (leg_a is None) != (leg_b is None) or (leg_a is not None and not a.experiment.tenants):
        raise ConfigError("name a leg of both campaigns, or of none", hint="--leg-a native --leg-b mps, of tenants")
    parts = _of_tenants(a, b, tolerance, leg_a, leg_b) if a.experiment.tenants else _of_cells(a, b, tolerance)
    simulated = _frames.simulated(a) or _frames.simulated(b)
    return Comparison(a.campaign, b.campaign, changes(a, b), *parts, simulated=simulated)


_Parts = tuple[tuple[str, ...], tuple[str, ...], tuple[Shift, ...], tuple[TargetShift, ...]]


# --- tenants -----------------------------------------------------------------------------------------------------


def _of_tenants(a: Results, b: Results, tolerance: float, leg_a: str | None, leg_b: str | None) -> _Parts:
    ours, theirs = load(a), load(b)
    known = {leg for leg, _ in (*legs(a), *legs(b))}
    for leg in (leg_a, leg_b):
        if leg is not None and leg not in known:
            raise ConfigError(f"no leg {leg!r} was run", hint=f"there are {', '.join(sorted(known))}")
    pairs = {key: _partner(key, leg_a, leg_b) for key in ours if leg_a is None or key[1] == leg_a}
    both = {key: other for key, other in pairs.items() if other in theirs}
    wanted = [key for key in theirs if leg_b is None or key[1] == leg_b]
    shifts = tuple(
        shift
        for key, other in both.items()
        for shift in _figures(ours[key], ours, theirs[other], theirs, _where(key, other), tolerance)
    )
    return (
        tuple(_where(key, key) for key in pairs if key not in both),
        tuple(_where(key, key) for key in wanted if key not in both.values()),
        shifts,
        tuple(_targets(a, b, ours, theirs, leg_a, leg_b)),
    )


def _partner(key: Key, leg_a: str | None, leg_b: str | None) -> Key:
    return key if leg_b is None else (key[0], leg_b if key[1] == leg_a else key[1], key[2])


def _where(key: Key, other: Key) -> str:
    leg = key[1] if key[1] == other[1] else f"{key[1]} → {other[1]}"
    return f"{key[0]}, {leg}" + (f", {key[2]}" if key[2] else "")


def _figures(
    mine: Service,
    ours: Mapping[Key, Service],
    other: Service,
    theirs: Mapping[Key, Service],
    where: str,
    tolerance: float,
) -> Iterator[Shift]:
    for figure in (*_RATIOS, *_SHIFTS):
        one, two = figure_of(mine, figure, ours), figure_of(other, figure, theirs)
        if not (np.isfinite(one.estimate) and np.isfinite(two.estimate)):
            continue
        ratio = figure in _RATIOS and one.estimate > 0
        before, after = rows_of(mine, figure, ours), rows_of(other, figure, theirs)
        effect = _stats.ratio(before, after) if ratio else _stats.shift(before, after)
        if effect.n == 0:  # known of all requests together alone
            apart = two.estimate / one.estimate if ratio else two.estimate - one.estimate
            effect = _stats.Interval(apart, None, None, 0)
        verdict = _stats.differs(effect, tolerance) if ratio else _beyond(effect, tolerance * abs(one.estimate))
        yield Shift(
            where,
            figure,
            unit_of(figure),
            one.estimate,
            two.estimate,
            one.n,
            two.n,
            "ratio" if ratio else "shift",
            effect.estimate,
            effect.low,
            effect.high,
            verdict,
        )


def _beyond(effect: _stats.Interval, limit: float) -> Verdict:
    """Does a difference exceed what matters?"""
    if effect.low is None or effect.high is None:
        return "insufficient n"
    if effect.low > limit or effect.high < -limit:
        return "yes"
    return "no" if effect.low >= -limit and effect.high <= limit else "inconclusive"


def _targets(
    a: Results,
    b: Results,
    ours: Mapping[Key, Service],
    theirs: Mapping[Key, Service],
    leg_a: str | None,
    leg_b: str | None,
) -> Iterator[TargetShift]:
    """Targets of the same figure; one whose bound was changed is judged by each campaign's own."""
    old = {(one.tenant, one.leg, one.target.figure): one for one in judged(a, ours) if leg_a in (None, one.leg[0])}
    new = {(one.tenant, one.leg, one.target.figure): one for one in judged(b, theirs) if leg_b in (None, one.leg[0])}
    for (tenant, leg, figure), one in old.items():
        partner: Leg = leg if leg_b is None else (leg_b, leg[1])
        two = new.get((tenant, partner, figure))
        if two is not None:
            where = _where((tenant, *leg), (tenant, *partner))
            yield TargetShift(where, _both(one.target, two.target), one.verdict, two.verdict, _outcome(one, two))


def _both(one: targets.Target, two: targets.Target) -> str:
    return str(one) if one == two else f"{one}, then {two.sign} {two.bound:g}"


def _outcome(one: Judged, two: Judged) -> Outcome:
    before, after = _kept(one.verdict), _kept(two.verdict)
    if before is None or after is None:
        return "undecided"
    words: dict[tuple[bool, bool], Outcome] = {
        (True, True): "kept",
        (True, False): "regressed",
        (False, True): "fixed",
        (False, False): "still fails",
    }
    return words[before, after]


def _kept(verdict: Verdict) -> bool | None:
    # A target was kept also where the scheduler could not be told from having none.
    return {"pass": True, "yes": True, "cannot tell here": True, "fail": False, "no": False}.get(verdict)


# --- cells -------------------------------------------------------------------------------------------------------


def _of_cells(a: Results, b: Results, tolerance: float) -> _Parts:
    ours, theirs = _values(a), _values(b)
    cells_a, cells_b = ({cell: None for cell, *_ in figures} for figures in (ours, theirs))
    raw = []
    for key, values in ours.items():
        others = theirs.get(key)
        if others is not None and not (_constant(values) and _constant(others) and values[0] == others[0]):
            ratio = bool((values > 0).all() and (others > 0).all())
            effect = _stats.ratio(values, others) if ratio else _stats.shift(values, others)
            raw.append((key, values, others, ratio, effect))
    known = [effect.p for *_, effect in raw if effect.p is not None]
    adjusted = iter(_stats.benjamini_hochberg(known))
    shifts = []
    for (cell, metric, unit), values, others, ratio, effect in raw:
        p = float(next(adjusted)) if effect.p is not None else None
        base = float(np.median(values))
        verdict = _stats.differs(effect, tolerance, p) if ratio else _beyond(effect, tolerance * abs(base))
        shifts.append(
            Shift(
                cell,
                metric,
                unit,
                base,
                float(np.median(others)),
                values.size,
                others.size,
                "ratio" if ratio else "shift",
                effect.estimate,
                effect.low,
                effect.high,
                verdict,
                p,
            )
        )
    return (
        tuple(cell for cell in cells_a if cell not in cells_b),
        tuple(cell for cell in cells_b if cell not in cells_a),
        tuple(shifts),
        (),
    )


def _values(results: Results) -> dict[tuple[str, str, str], _stats.Floats]:
    """(cell, metric, unit) → one value a valid run; the metric carries its program's name where several have it."""
    runs = _frames.valid_runs(results)
    metrics = results.metrics().merge(runs[["run_id", "cell"]], on="run_id").dropna(subset=["value"])
    programs = metrics.groupby("metric")["program"].nunique().to_dict()
    by_figure: dict[tuple[str, str, str], _stats.Floats] = {}
    for (cell, program, metric, unit), part in metrics.groupby(["cell", "program", "metric", "unit"], sort=False):
        name = f"{program}.{metric}" if programs[metric] > 1 else str(metric)
        by_figure[str(cell) or "all runs", name, str(unit)] = part["value"].to_numpy(dtype=np.float64)
    return by_figure


def _constant(values: _stats.Floats) -> bool:
    return bool(np.ptp(values) == 0) if values.size else True
