"""A virtual board's kernel: the node tree with everything behind it, under one lock, with time that can be injected.

Nothing runs while nobody looks: every access first works off the time that has passed since the last one, in steps of
at most 100 ms (longer ones after a long pause), so an idle board costs nothing.
"""

import errno
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from virtualboards.kernel import (
    battery,
    buses,
    cgroups,
    corectl,
    cpufreq,
    cpus,
    exynos,
    gpus,
    power,
    present,
    procfs,
    thermal,
)
from virtualboards.kernel.accounting import CpuTime
from virtualboards.kernel.affinity import Affinity
from virtualboards.kernel.cgroups import CPUSET, STUNE, UCLAMP, CpuSets, Groups, Hierarchy
from virtualboards.kernel.daemons import Daemons
from virtualboards.kernel.nodes import READ, WRITE, Caller, Directory, File, Link, Node, Tree, fail
from virtualboards.kernel.processes import HostProcesses, NoProcesses, Processes, Usage
from virtualboards.kernel.spec import BoardSpec
from virtualboards.kernel.thermal import Heat

_CONTROLLERS = {CPUSET: "cpuset", STUNE: "schedtune", UCLAMP: "cpu"}
_STEP_NS = 100_000_000
_MAX_STEPS = 64
# Closer looks than this share one account of CPU time: its source counts in ticks of 10 ms. Writes do not wait.
_MIN_STEP_NS = 10_000_000


class Stat(NamedTuple):
    """What ``stat`` tells: permission bits with the file type, owner, size, and a link's target."""

    mode: int
    uid: int
    gid: int
    size: int
    target: str | None


class Part(Protocol):
    """Something that changes as time passes."""

    def step(self, at_ns: int, dt_ns: int) -> None:
        """``dt_ns`` passed, it is now ``at_ns``."""
        ...


