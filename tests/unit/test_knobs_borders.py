"""Bounds of levels and of proofs: at them, just below and just above."""

import pytest
from board_trees import CPU, facts
from hypothesis import given
from hypothesis import strategies as st
from knob_runs import Texts, codes, run

from devicelab import knobs
from devicelab.errors import ConfigError
from devicelab.knobs import (
    _levels,
    _proof,
    cpufreq,
    gpu_devfreq,
    gpu_kgsl,
    thermal,
)
from devicelab.knobs._clusters import show
from devicelab.model.experiment import Level, Thermal
from devicelab.model.tree import cpu_list

POLICY0 = f"{CPU}/cpufreq/policy0"


# --- proofs --------------------------------------------------------------------------------------------------------

TICKS = st.dictionaries(st.integers(1, 9), st.integers(0, 1000), min_size=1)


@given(TICKS, st.integers(1, 9))
def test_what_was_off_the_target_and_what_was_on_it_are_the_whole_time(seen: dict[int, int], target: int) -> None:
    if not sum(seen.values()):
        return
    off = _proof.off_target(seen, target)
    on = 100 * seen.get(target, 0) / sum(seen.values())
    assert sum(off.values()) + on == pytest.approx(100)
    assert target not in off
    assert all(share > 0 for share in off.values())
    flag = _proof.held("x", "here", seen, target, "kHz")
    assert (flag is None) == (sum(off.values()) <= 1.0)


@pytest.mark.parametrize(("off", "held"), [(9, True), (10, True), (11, False)])
def test_one_percent_elsewhere_is_a_transition_and_more_is_not(off: int, held: bool) -> None:
    assert (_proof.held("cpu", "policy0", {1000: 1000 - off, 900: off}, 1000, "kHz") is None) is held


def test_a_flag_adds_up_the_rest_behind_the_worst() -> None:
    flag = _proof.held("cpu", "policy0", {1: 50, 2: 30, 3: 10, 4: 10}, 1, "kHz")
    assert flag is not None
    assert flag.detail == "policy0: 30.0% of the time at 2 kHz and 20.0% at 2 others instead of 1"


@pytest.mark.parametrize(("point", "counts"), [(94, True), (95, False), (100, False), (105, False), (106, True)])
def test_slack_reaches_as_far_on_both_sides_and_no_further(point: int, counts: bool) -> None:
    assert bool(_proof.off_target({point: 1}, 100, slack=0.05)) is counts
    assert (_proof.above({point: 1}, 100, slack=0.05) == {point: 1}) is ((counts and point > 100) or point == 100)


def test_samples_below_the_target_are_counted_as_the_target() -> None:
    assert _proof.above({50: 3, 100: 4, 105: 1, 106: 2}, 100, slack=0.05) == {100: 8, 106: 2}


def spent(before: str, after: str, *, window_ns: int = 10**9, tick_ns: int | None = 10_000_000) -> dict[int, int]:
    record = run({"t": before}, {"t": after}, window_start_ns=5, window_end_ns=5 + window_ns)
    return _proof.spent(record, "t", tick_ns=tick_ns)


def test_counters_tell_the_time_between_the_readings() -> None:
    assert spent("1 10\n2 5\n", "1 90\n2 5\n3 20\n") == {1: 80, 3: 20}
    assert spent("1 10\n2 5\n", "1 90\n2 4\n") == {}, "one fell"
    assert spent("1 10\n2 5\n", "1 90\n") == {}, "one went away"
    assert spent("1 10\n2 0\n", "1 90\n") == {}, "one went away that had counted nothing"


@pytest.mark.parametrize(("ticks", "told"), [(49, False), (50, True), (51, True)])
def test_counters_that_leave_out_more_than_half_of_the_window_tell_nothing(ticks: int, told: bool) -> None:
    assert spent("1 10\n", f"1 {10 + ticks}\n") == ({1: ticks} if told else {})
    assert spent("1 10\n", f"1 {10 + ticks}\n", tick_ns=None) == {1: ticks}


@pytest.mark.parametrize(
    ("unit", "now", "moved"),
    [
        *(("kHz", now, now != 5_000_000) for now in (4_999_999, 5_000_000, 5_000_001)),
        *(("Hz", now, abs(now - 5_000_000) > 999) for now in (4_999_000, 4_999_001, 5_000_999, 5_001_000)),
    ],
)
def test_a_limit_moved_if_it_is_off_by_more_than_rounding(unit: str, now: int, moved: bool) -> None:
    for before, after in (({"max": f"{now} x"}, {}), ({}, {"min": f"{now}\n"})):
        flag = _proof.limits_moved("here", run({**before}, {**after}), "min", "max", 5_000_000, unit, None)
        assert (flag is not None) is moved


