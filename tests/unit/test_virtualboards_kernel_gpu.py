"""GPU drivers and buses of virtual boards: what their nodes take, clamp, ignore and show."""

import pytest
from sim_kernel_board import Bench

from virtualboards.kernel.faults import inject

KGSL = "/sys/class/kgsl/kgsl-3d0"
MALI = "/sys/devices/platform/18500000.mali"
TENSOR = "/sys/devices/platform/1f000000.mali"


def infer(bench: Bench) -> dict[str, str]:
    """What an emulated GPU program reads before an inference; from then on the GPU is busy for a moment."""
    lines = bench.r("/sys/devicelab/emulation").splitlines()
    return dict(line.split(" ", 1) for line in lines)


def test_power_levels_are_clamped_and_never_refused() -> None:
    bench = Bench("qualcomm")
    assert bench.r(f"{KGSL}/gpu_available_frequencies") == "585000000 499200000 427000000 345000000 257000000 "
    assert bench.r(f"{KGSL}/num_pwrlevels") == "5"
    assert bench.w(f"{KGSL}/min_pwrlevel", 99) == "ok"
    assert bench.r(f"{KGSL}/min_pwrlevel") == "4"
    assert bench.w(f"{KGSL}/min_pwrlevel", 2) == "ok"
    assert bench.w(f"{KGSL}/max_pwrlevel", 3) == "ok"
    assert bench.r(f"{KGSL}/max_pwrlevel") == "2"
    assert bench.w(f"{KGSL}/min_pwrlevel", 1) == "ok"
    assert bench.r(f"{KGSL}/min_pwrlevel") == "2"
    assert bench.w(f"{KGSL}/max_pwrlevel", "fast") == "EINVAL"
    assert bench.r(f"{KGSL}/devfreq/cur_freq") == "427000000"
    assert bench.r(f"{KGSL}/devfreq/max_freq") == "585000000"  # devfreq's limits are apart from the levels'


def test_an_adreno_pinned_by_its_levels_runs_at_that_clock() -> None:
    bench = Bench("qualcomm")
    for _ in range(2):
        bench.w(f"{KGSL}/max_pwrlevel", 3)
        bench.w(f"{KGSL}/min_pwrlevel", 3)
    truth = bench.spec.truth
    assert infer(bench)["gpu_time_pct"] == str(round(truth.gpu_time_pct(345000000)))
    assert bench.r(f"{KGSL}/gpuclk") == "345000000"
    before = bench.r(f"{KGSL}/gpu_clock_stats").split()
    infer(bench)
    bench.wait(0.05)
    after = bench.r(f"{KGSL}/gpu_clock_stats").split()
    assert [int(b) - int(a) for a, b in zip(before, after, strict=True)] == [0, 0, 0, 50000, 0]


def test_an_idle_adreno_sleeps_and_its_busy_figures_go_to_zero_after_a_look() -> None:
    bench = Bench("qualcomm")
    for _ in range(12):
        infer(bench)
        bench.wait(0.1)
    assert bench.r(f"{KGSL}/gpu_busy_percentage") == "100 %"
    bench.wait(1)
    assert bench.r(f"{KGSL}/gpuclk") == "0"
    assert bench.r(f"{KGSL}/gpubusy").split() != ["0", "0"]
    assert bench.r(f"{KGSL}/gpubusy").split() == ["0", "0"]
    bench.w(f"{KGSL}/idle_timer", 10000)
    infer(bench)
    bench.wait(5)
    assert bench.r(f"{KGSL}/gpuclk") == "257000000"


def test_a_gpu_clock_near_a_level_is_taken_and_any_other_ignored() -> None:
    bench = Bench("qualcomm")
    infer(bench)
    assert bench.w(f"{KGSL}/gpuclk", 430000000) == "ok"
    assert bench.r(f"{KGSL}/gpuclk") == "427000000"
    assert bench.w(f"{KGSL}/gpuclk", 400000000) == "ok"
    assert bench.r(f"{KGSL}/gpuclk") == "427000000"


def test_a_maximum_between_two_levels_alternates_between_them() -> None:
    bench = Bench("qualcomm")
    assert bench.w(f"{KGSL}/max_gpuclk", 463100000) == "ok"
    assert int(bench.r(f"{KGSL}/max_gpuclk")) == pytest.approx(463100000, rel=0.01)
    seen = set()
    for _ in range(40):
        infer(bench)
        bench.wait(0.01)
        seen.add(bench.r(f"{KGSL}/gpuclk"))
    assert seen == {"499200000", "427000000"}
    bench.w(f"{KGSL}/max_gpuclk", 585000000)
    infer(bench)
    assert bench.r(f"{KGSL}/gpuclk") == "585000000"


