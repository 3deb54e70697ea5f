"""What a virtual board is made of, as data: ``virtualboards/kinds/<kind>.toml``.

Only the standard library is used here and in the rest of this package: fifty boards on a small machine have to fit.
"""

import types
import typing
from collections.abc import Hashable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from devicelab.errors import ConfigError
from devicelab.ground import toml
from devicelab.ground.registry import unknown

KINDS_DIR = Path(__file__).resolve().parent.parent / "kinds"

Su = Literal["none", "magisk", "su-0", "adb-root"]


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """One cpufreq policy (a CPU cluster).

    Attributes:
        cpus: its CPUs; policyN is named after the first.
        core: core type for people and /proc/cpuinfo ("Cortex-A76").
        implementer, part: as /proc/cpuinfo prints them.
        table_khz: frequencies in the order the device lists them.
        governors: in the order the device lists them; the first governor is in force after boot unless ``governor``.
        driver: scaling_driver.
        work_per_mhz: known truth: work units per second and MHz (CoreMark iterations).
        half_speed_khz: table entries that run at half of what their label says.
        min_mw, max_mw: power of one busy CPU at the lowest and at the highest frequency.
        cpuinfo_max_khz: where it differs from the table's highest (boost entries that are not listed).
        limits_mode: permission bits of scaling_{min,max}_freq and scaling_governor.
        limits_owner: owner of these nodes (1000 is Android's ``system``).
        nodes: False on a board without cpufreq: the CPUs run at one frequency that shows nowhere.
    """

    cpus: tuple[int, ...]
    table_khz: tuple[int, ...]
    core: str = "CPU"
    implementer: str = "0x41"
    part: str = "0xd05"
    governors: tuple[str, ...] = ("schedutil",)
    governor: str = ""
    driver: str = "cpufreq-dt"
    work_per_mhz: float = 1.0
    half_speed_khz: tuple[int, ...] = ()
    min_mw: float = 30.0
    max_mw: float = 300.0
    cpuinfo_max_khz: int = 0
    limits_mode: int = 0o644
    limits_owner: int = 0
    nodes: bool = True

    @property
    def name(self) -> str:
        """``policy4``."""
        return f"policy{self.cpus[0]}"

    @property
    def sorted_khz(self) -> tuple[int, ...]:
        """The table, ascending."""
        return tuple(sorted(self.table_khz))

    def work_per_s(self, khz: int) -> float:
        """Known truth: work one CPU of this policy does per second at a table frequency."""
        return self.work_per_mhz * khz / 1000 * (0.5 if khz in self.half_speed_khz else 1.0)


@dataclass(frozen=True, slots=True)
class CoreCtlSpec:
    """A cluster under Qualcomm's core_ctl: the first CPU carries the nodes."""

    cpu: int
    min_cpus: int
    enable: bool = True
    busy_up_pct: int = 60
    busy_down_pct: int = 30
    delay_ms: int = 100
    task_thres: int = 0


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """The GPU: which driver's nodes it has, its clocks in Hz (device order) and their place.

    ``family``: ``kgsl`` (Adreno), ``mali-exynos``, ``mali-tensor`` (scaling_* nodes and devfreq), ``mediatek``
    (/proc/gpufreqv2) or ``devfreq`` (that alone).
    """

    family: Literal["kgsl", "mali-exynos", "mali-tensor", "mediatek", "devfreq"]
    model: str
    table_hz: tuple[int, ...]
    path: str
    devfreq: str = ""
    devfreq_ascending: bool = True
    governor: str = ""
    governors: tuple[str, ...] = ()
    max_mw: float = 2500.0
    heats: str = "gpu"
    owner: int = 0

    @property
    def sorted_hz(self) -> tuple[int, ...]:
        """The clocks, ascending."""
        return tuple(sorted(self.table_hz))


@dataclass(frozen=True, slots=True)
class DevfreqSpec:
    """Another device under /sys/class/devfreq: a memory bus."""

    name: str
    table: tuple[int, ...]
    governor: str
    governors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MassSpec:
    """A lump of heat: what heats it, how much (degrees per watt) and how fast (seconds).

    ``sources``: policy names, ``gpu``; ``base``: the mass it sits on ("" is the surrounding air); ``idle_w``: what
    always heats it.
    """

    name: str
    sources: tuple[str, ...] = ()
    c_per_w: float = 10.0
    tau_s: float = 4.0
    base: str = "board"
    idle_w: float = 0.0


