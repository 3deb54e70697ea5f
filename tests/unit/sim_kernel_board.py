"""A virtual kernel with a clock that stands still until it is told, and with processes that are only numbers."""

import dataclasses
import errno
import fnmatch
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from devicelab import boards
from devicelab.model.device import Facts
from devicelab.model.tree import Node, Tree
from virtualboards.kernel import BoardSpec, Kernel, load_spec
from virtualboards.kernel.nodes import WRITE, Directory, File, Link
from virtualboards.kernel.processes import Usage
from virtualboards.kernel.spec import PolicySpec

CPU = "/sys/devices/system/cpu"
DATA = Path(__file__).resolve().parent.parent / "data" / "conformance"


class Clock:
    """Monotonic nanoseconds that move when told."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000

    def __call__(self) -> int:
        return self.ns


class Tasks:
    """Processes: ``parents`` maps an id to its parent's, ``used`` CPU time to be reported at the next look.

    ``others`` maps further threads to their process.
    """

    def __init__(self) -> None:
        self.parents: dict[int, int] = {}
        self.others: dict[int, int] = {}
        self.used: dict[int, int] = {}
        self.ended_ns = 0

    def pids(self) -> tuple[int, ...]:
        return tuple(self.parents)

    def threads(self) -> tuple[int, ...]:
        return (*self.parents, *self.others)

    def parent(self, tid: int) -> int:
        return self.others.get(tid) or self.parents.get(tid, 0)

    def inside(self, pid: int) -> int:
        return pid - 1000

    def outside(self, pid: int) -> int:
        return pid + 1000 if pid + 1000 in self.threads() else 0

    def usage(self) -> Usage:
        found = Usage({tid: self.used.get(tid, 0) for tid in self.parents}, self.ended_ns)
        self.used, self.ended_ns = {}, 0
        return found


known = cache(load_spec)


class Bench:
    """A board on the bench: short words for reading, writing and letting time pass."""

    def __init__(self, spec: BoardSpec | str) -> None:
        self.clock, self.tasks = Clock(), Tasks()
        self.spec = known(spec) if isinstance(spec, str) else spec
        self.kernel = Kernel(self.spec, clock=self.clock, processes=self.tasks)

    def r(self, path: str, uid: int = 0) -> str:
        """The text without its newline, or the name of the error."""
        try:
            return self.kernel.read(_absolute(path), uid).decode(errors="replace").removesuffix("\n")
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def w(self, path: str, text: object, uid: int = 0, **more: int) -> str:
        """``ok`` or the name of the error."""
        try:
            self.kernel.write(_absolute(path), f"{text}\n", uid, **more)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "ok"

    def wait(self, seconds: float, busy: dict[int, float] | None = None) -> None:
        """Time passes; ``busy`` maps a task to the share of one CPU it uses."""
        ns = int(seconds * 1e9)
        self.tasks.used = {tid: int(share * ns) for tid, share in (busy or {}).items()}
        self.clock.ns += ns
        self.kernel.advance()

    def taskset(self, tid: int, cpus: set[int]) -> str:
        """``ok`` or the name of the error."""
        try:
            self.kernel.set_affinity(tid, sum(1 << cpu for cpu in cpus))
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "ok"

    def granted(self, tid: int) -> set[int]:
        """The mask a program reads back."""
        mask = self.kernel.get_affinity(tid)
        return {cpu for cpu in range(64) if mask >> cpu & 1}


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"{CPU}/{path}"


def mainline(kernel: str = "6.1.0-56-cloud-amd64", **more: object) -> BoardSpec:
    """The board of the recorded transcript: three policies, short tables, four governors."""
    tables = {
        (0, 1, 2, 3): (300000, 576000, 1036800, 1785600),
        (4, 5, 6): (710400, 825600, 1612800, 2419200),
        (7,): (825600, 1056000, 1804800, 2841600),
    }
    governors = ("userspace", "powersave", "performance", "schedutil")
    policies = tuple(
        PolicySpec(cpus, table, governors=governors, governor="schedutil", driver="fakefreq")
        for cpus, table in tables.items()
    )
    spec = BoardSpec(kind="mainline", title="mainline", policies=policies, kernel=kernel)
    return dataclasses.replace(spec, **more)  # type: ignore[arg-type]


def snapshot(kernel: Kernel, patterns: Iterable[str], uid: int = 0) -> tuple[Node, ...]:
    """Nodes that match, as the agent's ``snapshot`` prints them: links on the way are followed, ``**`` is a subtree."""
    found: dict[str, Node] = {}

    def descend(path: str, rest: list[str]) -> None:
        if not rest:
            add(path)
            return
        try:
            names = sorted(kernel.listdir(path or "/"))
        except OSError:
            return
        for name in names:
            if rest == ["**"]:
                add(f"{path}/{name}")
                if kernel.stat(f"{path}/{name}").target is None:
                    descend(f"{path}/{name}", rest)
            elif fnmatch.fnmatchcase(name, rest[0]):
                descend(f"{path}/{name}", rest[1:])

    def add(path: str) -> None:
        try:
            node, real = kernel.tree.get(path) or kernel.tree.resolve(path), kernel.tree.resolve(path)
        except OSError:
            return
        info: dict[str, object] = {}
        if isinstance(real, File):
            try:
                info["text"] = kernel.read(path, uid).decode(errors="replace")
            except OSError as error:
                info["errno"] = error.errno
        kind = "link" if isinstance(node, Link) else "dir" if isinstance(node, Directory) else "file"
        if isinstance(node, Link):
            info["target"] = node.target
        writable = isinstance(real, File) and real.write is not None and real.allows(uid, WRITE)
        found[path] = Node.model_validate({"path": path, "kind": kind, "mode": node.mode, "writable": writable, **info})

    for pattern in patterns:
        descend("", pattern.strip("/").split("/"))
    return tuple(found.values())


