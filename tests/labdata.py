"""Synthetic campaigns for tests: made-up devices, records and measurements with known properties."""

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from devicelab.model.campaign import BinaryInfo
from devicelab.model.device import Board, Cluster, Facts
from devicelab.model.experiment import Cell, Experiment, Measure
from devicelab.model.journal import Flag, ProgramResult, RunRecord, Samples, StepResult
from devicelab.model.measurement import Measurement, Metric
from devicelab.model.plan import content_id
from devicelab.model.tree import Node
from devicelab.store import Store

CPUS = 4
FREQUENCY = "/sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq"
TEMPERATURE = "/sys/class/thermal/thermal_zone0/temp"
LOADS = {"none": 0.04, "1000 5000 20": 0.43, "10 1000 20": 0.65}


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        Store.open(f"{folder}/s.sqlite").close()
        return (Path(folder) / "s.sqlite").read_bytes()


def new_store(path: Path) -> Store:
    """An empty store: its tables are made once a process, which takes longer than most tests."""
    path.write_bytes(_empty())
    return Store.open(path)


def experiment(**changes: object) -> Experiment:
    """Loads times K, five repetitions of klo."""
    fields: dict[str, object] = {
        "name": "klo_under_load",
        "question": "Does the best K move when the CPU is loaded?",
        "factors": {"load": tuple(LOADS), "k": (1, 4)},
        "set": {"placement": "one-per-core"},
        "repetitions": 5,
        "measure": Measure(workload="klo", params={"network": "mobilenet-v1"}),
        **changes,
    }
    return Experiment.model_validate(fields)


def cells(of: Experiment) -> tuple[Cell, ...]:
    """Every combination of the factors' levels, with what is set."""
    found: list[dict[str, object]] = [{}]
    for name, levels in of.factors.items():
        found = [{**cell, name: level} for cell in found for level in levels]
    return tuple(Cell.model_validate({"levels": {**cell, **of.set}, "measured": "klo"}) for cell in found)


def facts(**changes: object) -> Facts:
    """A phone with four CPUs."""
    fields: dict[str, object] = {
        "name": "phone-1",
        "address": "adb:0123456789",
        "board": Board(kind="note10", title="Galaxy Note10", clusters=(Cluster(name="big", cpus=(2, 3), big=True),)),
        "abi": "arm64-v8a",
        "os": "android",
        "kernel": "4.14.113",
        "boot_id": "b7c1c2d4-0000-4000-8000-000000000000",
        "root": "su-c",
        "props": {"ro.build.fingerprint": "samsung/d1/d1:12/SP1A"},
        "dir": "/data/local/tmp/devicelab",
        "nodes": (Node(path="/sys/devices/system/cpu/online", text="0-3\n"),),
        **changes,
    }
    return Facts.model_validate(fields)


def binaries() -> tuple[BinaryInfo, ...]:
    """Two programs."""
    return (
        BinaryInfo(name="agent", sha256="a" * 64, target="aarch64-linux-musl", toolchain="zig-arm64", compiler="clang"),
        BinaryInfo(name="klo", sha256="b" * 64, target="aarch64-linux-musl", toolchain="zig-arm64", compiler="clang"),
    )


def run_id(campaign: str, cell: Cell, repetition: int) -> str:
    return content_id(campaign, cell.cell_id, str(repetition))


def samples(use: float, rng: np.random.Generator, n: int = 11) -> Samples:
    """Counters of CPUs that are busy for the share ``use``, frequency and temperature beside them."""
    total = np.arange(n) * 10
    busy = {str(cpu): np.cumsum(rng.binomial(10, use, n)) for cpu in range(CPUS)}
    return Samples(
        t_ns=tuple(int(t) for t in np.arange(n) * 100_000_000),
        busy={cpu: tuple(int(b) for b in counter) for cpu, counter in busy.items()},
        total={cpu: tuple(int(t) for t in total) for cpu in busy},
        nodes={
            FREQUENCY: tuple("1612800" for _ in range(n)),
            TEMPERATURE: tuple(str(int(t)) for t in rng.normal(41_000, 300, n)),
        },
    )


