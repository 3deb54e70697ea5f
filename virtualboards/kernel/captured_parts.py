"""Parts of a board recognised in captured nodes: policies, core_ctl, GPU, buses, zones, groups."""

import re
from collections.abc import ItemsView, Iterable
from typing import Any

from devicelab.knobs import cpufreq
from devicelab.model.device import Board, Facts
from devicelab.model.tree import Node
from virtualboards.kernel.cpufreq import CPU_DIR
from virtualboards.kernel.power import HOME
from virtualboards.kernel.spec import CoreCtlSpec, DevfreqSpec, GpuSpec, PolicySpec, PowerSpec, ZoneSpec
from virtualboards.kernel.text import parse_ranges

KGSL = "/sys/class/kgsl/kgsl-3d0"
DEVFREQ = "/sys/class/devfreq"
_SUSPEND = ("input_suspend", "batt_slate_mode", "charging_enabled", "battery_charging_enabled")
_MOST_MA = 20_000
_DEVFREQ_GPU = rf"{DEVFREQ}/([^/]*gpu)/available_frequencies"
_MAX_CPUS = 256
_MAX_TABLE = 256
_AMBIENT_C = 25.0
_BOARD_C = _AMBIENT_C + 7.0
_PHONE_C = (-30.0, 130.0)


class Nodes:
    """Captured nodes by path, with what recognising them needs."""

    def __init__(self, nodes: Iterable[dict[str, Any]]) -> None:
        self._nodes = {node["path"]: node for node in nodes}

    def __contains__(self, path: str) -> bool:
        return path in self._nodes

    def items(self) -> ItemsView[str, dict[str, Any]]:
        """Paths and nodes."""
        return self._nodes.items()

    def mode(self, path: str, otherwise: int) -> int:
        """Permission bits of a node."""
        node = self._nodes.get(path)
        return int(node.get("mode", 0o444)) if node is not None else otherwise

    def text(self, path: str) -> str:
        """The node's text without surrounding blanks, empty if there is none."""
        node = self._nodes.get(path)
        return (node.get("text") or "").strip() if node is not None else ""

    def numbers(self, path: str) -> tuple[int, ...]:
        """All integers among its words."""
        return tuple(int(word) for word in self.text(path).split() if re.fullmatch(r"-?\d{1,15}", word))

    def number(self, path: str, otherwise: int) -> int:
        """Its first integer."""
        return next(iter(self.numbers(path)), otherwise)

    def cpus(self, path: str) -> tuple[int, ...]:
        """A list of CPUs, in either of the kernel's formats."""
        text = self.text(path).replace(" ", ",")
        try:
            return tuple(sorted(parse_ranges(text, _MAX_CPUS))) if text else ()
        except OSError as error:
            raise ValueError(f"{path} is no list of CPUs") from error

    def find(self, pattern: str) -> list[re.Match[str]]:
        """Paths that match a regular expression as a whole, in the order of their first number."""
        found = [match for path in self._nodes if (match := re.fullmatch(pattern, path))]
        return sorted(found, key=lambda match: (int(match[1][:9]) if match[1].isdecimal() else 0, match[1]))


def read_policies(nodes: Nodes) -> tuple[cpufreq.Policy, ...]:
    """The policies that devicelab itself finds in these nodes, whatever layout and files tell of them."""
    every = [Node.model_validate(one) for _, one in nodes.items()]
    if not nodes.cpus(f"{CPU_DIR}/present"):
        told = nodes.find(rf"{CPU_DIR}/(?:cpufreq/policy|cpu)(\d+)/(?:cpufreq/)?related_cpus")
        cpus = sorted({cpu for match in told for cpu in nodes.cpus(match[0])})
        every.append(Node(path=f"{CPU_DIR}/present", text=",".join(map(str, cpus))))
    facts = Facts(
        name="captured", address="adb:captured", board=Board(kind="captured", title="captured"), abi="", os="android",
        kernel="", boot_id="", root="none", dir="/", nodes=tuple(every),
    )  # fmt: skip
    return cpufreq.policies(facts)


