"""Qualcomm's core_ctl: isolates idle big cores while ``online`` still says 1 (kernel/sched/core_ctl.c, msm-4.14)."""

from collections.abc import Callable

from virtualboards.kernel.cpufreq import CPU_DIR
from virtualboards.kernel.cpus import Cpus
from virtualboards.kernel.nodes import Caller, Read, Tree, Write
from virtualboards.kernel.spec import CoreCtlSpec
from virtualboards.kernel.text import scan_u32


class CoreCtl:
    """One cluster: how many cores it needs by their load, and which of them it isolates.

    Wanted counts are clamped silently: min_cpus to max_cpus, max_cpus to the cluster's size. Isolation waits
    ``offline_delay_ms`` from the last moment more cores were needed; freeing is immediate. Cores are isolated in the
    order of the cluster's list (least recently changed first), so the lowest number goes first; busy cores stay.
    """

    def __init__(self, spec: CoreCtlSpec, cluster: tuple[int, ...], cpus: Cpus) -> None:
        self.spec, self.cluster, self._cpus = spec, cluster, cpus
        self.min_cpus, self.max_cpus = spec.min_cpus, len(cluster)
        self.enable = spec.enable
        self.delay_ms = spec.delay_ms
        self.busy_up = [spec.busy_up_pct] * len(cluster)
        self.busy_down = [spec.busy_down_pct] * len(cluster)
        self.task_thres = spec.task_thres or len(cluster)
        self.not_preferred = [0] * len(cluster)
        self.need = len(cluster)
        self.is_busy = dict.fromkeys(cluster, False)
        self.busy_pct = dict.fromkeys(cluster, 0)
        self._lru = list(cluster)
        self._shrink_at_ns: int | None = None

    @property
    def who(self) -> str:
        """Name under which it isolates."""
        return f"core_ctl{self.spec.cpu}"

    @property
    def isolated(self) -> frozenset[int]:
        """What it has isolated."""
        return self._cpus.isolated_by.get(self.who, frozenset())

    @property
    def active(self) -> int:
        """CPUs of the cluster that are online and free."""
        return len(frozenset(self.cluster) & self._cpus.active)

    def evaluate(self, load: dict[int, float], now_ns: int) -> None:
        """Look at the load (0 to 1 by CPU) and isolate or free cores."""
        for index, cpu in enumerate(self.cluster):
            pct = self.busy_pct[cpu] = round(100 * load[cpu])
            limit = self.busy_down[index] if self.is_busy[cpu] else self.busy_up[index]
            self.is_busy[cpu] = pct >= limit
        self.need = sum(self.is_busy.values()) if self.enable else self.max_cpus
        wanted = min(max(self.min_cpus, self.need), self.max_cpus)
        online = [cpu for cpu in self._lru if cpu in self._cpus.online]
        wanted = min(wanted, len(online))
        if wanted >= self.active:
            self._shrink_at_ns = None
            self._free(wanted)
            return
        if self._shrink_at_ns is None:
            self._shrink_at_ns = now_ns + self.delay_ms * 1_000_000
        if now_ns >= self._shrink_at_ns:
            self._shrink_at_ns = None
            self._isolate(wanted)

    def _isolate(self, wanted: int) -> None:
        mine = set(self.isolated)
        preferred = any(self.not_preferred)
        for cpu in tuple(self._lru):
            if self.active <= wanted:
                return
            index = self.cluster.index(cpu)
            forced = self.active > self.max_cpus  # then even busy cores go
            if cpu not in self._cpus.active or (self.is_busy[cpu] and not forced):
                continue
            if preferred and not self.not_preferred[index] and not forced:
                continue
            mine.add(cpu)
            self._cpus.isolate(self.who, frozenset(mine))
            self._lru.remove(cpu)
            self._lru.append(cpu)

    def _free(self, wanted: int) -> None:
        mine = set(self.isolated)
        for cpu in tuple(self._lru):
            if self.active >= wanted:
                return
            if cpu in mine:
                mine.discard(cpu)
                self._cpus.isolate(self.who, frozenset(mine))
                self._lru.remove(cpu)
                self._lru.append(cpu)


