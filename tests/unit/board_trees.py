"""Sysfs trees of the lab's boards, written down from public frequency tables; not read off a live device."""

from collections.abc import Iterable

from devicelab import boards
from devicelab.model.device import Facts, RootMethod
from devicelab.model.tree import Node, Tree

CPU = "/sys/devices/system/cpu"
KGSL = "/sys/class/kgsl/kgsl-3d0"
MALI = "/sys/devices/platform/18500000.mali"
GPU = "/sys/kernel/gpu"

SM8150 = {
    (0, 1, 2, 3): "300000 403200 499200 576000 672000 768000 844800 940800 1036800 1113600 1209600 1305600 1382400 "
    "1478400 1555200 1632000 1708800 1785600",
    (4, 5, 6): "710400 825600 940800 1056000 1171200 1286400 1401600 1497600 1612800 1708800 1804800 1920000 2016000 "
    "2131200 2227200 2323200 2419200",
    (7,): "825600 940800 1056000 1171200 1286400 1401600 1497600 1612800 1708800 1804800 1920000 2016000 2131200 "
    "2227200 2323200 2419200 2534400 2649600 2745600 2841600",
}
SM8250 = {
    (0, 1, 2, 3): "300000 403200 518400 614400 691200 787200 883200 979200 1075200 1171200 1248000 1344000 1420800 "
    "1516800 1612800 1708800 1804800",
    (4, 5, 6): "710400 825600 940800 1056000 1171200 1286400 1382400 1478400 1574400 1670400 1766400 1862400 1958400 "
    "2054400 2150400 2246400 2342400 2419200",
    (7,): "844800 960000 1075200 1190400 1305600 1401600 1516800 1632000 1747200 1862400 1977600 2073600 2169600 "
    "2265600 2361600 2457600 2553600 2649600 2745600 2841600",
}
EXYNOS9820 = {  # listed descending, as that kernel does
    (0, 1, 2, 3): "1950000 1846000 1742000 1586000 1456000 1300000 1157000 1053000 949000 806000 650000 546000 442000",
    (4, 5): "2314000 2210000 2106000 2002000 1898000 1794000 1690000 1586000 1508000 1404000 1222000 1066000 962000 "
    "845000 754000 650000 507000",
    (6, 7): "2730000 2600000 2530000 2470000 2340000 2236000 2080000 1976000 1820000 1664000 1560000 1456000 1378000 "
    "1248000 1144000 1040000 936000 819000 728000 624000 520000",
}

Texts = dict[str, str | None]


def cpus(clusters: dict[tuple[int, ...], str], governors: str) -> Texts:
    """Hotplug and cpufreq nodes. Frequencies end in a blank before the newline, as kernels print them."""
    every = [cpu for group in clusters for cpu in group]
    last = max(every)
    texts: Texts = {f"{CPU}/present": f"0-{last}\n", f"{CPU}/online": f"0-{last}\n", f"{CPU}/offline": "\n"}
    for cpu in every[1:]:
        texts[f"{CPU}/cpu{cpu}/online"] = "1\n"
    for group, table in clusters.items():
        folder = f"{CPU}/cpufreq/policy{group[0]}"
        points = sorted(map(int, table.split()))
        listed = " ".join(map(str, group))
        texts |= {
            f"{folder}/affected_cpus": f"{listed}\n",
            f"{folder}/related_cpus": f"{listed}\n",
            f"{folder}/cpuinfo_min_freq": f"{points[0]}\n",
            f"{folder}/cpuinfo_max_freq": f"{points[-1]}\n",
            f"{folder}/scaling_available_frequencies": f"{table} \n",
            f"{folder}/scaling_available_governors": f"{governors} \n",
            f"{folder}/scaling_cur_freq": f"{points[0]}\n",
            f"{folder}/scaling_driver": "driver\n",
            f"{folder}/scaling_governor": "schedutil\n",
            f"{folder}/scaling_max_freq": f"{points[-1]}\n",
            f"{folder}/scaling_min_freq": f"{points[0]}\n",
            f"{folder}/stats/time_in_state": "".join(f"{point} 100\n" for point in points),
        }
    return texts


