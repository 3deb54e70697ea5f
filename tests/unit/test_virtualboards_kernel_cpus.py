"""Hotplug, isolation, affinity, cpusets and CPU time of virtual boards."""

import pytest
from sim_kernel_board import Bench, mainline

SHELL, CHILD = 2001, 2002


def started(kind: str = "qualcomm") -> Bench:
    bench = Bench(kind)
    bench.tasks.parents = {SHELL: 0}
    return bench


def held(bench: Bench) -> None:
    """Core control off: every core is free."""
    for cpu in (0, 4, 7):
        assert bench.w(f"cpu{cpu}/core_ctl/enable", 0) == "ok"


def stat_lines(bench: Bench) -> dict[str, list[int]]:
    lines = (line.split() for line in bench.r("/proc/stat").splitlines() if line.startswith("cpu"))
    return {words[0]: [int(word) for word in words[1:]] for words in lines}


def test_an_offline_cpu_loses_its_nodes_and_its_line_in_proc_stat() -> None:
    bench = started("note10")
    assert bench.w("cpu5/online", 0) == "ok"
    assert (bench.r("online"), bench.r("offline"), bench.r("present")) == ("0-4,6-7", "5", "0-7")
    assert "cpu5" not in stat_lines(bench)
    assert bench.r("cpu5/topology/core_id") == "ENOENT"
    assert bench.r("cpu5/cpufreq/scaling_max_freq") == "2314000"
    assert bench.r("cpufreq/policy4/affected_cpus") == "4"
    assert "processor\t: 5" not in bench.r("/proc/cpuinfo")
    assert bench.w("cpu5/online", 1) == "ok"
    assert bench.r("cpu5/topology/core_id") == "1"


def test_a_node_that_is_open_while_its_cpu_goes_answers_no_such_device() -> None:
    bench = started("note10")
    node = bench.kernel.tree.resolve("/sys/devices/system/cpu/cpu5/cpuidle/state0/disable")
    bench.w("cpu5/online", 0)
    with pytest.raises(OSError, match="No such device"):
        bench.kernel.read_node(node, None)  # type: ignore[arg-type]


def test_cpu_0_cannot_be_taken_away() -> None:
    bench = started("note10")
    assert bench.w("cpu0/online", 0) == "EACCES"
    assert bench.w("cpu3/online", 2) == "EINVAL"


def test_an_idle_board_isolates_a_big_core_that_still_says_online() -> None:
    bench = started()
    assert bench.taskset(SHELL, {4}) == "ok"
    bench.wait(0.5)
    assert bench.r("cpu4/online") == "1"
    assert bench.r("cpu4/isolate") == "1"
    assert bench.r("cpu4/core_ctl/active_cpus") == "2"
    assert "CPU4\n\tCPU: 4\n\tOnline: 1\n\tIsolated: 1\n" in bench.r("cpu4/core_ctl/global_state")
    bench.tasks.parents[CHILD] = SHELL
    assert bench.taskset(CHILD, {4}) == "EINVAL"
    assert bench.taskset(CHILD, {7}) == "EINVAL"
    assert bench.taskset(CHILD, {4, 5}) == "ok"
    assert bench.granted(CHILD) == {5}


def test_a_busy_core_is_not_isolated_and_a_needed_one_comes_back() -> None:
    bench = started()
    assert bench.taskset(SHELL, {7}) == "ok"
    bench.wait(2, {SHELL: 0.9})
    assert bench.r("cpu7/isolate") == "0"
    bench.wait(0.3)
    bench.wait(0.3)
    assert bench.r("cpu7/isolate") == "1"


def test_minimum_and_maximum_of_core_control_are_clamped_silently_and_hold_the_cores() -> None:
    bench = started()
    bench.wait(0.5)
    assert bench.w("cpu4/core_ctl/max_cpus", 9) == "ok"
    assert bench.w("cpu4/core_ctl/min_cpus", 9) == "ok"
    assert (bench.r("cpu4/core_ctl/max_cpus"), bench.r("cpu4/core_ctl/min_cpus")) == ("3", "3")
    assert bench.r("cpu4/isolate") == "0"
    assert bench.taskset(SHELL, {4}) == "ok"
    assert bench.w("cpu4/core_ctl/max_cpus", 1) == "ok"
    assert bench.r("cpu4/core_ctl/min_cpus") == "1"
    assert bench.w("cpu4/core_ctl/max_cpus", "x") == "EINVAL"


def test_core_control_turned_off_frees_its_cores() -> None:
    bench = started()
    bench.wait(0.5)
    assert bench.taskset(SHELL, {7}) == "EINVAL"
    held(bench)
    assert bench.taskset(SHELL, {7}) == "ok"
    bench.wait(5)
    assert bench.granted(SHELL) == {7}


