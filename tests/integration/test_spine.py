"""The main job on this computer: load and sweep from the command line to stored runs, a report and a clean machine."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from devicelab.device.facts import open_device
from devicelab.device.lab import DeviceEntry
from devicelab.errors import DeviceBusyError
from devicelab.jobs.load import Loader
from devicelab.store import Store
from devicelab.workloads import overhead
from tests import forks
from tests.typed import Typed

pytestmark = pytest.mark.slow

SHORT = (
    "--set", "repetitions=2", "--set", "k=[8]", "--set", "measure.params.inferences=4",
    "--set", "measure.params.plain=6", "--set", "foreign_pct=100", "--set", "foreign_core_pct=100",
)  # fmt: skip
Command = Callable[..., "subprocess.Popen[str]"]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A working directory whose lab.toml gives this computer a device directory of its own."""
    (tmp_path / "lab.toml").write_text(f'[devices.local]\naddress = "local:"\ndir = "{tmp_path}/device"\n')
    return tmp_path


@pytest.fixture
def start(lab: Path) -> Command:
    """Starts the command line in the lab's directory."""

    def popen(*words: str) -> "subprocess.Popen[str]":
        places = {"DEVICELAB_LAB": str(lab / "lab.toml"), "DEVICELAB_STORE": str(lab / "s.sqlite")}
        return forks.start(*words, cwd=lab, environment=places)

    return popen


@pytest.fixture
def run(lab: Path, monkeypatch: pytest.MonkeyPatch, typed: Typed) -> Run:
    """Performs a command that nobody disturbs there."""
    monkeypatch.chdir(lab)
    monkeypatch.setenv("DEVICELAB_LAB", str(lab / "lab.toml"))
    monkeypatch.setenv("DEVICELAB_STORE", str(lab / "s.sqlite"))

    def call(*words: str) -> tuple[int, str, str]:
        done = typed(*words)
        return done.returncode, done.stdout, done.stderr

    return call


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def of_the_lab(lab: Path) -> list[str]:
    """Processes that run a program from the lab's device directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.exe().startswith(f"{lab}/device/"):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def wait_for_runs(process: "subprocess.Popen[str]", count: int) -> None:
    """Until so many runs are stored, by the progress lines."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(f"[{count}/"):
            return
    raise AssertionError("the sweep ended before it was to be disturbed")


def test_a_load_says_what_it_did_and_leaves_nothing(run: Run, lab: Path) -> None:
    code, out, err = run("load", "1000", "5000", "20", "--board", "local", "--seconds", "1", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["device"] == "local"
    assert said["args"] == [1000, 5000, 20]
    assert said["duration_s"] >= 1
    assert 0 < said["cpu_pct"] <= 100
    assert set(said["cpu_pct_by_core"]) == {str(cpu) for cpu in os.sched_getaffinity(0)}
    assert said["left_behind"] == 0
    assert of_the_lab(lab) == []


def test_a_load_that_is_interrupted_leaves_nothing(start: Command, lab: Path) -> None:
    process = start("load", "1000", "5000", "20", "--board", "local", "--cores", "all", "--seconds", "600")
    while not any("overhead" in line for line in of_the_lab(lab)):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130, err
    assert of_the_lab(lab) == []


def test_a_sweep_ends_in_stored_runs_and_a_report(run: Run, lab: Path) -> None:
    code, out, err = run("sweep", "quick", "--board", "local", *SHORT, "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["runs"] == said["planned"] == 4
    assert {"campaign", "device", "invalid", "report", "findings"} <= set(said)
    assert all(finding["simulated"] for finding in said["findings"] if finding["analysis"] == "klo")
    page = Path(lab, said["report"]).read_text()
    assert "simulated" in page.lower() or "emulated" in page.lower()
    with Store.open(lab / "s.sqlite") as store:
        results = store.results(said["campaign"])
        assert len(results.runs()) == 4
        assert len(results.samples("kernels")) > 0
        assert store.check().ok
    assert of_the_lab(lab) == []
    assert not list((lab / "device/plans").iterdir())


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_keeps_what_is_done_and_goes_on(start: Command, run: Run, lab: Path, ending: int) -> None:
    process = start("sweep", "quick", "--board", "local", *SHORT)
    wait_for_runs(process, 2)
    process.send_signal(ending)
    code, _, err = finish(process)
    assert code == 130, err
    assert of_the_lab(lab) == []
    code, out, err = run("sweep", "quick", "--board", "local", "--resume", "--json")
    assert code == 0, err
    assert json.loads(out)["runs"] == 4


def test_a_killed_host_loses_nothing_and_the_board_goes_on_alone(start: Command, run: Run, lab: Path) -> None:
    process = start("sweep", "quick", "--board", "local", *SHORT)
    wait_for_runs(process, 1)
    process.kill()
    finish(process)
    code, out, err = run("sweep", "quick", "--board", "local", "--resume", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["runs"] == 4
    with Store.open(lab / "s.sqlite") as store:
        runs = store.results(said["campaign"]).runs()
        assert runs["run_id"].is_unique
        assert len(store.campaigns()) == 1
    assert of_the_lab(lab) == []


def test_a_sweep_is_kept_out_while_somebody_else_works(start: Command, run: Run, lab: Path) -> None:
    first = start("load", "1000", "5000", "20", "--board", "local", "--seconds", "600")
    while not any("overhead" in line for line in of_the_lab(lab)):
        assert first.poll() is None
    code, _, err = run("sweep", "quick", "--board", "local", *SHORT)
    first.send_signal(signal.SIGINT)
    finish(first)
    assert code == 3, err
    assert "held by" in err


def test_work_that_finds_the_device_taken_at_the_last_moment_leaves_nothing_there(start: Command, lab: Path) -> None:
    first = start("load", "1000", "5000", "20", "--board", "local", "--seconds", "600")
    while not any("overhead" in line for line in of_the_lab(lab)):
        assert first.poll() is None
    before = sorted((lab / "device/plans").iterdir())
    # A loader does not look whether the device is free: who made it has, a moment ago.
    late = Loader(open_device(DeviceEntry(name="local", address="local:", dir=f"{lab}/device")))
    with pytest.raises(DeviceBusyError, match="busy: "):
        late.run(overhead.parse_level("1000 5000 20"), cores="0")
    assert sorted((lab / "device/plans").iterdir()) == before
    assert len(before) == 1
    first.send_signal(signal.SIGINT)
    finish(first)


def test_a_dry_run_starts_nothing(run: Run, lab: Path) -> None:
    code, out, err = run("sweep", "quick", "--board", "local", "--dry-run")
    assert code == 0, err
    assert "overhead 10 1000 20" in out
    assert not (lab / "device/plans").exists()
    assert not (lab / "s.sqlite").exists()
