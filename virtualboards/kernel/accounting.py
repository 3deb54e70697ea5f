"""CPU time of a board's CPUs: real time of the board's processes, laid on its virtual CPUs by virtual affinity."""

from collections.abc import Callable

from virtualboards.kernel.cpus import Cpus
from virtualboards.kernel.processes import Usage

# A thread that uses more of a CPU than this is placed on big cores, like the energy-aware scheduler does.
_HEAVY = 0.3


class CpuTime:
    """Busy and idle time by CPU (ns since boot), and the share of the last interval each CPU was busy.

    No CPU is ever busier than the wall clock allows: what does not fit on the CPUs a thread may use is dropped.
    """

    def __init__(self, cpus: Cpus, capacity: dict[int, float], runs_on: Callable[[int], tuple[int, ...]]) -> None:
        self._cpus, self._capacity, self._runs_on = cpus, capacity, runs_on
        self.busy_ns = dict.fromkeys(cpus.spec.cpus, 0)
        self.idle_ns = dict.fromkeys(cpus.spec.cpus, 0)
        self.load = dict.fromkeys(cpus.spec.cpus, 0.0)
        self.running = 0
        self._last_cpu: dict[int, int] = {}

    def charge(self, usage: Usage, dt_ns: int) -> None:
        """``dt_ns`` passed, in which the threads used so much CPU time."""
        if dt_ns <= 0:
            return
        room = dict.fromkeys(self._cpus.online, dt_ns)
        jobs = [(self._runs_on(tid), ns, tid) for tid, ns in usage.threads.items() if ns]
        jobs.append((tuple(sorted(self._cpus.active)), usage.ended_ns, 0))
        # Those with the least choice come first, as they would on a real run queue.
        for cpus, ns, tid in sorted(jobs, key=lambda job: (len(job[0]), -job[1])):
            self._place(cpus, ns, tid, dt_ns, room)
        self._last_cpu = {tid: cpu for tid, cpu in self._last_cpu.items() if tid in usage.threads}
        self.running = sum(ns > dt_ns // 10 for ns in usage.threads.values())
        for cpu in self.busy_ns:
            left = room.get(cpu)
            if left is None:  # offline CPUs add nothing
                self.load[cpu] = 0.0
                continue
            self.busy_ns[cpu] += dt_ns - left
            self.idle_ns[cpu] += left
            self.load[cpu] = (dt_ns - left) / dt_ns

    def last_cpu(self, tid: int) -> int | None:
        """The CPU on which a thread last used time."""
        return self._last_cpu.get(tid)

    def _place(self, cpus: tuple[int, ...], ns: int, tid: int, dt_ns: int, room: dict[int, int]) -> None:
        heavy = ns > _HEAVY * dt_ns
        last = self._last_cpu.get(tid)

        def rank(cpu: int) -> tuple[bool, float, int, int]:
            capacity = self._capacity[cpu]
            return cpu != last or room[cpu] < ns, -capacity if heavy else capacity, -room[cpu], cpu

        left = ns
        for cpu in sorted((cpu for cpu in cpus if cpu in room), key=rank):
            part = min(left, room[cpu])
            if part:
                room[cpu] -= part
                left -= part
                self._last_cpu[tid] = cpu
            if not left:
                break
