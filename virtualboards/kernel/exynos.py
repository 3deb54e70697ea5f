"""Samsung's Exynos extras: /sys/power/cpufreq_*, /sys/power/cpuhp, and the PM-QoS devices under /dev.

By drivers/cpufreq/exynos-ufc.c and kernel/power/qos.c of 4.14 vendor kernels. One scale covers all clusters: the
biggest cluster's frequencies stand as they are, the next one's divided by 8, the little one's by 64. A request on one
cluster frees the smaller ones (max) or drives them to their top (min); a maximum below a cluster's lowest frequency
takes all its CPUs offline.
"""

import errno
import struct
from collections.abc import Callable

from virtualboards.kernel.cpufreq import Policy
from virtualboards.kernel.gpu import Gpu
from virtualboards.kernel.mali import ExynosMali
from virtualboards.kernel.nodes import Caller, Tree, fail
from virtualboards.kernel.text import scan_int, strict_int

_SHIFT = 3
_POWER = "/sys/power"


class CombinedLimits:
    """The user's limits on the combined scale. ``plug(cpu, online)`` brings CPUs up and down."""

    def __init__(self, policies: tuple[Policy, ...], plug: Callable[[int, bool], None]) -> None:
        self._domains, self._plug = policies[::-1], plug

    def table(self) -> str:
        """All frequencies on the combined scale, biggest cluster first."""
        parts = [
            str(khz >> (place * _SHIFT))
            for place, policy in enumerate(self._domains)
            for khz in sorted(policy.table, reverse=True)
        ]
        return " ".join(parts) + "\n"

    def show_max(self) -> str:
        """The maximum of the biggest cluster that is not turned off."""
        for place, policy in enumerate(self._domains):
            asked = min((high for _low, high in policy.requests.values()), default=policy.highest)
            if asked > 0:
                return f"{max(min(asked, policy.highest), policy.lowest) >> (place * _SHIFT)}\n"
        return f"{self._domains[-1].lowest >> ((len(self._domains) - 1) * _SHIFT)}\n"

    def show_min(self) -> str:
        """The minimum of the biggest cluster."""
        policy = self._domains[0]
        asked = max((low for low, _high in policy.requests.values()), default=0)
        return f"{max(min(asked, policy.highest), policy.lowest)}\n"

    def set_max(self, text: str) -> None:
        """``cpufreq_max_limit``; -1 clears.

        Raises:
            OSError: EINVAL without a number.
        """
        wanted, done = scan_int(text), False
        for place, policy in enumerate(self._domains):
            khz = wanted << (place * _SHIFT)
            if done or wanted < 0:
                policy.request("ufc-max")
                if wanted < 0:
                    self._plug_all(policy, online=True)
            elif khz < policy.lowest:
                policy.request("ufc-max", high=0)
                self._plug_all(policy, online=False)
            else:
                self._plug_all(policy, online=True)
                policy.request("ufc-max", high=khz)
                done = True

    def set_min(self, text: str) -> None:
        """``cpufreq_min_limit``; -1 clears. Clusters that are offline are passed over.

        Raises:
            OSError: EINVAL without a number.
        """
        wanted, done = scan_int(text), False
        for place, policy in enumerate(self._domains):
            if not policy.online_cpus:
                continue
            khz = wanted << (place * _SHIFT)
            if done:
                policy.request("ufc-min", low=policy.highest)
            elif wanted < 0 or khz < policy.lowest:
                policy.request("ufc-min")
            else:
                policy.request("ufc-min", low=min(khz, policy.highest))
                done = True

    def _plug_all(self, policy: Policy, *, online: bool) -> None:
        if policy is not self._domains[-1]:  # the first domain always stays
            for cpu in policy.spec.cpus:
                self._plug(cpu, online)


def install(tree: Tree, policies: tuple[Policy, ...], gpu: Gpu | None, plug: Callable[[int, bool], None]) -> None:
    """Put all of it into the tree."""
    limits = CombinedLimits(policies, plug)
    tree.file(f"{_POWER}/cpufreq_table", limits.table)
    tree.file(f"{_POWER}/cpufreq_max_limit", limits.show_max, lambda text, _caller: limits.set_max(text))
    for name in ("cpufreq_min_limit", "cpufreq_min_limit_wo_boost"):
        tree.file(f"{_POWER}/{name}", limits.show_min, lambda text, _caller: limits.set_min(text))
    mask = [sum(1 << cpu for policy in policies for cpu in policy.spec.cpus)]

    def set_online_cpus(text: str, _caller: Caller) -> None:
        mask[0] = strict_int(text if text.startswith("0x") else f"0x{text}")
        for policy in policies:
            for cpu in policy.spec.cpus:
                if cpu:
                    plug(cpu, bool(mask[0] >> cpu & 1))

    tree.file(f"{_POWER}/cpuhp/set_online_cpu", lambda: f"0x{mask[0]:x}\n", set_online_cpus)
    for index, policy in enumerate(policies):
        _qos_device(tree, f"/dev/cluster{index}_freq_min", lambda p=policy: p.min, _cpu_request(policy, upper=False))  # type: ignore[misc]
        _qos_device(tree, f"/dev/cluster{index}_freq_max", lambda p=policy: p.max, _cpu_request(policy, upper=True))  # type: ignore[misc]
    if isinstance(gpu, ExynosMali):
        _qos_device(tree, "/dev/gpu_freq_min", lambda: gpu.min_lock or gpu.khz[0], _gpu_request(gpu, upper=False))
        _qos_device(tree, "/dev/gpu_freq_max", lambda: gpu.max_lock or gpu.khz[-1], _gpu_request(gpu, upper=True))


Request = Callable[[str, int | None], None]


def _cpu_request(policy: Policy, *, upper: bool) -> Request:
    def request(who: str, khz: int | None) -> None:
        policy.request(who, high=khz) if upper else policy.request(who, low=khz)

    return request


def _gpu_request(gpu: ExynosMali, *, upper: bool) -> Request:
    def request(who: str, khz: int | None) -> None:
        gpu.lock(str(min(max(khz, gpu.khz[0]), gpu.khz[-1]) if khz else 0), upper=upper, who=who)

    return request


def _qos_device(tree: Tree, path: str, show: Callable[[], int], request: Request) -> None:
    """A request lives as long as the file it was written to is open; its text is hexadecimal, or four raw bytes."""

    def write(text: str, caller: Caller) -> None:
        raw = text.encode("utf-8", "surrogateescape")
        value = struct.unpack("<i", raw)[0] if len(raw) == 4 else _hexadecimal(text)
        request(f"{path}:{caller.handle}", value)

    def close(caller: Caller) -> None:
        request(f"{path}:{caller.handle}", None)

    tree.file(path, lambda: struct.pack("<i", show()), write, mode=0o660, owner=1000, close=close)


def _hexadecimal(text: str) -> int:
    # kstrtos32_from_user(buf, count, 16): hexadecimal with or without 0x, so decimal digits mean something else.
    word = text.removesuffix("\n")
    try:
        value = int(word, 16)
    except ValueError:
        raise fail(errno.EINVAL) from None
    if not -(1 << 31) <= value < 1 << 31 or "_" in word or word != word.strip():
        raise fail(errno.EINVAL)
    return value
