"""Campaigns of known truth for ``verdict_truth``: kernels with timestamps, times of inferences, requests of tenants.

Every figure varies as measured ones do: samples by 5% with a tail to one side (every twentieth up to half as long
again), inferences with the one before (correlation 0.6), whole runs by 2%, the runs of one block together by 2%, and
4% of the runs are far too slow (a fifth and more). Truth is the median.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from devicelab.analyses.klo.condition import Condition
from devicelab.analyses.klo.data import KloData
from devicelab.analyses.klo.model import LaunchCosts, constant_batches
from devicelab.model.experiment import Experiment
from tests.klodata import FrameResults, run_row

Floats = NDArray[np.float64]

LOADED = "1000 5000 20"
RUN, BLOCK, OUTLIERS, SAMPLE, TAIL, LASTING = 0.02, 0.02, 0.04, 0.05, 0.05, 0.6


@dataclass(frozen=True)
class World:
    """One device and network: production and kernel times in ns, launch costs, and how much slower a load makes it."""

    p: Floats
    g: Floats
    costs: LaunchCosts
    slower: float


def _skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    values = rng.lognormal(0, SAMPLE, shape)
    tail = rng.random(shape) < TAIL
    values[tail] *= 1 + rng.exponential(0.25, int(tail.sum()))
    return values


_MEDIAN = float(np.median(_skewed(np.random.default_rng(0), (2_000_000,))))


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Factors of single samples, median 1."""
    return _skewed(rng, shape) / _MEDIAN


def lasting(rng: np.random.Generator, runs: int, samples: int, correlation: float, spread: float) -> Floats:
    """Factors of successive samples that depend on the one before, shape (runs, samples), median 1."""
    steps = rng.normal(0, spread * np.sqrt(1 - correlation**2), (runs, samples))
    steps[:, 0] = rng.normal(0, spread, runs)
    for at in range(1, samples):
        steps[:, at] += correlation * steps[:, at - 1]
    return np.exp(steps)


def of_runs(rng: np.random.Generator, runs: int) -> Floats:
    """Factors of whole runs; a few are far too slow."""
    slow = np.where(rng.random(runs) < OUTLIERS, 1.2 + rng.exponential(0.2, runs), 1.0)
    return rng.lognormal(0, RUN, runs) * slow


def of_blocks(rng: np.random.Generator, blocks: int) -> Floats:
    """Factors that all runs of a block share."""
    return rng.lognormal(0, BLOCK, blocks)


# --- kernels -----------------------------------------------------------------------------------------------------


def stamps(
    world: World, slower: float, k: int, drift: tuple[Floats, Floats], inferences: int, rng: np.random.Generator
) -> dict[str, Floats]:
    """QUEUED, SUBMIT, START and END in ns, shape (runs, inferences, N), one run a block; ``drift`` of host and GPU."""
    n, runs = world.p.size, drift[0].size
    batches = np.array(constant_batches(n, k))
    ends, batch = np.cumsum(batches), np.repeat(np.arange(batches.size), batches)
    wide = (runs, inferences)
    # What is one run's own is the host's, the GPU's, and each cost's of starting.
    host = (drift[0] * of_runs(rng, runs))[:, None] * lasting(rng, runs, inferences, LASTING, 0.02) * slower
    gpu = (drift[1] * of_runs(rng, runs))[:, None, None]
    starting, between = ((drift[1] * of_runs(rng, runs))[:, None] for _ in range(2))
    p = world.p * host[:, :, None] * skewed(rng, (*wide, n))
    g = world.g * gpu * skewed(rng, (*wide, n))
    flushing = world.costs.flush_ns + world.costs.flush_per_kernel_ns * batches
    flush = flushing * host[:, :, None] * skewed(rng, (*wide, batches.size))
    queued = np.cumsum(p, axis=2)
    queued[:, :, 1:] += np.cumsum(flush, axis=2)[:, :, batch[1:] - 1] * (batch[1:] > 0)
    ready = queued[:, :, ends - 1] + flush
    start, end = np.empty((*wide, n)), np.empty((*wide, n))
    free = np.full(wide, -np.inf)
    for number, (last, length) in enumerate(zip(ends, batches, strict=True)):
        first = last - length
        begin = ready[:, :, number] + world.costs.start_idle_ns * starting * skewed(rng, wide)
        if number:
            begin = np.maximum(begin, free + world.costs.gap_ns * between * skewed(rng, wide))
        done = begin[:, :, None] + np.cumsum(g[:, :, first:last], axis=2)
        start[:, :, first:last] = np.concatenate((begin[:, :, None], done[:, :, :-1]), axis=2)
        end[:, :, first:last] = done
        free = done[:, :, -1]
    return {"queued_ns": queued, "submit_ns": ready[:, :, batch], "start_ns": start, "end_ns": end}


