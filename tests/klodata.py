"""Runs with known truth: the launch model with noise, written as the tables that the klo workload gives."""

import itertools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from devicelab.analyses.klo.model import LaunchCosts, best_schedule, constant_batches, simulate_dynamic
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
    growth = truth.costs.flush_per_kernel_ns * np.asarray(batches)
    flush = vary(truth.costs.flush_ns + growth, (inferences, len(batches)))
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


@dataclass(eq=False)
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
        "cell_id": f"{zlib.crc32(label.encode()):08x}",
        "cell": label,
        "repetition": repetition,
        "seq": seq,
        "valid": not flags,
        "flags": flags,
        "t_unix_ns": 1_700_000_000_000_000_000 + seq * 1_000_000_000,
        "duration_ns": 900_000_000,
        **levels,
    }


Levels = dict[str, Any]


@dataclass(frozen=True)
class Board:
    """How the made-up board answers to the levels of a cell.

    Attributes:
        slower: production time and flush cost, times the truth's.
        gpu_slower: kernel times, times the truth's.
        cpu_use: share of the CPUs that are busy.
        flags: why a run does not count.
    """

    slower: Callable[[Levels], float] = lambda _: 1.0
    gpu_slower: Callable[[Levels], float] = lambda _: 1.0
    cpu_use: Callable[[Levels], float] = lambda levels: 0.05 if levels.get("load", "none") == "none" else 0.43
    flags: Callable[[Levels, int], tuple[Flag, ...]] = lambda _levels, _repetition: ()
    submits: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda flushed: flushed


def cells(factors: dict[str, tuple[Any, ...]]) -> list[Levels]:
    """Combinations of levels as the planner makes them: no placement without load, no K for other policies."""
    found: list[Levels] = []
    for levels in itertools.product(*factors.values()):
        cell = dict(zip(factors, levels, strict=True))
        if cell.get("load", "none") == "none" and "placement" in cell:
            cell["placement"] = None
        if cell.get("policy", "constant") != "constant" and "k" in cell:
            cell["k"] = 0
        if cell not in found:
            found.append(cell)
    return found


def campaign(
    truth: Truth,
    factors: dict[str, tuple[Any, ...]],
    *,
    board: Board | None = None,
    repetitions: int = 8,
    inferences: int = 8,
    noise: float = 0.05,
    run_noise: float = 0.003,
    seed: int = 1,
    **fields: Any,
) -> FrameResults:
    """A campaign of klo runs on a board with known truth; ``run_noise`` is what a whole run is off by."""
    board = board or Board()
    rng = np.random.default_rng(seed)
    runs, metrics, kernels, records = [], [], [], {}
    order = [(cell, repetition) for repetition in range(repetitions) for cell in cells(factors)]
    for seq, (cell, repetition) in enumerate(order):
        run_id = f"run{seq:05d}"
        runs.append(run_row(run_id, repetition, seq, cell, board.flags(cell, repetition)))
        slow = board.slower(cell) * rng.lognormal(0, run_noise)
        costs = replace(
            truth.costs,
            flush_ns=truth.costs.flush_ns * slow,
            flush_per_kernel_ns=truth.costs.flush_per_kernel_ns * slow,
        )
        real = Truth(truth.p * slow, truth.g * board.gpu_slower(cell) * rng.lognormal(0, run_noise), costs)
        batches = board.submits(_batches(cell, real, truth))
        table = emulate(real, batches, inferences, rng, noise)
        plain = emulate(real, batches, inferences, rng, noise)
        kernels.append(pd.DataFrame({"run_id": run_id, "program": "measure", **table}))
        figures = [*klo_metrics(table, plain, truth.p.size)]
        figures.append({"metric": "flush_mean_ns", "value": costs.flush_ns, "unit": "ns"})
        metrics += [{"run_id": run_id, "program": "measure", **row} for row in figures]
        records[run_id] = record(board.cpu_use(cell), loaded=cell.get("load", "none") != "none", rng=rng)
    experiment = Experiment.model_validate({"name": "made-up", "question": "?", "factors": factors, **fields})
    info = {"device": "phone-1", "board": "note10", "board_title": "Galaxy Note10", "simulated": True}
    info["reference"] = {"load_cpu_pct": {"1000 5000 20": 43}}
    return FrameResults(
        experiment=experiment,
        run_rows=pd.DataFrame(runs),
        metric_rows=pd.DataFrame(metrics),
        sample_tables={"kernels": pd.concat(kernels, ignore_index=True)},
        info=info,
        records=records,
    )


