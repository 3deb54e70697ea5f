"""Runs with known truth: the launch model with noise, written as the tables that the klo workload gives."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from devicelab.analyses.klo_model import LaunchCosts, constant_batches
from devicelab.model.experiment import Experiment
from devicelab.model.journal import Flag


@dataclass(frozen=True)
class Truth:
    """What a run is made of; times in ns, p and g of shape (N,)."""

    p: np.ndarray
    g: np.ndarray
    costs: LaunchCosts


def random_truth(rng: np.random.Generator, n: int | None = None) -> Truth:
    """Kernels as unlike as a network's, launch costs of the order of the kernel times."""
    n = n or int(rng.integers(20, 90))
    p = rng.lognormal(np.log(20_000), 0.5, n)
    g = rng.lognormal(np.log(20_000) + rng.uniform(-0.8, 0.8), 0.6, n)
    flush, start, gap = rng.uniform((3_000, 5_000, 3_000), (30_000, 60_000, 30_000))
    return Truth(p, g, LaunchCosts(float(flush), float(start), float(gap)))


def emulate(
    truth: Truth, batches: Sequence[int], inferences: int, rng: np.random.Generator, noise: float = 0.05
) -> dict[str, np.ndarray]:
    """The ``kernels`` table of one run: every time varies by ``noise`` (log-normal), independently."""
    n = truth.p.size

    def vary(value: float | np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return value * rng.lognormal(-(noise**2) / 2, noise, shape)

    ends = np.cumsum(batches)
    batch = np.repeat(np.arange(len(batches)), batches)
    p, g = vary(truth.p, (inferences, n)), vary(truth.g, (inferences, n))
    flush = vary(truth.costs.flush_ns, (inferences, len(batches)))
    queued = np.cumsum(p, axis=1)
    queued[:, 1:] += np.cumsum(flush, axis=1)[:, batch[1:] - 1] * (batch[1:] > 0)
    submit = (queued[:, ends - 1] + flush)[:, batch]
    start, end = np.empty((inferences, n)), np.empty((inferences, n))
    free = np.full(inferences, -np.inf)
    for number, (last, length) in enumerate(zip(ends, batches, strict=True)):
        first = last - length
        ready = submit[:, first] + vary(truth.costs.start_idle_ns, (inferences,))
        begin = np.maximum(ready, free + vary(truth.costs.gap_ns, (inferences,))) if number else ready
        done = begin[:, np.newaxis] + np.cumsum(g[:, first:last], axis=1)
        start[:, first:last] = np.column_stack((begin, done[:, :-1]))
        end[:, first:last] = done
        free = done[:, -1]
    origin = 10_000_000_000 + np.arange(inferences)[:, np.newaxis] * 50_000_000
    return {
        "inference": np.repeat(np.arange(inferences), n),
        "kernel": np.tile(np.arange(n), inferences),
        "batch": np.tile(batch, inferences),
        **{
            name: (values + origin).round().astype(np.int64).ravel()
            for name, values in (("queued_ns", queued), ("submit_ns", submit), ("start_ns", start), ("end_ns", end))
        },
    }


def kernel_frame(
    truth: Truth, runs: Sequence[tuple[str, int]], inferences: int, rng: np.random.Generator, noise: float
) -> pd.DataFrame:
    """The kernels of several runs, each a (run id, K)."""
    parts = []
    for run_id, k in runs:
        table = emulate(truth, constant_batches(truth.p.size, k or truth.p.size), inferences, rng, noise)
        parts.append(pd.DataFrame({"run_id": run_id, "program": "measure", **table}))
    return pd.concat(parts, ignore_index=True)


@dataclass
class FrameResults:
    """``devicelab.model.results.Results`` in memory."""

    experiment: Experiment
    run_rows: pd.DataFrame
    metric_rows: pd.DataFrame
    sample_tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    campaign: str = "20261122-101500-test"

    def runs(self) -> pd.DataFrame:
        return self.run_rows.copy()

    def metrics(self) -> pd.DataFrame:
        return self.metric_rows.copy()

    def samples(self, table: str) -> pd.DataFrame:
        return self.sample_tables.get(table, pd.DataFrame({"run_id": [], "program": []})).copy()

    def evidence(self, run_id: str) -> dict[str, Any]:
        return self.records.get(run_id, {})


def run_row(
    run_id: str, repetition: int, seq: int, levels: dict[str, Any], flags: tuple[Flag, ...] = ()
) -> dict[str, Any]:
    """One row of ``Results.runs``."""
    label = ", ".join(f"{name}={level}" for name, level in levels.items())
    return {
        "run_id": run_id,
        "cell_id": f"{abs(hash(label)):x}",
        "cell": label,
        "repetition": repetition,
        "seq": seq,
        "valid": not flags,
        "flags": flags,
        "t_unix_ns": 1_700_000_000_000_000_000 + seq * 1_000_000_000,
        "duration_ns": 900_000_000,
        **levels,
    }
