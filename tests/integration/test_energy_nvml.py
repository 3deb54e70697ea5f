"""A program measured alone on a machine with NVIDIA cards: NVML's counters through the real agent, NVML a stand-in."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devicelab.experiment.energy import nvml
from devicelab.jobs import sweep as sweeping
from devicelab.model.experiment import Energy, Experiment, Measure
from devicelab.store import Store
from tests import tenantlab
from tests.benches import wait_for
from tests.compilers import host_compiler

pytestmark = pytest.mark.slow

Told = tuple[dict[str, float], list[str], dict[str, object]]
Sweep = Callable[..., Told]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stand-in."""
    compiler = host_compiler()
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).parents[1] / "native" / "fake_nvml.cpp"
    flags = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
    subprocess.run([*compiler.argv, *flags, source, "-o", folder / "libnvidia-ml.so.1"], check=True)
    return folder


@pytest.fixture
def sweep(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Sweep a program that a shell line is; the run's energy, its flags, and what is said of the meter."""
    drawn = tmp_path / "drawn"
    monkeypatch.setenv("FAKE_NVML", str(drawn))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))

    def performed(line: str, *, said: str = "1 100", energy: Energy | None = None) -> Told:
        drawn.write_text(said)
        of = Experiment(
            name="nvml",
            question="How much?",
            measure=Measure(workload="command", params={"argv": ["sh", "-c", line], "output": "none"}),
            energy=energy,
            repetitions=1,
            settle_s=0.05,
            foreign_pct=100.0,
            foreign_core_pct=100.0,
            analyses=("energy",),
        )
        entry = tenantlab.entry(tmp_path).model_copy(update={"board": "nvidia-server"})
        with Store.open(tmp_path / "lab.sqlite") as store:
            done = sweeping.sweep(of, entry, store, report_to=tmp_path / "report.html")
            results = store.results(done.campaign)
            metrics = results.metrics()
            flags = [flag.code for flags in results.runs()["flags"] for flag in flags]
            told = results.info["programs"].get("energy", {})
            (run,) = results.runs()["run_id"]
            sampled = results.evidence(run)["samples"]["nodes"]
        (node,) = (path for path in sampled if nvml.NODE.fullmatch(path))
        assert not Path(node).parent.exists(), "the helper's folder is left"
        return dict(zip(metrics["metric"], metrics["value"], strict=True)), flags, told

    return performed


def test_a_cards_energy_is_gross_and_net_of_what_it_takes_idle(sweep: Sweep) -> None:
    metrics, flags, told = sweep('echo "1 300" >"$FAKE_NVML"; sleep 3', energy=Energy(idle_s=1.0))
    assert flags in ([], ["energy-uncertain"]), told
    assert metrics["power_mean_w"] == pytest.approx(300, rel=0.03)
    assert metrics["power_idle_w"] == pytest.approx(100, rel=0.03)
    assert metrics["energy_j"] == pytest.approx(900, rel=0.05)
    assert metrics["energy_net_j"] == pytest.approx(600, rel=0.05)
    assert told["meter"] == "nvml"
    assert "whole NVIDIA card" in str(told["scope"])


def test_without_being_asked_every_run_has_it_and_several_cards_are_told_apart(sweep: Sweep) -> None:
    metrics, flags, told = sweep("sleep 2", said="3 200")
    assert flags == []
    assert metrics["rail_card0_j"] / metrics["rail_card1_j"] == pytest.approx(20, rel=0.02)
    assert metrics["energy_j"] == pytest.approx(sum(metrics[f"rail_card{n}_j"] for n in range(3)))
    assert "3 whole NVIDIA cards together" in str(told["scope"])


def test_a_counter_that_begins_anew_or_does_not_answer_is_flagged_and_gives_no_number(sweep: Sweep) -> None:
    anew = 'sleep 1; echo "1 reset" >"$FAKE_NVML"; sleep 1'
    metrics, flags, _ = sweep(anew, energy=Energy(idle_s=0.5))
    assert "energy-counter-reset" in flags
    assert "energy_j" not in metrics
    metrics, flags, told = sweep("sleep 0.5", said="no driver", energy=Energy(idle_s=0.5))
    assert "energy-not-told" in flags
    assert "energy_j" not in metrics
    assert "NVML does not answer" in str(told["missing"])


def test_a_helper_whose_agent_died_ends_by_itself_and_its_undo_removes_the_rest(library: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn"
    drawn.write_text("1 100")
    step, node = nvml.step(f"ab12{os.getpid():x}", sys.executable, 50)
    environment = os.environ | {"FAKE_NVML": str(drawn), "LD_LIBRARY_PATH": str(library)}
    assert step.undo is not None

    def ended(pid: int) -> bool:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
        return True

    try:
        # The shell that plays the agent ends at once.
        said = subprocess.run(
            ["sh", "-c", '"$@"; true', "sh", *step.do], env=environment, capture_output=True, check=True
        )
        assert Path(node).is_file(), said.stderr
        pid = int(Path(node).with_name("pid").read_text().split()[0])
        assert wait_for(lambda: ended(pid), 20.0)
    finally:
        assert subprocess.run(step.undo, check=False).returncode == 0
    assert not Path(node).parent.exists()
    assert subprocess.run(step.undo, check=False).returncode == 0
