"""Adreno under the kgsl driver: power levels (0 is the fastest) that are clamped silently, never refused.

By drivers/gpu/msm/kgsl_pwrctrl.c of 4.14 vendor kernels; the names of the nodes and their oddities are the driver's.
"""

import errno
from collections.abc import Callable

from virtualboards.kernel import devfreq
from virtualboards.kernel.devfreq import Devfreq
from virtualboards.kernel.gpu import Gpu
from virtualboards.kernel.nodes import Caller, Read, Tree, Write, fail
from virtualboards.kernel.spec import GpuSpec
from virtualboards.kernel.text import strict_int

_NEAR_HZ = 5_000_000
_MHZ = 1_000_000
# A full thermal cycle is a fifth of a second; its parts are counted in jiffies of 10 ms (TH_HZ = HZ/5).
_CYCLE_JIFFIES = 20
_JIFFY_NS = 10_000_000
_STATS_US = 1_000_000
_FLAGS = {"force_clk_on": 0, "force_bus_on": 0, "force_rail_on": 0, "force_no_nap": 0, "bus_split": 1, "popp": 0}
# Links in /sys/kernel/gpu (link_names of the driver).
_KERNEL_GPU = {
    "gpu_model": "gpu_model",
    "gpu_busy": "gpu_busy_percentage",
    "gpu_min_clock": "min_clock_mhz",
    "gpu_max_clock": "max_clock_mhz",
    "gpu_clock": "clock_mhz",
    "gpu_freq_table": "freq_table_mhz",
    "gpu_tmu": "temp",
}