# --- CPU clocks ----------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(1, 60), min_size=1), st.integers(0, 70))
def test_the_nearest_entry_is_the_nearest(points: set[int], asked: int) -> None:
    got = _levels.pick("cpu", f"nearest:{asked}", sorted(points), where="policy0", unit="kHz")
    assert got in points
    assert abs(got - asked) == min(abs(point - asked) for point in points)
    assert _levels.pick("cpu", "max", [*points], where="p", unit="kHz") == max(points)
    assert _levels.pick("cpu", "min", [*points], where="p", unit="kHz") == min(points)
    if asked not in points:
        with pytest.raises(ConfigError) as told:
            _levels.pick("cpu", asked, sorted(points), where="policy0", unit="kHz")
        near = [
            max((p for p in points if p < asked), default=None),
            min((p for p in points if p > asked), default=None),
        ]
        said = " and ".join(str(point) for point in near if point is not None)
        assert str(told.value.hint).startswith(f"nearest: {said} kHz")


@pytest.mark.parametrize(
    ("want", "unit", "point"),
    [
        ("585MHz", "Hz", 585_000_000),
        ("585 mhz", "kHz", 585_000),
        ("0.585GHz", "MHz", 585),
        (585, "Hz", 585_000_000),
        (585_000, "Hz", 585_000_000),
        (585_000_000, "Hz", 585_000_000),
        (585, "kHz", 585_000),
        ("585000khz", "MB/s", 585),
    ],
)
def test_a_clock_with_and_without_its_unit_is_the_same_entry(want: Level, unit: str, point: int) -> None:
    assert _levels.pick("gpu", want, (point, point * 2), where="the GPU", unit=unit) == point


def test_honest_min_passes_over_clocks_that_are_not_what_they_say() -> None:
    def honest(*dishonest: int) -> int:
        return _levels.pick("cpu", "honest-min", (3, 1, 2), where="p", unit="kHz", dishonest=dishonest)

    assert [honest(), honest(1), honest(1, 2), honest(1, 2, 3)] == [1, 2, 3, 1]


@pytest.mark.parametrize(("step", "turbo"), [(999, False), (1000, True), (1001, False)])
def test_the_turbo_entry_is_a_mhz_above_the_highest_clock(step: int, turbo: bool) -> None:
    top = 2_000_000 + step
    table: Texts = {f"{POLICY0}/scaling_available_frequencies": f"1000000 2000000 {top}\n"}
    policy = cpufreq.policies(facts("sm8150", change=table))[0]
    assert (policy.turbo == top) is turbo
    assert cpufreq.target_khz("max", policy) == (2_000_000 if turbo else top)
    assert cpufreq.target_khz(top, policy) == top


def test_a_driver_without_table_takes_any_clock_between_its_ends() -> None:
    policy = cpufreq.policies(facts("server"))[0]
    assert not policy.table
    low, high = policy.lowest, policy.highest
    assert low is not None
    assert high is not None
    for khz in (low, low + 1, high - 1, high):
        assert cpufreq.target_khz(khz, policy) == khz
        assert cpufreq.target_khz(f"nearest:{khz}", policy) == khz
    for khz in (low - 1, high + 1):
        with pytest.raises(ConfigError):
            cpufreq.target_khz(khz, policy)


def test_what_is_counted_but_no_limit_reaches_is_no_entry() -> None:
    gone: Texts = {
        f"{POLICY0}/scaling_available_frequencies": None,
        f"{POLICY0}/stats/time_in_state": "299999 5\n300000 5\n1000000 5\n1785600 5\n1785601 5\n",
    }
    assert cpufreq.policies(facts("sm8150", change=gone))[0].table == (300_000, 1_000_000, 1_785_600)


@given(st.sets(st.integers(0, 40)))
def test_cpus_are_shown_as_the_kernel_reads_them(cpus: set[int]) -> None:
    text = show(tuple(sorted(cpus)))
    assert set(cpu_list(text)) == cpus
    assert len(text.split(",")) == (sum(cpu - 1 not in cpus for cpu in cpus) or 1)


# --- GPUs ----------------------------------------------------------------------------------------------------------

DEVFREQ = "/sys/class/devfreq"