@dataclass(frozen=True, slots=True)
class ZoneSpec:
    """Thermal zones: ``types`` (in order of their numbers), the mass they measure, an offset, trips and what they cool.

    ``empty`` zones exist but their temp reads as nothing, as some do on phones. ``trip_c``/``hysteresis_c`` with
    ``cools`` (policy names or ``gpu``) make the zone throttle these, one step a poll; above ``hotplug_c`` (if set) the
    policies' CPUs are taken offline until ten degrees below. ``scale``: units of ``temp`` in a degree; ``number``: of
    the (first) zone, where it is not simply the next one.
    """

    types: tuple[str, ...]
    mass: str = "board"
    offset_c: float = 0.0
    spread_c: float = 0.0
    scale: int = 1000
    empty: bool = False
    trip_c: float = 0.0
    hysteresis_c: float = 4.0
    critical_c: float = 115.0
    hotplug_c: float = 0.0
    cools: tuple[str, ...] = ()
    policy: str = "step_wise"
    number: int = -1


@dataclass(frozen=True, slots=True)
class DaemonSpec:
    """A vendor service that writes limits behind everybody's back while it runs.

    Every ``period_s`` it writes ``writes`` (path → text) with the rights of ``uid``, where they differ from what it
    would read; with ``respawn_s`` > 0 a stopped service is back after that time. With a ``mass`` it acts only while
    that is hotter than ``above_c``.
    """

    name: str
    writes: dict[str, str] = field(default_factory=dict)
    period_s: float = 2.0
    uid: int = 0
    running: bool = True
    respawn_s: float = 0.0
    mass: str = ""
    above_c: float = 0.0


@dataclass(frozen=True, slots=True)
class StaticSpec:
    """A file that holds what is written to it: text, permission bits, owner.

    ``error``: the errno reading it gives instead; ``target``: it is a link there.
    """

    text: str = ""
    mode: int = 0o444
    owner: int = 0
    error: int = 0
    target: str = ""


@dataclass(frozen=True, slots=True)
class PowerSpec:
    """What feeds a board, and how its gauges tell it.

    Attributes:
        idle_w: drawn beside CPUs and GPU.
        plugged: a charger is at it after boot.
        suspend: nodes of the battery that keep the charger from the board (``input_suspend``, ``batt_slate_mode``) or
            from the battery (``charging_enabled``).
        milli: ``current_now`` is in mA instead of uA.
        positive: ``current_now`` is positive while discharging.
        gauge_ms: how often the gauge measures.
        monitors: there are monitors of single rails.
    """

    idle_w: float = 1.0
    plugged: bool = True
    suspend: tuple[str, ...] = ("input_suspend",)
    milli: bool = False
    positive: bool = False
    gauge_ms: int = 0
    monitors: bool = False


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """Known truth about kernel launches: cost of a flush, start-up of an idle GPU, gap between batches (ns)."""

    flush_ns: int = 12_000
    start_idle_ns: int = 30_000
    gap_ns: int = 8_000


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known to be true of a board, to check measurements against."""

    policies: tuple[PolicySpec, ...]
    gpu_hz: tuple[int, ...]
    launch: LaunchSpec

    @property
    def fastest_work_per_s(self) -> float:
        """Work per second of the fastest CPU at its highest frequency: 100 percent time."""
        return max(policy.work_per_s(khz) for policy in self.policies for khz in policy.table_khz)

    def cpu_time_pct(self, cpu: int, khz: int) -> float:
        """Time the CPU needs for a piece of work at that frequency, in percent of the fastest CPU's at its highest."""
        policy = next(policy for policy in self.policies if cpu in policy.cpus)
        return 100 * self.fastest_work_per_s / policy.work_per_s(khz)

    def gpu_time_pct(self, hz: int) -> float:
        """Time a kernel needs at that GPU clock, in percent of its time at the highest clock."""
        return 100 * max(self.gpu_hz) / hz if self.gpu_hz else 100.0