def zones(temps: Iterable[tuple[str, str]]) -> Texts:
    """Thermal zones in this order: type, text of ``temp``."""
    texts: Texts = {}
    for number, (kind, temp) in enumerate(temps):
        texts[f"/sys/class/thermal/thermal_zone{number}/type"] = f"{kind}\n"
        texts[f"/sys/class/thermal/thermal_zone{number}/temp"] = temp
    return texts


def cooling(devices: Iterable[tuple[str, int, int]]) -> Texts:
    """Cooling devices in this order: type, state, highest state."""
    texts: Texts = {}
    for number, (kind, state, top) in enumerate(devices):
        folder = f"/sys/class/thermal/cooling_device{number}"
        texts |= {f"{folder}/type": f"{kind}\n", f"{folder}/cur_state": f"{state}\n", f"{folder}/max_state": f"{top}\n"}
    return texts


def core_ctl(first: int, low: int, high: int, *, enable: int = 1) -> Texts:
    """Qualcomm's core control of the cluster whose first CPU is ``first``."""
    folder = f"{CPU}/cpu{first}/core_ctl"
    return {
        f"{folder}/min_cpus": f"{low}\n",
        f"{folder}/max_cpus": f"{high}\n",
        f"{folder}/enable": f"{enable}\n",
        f"{folder}/global_state": f"CPU{first}\n\tCPU: {first}\n\tOnline: 1\n\tIsolated: 0\n",
    }


def kgsl(table: str, model: str, governors: str = "msm-adreno-tz performance powersave simple_ondemand") -> Texts:
    """An Adreno; ``table`` in Hz, descending."""
    points = table.split()
    last = len(points) - 1
    return {
        f"{KGSL}/gpu_model": f"{model}\n",
        f"{KGSL}/gpu_available_frequencies": f"{table} \n",
        f"{KGSL}/num_pwrlevels": f"{len(points)}\n",
        f"{KGSL}/min_pwrlevel": f"{last}\n",
        f"{KGSL}/max_pwrlevel": "0\n",
        f"{KGSL}/thermal_pwrlevel": "0\n",
        f"{KGSL}/default_pwrlevel": f"{last}\n",
        f"{KGSL}/gpuclk": f"{points[-1]}\n",
        f"{KGSL}/max_gpuclk": f"{points[0]}\n",
        f"{KGSL}/idle_timer": "80\n",
        f"{KGSL}/bus_split": "1\n",
        f"{KGSL}/force_clk_on": "0\n",
        f"{KGSL}/force_bus_on": "0\n",
        f"{KGSL}/force_rail_on": "0\n",
        f"{KGSL}/force_no_nap": "0\n",
        f"{KGSL}/devfreq/governor": "msm-adreno-tz\n",
        f"{KGSL}/devfreq/available_governors": f"{governors}\n",
        f"{KGSL}/devfreq/available_frequencies": " ".join(reversed(points)) + "\n",
        f"{KGSL}/devfreq/min_freq": f"{points[-1]}\n",
        f"{KGSL}/devfreq/max_freq": f"{points[0]}\n",
        f"{KGSL}/devfreq/cur_freq": f"{points[-1]}\n",
        f"{GPU}/gpu_model": f"{model}\n",
    }


def devfreq(name: str, table: str, governor: str = "bw_hwmon") -> Texts:
    """A device under /sys/class/devfreq."""
    folder = f"/sys/class/devfreq/{name}"
    points = sorted(map(int, table.split()))
    return {
        f"{folder}/governor": f"{governor}\n",
        f"{folder}/available_governors": f"{governor} performance powersave userspace\n",
        f"{folder}/available_frequencies": f"{table}\n",
        f"{folder}/min_freq": f"{points[0]}\n",
        f"{folder}/max_freq": f"{points[-1]}\n",
        f"{folder}/cur_freq": f"{points[0]}\n",
    }


def cpusets(groups: dict[str, str]) -> Texts:
    """Android's cpusets, scheduler tunables and utilisation clamps are added by the tests that need them."""
    texts: Texts = {}
    for name, listed in groups.items():
        folder = f"/dev/cpuset/{name}".rstrip("/")
        texts |= {f"{folder}/cpus": f"{listed}\n", f"{folder}/cgroup.procs": ""}
    return texts


