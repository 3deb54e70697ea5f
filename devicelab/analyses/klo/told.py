"""What the kernels of each run say, read some runs at a time: all of a campaign may not fit into memory."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from devicelab.analyses import _production
from devicelab.analyses.klo.driver import Driver, flushed_batches
from devicelab.analyses.klo.model.core import Floats
from devicelab.analyses.klo.tables import (
    COLUMNS,
    RunProfile,
    early_shares,
    first_rows,
    in_order,
    median_rows,
    profile_of,
    run_codes,
)

Medians = tuple[NDArray[np.int64], Floats]
"""Kernels, and the median T_prod of each in ns over the inferences of a run; kernels without one are left out."""


@dataclass(frozen=True, eq=False)
class Batches:
    """What hangs on which batches there were.

    Attributes:
        profile: the run's medians; ``None`` without a whole inference.
        plain: of kernels before which nothing was flushed.
    """

    profile: RunProfile | None
    plain: Medians


@dataclass(frozen=True, eq=False)
class RunTold:
    """One run by its kernels.

    Attributes:
        n: kernels of an inference.
        program: that ran them; ``None`` where several did.
        t_prod_ns: of all kernels but the first of each inference.
        middle: of all kernels.
        early, soon: shares that ``early_shares`` gives, with and without ``ahead``; ``None`` where nothing tells.
        inferred, flushed: by the batches that SUBMIT shows, and by those that were flushed.
    """

    n: int
    program: str | None
    t_prod_ns: NDArray[Any]
    middle: Medians
    early: float | None
    soon: float | None
    inferred: Batches
    flushed: Batches

    def batches(self, driver: Driver) -> Batches:
        """Those there really were: where a driver submits when it is flushed, those that were flushed."""
        return self.flushed if driver.follows else self.inferred


def tell(kernels: pd.DataFrame, runs: pd.DataFrame, schedules: Mapping[str, tuple[int, ...]]) -> dict[str, RunTold]:
    """What the kernels of these runs say.

    Args:
        kernels: all of theirs.
        runs: with the columns ``run_id``, ``policy`` and ``k_flushed``.
        schedules: batch lengths by run, of those with a static schedule.
    """
    table = in_order(kernels)
    flushed = flushed_batches(table, runs, schedules)
    early, soon = early_shares(table, flushed), early_shares(table, flushed, ahead=2)
    first, (codes, names) = first_rows(table), run_codes(table)
    whole = {name: table[name].to_numpy() for name in COLUMNS[1:]}
    programs = pd.Categorical(table["program"]) if "program" in table else None
    found = {}
    borders = [0, *(np.flatnonzero(codes[1:] != codes[:-1]) + 1).tolist(), codes.size]
    for begin, end in itertools.pairwise(borders):
        rows = {name: column[begin:end] for name, column in whole.items()}
        begins, batch = first[begin:end], flushed[begin:end]
        produced = np.diff(rows["queued_ns"], prepend=rows["queued_ns"][:1])
        rows["t_prod_ns"] = np.where(begins, np.nan, produced.astype(np.float64))
        rows["t_ker_ns"] = rows["end_ns"] - rows["start_ns"]
        inferred = _batches(rows, rows["batch"], begins)
        run, whose = names[int(codes[begin])], None if programs is None else set(programs.codes[begin:end].tolist())
        found[run] = RunTold(
            n=int(rows["kernel"].max()) + 1,
            program="" if programs is None or whose is None else _only(programs.categories[sorted(whose)].tolist()),
            t_prod_ns=_production.small(produced[~begins]),
            middle=_medians(rows["kernel"], rows["t_prod_ns"]),
            early=early.get(run),
            soon=soon.get(run),
            inferred=inferred,
            flushed=inferred if np.array_equal(batch, rows["batch"]) else _batches(rows, batch, begins),
        )
    return found


def _only(names: list[str]) -> str | None:
    return str(names[0]) if len(names) == 1 else None


def _batches(rows: Mapping[str, NDArray[Any]], batch: NDArray[np.int64], begins: NDArray[np.bool_]) -> Batches:
    after = ~begins & (batch != np.roll(batch, 1))
    table = {**rows, "batch": batch, "after_flush": after}
    known = batch >= 0
    if not known.all():
        table = {name: column[known] for name, column in table.items()}
    plain = np.where(table["after_flush"], np.nan, table["t_prod_ns"])
    return Batches(profile_of(table) if len(plain) else None, _medians(table["kernel"], plain))


def _medians(kernel: NDArray[np.int64], values: Floats) -> Medians:
    """By kernel, of values that are known."""
    n = int(kernel.max()) + 1 if kernel.size else 0
    if n and kernel.size % n == 0 and (kernel.reshape(-1, n) == np.arange(n)).all():
        each: NDArray[np.int64] = np.arange(n)
        middle: Floats = median_rows(values.reshape(-1, n))
    else:
        series = pd.Series(values).groupby(kernel).median()
        each = series.index.to_numpy(dtype=np.int64)
        middle = np.asarray(series, dtype=np.float64)
    known = ~np.isnan(middle)
    return each[known], middle[known]
