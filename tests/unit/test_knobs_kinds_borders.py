"""Bounds of chargers, boosts, sleeping GPUs and names: at them, just below and just above."""

import pytest
from board_trees import CPU, facts
from knob_runs import Texts, codes, run

from devicelab import knobs
from devicelab.errors import ConfigError
from devicelab.knobs import (
    _domains,
    base,
    charging,
    lock,
    performance_mode,
)
from devicelab.model.experiment import Level
from devicelab.model.journal import Samples

POLICY0 = f"{CPU}/cpufreq/policy0"
DEVFREQ = "/sys/class/devfreq"


# --- the rest ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "floor"), [("off", 30), ("off:10", 10), ("off:99", 99), (False, 30), ("on", None), (True, None)]
)
def test_a_charger_is_kept_away_down_to_a_floor(level: Level, floor: int | None) -> None:
    assert charging._floor("charging", level) == floor


@pytest.mark.parametrize("level", ["off:9", "off:100", "off:", "low"])
def test_a_floor_of_charge_that_risks_the_night_is_refused(level: str) -> None:
    with pytest.raises(ConfigError):
        charging._floor("charging", level)


SUPPLY = "/sys/class/power_supply"


@pytest.mark.parametrize(("charge", "suspends"), [(39, False), (40, True), (41, True)])
def test_a_battery_at_its_floor_may_be_used_and_below_it_not(charge: int, suspends: bool) -> None:
    nodes: Texts = {f"{SUPPLY}/battery/input_suspend": "0\n", f"{SUPPLY}/battery/capacity": f"{charge}\n"}
    setting = knobs.setting("charging", "off:40", facts("sm8150", change=nodes))
    assert bool(setting.steps) is suspends
    assert bool(setting.unmet) is not suspends
    for step in setting.steps:
        assert step.kind == "write"
        assert (step.value, step.floor and step.floor.min_value) == ("1", 40)


@pytest.mark.parametrize(
    ("percent", "text"),
    [(0, "0.00"), (1, "1.00"), (99, "99.00"), (100, "max"), ("50%", "50.00"), (101, None), (-1, None)],
)
def test_a_boost_is_a_percentage(percent: Level, text: str | None) -> None:
    nodes: Texts = {"/dev/cpuctl/top-app/cpu.uclamp.min": "0.00\n", "/dev/cpuctl/top-app/cgroup.procs": ""}
    device = facts("empty", change=nodes)
    if text is None:
        with pytest.raises(ConfigError):
            knobs.setting("uclamp", percent, device)
        return
    (step,) = knobs.setting("uclamp", percent, device).steps
    assert step.kind == "write"
    assert step.expect == text


@pytest.mark.parametrize(("sdk", "there"), [("29", False), ("30", True), ("31", True), ("", False), ("x", False)])
def test_android_eleven_and_later_have_the_commands_of_android_eleven(sdk: str, there: bool) -> None:
    props = {"ro.build.version.sdk": sdk, "settings.global.airplane_mode_on": "0"}
    device = facts("sm8150", props=props)
    assert performance_mode.applies(device) is there
    (first, *_) = knobs.setting("airplane", "on", device).steps
    assert first.kind == "command"
    assert (first.do[:2] == ("cmd", "connectivity")) is there


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ((100_000,) * 4, (97_000,) * 4, []),
        ((100_000,) * 4, (96_999,) * 4, ["clock-not-sustained"]),
        ((100_000,) * 4, (1, 1, 1, 97_000), []),
        ((1, 1, 1, 100_000), (96_999,) * 4, ["clock-not-sustained"]),
        ((100_000,) * 4, (96_999,) * 3, ["clock-not-proven"]),
        ((100_000,) * 4, (200_000,) * 5, []),
    ],
)
def test_a_clock_lasts_if_its_second_half_is_within_three_percent(
    first: tuple[int, ...], second: tuple[int, ...], found: list[str]
) -> None:
    device = facts("sm8150", props={"ro.build.version.sdk": "30"})
    texts = tuple(map(str, (*first, *second)))
    samples = Samples(nodes={f"{POLICY0}/scaling_cur_freq": texts, "/sys/other": ("5",) * 20})
    assert [
        flag.code for flag in performance_mode.prove("performance_mode", "fixed", device, run(samples=samples))
    ] == found


