"""From numbers to a verdict with its reasons in words."""

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from devicelab.compare.nights.assess import ALPHA, MIN_NIGHTS, WINDOWS, One
from devicelab.compare.nights.data import Key
from devicelab.compare.nights.held import ALARM, ENOUGH, SIGN
from devicelab.compare.nights.stats import Floats, Ints
from devicelab.model.night import CellVerdict, NightVerdict

NOISY = 0.10
"""A cell in which a shift of this size would not be seen is too noisy to be called unchanged."""

_FEW = 0.5
"""Share of the baseline's usual repetitions that a night needs."""


@dataclass(frozen=True)
class Scale:
    """How figures were made comparable: logarithms, shares of the series' own level, or nothing (level 0).

    Attributes:
        kind: of each series, ``log``, ``share`` or ``none``.
        level: of each series, what shares are of.
    """

    kind: NDArray[np.str_]
    level: Floats


@dataclass(frozen=True)
class Case:
    """All that is known of one figure of one cell in the night judged; columns are those of ``nights``.

    Attributes:
        night: its id.
        key: what it is of.
        worse: which way is worse; ``None`` if nobody knows.
        nights: ids of all columns.
        has: (nights,) where it was measured.
        values, again: (nights, repetitions) and (repetitions,), in its own unit; the night's second measurement.
        base, window: columns compared.
        scale: ``log``, ``share`` or ``none``.
        assessment: the numbers.
        again_shift: of the second measurement alone against the baseline.
        platform, programs: what changed between the baseline and the night.
        since: night of the newest change point near.
        company: figures of the device that moved the same way, of how many, and their median shift, if it is most.
    """

    night: str
    key: Key
    worse: Literal["more", "less"] | None
    nights: tuple[str, ...]
    has: NDArray[np.bool_]
    values: Floats
    again: Floats
    base: tuple[int, ...]
    window: tuple[int, ...]
    scale: str
    assessment: One
    again_shift: float
    platform: tuple[str, ...]
    programs: tuple[str, ...]
    since: str | None
    company: tuple[int, int, float] | None = None

    def repetitions(self, columns: tuple[int, ...]) -> int:
        """Valid runs in these nights."""
        return int(np.isfinite(self.values[list(columns)]).sum()) if columns else 0


def scaled(values: Floats, last: Ints) -> tuple[Scale, Floats]:
    """Logarithms where everything is positive, else shares of the median of the nights before ``last``."""
    known = np.isfinite(values)
    positive = ((values > 0) | ~known).all(axis=(1, 2))
    past = np.where((np.arange(values.shape[1]) < last[:, None])[..., None], values, np.nan).reshape(len(values), -1)
    level = np.array([np.median(np.abs(row[np.isfinite(row)])) if np.isfinite(row).any() else 0.0 for row in past])
    kind = np.where(positive, "log", np.where(level > 0, "share", "none"))
    scale = Scale(kind, level)
    return scale, rescaled(values, scale)


