"""devlib against a board, run by an interpreter that has it: ``devlib_on_a_board.py SERIAL``.

The environment tells the port of the adb server (``ANDROID_ADB_SERVER_PORT``) and the tools (``ANDROID_HOME``).

Every check is an assertion on what devlib itself read back; its name is printed when it held.
"""

import sys
from collections.abc import Callable

from devlib import AndroidTarget


def connected(serial: str) -> AndroidTarget:
    target = AndroidTarget(
        connection_settings={"device": serial, "adb_as_root": False},
        connect=False,
        load_default_modules=False,
    )
    target.connect(timeout=60)
    return target


def check_target(target: AndroidTarget) -> None:
    assert target.is_rooted
    assert target.os == "android"
    assert target.kernel_version.release.startswith("4.14.117"), target.kernel_version
    assert target.number_of_cpus == 8
    names = {entry.pid: (entry.user, entry.name) for entry in target.ps()}
    assert names[1] == ("root", "init"), names
    assert len({entry.tid for entry in target.ps(threads=True)}) >= len(names)
    assert {"/data", "/sys", "/dev/cpuset"} <= {entry.mount_point for entry in target.list_file_systems()}
    assert target.is_screen_on() is True
    assert target.screen_resolution == (1080, 2280)
    assert target.get_rotation() == 0
    target.clear_logcat()
    target.execute("log -t devlib 'a line of its own'")
    target.write_value("/sdcard/a-file", "text", verify=False)
    assert target.read_value("/sdcard/a-file") == "text"
    assert "a line of its own" in target.execute("logcat -d")


def check_cpufreq(target: AndroidTarget) -> None:
    for cpu, lowest, highest in ((0, 300000, 1785600), (4, 710400, 2419200), (7, 825600, 2841600)):
        listed = target.cpufreq.list_frequencies(cpu)
        assert (min(listed), max(listed)) == (lowest, highest)
        assert "performance" in target.cpufreq.list_governors(cpu)
        target.cpufreq.set_governor(cpu, "performance")
        assert target.cpufreq.get_governor(cpu) == "performance"
        target.cpufreq.set_max_frequency(cpu, listed[2])
        target.cpufreq.set_min_frequency(cpu, listed[2])
        assert target.cpufreq.get_frequency(cpu) == listed[2]
        assert target.cpufreq.get_min_frequency(cpu) == target.cpufreq.get_max_frequency(cpu) == listed[2]
    assert target.cpufreq.get_driver(0) == "qcom-cpufreq-hw"
    assert target.cpufreq.get_related_cpus(5) == [4, 5, 6]
    target.cpufreq.set_all_governors("powersave")
    assert set(target.cpufreq.get_all_governors().values()) == {"powersave"}


def check_cpuidle(target: AndroidTarget) -> None:
    states = target.cpuidle.get_states(4)
    assert [state.name for state in states] == ["WFI", "gold-rail-pc", "cluster-off"]
    target.cpuidle.disable(1, cpu=4)
    assert not target.cpuidle.get_state(1, cpu=4).is_enabled
    target.cpuidle.enable_all(cpu=4)
    assert all(state.is_enabled for state in states)
    assert target.cpuidle.get_driver()
    assert target.cpuidle.get_governor()


def check_gpufreq(target: AndroidTarget) -> None:
    assert target.gpufreq.get_frequencies()[-1] == 585
    assert "adreno" in target.gpufreq.get_model_name().lower()
    for governor in target.gpufreq.governors:
        target.gpufreq.set_governor(governor)
    assert isinstance(target.gpufreq.get_current_frequency(), int)


def check_hotplug(target: AndroidTarget) -> None:
    assert target.hotplug.list_hotpluggable_cpus() == list(range(1, 8))
    target.hotplug.offline(7)
    assert 7 not in target.list_online_cpus()
    target.hotplug.online_all()
    assert target.list_online_cpus() == list(range(8))


def check_thermal(target: AndroidTarget) -> None:
    assert len(target.thermal.zones) > 20
    zone = next(zone for zone in target.thermal.zones.values() if zone.trip_points)
    assert 10_000 < zone.get_temperature() < 100_000
    assert zone.trip_points[0].get_temperature() > 0
    assert zone.trip_points[0].get_type()
    zone.set_enabled(False)
    assert not zone.is_enabled()
    zone.set_enabled(True)


def check_devfreq(target: AndroidTarget) -> None:
    for device in target.devfreq.list_devices():
        listed = target.devfreq.list_frequencies(device)
        governor = target.devfreq.get_governor(device)
        assert governor in target.devfreq.list_governors(device)
        target.devfreq.set_governor(device, "performance")
        assert target.devfreq.get_governor(device) == "performance"
        target.devfreq.set_max_frequency(device, max(listed))
        target.devfreq.set_min_frequency(device, min(listed))
        assert min(listed) <= target.devfreq.get_frequency(device) <= max(listed)
        target.devfreq.set_governor(device, governor)


def check_cgroups(target: AndroidTarget) -> None:
    assert set(target.cgroups.controllers) == {"cpuset", "schedtune"}
    cpuset = target.cgroups.controllers["cpuset"]
    assert "/top-app" in cpuset.list_all()
    group = cpuset.cgroup("/devlib")
    assert group.exists()
    group.set(cpus="4-6", mems=0)
    assert group.get()["cpus"] == "4-6"
    assert cpuset.tasks_count("/devlib") == 0
    shell = target.background("sleep 30", as_root=True)
    pid = next(entry.pid for entry in target.ps() if entry.name == "sleep")
    group.add_proc(pid)
    assert pid in group.get_tasks()
    assert cpuset.tasks("/devlib")[pid][0] == "sleep"
    # Which of them core_ctl has isolated at this moment does not show in the mask.
    assert int(target.execute(f"taskset -p {pid}").split()[-1], 16) | 0x70 == 0x70
    target.kill(pid, as_root=True)
    shell.terminate() if hasattr(shell, "terminate") else shell.cancel()
    boost = target.cgroups.controllers["schedtune"].cgroup("/top-app")
    boost.set(boost=10)
    assert boost.get()["boost"] == "10"


def main() -> None:
    target = connected(sys.argv[1])
    modules = ("cpufreq", "cpuidle", "gpufreq", "hotplug", "thermal", "devfreq", "cgroups")
    for name in modules:
        target.install_module(name)
        assert getattr(target, name).name == name
    checks: list[tuple[str, Callable[[AndroidTarget], None]]] = [
        (name, globals()[f"check_{name}"]) for name in ("target", *modules)
    ]
    for name, check in checks:
        check(target)
        print(f"held: {name}", flush=True)
    target.disconnect()


if __name__ == "__main__":
    main()
