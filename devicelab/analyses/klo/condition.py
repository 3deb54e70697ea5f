"""One condition of a KLO campaign: everything but K and policy is the condition, K and policy vary within it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from devicelab.analyses import _stats
from devicelab.analyses.klo.driver import Driver
from devicelab.analyses.klo.model import NearOptimal, near_optimal_set
from devicelab.analyses.klo.tables import Profile

# A fit that is off by more has not understood the device: nothing is concluded from it, and its costs choose no K.
WORST_RESIDUAL_PCT = 10.0
_TIE = 1e-12
_NEAR = 0.98  # verdicts rest on the near-optimal sets of two conditions and more


@dataclass(frozen=True, eq=False)
class Condition:
    """One condition: the valid runs that differ only in K and policy.

    Attributes:
        levels: factor → level as text, without K and policy.
        label: for people.
        n_kernels: N, ``None`` if unknown.
        curve: total time of an inference in ns with constant K; index repetition, columns K (one flush counts as N).
        policies: policy → total by repetition, for policies other than constant.
        runs: the rows of ``Results.runs``, with the column ``k_flushed`` (K as in ``curve``).
        profile: production times, kernel times and costs; ``None`` without kernel timestamps.
        driver: whether the driver submits when it is flushed.
        beyond: levels of K above N, which are one flush.
    """

    levels: dict[str, str]
    label: str
    n_kernels: int | None
    curve: pd.DataFrame
    policies: dict[str, "pd.Series[float]"]
    runs: pd.DataFrame
    profile: Profile | None
    driver: Driver = field(default_factory=Driver)
    beyond: tuple[int, ...] = ()

    @property
    def follows_k(self) -> bool:
        """Whether the driver submits when it is flushed, as far as can be told: else K is a hint it does not take."""
        return self.driver.follows is not False

    @property
    def model(self) -> Profile | None:
        """The profile, if the model of batches may predict from it.

        Not where the driver submits kernels by itself, and not where the fit does not describe what was measured.
        """
        return self.profile if self.follows_k and not self.unfit else None

    @property
    def unfit(self) -> bool:
        """Whether the fit is too far off to conclude anything from it."""
        return self.profile is not None and self.profile.fit.residual_pct > WORST_RESIDUAL_PCT

    @property
    def idle(self) -> bool:
        """Whether no background load runs."""
        return self.levels.get("load", "none") in {"none", "-"}

    @property
    def ks(self) -> tuple[int, ...]:
        """The K that were measured, ascending."""
        return tuple(int(k) for k in self.curve.columns)

    @cached_property
    def near(self) -> NearOptimal | None:
        """The near-optimal set of the measured curve; ``None`` with fewer than two K."""
        rows = self.curve.dropna(how="all")
        if rows.shape[1] < 2 or rows.empty:
            return None
        return near_optimal_set(rows.columns.to_numpy(), rows.to_numpy(dtype=np.float64), confidence=_NEAR)

    @property
    def manual_k(self) -> int | None:
        """The K of the least measured time."""
        return None if self.near is None else self.near.best

    @cached_property
    def constant_k(self) -> int | None:
        """The constant K that would be chosen, within the range that was measured.

        The model's, if it may predict and several K were run, else the manual one.
        """
        if self.model is None or len(self.ks) < 2:
            return self.manual_k
        curve = self.model.curve_ns[self.ks[0] - 1 : self.ks[-1]]
        return self.ks[0] + int(np.argmax(curve <= curve.min() * (1 + _TIE)))

    @property
    def model_k(self) -> int | None:
        """The K of the model's least time of all K, measured or not; ``None`` without a model."""
        return None if self.model is None else 1 + int(np.argmin(self.model.curve_ns))

    @cached_property
    def k_set(self) -> tuple[int, ...]:
        """The constant K that may be the best within the range measured; empty with too few repetitions.

        From the model: those whose modelled time, repetition by repetition, is not surely above that of the K chosen.
        Else the near-optimal set of those measured.
        """
        if self.model is None or len(self.ks) < 2:
            return self.near.k if self.near is not None and self.near.conclusive else ()
        curves = np.log(self.model.curves_ns[:, self.ks[0] - 1 : self.ks[-1]])
        chosen = (self.constant_k or self.ks[0]) - self.ks[0]
        _, low, _ = _stats.locations(curves - curves[:, [chosen]])
        if np.isnan(low).any():
            return ()
        return tuple(self.ks[0] + int(place) for place in np.flatnonzero(low <= 0))

    @cached_property
    def chosen_k(self) -> int | None:
        """The K that would be chosen among those that were run: the best of the model's, else the manual one.

        Policies are judged with it: a K that was not run has no measured time.
        """
        if self.model is None or self.curve.empty:
            return self.manual_k
        return _least(self.model.curve_ns, self.ks)

    @cached_property
    def chosen(self) -> Mapping[int, int]:
        """By repetition: the K that would be chosen among those that were run, from the *other* repetitions alone.

        What is chosen from data is judged on data that it was not chosen from.
        """
        if self.model is None:
            return self._manual_ks
        rows = self.model.fit.repetitions
        if len(rows) < 2:
            return {}
        logs = np.log(self.model.curves_ns)
        return {
            one: _least(np.median(np.delete(logs, place, axis=0), axis=0), self.ks) for place, one in enumerate(rows)
        }

    def total(self, k: int | None) -> "pd.Series[float]":
        """Totals by repetition at a K; empty if it was not measured."""
        if k is None or k not in self.curve.columns:
            return pd.Series(dtype="float64")
        return self.curve[k].dropna()

    def total_of(self, found: "Condition") -> "pd.Series[float]":
        """Totals by repetition with the K found in a condition, each time chosen from the other repetitions."""
        picked = {
            repetition: self.curve.loc[repetition, k]
            for repetition in self.curve.index
            if (k := found.chosen.get(repetition, found.chosen_k)) in self.curve.columns
        }
        return pd.Series(picked, dtype="float64").dropna()

    def by_cell(self, figures: "pd.Series[float]") -> "pd.Series[float]":
        """A figure of each run by (repetition, policy, K), so that like is compared with like."""
        rows = self.runs.set_index(["repetition", "policy", "k_flushed"])["run_id"].map(figures).astype("float64")
        return rows[~rows.index.duplicated()]

    @cached_property
    def _manual_ks(self) -> Mapping[int, int]:
        rows = self.curve.dropna(axis=1, how="all")
        values = np.log(rows.to_numpy(dtype=np.float64))
        if values.shape[0] < 2 or values.shape[1] == 0:
            return {}
        chosen = {}
        for number, repetition in enumerate(rows.index):
            others = np.delete(values, number, axis=0)
            known = ~np.isnan(others).all(axis=0)
            middle = np.full(values.shape[1], np.inf)
            middle[known] = np.nanmedian(others[:, known], axis=0)
            chosen[repetition] = int(rows.columns[int(np.argmin(middle))])
        return chosen

    @cached_property
    def manual(self) -> "pd.Series[float]":
        """Totals by repetition at the measured best K, chosen each time from the *other* repetitions.

        A minimum taken from the same data it is judged by would look better than it is.
        """
        return pd.Series({one: self.curve.loc[one, k] for one, k in self._manual_ks.items()}, dtype="float64").dropna()


