"""The card's energy counter: power in the windows and at rest in the pauses between, from what the sampler prints."""

import subprocess
import sys

import pytest

from devicelab.experiment import gauge
from devicelab.experiment.energy import nvml
from devicelab.model.experiment import Experiment
from devicelab.model.journal import WitnessResult
from tests.tenantdata import experiment, place, record

S = 1_000_000_000
START = 5_000 * S


def of(windows: int = 2) -> Experiment:
    return experiment(duration_s=4.0, windows=windows, pause_s=2.0)


def counter(card: int = 0, *, until_s: float = 12.0, busy_w: float = 400.0, idle_w: float = 100.0) -> str:
    """What a card takes in the windows (0 to 4 s and 6 to 10 s) and between, read every 100 ms from 0.35 s on."""
    lines, energy, at = [], 7_000_000.0, 0.0
    while at < until_s:
        if at >= 0.35:
            lines.append(f"energy,{card},{START + round(at * S)},{round(energy)}")
        energy += 0.1 * 1000 * (busy_w if at % 6 < 3.999 else idle_w)
        at = round(at + 0.1, 3)
    return "\n".join(lines) + "\n"


def test_power_in_the_windows_and_at_rest_is_the_counters() -> None:
    got = nvml.powers(counter(), ["0"], START, of())
    assert got["card_w"].value == pytest.approx(400, rel=0.01)
    assert got["card_idle_w"].value == pytest.approx(100, rel=0.05)
    assert {metric.unit for metric in got.values()} == {"W"}


def test_without_a_pause_there_is_no_idle_power() -> None:
    assert set(nvml.powers(counter(until_s=4), [], START, of(1))) == {"card_w"}


def test_a_counter_that_saw_too_little_gives_no_figure() -> None:
    assert "card_w" not in nvml.powers(counter(until_s=2.5), [], START, of())


@pytest.mark.parametrize(
    "text", ["", "energy,0,1\n", "energy,x,1,2\n", f"energy,0,{START},5\n", counter(0) + counter(1)]
)
def test_what_cannot_be_read_or_told_apart_gives_no_figure(text: str) -> None:
    assert nvml.powers(text, [], START, of()) == {}


def test_a_counter_that_runs_backwards_is_not_believed() -> None:
    text = f"energy,0,{START},900\nenergy,0,{START + 9 * S},100\n"
    assert nvml.powers(text, [], START, of()) == {}


def test_the_cards_power_is_read_beside_the_gauge() -> None:
    seen = record({"high": 5}).model_copy(update={"window_start_ns": START})
    said = "0, 50, 1980, 40, 300\n" + counter() + "0, 100, 1980, 41, 310\n"
    seen = seen.model_copy(update={"witnesses": (WitnessResult(name=gauge.PROGRAM, exit_code=124, stdout=said),)})
    got = gauge.read(seen, of())
    assert got is not None
    assert got.metrics["gpu_use_pct"].value == 75
    assert got.metrics["card_w"].value == pytest.approx(400, rel=0.01)
    assert "card_w" not in gauge.read(seen).metrics  # type: ignore[union-attr]


def test_without_a_driver_the_gauge_ends_in_time_and_says_nothing_of_energy() -> None:
    *_, witness = gauge.witnesses(place("nvidia-server").facts, 3, sys.executable)
    argv = [word if word != "nvidia-smi" else "true" for word in witness.argv]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("", "")
