"""The processes inside a board, as the host's kernel shows them: their CPU time, parents and ids in both worlds."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

_PROC = "/proc"
_PAGE = 16384
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """CPU time since the last look (ns): by thread, and of threads that ended meanwhile."""

    threads: dict[int, int]
    ended_ns: int


class Processes(Protocol):
    """What a virtual kernel wants to know of the processes on its board; ids are the host's unless said otherwise."""

    def pids(self) -> tuple[int, ...]:
        """Process ids of everything inside the board."""
        ...

    def threads(self) -> tuple[int, ...]:
        """Thread ids of everything inside the board."""
        ...

    def parent(self, tid: int) -> int:
        """Of a thread its process, of a main thread the parent process; 0 if unknown."""
        ...

    def inside(self, pid: int) -> int:
        """The id a process has inside the board, 0 if it is gone."""
        ...

    def outside(self, pid: int) -> int:
        """The host's id of a process the board knows as ``pid``, 0 if there is none."""
        ...

    def usage(self) -> Usage:
        """CPU time used since the last call."""
        ...


class NoProcesses:
    """A board with nothing on it."""

    def pids(self) -> tuple[int, ...]:
        """None."""
        return ()

    def threads(self) -> tuple[int, ...]:
        """None."""
        return ()

    def parent(self, tid: int) -> int:  # noqa: ARG002  # the protocol's signature
        """None known."""
        return 0

    def inside(self, pid: int) -> int:
        """The same."""
        return pid

    def outside(self, pid: int) -> int:
        """The same."""
        return pid

    def usage(self) -> Usage:
        """Nothing."""
        return Usage({}, 0)


class HostProcesses:
    """The processes named by ``pids`` (a callable, asked anew every time), looked up in the host's /proc.

    Time of processes that ended between two looks is not lost: their parents, in the end the board's init, account
    for it as children's time.
    """

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self._pids = pids
        self._thread_ns: dict[int, int] = {}
        self._first_ns: int | None = None
        self._told_ns = 0

    def pids(self) -> tuple[int, ...]:
        """Process ids of everything inside the board."""
        return tuple(self._pids())

    def threads(self) -> tuple[int, ...]:
        """Thread ids of everything inside the board."""
        pids: list[int] = []
        for pid in self._pids():
            pids.extend(_tids(pid))
        return tuple(pids)

    def parent(self, tid: int) -> int:
        """Of a thread its process, of a main thread the parent process; 0 if unknown."""
        fields = _status(tid)
        group = int(fields.get("Tgid", "0"))
        return group if group not in {0, tid} else int(fields.get("PPid", "0"))

    def inside(self, pid: int) -> int:
        """The id in the innermost pid namespace."""
        return int(_status(pid).get("NSpid", "0").split()[-1])

    def outside(self, pid: int) -> int:
        """The host's id of a process or thread of the board."""
        return next((tid for tid in self.threads() if self.inside(tid) == pid), 0)

    def usage(self) -> Usage:
        """CPU time used since the last call, which is everything at the first."""
        threads: dict[int, int] = {}
        total = 0
        for pid in self._pids():
            used_ns, by_thread = _look(pid)
            total += used_ns
            threads |= by_thread
        used = {tid: max(0, ns - self._thread_ns.get(tid, 0)) for tid, ns in threads.items()}
        self._thread_ns = threads
        # Totals are in ticks, threads in nanoseconds: only the whole since the beginning may be compared, since
        # differences of rounded numbers would add up.
        if self._first_ns is None:
            self._first_ns = total - sum(used.values())
        self._told_ns += sum(used.values())
        ended = max(0, total - self._first_ns - self._told_ns)
        self._told_ns += ended
        return Usage(used, ended)


def below(pid: int) -> Iterator[int]:
    """A process and all its descendants."""
    waiting = [pid]
    while waiting:
        pid = waiting.pop()
        yield pid
        for tid in _tids(pid):
            waiting.extend(map(int, _read(f"{_PROC}/{pid}/task/{tid}/children").split()))


def _read(path: str) -> str:
    # Done thousands of times a minute: the bare calls take a third of what a file object does. A process may end at
    # any moment.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, _PAGE).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def _tids(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir(f"{_PROC}/{pid}/task")]  # noqa: PTH208  # on every look
    return []


def _status(pid: int) -> dict[str, str]:
    lines = (line.partition(":") for line in _read(f"{_PROC}/{pid}/status").splitlines())
    return {name: value.strip() for name, _, value in lines}


def _look(pid: int) -> tuple[int, dict[int, int]]:
    """CPU time (ns) of a process with its ended children, and of each of its threads."""
    # utime, stime, cutime, cstime: fields 14 to 17, number of threads: 20; the name (field 2) may hold anything.
    fields = _read(f"{_PROC}/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 18:
        return 0, {}
    total = sum(map(int, fields[11:15])) * _TICK_NS
    tids = [pid] if fields[17] == "1" else _tids(pid)
    return total, {tid: _thread_ns(pid, tid) for tid in tids}


def _thread_ns(pid: int, tid: int) -> int:
    first = _read(f"{_PROC}/{pid}/task/{tid}/schedstat").split()
    if first:
        return int(first[0])
    fields = _read(f"{_PROC}/{pid}/task/{tid}/stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) * _TICK_NS if len(fields) > 14 else 0