def test_a_load_bound_to_a_core_that_goes_offline_wanders_to_all_of_them_for_good() -> None:
    bench = started("note10")
    assert bench.taskset(SHELL, {7}) == "ok"
    bench.w("cpu7/online", 0)
    assert bench.granted(SHELL) == {0, 1, 2, 3, 4, 5, 6}
    bench.w("cpu7/online", 1)
    assert bench.granted(SHELL) == {0, 1, 2, 3, 4, 5, 6, 7}


def test_a_mask_without_an_online_core_is_refused_and_a_partly_valid_one_cut() -> None:
    bench = started("note10")
    bench.w("cpu5/online", 0)
    assert bench.taskset(SHELL, {5}) == "EINVAL"
    assert bench.taskset(SHELL, {40}) == "EINVAL"
    assert bench.taskset(SHELL, {4, 5}) == "ok"
    assert bench.granted(SHELL) == {4}


def test_children_inherit_the_mask_they_were_born_with() -> None:
    bench = started("note10")
    bench.taskset(SHELL, {2, 3})
    bench.tasks.parents[CHILD] = SHELL
    assert bench.granted(CHILD) == {2, 3}
    bench.taskset(SHELL, {0})
    assert bench.granted(CHILD) == {2, 3}


def test_masks_of_processes_that_ended_are_forgotten() -> None:
    bench = started("note10")
    bench.taskset(SHELL, {2})
    del bench.tasks.parents[SHELL]
    bench.wait(1)
    bench.tasks.parents = {SHELL: 0}
    assert bench.granted(SHELL) == set(range(8))


def test_a_cpuset_limits_what_affinity_can_ask_for() -> None:
    bench = started("note10")
    assert bench.w("/dev/cpuset/background/cgroup.procs", SHELL - 1000) == "ok"
    assert bench.r("/dev/cpuset/background/cgroup.procs") == str(SHELL - 1000)
    assert bench.granted(SHELL) == {0, 1}
    assert bench.taskset(SHELL, {4}) == "EINVAL"
    assert bench.taskset(SHELL, {1, 4}) == "ok"
    assert bench.granted(SHELL) == {1}
    assert bench.w("/dev/cpuset/top-app/cgroup.procs", 0, pid=SHELL) == "ok"
    assert bench.granted(SHELL) == set(range(8))
    assert bench.w("/dev/cpuset/top-app/cgroup.procs", 77) == "ESRCH"
    assert bench.w("/dev/cpuset/top-app/cgroup.procs", 1, uid=2000) == "EACCES"
    assert bench.w("/dev/cpuset/top-app/cpus", "0-9") == "ERANGE"
    assert bench.w("/dev/cpuset/top-app/cpus", "4-5") == "ok"
    assert bench.granted(SHELL) == {4, 5}


def test_cgroup_procs_moves_a_whole_process_and_tasks_one_thread() -> None:
    bench = started("note10")
    thread = 2010
    bench.tasks.parents[CHILD] = SHELL
    bench.tasks.others = {thread: SHELL}
    assert bench.w("/dev/cpuset/background/cgroup.procs", thread - 1000) == "ok"
    assert bench.granted(SHELL) == bench.granted(thread) == {0, 1}
    assert bench.granted(CHILD) == set(range(8))
    assert bench.w("/dev/cpuset/top-app/tasks", SHELL - 1000) == "ok"
    assert bench.granted(SHELL) == set(range(8))
    assert bench.granted(thread) == {0, 1}
    assert bench.w("/dev/cpuset/top-app/cgroup.procs", 0, pid=SHELL) == "ok"
    assert bench.granted(thread) == set(range(8))


def test_cpu_time_lands_on_the_cores_a_task_is_bound_to() -> None:
    bench = started("note10")
    bench.taskset(SHELL, {4})
    before = stat_lines(bench)
    bench.wait(10, {SHELL: 0.4})
    after = stat_lines(bench)
    busy = {name: sum(after[name][:3]) - sum(before[name][:3]) for name in after}
    assert busy["cpu4"] == 400
    assert busy["cpu"] == 400
    assert all(busy[f"cpu{cpu}"] == 0 for cpu in (0, 1, 2, 3, 5, 6, 7))
    assert after["cpu4"][3] - before["cpu4"][3] == 600


def test_no_core_is_busier_than_the_clock_allows() -> None:
    bench = started("note10")
    bench.tasks.parents |= {CHILD: 0}
    bench.taskset(SHELL, {4})
    bench.taskset(CHILD, {4})
    bench.wait(1, {SHELL: 0.9, CHILD: 0.9})
    assert sum(stat_lines(bench)["cpu4"]) == 100
    assert stat_lines(bench)["cpu4"][3] == 0


