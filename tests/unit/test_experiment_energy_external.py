"""A meter with a clock of its own: aligned by the step from idle to work, or no number."""

import sys
import time
from collections.abc import Callable

import numpy as np
import pytest

from devicelab.errors import ConfigError
from devicelab.experiment import energy
from devicelab.experiment.energy import external
from devicelab.jobs import meter
from devicelab.model.journal import RunRecord, Samples

_S = 1_000_000_000
_START = 500 * _S
_IDLE_S, _GAP_S, _WORK_S = 2.0, 0.4, 6.0


def _ticks(times: np.ndarray, busy: Callable[[float], float]) -> Samples:
    total = np.round((times - times[0]) / 1e7).astype(int)
    used = np.concatenate(([0], np.cumsum(np.diff(total) * np.array([busy(t / 1e9) for t in times[1:]]))))
    return Samples(
        t_ns=tuple(times.tolist()),
        busy={"0": tuple(np.round(used).astype(int).tolist())},
        total={"0": tuple(total.tolist())},
    )


def _record() -> RunRecord:
    """Idle for 2 s, then work for 6 s, by the device's clock."""
    window = _START + round((_IDLE_S + _GAP_S) * _S)
    idle = np.arange(_START, _START + round(_IDLE_S * _S) + 1, _S // 10)
    work = np.arange(window, window + round(_WORK_S * _S) + 1, _S // 10)
    return RunRecord(
        event="run",
        run_id="r",
        seq=0,
        status="done",
        t_start_ns=_START - _S,
        t_end_ns=int(work[-1]) + _S,
        t_unix_ns=1_800_000_000 * _S,
        window_start_ns=window,
        window_end_ns=int(work[-1]),
        idle=_ticks(idle, lambda _: 0.02),
        samples=_ticks(work, lambda _: 0.9),
    )


def _meter(
    shift_s: float, every_s: float = 0.02, noise: float = 0.02, low: float = 1.0, high: float = 4.0
) -> list[tuple[int, float]]:
    """What a meter whose clock is ahead by so much says of that run."""
    chance = np.random.default_rng(4)
    begin, end = _START + round((_IDLE_S + _GAP_S) * _S), _START + round((_IDLE_S + _GAP_S + _WORK_S) * _S)
    times = np.arange(_START - 3 * _S, end + 3 * _S, round(every_s * _S))
    watts = np.where((times >= begin) & (times < end), high, low) * chance.normal(1, noise, times.size)
    return [(int(t + shift_s * _S), float(w)) for t, w in zip(times, watts, strict=True)]


@pytest.mark.parametrize("shift_s", [-4.0, -0.31, 0.0, 1.7])
@pytest.mark.parametrize("every_s", [0.005, 0.05])
def test_a_meter_whose_clock_is_off_by_seconds_tells_the_joules_within_one_per_cent(
    shift_s: float, every_s: float
) -> None:
    found, flags = energy.measure(_record(), {}, required=True, meter=_meter(shift_s, every_s))
    assert found is not None
    assert [flag.code for flag in flags if not flag.remark] == []
    got = found.metrics["energy_j"].value
    assert got == pytest.approx(24.0, rel=0.01) or abs(got - 24.0) <= found.metrics["energy_error_j"].value
    assert got == pytest.approx(24.0, rel=0.03)
    assert found.metrics["power_idle_w"].value == pytest.approx(1.0, rel=0.03)
    assert found.info["meter"] == "external meter"


def test_a_meter_that_shows_no_step_or_nothing_of_the_run_gives_no_number() -> None:
    record = _record()
    flat = _meter(0.0, low=2.0, high=2.0, noise=0.2)
    elsewhere = [(t + 1000 * _S, w) for t, w in _meter(0.0)]
    for rows, code in ((flat, "energy-meter-unaligned"), (elsewhere, "energy-too-short"), ([], "energy-too-short")):
        found, flags = energy.measure(record, {}, required=True, meter=rows)
        assert [flag.code for flag in flags] == [code]
        assert found is not None
        assert found.metrics == {}
    unmarked = record.model_copy(update={"idle": Samples()})
    assert energy.measure(unmarked, {}, required=True, meter=_meter(0.0))[1][0].code == "energy-meter-unaligned"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("1.5, 3.25\n", (1.5, 3.25)),
        ("17;2e-3", (17.0, 0.002)),
        ("3 4", (3.0, 4.0)),
        ("time,watts", None),
        ("1,2,3", None),
        ("", None),
        ("nan, 1", None),
    ],
)
def test_lines_of_a_meter_are_read_and_all_else_is_left_out(line: str, wanted: tuple[float, float] | None) -> None:
    assert external.parse(line) == wanted


def test_what_a_buffer_delays_keeps_the_meters_own_distances() -> None:
    record = _record()
    one = meter.Meter()
    offset = record.t_unix_ns - record.t_start_ns
    for number in range(20):  # printed in heaps of five
        one.take(f"{number / 10}, 2.0", offset + _START + (number // 5 * 5 + 4) * _S // 10)
    rows = one.around(record) or ()
    assert [round((t - _START) / _S, 3) for t, _ in rows] == [round(n / 10, 3) for n in range(20)]


def test_the_command_runs_as_long_as_the_campaign_and_is_ended() -> None:
    script = "import time\nfor i in range(10**6): print(f'{i/100}, 1.5', flush=True); time.sleep(0.01)"
    with meter.running([sys.executable, "-c", script], "d") as running:
        record = _record()
        while len(running.around(record) or ()) < 3:
            time.sleep(0.005)
    assert {watts for _, watts in running.around(record) or ()} == {1.5}
    with pytest.raises(ConfigError, match="the meter does not start"), meter.running(["/no/such/meter"], "d"):
        pass
    with meter.running([], "d") as nothing:
        assert nothing.around(_record()) is None