def test_heat_shows_in_the_thermal_level_and_in_max_gpuclk() -> None:
    bench = Bench("qualcomm")
    inject(bench.kernel, "thermal", celsius=99, seconds=60, where="gpuss-max-step")
    bench.wait(1)
    level = int(bench.r(f"{KGSL}/thermal_pwrlevel"))
    assert level > 0
    assert bench.r(f"{KGSL}/max_gpuclk") == bench.r(f"{KGSL}/gpu_available_frequencies").split()[level]
    assert bench.r(f"{KGSL}/max_pwrlevel") == "0"


def test_a_board_with_kgsl_has_links_for_the_other_name_of_its_gpu() -> None:
    bench = Bench("qualcomm")
    assert bench.r("/sys/kernel/gpu/gpu_model") == "Adreno640v2"
    assert bench.r("/sys/class/devfreq/2c00000.qcom,kgsl-3d0/governor") == "msm-adreno-tz"
    assert bench.w("/sys/kernel/gpu/gpu_min_clock", 345) == "ok"
    assert bench.r(f"{KGSL}/min_pwrlevel") == "3"


def test_an_exynos_clock_fixes_everything_and_zero_puts_it_back() -> None:
    bench = Bench("note10")
    assert bench.r(f"{MALI}/clock") == "0"
    assert bench.w(f"{MALI}/clock", 377000) == "ok"
    assert (bench.r(f"{MALI}/clock"), bench.r(f"{MALI}/tmu"), bench.r(f"{MALI}/dvfs")) == ("377000", "0", "0")
    assert "[always_on]" in bench.r(f"{MALI}/power_policy")
    assert infer(bench)["gpu_time_pct"] == str(round(100 * 702 / 377))
    assert bench.w(f"{MALI}/clock", 0) == "ok"
    assert (bench.r(f"{MALI}/tmu"), bench.r(f"{MALI}/dvfs")) == ("1", "1")
    assert "[coarse_demand]" in bench.r(f"{MALI}/power_policy")
    assert infer(bench)["gpu_time_pct"] == "100"
    assert bench.w(f"{MALI}/clock", "abc") == "ENOENT"


def test_a_clock_the_exynos_table_lacks_is_taken_without_error_and_does_not_hold() -> None:
    bench = Bench("note10")
    assert bench.w(f"{MALI}/clock", 400000) == "ok"
    assert bench.r(f"{MALI}/clock") == "260000"


def test_exynos_locks_read_locked_and_user_and_unlock_with_zero() -> None:
    bench = Bench("note10")
    assert bench.r(f"{MALI}/dvfs_max_lock") == "-1"
    assert bench.w(f"{MALI}/dvfs_max_lock", 450000) == "ok"
    assert bench.r(f"{MALI}/dvfs_max_lock") == "433000 / 450000"
    assert infer(bench)["gpu_time_pct"] == str(round(100 * 702 / 433))
    assert bench.w(f"{MALI}/dvfs_max_lock", 100000) == "ENOENT"
    assert bench.w(f"{MALI}/dvfs_max_lock", 702000) == "ok"
    assert bench.r(f"{MALI}/dvfs_max_lock") == "-1"
    assert bench.w(f"{MALI}/dvfs_min_lock", 325000) == "ok"
    bench.wait(1)
    assert bench.r("/sys/kernel/gpu/gpu_min_clock") == "325000"
    assert bench.w(f"{MALI}/dvfs_min_lock", 0) == "ok"
    assert bench.r(f"{MALI}/dvfs_min_lock") == "-1"


def test_exynos_governors_are_written_as_an_index_and_read_as_names() -> None:
    bench = Bench("note10")
    assert bench.r(f"{MALI}/dvfs_governor").endswith("[Current Governor] Interactive")
    assert bench.w(f"{MALI}/dvfs_governor", 4) == "ok"
    assert bench.r("/sys/kernel/gpu/gpu_governor") == "Booster"
    assert bench.w(f"{MALI}/dvfs_governor", 17) == "ENOENT"
    assert bench.w("/sys/kernel/gpu/gpu_governor", "Static") == "ok"
    assert bench.r(f"{MALI}/dvfs_governor").endswith("[Current Governor] Static")


def test_both_exynos_tables_have_their_own_order() -> None:
    bench = Bench("note10")
    assert bench.r(f"{MALI}/dvfs_table").startswith(" 702000 650000 ")
    assert bench.r("/sys/kernel/gpu/gpu_freq_table").startswith("156000 200000 ")
    assert bench.r("/sys/kernel/gpu/gpu_model") == "(Unknown Mali GPU)"


def test_a_fixed_exynos_clock_ignores_heat_and_a_lock_does_not() -> None:
    bench = Bench("note10")
    inject(bench.kernel, "thermal", celsius=99, seconds=600, where="G3D")
    bench.wait(1)
    limited = int(infer(bench)["gpu_time_pct"])
    assert limited > 100
    bench.w(f"{MALI}/clock", 702000)
    assert infer(bench)["gpu_time_pct"] == "100"