def _least(curve: np.ndarray, ks: tuple[int, ...]) -> int:
    return min(ks, key=lambda k: (curve[min(k, curve.size) - 1], k))


def compared(before: "pd.Series[float]", after: "pd.Series[float]") -> _stats.Interval:
    """``after`` over ``before``, repetition by repetition (one block of the shuffled order holds both).

    Indexed by repetition, or by (repetition, ...): what a repetition has of several cells is one observation.
    """
    pairs = pd.concat([before, after], axis=1, join="inner").dropna()
    return _stats.blocked_ratio(pairs.iloc[:, 0], pairs.iloc[:, 1], pairs.index.get_level_values(0))


def over_best(place: Condition, totals: "pd.Series[float]", *, constant: bool) -> _stats.Interval:
    """Time over that of the best constant K that was measured.

    The upper bound is the greatest over all K: whichever is the best, it holds. The lower one compares with the K that
    was chosen from the other repetitions, which is at best the best. Conservative on both sides.

    Args:
        place: where it was measured.
        totals: by repetition.
        constant: they are those of a constant K that was measured, so that less than 1 is noise.
    """
    each = [compared(place.curve[k], totals) for k in place.curve.columns]
    known = [one for one in each if one.n]
    if not known:
        return _stats.NOTHING
    lower = compared(place.manual, totals)
    floor = 1.0 if constant else 0.0
    estimate, n = max(floor, *(one.estimate for one in known)), min(one.n for one in known)
    highs = [one.high for one in known if one.high is not None]
    if len(highs) < len(known) or lower.low is None:
        return _stats.Interval(estimate, None, None, n)
    return _stats.Interval(estimate, min(estimate, max(floor, lower.low)), max(estimate, *highs), n)


def best_over(place: Condition, k: int) -> _stats.Interval:
    """Speed-up of the best constant K that was measured over a K: 1 or more, bounds as those of ``over_best``."""
    got = over_best(place, place.total(k), constant=True)
    judged = compared(place.manual, place.total(k))
    if got.low is None or got.high is None:
        return got
    return _stats.Interval(min(max(got.low, judged.estimate), got.high), got.low, got.high, got.n)
