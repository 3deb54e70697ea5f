"""Traces of runs that really happened on this computer: KLO beside a load, tenants, and a run that was flagged."""

import itertools
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from devicelab.experiment import tracing
from devicelab.jobs import sweep as sweeping
from devicelab.model.experiment import Experiment, Measure, Tracing
from devicelab.model.results import Results
from devicelab.report.system_trace import write_system_trace
from devicelab.report.trace import choose_runs, write_trace
from devicelab.store import Store
from tests import tenantdata, tenantlab
from tests.traces import Parsed

pytestmark = pytest.mark.slow

_QUIET = {"foreign_pct": 100.0, "foreign_core_pct": 100.0, "repetitions": 1, "settle_s": 0.05, "seed": 1}
_PHASES = ["pin", "verify", "gates", "loads", "settle", "start", "measure", "restore"]


def _swept(of: Experiment, folder: Path, store: Store) -> Results:
    return sweeping.sweep(of, tenantlab.entry(folder), store, report_to=folder / "report.html").results


def _phases_are_nested_and_in_order(parsed: Parsed, runs: int) -> None:
    agent = sorted(parsed.slices["agent"], key=lambda one: (one[1], one[3]))
    outer = [one for one in agent if one[3] == 0]
    assert len(outer) == runs
    for _, begun, ended, _ in outer:
        inner = [one for one in agent if one[3] == 1 and begun <= one[1] and one[2] <= ended]
        assert [name for name, *_ in inner] == _PHASES
        assert all(a[2] <= b[1] for a, b in itertools.pairwise(inner))


def test_kernels_loads_and_phases_of_a_klo_run_beside_a_load(tmp_path: Path) -> None:
    params = {"backend": "emulated", "warmup": 1, "inferences": 3, "plain": 2}
    of = Experiment(
        name="traced",
        question="What happened?",
        factors={"load": ("none", "1000 5000 20"), "k": (4,)},
        measure=Measure(workload="klo", params=params),
        analyses=(),
        **_QUIET,  # type: ignore[arg-type]
    )
    with Store.open(tmp_path / "lab.sqlite") as store:
        results = _swept(of, tmp_path, store)
        parsed = Parsed(write_trace(results, choose_runs(results, None), tmp_path / "klo.pftrace"))
        kernels = results.samples("kernels")
    _phases_are_nested_and_in_order(parsed, 2)
    assert len(parsed.slices["GPU measure"]) == len(kernels) > 0
    assert parsed.starts == parsed.ends
    loads = [name for name in parsed.slices if name.startswith("load ")]
    assert loads
    # Kernels run inside the window of their run, after the loads began and before they were ended.
    windows = [one for one in parsed.slices["agent"] if one[0] == "measure"]
    for _, begun, ended, _ in parsed.slices["GPU measure"]:
        assert any(start <= begun <= ended <= end for _, start, end, _ in windows)
    busy = max(windows, key=lambda one: one[1]) if loads else windows[0]
    (load, *_) = [one for name in loads for one in parsed.slices[name]]
    assert any(load[1] <= start and end <= load[2] for _, start, end, _ in windows), (load, busy)
    assert any(name.startswith("cpu use") for name in parsed.counters)


def test_requests_of_tenants_are_scheduled_started_and_ended(tmp_path: Path) -> None:
    of = tenantdata.experiment(
        factors={"scheduler": ("native",), "pressure": ("copies:2",)},
        duration_s=0.5,
        analyses=(),
        **_QUIET,
    )
    with Store.open(tmp_path / "lab.sqlite") as store:
        results = _swept(of, tmp_path, store)
        parsed = Parsed(write_trace(results, choose_runs(results, None), tmp_path / "tenants.pftrace"))
        requests = results.samples("requests")
    _phases_are_nested_and_in_order(parsed, 1)
    drawn = {lane.removeprefix("requests "): len(found) for lane, found in parsed.slices.items() if "requests" in lane}
    assert drawn == dict(Counter(requests["program"])) != {}
    (window,) = [one for one in parsed.slices["agent"] if one[0] == "measure"]
    first = min(one[1] for lane in drawn for one in parsed.slices[f"requests {lane}"])
    assert window[1] <= first