def test_a_quality_of_service_request_lives_as_long_as_its_file_is_open() -> None:
    bench = Bench("note10")
    assert bench.w("/dev/cluster2_freq_max", f"0x{1456000:08x}", handle=7) == "ok"
    assert bench.w("/dev/cluster2_freq_min", f"0x{1144000:08x}", handle=8) == "ok"
    assert bench.w("/dev/gpu_freq_max", f"0x{325000:08x}", handle=9) == "ok"
    assert bench.r("cpufreq/policy6/scaling_max_freq") == "1456000"
    assert bench.r("cpufreq/policy6/scaling_min_freq") == "1144000"
    assert infer(bench)["gpu_time_pct"] == str(round(100 * 702 / 325))
    bench.kernel.close("/dev/cluster2_freq_max", 7)
    bench.kernel.close("/dev/gpu_freq_max", 9)
    assert bench.r("cpufreq/policy6/scaling_max_freq") == "2730000"
    assert bench.r("cpufreq/policy6/scaling_min_freq") == "1144000"
    assert infer(bench)["gpu_time_pct"] == "100"


def test_a_quality_of_service_text_is_hexadecimal_or_four_bytes() -> None:
    bench = Bench("note10")
    bench.kernel.write("/dev/cluster2_freq_max", (1456000).to_bytes(4, "little"), handle=1)
    assert bench.r("cpufreq/policy6/scaling_max_freq") == "1456000"
    assert bench.kernel.read("/dev/cluster2_freq_max") == (1456000).to_bytes(4, "little")
    assert bench.w("/dev/cluster2_freq_max", 1040000, handle=1) == "ok"  # 0x1040000: no limit at all
    assert bench.r("cpufreq/policy6/scaling_max_freq") == "2730000"
    assert bench.w("/dev/cluster2_freq_max", "1.55", handle=1) == "EINVAL"


def test_a_low_combined_maximum_takes_the_big_cluster_offline() -> None:
    bench = Bench("note10")
    table = [int(word) for word in bench.r("/sys/power/cpufreq_table").split()]
    assert (table[0], table[21], table[38]) == (2730000, 2314000 >> 3, 1950000 >> 6)
    assert bench.w("/sys/power/cpufreq_max_limit", 1066000 >> 3) == "ok"
    assert bench.r("online") == "0-5"
    assert bench.r("cpufreq/policy4/scaling_max_freq") == "1066000"
    assert bench.r("/sys/power/cpufreq_max_limit") == str(1066000 >> 3)
    assert bench.w("/sys/power/cpufreq_max_limit", -1) == "ok"
    assert bench.r("online") == "0-7"
    assert bench.w("/sys/power/cpufreq_min_limit", 1456000) == "ok"
    assert bench.r("cpufreq/policy6/scaling_min_freq") == "1456000"
    assert bench.r("cpufreq/policy0/scaling_min_freq") == "1950000"
    assert bench.w("/sys/power/cpufreq_min_limit", -1) == "ok"
    assert bench.r("cpufreq/policy6/scaling_min_freq") == "520000"
    assert bench.w("/sys/power/cpufreq_max_limit", "x") == "EINVAL"


def test_tensor_limits_take_clocks_of_the_table_only() -> None:
    bench = Bench("pixel")
    assert bench.w(f"{TENSOR}/scaling_max_freq", 510000) == "ok"
    assert bench.w(f"{TENSOR}/scaling_max_freq", 500000) == "EINVAL"
    assert infer(bench)["gpu_time_pct"] == str(round(100 * 848 / 510))
    assert bench.r(f"{TENSOR}/cur_freq") == "510000"


def test_devfreq_limits_follow_the_kernels_release() -> None:
    old, new = Bench("note10"), Bench("pixel")
    bus = "/sys/class/devfreq/17000010.devfreq_mif"
    assert old.r(f"{bus}/available_frequencies").startswith("2093000 ")
    assert old.w(f"{bus}/max_freq", 845000) == "ok"
    assert old.w(f"{bus}/min_freq", 1014000) == "EINVAL"
    assert old.w(f"{bus}/governor", "bogus") == "ENODEV"
    assert new.w(f"{bus}/max_freq", 845000) == "ok"
    assert new.w(f"{bus}/min_freq", 1014000) == "ok"
    assert new.r(f"{bus}/min_freq") == "845000"
    assert new.w(f"{bus}/governor", "bogus") == "EINVAL"
    assert new.w(f"{bus}/governor", "performance") == "ok"
    assert new.r(f"{bus}/cur_freq") == "845000"