class Kernel:
    """The kernel of one virtual board.

    Args:
        spec: the kind of board.
        seed: of sensor noise and other chance.
        clock: monotonic nanoseconds; tests inject their own.
        processes: what runs on the board; see ``attach_processes``.
    """

    def __init__(
        self,
        spec: BoardSpec,
        seed: int = 0,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        processes: Processes | None = None,
    ) -> None:
        self.spec, self.lock, self.clock = spec, threading.RLock(), clock
        self.processes: Processes = processes or NoProcesses()
        self._chance = random.Random(seed)  # noqa: S311  # repeatable by design
        self.tree = Tree()
        self.reboot()

    def start(self) -> None:
        """Begin to count time from now on."""
        with self.lock:
            self.at_ns = self.boot_ns = self._charged_ns = self.clock()

    def stop(self) -> None:
        """Let go of the board's processes."""
        with self.lock:
            self.processes = NoProcesses()

    def attach_processes(self, pids: Callable[[], Iterable[int]]) -> None:
        """From now on the board's CPU time is that of these processes (ids on the host, asked anew every time)."""
        with self.lock:
            self.processes = HostProcesses(pids)

    def reboot(self) -> None:
        """Everything as after a boot: a new boot id, all nodes and limits at their defaults."""
        with self.lock:
            self.at_ns = self.boot_ns = self._charged_ns = self.clock()
            for node in self.tree:
                node.gone = True
            self.tree = Tree()
            self.boot_id = str(uuid.uuid4())  # never the same twice, whatever the seed
            self._build()

    def _build(self) -> None:
        spec = self.spec
        self.cpus = cpus.Cpus(spec)
        self.policies = tuple(cpufreq.Policy(p, spec.version, lambda: self.cpus.online) for p in spec.policies)
        self._policy_of = {cpu: policy for policy in self.policies for cpu in policy.spec.cpus}
        cpuset_members = Hierarchy(CPUSET, lambda: self.processes, self._moved)
        self.cpusets = CpuSets(spec, cpuset_members, lambda: self.cpus.online)
        self.affinity = Affinity(self.cpus, lambda: self.processes, self.cpusets.allowed)
        capacity = {c: p.spec.work_per_s(max(p.table)) for c, p in self._policy_of.items()}
        self.cpu_time = CpuTime(self.cpus, capacity, self.affinity.runs_on)
        self.proc = procfs.ProcFiles(spec, self.cpus, self.cpu_time, lambda: self.at_ns - self.boot_ns)
        self.proc.boot_time_s = int(time.time() - (self.clock() - self.boot_ns) / 1e9)
        self.controls = tuple(corectl.CoreCtl(c, self._policy_of[c.cpu].spec.cpus, self.cpus) for c in spec.core_ctl)
        self.gpu = gpus.make(spec.gpu, spec.version) if spec.gpu else None
        self.heat = Heat(spec, self.policies, self.gpu, lambda cpu: self.cpu_time.load[cpu], self._chance)
        self.heat.plug = self.plug
        self.daemons = Daemons(spec.daemons, self._peek, self._poke, self.heat.mass_c)
        self.power = power.Power(spec.power, self.heat, self._chance, self.at_ns)
        self.parts: list[Part] = [*([self.gpu] if self.gpu else []), self.heat, self.power, self.daemons]
        cpus.install(self.tree, self.cpus)
        cpufreq.install(self.tree, spec, self.policies)
        corectl.install(self.tree, self.controls, self.cpus, self._apply_core_ctl)
        self.proc.install(self.tree, self.boot_id)
        self.groups: dict[str, Groups] = {}
        if spec.cpusets:
            self.cpusets.install(self.tree, self._cpuset_written)
            self.groups[CPUSET] = self.cpusets
        groups = (
            (STUNE, spec.stune, {"schedtune.boost": "0", "schedtune.prefer_idle": "0"}),
            (UCLAMP, spec.uclamp, {"cpu.uclamp.min": "0.00", "cpu.uclamp.max": "max", "cpu.shares": "1024"}),
        )
        for root, names, values in groups:
            if names:
                made = cgroups.ValueGroups(Hierarchy(root, lambda: self.processes, lambda _tid: None), values)
                made.install(self.tree, names)
                self.groups[root] = made
        self.tree.file("/proc/cgroups", lambda: cgroups.proc_text(self.tree, self.controllers()))
        gpus.install(self.tree, self.gpu, lambda: self.heat.mass_c(spec.gpu.heats if spec.gpu else ""))
        self.parts += buses.install(self.tree, spec, lambda: max(self.cpu_time.load.values()))
        if spec.exynos_qos:
            exynos.install(self.tree, self.policies, self.gpu, self.plug)
        thermal.install(self.tree, self.heat)
        battery.install(self.tree, self.heat)
        power.install(self.tree, self.power)
        self.tree.file("/sys/devicelab/board", f"{spec.kind}\n")
        self.tree.file("/sys/devicelab/emulation", self.emulation)
        present.install(self.tree, spec.present)
        self.cpus.changed = self._cpus_changed

    # Access to nodes.

    def read(self, path: str, uid: int = 0, pid: int = 0) -> bytes:
        """What reading the whole file gives.

        Raises:
            OSError: what the kernel would answer.
        """
        with self.lock:
            node = self._file(path, uid, READ)
            return self.read_node(node, Caller(uid, pid))

    def write(self, path: str, data: bytes | str, uid: int = 0, pid: int = 0, handle: int = 0) -> None:
        """One ``write`` call to the file. ``handle`` names the open file, for nodes that hold while it is open.

        Raises:
            OSError: what the kernel would answer.
        """
        with self.lock:
            node = self._file(path, uid, WRITE)
            self.write_node(node, data if isinstance(data, bytes) else data.encode(), Caller(uid, pid, handle))

    def read_node(self, node: File, caller: Caller) -> bytes:  # noqa: ARG002  # symmetric with write_node
        """The text of a node that is open.

        Raises:
            OSError: ENODEV if the node was removed since, and what the node itself answers.
        """
        with self.lock:
            self.advance()
            if node.gone:
                raise fail(errno.ENODEV, node.path)
            if node.read is None:
                raise fail(errno.EACCES, node.path)
            text = node.read()
            return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")

    def write_node(self, node: File, data: bytes, caller: Caller) -> None:
        """Write to a node that is open; an empty write does not reach the driver.

        Raises:
            OSError: as for ``read_node``.
        """
        with self.lock:
            self.advance(shortest_ns=0)
            if node.gone:
                raise fail(errno.ENODEV, node.path)
            if node.write is None:
                raise fail(errno.EACCES, node.path)
            if data:
                node.write(data.decode("utf-8", "surrogateescape"), caller)

    def close(self, path: str, handle: int) -> None:
        """An open file was closed: what it held is let go."""
        with self.lock:
            node = self.tree.get(path)
            if isinstance(node, File):
                self.close_node(node, handle)

    def close_node(self, node: File, handle: int) -> None:
        """An open file was closed, whatever its path names by now."""
        with self.lock:
            if node.close is not None:
                self.advance()
                node.close(Caller(0, 0, handle))

    def make_directory(self, path: str, uid: int = 0) -> None:
        """``mkdir``, which makes a control group and nothing else. Raises ``OSError``."""
        with self.lock:
            cgroups.make_directory(self.tree, self.groups, path, uid)

    def remove_directory(self, path: str, uid: int = 0) -> None:
        """``rmdir`` of a control group. Raises ``OSError``."""
        with self.lock:
            cgroups.remove_directory(self.tree, self.groups, path, uid)

    def controllers(self) -> dict[str, str]:
        """Controllers of control groups and where their hierarchies are mounted."""
        return {_CONTROLLERS[root]: root for root in self.groups}

    def listdir(self, path: str) -> list[str]:
        """Names in a directory.

        Raises:
            OSError: ENOENT or ENOTDIR.
        """
        with self.lock:
            node = self.tree.resolve(path)
            if not isinstance(node, Directory):
                raise fail(errno.ENOTDIR, path)
            return list(node.children)

    def stat(self, path: str, *, follow: bool = False) -> Stat:
        """Kind, permission bits, owner and size; a link itself unless ``follow``.

        Raises:
            OSError: ENOENT.
        """
        with self.lock:
            node = self.tree.get(path)
            if node is None or follow:
                node = self.tree.resolve(path)
            return stat_of(node)

    def _file(self, path: str, uid: int, want: int) -> File:
        try:
            node = self.tree.resolve(path)
        except FileNotFoundError:
            # sysfs has no way to make a file: opening for write with O_CREAT, as a shell does, is refused.
            raise fail(errno.EACCES if want == WRITE else errno.ENOENT, path) from None
        if isinstance(node, Directory):
            raise fail(errno.EISDIR, path)
        if not isinstance(node, File) or not node.allows(uid, want):
            raise fail(errno.EACCES, path)
        return node

    # Time.

    def advance(self, *, shortest_ns: int = _MIN_STEP_NS) -> None:
        """Work off the time that has passed since the last access, if it was at least ``shortest_ns``."""
        with self.lock:
            now = self.clock()
            dt = now - self.at_ns
            if dt < max(shortest_ns, 1):
                return
            if now - self._charged_ns >= _MIN_STEP_NS:  # one write after another needs no account of its own
                self.cpu_time.charge(self._usage(), now - self._charged_ns)
                self._charged_ns = now
            steps = min(_MAX_STEPS, max(1, dt // _STEP_NS))
            for number in range(1, steps + 1):
                at = self.at_ns + dt // steps
                self._step(now if number == steps else at, (now - self.at_ns) if number == steps else dt // steps)

    def _step(self, at: int, dt: int) -> None:
        self.at_ns = at
        load = self.cpu_time.load
        for policy in self.policies:
            policy.account(dt, max((load[cpu] for cpu in policy.online_cpus), default=0.0))
        for control in self.controls:
            control.evaluate(load, at)
        self.proc.account(dt)
        for part in self.parts:
            part.step(at, dt)

    def _usage(self) -> Usage:
        usage = self.processes.usage()
        alive = set(usage.threads)
        self._look(alive)
        if not alive.issuperset(self.affinity.known()):
            self.affinity.forget(alive)
            self.cpusets.hierarchy.forget(alive)
        return usage

    def _apply_core_ctl(self) -> None:
        for control in self.controls:
            control.evaluate(self.cpu_time.load, self.at_ns)

    def _look(self, threads: Iterable[int]) -> None:
        for tid in threads:
            self.cpusets.hierarchy.seen(tid)
            self.affinity.seen(tid)

    def _cpus_changed(self) -> None:
        self._look(self.processes.threads())
        self.affinity.cpus_changed()
        for policy in self.policies:
            policy.refresh()

    def plug(self, cpu: int, online: bool) -> None:
        """Bring a CPU up or down."""
        self.cpus.set_online(self.tree, cpu, online)

    def _peek(self, path: str) -> str:
        node = self._file(path, 0, READ)
        text = node.read() if node.read is not None else ""
        return text if isinstance(text, str) else text.decode(errors="replace")

    def _poke(self, path: str, text: str, uid: int) -> None:
        # From within a step of time, so it must not ask for the time again.
        node = self._file(path, uid, WRITE)
        if node.write is not None:
            node.write(text, Caller(uid))

    def _moved(self, tid: int) -> None:
        self._look(self.processes.threads())
        self.affinity.cpuset_changed(tid)

    def _cpuset_written(self, group: str) -> None:
        for tid in self.processes.threads():
            if self.cpusets.hierarchy.group(tid) == group:
                self.affinity.cpuset_changed(tid)

    # Affinity calls of the board's programs.

    def set_affinity(self, tid: int, mask: int) -> None:
        """sched_setaffinity of a thread (host's id).

        Raises:
            OSError: EINVAL if no CPU is left the thread may run on.
        """
        with self.lock:
            self.advance()
            self._look(self.processes.threads())
            self.affinity.set(tid, mask)

    def get_affinity(self, tid: int) -> int:
        """sched_getaffinity of a thread (host's id), as a bit mask."""
        with self.lock:
            self.advance()
            return self.affinity.get(tid)

    def cpu_of(self, tid: int) -> int:
        """The CPU a thread (host's id) runs on: where it last used time, else the first it may use."""
        with self.lock:
            cpus = self.affinity.runs_on(tid)
            last = self.cpu_time.last_cpu(tid)
            return last if last in cpus else cpus[0]

    def outside(self, pid: int, caller: int) -> int:
        """The host's id of a process or thread that ``caller`` (host's id) names by ``pid``, 0 if there is none."""
        with self.lock:
            return caller if self.processes.inside(caller) == pid else self.processes.outside(pid)

    # Known truth.

    def emulation(self) -> str:
        """What emulated GPU programs read: how long work takes at the clocks of this moment.

        Percentages are of the fastest CPU at its highest frequency and of the GPU at its highest clock; a CPU counts
        with the frequency it has when it is busy. An offline CPU is listed as if it were online.
        """
        truth, launch = self.spec.truth, self.spec.launch
        if self.gpu is not None:
            self.gpu.touch(self.at_ns)
        cpu = (round(truth.cpu_time_pct(cpu, self._policy_of[cpu].loaded_khz)) for cpu in self.spec.cpus)
        return (
            f"simulated 1\nflush_ns {launch.flush_ns}\nstart_idle_ns {launch.start_idle_ns}\ngap_ns {launch.gap_ns}\n"
            f"gpu_time_pct {round(truth.gpu_time_pct(self.gpu_hz()))}\ncpu_time_pct {' '.join(map(str, cpu))}\n"
        )

    def gpu_hz(self) -> int:
        """The clock the GPU has when it is busy, in Hz."""
        return self.gpu.loaded_hz if self.gpu else 0

    # What happens to a board from outside.

    def service(self, name: str, running: bool) -> None:
        """A vendor daemon was started or stopped; names of no interest are ignored."""
        with self.lock:
            self.advance()
            self.daemons.set(name, running)

    def services(self) -> dict[str, bool]:
        """Vendor daemons this kernel knows, and whether they run (some come back by themselves)."""
        with self.lock:
            self.advance()
            return dict(self.daemons.running)

    def battery(self) -> dict[str, int | bool | str]:
        """What ``dumpsys battery`` shows."""
        with self.lock:
            self.advance()
            return battery.battery(self.heat, self.power)

    def thermal(self) -> dict[str, object]:
        """What ``dumpsys thermalservice`` shows."""
        with self.lock:
            self.advance()
            return battery.thermal(self.heat)


def stat_of(node: Node) -> Stat:
    """What ``stat`` tells of a node."""
    if isinstance(node, Directory):
        return Stat(0o040000 | node.mode, node.uid, node.gid, 0, None)
    if isinstance(node, Link):
        return Stat(0o120000 | node.mode, node.uid, node.gid, len(node.target), node.target)
    size = node.size if isinstance(node, File) else 0
    return Stat(0o100000 | node.mode, node.uid, node.gid, size, None)
