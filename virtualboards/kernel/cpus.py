"""Which CPUs are there: hotplug (``cpuN/online``), isolation, and the nodes that come and go with a CPU."""

import errno
from collections.abc import Callable

from virtualboards.kernel.cpufreq import CPU_DIR
from virtualboards.kernel.nodes import Caller, Tree, fail
from virtualboards.kernel.spec import BoardSpec
from virtualboards.kernel.text import cpu_ranges, scan_bool, scan_u32


class Cpus:
    """The CPUs of a board: possible, online, isolated.

    ``changed`` is called after a CPU came, went, was isolated or freed. A CPU may be isolated by several parties
    (core_ctl, a fault); it is free when all of them let go.
    """

    def __init__(self, spec: BoardSpec) -> None:
        self.spec = spec
        self.possible = frozenset(spec.cpus)
        self.online = frozenset(spec.cpus) - frozenset(spec.offline)
        self.isolated_by: dict[str, frozenset[int]] = {}
        self.changed: Callable[[], None] = lambda: None

    @property
    def isolated(self) -> frozenset[int]:
        """CPUs the scheduler keeps tasks away from although they are online."""
        return frozenset().union(*self.isolated_by.values()) & self.online

    @property
    def active(self) -> frozenset[int]:
        """CPUs a task may run on."""
        return self.online - self.isolated

    def isolate(self, who: str, cpus: frozenset[int]) -> None:
        """``who`` wants exactly these CPUs isolated."""
        if self.isolated_by.get(who, frozenset()) != cpus:
            self.isolated_by[who] = cpus
            self.changed()

    def set_online(self, tree: Tree, cpu: int, online: bool) -> None:
        """Bring a CPU up or down, with its nodes.

        Raises:
            OSError: EBUSY for the last CPU.
        """
        if online == (cpu in self.online):
            return
        if not online and len(self.online) == 1:
            raise fail(errno.EBUSY)
        self.online = self.online | {cpu} if online else self.online - {cpu}
        if online:
            install_volatile(tree, self.spec, cpu)
        else:
            for name in ("cache", "cpuidle", "topology"):
                tree.remove(f"{CPU_DIR}/cpu{cpu}/{name}")
        self.changed()


def install(tree: Tree, cpus: Cpus) -> None:
    """Put the CPU directories and lists into the tree. CPU 0 has no ``online`` node: it cannot be taken away."""
    spec = cpus.spec
    every = cpu_ranges(cpus.possible)
    for name in ("possible", "present"):
        tree.file(f"{CPU_DIR}/{name}", f"{every}\n")
    tree.file(f"{CPU_DIR}/kernel_max", f"{max(cpus.possible)}\n")
    tree.file(f"{CPU_DIR}/online", lambda: cpu_ranges(cpus.online) + "\n")
    tree.file(f"{CPU_DIR}/offline", lambda: cpu_ranges(cpus.possible - cpus.online) + "\n")
    tree.file(f"{CPU_DIR}/isolated", "\n")  # boot-time isolcpus=, not what core_ctl does
    if spec.idle_states:
        tree.file(f"{CPU_DIR}/cpuidle/current_driver", "psci_idle\n")
        tree.file(f"{CPU_DIR}/cpuidle/current_governor_ro", "menu\n")
    for cpu in spec.cpus:
        base = f"{CPU_DIR}/cpu{cpu}"
        if cpu:
            tree.file(f"{base}/online", lambda cpu=cpu: f"{int(cpu in cpus.online)}\n", _online(tree, cpus, cpu))  # type: ignore[misc]
        if spec.has_capacity:
            tree.file(f"{base}/cpu_capacity", f"{capacity(spec, cpu)}\n")
        if spec.core_ctl:
            tree.file(f"{base}/isolate", lambda cpu=cpu: f"{int(cpu in cpus.isolated)}\n")  # type: ignore[misc]
        if cpu in cpus.online:
            install_volatile(tree, spec, cpu)


def capacity(spec: BoardSpec, cpu: int) -> int:
    """The scheduler's measure of a CPU at its highest frequency: 1024 for the fastest of the board."""
    policy = next(policy for policy in spec.policies if cpu in policy.cpus)
    return round(1024 * policy.work_per_s(max(policy.table_khz)) / spec.truth.fastest_work_per_s)


def _online(tree: Tree, cpus: Cpus, cpu: int) -> Callable[[str, Caller], None]:
    def write(text: str, _caller: Caller) -> None:
        cpus.set_online(tree, cpu, scan_bool(text))

    return write


def install_volatile(tree: Tree, spec: BoardSpec, cpu: int) -> None:
    """The nodes of a CPU that exist only while it is online: topology, caches, idle states."""
    base = f"{CPU_DIR}/cpu{cpu}"
    cluster = next(index for index, policy in enumerate(spec.policies) if cpu in policy.cpus)
    siblings = spec.policies[cluster].cpus
    tree.file(f"{base}/topology/core_id", f"{cpu - siblings[0]}\n")
    tree.file(f"{base}/topology/physical_package_id", f"{cluster}\n")
    tree.file(f"{base}/topology/core_siblings_list", f"{cpu_ranges(siblings)}\n")
    tree.file(f"{base}/topology/thread_siblings_list", f"{cpu}\n")
    tree.file(f"{base}/cache/index0/type", "Data\n")
    tree.file(f"{base}/cache/index0/shared_cpu_list", f"{cpu}\n")
    for number, name in enumerate(spec.idle_states):
        state = f"{base}/cpuidle/state{number}"
        tree.file(f"{state}/name", f"{name}\n")
        disabled = [0]

        def write(text: str, _caller: Caller, disabled: list[int] = disabled) -> None:
            disabled[0] = int(scan_u32(text) != 0)

        tree.file(f"{state}/disable", lambda disabled=disabled: f"{disabled[0]}\n", write)  # type: ignore[misc]
        latency_us = (1, 80, 400, 1000)[min(number, 3)]
        tree.file(f"{state}/latency", f"{latency_us}\n")
        # The rest of the kernel's set (drivers/cpuidle/sysfs.c); nothing here counts how often a CPU slept.
        tree.file(f"{state}/desc", f"{name}\n")
        tree.file(f"{state}/residency", f"{5 * latency_us}\n")
        for counter in ("power", "usage", "time"):
            tree.file(f"{state}/{counter}", "0\n")
