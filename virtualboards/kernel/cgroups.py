"""Control groups Android uses: cpusets, schedtune or uclamp groups, with their ``cgroup.procs`` and ``tasks`` files."""

import errno
import posixpath
import re
from collections.abc import Callable

from virtualboards.kernel.nodes import Caller, Tree, fail
from virtualboards.kernel.processes import Processes
from virtualboards.kernel.spec import BoardSpec
from virtualboards.kernel.text import cpu_ranges, parse_ranges, scan_int, strict_int

_SYSTEM = 1000
_MODE = 0o664
_MAX_SHARES = 1 << 18
CPUSET, STUNE, UCLAMP = "/dev/cpuset", "/dev/stune", "/dev/cpuctl"


class Hierarchy:
    """One mounted cgroup hierarchy: which process (or thread) is in which group; children inherit.

    ``moved`` is called with the host's id of what was moved.
    """

    def __init__(self, root: str, processes: Callable[[], Processes], moved: Callable[[int], None]) -> None:
        self.root, self.processes, self._moved = root, processes, moved
        self._member: dict[int, str] = {}

    def group(self, tid: int) -> str:
        """The group's path of a thread: its own, its process's, an ancestor's, else the root."""
        seen: set[int] = set()
        processes = self.processes()
        while tid and tid not in seen:
            if tid in self._member:
                return self._member[tid]
            seen.add(tid)
            tid = processes.parent(tid)
        return self.root

    def seen(self, tid: int) -> None:
        """A thread was seen: from now on it stays in the group it was born into, wherever its parent goes."""
        if tid not in self._member:
            self._member[tid] = self.group(tid)

    def forget(self, alive: set[int]) -> None:
        """Drop what is gone."""
        self._member = {tid: group for tid, group in self._member.items() if tid in alive}

    def add(self, tree: Tree, group: str) -> None:
        """Put a group's membership files into the tree."""
        for name, whole in (("cgroup.procs", True), ("tasks", False)):
            tree.file(
                f"{group}/{name}",
                lambda whole=whole: self._list(group, whole),  # type: ignore[misc]  # bound per turn
                lambda text, caller, whole=whole: self._join(group, text, caller, whole=whole),  # type: ignore[misc]
                mode=_MODE,
                owner=_SYSTEM,
            )

    def _list(self, group: str, whole: bool) -> str:
        processes = self.processes()
        everyone = processes.pids() if whole else processes.threads()
        return "".join(f"{processes.inside(tid)}\n" for tid in everyone if self.group(tid) == group)

    def _join(self, group: str, text: str, caller: Caller, *, whole: bool) -> None:
        number = scan_int(text)
        if number < 0:
            raise fail(errno.EINVAL)
        tid = caller.pid if number == 0 else self.processes().outside(number)
        if not tid:
            raise fail(errno.ESRCH)
        # Whoever was born into the old group stays there, unless it is a thread of a process that moves as a whole.
        for each in self.processes().threads():
            self.seen(each)
        moving = self._process(tid) if whole else (tid,)
        for each in moving:
            self._member[each] = group
        for each in moving:
            self._moved(each)

    def _process(self, tid: int) -> tuple[int, ...]:
        """All threads of the process that a thread belongs to."""
        processes = self.processes()
        mains = set(processes.pids())
        main = tid if tid in mains else processes.parent(tid) or tid
        others = (each for each in processes.threads() if each not in mains and processes.parent(each) == main)
        return (main, *others)


class CpuSets:
    """The cpuset hierarchy: every group's CPUs."""

    def __init__(self, spec: BoardSpec, hierarchy: Hierarchy, online: Callable[[], frozenset[int]]) -> None:
        self._spec, self.hierarchy, self._online = spec, hierarchy, online
        self._possible = frozenset(spec.cpus)
        self.cpus: dict[str, frozenset[int]] = {CPUSET: self._possible}
        for name, cpus in spec.cpusets.items():
            self.cpus[posixpath.join(CPUSET, name)] = parse_ranges(cpus, max(spec.cpus) + 1)

    def allowed(self, tid: int) -> frozenset[int]:
        """CPUs a thread's cpuset leaves it: the online ones, of the nearest ancestor that has any."""
        group = self.hierarchy.group(tid)
        while True:
            here = self.cpus[group] & self._online()
            if here or group == CPUSET:
                return here or self._possible
            group = posixpath.dirname(group)

    def install(self, tree: Tree, changed: Callable[[str], None]) -> None:
        """Put the groups into the tree; ``changed`` is told of a group whose CPUs were written."""
        last = max(self._possible) + 1
        for group in self.cpus:

            def write(text: str, _caller: Caller, group: str = group) -> None:
                wanted = parse_ranges(text, last)
                if group == CPUSET or not wanted <= self.cpus[posixpath.dirname(group)]:
                    raise fail(errno.EACCES)
                members = self.hierarchy.processes().threads()
                if not wanted and any(self.hierarchy.group(tid) == group for tid in members):
                    raise fail(errno.ENOSPC)
                self.cpus[group] = wanted
                changed(group)

            tree.file(
                f"{group}/cpus",
                lambda group=group: cpu_ranges(self.cpus[group]) + "\n",  # type: ignore[misc]
                write,
                mode=_MODE,
                owner=_SYSTEM,
            )
            tree.file(f"{group}/mems", "0\n", mode=0o644)
            self.hierarchy.add(tree, group)


def install_groups(tree: Tree, hierarchy: Hierarchy, groups: tuple[str, ...], values: dict[str, str]) -> None:
    """Put a hierarchy whose groups hold single values into the tree (schedtune, uclamp)."""
    for group in (hierarchy.root, *(posixpath.join(hierarchy.root, name) for name in groups)):
        hierarchy.add(tree, group)
        for name, text in values.items():
            _value(tree, f"{group}/{name}", text, _percent if "uclamp" in name else _integer)


def _value(tree: Tree, path: str, text: str, take: Callable[[str], str]) -> None:
    held = [text]

    def write(value: str, _caller: Caller) -> None:
        held[0] = take(value.strip())

    tree.file(path, lambda: f"{held[0]}\n", write, owner=_SYSTEM)


def _integer(word: str) -> str:
    # schedtune.boost: -100 to 100, prefer_idle and shares: any number (kstrto*).
    value = strict_int(word)
    if not -100 <= value <= _MAX_SHARES:
        raise fail(errno.EINVAL)
    return str(value)


def _percent(word: str) -> str:
    # capacity_from_percent (kernel/sched/core.c): "max", or a percentage with two decimals.
    if word == "max":
        return word
    if not re.fullmatch(r"\d{1,9}(\.\d*)?", word):
        raise fail(errno.EINVAL)
    if float(word) > 100:
        raise fail(errno.ERANGE)
    return f"{float(word):.2f}" if float(word) < 100 else "max"
