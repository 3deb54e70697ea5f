"""Proof: what did not hold during a run flags it, with the figure."""

from typing import Any

import pytest
from board_trees import CPU, KGSL, MALI, cpus, facts

from devicelab import knobs
from devicelab.knobs import cpufreq
from devicelab.model.device import Facts
from devicelab.model.experiment import Level, Thermal
from devicelab.model.journal import Flag, GateResult, ProbeResult, RunRecord, Samples, StepResult

POLICY4 = f"{CPU}/cpufreq/policy4"
POLICY0 = f"{CPU}/cpufreq/policy0"
COOLING = "/sys/class/thermal/cooling_device"
Texts = dict[str, str | None]


def run(before: Texts | None = None, after: Texts | None = None, **more: Any) -> RunRecord:
    return RunRecord(
        event="run",
        run_id="r",
        seq=0,
        status="done",
        t_start_ns=0,
        t_end_ns=10**10,
        t_unix_ns=0,
        before=before or {},
        after={**(before or {}), **(after or {})},
        **more,
    )


def sampled(path: str, *texts: str | None) -> Samples:
    return Samples(t_ns=tuple(range(len(texts))), nodes={path: texts})


def residency(ticks: dict[int, int]) -> str:
    return "".join(f"{khz} {count}\n" for khz, count in ticks.items())


def prove(word: str, want: Level, device: Facts, record: RunRecord) -> list[tuple[str, str]]:
    return [(flag.code, flag.detail) for flag in knobs.prove(word, want, device, record)]


def test_a_clock_that_held_flags_nothing() -> None:
    record = run(
        {f"{POLICY4}/stats/time_in_state": residency({1286400: 100, 1612800: 500})},
        {f"{POLICY4}/stats/time_in_state": residency({1286400: 100, 1612800: 1500})},
    )
    assert prove("cpu", "4:1612800", facts("sm8150"), record) == []


def test_time_at_another_clock_is_flagged_with_its_share() -> None:
    record = run(
        {f"{POLICY4}/stats/time_in_state": residency({1286400: 100, 1612800: 500})},
        {f"{POLICY4}/stats/time_in_state": residency({1286400: 131, 1612800: 1469})},
    )
    assert prove("cpu", "4:1612800", facts("sm8150"), record) == [
        ("cpu-frequency-not-held", "policy4: 3.1% of the time at 1286400 kHz instead of 1612800")
    ]


def test_a_single_tick_of_transition_is_no_failure() -> None:
    record = run(
        {f"{POLICY4}/stats/time_in_state": residency({1286400: 100, 1612800: 500})},
        {f"{POLICY4}/stats/time_in_state": residency({1286400: 101, 1612800: 1499})},
    )
    assert prove("cpu", "4:1612800", facts("sm8150"), record) == []


def test_several_wrong_clocks_name_the_worst_and_count_the_others() -> None:
    spent = {710400: 50, 1286400: 100, 1612800: 850}
    record = run(
        {f"{POLICY4}/stats/time_in_state": residency(dict.fromkeys(spent, 0))},
        {f"{POLICY4}/stats/time_in_state": residency(spent)},
    )
    assert prove("cpu", "4:1612800", facts("sm8150"), record) == [
        ("cpu-frequency-not-held", "policy4: 10.0% of the time at 1286400 kHz and 5.0% at another instead of 1612800")
    ]


def test_samples_decide_where_the_kernel_keeps_no_residency() -> None:
    texts = ("1612800",) * 90 + ("1286400",) * 9 + (None,)
    record = run(samples=sampled(f"{POLICY4}/scaling_cur_freq", *texts))
    (flag,) = prove("cpu", "4:1612800", facts("sm8150"), record)
    assert flag == ("cpu-frequency-not-held", "policy4: 9.1% of the time at 1286400 kHz instead of 1612800")


def test_a_run_without_any_evidence_of_its_clock_is_not_believed() -> None:
    assert [code for code, _ in prove("cpu", "4:1612800", facts("sm8150"), run())] == ["cpu-frequency-not-proven"]


@pytest.mark.parametrize("garbage", ["", "x y\n", "1612800\n", "-5 3\n", "\0\n"])
def test_garbage_in_a_counter_is_no_evidence(garbage: str) -> None:
    record = run({f"{POLICY4}/stats/time_in_state": garbage})
    assert [code for code, _ in prove("cpu", "4:max", facts("sm8150"), record)] == ["cpu-frequency-not-proven"]


