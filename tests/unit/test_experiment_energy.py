"""Joules of planted powers: within one per cent, or a flag that names the fault, never a silent number."""

import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from sim_kernel_board import Bench, facts_of, known

from devicelab.experiment import energy, evidence
from devicelab.model.journal import ProgramResult, RunRecord, Samples
from devicelab.model.measurement import Measurement, Metric
from virtualboards.kernel import faults

_S = 1_000_000_000
BATTERY = "/sys/class/power_supply/battery"
RAPL = "/sys/class/powercap/intel-rapl:0"


class Sampled:
    """What an agent would sample of a virtual board, idle first and then the window; with the truth beside it."""

    def __init__(self, kind: str, period_s: float = 0.1, **power: object) -> None:
        spec = known(kind)
        spec = dataclasses.replace(spec, power=dataclasses.replace(spec.power, **power))  # type: ignore[arg-type]
        self.board = Bench(spec)
        self.period_s = period_s
        self.facts = facts_of(self.board, evidence.GLOBS)
        self.nodes = energy.sampled(self.facts)
        self.busy: dict[int, float] = {}

    def fault(self, name: str, **args: float) -> None:
        faults.inject(self.board.kernel, name, **args)

    def watch(self, seconds: float, act: Callable[[float], None] = lambda _: None) -> tuple[Samples, float]:
        """Sample for so long; ``act`` is told the time at every sample. The joules that were drawn meanwhile."""
        drawn = self.board.kernel.power.drawn_j
        times: list[int] = []
        texts: dict[str, list[str | None]] = {path: [] for path in self.nodes}
        for step in range(round(seconds / self.period_s) + 1):
            act(step * self.period_s)
            times.append(self.board.clock.ns)
            for path in self.nodes:
                texts[path].append(self.board.r(path))
            self.board.wait(self.period_s, self.busy)
        truth = self.board.kernel.power.drawn_j - drawn
        return Samples(t_ns=tuple(times), nodes={p: tuple(t) for p, t in texts.items()}), truth

    def run(self, seconds: float, act: Callable[[float], None] = lambda _: None) -> tuple[RunRecord, float]:
        """A run's record, and the joules drawn in its window."""
        idle, _ = self.watch(2.0)
        before = {path: self.board.r(path) for path in energy.around(self.facts)}
        start = self.board.clock.ns
        # The last period of ``watch`` lies behind the window.
        samples, drawn = self.watch(seconds, act)
        after = {path: self.board.r(path) for path in energy.around(self.facts)}
        drawn -= self.board.kernel.power.watts * self.period_s
        return _record(start, samples, idle, before, after), drawn


def _record(
    start: int,
    samples: Samples,
    idle: Samples | None = None,
    before: dict[str, str | None] | None = None,
    after: dict[str, str | None] | None = None,
) -> RunRecord:
    return RunRecord(
        event="run",
        run_id="r",
        seq=0,
        status="done",
        t_start_ns=start - _S,
        t_end_ns=samples.t_ns[-1] + _S,
        t_unix_ns=start,
        window_start_ns=start,
        window_end_ns=samples.t_ns[-1],
        programs=(ProgramResult(name="measure", role="measure", pid=9),),
        samples=samples,
        idle=idle or Samples(),
        before=before or {},
        after=after or before or {},
    )


def _measured(record: RunRecord) -> tuple[dict[str, Metric], list[str]]:
    found, flags = energy.measure(record, {}, required=True)
    return (dict(found.metrics) if found is not None else {}), [flag.code for flag in flags]


def _steps(sampled: Sampled) -> Callable[[float], None]:
    return lambda t: sampled.fault("power", watts=1.0 if t < 3 else 4.0 if t < 7 else 2.0)


@pytest.mark.parametrize("kind", ["note10", "qualcomm", "qualcomm-865", "pixel"])
@pytest.mark.parametrize("profile", ["constant", "step", "noisy"])
def test_a_board_that_discharges_tells_its_joules_within_one_per_cent(kind: str, profile: str) -> None:
    sampled = Sampled(kind, plugged=False, monitors=False)
    sampled.fault("power", watts=1.5, noise_pct=3.0 if profile == "noisy" else 0.0)
    record, truth = sampled.run(20.0, _steps(sampled) if profile == "step" else lambda _: None)
    metrics, flags = _measured(record)
    assert metrics["energy_j"].value == pytest.approx(truth, rel=0.01)
    assert flags == []
    assert metrics["power_idle_w"].value == pytest.approx(1.5, rel=0.02)
    assert metrics["energy_net_j"].value == pytest.approx(truth - 1.5 * 20, abs=0.02 * truth)