_QUALCOMM_ZONES = (
    *((f"cpu-0-{n}-usr", f"{41000 + 100 * n}\n") for n in range(4)),
    *((f"cpu-1-{n}-usr", f"{43000 + 100 * n}\n") for n in range(8)),
    ("gpuss-0-usr", "42100\n"),
    ("gpuss-max-step", "42100\n"),
    ("modem0-usr", ""),
    ("battery", "36300\n"),
)
_ANDROID = {"ro.build.version.sdk": "29", "ro.product.cpu.abi": "arm64-v8a"}


def _qualcomm(clusters: dict[tuple[int, ...], str], gpu: str, model: str) -> Texts:
    return {
        **cpus(clusters, "conservative ondemand userspace powersave performance schedutil"),
        **core_ctl(0, 4, 4, enable=0),
        **core_ctl(4, 2, 3),
        **core_ctl(7, 0, 1),
        **{f"{CPU}/cpu{cpu}/isolate": "0\n" for cpu in range(8)},
        **kgsl(gpu, model),
        **devfreq("soc:qcom,cpubw", "2288 4577 7110 9155 12298 14236"),
        **devfreq("soc:qcom,gpubw", "0 381 572 762 1144 1720 2086 2597 2929 3879 4943 5931 6881", "bw_vbif"),
        **zones(_QUALCOMM_ZONES),
        **cooling([("thermal-cpufreq-0", 0, 17), ("thermal-cpufreq-4", 0, 16), ("thermal-devfreq-0", 0, 4)]),
        **cpusets({"": "0-7", "top-app": "0-7", "foreground": "0-6", "background": "0-3"}),
        "/dev/stune/top-app/schedtune.boost": "0\n",
        "/dev/stune/top-app/cgroup.procs": "",
        "/sys/module/lpm_levels/parameters/sleep_disabled": "N\n",
        "/sys/module/msm_performance/parameters/cpu_max_freq": "0:4294967295 4:4294967295 7:4294967295\n",
    }


def _mali() -> Texts:
    table = "702000 650000 572000 433000 377000 325000 260000 200000 156000"
    return {
        f"{MALI}/clock": "0\n",
        f"{MALI}/dvfs": "1\n",
        f"{MALI}/dvfs_table": f" {table}\n",
        f"{MALI}/dvfs_max_lock": "-1\n",
        f"{MALI}/dvfs_min_lock": "-1\n",
        f"{MALI}/dvfs_governor": "Default\nInteractive\nJoint\n[Current Governor] Interactive\n",
        f"{MALI}/time_in_state": "".join(f"{point} 100\n" for point in reversed(table.split())),
        f"{MALI}/power_state": "0\n",
        f"{MALI}/tmu": "1\n",
        f"{MALI}/utilization": "0\n",
        f"{GPU}/gpu_model": "(Unknown Mali GPU)\n",
        f"{GPU}/gpu_clock": "0\n",
        f"{GPU}/gpu_min_clock": "156000\n",
        f"{GPU}/gpu_max_clock": "702000\n",
        f"{GPU}/gpu_freq_table": " ".join(reversed(table.split())) + "\n",
    }


def sm8150() -> Texts:
    """Snapdragon 855."""
    return _qualcomm(SM8150, "585000000 499200000 427000000 345000000 257000000", "Adreno640v2")


def sm8250() -> Texts:
    """Snapdragon 865."""
    return _qualcomm(SM8250, "587000000 525000000 490000000 441600000 400000000 305000000", "Adreno650v2")


def exynos9825() -> Texts:
    """Note10; its own tables come from firmware and are not public, so these are the 9820's."""
    return {
        **cpus(EXYNOS9820, "performance schedutil"),
        **_mali(),
        **devfreq(
            "17000010.devfreq_mif", "2093000 1794000 1539000 1352000 1014000 845000 676000 546000 421000", "interactive"
        ),
        **zones(
            [("BIG", "47000\n"), ("MID", "45000\n"), ("LITTLE", "44000\n"), ("G3D", "43000\n"), ("battery", "34500\n")]
        ),
        **cooling([("thermal-cpufreq-0", 0, 12), ("thermal-cpufreq-1", 0, 16), ("thermal-gpufreq-0", 0, 8)]),
        **cpusets({"": "0-7", "top-app": "0-7", "background": "0-3"}),
        "/dev/stune/top-app/schedtune.boost": "0\n",
        "/dev/stune/top-app/cgroup.procs": "",
        "/sys/power/cpufreq_max_limit": "-1\n",
        "/sys/power/cpufreq_min_limit": "-1\n",
    }