def policies(nodes: Nodes) -> tuple[PolicySpec, ...]:
    """The cpufreq policies; a table that nothing tells is made of the lowest and highest frequency.

    CPUs of which nothing is told have a clock that shows nowhere.

    Raises:
        ValueError: a CPU belongs to two policies, or a table is longer than any device's.
    """
    found: list[PolicySpec] = []
    read = read_policies(nodes)
    for one in read:

        def first(node: str, one: cpufreq.Policy = one) -> str:
            return next(filter(None, (nodes.text(f"{folder}/{node}") for folder in one.dirs)), "")

        listed = next(filter(None, (nodes.numbers(f"{d}/scaling_available_frequencies") for d in one.dirs)), ())
        ends = tuple(dict.fromkeys(khz for khz in (one.lowest, one.highest) if khz))
        table = tuple(khz for khz in listed if khz > 0) or one.table or ends
        if not table:
            continue
        # Of an older kernel's folders, one a CPU, several belong to one policy.
        if len(table) > _MAX_TABLE or ("/policy" in one.dir and len(one.dirs) > 1):
            raise ValueError(f"{one.dir} contradicts other nodes")
        high = max((nodes.number(f"{folder}/cpuinfo_max_freq", 0) for folder in one.dirs), default=0)
        governors, governor = tuple(first("scaling_available_governors").split()), first("scaling_governor")
        capacity = max((nodes.number(f"{CPU_DIR}/cpu{cpu}/cpu_capacity", 0) for cpu in one.cpus), default=0)
        found.append(
            PolicySpec(
                cpus=_with_siblings(one, read, nodes),
                table_khz=table,
                governors=governors or (governor or "schedutil",),
                governor=governor if governor in governors else "",
                driver=first("scaling_driver") or "captured",
                # The scheduler's own idea of speed where it is told, else every megahertz counts the same.
                work_per_mhz=1000 * capacity / max(table) if capacity else 1.0,
                cpuinfo_max_khz=high if high > max(table) else 0,
                limits_mode=nodes.mode(f"{one.dir}/scaling_max_freq", 0o644),
            )
        )
    told = {cpu for one in found for cpu in one.cpus}
    left = tuple(cpu for cpu in nodes.cpus(f"{CPU_DIR}/present") if cpu not in told)
    return (*found, *((PolicySpec(left, (1_000_000,), nodes=False),) if found and left else ()))


def _with_siblings(one: cpufreq.Policy, read: tuple[cpufreq.Policy, ...], nodes: Nodes) -> tuple[int, ...]:
    """A policy's CPUs; where no node lists them, those of its package that no other policy has belong to it too."""
    if any(nodes.text(f"{folder}/related_cpus") for folder in one.dirs):
        return one.cpus
    siblings = {cpu for at in one.cpus for cpu in nodes.cpus(f"{CPU_DIR}/cpu{at}/topology/core_siblings_list")}
    others = {cpu for other in read if other is not one for cpu in other.cpus}
    return tuple(sorted({*one.cpus, *(siblings - others)}))


def isolates(nodes: Nodes) -> bool:
    """Does its scheduler know isolated CPUs?"""
    return bool(nodes.find(rf"{CPU_DIR}/cpu(\d+)/(?:isolate|core_ctl/min_cpus)"))


def core_ctl(nodes: Nodes, known: tuple[PolicySpec, ...]) -> tuple[CoreCtlSpec, ...]:
    """Clusters under core_ctl."""
    found = []
    for match in nodes.find(rf"{CPU_DIR}/cpu(\d+)/core_ctl/min_cpus"):
        cpu, base = int(match[1]), match[0].rpartition("/")[0]
        if any(cpu == policy.cpus[0] for policy in known):
            found.append(
                CoreCtlSpec(
                    cpu=cpu,
                    min_cpus=nodes.number(match[0], 0),
                    enable=nodes.number(f"{base}/enable", 1) != 0,
                    busy_up_pct=nodes.number(f"{base}/busy_up_thres", 60),
                    busy_down_pct=nodes.number(f"{base}/busy_down_thres", 30),
                    delay_ms=nodes.number(f"{base}/offline_delay_ms", 100),
                )
            )
    return tuple(found)