def install(tree: Tree, controls: tuple[CoreCtl, ...], cpus: Cpus, apply: Callable[[], None]) -> None:
    """Put ``core_ctl`` directories into the tree; ``apply`` makes a change take effect at once."""
    for control in controls:
        base = f"{CPU_DIR}/cpu{control.spec.cpu}/core_ctl"
        for name, (read, write) in _nodes(control, apply).items():
            tree.file(f"{base}/{name}", read, write)
        tree.file(f"{base}/need_cpus", lambda c=control: f"{c.need}\n")  # type: ignore[misc]
        tree.file(f"{base}/active_cpus", lambda c=control: f"{c.active}\n")  # type: ignore[misc]
        tree.file(f"{base}/global_state", lambda: global_state(controls, cpus))


def _nodes(control: CoreCtl, apply: Callable[[], None]) -> dict[str, tuple[Read, Write]]:
    def number(name: str, clamp: Callable[[int], int]) -> tuple[Read, Write]:
        def write(text: str, _caller: Caller) -> None:
            setattr(control, name, clamp(scan_u32(text)))
            control.min_cpus = min(control.min_cpus, control.max_cpus)
            apply()

        return lambda: f"{int(getattr(control, name))}\n", write

    def per_cpu(values: list[int]) -> tuple[Read, Write]:
        def write(text: str, _caller: Caller) -> None:
            given = [scan_u32(word) for word in text.split()]
            if len(given) == 1:
                given *= len(values)
            if len(given) != len(values):
                scan_u32("")  # EINVAL, as the kernel's count check
            values[:] = given
            apply()

        return lambda: " ".join(map(str, values)) + " \n", write

    def marks() -> str:
        rows = zip(control.cluster, control.not_preferred, strict=True)
        return "".join(f"CPU#{cpu}: {mark}\n" for cpu, mark in rows)

    size = len(control.cluster)
    return {
        "min_cpus": number("min_cpus", lambda value: min(value, control.max_cpus)),
        "max_cpus": number("max_cpus", lambda value: min(value, size)),
        "enable": number("enable", lambda value: int(value != 0)),
        "offline_delay_ms": number("delay_ms", lambda value: value),
        "task_thres": number("task_thres", lambda value: value),
        "busy_up_thres": per_cpu(control.busy_up),
        "busy_down_thres": per_cpu(control.busy_down),
        "not_preferred": (marks, per_cpu(control.not_preferred)[1]),
        "nr_prev_assist_thresh": (lambda: "4294967295\n", lambda _text, _caller: None),
    }


def global_state(controls: tuple[CoreCtl, ...], cpus: Cpus) -> str:
    """The text of ``core_ctl/global_state``."""
    lines: list[str] = []
    for control in sorted(controls, key=lambda control: control.cluster):
        for index, cpu in enumerate(control.cluster):
            lines += [
                f"CPU{cpu}",
                f"\tCPU: {cpu}",
                f"\tOnline: {int(cpu in cpus.online)}",
                f"\tIsolated: {int(cpu in cpus.isolated)}",
                f"\tFirst CPU: {control.cluster[0]}",
                f"\tBusy%: {control.busy_pct[cpu]}",
                f"\tIs busy: {int(control.is_busy[cpu])}",
                f"\tNot preferred: {control.not_preferred[index]}",
                f"\tNr running: {sum(control.is_busy.values())}",
                f"\tActive CPUs: {control.active}",
                f"\tNeed CPUs: {control.need}",
                f"\tNr isolated CPUs: {len(control.isolated)}",
                "\tBoost: 0",
            ]
    return "\n".join(lines) + "\n"