def record(
    identity: str, seq: int = 0, *, use: float = 0.04, flags: Sequence[Flag] = (), stdout: str = "klo output\n"
) -> RunRecord:
    """A finished run whose measurement was pinned to CPU 3."""
    rng = np.random.default_rng(seq)
    start = 1_000_000_000 * (10 * seq + 1)
    return RunRecord(
        event="run",
        run_id=identity,
        seq=seq,
        status="done",
        flags=tuple(flags),
        t_start_ns=start,
        t_end_ns=start + 2_500_000_000,
        t_unix_ns=1_800_000_000_000_000_000 + start,
        window_start_ns=start + 500_000_000,
        window_end_ns=start + 1_500_000_000,
        steps=(StepResult(path="/sys/x/scaling_max_freq", before="2000000", after="1612800", held=True),),
        programs=(
            ProgramResult(
                name="measure", role="measure", pid=99, granted=(3,), granted_end=(3,), exit_code=0, stdout=stdout
            ),
        ),
        samples=samples(use, rng),
        agent_cpu_ns=2_000_000,
    )


def measurement(seed: int, *, k: int = 1, use: float = 0.04, inferences: int = 8, kernels: int = 12) -> Measurement:
    """Kernel time stamps of a producer that slows with CPU use, and the figures that follow from them."""
    rng = np.random.default_rng(seed)
    n = inferences * kernels
    t_prod = rng.gamma(8, (1_200 + 900 * use) * 1.0, n).astype(np.int64) + 1
    queued = np.cumsum(t_prod)
    start = queued + rng.integers(20_000, 40_000, n)
    total = rng.normal(3.1e6 * (1 + 0.08 * use) / (1 + 0.03 * k), 4e4, inferences)
    return Measurement(
        tables={
            "kernels": {
                "inference": np.repeat(np.arange(inferences), kernels),
                "kernel": np.tile(np.arange(kernels), inferences),
                "batch": np.tile(np.arange(kernels) // k, inferences),
                "queued_ns": queued,
                "submit_ns": queued + 4_000,
                "start_ns": start,
                "end_ns": start + rng.integers(80_000, 120_000, n),
            },
            "inferences": {
                "inference": np.arange(inferences),
                "profiled": (np.arange(inferences) % 2).astype(np.int64),
                "total_ns": total.astype(np.int64),
                "flushes": np.full(inferences, -(-kernels // k)),
            },
        },
        metrics={
            "total_ns": Metric(float(np.median(total)), "ns"),
            "t_prod_median_ns": Metric(float(np.median(t_prod)), "ns"),
            "flushes": Metric(float(-(-kernels // k)), "1"),
        },
        info={"device": "emulated", "driver": "1.0", "simulated": True},
        simulated=True,
    )


def begin(store: Store, of: Experiment | None = None, **changes: object) -> str:
    of = of or experiment()
    return store.begin_campaign(
        experiment=of,
        facts=facts(**changes),
        cells=cells(of),
        command="devicelab sweep --board phone-1",
        binaries=binaries(),
        plan_json='{"plan_version": 1}',
    )


def fill(store: Store, of: Experiment | None = None, *, invalid_every: int = 0, **changes: object) -> str:
    """A complete campaign; every ``invalid_every``-th run is flagged."""
    of = of or experiment()
    campaign = begin(store, of, **changes)
    seq = 0
    for repetition in range(of.repetitions):
        for cell in cells(of):
            use = LOADS[str(cell.levels["load"])]
            bad = invalid_every and seq % invalid_every == invalid_every - 1
            flags = [Flag(code="affinity-changed", detail="CPU 3 went offline: 3 became 0-3")] if bad else []
            store.commit_run(
                campaign,
                cell,
                record(run_id(campaign, cell, repetition), seq, use=use),
                repetition=repetition,
                measurements={"measure": measurement(seq, k=int(cell.levels["k"]), use=use)},
                flags=flags,
            )
            seq += 1
    store.finish_campaign(campaign, "complete")
    return campaign