@pytest.mark.parametrize("milli", [False, True])
@pytest.mark.parametrize("positive", [False, True])
def test_units_and_signs_of_every_vendor_are_found(milli: bool, positive: bool) -> None:
    sampled = Sampled("qualcomm", plugged=False, milli=milli, positive=positive)
    for watts in (0.35, 2.0, 14.0):
        sampled.fault("power", watts=watts)
        metrics, flags = _measured(sampled.run(10.0)[0])
        assert flags == []
        assert metrics["energy_j"].value == pytest.approx(watts * 10, rel=0.01)


def test_a_current_whose_unit_could_be_both_is_no_number() -> None:
    # 10 mA for a whole device, or 10 A: neither is likely, so neither is said.
    sampled = Sampled("qualcomm", plugged=False)
    sampled.fault("power", watts=0.042)
    metrics, flags = _measured(sampled.run(5.0)[0])
    assert flags == ["energy-unit-unknown"]
    assert metrics == {}


def test_noise_that_hides_the_total_is_said() -> None:
    sampled = Sampled("qualcomm", plugged=False)
    sampled.fault("power", watts=2.0, noise_pct=15.0)
    metrics, flags = _measured(sampled.run(2.0)[0])
    assert flags == ["energy-uncertain"]
    assert metrics["energy_error_j"].value > 0.01 * metrics["energy_j"].value


def test_a_charger_that_comes_or_was_there_takes_the_number_away() -> None:
    sampled = Sampled("qualcomm", plugged=False)
    sampled.fault("power", watts=1.5)

    def plug(t: float) -> None:
        sampled.fault("charger", on=float(t >= 5))

    metrics, flags = _measured(sampled.run(10.0, plug)[0])
    assert (metrics, flags) == ({}, ["energy-charger-changed"])
    metrics, flags = _measured(sampled.run(10.0)[0])
    assert (metrics, flags) == ({}, ["energy-charging"])


@pytest.mark.parametrize("kind", ["note10", "qualcomm-865"])
def test_a_charger_whose_input_is_suspended_leaves_the_battery_to_tell(kind: str) -> None:
    sampled = Sampled(kind, plugged=True)
    sampled.fault("power", watts=1.5)
    node = "batt_slate_mode" if kind == "note10" else "input_suspend"
    assert sampled.board.w(f"{BATTERY}/{node}", 1) == "ok"
    metrics, flags = _measured(sampled.run(10.0)[0])
    assert flags == []
    assert metrics["energy_j"].value == pytest.approx(15.0, rel=0.01)
    # The kernel's side may say that it discharges while a charger helps: what is plugged in and not suspended counts.
    sampled.board.w(f"{BATTERY}/{node}", 0)
    record, _ = sampled.run(10.0)
    lies = {**record.samples.nodes, f"{BATTERY}/status": ("Discharging",) * len(record.samples.t_ns)}
    record = record.model_copy(update={"samples": record.samples.model_copy(update={"nodes": lies})})
    assert _measured(record) == ({}, ["energy-charging"])


def test_charging_is_no_reason_to_flag_a_run_that_did_not_ask_for_energy() -> None:
    found, flags = energy.measure(Sampled("qualcomm", plugged=True).run(3.0)[0], {})
    assert flags == ()
    assert found is not None
    assert found.metrics == {}
    assert "energy-charging" in str(found.info["missing"])


def test_a_current_that_changes_its_sign_while_it_is_said_to_discharge_is_no_number() -> None:
    sampled = Sampled("qualcomm", plugged=False)
    sampled.fault("power", watts=1.5)
    record, _ = sampled.run(10.0)
    current = list(record.samples.nodes[f"{BATTERY}/current_now"])
    turned = tuple(str(-int(text or 0)) if i > 60 else text for i, text in enumerate(current))
    nodes = {**record.samples.nodes, f"{BATTERY}/current_now": turned}
    record = record.model_copy(update={"samples": record.samples.model_copy(update={"nodes": nodes})})
    assert _measured(record) == ({}, ["energy-sign"])


