"""A file system that loses what was not synced when the power is cut: FUSE, everything in memory.

What is written is there for everybody at once, as ever. When the power is cut, of each file remains what its last
``fsync`` put on the disk, and of each folder the names that its own last ``fsync`` did (names are lost in the order in
which they were made). A cut draws from its seed how merciful the disk was: nothing else remains (as POSIX allows), or
some of the unsynced blocks, each for itself, and a part of the names, as a write-back cache leaves them.
"""

import contextlib
import errno
import os
import pickle
import random
import signal
import stat
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mfusepy

_BLOCK = 4096
_READY_S = 20.0
# How much of what was not synced remains.
_MERCY = (0.0, 0.0, 0.5, 0.9)
_SERVE = "import sys; from pathlib import Path; from tests.faults.losing import serve; serve(*map(Path, sys.argv[1:]))"


@dataclass
class Node:
    """A file or folder: what everybody sees, what is on the disk, and what was written since."""

    mode: int
    now: bytearray = field(default_factory=bytearray)
    disk: bytes = b""
    names: dict[str, int] = field(default_factory=dict)
    disk_names: dict[str, int] = field(default_factory=dict)
    dirty: set[int] = field(default_factory=set)
    times: tuple[int, int] = (0, 0)
    owner: tuple[int, int] = (0, 0)

    def sync(self) -> None:
        """The content is on the disk."""
        self.disk = bytes(self.now)
        self.dirty.clear()


@dataclass
class Tree:
    """All nodes by number; 1 is the top. ``log``: changed names that are not on the disk, oldest first."""

    nodes: dict[int, Node] = field(default_factory=lambda: {1: Node(stat.S_IFDIR | 0o777)})
    last: int = 1
    log: list[tuple[int, str, int | None]] = field(default_factory=list)

    def find(self, path: str) -> int:
        """The number of the node at a path."""
        number = 1
        for name in filter(None, path.split("/")):
            number = self.nodes[number].names.get(name, 0)
            if not number:
                raise mfusepy.FuseOSError(errno.ENOENT)
        return number

    def place(self, path: str) -> tuple[int, str]:
        """Folder and name."""
        folder, _, name = path.rpartition("/")
        return self.find(folder), name

    def name(self, folder: int, name: str, number: int | None) -> None:
        """Give a name to a node, or take it away."""
        if number is None:
            self.nodes[folder].names.pop(name, None)
        else:
            self.nodes[folder].names[name] = number
        self.log.append((folder, name, number))

    def sync_names(self, folder: int) -> None:
        """The folder's names are on the disk."""
        self.nodes[folder].disk_names = dict(self.nodes[folder].names)
        self.log = [one for one in self.log if one[0] != folder]

    def after_a_cut(self, seed: int) -> "Tree":
        """What is found when the power is back."""
        chance = random.Random(seed)
        mercy = chance.choice(_MERCY)
        for folder, name, number in self.log[: int(len(self.log) * mercy * chance.random())]:
            names = self.nodes[folder].disk_names
            if number is None:
                names.pop(name, None)
            else:
                names[name] = number
        left = Tree(last=self.last)
        waiting = [1]
        while waiting:
            number = waiting.pop()
            node = self.nodes[number]
            content = bytearray(node.disk)
            for block in sorted(node.dirty):
                if chance.random() < mercy:
                    part = node.now[block * _BLOCK : (block + 1) * _BLOCK]
                    content.extend(bytes(max(0, block * _BLOCK + len(part) - len(content))))
                    content[block * _BLOCK : block * _BLOCK + len(part)] = part
            names = dict(node.disk_names)
            left.nodes[number] = Node(
                node.mode, content, bytes(content), names, dict(names), times=node.times, owner=node.owner
            )
            waiting += [one for one in names.values() if one not in left.nodes]
        return left