@pytest.mark.parametrize(
    ("level", "before", "after", "status", "flagged"),
    [
        ("off", "1", "1", "done", False),
        ("off", "0", "1", "done", True),
        ("off", "1", "0", "done", True),
        ("off", "", "1", "done", False),
        ("off", "0", "0", "failed", False),
        ("on", "0", "0", "done", False),
    ],
)
def test_a_charger_that_came_back_is_told(level: str, before: str, after: str, status: str, flagged: bool) -> None:
    node = f"{SUPPLY}/battery/input_suspend"
    device = facts("sm8150", change={node: "0\n", f"{SUPPLY}/battery/capacity": "80\n"})
    record = run({node: before}, {node: after}, status=status)
    assert codes("charging", level, device, record) == (["charger-returned"] if flagged else [])
    assert codes("charging", level, facts("sm8150"), record) == []


@pytest.mark.parametrize(("level", "flagged"), [("off", True), ("on", False)])
def test_only_who_wants_idle_states_off_needs_to_know_all_of_them(level: str, flagged: bool) -> None:
    states: Texts = {f"{CPU}/cpu{cpu}/cpuidle/state1/disable": "0\n" for cpu in range(3)}
    device = facts("server", change=states)
    text = "1" if level == "off" else "0"
    record = run(dict.fromkeys(states, text), samples=Samples(busy={str(cpu): (1, 2) for cpu in range(4)}))
    assert bool(codes("idle_states", level, device, record)) is flagged
    assert bool(knobs.setting("idle_states", level, device).unmet) is flagged


@pytest.mark.parametrize("level", ["a;b", "", "thermal engine;", "a b$"])
def test_a_service_has_a_name_like_one(level: str) -> None:
    device = facts("sm8150", props={"init.svc.a": "running", "init.svc.b": "stopped"})
    with pytest.raises(ConfigError, match="makes no sense"):
        knobs.setting("daemons", level, device)
    stops = [step.do for step in knobs.setting("daemons", "a,b", device).steps if step.kind == "command"]
    assert stops == [("stop", "a")], "what does not run is not started at the end"


def test_a_governors_own_settings_are_kept_under_their_names() -> None:
    own = f"{POLICY0}/schedutil"
    nodes: Texts = {f"{own}/up_rate_limit_us": "500\n", f"{own}/odd": "1\n2\n", f"{CPU}/cpufreq/schedutil/all": "7\n"}
    steps = knobs.setting("governor", "performance", facts("sm8150", change=nodes)).steps
    kept = [step for step in steps if step.kind == "write" and "schedutil" in step.path]
    assert [(step.path, step.value, step.required) for step in kept] == [
        (f"{own}/up_rate_limit_us", "500", False),
        (f"{CPU}/cpufreq/schedutil/all", "7", False),
    ]
    assert [step.why for step in kept] == [
        "policy0: up_rate_limit_us of schedutil as it is, to come back with it",
        "every policy: all of schedutil as it is, to come back with it",
    ]
    assert steps.index(kept[-1]) < min(n for n, step in enumerate(steps) if step not in kept)


@pytest.mark.parametrize(("clock", "code"), [("1", []), ("0", ["gpu-frequency-not-proven"])])
def test_a_clock_of_nought_is_a_sleeping_gpu(clock: str, code: list[str]) -> None:
    folder = f"{DEVFREQ}/a.gpu"
    nodes: Texts = {f"{folder}/{name}": "1\n" for name in ("max_freq", "min_freq", "available_frequencies", "cur_freq")}
    device = facts("empty", change=nodes)
    record = run(samples=Samples(nodes={f"{folder}/cur_freq": (clock, clock)}))
    assert codes("gpu", "max", device, record) == code