def test_a_battery_that_counted_otherwise_disproves_its_current() -> None:
    sampled = Sampled("qualcomm", plugged=False)
    sampled.fault("power", watts=3.0)
    record, _ = sampled.run(30.0)
    halved = tuple(str(round(int(text or 0) / 4)) for text in record.samples.nodes[f"{BATTERY}/current_now"])
    nodes = {**record.samples.nodes, f"{BATTERY}/current_now": halved}
    record = record.model_copy(update={"samples": record.samples.model_copy(update={"nodes": nodes})})
    assert _measured(record) == ({}, ["energy-unit-disproved"])


def test_readings_that_are_missing_for_a_while_give_no_partial_total() -> None:
    sampled = Sampled("qualcomm", plugged=False)
    sampled.fault("power", watts=1.5)
    record, _ = sampled.run(10.0)
    current = list(record.samples.nodes[f"{BATTERY}/current_now"])
    current[30:60] = [None] * 30
    nodes = {**record.samples.nodes, f"{BATTERY}/current_now": tuple(current)}
    record = record.model_copy(update={"samples": record.samples.model_copy(update={"nodes": nodes})})
    assert _measured(record) == ({}, ["energy-gap"])


def test_rails_are_summed_whatever_feeds_the_board_and_a_reset_is_flagged() -> None:
    sampled = Sampled("pixel", plugged=True, monitors=True)
    sampled.board.tasks.parents, sampled.busy = {1001: 0}, {1001: 0.9}
    rails = sampled.board.kernel.power
    counted: dict[float, float] = {}
    record, _ = sampled.run(10.0, lambda t: counted.setdefault(t, sum(rails.rails_j.values())) and None)
    metrics, flags = _measured(record)
    assert flags == []
    truth = counted[max(counted)] - counted[0.0]
    assert metrics["energy_j"].value == pytest.approx(truth, rel=0.01)
    assert metrics["energy_j"].value == pytest.approx(sum(m.value for n, m in metrics.items() if n.startswith("rail_")))
    found, _ = energy.measure(record, {})
    assert found is not None
    assert found.info["scope"] == "4 rails of on-device power monitors"
    record, _ = sampled.run(10.0, lambda t: sampled.fault("rails-reset") if t == 5.0 else None)
    assert _measured(record) == ({}, ["energy-counter-reset"])
    sampled.busy = {}
    assert _measured(sampled.run(5.0)[0]) == ({}, ["energy-counter-stands"])


def _counted(values: Sequence[float], path: str = f"{RAPL}/energy_uj", **before: str) -> RunRecord:
    times = tuple(_S + 100_000_000 * i for i in range(len(values)))
    samples = Samples(t_ns=times, nodes={path: tuple(str(round(one)) for one in values)})
    names: dict[str, str | None] = {f"{path.rpartition('/')[0]}/{name}": text for name, text in before.items()}
    return _record(times[0], samples, before=names)


def test_a_counter_that_runs_over_goes_on_and_one_that_is_reset_does_not() -> None:
    range_uj = 262_143_328_850
    joules = np.cumsum(np.full(101, 2.5)) * 1e6  # 25 W at 10 Hz
    wrapped = (range_uj - 100e6 + joules) % range_uj
    metrics, flags = _measured(_counted(list(wrapped), name="package-0", max_energy_range_uj=str(range_uj)))
    assert flags == []
    assert metrics["energy_j"].value == pytest.approx(250, rel=0.01)
    reset = np.concatenate((40e9 + joules[:50], joules[50:] - joules[50]))
    for names in ({"max_energy_range_uj": str(range_uj)}, {}):
        assert _measured(_counted(list(reset), name="package-0", **names)) == ({}, ["energy-counter-reset"])
    assert _measured(_counted([7e6] * 50, name="package-0"))[1] == ["energy-counter-stands"]


def test_packages_and_memory_are_summed_and_cores_are_a_part_of_them() -> None:
    times = tuple(_S + 100_000_000 * i for i in range(101))
    watts = {"intel-rapl:0": 20.0, "intel-rapl:0:0": 12.0, "intel-rapl:0:1": 3.0, "intel-rapl:1": 30.0}
    names = {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "package-1",
    }
    nodes = {
        f"/sys/class/powercap/{zone}/energy_uj": tuple(str(round(w * 0.1 * i * 1e6)) for i in range(101))
        for zone, w in watts.items()
    }
    before: dict[str, str | None] = {f"/sys/class/powercap/{zone}/name": name for zone, name in names.items()}
    record = _record(times[0], Samples(t_ns=times, nodes=nodes), before=before)
    found, _ = energy.measure(record, {})
    assert found is not None
    assert found.metrics["energy_j"].value == pytest.approx(530, rel=0.01)
    assert "not the whole device" in str(found.info["scope"])


