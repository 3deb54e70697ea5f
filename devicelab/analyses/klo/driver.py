"""Whether a driver submits when it is flushed: only then is K more than a hint, and only then are flushes batches."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from devicelab.analyses import _stats

Ints = NDArray[np.int64]

# The share of kernels submitted before their batch was flushed was 0% on drivers that follow K and 99 to 100% on those
# that submit at enqueue; a few percent are crossed stamps.
FOLLOWS_BELOW = 0.1
AT_ENQUEUE_ABOVE = 0.75


@dataclass(frozen=True)
class Driver:
    """What SUBMIT says of a driver under one condition.

    Attributes:
        early: the share of kernels whose SUBMIT lies before QUEUED of the last kernel of their flushed batch, with its
            interval over repetitions; ``NOTHING`` where no run with a constant K of 2 or more has timestamps.
        at_once: the share of those submitted before the next but one was queued.
    """

    early: _stats.Interval = _stats.NOTHING
    at_once: float = 0.0

    @property
    def follows(self) -> bool | None:
        """Whether the batches are those that were flushed; ``None`` if it cannot be told."""
        return None if self.early.n == 0 else bool(self.early.estimate < FOLLOWS_BELOW)

    @property
    def at_enqueue(self) -> bool:
        """Whether it submits each kernel when it is enqueued."""
        return self.early.n > 0 and min(self.early.estimate, self.at_once) > AT_ENQUEUE_ABOVE


def flushed_batches(frame: pd.DataFrame, runs: pd.DataFrame, schedules: Mapping[str, tuple[int, ...]]) -> Ints:
    """The batch in which each kernel of the sorted table was flushed, from a constant K or a schedule; -1: not known.

    Args:
        frame: kernels.
        runs: with the columns ``run_id``, ``policy`` and ``k_flushed``.
        schedules: batch lengths by run, of those with a static schedule.
    """
    constant = runs[(runs["policy"] == "constant") & (runs["k_flushed"] > 0)]
    kernel = frame["kernel"].to_numpy(dtype=np.int64)
    k = frame["run_id"].map(constant.set_index("run_id")["k_flushed"]).fillna(0).to_numpy(dtype=np.int64)
    batches: Ints = np.where(k > 0, kernel // np.maximum(k, 1), -1)
    for run, lengths in schedules.items():
        mine = frame["run_id"].eq(run).to_numpy()
        place = np.repeat(np.arange(len(lengths)), lengths)
        batches[mine] = np.where(kernel[mine] < place.size, place[np.minimum(kernel[mine], place.size - 1)], -1)
    return batches


def driver_of(runs: pd.DataFrame, shares: Mapping[str, float], at_once: Mapping[str, float]) -> Driver:
    """The driver as the runs of one condition show it (shares by run: ``tables.early_shares``)."""
    told = runs[(runs["policy"] == "constant") & runs["run_id"].isin(shares)]
    if told.empty:
        return Driver()
    early, soon = (
        _stats.median_interval(_stats.per_repetition(told["run_id"].map(by_run), told["repetition"]))
        for by_run in (shares, at_once)
    )
    return Driver(early, soon.estimate)