def test_a_clock_that_sank_names_its_policy_and_both_halves() -> None:
    device = facts("sm8150", props={"ro.build.version.sdk": "30"})
    for path, name in ((f"{POLICY0}/scaling_cur_freq", "policy0"), (f"{CPU}/cpu3/cpufreq/scaling_cur_freq", "cpu3")):
        samples = Samples(nodes={path: ("1000",) * 4 + ("900",) * 4})
        (flag,) = performance_mode.prove("performance_mode", "fixed", device, run(samples=samples))
        assert flag.detail == f"{name}: up to 1000 kHz in the first half of the run, 900 kHz in the second"


def test_folders_of_one_policy_are_one_domain_led_by_the_first() -> None:
    nodes: Texts = {f"{CPU}/present": "0-3\n", f"{CPU}/online": "0-3\n"}
    nodes |= {f"{CPU}/cpufreq/policy0/related_cpus": "0 1\n", f"{CPU}/cpufreq/policy1/related_cpus": "0 1 2 3\n"}
    (domain,) = _domains.domains(facts("empty", change=nodes))
    assert (domain.name, domain.cpus) == ("policy0", (0, 1, 2, 3))
    # Of folders of single CPUs that of an online one that tells most.
    old: Texts = {f"{CPU}/present": "0-3\n", f"{CPU}/online": "1-3\n"}
    old |= {f"{CPU}/cpu{cpu}/cpufreq/related_cpus": cpus for cpu, cpus in enumerate(("0 1 2 3", "1", "0 1 2 3", "2 3"))}
    (domain,) = _domains.domains(facts("empty", change=old))
    assert (domain.name, domain.cpus) == ("cpu2", (0, 1, 2, 3))


def test_a_limit_that_heat_moved_is_told_from_interference_on_a_gpu() -> None:
    folder, cooler = f"{DEVFREQ}/a.gpu", "/sys/class/thermal/cooling_device0"
    nodes: Texts = {f"{folder}/min_freq": "100\n", f"{folder}/max_freq": "200\n", f"{folder}/cur_freq": "200\n"}
    nodes |= {
        f"{folder}/available_frequencies": "100 200\n",
        f"{cooler}/type": "gpu-cool\n",
        f"{cooler}/cur_state": "0\n",
    }
    device = facts("empty", change=nodes)
    samples = Samples(nodes={f"{folder}/cur_freq": ("200", "200")})
    cold = run({f"{folder}/max_freq": "100"}, samples=samples)
    hot = run({f"{folder}/max_freq": "100", f"{cooler}/cur_state": "2"}, samples=samples)
    assert [codes("gpu", "max", device, one) for one in (cold, hot)] == [["limits-changed"], ["throttled"]]


def test_a_manager_that_rests_already_keeps_no_other_one_awake() -> None:
    nodes: Texts = {"/proc/ppm/enabled": "ppm is disabled\n", "/sys/kernel/fpsgo/common/fpsgo_enable": "1\n"}
    (step,) = knobs.setting("perf_manager", "off", facts("empty", change=nodes)).steps
    assert step.kind == "write"
    assert (step.path, step.value) == ("/sys/kernel/fpsgo/common/fpsgo_enable", "0")


def test_a_device_without_cpus_has_nothing_to_lock() -> None:
    assert lock.plan("lock", "on", facts("empty", change={f"{CPU}/present": "0-3\n"})).unmet == ()
    nothing = facts("empty").model_copy(update={"nodes": ()})
    assert bool(lock.plan("lock", "on", nothing).unmet) is not bool(nothing.cpus_present)


@pytest.mark.parametrize(
    ("glob", "sound"),
    [("/sys/a/*", True), ("sys/a", False), ("/sys/**", False), ("/sys/../etc", False), ("/a\n", False)],
)
def test_a_pattern_of_nodes_stays_where_it_says(glob: str, sound: bool) -> None:
    plugin = type("Plugin", (), {"WORDS": ("w",), "GLOBS": (glob,), "PHASE": base.Phase.REST})
    assert (not base.oddities(plugin)) is sound  # type: ignore[arg-type]