def rescaled(values: Floats, scale: Scale) -> Floats:
    """Other values of the same series in that scale; NaN where there is no scale."""
    shape = (-1,) + (1,) * (values.ndim - 1)
    kind, level = scale.kind.reshape(shape), np.where(scale.level > 0, scale.level, 1.0).reshape(shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        per_level = np.where(kind == "log", np.log(values), values / level)
    return np.where((kind == "none") | ~np.isfinite(per_level), np.nan, per_level)


def verdict(case: Case) -> CellVerdict:
    """The verdict, its figures in percent and its reasons."""
    said, reasons, confirmed = _judged(case)
    one = case.assessment
    causes = (*case.platform, *case.programs)
    if case.company is not None and said != "unchanged":
        along, of, median = case.company
        share = f"{along} of {of} figures of this device moved the same way this night"
        look = f"(median {_pct(median, case.scale):+.1f} %): look at the device too, its heat, battery and daemons"
        reasons = (*reasons, f"{share} {look}")
    return CellVerdict(
        night=case.night,
        **asdict(case.key),
        verdict=said,
        shift_pct=_known(_pct(one.shift, case.scale)),
        low_pct=_known(_pct(one.low, case.scale)),
        high_pct=_known(_pct(one.high, case.scale)),
        p_value=_known(one.p),
        q_value=_known(one.q),
        threshold_pct=_known(100 * one.threshold),
        n=case.repetitions(case.window),
        n_baseline=case.repetitions(case.base),
        baseline=tuple(case.nights[column] for column in case.base),
        causes=causes,
        reasons=reasons,
        since=case.since,
        confirmed=confirmed,
        evidence=_known(one.evidence),
        established=one.established and said in {"regression", "improvement"},
    )


_Judged = tuple[NightVerdict, tuple[str, ...], bool | None]


def _judged(case: Case) -> _Judged:
    tonight = len(case.nights) - 1
    before = [column for column in np.flatnonzero(case.has).tolist() if column != tonight]
    n = case.repetitions((tonight,))
    if n == 0:
        return "not comparable", ("no valid run of it this night: all were flagged, or it was not reached",), None
    if len(before) < MIN_NIGHTS:
        return "not comparable", (f"{len(before)} earlier nights measured it, {MIN_NIGHTS} are needed",), None
    if case.platform:
        moved = "" if not np.isfinite(case.assessment.shift) else f"; across it the figure shifted by {_size(case)}"
        return "not comparable", (f"{case.platform[0]}: nothing is compared across such a change{moved}",), None
    usual = float(np.median([np.isfinite(case.values[column]).sum() for column in (case.base or tuple(before))]))
    if n < _FEW * usual:
        return "too noisy", (f"{n} valid repetitions this night, usual are {usual:g}",), None
    if case.scale == "none":
        return _from_zero(case, before, n)
    if not np.isfinite(case.assessment.p):
        return "not comparable", (f"fewer than {MIN_NIGHTS} nights it can be compared with",), None
    return _by_shift(case)


def _from_zero(case: Case, before: list[int], n: int) -> _Judged:
    """A figure whose usual value is 0, such as dropped requests: no percentage, but "it never happened" counts."""
    now = case.values[-1][np.isfinite(case.values[-1])]
    past = case.values[before][np.isfinite(case.values[before])]
    middle = float(np.median(now))
    if middle == 0:
        return "unchanged", ("0, as before",), None
    text = (
        f"{middle:g} {_unit(case)}in the median of {n} repetitions, in the {past.size} of {len(before)} earlier nights"
    )
    if past.any():
        return "too noisy", (f"{text} mostly 0: no percentage can be said",), None
    bad = case.worse is not None and (middle > 0) == (case.worse == "more")
    return ("regression" if bad else "not comparable"), (f"{text} always 0",), None


def _by_shift(case: Case) -> _Judged:
    one = case.assessment
    window = WINDOWS[one.window]
    ago = f" ({window.gap} nights ago)" if window.gap and not one.established else ""
    against = f"the {len(case.base)} nights before{ago}"
    reasons = [f"{_size(case)} against {against}; counts from {100 * one.threshold:.1f} %, q = {_small(one.q)}"]
    if window.gap and not one.established:
        nights = window.k + window.gap
        reasons.append(f"drift: the last {window.k} nights against those {window.gap} nights earlier, about")
        reasons[-1] += f" {_pct(one.shift, case.scale) / nights:+.2f} % a night"
    elif window.k > 1 and not one.established:
        reasons.append(f"this night and the {window.k - 1} before it together")
    if case.since is not None:
        reasons.append(f"a new level begins in {case.since}")
    reasons += _looked(one)
    confirmed: bool | None = None
    second = np.isfinite(case.again).sum()
    if second and np.isfinite(case.again_shift):
        agrees = (case.again_shift > 0) == (one.shift > 0) and abs(case.again_shift) >= one.threshold / 2
        confirmed = bool(one.moved and agrees)
        reasons.append(f"measured again: {_pct(case.again_shift, case.scale):+.1f} % (n = {second})")
    if not one.moved:
        return _not_moved(case, reasons, confirmed)
    if confirmed is False:
        return "unchanged", (*reasons, "the second measurement did not show it again"), False
    if case.programs:
        return "not comparable", (*reasons, f"what measures was changed: {case.programs[0]}"), confirmed
    if case.worse is None:
        return "not comparable", (*reasons, "it changed; which way is better is not known of this figure"), confirmed
    bad = (one.shift > 0) == (case.worse == "more")
    return ("regression" if bad else "improvement"), tuple(reasons), confirmed


def _looked(one: One) -> list[str]:
    """What looking every night says: that it is established, or how far from it."""
    if one.established:
        return [f"established: of cells without a change {100 * ALARM:.0f} % get here in a year of looking every night"]
    if one.moved:
        return [f"by this night's look; not established yet (evidence {one.evidence:.3g} of {ENOUGH:.3g})"]
    return [f"may be moving: evidence {one.evidence:.3g} of {ENOUGH:.3g}"] if one.evidence >= SIGN else []


def _not_moved(case: Case, reasons: list[str], confirmed: bool | None) -> _Judged:
    one = case.assessment
    if confirmed is None and one.p <= ALPHA and abs(one.shift) >= one.threshold:
        return "too noisy", (*reasons, "more than counts, but not sure among so many figures"), None
    if one.threshold > NOISY:
        return "too noisy", (*reasons, f"a shift of {100 * NOISY:.0f} % would not be seen here"), confirmed
    return "unchanged", tuple(reasons), confirmed


def _size(case: Case) -> str:
    one = case.assessment
    text = f"{_pct(one.shift, case.scale):+.1f} %"
    if np.isfinite(one.low) and np.isfinite(one.high):
        text += f" [{_pct(one.low, case.scale):+.1f}, {_pct(one.high, case.scale):+.1f}]"
    return text


def _pct(relative: float, scale: str) -> float:
    return 100 * float(np.expm1(relative)) if scale == "log" else 100 * relative


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _small(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-4 else "< 0.0001"


def _unit(case: Case) -> str:
    return "" if case.key.unit == "1" else f"{case.key.unit} "