def _batches(cell: Levels, real: Truth, profiled: Truth) -> tuple[int, ...]:
    n = real.p.size
    policy = cell.get("policy", "constant")
    if policy == "dynamic":
        return simulate_dynamic(real.p, real.g, real.costs, profile_ns=profiled.p).batches
    if policy == "static":
        return best_schedule(profiled.p, profiled.g, profiled.costs)[0]
    return constant_batches(n, min(n, int(cell.get("k", 4)) or n))


def klo_metrics(table: dict[str, np.ndarray], plain: dict[str, np.ndarray], n: int) -> list[dict[str, Any]]:
    """The figures of a run as the klo workload gives them."""

    def shaped(of: dict[str, np.ndarray], name: str) -> np.ndarray:
        return of[name].reshape(-1, n).astype(float)

    total = shaped(plain, "end_ns")[:, -1] - shaped(plain, "queued_ns")[:, 0]
    queued, submit = shaped(table, "queued_ns"), shaped(table, "submit_ns")
    start, end = shaped(table, "start_ns"), shaped(table, "end_ns")
    ended = end[:, :-1]
    starved = np.maximum(0, np.minimum(submit, start)[:, 1:] - ended)
    launch = start[:, 1:] - np.maximum(submit[:, 1:], ended)
    profiled = end[:, -1] - queued[:, 0]
    figures = {
        "total_ns": np.median(total),
        "total_profiled_ns": np.median(profiled),
        "t_prod_mean_ns": np.diff(queued, axis=1).mean(),
        "t_prod_median_ns": np.median(np.diff(queued, axis=1)),
        "t_ker_sum_ns": np.median((end - start).sum(axis=1)),
        "klo_total_ns": np.median(profiled - (end - start).sum(axis=1)),
        "idle_sum_ns": np.median((start[:, 1:] - ended).sum(axis=1)),
        "starved_sum_ns": np.median(starved.sum(axis=1)),
        "launch_sum_ns": np.median(launch.sum(axis=1)),
        "wait_for_flush_mean_ns": (submit - queued).mean(),
    }
    flushes = table["batch"].reshape(-1, n)[:, -1] + 1
    rows = [{"metric": name, "value": float(value), "unit": "ns"} for name, value in figures.items()]
    return [*rows, {"metric": "flushes", "value": float(np.median(flushes)), "unit": "1"}]


def record(use: float, *, loaded: bool, rng: np.random.Generator, cpus: int = 4, n: int = 21) -> dict[str, Any]:
    """A run's journal record, as far as analyses read it."""
    total = np.arange(n) * 10
    busy = {str(cpu): np.cumsum(rng.binomial(10, use, n)).tolist() for cpu in range(cpus)}
    programs: list[dict[str, Any]] = [{"name": "measure", "role": "measure", "pid": 7}]
    if loaded:
        window_ns = int(2e9 * use)
        programs += [
            {"name": f"load{i}", "role": "load", "pid": 8 + i, "window_cpu_ns": window_ns} for i in range(cpus)
        ]
    return {
        "window_start_ns": 0,
        "window_end_ns": 2_000_000_000,
        "programs": programs,
        "samples": {
            "tick_hz": 100,
            "t_ns": (np.arange(n) * 100_000_000).tolist(),
            "busy": busy,
            "total": {str(cpu): total.tolist() for cpu in range(cpus)},
        },
    }