def facts_of(bench: "Bench", patterns: Iterable[str], root: str = "su-c") -> Facts:
    """What would be read from the board as a device."""
    nodes = snapshot(bench.kernel, patterns, 0 if root != "none" else 2000)
    return Facts(
        name="sim",
        address="adb:SIM",
        board=boards.recognise(bench.spec.props, Tree(nodes)),
        abi=bench.spec.abi,
        os="android",
        kernel=bench.spec.kernel,
        boot_id=bench.r("/proc/sys/kernel/random/boot_id"),
        root=root,  # type: ignore[arg-type]
        simulated=True,
        props=bench.spec.props,
        dir="/data/local/tmp/devicelab",
        nodes=nodes,
    )


MESSAGES = {
    "Invalid argument": "EINVAL",
    "Permission denied": "EACCES",
    "Device or resource busy": "EBUSY",
    "No such file or directory": "ENOENT",
    "No such device": "ENODEV",
}


def replay(bench: Bench, text: str) -> list[str]:
    """Play ``W path <- text : result`` and ``R path = text`` lines; returns what came out otherwise.

    ``T seconds`` lets time pass. Frequencies a load-following governor chose are only checked to lie in its limits.
    """
    wrong = []
    for number, line in enumerate(text.splitlines(), 1):
        wrote = re.fullmatch(r"W (\S+) <- (.*) : (ok|ERR .*)", line)
        got = re.fullmatch(r"R (\S+) = (.*)", line)
        if line.startswith("T "):
            bench.wait(float(line[2:]))
        elif wrote:
            path, value, want = wrote.groups()
            want = want if want == "ok" else MESSAGES[want.removeprefix("ERR ")]
            answer = bench.w(path, value)
        elif got:
            path, want = got.groups()
            answer = bench.r(path)
            want = MESSAGES.get(want.rpartition(": ")[2], want)
            if _follows_load(bench, path):
                base = path.removesuffix("scaling_cur_freq")
                low, high = int(bench.r(f"{base}scaling_min_freq")), int(bench.r(f"{base}scaling_max_freq"))
                answer = want if low <= int(answer) <= high else answer
            if path.endswith("total_trans"):
                continue
        if (wrote or got) and answer != want:
            wrong.append(f"line {number}: {line!r}: {answer!r}")
    return wrong


def _follows_load(bench: Bench, path: str) -> bool:
    if not path.endswith("scaling_cur_freq"):
        return False
    return bench.r(path.replace("scaling_cur_freq", "scaling_governor")) in {"schedutil", "sched_pixel", "interactive"}