def total(found: Mapping[str, Floats]) -> Floats:
    """Time of an inference in ns, median over the inferences of a run."""
    middle: Floats = np.median(found["end_ns"][:, :, -1] - found["queued_ns"][:, :, 0], axis=1)
    return middle


def timed(world: World, ks: Sequence[int], repetitions: int, inferences: int, rng: np.random.Generator) -> FrameResults:
    """A campaign of the klo workload, idle and under a load, with the timestamps of every kernel."""
    n = world.p.size
    runs: list[dict[str, Any]] = []
    parts, totals = [], []
    drift = of_blocks(rng, repetitions), of_blocks(rng, repetitions)
    for load, slower in (("none", 1.0), (LOADED, world.slower)):
        for k in ks:
            found = stamps(world, slower, k, drift, inferences, rng)
            names = [f"{load[:2]}k{k}r{repetition:03d}" for repetition in range(repetitions)]
            runs += [run_row(name, r, len(runs) + r, {"load": load, "k": k}) for r, name in enumerate(names)]
            shape = found["queued_ns"].shape
            origin = 10_000_000_000 + 100_000_000 * np.arange(inferences)[None, :, None]
            table = {name: (values + origin).round().astype(np.int64).ravel() for name, values in found.items()}
            inference, kernel = np.arange(inferences)[None, :, None], np.arange(n)[None, None, :]
            table |= {
                "inference": np.broadcast_to(inference, shape).ravel(),
                "kernel": np.broadcast_to(kernel, shape).ravel(),
                "batch": np.broadcast_to(kernel // k, shape).ravel(),
            }
            parts.append(pd.DataFrame({"run_id": np.repeat(names, inferences * n), "program": "measure", **table}))
            totals += list(zip(names, total(found), strict=True))
    return _results(runs, _metric("total_ns", totals), {"kernels": pd.concat(parts, ignore_index=True)})


def whole(effects: Mapping[str, Mapping[int, float]], repetitions: int, rng: np.random.Generator) -> KloData:
    """A campaign with times of inferences alone, as the analysis arranges it: load → K → time in ms."""
    drift = of_blocks(rng, repetitions)
    conditions = []
    for load, curve in effects.items():
        times = {k: ms * 1e6 * drift * of_runs(rng, repetitions) for k, ms in curve.items()}
        label = "idle" if load == "none" else f"load {load}"
        frame = pd.DataFrame(times, index=range(repetitions))
        conditions.append(Condition({"load": load}, label, 64, frame, {}, pd.DataFrame(), None))
    return KloData(tuple(conditions), pd.DataFrame(), False, frozenset({"load"}), True)


def _metric(name: str, values: Sequence[tuple[str, float]]) -> pd.DataFrame:
    frame = pd.DataFrame(values, columns=["run_id", "value"])
    return frame.assign(program="measure", metric=name, unit="ns")


def _results(runs: list[dict[str, Any]], metrics: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> FrameResults:
    factors = {"load": ("none", LOADED), "k": tuple(sorted({run["k"] for run in runs}))}
    experiment = Experiment.model_validate({"name": "planted", "question": "?", "factors": factors})
    return FrameResults(experiment, pd.DataFrame(runs), metrics, tables, {"device": "made-up", "board": "made-up"})