def test_a_policy_whose_cores_were_off_all_the_time_needs_no_proof() -> None:
    ticks: dict[str, tuple[int | None, ...]] = {str(cpu): (1, 2) for cpu in range(7)}
    texts = {f"{CPU}/cpufreq/policy{n}/scaling_cur_freq": (str(khz),) * 2 for n, khz in ((0, 300000), (4, 710400))}
    record = run(samples=Samples(busy={**ticks, "7": (None, None)}, nodes=texts))
    assert prove("cpu", "min", facts("sm8150"), record) == []


def test_a_policy_that_was_not_known_when_it_was_planned_is_not_believed() -> None:
    silent: Texts = {f"{CPU}/online": "0-6\n", f"{CPU}/cpu7/online": "0\n"}
    silent |= {path: None for path in facts("sm8150").tree if path.startswith(f"{CPU}/cpufreq/policy7/")}
    device = knobs.assume({"cores": "all-online"}, facts("sm8150", change=silent))
    held = {f"{CPU}/cpufreq/policy{n}/scaling_cur_freq": (str(khz),) * 2 for n, khz in ((0, 300000), (4, 710400))}
    on = Samples(busy={str(cpu): (1, 2) for cpu in range(8)}, nodes=held)
    assert prove("cpu", "min", device, run(samples=on)) == [
        (
            "cpu-frequency-not-proven",
            "policy7: its frequencies were not known when the run was planned, so it was not pinned",
        )
    ]
    off = Samples(busy={str(cpu): (1, 2) for cpu in range(7)}, nodes=held)
    assert prove("cpu", "min", device, run(samples=off)) == []


def test_a_thermal_limit_is_told_from_interference() -> None:
    held = {f"{POLICY4}/stats/time_in_state": residency({1286400: 0, 1612800: 0})}
    cold: Texts = {f"{POLICY4}/scaling_max_freq": "1612800", f"{COOLING}1/cur_state": "0", **held}
    hot: Texts = {
        f"{POLICY4}/scaling_max_freq": "1286400",
        f"{POLICY4}/stats/time_in_state": residency({1286400: 400, 1612800: 600}),
    }
    heat = "heat: thermal-cpufreq-4 at 9 of 16"
    flags = prove("cpu", "4:1612800", facts("sm8150"), run(cold, {**hot, f"{COOLING}1/cur_state": "9"}))
    assert flags == [
        (
            "throttled",
            f"policy4: scaling_max_freq was 1286400 kHz after the run instead of 1612800 ({heat})",
        ),
        ("cpu-frequency-not-held", "policy4: 40.0% of the time at 1286400 kHz instead of 1612800"),
    ]
    code, detail = prove("cpu", "4:1612800", facts("sm8150"), run(cold, hot))[0]
    assert code == "limits-changed"
    assert "a daemon or another program" in detail


def test_idle_clocks_of_a_driver_without_table_say_nothing_but_turbo_does() -> None:
    server = facts("server")
    path = f"{CPU}/cpufreq/policy0/scaling_cur_freq"
    others = {f"{CPU}/cpufreq/policy{n}/scaling_cur_freq": ("2000000",) * 10 for n in range(1, 4)}
    quiet = Samples(nodes={path: ("800123",) * 9 + ("2010000",), **others})
    assert prove("cpu", 2000000, server, run(samples=quiet)) == []
    turbo = Samples(nodes={path: ("800123",) * 8 + ("3400000",) * 2, **others})
    assert prove("cpu", 2000000, server, run(samples=turbo)) == [
        ("cpu-frequency-not-held", "policy0: 20.0% of the time at 3400000 kHz instead of 2000000")
    ]


def test_a_governor_that_changed_is_flagged() -> None:
    record = run({f"{POLICY0}/scaling_governor": "performance\n"}, {f"{POLICY0}/scaling_governor": "schedutil\n"})
    assert prove("governor", "performance", facts("sm8150"), record) == [
        ("governor-changed", "policy0: governor schedutil after the run instead of performance")
    ]