def gpu(nodes: Nodes) -> GpuSpec | None:
    """The GPU, if its driver is one that is imitated."""
    levels = nodes.numbers(f"{KGSL}/gpu_available_frequencies")[:_MAX_TABLE]
    if levels:
        names = [match[1] for match in nodes.find(rf"{DEVFREQ}/([^/]*kgsl-3d0)/governor")]
        governors = tuple(nodes.text(f"{KGSL}/devfreq/available_governors").split()) or ("msm-adreno-tz",)
        listed = nodes.numbers(f"{KGSL}/devfreq/available_frequencies")
        return GpuSpec(
            family="kgsl",
            model=nodes.text(f"{KGSL}/gpu_model") or "Adreno",
            table_hz=levels,
            path=KGSL,
            devfreq=names[0] if names else "soc:qcom,kgsl-3d0",
            devfreq_ascending=not listed or listed[0] <= listed[-1],
            governor=nodes.text(f"{KGSL}/devfreq/governor") or governors[0],
            governors=governors,
        )
    return _mali(nodes) or _mediatek(nodes) or _devfreq_gpu(nodes)


def _mediatek(nodes: Nodes) -> GpuSpec | None:
    for name in ("gpu", "stack", "gstack"):
        entries = re.findall(r"\] freq: ([0-9]{1,9})", nodes.text(f"/proc/gpufreqv2/{name}_working_opp_table"))
        table = tuple(1000 * int(khz) for khz in entries[:_MAX_TABLE] if int(khz))
        if table and "/proc/gpufreqv2/fix_target_opp_index" in nodes:
            return GpuSpec("mediatek", "Mali", table, "/proc/gpufreqv2")
    return None


def _devfreq_gpu(nodes: Nodes) -> GpuSpec | None:
    for match in nodes.find(_DEVFREQ_GPU):
        name, base = match[1], match[0].rpartition("/")[0]
        table = tuple(hz for hz in nodes.numbers(match[0])[:_MAX_TABLE] if hz > 0)
        if table:
            governor = nodes.text(f"{base}/governor") or "simple_ondemand"
            governors = tuple(nodes.text(f"{base}/available_governors").split()) or (governor,)
            home = f"/sys/devices/platform/{name}"
            ascending = table[0] <= table[-1]
            return GpuSpec("devfreq", "GPU", table, home, name, ascending, governor, governors)
    return None


def _mali(nodes: Nodes) -> GpuSpec | None:
    for match in nodes.find(r"(/sys/devices/platform/[^/]+\.mali)/dvfs_table"):
        table = tuple(1000 * khz for khz in nodes.numbers(match[0])[:_MAX_TABLE] if khz > 0)
        lines = nodes.text(f"{match[1]}/dvfs_governor").splitlines()
        listed = tuple(line.strip() for line in lines if line.strip() and not line.startswith("[")) or ("Default",)
        now = re.search(r"\[Current Governor\] (\S+)", "\n".join(lines))
        if table:
            governor = now[1] if now and now[1] in listed else listed[0]
            return GpuSpec("mali-exynos", "Mali", table, match[1], governor=governor, governors=listed)
    for match in nodes.find(r"(/sys/devices/platform/[^/]+\.mali)/scaling_max_freq"):
        listed_khz = nodes.numbers(f"{match[1]}/available_frequencies")[:_MAX_TABLE]
        table = tuple(1000 * khz for khz in listed_khz if khz > 0)
        name = match[1].rpartition("/")[2]
        if table:
            has = f"{DEVFREQ}/{name}/governor" in nodes
            governors = tuple(nodes.text(f"{DEVFREQ}/{name}/available_governors").split()) or ("simple_ondemand",)
            return GpuSpec(
                "mali-tensor",
                nodes.text(f"{match[1]}/gpuinfo").partition(" ")[0] or "Mali",
                table,
                match[1],
                devfreq=name if has else "",
                governor=nodes.text(f"{DEVFREQ}/{name}/governor") or governors[0],
                governors=governors,
            )
    return None


