"""Affinity as the board's kernel grants it, for every thread: a virtual mask beside the host's real one.

Rules (kernel/sched/core.c, kernel/cgroup/cpuset.c):

- a new mask is cut to the CPUs of the task's cpuset (its online ones; all online ones if none is);
- EINVAL if no active CPU is left; on Qualcomm's 4.14 scheduler isolated CPUs do not count as active either;
- a thread whose last CPU goes away is silently widened to all possible CPUs and stays so when the CPU returns;
- the mask read back shows active CPUs only (on Qualcomm's scheduler without the isolated ones).
"""

import errno
from collections.abc import Callable, Iterable

from virtualboards.kernel.cpus import Cpus
from virtualboards.kernel.nodes import fail
from virtualboards.kernel.processes import Processes
from virtualboards.kernel.text import cpus_of, mask_of


class Affinity:
    """Masks of threads by thread id on the host.

    ``processes`` gives what knows of parents; ``cpuset(tid)`` the CPUs of the thread's cpuset.
    """

    def __init__(self, cpus: Cpus, processes: Callable[[], Processes], cpuset: Callable[[int], frozenset[int]]) -> None:
        self._cpus, self._processes, self._cpuset = cpus, processes, cpuset
        self._all = mask_of(cpus.possible)
        # None: no mask of its own, it has all CPUs of its cpuset.
        self._masks: dict[int, int | None] = {}

    def seen(self, tid: int) -> None:
        """A thread was seen: from now on it keeps the mask it has inherited, whatever becomes of its parent's."""
        if tid not in self._masks:
            self._masks[tid] = self._own(tid)

    def set(self, tid: int, mask: int) -> None:
        """sched_setaffinity.

        Raises:
            OSError: EINVAL if no CPU is left the thread may run on.
        """
        new = mask & mask_of(self._cpuset(tid))
        usable = new & mask_of(self._cpus.active if self._cpus.spec.qualcomm_sched else self._cpus.online)
        if not usable:
            raise fail(errno.EINVAL)
        self._masks[tid] = new

    def get(self, tid: int) -> int:
        """sched_getaffinity: the mask a program would read back."""
        shown = self._stored(tid) & mask_of(self._cpus.online)
        return shown & ~mask_of(self._cpus.isolated) if self._cpus.spec.qualcomm_sched else shown

    def runs_on(self, tid: int) -> tuple[int, ...]:
        """CPUs the thread may run on now."""
        return cpus_of(self._stored(tid) & mask_of(self._cpus.active)) or tuple(sorted(self._cpus.active))

    def cpus_changed(self) -> None:
        """A CPU went away or came back: widen the masks that have no CPU left."""
        active = mask_of(self._cpus.active)
        for tid, mask in self._masks.items():
            if mask is not None and not mask & active:
                self._masks[tid] = self._all

    def cpuset_changed(self, tid: int) -> None:
        """A thread was moved to another cpuset, or its cpuset was given other CPUs: its mask becomes the cpuset's."""
        self._masks[tid] = None

    def forget(self, alive: Iterable[int]) -> None:
        """Drop the masks of threads that are gone."""
        keep = set(alive)
        self._masks = {tid: mask for tid, mask in self._masks.items() if tid in keep}

    def known(self) -> tuple[int, ...]:
        """Threads that have a mask of their own."""
        return tuple(self._masks)

    def _stored(self, tid: int) -> int:
        mask = self._own(tid)
        return mask_of(self._cpuset(tid)) if mask is None else mask

    def _own(self, tid: int) -> int | None:
        # The nearest that is known: the thread itself, its process, an ancestor.
        seen: set[int] = set()
        while tid and tid not in seen:
            if tid in self._masks:
                return self._masks[tid]
            seen.add(tid)
            tid = self._processes().parent(tid)
        return None
