"""Tenants for tests: experiments, places, journal records, and campaigns with known truth."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from devicelab import boards
from devicelab.analyses import priority
from devicelab.experiment import gauge
from devicelab.model.device import Facts
from devicelab.model.experiment import Cell, Experiment, Finding, Tenant
from devicelab.model.journal import Flag, ProgramResult, RunRecord, StepResult, WitnessResult
from devicelab.model.tree import Node
from devicelab.schedulers.base import Place
from tests.klodata import FrameResults, run_row

MS = 1_000_000


def tenants(**high: Any) -> tuple[Tenant, ...]:
    """An important tenant and a continuous one."""
    return (
        Tenant.model_validate(
            {
                "name": "high",
                "priority": 2,
                "workload": "cpu_tenant",
                "arrivals": "fixed:100",
                "deadline_ms": 20,
                "targets": {"p99_ratio": "< 2"},
                **high,
            }
        ),
        Tenant(name="low", priority=1, workload="cpu_tenant", targets={"share_pct": "> 30"}),
    )


def experiment(**changes: Any) -> Experiment:
    fields: dict[str, Any] = {
        "name": "two",
        "question": "Does it help?",
        "factors": {"scheduler": ("standalone", "native", "nice"), "pressure": ("copies:2",)},
        "repetitions": 6,
        "duration_s": 4.0,
        "tenants": tenants(),
        "analyses": ("priority",),
        **changes,
    }
    return Experiment.model_validate(fields)


def cell(**levels: Any) -> Cell:
    return Cell(levels=levels, measured="x")


def place(kind: str = "linux", prefixes: Mapping[str, str] | None = None, nodes: tuple[Node, ...] = ()) -> Place:
    facts = Facts(
        name="server-1",
        address="ssh:lab@server",
        board=boards.load(kind),
        abi="x86_64",
        os="linux",
        kernel="6.1",
        boot_id="b",
        root="none",
        dir="/var/tmp/devicelab-1000",
        nodes=(*(Node(path=f"/sys/devices/system/cpu/{name}", text="0-3\n") for name in ("online", "present")), *nodes),
    )
    return Place(facts, dict(prefixes or {}), "/opt/env/bin/python")


def record(
    pids: Mapping[str, int],
    witnesses: Mapping[str, str | None] | None = None,
    *,
    stdout: Mapping[str, str] | None = None,
    flags: tuple[Flag, ...] = (),
    restored: tuple[str, ...] = (),
) -> RunRecord:
    """A finished run; a witness of ``None`` failed, ``restored`` are outputs of what was undone."""
    texts = stdout or {}
    return RunRecord(
        event="run",
        run_id="r1",
        seq=0,
        status="done",
        flags=flags,
        t_start_ns=1,
        t_end_ns=2,
        t_unix_ns=3,
        programs=tuple(
            ProgramResult(name=name, role="measure", pid=pid, exit_code=0, stdout=texts.get(name, ""))
            for name, pid in pids.items()
        ),
        witnesses=tuple(
            WitnessResult(name=name, exit_code=1 if text is None else 0, stdout=text or "")
            for name, text in (witnesses or {}).items()
        ),
        restore=tuple(StepResult(do=("sh",), held=True, exit_code=0, output=text) for text in restored),
    )


Response = Callable[[str, str, np.random.Generator, int], np.ndarray]
"""(scheduler, tenant, rng, n) → response times in ms."""


def campaign(
    of: Experiment,
    response: Response,
    *,
    throughput: Callable[[str, str], float] = lambda _scheduler, _tenant: 100.0,
    flags: Callable[[str, int], tuple[Flag, ...]] = lambda _scheduler, _repetition: (),
    dropped: Callable[[str, str], int] = lambda _scheduler, _tenant: 0,
    empty: Callable[[str, str], float] = lambda _scheduler, _tenant: 0.0,
    gpu_use: Callable[[str], float | None] = lambda _scheduler: None,
    requests: int = 400,
    seed: int = 1,
    info: Mapping[str, Any] | None = None,
) -> FrameResults:
    """Runs of every leg with the responses given; services begin half-way through the response."""
    runs: list[dict[str, Any]] = []
    samples: list[pd.DataFrame] = []
    lost: list[pd.DataFrame] = []
    metrics: list[tuple[str, str, str, float, str]] = []
    names = [tenant.name for tenant in of.tenants]
    legs = itertools.product(of.factors["scheduler"], of.factors.get("pressure", (None,)), range(of.repetitions))
    rng = np.random.default_rng(seed)
    for scheduler, pressure, repetition in legs:
        alone = str(scheduler).startswith("standalone")
        for only in names if alone else [None]:
            own_pressure = pressure if not alone or only == names[-1] else None
            levels = {"scheduler": scheduler, "pressure": own_pressure, "tenant": only}
            run_id = f"{scheduler}/{own_pressure}/{only}/{repetition}"
            if any(run["run_id"] == run_id for run in runs):
                continue
            runs.append(run_row(run_id, repetition, len(runs), levels, flags(str(scheduler), repetition)))
            for name in names if only is None else [only]:
                times = (response(str(scheduler), name, rng, requests) * MS).astype(np.int64)
                scheduled = np.arange(requests) * 10 * MS
                frame = {
                    "scheduled_ns": scheduled,
                    "start_ns": scheduled + times // 2,
                    "end_ns": scheduled + times,
                }
                samples.append(pd.DataFrame({"run_id": run_id, "program": name, **frame}))
                count = dropped(str(scheduler), name)
                if count:
                    late = {"scheduled_ns": np.arange(count) * 10 * MS}
                    lost.append(pd.DataFrame({"run_id": run_id, "program": name, **late}))
                metrics += [
                    (run_id, name, "throughput_per_s", throughput(str(scheduler), name) + 0.01 * repetition, "1/s"),
                    (run_id, name, "longest_gap_ns", 20.0 * MS, "ns"),
                    (run_id, name, "empty_seconds", empty(str(scheduler), name), "1"),
                ]
            used = gpu_use(str(scheduler))
            if used is not None:
                metrics.append((run_id, gauge.PROGRAM, "gpu_use_pct", used + repetition, "pct"))
    tables = {"requests": pd.concat(samples, ignore_index=True)}
    if lost:
        tables["dropped"] = pd.concat(lost, ignore_index=True)
    return FrameResults(
        of,
        pd.DataFrame(runs),
        pd.DataFrame(metrics, columns=["run_id", "program", "metric", "value", "unit"]),
        tables,
        {"device": "server-1", "board": "linux", **(info or {})},
    )


# Times of the important tenant over standalone, by leg.
SLOWER = {"standalone": 1.0, "native": 8.0, "nice": 1.2, "standalone+nice": 1.05}


def response(scheduler: str, tenant: str, rng: np.random.Generator, n: int) -> np.ndarray:
    return SLOWER[scheduler] * rng.normal(5, 0.1, n) if tenant == "high" else rng.normal(9, 0.2, n)


def throughput(scheduler: str, tenant: str) -> float:
    return {"native": 50.0, "nice": 40.0}.get(scheduler, 100.0) if tenant == "low" else 100.0


def by_claim(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    found = {finding.claim: finding for finding in findings}
    assert len(found) == len(findings)
    return found


def concluded(results: FrameResults) -> dict[str, Finding]:
    return by_claim(priority.analyse(results))