def test_a_refused_affinity_call_and_isolated_cores_flag_the_hold() -> None:
    record = run(
        {f"{CPU}/cpu5/isolate": "0\n", f"{CPU}/cpu4/core_ctl/min_cpus": "3\n"},
        {f"{CPU}/cpu5/isolate": "1\n", f"{CPU}/cpu4/core_ctl/min_cpus": "2\n"},
        probes=(
            ProbeResult(cpus=(4,), granted=(4,)),
            ProbeResult(cpus=(6,), errno=22),
            ProbeResult(cpus=(7,), granted=tuple(range(8))),
        ),
    )
    assert prove("isolation", "hold", facts("sm8150"), record) == [
        ("core-not-held", "the kernel does not place a task on CPU 6: errno 22"),
        ("core-not-held", "the kernel does not place a task on CPU 7: it granted 0-7"),
        ("core-not-held", "CPU 5 was isolated after the run"),
        ("isolation-changed", "core_ctl of CPUs 4-6: min_cpus went from 3 to 2 during the run"),
    ]


def test_a_hold_that_was_undone_before_the_run_is_flagged() -> None:
    path = f"{CPU}/cpu4/core_ctl/min_cpus"
    assert prove("isolation", "hold", facts("sm8150"), run({path: "2\n"})) == [
        ("isolation-changed", "core_ctl of CPUs 4-6: min_cpus was 2 during the run instead of 3")
    ]
    assert prove("isolation", "hold", facts("sm8150"), run({path: "3\n"})) == []
    off = facts("sm8150", change={f"{CPU}/cpu4/core_ctl/enable": "0\n"})
    assert prove("isolation", "hold", off, run({path: "2\n"})) == []
    fixed = facts("sm8150", read_only=[f"{CPU}/cpu*/core_ctl/m*_cpus"])
    assert prove("isolation", "hold", fixed, run({f"{CPU}/cpu7/core_ctl/enable": "1\n", path: "2\n"})) == [
        ("isolation-changed", "core_ctl of CPUs 7: enable was 1 during the run instead of 0")
    ]


def test_a_wanted_core_that_no_sample_saw_flags_the_run() -> None:
    busy: dict[str, tuple[int | None, ...]] = {str(cpu): (1, 2, 3) for cpu in range(7)}
    assert prove("cores", "all-online", facts("sm8150"), run(samples=Samples(busy=busy))) == [
        ("core-went-offline", "CPU 7 was offline in 3 of 3 samples")
    ]
    assert prove("cores", "0-6", facts("sm8150"), run(samples=Samples(busy=busy))) == []


def test_cores_that_come_and_go_flag_the_run() -> None:
    busy: dict[str, tuple[int | None, ...]] = {str(cpu): (1, 2, 3) for cpu in range(8)}
    busy |= {"5": (1, None, 3)}
    assert prove("cores", "all-online", facts("sm8150"), run(samples=Samples(busy=busy))) == [
        ("core-went-offline", "CPU 5 was offline in 1 of 3 samples")
    ]
    away: dict[str, tuple[int | None, ...]] = {str(cpu): (None, None, None) for cpu in range(4, 8)}
    busy |= {**away, "6": (None, 4, 5)}
    assert prove("cores", "0-3", facts("sm8150"), run(samples=Samples(busy=busy))) == [
        ("core-came-online", "CPU 6 was online in 2 of 3 samples")
    ]


def test_an_adreno_clock_is_judged_by_active_time_a_level_and_by_heat() -> None:
    before: Texts = {f"{KGSL}/gpu_clock_stats": "0 0 0 0 0 \n", f"{KGSL}/thermal_pwrlevel": "0\n"}
    held: Texts = {f"{KGSL}/gpu_clock_stats": "900000 4000 0 0 0 \n"}
    assert prove("gpu", "max", facts("sm8150"), run(before, held)) == []
    hot: Texts = {f"{KGSL}/gpu_clock_stats": "500000 0 500000 0 0 \n", f"{KGSL}/thermal_pwrlevel": "2\n"}
    assert prove("gpu", "max", facts("sm8150"), run(before, hot)) == [
        ("throttled", "GPU: heat allows level 2 (427000000 Hz) at most, instead of 585000000 Hz"),
        ("gpu-frequency-not-held", "GPU: 50.0% of the time at 427000000 Hz instead of 585000000"),
    ]


