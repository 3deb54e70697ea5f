"""Virtual cpufreq answers as the kernels it imitates do."""

import pytest
from sim_kernel_board import DATA, Bench, mainline, replay

P4 = "cpufreq/policy4"


def test_a_recorded_session_of_a_real_6_1_kernel_is_answered_the_same() -> None:
    text = (DATA / "cpufreq_6.1.txt").read_text()
    assert replay(Bench(mainline()), text) == []


@pytest.mark.parametrize("suite", ["note10", "note10_limits", "pixel", "qualcomm"])
def test_a_sequence_of_writes_and_reads_is_answered_as_the_drivers_sources_say(suite: str) -> None:
    assert replay(Bench(suite.partition("_")[0]), (DATA / f"{suite}.txt").read_text()) == []


def test_tables_keep_the_devices_order_and_its_trailing_blank() -> None:
    assert Bench("note10").r("cpufreq/policy6/scaling_available_frequencies").startswith("2730000 2600000 ")
    assert Bench("qualcomm").r("cpufreq/policy7/scaling_available_frequencies").endswith(" 2841600 ")


def test_before_5_4_a_minimum_above_the_maximum_is_refused_and_nothing_changes() -> None:
    bench = Bench("qualcomm")
    assert bench.w(f"{P4}/scaling_max_freq", 825600) == "ok"
    assert bench.w(f"{P4}/scaling_min_freq", 1056000) == "EINVAL"
    assert bench.w(f"{P4}/scaling_max_freq", 710399) == "EINVAL"
    assert (bench.r(f"{P4}/scaling_min_freq"), bench.r(f"{P4}/scaling_max_freq")) == ("710400", "825600")


def test_before_5_16_a_maximum_between_two_frequencies_reads_back_as_written() -> None:
    bench = Bench("qualcomm")
    assert bench.w(f"{P4}/scaling_max_freq", 1000000) == "ok"
    assert bench.r(f"{P4}/scaling_max_freq") == "1000000"
    bench.w(f"{P4}/scaling_governor", "performance")
    assert bench.r(f"{P4}/scaling_cur_freq") == "940800"


def test_limits_with_no_frequency_between_them_are_raised_to_the_next_one() -> None:
    bench = Bench(mainline())
    bench.w(f"{P4}/scaling_min_freq", 1000000)
    bench.w(f"{P4}/scaling_max_freq", 1000000)
    assert (bench.r(f"{P4}/scaling_min_freq"), bench.r(f"{P4}/scaling_max_freq")) == ("1612800", "1612800")


@pytest.mark.parametrize(
    ("kernel", "read", "write"),
    [("4.14.113", "825600", "EINVAL"), ("5.10.107", "825600", "EINVAL"), ("6.1.0", "EBUSY", "EBUSY")],
)
def test_a_policy_whose_cpus_are_all_offline_answers_as_its_kernel_does(kernel: str, read: str, write: str) -> None:
    bench = Bench(mainline(kernel))
    assert bench.w("cpu7/online", 0) == "ok"
    assert bench.r("cpufreq/policy7/scaling_min_freq") == read
    assert bench.w("cpufreq/policy7/scaling_min_freq", 1056000) == write
    assert bench.w("cpu7/online", 1) == "ok"
    assert bench.w("cpufreq/policy7/scaling_min_freq", 1056000) == "ok"


def test_an_unknown_or_overlong_governor_is_refused() -> None:
    bench = Bench("note10")
    for name in ("userspace", "bogus", "", "schedutilschedutil"):
        assert bench.w(f"{P4}/scaling_governor", name) == "EINVAL"
    assert bench.r(f"{P4}/scaling_governor") == "schedutil"


def test_a_thermal_limit_shows_in_the_maximum_and_the_users_own_comes_back_with_it() -> None:
    bench = Bench("qualcomm")
    bench.w(f"{P4}/scaling_max_freq", 2016000)
    policy = bench.kernel.policies[1]
    policy.request("thermal", high=1286400)
    assert bench.r(f"{P4}/scaling_max_freq") == "1286400"
    assert bench.w(f"{P4}/scaling_max_freq", 2131200) == "ok"
    assert bench.r(f"{P4}/scaling_max_freq") == "1286400"
    policy.request("thermal")
    assert bench.r(f"{P4}/scaling_max_freq") == "2131200"


def test_schedutil_follows_the_load_within_the_limits() -> None:
    bench = Bench("qualcomm")
    bench.tasks.parents = {2001: 0}
    assert bench.taskset(2001, {5}) == "ok"
    bench.wait(1, {2001: 1.0})
    assert bench.r(f"{P4}/scaling_cur_freq") == "2419200"
    bench.w(f"{P4}/scaling_max_freq", 1171200)
    assert bench.r(f"{P4}/scaling_cur_freq") == "1171200"
    bench.wait(1)
    assert bench.r(f"{P4}/scaling_cur_freq") == "710400"


def test_time_in_state_counts_ten_milliseconds_of_the_frequency_that_held() -> None:
    bench = Bench("qualcomm")
    bench.w(f"{P4}/stats/reset", 1)
    bench.w(f"{P4}/scaling_max_freq", 940800)
    bench.w(f"{P4}/scaling_min_freq", 940800)
    before = dict(line.split() for line in bench.r(f"{P4}/stats/time_in_state").splitlines())
    bench.wait(2.5)
    after = dict(line.split() for line in bench.r(f"{P4}/stats/time_in_state").splitlines())
    assert {khz: int(after[khz]) - int(before[khz]) for khz in after if after[khz] != before[khz]} == {"940800": 250}


def test_a_board_without_write_permission_refuses_even_root() -> None:
    bench = Bench("oddball")
    assert bench.w("cpufreq/policy0/scaling_max_freq", 800000) == "EACCES"
    assert bench.w("cpufreq/policy0/scaling_max_freq", 800000, uid=2000) == "EACCES"


def test_the_shell_user_reads_limits_but_does_not_write_them() -> None:
    bench = Bench("note10")
    assert bench.r(f"{P4}/scaling_max_freq", uid=2000) == "2314000"
    assert bench.r(f"{P4}/cpuinfo_cur_freq", uid=2000) == "EACCES"
    assert bench.w(f"{P4}/scaling_max_freq", 507000, uid=2000) == "EACCES"
    assert bench.w(f"{P4}/scaling_max_freq", 507000, uid=1000) == "ok"


def test_emulated_work_takes_time_inverse_to_the_clock() -> None:
    bench = Bench("qualcomm")

    def cpu_pct() -> list[int]:
        line = next(line for line in bench.r("/sys/devicelab/emulation").splitlines() if line.startswith("cpu_time"))
        return [int(word) for word in line.split()[1:]]

    at_full_speed = cpu_pct()
    bench.w("cpufreq/policy7/scaling_max_freq", 1420800)
    assert cpu_pct()[7] == round(100 * 2841600 / 1401600)
    bench.w("cpufreq/policy7/scaling_max_freq", 825600)
    assert cpu_pct()[7] == round(2 * 100 * 2841600 / 825600)  # runs at half of its label
    assert at_full_speed[7] == 100
    assert cpu_pct()[:7] == at_full_speed[:7]
