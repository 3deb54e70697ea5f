"""Parts of a board recognised in captured nodes: policies, core_ctl, GPU, buses, zones, groups."""

import re
from collections.abc import ItemsView, Iterable
from typing import Any

from virtualboards.kernel.cpufreq import CPU_DIR
from virtualboards.kernel.spec import CoreCtlSpec, DevfreqSpec, GpuSpec, PolicySpec, ZoneSpec
from virtualboards.kernel.text import parse_ranges

KGSL = "/sys/class/kgsl/kgsl-3d0"
DEVFREQ = "/sys/class/devfreq"
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


def policies(nodes: Nodes) -> tuple[PolicySpec, ...]:
    """The cpufreq policies; a table nobody listed is made of the lowest and highest frequency.

    Raises:
        ValueError: a CPU belongs to two policies, or a table is longer than any device's.
    """
    found: list[PolicySpec] = []
    seen: set[int] = set()
    for match in nodes.find(rf"{CPU_DIR}/cpufreq/policy(\d+)/related_cpus"):
        base = match[0].rpartition("/")[0]
        cpus = nodes.cpus(match[0])
        low, high = (nodes.number(f"{base}/cpuinfo_{end}_freq", 0) for end in ("min", "max"))
        table = tuple(khz for khz in nodes.numbers(f"{base}/scaling_available_frequencies") if khz > 0)
        table = table or tuple(dict.fromkeys(khz for khz in (low, high) if khz > 0))
        if not cpus or not table or cpus[0] != int(match[1]):
            continue
        if seen & set(cpus) or len(table) > _MAX_TABLE:
            raise ValueError(f"{match[0]} contradicts other nodes")
        seen.update(cpus)
        governors = tuple(nodes.text(f"{base}/scaling_available_governors").split())
        governor = nodes.text(f"{base}/scaling_governor")
        capacity = max((nodes.number(f"{CPU_DIR}/cpu{cpu}/cpu_capacity", 0) for cpu in cpus), default=0)
        found.append(
            PolicySpec(
                cpus=cpus,
                table_khz=table,
                governors=governors or (governor or "schedutil",),
                governor=governor if governor in governors else "",
                driver=nodes.text(f"{base}/scaling_driver") or "captured",
                # The scheduler's own idea of speed where it is told, else every megahertz counts the same.
                work_per_mhz=1000 * capacity / max(table) if capacity else 1.0,
                cpuinfo_max_khz=high if high > max(table) else 0,
                limits_mode=nodes.mode(f"{base}/scaling_max_freq", 0o644),
            )
        )
    return tuple(found)


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
    return _mali(nodes)


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
        if 0 < len(table) <= _MAX_TABLE and not name.endswith(("kgsl-3d0", ".mali")):
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