class Kgsl(Gpu):
    """The driver's state; ``levels`` are the clocks in Hz, fastest first."""

    def __init__(self, spec: GpuSpec, version: tuple[int, int]) -> None:
        super().__init__(spec)
        self.levels = self.table[::-1]
        self.last = len(self.levels) - 1
        self.max_level, self.min_level, self.default_level = 0, self.last, self.last
        self.written_thermal, self.limit_level = 0, 0
        self.cycle_jiffies = 0
        self.idle_ms = 80
        self.flags = dict(_FLAGS)
        self.scaling = 1
        self.devfreq = Devfreq(self.table, spec.governor, spec.governors, version)
        self.level = self.last
        self.active_us = [0] * len(self.levels)
        self._total_us = self._busy_us = 0
        self._shown = (0, 0)
        self.settle()

    @property
    def thermal_level(self) -> int:
        """The fastest level heat and ``max_gpuclk`` leave."""
        heat = self._level_at(self.cap_hz) if self.cap_hz else 0
        level = max(heat, self.limit_level, self.written_thermal)
        if self.cycle_jiffies and level == self.limit_level:
            phase = self.now_ns // _JIFFY_NS % _CYCLE_JIFFIES
            level += phase >= _CYCLE_JIFFIES - self.cycle_jiffies
        return min(level, self.last)

    @property
    def slumbers(self) -> bool:
        """Has it been idle for longer than ``idle_timer``?"""
        return self.now_ns - self.busy_until_ns >= self.idle_ms * 1_000_000

    @property
    def loaded_hz(self) -> int:
        """The clock of a busy GPU."""
        return self.levels[self._wanted(busy=True)]

    @property
    def cur_hz(self) -> int:
        """The clock of the level in force, whether asleep or not."""
        return self.levels[self.level]

    @property
    def max_clock(self) -> int:
        """What ``max_gpuclk`` shows: the thermal level's clock, or the mean of the two it alternates between."""
        if not self.cycle_jiffies:
            return self.levels[self.thermal_level]
        high, low = self.levels[self.limit_level], self.levels[min(self.limit_level + 1, self.last)]
        part = self.cycle_jiffies * (low // _CYCLE_JIFFIES)
        return part + (_CYCLE_JIFFIES - self.cycle_jiffies) * (high // _CYCLE_JIFFIES)

    def touch(self, now_ns: int) -> None:
        """A program begins an inference."""
        super().touch(now_ns)
        self.settle()

    def account(self, dt_ns: int, busy_ns: int) -> None:
        """Count active time by level, and the busy statistics, which stand still in slumber."""
        self.active_us[self._wanted(busy=True)] += busy_ns // 1000
        self.devfreq.account(dt_ns, self.busy)
        if not self.slumbers or busy_ns:
            self._total_us += dt_ns // 1000
            self._busy_us += busy_ns // 1000
        if self._total_us >= _STATS_US:
            self._shown = (self._busy_us, self._total_us)
            self._total_us = self._busy_us = 0
        self.settle()

    def settle(self) -> None:
        """Choose the level again, after load or limits changed."""
        self.level = self._adjust(self.level) if not self.scaling else self._wanted(self.busy)

    def nearest(self, hz: int) -> int | None:
        """The slowest level whose clock is within 5 MHz."""
        near = [level for level, clock in enumerate(self.levels) if abs(clock - hz) < _NEAR_HZ]
        return near[-1] if near else None

    def set_max_clock(self, hz: int) -> None:
        """``max_gpuclk``: a clock of the table limits to its level; one between two makes it alternate between them."""
        level, jiffies = self.nearest(hz), 0
        if level is None:
            if not self.levels[-1] < hz < self.levels[0]:
                return
            level = next(index for index in range(self.last) if self.levels[index] > hz > self.levels[index + 1])
            high = self.levels[level]
            jiffies = (high - hz) * _CYCLE_JIFFIES // (high - self.levels[level + 1])
        self.limit_level, self.cycle_jiffies = level, jiffies
        self.settle()

    def set_min_level(self, level: int) -> None:
        """``min_pwrlevel``: clamped to the table and to ``max_pwrlevel``."""
        self.min_level = max(min(level, self.last), self.max_level)
        self.settle()

    def set_max_level(self, level: int) -> None:
        """``max_pwrlevel``: clamped to ``min_pwrlevel``."""
        self.max_level = min(level, self.min_level)
        self.settle()

    def ask(self, hz: int) -> None:
        """``gpuclk``: a clock within 5 MHz of a level is set now (the governor may move on), any other is ignored."""
        level = self.nearest(hz)
        if level is not None:
            self.level = self._adjust(level)

    def busy_statistics(self) -> tuple[int, int]:
        """Busy and total microseconds of the last full second; zero after being read while the GPU sleeps."""
        shown = self._shown
        if self.slumbers:
            self._shown = (0, 0)
        return shown

    def _wanted(self, busy: bool) -> int:
        return self._adjust(self._level_at(self.devfreq.target(busy)))

    def _level_at(self, hz: int) -> int:
        # The fastest level at or below that clock.
        return next((level for level, clock in enumerate(self.levels) if clock <= hz), self.last)

    def _adjust(self, level: int) -> int:
        # _adjust_pwrlevel(): heat and the user's ends, heat first.
        fastest = min(max(self.thermal_level, self.max_level), self.last)
        slowest = max(self.min_level, self.thermal_level)
        return fastest if level < fastest else min(level, slowest)


def install(tree: Tree, gpu: Kgsl, temperature: Callable[[], float]) -> None:
    """Put the nodes of the driver, its devfreq directory and /sys/kernel/gpu into the tree."""
    spec = gpu.spec
    home = f"/sys/devices/platform/soc/{spec.devfreq}"
    base = f"{home}/kgsl/kgsl-3d0"
    for name, (read, write) in _nodes(gpu, temperature).items():
        tree.file(f"{base}/{name}", read, write)
    order = spec.devfreq_ascending
    devfreq.install(tree, spec.devfreq, gpu.devfreq, home, ascending=order, current=lambda: gpu.cur_hz)
    tree.link(f"{base}/devfreq", f"{home}/devfreq/{spec.devfreq}")
    tree.link(spec.path, base)
    for name, target in _KERNEL_GPU.items():
        tree.link(f"/sys/kernel/gpu/{name}", f"{base}/{target}")
    # kgsl_pwrscale_init links two of devfreq's files as well.
    for name, target in (("gpu_governor", "governor"), ("gpu_available_governor", "available_governors")):
        tree.link(f"/sys/kernel/gpu/{name}", f"{home}/devfreq/{spec.devfreq}/{target}")


def _unsigned(text: str) -> int:
    # As kgsl_sysfs_store reads numbers.
    value = strict_int(text)
    if value < 0:
        raise fail(errno.EINVAL)
    return value


def _nodes(gpu: Kgsl, temperature: Callable[[], float]) -> dict[str, tuple[Read, Write | None]]:
    def store(take: Callable[[int], object]) -> Write:
        def write(text: str, _caller: Caller) -> None:
            take(_unsigned(text))
            gpu.settle()

        return write

    def attribute(name: str, clamp: Callable[[int], int] = lambda value: value) -> tuple[Read, Write]:
        return lambda: f"{getattr(gpu, name)}\n", store(lambda value: setattr(gpu, name, clamp(value)))

    def flag(name: str) -> tuple[Read, Write]:
        def take(value: int) -> None:
            gpu.flags[name] = int(value != 0)

        return lambda: f"{gpu.flags[name]}\n", store(take)

    def ask(text: str, _caller: Caller) -> None:
        gpu.ask(_unsigned(text))  # not settled: the governor moves on at the next busy moment

    def percentage() -> str:
        busy, total = gpu.busy_statistics()
        return f"{100 * busy // total if total else 0} %\n"

    def default(level: int) -> None:
        gpu.default_level = level if level <= gpu.last else gpu.default_level

    def minimum_mhz(value: int) -> None:
        level = gpu.nearest(value * _MHZ)
        if level is not None:
            gpu.set_min_level(level)

    def listed(clocks: tuple[int, ...]) -> str:
        return "".join(f"{clock} " for clock in clocks) + "\n"

    mhz = tuple(clock // _MHZ for clock in gpu.levels)
    nodes: dict[str, tuple[Read, Write | None]] = {
        "gpu_model": (lambda: f"{gpu.spec.model}\n", None),
        "gpuclk": (lambda: f"{0 if gpu.slumbers else gpu.cur_hz}\n", ask),
        "max_gpuclk": (lambda: f"{gpu.max_clock}\n", store(gpu.set_max_clock)),
        "num_pwrlevels": (lambda: f"{len(gpu.levels)}\n", None),
        "max_pwrlevel": (lambda: f"{gpu.max_level}\n", store(gpu.set_max_level)),
        "min_pwrlevel": (lambda: f"{gpu.min_level}\n", store(gpu.set_min_level)),
        "thermal_pwrlevel": (
            lambda: f"{gpu.thermal_level}\n",
            store(lambda value: setattr(gpu, "written_thermal", min(value, gpu.last))),
        ),
        "default_pwrlevel": (lambda: f"{gpu.default_level}\n", store(default)),
        "idle_timer": attribute("idle_ms"),
        "pwrscale": attribute("scaling", lambda value: int(value != 0)),
        "gpubusy": (lambda: "{:7d} {:7d}\n".format(*gpu.busy_statistics()), None),
        "gpu_busy_percentage": (percentage, None),
        "gpu_available_frequencies": (lambda: listed(gpu.levels), None),
        "gpu_clock_stats": (lambda: "".join(f"{us} " for us in gpu.active_us) + "\n", None),
        "freq_table_mhz": (lambda: listed(mhz), None),
        "min_clock_mhz": (lambda: f"{gpu.levels[gpu.min_level] // _MHZ}\n", store(minimum_mhz)),
        "max_clock_mhz": (lambda: f"{gpu.max_clock // _MHZ}\n", store(lambda v: gpu.set_max_clock(v * _MHZ))),
        "clock_mhz": (lambda: f"{gpu.cur_hz // _MHZ}\n", None),
        "temp": (lambda: f"{round(temperature() * 1000)}\n", None),
        "throttling": (lambda: "1\n", lambda _text, _caller: None),
        "reset_count": (lambda: "0\n", None),
    }
    return nodes | {name: flag(name) for name in _FLAGS}