class LosingFiles(mfusepy.Operations):  # type: ignore[misc]  # untyped package
    """The file system; one thread serves it."""

    use_ns = True

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._open: dict[int, int] = {}
        self._handle = 0

    def _node(self, path: str, handle: int | None = None) -> Node:
        number = self._open.get(handle or 0) or self.tree.find(path)
        return self.tree.nodes[number]

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        """Attributes of a node; its number is its inode, so that a replaced file is another."""
        number = self._open.get(fh or 0) or self.tree.find(path)
        node = self.tree.nodes[number]
        return {
            "st_mode": node.mode, "st_size": len(node.now), "st_nlink": 1, "st_ino": number, "st_uid": node.owner[0],
            "st_gid": node.owner[1], "st_mtime": node.times[1], "st_atime": node.times[0], "st_ctime": node.times[1],
        }  # fmt: skip

    def readdir(self, path: str, fh: int) -> list[tuple[str, dict[str, Any], int]]:  # noqa: ARG002
        """Names in a folder, with their inodes: one without is no entry."""
        here = path.rstrip("/")
        own = [(name, self.getattr(f"{here}/{name}"), 0) for name in self._node(path).names]
        return [(".", self.getattr(path), 0), ("..", self.getattr("/"), 0), *own]

    def _make(self, path: str, mode: int) -> int:
        self.tree.last += 1
        user, group, _pid = mfusepy.fuse_get_context()
        made = Node(mode, times=(time.time_ns(),) * 2, owner=(user, group))
        self.tree.nodes[self.tree.last] = made
        self.tree.name(*self.tree.place(path), self.tree.last)
        return self.tree.last

    def create(self, path: str, mode: int, fi: Any = None) -> int:  # noqa: ARG002
        """A new file, open."""
        return self._opened(self._make(path, stat.S_IFREG | (mode & 0o7777)))

    def mknod(self, path: str, mode: int, dev: int) -> None:  # noqa: ARG002
        """A new file."""
        self._make(path, mode)

    def mkdir(self, path: str, mode: int) -> None:
        """A new folder."""
        self._make(path, stat.S_IFDIR | (mode & 0o7777))

    def _opened(self, number: int) -> int:
        self._handle += 1
        self._open[self._handle] = number
        return self._handle

    def open(self, path: str, flags: int) -> int:  # noqa: ARG002
        """A handle that lasts though the name goes."""
        return self._opened(self.tree.find(path))

    def release(self, path: str, fh: int) -> None:  # noqa: ARG002
        """The handle is given back."""
        self._open.pop(fh, None)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Bytes of a file."""
        return bytes(self._node(path, fh).now[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        """For everybody to see, and not on the disk."""
        node = self._node(path, fh)
        node.now.extend(bytes(max(0, offset - len(node.now))))
        node.now[offset : offset + len(data)] = data
        node.dirty.update(range(offset // _BLOCK, (offset + len(data) - 1) // _BLOCK + 1) if data else ())
        node.times = (node.times[0], time.time_ns())
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        """Another length; what is cut off comes back after a power cut unless it was synced."""
        node = self._node(path, fh)
        del node.now[length:]
        node.now.extend(bytes(length - len(node.now)))
        node.times = (node.times[0], time.time_ns())

    def fsync(self, path: str, datasync: int, fh: int) -> None:  # noqa: ARG002
        """The content is on the disk."""
        self._node(path, fh).sync()

    def fsyncdir(self, path: str, datasync: int, fh: int) -> None:  # noqa: ARG002
        """The names in the folder are on the disk."""
        self.tree.sync_names(self.tree.find(path))

    def unlink(self, path: str) -> None:
        """A name goes; whoever has the file open keeps it."""
        self.tree.find(path)
        self.tree.name(*self.tree.place(path), None)

    def rmdir(self, path: str) -> None:
        """An empty folder goes."""
        if self._node(path).names:
            raise mfusepy.FuseOSError(errno.ENOTEMPTY)
        self.tree.name(*self.tree.place(path), None)

    def rename(self, old: str, new: str) -> None:
        """Another name."""
        number = self.tree.find(old)
        self.tree.name(*self.tree.place(new), number)
        self.tree.name(*self.tree.place(old), None)

    def chmod(self, path: str, mode: int) -> None:
        """Other rights."""
        node = self._node(path)
        node.mode = stat.S_IFMT(node.mode) | (mode & 0o7777)

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Another owner."""
        node = self._node(path)
        node.owner = (uid if uid != 2**32 - 1 else node.owner[0], gid if gid != 2**32 - 1 else node.owner[1])

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        """Other times."""
        self._node(path).times = times or (time.time_ns(),) * 2

    def statfs(self, path: str) -> dict[str, int]:  # noqa: ARG002
        """Room enough."""
        return {"f_bsize": _BLOCK, "f_blocks": 1 << 20, "f_bavail": 1 << 19, "f_bfree": 1 << 19, "f_namemax": 255}