@dataclass(frozen=True, slots=True)
class BoardSpec:
    """A kind of virtual board; see the parts.

    Attributes:
        kernel: release as ``uname -r`` prints it; its first two numbers choose the cpufreq rules.
        offline: CPUs that are offline after boot.
        has_capacity: the scheduler tells cpu_capacity (Linux 4.14 and later, with a device tree that says it).
        qualcomm_sched: affinity calls know isolated CPUs (the vendor's 4.14 scheduler).
        exynos_qos: /sys/power/cpufreq_* and the PM-QoS devices under /dev exist.
        tunables: governor → tunables directory (name → text); ``per_policy_tunables`` tells where they lie.
        cpusets: cpuset → its CPUs as a list.
        present: further files and directories (path → text and mode), as captured or noted.
    """

    kind: str
    title: str
    policies: tuple[PolicySpec, ...]
    kernel: str = "4.14.113"
    abi: str = "arm64-v8a"
    has_shell_v2: bool = True
    su: Su = "none"
    props: dict[str, str] = field(default_factory=dict)
    services: dict[str, bool] = field(default_factory=dict)
    memory_mb: int = 8192
    ambient_c: float = 25.0
    offline: tuple[int, ...] = ()
    has_capacity: bool = True
    qualcomm_sched: bool = False
    exynos_qos: bool = False
    tunables: dict[str, dict[str, str]] = field(default_factory=dict)
    per_policy_tunables: bool = False
    core_ctl: tuple[CoreCtlSpec, ...] = ()
    gpu: GpuSpec | None = None
    devfreq: tuple[DevfreqSpec, ...] = ()
    masses: tuple[MassSpec, ...] = (MassSpec("board", c_per_w=8.0, tau_s=120.0, base=""),)
    zones: tuple[ZoneSpec, ...] = ()
    daemons: tuple[DaemonSpec, ...] = ()
    cpusets: dict[str, str] = field(default_factory=dict)
    stune: tuple[str, ...] = ()
    uclamp: tuple[str, ...] = ()
    idle_states: tuple[str, ...] = ()
    present: dict[str, StaticSpec] = field(default_factory=dict)
    launch: LaunchSpec = LaunchSpec()
    power: PowerSpec = PowerSpec()
    sources: tuple[str, ...] = ()

    @property
    def cpus(self) -> tuple[int, ...]:
        """All CPUs, ascending."""
        return tuple(sorted(cpu for policy in self.policies for cpu in policy.cpus))

    @property
    def version(self) -> tuple[int, int]:
        """First two numbers of the kernel release."""
        major, minor = self.kernel.split(".")[:2]
        return int(major), int("".join(char for char in minor if char.isdigit()) or 0)

    @property
    def truth(self) -> Truth:
        """What is known to be true of this board."""
        return Truth(self.policies, self.gpu.table_hz if self.gpu else (), self.launch)


T = TypeVar("T")


def build(kind: type[T], data: Any, where: str) -> T:
    """A spec dataclass from parsed TOML: lists become tuples, tables become parts, unknown keys are errors.

    Raises:
        ConfigError: a key is unknown or missing, or a value is of another type; names the place.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: a table is expected, not {data!r}")
    hints = _hints(typing.cast("Hashable", kind))
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]  # a dataclass by construction
    wrong = [key for key in data if key not in known]
    if wrong:
        raise unknown(f"key in {where}", wrong[0], tuple(known))
    values = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in data.items()}
    missing = [n for n, i in known.items() if n not in values and i.default is MISSING and i.default_factory is MISSING]
    if missing:
        raise ConfigError(f"{where}: {missing[0]!r} is missing")
    return kind(**values)


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(args[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _convert(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is types.UnionType:
        return _convert(next(arg for arg in args if arg is not type(None)), value, where)
    if origin is Literal and value in args:
        return value
    if isinstance(hint, type) and is_dataclass(hint):
        return build(hint, value, where)
    if hint is float and type(value) in {int, float}:
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise ConfigError(f"{where}: {value!r} is not a {getattr(hint, '__name__', hint)}")


def kind_names() -> tuple[str, ...]:
    """Names of the kinds there are."""
    return tuple(sorted(path.stem for path in KINDS_DIR.glob("*.toml")))


def load_spec(kind: str) -> BoardSpec:
    """The spec of a kind of virtual board.

    Raises:
        ConfigError: there is no such kind, or its file is wrong.
    """
    if kind not in kind_names():
        raise unknown("kind of virtual board", kind, kind_names())
    data = toml.read(KINDS_DIR / f"{kind}.toml")
    return build(BoardSpec, {"kind": kind, **data}, f"{kind}.toml")
