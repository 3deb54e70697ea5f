"""Energy of whole cards: what the sampler and the helper wrote, and what is believed of it."""

import pytest

from devicelab.experiment.energy import meters, nvml
from devicelab.model.experiment import Experiment
from devicelab.model.journal import StepResult

SECOND = 1_000_000_000
START = 100 * SECOND


def experiment(windows: int) -> Experiment:
    """Windows of 2 s with 1 s between them."""
    tenant = {"name": "high", "priority": 1, "workload": "cpu_tenant"}
    return Experiment.model_validate(
        {
            "name": "e",
            "question": "How much?",
            "duration_s": 2,
            "windows": windows,
            "pause_s": 1,
            "tenants": [tenant],
            "factors": {},
        }
    )


def said(seconds: range, *, card: int = 0, busy_w: int = 300, idle_w: int = 100) -> str:
    """A line each second of a card that draws so much in the windows and between them."""
    lines, millijoules = [], 5_000_000
    for at in seconds:
        lines.append(f"energy,{card},{START + at * SECOND},{millijoules}")
        millijoules += 1000 * (busy_w if at % 3 < 2 else idle_w)
    return "\n".join(lines) + "\n"


def watts(text: str, windows: int = 2, cards: tuple[str, ...] = ()) -> dict[str, float]:
    return {name: one.value for name, one in nvml.powers(text, cards, START, experiment(windows)).items()}


def test_windows_and_pauses_have_their_own_power() -> None:
    told = watts(said(range(9)), windows=3)
    assert told["card_w"] == pytest.approx(300)
    # What a window's last request still draws is not the pause's.
    assert told["card_idle_w"] == pytest.approx(100)


def test_one_step_back_takes_all_numbers_away() -> None:
    lines = said(range(9)).splitlines()
    head, _, last = lines[4].rpartition(",")
    assert watts("\n".join([*lines[:4], f"{head},{int(last) - 1_000_000}", *lines[5:]]) + "\n", windows=3) == {}


@pytest.mark.parametrize(("count", "known"), [(1, False), (2, True)])
def test_two_readings_are_a_power(count: int, known: bool) -> None:
    assert ("card_w" in watts(said(range(count)), windows=1)) is known


@pytest.mark.parametrize(("until_ns", "known"), [(SECOND - 1, False), (SECOND, True)])
def test_half_of_the_windows_has_to_be_covered(until_ns: int, known: bool) -> None:
    text = f"energy,0,{START},0\nenergy,0,{START + until_ns},300000\n"
    assert ("card_w" in watts(text, windows=1)) is known


def test_a_run_on_one_of_two_cards_needs_to_say_which() -> None:
    both = said(range(9), card=0, busy_w=50) + said(range(9), card=1)
    assert watts(both, windows=3) == {}
    assert watts(both, 3, ("1",))["card_w"] == pytest.approx(300)
    assert watts(both, 3, ("0", "1")) == {}


def step(*, ours: bool = True, held: bool = False, output: str | None = "no NVML\n") -> StepResult:
    command, _ = nvml.step("ab", "python3", 10)
    do = command.do if ours else ("true",)
    return StepResult.model_validate({"do": do, "held": held, "output": output})


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([], ""),
        ([step(ours=False)], ""),
        ([step(held=True)], ""),
        ([step()], "no NVML"),
        ([step(ours=False), step()], "no NVML"),
        ([step(output=None)], "NVML's helper did not start"),
    ],
)
def test_what_a_missing_counter_said_is_the_helpers_alone(steps: list[StepResult], why: str) -> None:
    assert nvml.missing(steps) == why


def test_a_torn_reading_is_left_out() -> None:
    whole = "   0                   7                9000                9007\n"
    torn = "   0                   8                9000                9007\n"
    assert nvml.counters([whole + torn, None]) == {"card0": {7: 9.0}}


def test_a_rails_power_is_its_growth_by_its_own_clock() -> None:
    path = "/sys/bus/iio/devices/iio:device0/energy_value"
    texts = [f"t={at}\nCH0(T={at})[VDD_CPU], {2 * at * 1000}" for at in (1000, 1500, 2500)]
    told = list(meters.powers([0, 1, 2], {path: texts}, {}))
    assert [(name, t) for name, t, _ in told] == [("VDD_CPU", 1500 * 10**6), ("VDD_CPU", 2500 * 10**6)]
    assert [w for _, _, w in told] == pytest.approx([2.0, 2.0])