def test_of_several_sensors_only_one_that_is_the_whole_gives_a_total() -> None:
    times = tuple(_S + 100_000_000 * i for i in range(51))
    ina = "/sys/class/hwmon/hwmon2"
    flat = lambda value: (str(value),) * 51  # noqa: E731
    nodes = {f"{ina}/in1_input": flat(5000), f"{ina}/curr1_input": flat(1200), f"{ina}/power3_input": flat(900_000)}
    before: dict[str, str | None] = {f"{ina}/name": "ina3221", f"{ina}/in1_label": "VDD_CPU"}
    found, _ = energy.measure(_record(times[0], Samples(t_ns=times, nodes=nodes), before=before), {})
    assert found is not None
    assert "energy_j" not in found.metrics
    assert found.metrics["rail_VDD_CPU_j"].value == pytest.approx(30.0)
    before[f"{ina}/in1_label"] = "VDD_IN"
    found, _ = energy.measure(_record(times[0], Samples(t_ns=times, nodes=nodes), before=before), {})
    assert found is not None
    assert found.metrics["energy_j"].value == pytest.approx(30.0)
    assert found.info["scope"] == "whole device"


def test_an_inference_is_charged_for_its_own_time_not_for_the_start_of_the_program() -> None:
    sampled = Sampled("qualcomm", plugged=False)
    record, _ = sampled.run(12.0, lambda t: sampled.fault("power", watts=6.0 if t < 4 else 2.0))
    begin = record.window_start_ns + 5 * _S + np.arange(30, dtype=np.int64) * 200_000_000
    table: dict[str, Any] = {"begin_ns": begin, "total_ns": np.full(30, 200_000_000, dtype=np.int64)}
    found, flags = energy.measure(record, {"measure": Measurement(tables={"inferences": table})})
    assert found is not None
    assert [flag.code for flag in flags if not flag.remark] == []
    assert found.metrics["energy_per_inference_j"].value == pytest.approx(2.0 * 6 / 30, rel=0.01)
    assert found.metrics["energy_delay_js"].value == pytest.approx(0.4 * 0.2, rel=0.01)


def test_the_stated_error_holds_the_truth() -> None:
    """Of noisy and stepping powers, sampled at random phases, at least nine in ten lie within what is said."""
    rng = random.Random(5)
    held = 0
    for trial in range(200):
        noise, seconds = rng.uniform(0, 0.3), rng.uniform(1.5, 20)
        edges = sorted(rng.uniform(0, seconds) for _ in range(trial % 4))
        levels = [rng.uniform(1, 5) for _ in range(len(edges) + 1)]
        power = lambda t: levels[sum(t >= edge for edge in edges)]  # noqa: B023, E731
        ends = [0.0, *edges, seconds]
        truth = sum(level * (b - a) for level, a, b in zip(levels, ends[:-1], ends[1:], strict=True))
        times = [round(i * 1e8) for i in range(int(seconds * 10) + 1)]
        watts = [power(t / 1e9) * rng.gauss(1, noise) for t in times]
        got = (
            energy.of_power([*times, round(seconds * 1e9)], [*watts, power(seconds)], 0, round(seconds * 1e9))
            if times[-1] < round(seconds * 1e9)
            else energy.of_power(times, watts, 0, round(seconds * 1e9))
        )
        held += abs(got.joules - truth) <= got.error_j + 1e-9
    assert held >= 180


def test_who_asked_for_energy_is_told_that_there_is_none() -> None:
    times = tuple(_S + 100_000_000 * i for i in range(51))
    plugged = Samples(t_ns=times, nodes={"/sys/class/power_supply/AC/online": ("1",) * 51})
    found, flags = energy.measure(_record(times[0], plugged), {}, required=True)
    assert [flag.code for flag in flags] == ["energy-not-told"]
    assert found is not None
    assert found.metrics == {}
    assert energy.measure(_record(times[0], plugged), {}) == (None, ())


def test_a_desktop_that_only_knows_that_it_is_plugged_in_cannot_be_asked() -> None:
    desktop = facts_of(Bench(known("oddball")), ("/sys/class/power_supply/usb/*",))
    assert not energy.tells(desktop)
    assert energy.missing(desktop)
    assert energy.tells(Sampled("qualcomm").facts)
