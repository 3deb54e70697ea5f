"""Control groups Android uses: cpusets, schedtune or uclamp groups, with their ``cgroup.procs`` and ``tasks`` files."""

import errno
import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Protocol

from virtualboards.kernel.nodes import Caller, Directory, Tree, fail
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
        self.may_join: Callable[[str], None] = lambda _group: None
        """Raises ``OSError`` for a group that takes nobody."""
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

    def busy(self, group: str) -> bool:
        """Something is in the group."""
        return any(self.group(tid) == group for tid in self.processes().threads())

    def _join(self, group: str, text: str, caller: Caller, *, whole: bool) -> None:
        self.may_join(group)
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
        self._changed: Callable[[str], None] = lambda _group: None
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
        self._changed = changed
        self.hierarchy.may_join = self._may_join
        for group in tuple(self.cpus):
            self._add(tree, group, "0")

    def make(self, tree: Tree, group: str) -> None:
        """A new group, without CPUs and memory nodes as yet (kernel/cgroup/cpuset.c: cpuset_css_alloc)."""
        self.cpus[group] = frozenset()
        self._add(tree, group, "")

    def remove(self, group: str) -> None:
        """A group is gone."""
        self.cpus.pop(group, None)

    def _may_join(self, group: str) -> None:
        if not self.cpus[group]:
            raise fail(errno.ENOSPC)

    def _add(self, tree: Tree, group: str, mems: str) -> None:
        last = max(self._possible) + 1

        def write(text: str, _caller: Caller) -> None:
            wanted = parse_ranges(text, last)
            if group == CPUSET or not wanted <= self.cpus[posixpath.dirname(group)]:
                raise fail(errno.EACCES)
            if not wanted and self.hierarchy.busy(group):
                raise fail(errno.ENOSPC)
            self.cpus[group] = wanted
            self._changed(group)

        tree.file(f"{group}/cpus", lambda: cpu_ranges(self.cpus[group]) + "\n", write, mode=_MODE, owner=_SYSTEM)
        _value(tree, f"{group}/mems", mems, _memory_nodes)
        self.hierarchy.add(tree, group)


class ValueGroups:
    """A hierarchy whose groups hold single values (schedtune, uclamp): file name → text at first."""

    def __init__(self, hierarchy: Hierarchy, values: dict[str, str]) -> None:
        self.hierarchy, self._values = hierarchy, values

    def install(self, tree: Tree, groups: tuple[str, ...]) -> None:
        """Put the groups into the tree."""
        for group in (self.hierarchy.root, *(posixpath.join(self.hierarchy.root, name) for name in groups)):
            self.make(tree, group)

    def make(self, tree: Tree, group: str) -> None:
        """A new group."""
        self.hierarchy.add(tree, group)
        for name, text in self._values.items():
            _value(tree, f"{group}/{name}", text, _percent if "uclamp" in name else _integer)

    def remove(self, group: str) -> None:
        """A group is gone."""


class Groups(Protocol):
    """The groups of one hierarchy."""

    hierarchy: Hierarchy

    def make(self, tree: Tree, group: str) -> None:
        """A new group."""
        ...

    def remove(self, group: str) -> None:
        """A group is gone."""
        ...


def proc_text(tree: Tree, controllers: Mapping[str, str]) -> str:
    """/proc/cgroups: every controller is in a hierarchy of its own."""
    lines = ["#subsys_name\thierarchy\tnum_cgroups\tenabled"]
    for number, (name, root) in enumerate(controllers.items(), 1):
        count = sum(isinstance(node, Directory) and f"{node.path}/".startswith(f"{root}/") for node in tree)
        lines.append(f"{name}\t{number}\t{count}\t1")
    return "\n".join(lines) + "\n"


def make_directory(tree: Tree, every: Mapping[str, Groups], path: str, uid: int) -> None:
    """``mkdir`` in the tree, which makes a group below one of ``every`` (root → groups), and nothing else.

    Raises:
        OSError: EPERM elsewhere, EACCES for others than root, EEXIST.
    """
    groups = _groups(every, path)
    if uid:
        raise fail(errno.EACCES)
    if path in tree:
        raise fail(errno.EEXIST)
    if posixpath.dirname(path) not in tree:
        raise fail(errno.ENOENT)
    groups.make(tree, path)


def remove_directory(tree: Tree, every: Mapping[str, Groups], path: str, uid: int) -> None:
    """``rmdir`` of a group.

    Raises:
        OSError: as for ``make_directory``; EBUSY with members or groups in it.
    """
    groups, node = _groups(every, path), tree.get(path)
    if uid:
        raise fail(errno.EACCES)
    if not isinstance(node, Directory):
        raise fail(errno.ENOENT if node is None else errno.ENOTDIR)
    if groups.hierarchy.busy(path) or any(isinstance(child, Directory) for child in node.children.values()):
        raise fail(errno.EBUSY)
    tree.remove(path)
    groups.remove(path)


def _groups(every: Mapping[str, Groups], path: str) -> Groups:
    for root, groups in every.items():
        if path.startswith(f"{root}/"):
            return groups
    raise fail(errno.EPERM)


def _value(tree: Tree, path: str, text: str, take: Callable[[str], str]) -> None:
    held = [text]

    def write(value: str, _caller: Caller) -> None:
        held[0] = take(value.strip())

    tree.file(path, lambda: f"{held[0]}\n", write, owner=_SYSTEM)


def _memory_nodes(word: str) -> str:
    # There is one node, 0.
    if word not in {"", "0"}:
        raise fail(errno.EACCES)
    return word


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
