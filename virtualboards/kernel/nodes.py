"""The node tree of a virtual board: directories, links, and files whose text is made when it is read.

Nodes that hotplug removes are taken out of the tree and marked ``gone``; a program that still holds one open gets
ENODEV, as from kernfs.
"""

import errno
import os
import posixpath
from collections.abc import Callable, Iterator
from typing import NamedTuple

READ, WRITE, EXEC = 4, 2, 1
_MAX_LINKS = 40


class Caller(NamedTuple):
    """Who asks: the user id as the board sees it, the process id on the host (0: none) and the open file's handle."""

    uid: int = 0
    pid: int = 0
    handle: int = 0


Read = Callable[[], str | bytes]
Write = Callable[[str, Caller], None]
Close = Callable[[Caller], None]


def fail(number: int, path: str = "") -> OSError:
    """An ``OSError`` with the message the C library has for the number."""
    return OSError(number, os.strerror(number), path or None)


class Node:
    """Base of what a path may name. ``mode`` holds the permission bits, ``uid``/``gid`` the owner."""

    __slots__ = ("gid", "gone", "mode", "path", "uid")

    def __init__(self, path: str, mode: int, uid: int = 0, gid: int = 0) -> None:
        self.path, self.mode, self.uid, self.gid = path, mode, uid, gid
        self.gone = False

    def allows(self, uid: int, want: int) -> bool:
        """Do the permission bits let this user do that?

        As in sysfs, root is bound by the bits too: a file nobody may write cannot be opened for writing by root
        (``KERNFS_ROOT_EXTRA_OPEN_PERM_CHECK``). A group id counts as held by the user of the same number.
        """
        if uid == 0:
            return bool(self.mode & (want << 6 | want << 3 | want))
        shift = 6 if uid == self.uid else 3 if uid == self.gid else 0
        return bool(self.mode >> shift & want)


class Directory(Node):
    """A directory; ``children`` maps a name to its node, in the order of creation."""

    __slots__ = ("children",)

    def __init__(self, path: str, mode: int = 0o755) -> None:
        super().__init__(path, mode)
        self.children: dict[str, Node] = {}


class Link(Node):
    """A symbolic link; ``target`` is relative, so that it holds wherever the tree is mounted."""

    __slots__ = ("target",)

    def __init__(self, path: str, target: str) -> None:
        super().__init__(path, 0o777)
        self.target = target


class File(Node):
    """A file: ``read`` makes its text, ``write`` takes one, ``close`` is told when a handle that was used is closed."""

    __slots__ = ("close", "read", "size", "write")

    def __init__(self, path: str, mode: int, read: Read | None, write: Write | None, *, close: Close | None) -> None:
        super().__init__(path, mode)
        self.read, self.write, self.close = read, write, close
        # procfs files show size 0, sysfs ones a page, whatever a read gives.
        self.size = 0 if path.startswith("/proc/") else 4096


class Tree:
    """All nodes by absolute path ("/sys/...", "/proc/...", "/dev/...")."""

    def __init__(self) -> None:
        root = Directory("/")
        self._nodes: dict[str, Node] = {"/": root}

    def __iter__(self) -> Iterator[Node]:
        return iter(tuple(self._nodes.values()))

    def __contains__(self, path: str) -> bool:
        return path in self._nodes

    def get(self, path: str) -> Node | None:
        """The node itself (a link is not followed), ``None`` if there is none."""
        return self._nodes.get(path)

    def directory(self, path: str) -> Directory:
        """The directory, made with its parents if absent."""
        node = self._nodes.get(path)
        if isinstance(node, Directory):
            return node
        made = Directory(path)
        self._add(made)
        return made

    def file(
        self,
        path: str,
        read: Read | str | None,
        write: Write | None = None,
        *,
        mode: int | None = None,
        owner: int = 0,
        close: Close | None = None,
    ) -> File:
        """Add a file, replacing one of the same path. A text in place of ``read`` never changes.

        Default permissions: 0644 if it can be written, else 0444.
        """
        text = read
        reader: Read | None = (lambda: text) if isinstance(text, str) else text
        bits = (0o644 if write else 0o444) if mode is None else mode
        node = File(path, bits, reader, write, close=close)
        node.uid = node.gid = owner
        self._add(node)
        return node

    def link(self, path: str, target: str) -> None:
        """Add a link to an absolute path of the tree; it is stored relative."""
        self._add(Link(path, posixpath.relpath(target, posixpath.dirname(path))))

    def remove(self, path: str) -> None:
        """Take a node and all below it out of the tree; harmless if there is none."""
        node = self._nodes.pop(path, None)
        if node is None:
            return
        node.gone = True
        parent = self._nodes.get(posixpath.dirname(path))
        if isinstance(parent, Directory):
            parent.children.pop(posixpath.basename(path), None)
        if isinstance(node, Directory):
            for child in tuple(node.children.values()):
                self.remove(child.path)

    def resolve(self, path: str) -> Node:
        """The node a path names, links followed.

        Raises:
            OSError: ENOENT, ENOTDIR or ELOOP.
        """
        node = self._nodes.get(path)
        if node is not None and not isinstance(node, Link):
            return node
        left = [part for part in path.split("/") if part and part != "."][::-1]
        at, links = "/", 0
        while left:
            part = left.pop()
            if part == "..":
                at = posixpath.dirname(at)
                continue
            if not isinstance(self._nodes[at], Directory):
                raise fail(errno.ENOTDIR, path)
            step = posixpath.join(at, part)
            node = self._nodes.get(step)
            if node is None:
                raise fail(errno.ENOENT, path)
            if isinstance(node, Link):
                links += 1
                if links > _MAX_LINKS:
                    raise fail(errno.ELOOP, path)
                left.extend(node.target.split("/")[::-1])
            else:
                at = step
        return self._nodes[at]

    def _add(self, node: Node) -> None:
        old = self._nodes.get(node.path)
        if old is not None:
            old.gone = True
        parent = self.directory(posixpath.dirname(node.path))
        parent.children[posixpath.basename(node.path)] = node
        self._nodes[node.path] = node