def test_an_adreno_clock_may_be_a_few_khz_beside_the_table_and_off_at_times() -> None:
    device = facts("sm8150")
    texts = ("584999985",) * 20 + ("0",) * 5
    assert prove("gpu", "max", device, run(samples=sampled(f"{KGSL}/gpuclk", *texts))) == []
    assert [code for code, _ in prove("gpu", "max", device, run())] == ["gpu-frequency-not-proven"]


def test_a_sleeping_mali_is_not_at_a_wrong_clock() -> None:
    device = facts("exynos9825")
    asleep = sampled(f"{MALI}/clock", "0", "377000", "377000")
    assert prove("gpu", "377000", device, run(samples=asleep)) == []
    lowered = sampled(f"{MALI}/clock", "377000", "260000", "0")
    hot: Texts = {f"{COOLING}2/cur_state": "3\n"}
    assert prove("gpu", "377000", device, run({}, hot, samples=lowered)) == [
        ("throttled", "thermal-gpufreq-0: not readable before the run, 3 after it"),
        ("gpu-frequency-not-held", "GPU: 50.0% of the time at 260000 kHz instead of 377000"),
    ]
    counted: Texts = {f"{MALI}/time_in_state": residency({377000: 5, 702000: 0})}
    later: Texts = {f"{MALI}/time_in_state": residency({377000: 500, 702000: 90})}
    (flag,) = prove("gpu", "377000", device, run(counted, later))
    assert flag == ("gpu-frequency-not-held", "GPU: 15.4% of the time at 702000 kHz instead of 377000")


def test_a_memory_bus_is_judged_like_a_clock() -> None:
    device = facts("exynos9825")
    path = "/sys/class/devfreq/17000010.devfreq_mif"
    good = run({f"{path}/max_freq": "421000"}, samples=sampled(f"{path}/cur_freq", "421000", "421000"))
    assert prove("membus", "min", device, good) == []
    bad = run({}, {f"{path}/max_freq": "2093000"}, samples=sampled(f"{path}/cur_freq", "421000", "2093000"))
    assert [code for code, _ in prove("membus", "min", device, bad)] == ["limits-changed", "membus-frequency-not-held"]
    assert [code for code, _ in prove("membus", "min", device, run())] == ["membus-frequency-not-proven"]


def test_limits_that_a_kernel_rounds_to_khz_are_not_taken_for_interference() -> None:
    folder = "/sys/class/devfreq/ffe40000.gpu"
    points = "124999998 666666656 799999987"
    device = facts("empty", change={f"{folder}/available_frequencies": points, f"{folder}/max_freq": "799999987"})
    limits: Texts = {f"{folder}/min_freq": "666666000\n", f"{folder}/max_freq": "666667000\n"}
    clock = sampled(f"{folder}/cur_freq", "666666656")
    assert prove("gpu", "666666656", device, run(limits, samples=clock)) == []
    (found,) = prove("gpu", "666666656", device, run({**limits, f"{folder}/max_freq": "799999987\n"}, samples=clock))
    assert found[0] == "limits-changed"


def test_cooling_devices_and_counters_tell_throttling() -> None:
    phone, server = facts("exynos9825"), facts("server")
    hot = run({f"{COOLING}1/cur_state": "0\n"}, {f"{COOLING}1/cur_state": "4\n"})
    assert prove("thermal", "45", phone, hot) == [("throttled", "thermal-cpufreq-1: 0 before the run, 4 after it")]
    assert prove("thermal", "any", phone, hot) == []
    counter = f"{CPU}/cpu2/thermal_throttle/core_throttle_count"
    assert prove("thermal", 80, server, run({counter: "7\n"}, {counter: "9\n"})) == [
        ("throttled", "thermal: cpu2 core_throttle_count rose from 7 to 9")
    ]
    gates = (GateResult(path="x", waited_ms=1, reached=True),)
    assert prove("thermal", "45", phone, run({f"{COOLING}1/cur_state": "0\n"}, gates=gates)) == []


