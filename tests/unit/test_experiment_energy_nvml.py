"""The card's energy counter: power in the windows and at rest in the pauses between, from what the sampler prints."""

import subprocess
import sys

import pytest

from devicelab.experiment import gauge
from devicelab.experiment import plan as planning
from devicelab.experiment.energy import FaultError, meters, nvml
from devicelab.model.experiment import Cell, Experiment, Measure
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


# A program that is measured alone: the counters as a node ----------------------------------------------------------


def node(at_s: float, *joules: float) -> str:
    """What the helper wrote: a line a card."""
    at, counts = START + round(at_s * S), [round(one * 1000) for one in joules]
    return "\n".join(f"{card:4d} {at:19d} {count:19d} {at + count:20d}" for card, count in enumerate(counts))


def read(texts: list[str | None], end_s: float = 4.0) -> meters.Reading | None:
    times = [START + i * S // 10 for i in range(len(texts))]
    return meters.read(times, {"/dev/shm/devicelab-ab12/energy": texts}, {}, (START, START + round(end_s * S)))


def test_the_counters_stamps_count_and_not_when_the_agent_looked() -> None:
    got = read([node(i / 10 - 0.04, 50 + 30 * i / 10) for i in range(42)])
    assert got is not None
    assert got.total is not None
    assert got.total.joules == pytest.approx(30 * 4, rel=0.01)
    assert (got.meter, got.scope) == ("nvml", "whole NVIDIA card, with all that ran on it, not the machine")


def test_a_read_that_fell_into_a_write_is_left_out() -> None:
    texts: list[str | None] = [node(i / 10, 50 + 30 * i / 10) for i in range(42)]
    torn = str(texts[20])
    texts[20] = torn[:30] + "9" + torn[31:]
    texts[21], texts[22] = None, torn[:40]
    got = read(texts)
    assert got is not None
    assert got.total is not None
    assert got.total.joules == pytest.approx(30 * 4, rel=0.01)


@pytest.mark.parametrize(
    ("texts", "code"),
    [
        ([node(i / 10, 50 + i if i < 20 else i) for i in range(42)], "energy-counter-reset"),
        ([node(min(i, 20) / 10, 50 + min(i, 20)) for i in range(42)], "energy-too-short"),  # the helper died
        ([node(i / 10 if not 10 < i < 25 else 1.0, 50 + i) for i in range(42)], "energy-gap"),
        ([node(i / 10, 50) for i in range(42)], "energy-counter-stands"),
        ([node(i / 10, 50 + i, 80 + i if i < 30 else 1) for i in range(42)], "energy-counter-reset"),
    ],
)
def test_a_counter_that_did_not_count_throughout_gives_a_flag(texts: list[str | None], code: str) -> None:
    with pytest.raises(FaultError) as caught:
        read(texts)
    assert caught.value.code == code


def test_only_a_gpu_server_and_only_a_sampled_run_gets_the_helper() -> None:
    measure = Measure(workload="command", params={"argv": ["true"], "output": "none"})
    alone = Experiment(name="alone", question="How much?", measure=measure)
    for kind, hz, there in (("nvidia-server", 10.0, True), ("nvidia-server", 0.0, False), ("linux", 10.0, False)):
        here = place(kind)
        of = alone.model_copy(update={"sample_hz": hz})
        (run,) = planning.runs_of((Cell(levels={}, measured="m"),), range(1), of, here, "c")
        assert any(nvml.NODE.fullmatch(path) for path in run.sampling.nodes) == there
        assert any(step.kind == "command" and step.undo is not None for step in run.steps) == there


def test_without_a_driver_the_gauge_ends_in_time_and_says_nothing_of_energy() -> None:
    *_, witness = gauge.witnesses(place("nvidia-server").facts, 3, sys.executable)
    argv = [word if word != "nvidia-smi" else "true" for word in witness.argv]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("", "")