@pytest.mark.parametrize(
    ("top", "name", "unit"),
    [
        (50_000_000, "a.gpu", "Hz"),
        (49_999_999, "a.gpu", "kHz"),
        (50_000, "a.gpu", "kHz"),
        (49_999, "a.gpu", "MHz"),
        (49_999, "soc:cpubw", "MB/s"),
    ],
)
def test_the_size_of_a_clock_tells_its_unit(top: int, name: str, unit: str) -> None:
    folder = f"{DEVFREQ}/{name}"
    nodes: Texts = {f"{folder}/max_freq": f"{top}\n", f"{folder}/min_freq": "1\n"}
    device = facts("empty", change={**nodes, f"{folder}/available_frequencies": f"0 1 {top}\n"})
    word = "membus" if name.endswith("bw") else "gpu"
    (found,) = gpu_devfreq._devices(word, device)
    assert (found.unit, found.table) == (unit, (1, top))
    assert knobs.setting(word, "min", device).steps[-1].value == "1"  # type: ignore[union-attr]


def adreno(limit: int) -> list[str]:
    device = facts("sm8150")
    count = len(gpu_kgsl.table_hz(device))
    stats = f"{gpu_kgsl._KGSL}/gpu_clock_stats"
    zero, at_max = " ".join(["0"] * count), " ".join(["9", *["0"] * (count - 1)])
    heat = {f"{gpu_kgsl._KGSL}/thermal_pwrlevel": str(limit)}
    return codes("gpu", "max", device, run({stats: zero}, {stats: at_max, **heat}))


def test_heat_limits_an_adreno_at_every_level_below_the_target() -> None:
    count = len(gpu_kgsl.table_hz(facts("sm8150")))
    assert [adreno(limit) for limit in (0, 1, count - 1, count)] == [[], ["throttled"], ["throttled"], []]


# --- heat ----------------------------------------------------------------------------------------------------------


def test_temperatures_are_awaited_in_the_units_of_the_zone_and_times_in_ms() -> None:
    asked = Thermal(max_c=40.5, min_c=25.0, flat_within_c=0.5, window_s=8.5, timeout_s=120.25)
    for text, per_degree in (("42000\n", 1000), ("420\n", 10), ("42\n", 1)):
        zone: Texts = {f"/sys/class/thermal/thermal_zone0/{n}": t for n, t in (("type", "cpu-0-0"), ("temp", text))}
        (gate,) = knobs.gates(asked, facts("empty", change=zone))
        assert (gate.max_value, gate.min_value, gate.flat_within) == (
            round(40.5 * per_degree),
            25 * per_degree,
            round(0.5 * per_degree),
        )
        assert (gate.window_ms, gate.timeout_ms) == (8_500, 120_250)


@pytest.mark.parametrize(
    ("level", "low", "high"),
    [("45", 1, 45_000), ("30-45", 30_000, 45_000), ("45-45 C", 45_000, 45_000), (1000, 1, 1_000_000)],
)
def test_a_level_of_heat_is_a_most_or_a_band(level: Level, low: int, high: int) -> None:
    zone: Texts = {f"/sys/class/thermal/thermal_zone0/{n}": t for n, t in (("type", "cpu-0-0"), ("temp", "42000\n"))}
    (gate,) = thermal.plan("thermal", level, facts("empty", change=zone)).gates
    assert (gate.min_value, gate.max_value) == (low, high)


@pytest.mark.parametrize("level", ["46-45", 1001, "cold", "-5", "30-"])
def test_a_level_of_heat_that_is_none_is_refused(level: Level) -> None:
    with pytest.raises(ConfigError):
        thermal.plan("thermal", level, facts("empty"))


@pytest.mark.parametrize(
    ("before", "after", "hot"), [("7", "7", False), ("7", "8", True), ("8", "7", False), ("7", None, False)]
)
def test_a_throttling_counter_counts_what_it_rose(before: str, after: str | None, hot: bool) -> None:
    counter = f"{CPU}/cpu2/thermal_throttle/core_throttle_count"
    got = codes("thermal", 80, facts("server"), run({counter: before}, {counter: after}))
    assert got == (["throttled"] if hot else [])


@pytest.mark.parametrize(("state", "hot"), [("0", False), ("1", True)])
def test_a_cooling_device_at_work_before_or_after_is_throttling(state: str, hot: bool) -> None:
    device = facts("exynos9825")
    path = next(path for path in device.tree if path.endswith("cooling_device1/cur_state"))
    for record in (run({path: state}, {path: "0"}), run({path: "0"}, {path: state})):
        assert bool(codes("thermal", "45", device, record)) is hot