def test_time_of_processes_that_ended_between_two_looks_is_counted() -> None:
    bench = started("note10")
    bench.tasks.ended_ns = 500_000_000
    bench.wait(1)
    assert sum(stat_lines(bench)["cpu"][:3]) == 50


def test_a_free_heavy_task_runs_on_a_big_core_and_a_light_one_on_a_little() -> None:
    bench = started("note10")
    bench.tasks.parents |= {CHILD: 0}
    bench.wait(1, {SHELL: 0.9, CHILD: 0.1})
    load = bench.kernel.cpu_time.load
    assert max(load[6], load[7]) == pytest.approx(0.9)
    assert sum(load[cpu] for cpu in range(4)) == pytest.approx(0.1)


def test_a_reboot_gives_a_new_boot_id_and_default_limits() -> None:
    bench = started("note10")
    old = bench.r("/proc/sys/kernel/random/boot_id")
    bench.w("cpufreq/policy0/scaling_max_freq", 546000)
    bench.w("cpu6/online", 0)
    bench.wait(30)
    bench.kernel.reboot()
    assert bench.r("/proc/sys/kernel/random/boot_id") != old
    assert bench.r("cpufreq/policy0/scaling_max_freq") == "1950000"
    assert bench.r("online") == "0-7"
    assert bench.r("/proc/uptime").startswith("0.00 ")


def test_sysfs_knows_no_new_files() -> None:
    bench = Bench(mainline())
    assert bench.w("cpufreq/policy4/no_such_node", 1) == "EACCES"
    assert bench.r("cpufreq/policy4/no_such_node") == "ENOENT"
    assert bench.r("cpufreq") == "EISDIR"
    assert bench.kernel.listdir("/sys/devices/system/cpu/cpufreq") == ["policy0", "policy4", "policy7"]
    assert bench.kernel.stat("/sys/devices/system/cpu/cpu5/cpufreq").target == "../cpufreq/policy4"


def test_idle_states_have_the_kernel_s_whole_set_of_files() -> None:
    bench = Bench("note10-sd855")
    assert bench.r("cpuidle/current_driver") == "psci_idle"
    state = {node: bench.r(f"cpu0/cpuidle/state1/{node}") for node in ("name", "desc", "power", "latency", "residency")}
    assert state == {"name": "gold-rail-pc", "desc": "gold-rail-pc", "power": "0", "latency": "80", "residency": "400"}


def test_qualcomm_s_short_names_of_the_gpu_have_its_governors() -> None:
    bench = Bench("note10-sd855")
    assert bench.r("/sys/kernel/gpu/gpu_governor") == "msm-adreno-tz"
    assert "performance" in bench.r("/sys/kernel/gpu/gpu_available_governor").split()
    assert bench.w("/sys/kernel/gpu/gpu_governor", "performance") == "ok"
    assert bench.r("/sys/class/kgsl/kgsl-3d0/devfreq/governor") == "performance"


def test_a_group_that_is_made_takes_nobody_until_it_has_cpus() -> None:
    bench = Bench("qualcomm")
    bench.tasks.parents = {2001: 0}
    group = "/dev/cpuset/mine"
    bench.kernel.make_directory(group)
    assert bench.r(f"{group}/cpus") == ""
    assert bench.w(f"{group}/tasks", 1001) == "ENOSPC"
    assert bench.w(f"{group}/cpus", "4-6") == "ok"
    assert bench.w(f"{group}/mems", 1) == "EACCES"
    assert bench.w(f"{group}/tasks", 1001) == "ok"
    assert bench.r(f"{group}/tasks") == "1001"
    assert bench.r("/proc/cgroups").splitlines()[1].split() == ["cpuset", "1", "7", "1"]
    with pytest.raises(OSError, match="busy"):
        bench.kernel.remove_directory(group)
    bench.w("/dev/cpuset/tasks", 1001)
    bench.kernel.remove_directory(group)
    assert bench.r(f"{group}/cpus") == "ENOENT"


@pytest.mark.parametrize(
    ("path", "uid", "error"),
    [
        ("/sys/kernel/mine", 0, "not permitted"),
        ("/dev/cpuset/mine", 2000, "Permission denied"),
        ("/dev/cpuset/top-app", 0, "exists"),
        ("/dev/cpuset/none/mine", 0, "No such file"),
    ],
)
def test_directories_are_made_for_groups_alone_and_by_root(path: str, uid: int, error: str) -> None:
    with pytest.raises(OSError, match=error):
        Bench("qualcomm").kernel.make_directory(path, uid)