def test_a_flagged_run_says_in_its_trace_why(tmp_path: Path) -> None:
    of = Experiment(
        name="late",
        question="What happened?",
        measure=Measure(workload="command", params={"argv": ["sleep", "30"], "output": "none"}, timeout_s=0.3),
        analyses=(),
        **_QUIET,  # type: ignore[arg-type]
    )
    with Store.open(tmp_path / "lab.sqlite") as store:
        results = _swept(of, tmp_path, store)
        parsed = Parsed(write_trace(results, choose_runs(results, None), tmp_path / "late.pftrace"))
    _phases_are_nested_and_in_order(parsed, 1)
    assert "timeout: " in parsed.notes["agent"]


@pytest.mark.skipif(shutil.which("perf") is None, reason="no perf here")
def test_perf_records_the_measured_program_alone(tmp_path: Path) -> None:
    busy = "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done"
    of = Experiment(
        name="traced",
        question="What happened?",
        factors={"load": ("1000 5000 20",)},
        measure=Measure(workload="command", params={"argv": ["sh", "-c", busy], "output": "none"}, timeout_s=60),
        trace=Tracing(when="always", tool="perf"),
        analyses=(),
        **_QUIET,  # type: ignore[arg-type]
    )
    with Store.open(tmp_path / "lab.sqlite") as store:
        results = _swept(of, tmp_path, store)
        runs = results.runs()
        (run,) = (run for run, flags in zip(runs["run_id"], runs["flags"], strict=True) if flags)
        chosen, path = write_system_trace(store.results(results.campaign), (run,), tmp_path / "perf.data")
        (measured,) = (one for one in results.evidence(run)["programs"] if one["role"] == "measure")
    assert chosen == (run,)
    said = subprocess.run(
        ["perf", "script", "-i", path, "-F", "pid"], capture_output=True, text=True, timeout=60, check=True
    )
    pids = Counter(said.stdout.split())
    assert set(pids) == {str(measured["pid"])}
    assert pids[str(measured["pid"])] >= 5


def test_a_traced_run_is_kept_with_its_trace_and_enters_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way with a stand-in for perf: started by the agent, ended by the undo, fetched, stored, written."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "perf").write_text(
        '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\nfile=$2\ntrap \'echo trace >"$file"; exit 0\' TERM\n'
        "while :; do sleep 0.05; done\n"
    )
    (tools / "perf").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    of = Experiment(
        name="traced",
        question="What happened?",
        factors={"k": (1, 4)},
        measure=Measure(workload="klo", params={"backend": "emulated", "warmup": 1, "inferences": 2, "plain": 2}),
        trace=Tracing(when="always", tool="perf"),
        analyses=("klo",),
        **{**_QUIET, "repetitions": 1},  # type: ignore[arg-type]
    )
    with Store.open(tmp_path / "lab.sqlite") as store:
        done = sweeping.sweep(of, tenantlab.entry(tmp_path), store, report_to=tmp_path / "report.html")
        runs = done.results.runs() if done.results is not None else None
        assert runs is not None
        traced = runs[runs["flags"].map(lambda flags: [flag.code for flag in flags] == ["traced"])]
        assert len(runs) == 4
        assert (done.runs, done.invalid) == (2, 0)
        assert store.campaign(done.campaign).status == "complete"
        assert len(traced) == 2
        assert not traced["valid"].any()
        assert all("(perf)" in flags[0].detail for flags in traced["flags"])
        results = store.results(done.campaign)
        for run in traced["run_id"]:
            assert results.output(run, tracing.OUTPUT) == b"trace\n"
            chosen, path = write_system_trace(results, (run,), tmp_path / "t")
            assert (chosen, path.read_text()) == ((run,), "trace\n")
        (cost,) = [one for one in done.findings if one.analysis == "tracing"]
        assert cost.n == 2
        beside = {path.name for path in (tmp_path / "report-traces").glob("*.perf.data")}
        assert len(beside) == len(traced)
        assert all(name in (tmp_path / "report.html").read_text() for name in beside)
        store.thin_samples(done.campaign)
        assert store.results(done.campaign).output(str(traced["run_id"].iloc[0]), tracing.OUTPUT) == b""
        assert store.check().ok
