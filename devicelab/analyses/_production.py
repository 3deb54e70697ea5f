"""Production times (T_prod) of a campaign's kernels: what every analysis and figure of them asks for, read once.

T_prod of a kernel is its QUEUED less that of the kernel before it in the inference; the first of each has none.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from devicelab.model.results import Results, portions

Times = Mapping[tuple[str, str], NDArray[Any]]
"""By program and run: T_prod in ns, a number of the smallest type that holds each of the run's."""

_KNOWN: WeakKeyDictionary[Results, Times] = WeakKeyDictionary()


def note(results: Results, times: Times) -> None:
    """Whoever has read all kernels of the valid runs anyway leaves their T_prod for others."""
    _KNOWN[results] = times


def production_times(results: Results) -> Times:
    """Of the valid runs; kept for each results object.

    Raises:
        SamplesDroppedError: the raw samples were dropped on request.
    """
    found = _KNOWN.get(results)
    if found is None:
        runs = results.runs()
        times: dict[tuple[str, str], NDArray[Any]] = {}
        for part in portions(results, "kernels", runs.loc[runs["valid"], "run_id"]):
            if {"queued_ns", "inference"} <= set(part.columns):
                times |= t_prod(part)
        found = _KNOWN[results] = times
    return found


def t_prod(kernels: pd.DataFrame) -> dict[tuple[str, str], NDArray[Any]]:
    """By program and run, of whole runs; rows in any order."""
    if kernels.empty:
        return {}
    columns = [pd.factorize(kernels[name]) for name in ("program", "run_id") if name in kernels]
    # Numbers instead of texts: a million rows are sorted and compared at once.
    keys = [kernels["inference"].to_numpy(), *(codes for codes, _ in columns)]
    within = kernels["kernel"].to_numpy() if "kernel" in kernels else np.arange(len(kernels))
    queued = kernels["queued_ns"].to_numpy()
    if not _ascending((within, *keys)):
        order = np.lexsort((within, *keys))
        keys, queued = [key[order] for key in keys], queued[order]
    whose = np.ones(max(0, len(queued) - 1), dtype=bool)
    for key in keys[1:]:
        whose &= key[1:] == key[:-1]
    same = whose & (keys[0][1:] == keys[0][:-1])
    borders = [0, *(np.flatnonzero(~whose) + 1).tolist(), len(queued)]
    found = {}
    for begin, end in itertools.pairwise(borders):
        names = [str(known[int(key[begin])]) for key, (_, known) in zip(keys[1:], columns, strict=True)]
        name = (names[0], names[1]) if len(names) > 1 else ("", names[0])
        found[name] = small(np.diff(queued[begin:end])[same[begin : end - 1]])
    return found


def small(values: NDArray[Any]) -> NDArray[Any]:
    """The same whole numbers in half the space, where they fit."""
    if values.dtype.kind != "i" or not values.size:
        return values
    fits = np.iinfo(np.int32)
    return values.astype(np.int32) if fits.min <= values.min() and values.max() <= fits.max else values.copy()


def _ascending(keys: Sequence[NDArray[Any]]) -> bool:
    """Whether rows are in the order that ``np.lexsort`` would give them: the last key counts most."""
    tied = np.ones(max(0, len(keys[-1]) - 1), dtype=bool)
    for key in reversed(keys):
        if (tied & (key[1:] < key[:-1])).any():
            return False
        tied &= key[1:] == key[:-1]
    return True
