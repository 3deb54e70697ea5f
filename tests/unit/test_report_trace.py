"""A trace holds what happened, in order: parsed back with Perfetto's own protos."""

import gzip
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from devicelab.errors import ConfigError
from devicelab.experiment.timeline import series, spans
from devicelab.model.journal import Phase, ProgramResult
from devicelab.model.results import Results
from devicelab.report.trace import choose_runs, lanes_of, write_trace
from devicelab.store import Store
from tests import labdata
from tests.traces import Parsed

OLD = Path(__file__).resolve().parents[1] / "data" / "version-0.1.0" / "complete.sqlite.gz"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    """A KLO campaign of eight runs, four of them beside a load."""
    path = tmp_path_factory.mktemp("old") / "lab.sqlite"
    with gzip.open(OLD) as packed, path.open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    with Store.open(str(path)) as store:
        yield store.results(store.campaign(None).campaign)


def test_every_kernel_is_there_joined_to_the_moment_it_was_queued(results: Results, tmp_path: Path) -> None:
    parsed = Parsed(write_trace(results, choose_runs(results, None), tmp_path / "all.pftrace"))
    kernels = results.samples("kernels")
    assert len(parsed.slices["GPU measure"]) == len(parsed.slices["host measure"]) == len(kernels)
    assert parsed.starts == parsed.ends
    assert len(parsed.starts) == len(kernels)
    assert 0 not in parsed.starts
    # One after the other: no kernel lies in another, neither at the host nor on the GPU.
    for lane in ("GPU measure", "host measure"):
        assert {depth for *_, depth in parsed.slices[lane]} == {0}
    took = sorted(end - start for _, start, end, _ in parsed.slices["GPU measure"])
    assert took == sorted((kernels["end_ns"] - kernels["start_ns"]).tolist())
    assert Counter(name for name, *_ in parsed.slices["agent"]) == Counter(results.runs()["cell"].tolist())
    assert len([lane for lane in parsed.slices if lane.startswith("load ")]) == 1
    assert parsed.counters


def test_kernels_lie_within_the_run_that_measured_them(results: Results) -> None:
    for run_id in choose_runs(results, None):
        lanes = lanes_of(results, (run_id,)).spans
        (run,) = lanes["agent"]
        assert all(run.start_ns <= one.start_ns <= one.end_ns <= run.end_ns for one in lanes["GPU measure"])


def test_phases_lie_within_their_run_one_after_the_other() -> None:
    record = labdata.record("r1")
    start = record.t_start_ns
    phases = (
        Phase(name="pin", t_ns=start + 5),
        Phase(name="measure", t_ns=start + 40),
        Phase(name="restore", t_ns=99 * start),
    )
    loads = (ProgramResult(name="load0", role="load", pid=7, start_ns=start + 10, end_ns=start + 60, granted=(2,)),)
    rows = spans(record.model_copy(update={"phases": phases, "programs": loads}).model_dump(mode="json"))
    found = {row.name: (row.start_ns - start, row.end_ns - start, row.lane) for row in rows.itertuples()}
    length = record.t_end_ns - start
    assert found == {
        "run r1": (0, length, "agent"),
        "pin": (5, 40, "agent"),
        "measure": (40, length, "agent"),
        "restore": (length, length, "agent"),  # a device that says nonsense does not stretch the run
        "load0": (10, 60, "load load0"),
    }


def test_readings_become_series_in_their_units() -> None:
    cpu, zone, gpu = (
        "/sys/devices/system/cpu/cpufreq/policy4/scaling_cur_freq",
        "/sys/class/thermal/thermal_zone0/temp",
        "/sys/kernel/gpu/gpu_clock",
    )
    samples = {
        "t_ns": [10, 20, 30],
        "nodes": {cpu: ["2000000", None, "1800000"], zone: ["45000", "46500", "x"], gpu: ["700", "650", "0"]},
        "busy": {"0": [0, 5, 5], "1": [0, None, 9]},
        "total": {"0": [0, 10, 20], "1": [0, None, 20]},
    }
    rows = series({"samples": samples})
    found = {
        (q, n): list(zip(part["t_ns"], part["value"], strict=True))
        for (q, n), part in rows.groupby(["quantity", "name"])
    }
    assert found["cpu clock", "policy4"] == [(10, 2_000_000), (30, 1_800_000)]
    assert found["temperature", "thermal_zone0"] == [(10, 45.0), (20, 46.5)]
    assert found["gpu clock", "gpu"][0] == (10, 700_000)
    assert found["cpu use", "cpu0"] == [(20, 50.0), (30, 0.0)]
    assert ("cpu use", "cpu1") not in found  # a CPU that went offline between two samples has no use there


@pytest.mark.parametrize("run", ["0", "9", "zz", "1a2b3c4d5e6f"])
def test_a_run_that_is_not_there_is_an_error_that_says_which_are(results: Results, run: str) -> None:
    with pytest.raises(ConfigError) as error:
        choose_runs(results, run)
    assert "1 to 8" in (error.value.hint or "")


def test_one_run_is_chosen_by_its_place_or_its_id(results: Results) -> None:
    ids = list(results.runs()["run_id"])
    assert choose_runs(results, "3") == (ids[2],)
    assert choose_runs(results, ids[4][:12]) == (ids[4],)