def test_groups_idle_states_and_screen_that_changed_are_flagged() -> None:
    phone = facts("sm8150", change={"/sys/class/backlight/panel0-backlight/brightness": "120\n"})
    cases: list[tuple[str, Level, str, str, str]] = [
        ("cpuset", "top-app", "/dev/cpuset/top-app/cpus", "0-3", "cpuset-changed"),
        ("uclamp", 50, "/dev/stune/top-app/schedtune.boost", "0", "uclamp-changed"),
        ("idle_states", "off", "/sys/module/lpm_levels/parameters/sleep_disabled", "N", "idle-states-changed"),
        ("screen", "off", "/sys/class/backlight/panel0-backlight/brightness", "80", "screen-changed"),
    ]
    for word, want, path, text, code in cases:
        assert [found for found, _ in prove(word, want, phone, run({}, {path: f"{text}\n"}))] == [code]
        assert prove(word, want, phone, run()) == []
    assert prove("airplane", "on", phone, run()) == []


def test_idle_states_of_a_core_that_came_online_are_not_believed_to_be_off() -> None:
    states: Texts = {f"{CPU}/cpu{cpu}/cpuidle/state1/disable": "0\n" for cpu in range(3)}
    away: Texts = {f"{CPU}/online": "0-2\n", f"{CPU}/cpu3/online": "0\n"}
    device = knobs.assume({"cores": "all-online"}, facts("server", change={**states, **away}))
    held: Texts = dict.fromkeys(states, "1\n")
    on = Samples(busy={str(cpu): (1, 2) for cpu in range(4)})
    assert prove("idle_states", "off", device, run(held, samples=on)) == [
        (
            "idle-states-not-proven",
            "idle_states: nothing was known of the idle states of CPUs 3, so they were left as they are",
        )
    ]
    assert prove("idle_states", "off", device, run(held, samples=Samples(busy={"0": (1, 2)}))) == []


def test_a_daemon_that_would_not_stop_is_flagged() -> None:
    device = facts("sm8150", props={"init.svc.thermal-engine": "running"})
    record = run(steps=(StepResult(do=("stop", "thermal-engine"), held=False, exit_code=1),))
    assert prove("daemons", "stop", device, record) == [("daemon-not-stopped", "stop thermal-engine: exit code 1")]
    assert prove("daemons", "keep", device, record) == []


def test_no_proof_is_asked_of_what_the_device_does_not_have() -> None:
    empty = facts("empty")
    levels: dict[str, Level] = dict.fromkeys(knobs.words(), "off") | {"cpuset": "top-app", "uclamp": 50, "thermal": 45}
    levels |= {"cores": "all-online", "isolation": "hold", "daemons": "stop", "cpu": "min", "gpu": "min"}
    for word, want in levels.items():
        assert knobs.prove(word, want, empty, run()) == ()


def test_a_baseline_gates_every_zone_and_samples_it() -> None:
    thermal = Thermal(max_c=40, min_c=25, flat_within_c=0.5, window_s=8, timeout_s=120)
    found = knobs.baseline(thermal, facts("exynos9825"))
    assert knobs.gates(thermal, facts("exynos9825")) == found.gates
    gate = found.gates[0]
    assert (gate.max_value, gate.min_value, gate.flat_within) == (40_000, 25_000, 500)
    assert (gate.window_ms, gate.timeout_ms) == (8_000, 120_000)
    assert gate.why == "zone BIG at most 40 °C, at least 25 °C, flat within 0.5 °C (47.0 °C now)"
    assert found.sample == tuple(gate.path for gate in found.gates)
    assert f"{COOLING}0/cur_state" in found.around


def test_the_exynos_limits_are_evidence_and_never_written() -> None:
    setting = knobs.setting("cpu", "min", facts("exynos9825"))
    assert "/sys/power/cpufreq_max_limit" in setting.around
    assert not any(step.kind == "write" and step.path.startswith("/sys/power") for step in setting.steps)


def test_flags_of_one_setting_are_said_once() -> None:
    record = run()
    flags = knobs.prove("cpu", "4:max", facts("sm8150"), record)
    assert len(flags) == len(set(flags)) == 1
    assert isinstance(flags[0], Flag)


TURBO = {(cpu,): "2801000 2800000 2700000 2000000 1200000" for cpu in range(2)}


def acpi() -> Facts:
    texts = cpus(TURBO, "performance schedutil")
    texts |= {path: "acpi-cpufreq\n" for path in texts if path.endswith("/scaling_driver")}
    return facts("empty", change=texts)