def server() -> Texts:
    """A machine with one policy a CPU and no frequency table, as under intel_pstate."""
    texts: Texts = {f"{CPU}/present": "0-3\n", f"{CPU}/online": "0-3\n"}
    for cpu in range(4):
        folder = f"{CPU}/cpufreq/policy{cpu}"
        texts |= {
            f"{folder}/affected_cpus": f"{cpu}\n",
            f"{folder}/related_cpus": f"{cpu}\n",
            f"{folder}/cpuinfo_min_freq": "800000\n",
            f"{folder}/cpuinfo_max_freq": "3600000\n",
            f"{folder}/scaling_min_freq": "800000\n",
            f"{folder}/scaling_max_freq": "3600000\n",
            f"{folder}/scaling_cur_freq": "1200345\n",
            f"{folder}/scaling_available_governors": "performance powersave\n",
            f"{folder}/scaling_governor": "powersave\n",
            f"{CPU}/cpu{cpu}/thermal_throttle/core_throttle_count": "0\n",
        }
    return {**texts, **zones([("acpitz", "27800\n"), ("x86_pkg_temp", "52000\n")])}


TREES = {"sm8150": sm8150, "sm8250": sm8250, "exynos9825": exynos9825, "server": server, "empty": dict}
BOARDS = {
    "sm8150": "qualcomm",
    "sm8250": "qualcomm-865",
    "exynos9825": "note10",
    "server": "linux",
    "empty": "generic-android",
}

_READ_ONLY = frozenset(
    """
    affected_cpus related_cpus cpuinfo_min_freq cpuinfo_max_freq scaling_available_frequencies scaling_driver
    scaling_available_governors scaling_cur_freq time_in_state type temp max_state present gpu_model cur_freq
    available_frequencies available_governors gpu_available_frequencies num_pwrlevels gpuclk dvfs_table power_state
    utilization gpu_freq_table gpu_clock cpus global_state
    """.split()  # noqa: SIM905 - a list of words reads better so
)


def nodes(texts: Texts, *, root: bool = True) -> tuple[Node, ...]:
    """The nodes as the agent's snapshot tells them; a text of ``None`` cannot be read (EBUSY)."""
    found = []
    for path, text in texts.items():
        name = path.rsplit("/", 1)[-1]
        fixed = name in _READ_ONLY or path in {f"{CPU}/online", f"{CPU}/offline"}
        found.append(
            Node(
                path=path,
                mode=0o444 if fixed else 0o644,
                text=text,
                errno=16 if text is None else 0,
                writable=root and not fixed,
            )
        )
    return tuple(found)


def facts(
    tree: str,
    *,
    change: Texts | None = None,
    remove: Iterable[str] = (),
    board: str | None = None,
    root: RootMethod = "su-c",
    props: dict[str, str] | None = None,
    read_only: Iterable[str] = (),
) -> Facts:
    """Facts of a device with one of these trees.

    Args:
        tree: a key of ``TREES``.
        change: nodes that read otherwise (``None``: not readable).
        remove: patterns of nodes that are not there.
        board: the board kind if it is not the tree's own.
        root: without root, nothing is writable.
        props: further properties.
        read_only: patterns of nodes that even root may not write.
    """
    texts = {**TREES[tree](), **(change or {})}
    base = Tree(nodes(texts, root=root != "none"))
    gone = {path for pattern in remove for path in base.glob(pattern)}
    fixed = {path for pattern in read_only for path in base.glob(pattern)}
    kept = tuple(
        node.model_copy(update={"mode": 0o444, "writable": False}) if path in fixed else node
        for path, node in base.items()
        if path not in gone
    )
    kind = board or BOARDS[tree]
    android = tree != "server"
    return Facts(
        name="board",
        address="adb:0123",
        board=boards.load(kind),
        abi="arm64-v8a",
        os="android" if android else "linux",
        kernel="4.14.117",
        boot_id="00000000-0000-0000-0000-000000000000",
        root=root,
        props={**(_ANDROID if android else {"os.id": "debian"}), **(props or {})},
        dir="/data/local/tmp/devicelab",
        nodes=kept,
    )
