"""Mali GPUs: Samsung's Exynos platform driver and Google's Tensor one.

Exynos: gpu_custom_interface.c and gpu_dvfs_api.c (b_r19p0). Tensor: scaling_{min,max}_freq in kHz that take table
clocks only, beside a generic devfreq directory.
"""

import errno
from collections.abc import Callable

from virtualboards.kernel import devfreq
from virtualboards.kernel.devfreq import Devfreq
from virtualboards.kernel.gpu import Gpu
from virtualboards.kernel.nodes import Caller, Read, Tree, Write, fail
from virtualboards.kernel.spec import GpuSpec
from virtualboards.kernel.text import strict_int

_POLICIES = ("coarse_demand", "always_on")
# Stays powered so long after the last work.
_POWER_NS = 30_000_000
# time_in_state counts jiffies; these kernels run at 250 a second.
_JIFFY_NS = 4_000_000
KERNEL_DIR = "/sys/kernel/gpu"


class _Mali(Gpu):
    def __init__(self, spec: GpuSpec) -> None:
        super().__init__(spec)
        self.khz = tuple(hz // 1000 for hz in self.table)
        self.policy = _POLICIES[0]
        self.ns_in_state = dict.fromkeys(self.khz, 0)

    @property
    def powered(self) -> bool:
        """Is the power domain on?"""
        return self.policy == "always_on" or self.now_ns < self.busy_until_ns + _POWER_NS

    @property
    def utilisation(self) -> int:
        """Percent of the last step it was busy; 0 when powered down."""
        return round(100 * self.share) if self.powered else 0

    def account(self, dt_ns: int, busy_ns: int) -> None:
        """Count the time at each clock while powered."""
        on = dt_ns if self.policy == "always_on" else min(dt_ns, busy_ns + (_POWER_NS if busy_ns else 0))
        self.ns_in_state[self.loaded_hz // 1000] += on

    def time_in_state(self) -> str:
        """Clock (kHz) and jiffies, ascending."""
        return "".join(f"{khz} {ns // _JIFFY_NS}\n" for khz, ns in self.ns_in_state.items())

    def policies(self) -> str:
        """All power policies, the one in force in brackets."""
        return " ".join(f"[{name}]" if name == self.policy else name for name in _POLICIES) + "\n"

    def set_policy(self, text: str) -> None:
        """The user writes power_policy.

        Raises:
            OSError: EINVAL for a name that does not exist.
        """
        if text.strip() not in _POLICIES:
            raise fail(errno.EINVAL)
        self.policy = text.strip()


class ExynosMali(_Mali):
    """Samsung's driver: a fixed ``clock``, locks that read "locked / user", governors chosen by index. kHz."""

    def __init__(self, spec: GpuSpec) -> None:
        super().__init__(spec)
        self.dvfs, self.tmu = True, True
        self.governor = spec.governors.index(spec.governor)
        self.fixed = self.khz[0]
        # Locks by who set them (user_max_lock[] of the driver): the user, PM QoS.
        self.max_locks: dict[str, int] = {}
        self.min_locks: dict[str, int] = {}
        self.max_input, self.min_input = 0, 0
        self._before_fixed: tuple[str, bool] | None = None

    @property
    def max_lock(self) -> int:
        """The lowest of all upper locks, heat's included while ``tmu`` is on; 0 without any."""
        locks = list(self.max_locks.values())
        if self.tmu and self.cap_hz:
            locks.append(self.cap_hz // 1000)
        return min(locks, default=0)

    @property
    def min_lock(self) -> int:
        """The highest of all lower locks; 0 without any."""
        return max(self.min_locks.values(), default=0)

    @property
    def loaded_hz(self) -> int:
        """The clock of a busy GPU: fixed, or the highest the locks leave."""
        return (self._dvfs_clock(busy=True) if self.dvfs else self.fixed) * 1000

    @property
    def cur_hz(self) -> int:
        """The clock now."""
        return (self._dvfs_clock(self.busy) if self.dvfs else self.fixed) * 1000

    @property
    def shown_khz(self) -> int:
        """What ``clock`` reads: 0 when powered down."""
        return self.cur_hz // 1000 if self.powered else 0

    def _dvfs_clock(self, busy: bool) -> int:
        ceiling = self.max_lock or self.khz[-1]
        floor = self.min_lock or self.khz[0]
        # gpu_check_target_clock: the upper lock has the last word.
        return min(max(self.khz[-1] if busy else self.khz[0], floor), ceiling)

    def set_clock(self, text: str) -> None:
        """``clock``: fix it, with power always on, heat control and scaling off; 0 puts all that back.

        A clock that is not in the table leaves the driver's start clock fixed, without an error.

        Raises:
            OSError: ENOENT if it is no number.
        """
        khz = strict_int(text, errno.ENOENT)
        if self._before_fixed is None:
            self._before_fixed = (self.policy, self.tmu)
        if khz == 0:
            self.policy, self.tmu = self._before_fixed
            self.dvfs, self._before_fixed = True, None
            return
        self.policy, self.tmu = "always_on", False
        if self.dvfs:
            self.set_dvfs(on=False)
        if khz in self.khz:
            self.fixed = khz

    def set_dvfs(self, *, on: bool) -> None:
        """``dvfs``: without scaling the clock stays at the driver's start clock."""
        if self.dvfs and not on:
            self.fixed = self.khz[min(2, len(self.khz) - 1)]
        self.dvfs = on

    def lock(self, text: str, *, upper: bool, who: str = "user") -> None:
        """``dvfs_max_lock`` and ``dvfs_min_lock``: rounded down to the table; 0, or the table's end, unlocks.

        Without scaling the driver takes the value and ignores it.

        Raises:
            OSError: ENOENT below the table's lowest clock, or if it is no number.
        """
        khz = strict_int(text, errno.ENOENT)
        locks = self.max_locks if upper else self.min_locks
        if who == "user" and upper:
            self.max_input = khz
        elif who == "user":
            self.min_input = khz
        clock = max((one for one in self.khz if one <= khz), default=0)
        if khz and not clock:
            raise fail(errno.ENOENT)
        if not self.dvfs:
            return
        if khz == 0 or clock == (self.khz[-1] if upper else self.khz[0]):
            locks.pop(who, None)
        else:
            locks[who] = clock

    def shown_lock(self, *, upper: bool) -> str:
        """The clock locked and the user's wish ("433000 / 450000"), or -1 without a lock."""
        locked, asked = (self.max_lock, self.max_input) if upper else (self.min_lock, self.min_input)
        return f"{locked} / {asked}\n" if locked else "-1\n"


def install_exynos(tree: Tree, gpu: ExynosMali, temperature: Callable[[], float]) -> None:
    """Put the driver's nodes and /sys/kernel/gpu into the tree."""
    spec, base = gpu.spec, gpu.spec.path

    def switch(take: Callable[[bool], None]) -> Write:
        def write(text: str, _caller: Caller) -> None:
            if text.strip() in {"0", "1"}:  # anything else is only logged
                take(text.strip() == "1")

        return write

    def governor_by_index(text: str, _caller: Caller) -> None:
        index = strict_int(text, errno.ENOENT)
        if not 0 <= index < len(spec.governors):
            raise fail(errno.ENOENT)
        gpu.governor = index

    def governor_by_name(text: str, _caller: Caller) -> None:
        index = next((i for i, name in enumerate(spec.governors) if text.startswith(name)), None)
        if index is None:
            raise fail(errno.ENOENT)
        gpu.governor = index

    def current() -> str:
        return spec.governors[gpu.governor]

    def locker(upper: bool) -> Write:
        return lambda text, _caller: gpu.lock(text, upper=upper)

    def shown_limit(upper: bool) -> str:
        lock, end = (gpu.max_lock, gpu.khz[-1]) if upper else (gpu.min_lock, gpu.khz[0])
        return f"{lock or end}\n"

    def set_tmu(on: bool) -> None:
        gpu.tmu = on

    device: dict[str, tuple[Read, Write | None]] = {
        "clock": (lambda: f"{gpu.shown_khz}\n", lambda text, _caller: gpu.set_clock(text)),
        "dvfs": (lambda: f"{int(gpu.dvfs)}\n", switch(lambda on: gpu.set_dvfs(on=on))),
        "dvfs_table": (lambda: "".join(f" {khz}" for khz in gpu.khz[::-1]) + "\n", None),
        "dvfs_governor": (
            lambda: "".join(f"{name}\n" for name in spec.governors) + f"[Current Governor] {current()}\n",
            governor_by_index,
        ),
        "dvfs_max_lock": (lambda: gpu.shown_lock(upper=True), locker(upper=True)),
        "dvfs_min_lock": (lambda: gpu.shown_lock(upper=False), locker(upper=False)),
        "utilization": (lambda: f"{gpu.utilisation}\n", None),
        "time_in_state": (gpu.time_in_state, lambda _text, _caller: _clear(gpu.ns_in_state)),
        "power_state": (lambda: f"{int(gpu.powered)}\n", None),
        "power_policy": (gpu.policies, lambda text, _caller: gpu.set_policy(text)),
        "tmu": (lambda: f"{int(gpu.tmu)}\n", switch(set_tmu)),
        "cl_boost_disable": (lambda: "0\n", lambda _text, _caller: None),
    }
    kernel: dict[str, tuple[Read, Write | None]] = {
        "gpu_max_clock": (lambda: shown_limit(upper=True), locker(upper=True)),
        "gpu_min_clock": (lambda: shown_limit(upper=False), locker(upper=False)),
        "gpu_clock": (lambda: f"{gpu.shown_khz}\n", None),
        "gpu_busy": (lambda: f"{gpu.utilisation:3d}%\n", None),
        "gpu_freq_table": (lambda: "".join(f"{khz} " for khz in gpu.khz) + "\n", None),
        "gpu_governor": (lambda: f"{current()}\n", governor_by_name),
        "gpu_available_governor": (lambda: "".join(f"{name} " for name in spec.governors) + "\n", None),
        # The driver's list of names ends before the G76.
        "gpu_model": (lambda: "(Unknown Mali GPU)\n", None),
        "gpu_tmu": (lambda: f"{temperature():.1f}\n", None),
    }
    for place, nodes in ((base, device), (KERNEL_DIR, kernel)):
        for name, (read, write) in nodes.items():
            tree.file(f"{place}/{name}", read, write, owner=spec.owner)


def _clear(times: dict[int, int]) -> None:
    for khz in times:
        times[khz] = 0


class TensorMali(_Mali):
    """Google's driver; its scaling limits and those of the devfreq directory hold both."""

    def __init__(self, spec: GpuSpec, version: tuple[int, int]) -> None:
        super().__init__(spec)
        self.devfreq = Devfreq(self.table, spec.governor, spec.governors, version)
        self.low, self.high = self.khz[0], self.khz[-1]

    @property
    def loaded_hz(self) -> int:
        """The clock of a busy GPU."""
        return self._clamped(self.devfreq.target(busy=True))

    @property
    def cur_hz(self) -> int:
        """The clock now."""
        return self._clamped(self.devfreq.target(self.busy))

    def account(self, dt_ns: int, busy_ns: int) -> None:
        """Count time at the clock."""
        super().account(dt_ns, busy_ns)
        self.devfreq.account(dt_ns, self.busy)

    def set_limit(self, text: str, *, upper: bool) -> None:
        """``scaling_max_freq`` and ``scaling_min_freq``, in kHz.

        Raises:
            OSError: EINVAL for a clock that is not in the table.
        """
        khz = strict_int(text)
        if khz not in self.khz:
            raise fail(errno.EINVAL)
        if upper:
            self.high = khz
        else:
            self.low = khz

    def _clamped(self, hz: int) -> int:
        return self.capped(min(max(hz, self.low * 1000), self.high * 1000))


def install_tensor(tree: Tree, gpu: TensorMali) -> None:
    """Put the driver's nodes and its devfreq directory into the tree."""
    base = gpu.spec.path
    nodes: dict[str, tuple[Read, Write | None]] = {
        "scaling_min_freq": (lambda: f"{gpu.low}\n", lambda text, _caller: gpu.set_limit(text, upper=False)),
        "scaling_max_freq": (lambda: f"{gpu.high}\n", lambda text, _caller: gpu.set_limit(text, upper=True)),
        "cur_freq": (lambda: f"{gpu.cur_hz // 1000 if gpu.powered else 0}\n", None),
        "available_frequencies": (lambda: "".join(f"{khz} " for khz in gpu.khz) + "\n", None),
        "utilization": (lambda: f"{gpu.utilisation}\n", None),
        "time_in_state": (gpu.time_in_state, None),
        "power_policy": (gpu.policies, lambda text, _caller: gpu.set_policy(text)),
        "gpuinfo": (lambda: f"{gpu.spec.model} 20 cores r0p1 0x9002\n", None),
    }
    for name, (read, write) in nodes.items():
        tree.file(f"{base}/{name}", read, write, owner=gpu.spec.owner)
    if gpu.spec.devfreq:
        order = gpu.spec.devfreq_ascending
        devfreq.install(tree, gpu.spec.devfreq, gpu.devfreq, base, ascending=order, current=lambda: gpu.cur_hz)