def devfreq(nodes: Nodes) -> tuple[DevfreqSpec, ...]:
    """Other devices of the devfreq class that list their frequencies."""
    found = []
    for match in nodes.find(rf"{DEVFREQ}/([^/]+)/available_frequencies"):
        name, base = match[1], match[0].rpartition("/")[0]
        table = tuple(one for one in nodes.numbers(match[0]) if one > 0)
        if 0 < len(table) <= _MAX_TABLE and not name.endswith(("kgsl-3d0", ".mali", "gpu")):
            governor = nodes.text(f"{base}/governor") or "userspace"
            governors = tuple(nodes.text(f"{base}/available_governors").split()) or (governor,)
            found.append(DevfreqSpec(name, table, governor, governors))
    return tuple(found)


def zones(nodes: Nodes, known: tuple[PolicySpec, ...]) -> tuple[ZoneSpec, ...]:
    """Thermal zones with the temperature they had; those whose type names a CPU or the GPU warm up with it."""
    found, has_gpu = [], gpu(nodes) is not None
    for match in nodes.find(r"/sys/class/thermal/thermal_zone(\d+)/type"):
        base, kind = match[0].rpartition("/")[0], nodes.text(match[0])
        raw = nodes.number(f"{base}/temp", 0)
        scale = 1000 if abs(raw) > _PHONE_C[1] * 10 else 10 if abs(raw) > _PHONE_C[1] else 1
        celsius = raw / scale
        sane = _PHONE_C[0] < celsius < _PHONE_C[1] and bool(raw)
        found.append(
            ZoneSpec(
                types=(kind or "unknown",),
                number=int(match[1]),
                mass=_mass(kind, known, has_gpu=has_gpu),
                offset_c=celsius - _BOARD_C if sane else 0.0,
                scale=scale if sane else 1000,
                empty=not nodes.numbers(f"{base}/temp"),
            )
        )
    return tuple(found)


def _mass(kind: str, known: tuple[PolicySpec, ...], *, has_gpu: bool) -> str:
    lower = kind.lower()
    if "gpu" in lower or kind == "G3D":
        return "gpu" if has_gpu else "board"
    cluster = re.match(r"cpu-?(\d)-?(\d)?", lower)
    if kind in {"BIG", "MID", "LITTLE"}:
        place = {"LITTLE": 0, "MID": 1, "BIG": -1}[kind]
        return known[min(place, len(known) - 1)].name if known else "board"
    if cluster and known:
        return known[min(int(cluster[1]), len(known) - 1)].name if cluster[2] else known[-1].name
    return "board"


def cpusets(nodes: Nodes) -> dict[str, str]:
    """CPUs by cpuset."""
    found = nodes.find(r"/dev/cpuset/([^/]+)/cpus")
    return {match[1]: nodes.text(match[0]) for match in found if nodes.text(match[0])}


def groups(nodes: Nodes, root: str) -> tuple[str, ...]:
    """Groups of a cgroup hierarchy."""
    return tuple(dict.fromkeys(match[1] for match in nodes.find(rf"{root}/([^/]+)/[^/]+")))


def idle_states(nodes: Nodes) -> tuple[str, ...]:
    """Names of the idle states, those of the first CPU."""
    found = nodes.find(rf"{CPU_DIR}/cpu0/cpuidle/state(\d+)/name")
    return tuple(nodes.text(match[0]) or f"state{match[1]}" for match in found)


def power(nodes: Nodes) -> PowerSpec:
    """Unit and sign of the battery's gauge, the nodes that keep the charger away, and whether it was there.

    A gauge that counts in mA shows no more than a phone draws, 20 A; which sign means what is told by ``status``.
    """
    battery = f"{HOME}/battery"
    current = nodes.number(f"{battery}/current_now", 0)
    discharging = nodes.text(f"{battery}/status") == "Discharging"
    return PowerSpec(
        plugged=nodes.text(f"{HOME}/usb/online") == "1" if f"{HOME}/usb/online" in nodes else not discharging,
        suspend=tuple(name for name in _SUSPEND if f"{battery}/{name}" in nodes),
        milli=0 < abs(current) < _MOST_MA,
        positive=current != 0 and (current > 0) == discharging,
        monitors=bool(nodes.find(r"/sys/bus/iio/devices/iio:device(\d+)/energy_value")),
    )