def at(khz: int, *samples: int, reset: bool = False) -> RunRecord:
    """Ten seconds in which the counters grow at one clock while the samples show others."""
    grown = 100 if reset else 1500
    return run(
        {f"{POLICY0}/stats/time_in_state": residency({khz: 500, 1200000: 90})},
        {f"{POLICY0}/stats/time_in_state": residency({khz: grown, 1200000: 90})},
        samples=Samples(
            t_ns=tuple(range(len(samples))),
            nodes={f"{POLICY0}/scaling_cur_freq": tuple(map(str, samples))},
            busy={"0": (1, 2)},
        ),
        window_start_ns=0,
        window_end_ns=10**10,
    )


def test_max_is_the_highest_clock_that_is_one() -> None:
    """ACPI lists turbo as the highest clock plus 1 MHz: no clock anything can be pinned to."""
    steps = cpufreq.plan("cpu", "max", acpi()).steps
    assert {step.value for step in steps if step.kind == "write"} == {"2800000"}
    assert prove("cpu", "max", acpi(), at(2800000, 2790112, 1200000, 2800000)) == []


def test_a_turbo_entry_proves_nothing_whoever_asks_for_it() -> None:
    record = at(2801000, 3391022, 3105530, 2790112, 3290001)
    codes = [code for code, _ in prove("cpu", 2801000, acpi(), record)]
    assert codes == ["cpu-frequency-not-proven"]
    assert "cpu-frequency-not-held" in [code for code, _ in prove("cpu", "max", acpi(), record)]


def test_a_measured_clock_above_the_one_that_is_counted_is_not_believed() -> None:
    """Boost of a processor whose table has no turbo entry: it counts at its label and runs faster."""
    texts = cpus({(0,): "3600000 2800000 2200000"}, "performance")
    ((code, detail),) = prove("cpu", "max", facts("empty", change=texts), at(3600000, 4100000, 3600000))
    assert code == "cpu-frequency-not-held"
    assert "50.0% of the time at 4100000 kHz instead of 3600000" in detail


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({2801000: 0, 1200000: 9000}, {2801000: 300, 1200000: 500}),
        ({2700000: 10, 1200000: 9000}, {2700000: 1010}),
        ({2700000: 10, 1200000: 0}, {2700000: 110, 1200000: 0}),
    ],
)
def test_counters_that_were_reset_in_the_run_prove_nothing(before: dict[int, int], after: dict[int, int]) -> None:
    """One fell, one went away, or they leave out most of the window: samples decide, and without them nobody knows."""
    target = max(before)
    nodes = {f"{POLICY0}/stats/time_in_state": residency(before)}, {f"{POLICY0}/stats/time_in_state": residency(after)}
    table = " ".join(map(str, sorted({target, 2400000, 1200000}, reverse=True)))
    device = facts("empty", change=cpus({(0,): table}, "performance"))
    window = {"window_start_ns": 0, "window_end_ns": 10**10}
    half = Samples(t_ns=(0, 1), nodes={f"{POLICY0}/scaling_cur_freq": (str(target), "1200000")}, busy={"0": (1, 2)})
    ((code, detail),) = prove("cpu", target, device, run(*nodes, samples=half, **window))
    assert code == "cpu-frequency-not-held"
    assert "50.0% of the time at 1200000 kHz" in detail
    ((code, _),) = prove("cpu", target, device, run(*nodes, **window))
    assert code == "cpu-frequency-not-proven"


@pytest.mark.parametrize(
    ("governor", "speed", "codes"),
    [
        ("userspace", "1612800", []),
        ("schedutil", "<unsupported>", ["limits-changed"]),
        ("userspace", "710400", ["limits-changed"]),
    ],
)
def test_a_clock_set_by_userspace_is_proved_by_that_governor_and_its_clock(
    governor: str, speed: str, codes: list[str]
) -> None:
    change: Texts = {f"{POLICY4}/scaling_available_governors": "userspace\n", f"{POLICY4}/scaling_setspeed": "x\n"}
    around: Texts = {
        f"{POLICY4}/scaling_governor": f"{governor}\n",
        f"{POLICY4}/scaling_setspeed": f"{speed}\n",
        f"{POLICY4}/scaling_max_freq": "2419200\n",
    }
    record = run(around, samples=sampled(f"{POLICY4}/scaling_cur_freq", *["1612800"] * 20))
    flags = prove("cpu", "4:setspeed:1612800", facts("sm8150", change=change), record)
    assert [code for code, _ in flags] == codes