def merciless(seed: int) -> bool:
    """A cut with this seed leaves nothing that was not synced."""
    return random.Random(seed).choice(_MERCY) == 0.0


def possible() -> str:
    """Why this cannot be done here; empty: it can."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK) or os.getuid() != 0:
        return "needs root and /dev/fuse"
    return ""


class LosingDisk:
    """A mounted one, and its power.

    Args:
        where: a folder to mount at.
        state: a file for what survives.
    """

    def __init__(self, where: Path, state: Path) -> None:
        self.where, self._state = where, state
        where.mkdir(parents=True, exist_ok=True)
        self._mount()

    def _mount(self) -> None:
        argv = [sys.executable, "-c", _SERVE, str(self.where), str(self._state)]
        self._server = subprocess.Popen(argv, cwd=Path(__file__).parents[2], start_new_session=True)
        deadline = time.monotonic() + _READY_S
        while not self.where.is_mount():
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise OSError("cannot mount a file system of our own")
            time.sleep(0.02)

    def _unmount(self) -> None:
        deadline = time.monotonic() + _READY_S
        while self.where.is_mount() and time.monotonic() < deadline:
            subprocess.run(["umount", "-l", str(self.where)], check=False, capture_output=True)
        try:
            self._server.wait(_READY_S)
        except subprocess.TimeoutExpired:  # somebody still has a file open
            self._server.send_signal(signal.SIGTERM)
            self._server.wait()

    def everything(self) -> dict[str, bytes]:
        """Path → content as everybody sees it now; what somebody removes meanwhile is not there."""
        found = {}
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):
                found[str(path.relative_to(self.where))] = path.read_bytes()
        return found

    def _files(self) -> list[Path]:
        # os.walk passes over folders that go away under it.
        every = (Path(folder, name) for folder, _, names in os.walk(self.where) for name in names)
        return [path for path in every if path.is_file()]

    def cut(self, seed: int) -> None:
        """The power goes and comes back; who used the disk has to be dead by then."""
        self._unmount()
        tree: Tree = pickle.loads(self._state.read_bytes())  # noqa: S301 - our own
        self._state.write_bytes(pickle.dumps(tree.after_a_cut(seed)))
        self._mount()

    def close(self) -> None:
        """Unmount it."""
        self._unmount()


def serve(where: Path, state: Path) -> None:
    """Until it is unmounted."""
    tree = Tree()
    with contextlib.suppress(FileNotFoundError):
        tree = pickle.loads(state.read_bytes())  # noqa: S301 - our own
    with contextlib.suppress(RuntimeError):  # unmounted from outside
        mfusepy.FUSE(
            LosingFiles(tree), str(where), foreground=True, nothreads=True, allow_other=True, attr_timeout=0,
            entry_timeout=0, negative_timeout=0, fsname="devicelab-losing", default_permissions=True, use_ino=True,
        )  # fmt: skip
    state.write_bytes(pickle.dumps(tree))
