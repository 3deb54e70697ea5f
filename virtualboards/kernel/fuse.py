"""The node tree as a file system: ``sys``, ``proc`` and ``dev`` below a mount point, through FUSE (mfusepy)."""

import contextlib
import errno
import itertools
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from devicelab.errors import ConfigError, DeviceRefusedError
from virtualboards import PACKAGES

try:
    import mfusepy
except OSError as error:  # the package is there, the library is not
    raise ConfigError("virtual boards need libfuse", hint=PACKAGES) from error

from virtualboards.kernel.kernel import Kernel, stat_of
from virtualboards.kernel.nodes import READ, WRITE, Caller, Directory, File, Link, Node, fail

_TOP = ("sys", "proc", "dev")
_PAGE = 4096
_PROC_SIZE = 65536
"""Shown for files of /proc. There it is 0, but sendfile(2), by which busybox's ``cat`` copies, ends there with FUSE."""
_READY_S = 20.0
_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)


class _Open:
    """An open file: the node, and the text a reader is going through."""

    __slots__ = ("node", "text", "used")

    def __init__(self, node: File) -> None:
        self.node, self.text, self.used = node, b"", False


class _Operations(mfusepy.Operations):  # type: ignore[misc]  # untyped package
    """FUSE calls; the names are the protocol's. Paths come absolute, as the tree has them."""

    use_ns = True

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._open: dict[int, _Open] = {}
        self._handles = itertools.count(1)
        self._born_ns = time.time_ns()
        self.ready = threading.Event()
        self.closing = False

    def init(self, _path: str) -> None:
        self.ready.set()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:  # noqa: ARG002
        if self.closing:
            mfusepy.fuse_exit()
        node = self._node(path)
        attributes = stat_of(node)
        return {
            "st_mode": attributes.mode,
            "st_uid": attributes.uid,
            "st_gid": attributes.gid,
            "st_size": attributes.size or (_PROC_SIZE if isinstance(node, File) else 0),
            "st_nlink": 2 if isinstance(node, Directory) else 1,
            "st_mtime": self._born_ns,
            "st_ctime": self._born_ns,
            "st_atime": self._born_ns,
        }

    def access(self, path: str, amode: int) -> int:
        node = self._node(path)
        if amode != os.F_OK and not isinstance(node, Directory | Link):
            uid = _uid()
            for want in (READ, WRITE):
                if amode & want and not node.allows(uid, want):
                    raise fail(errno.EACCES)
        return 0

    def readlink(self, path: str) -> str:
        node = self._node(path)
        if not isinstance(node, Link):
            raise fail(errno.EINVAL)
        return node.target

    def readdir(self, path: str, fh: int) -> Iterator[tuple[str, int, int]]:  # noqa: ARG002
        node = self._node(path)
        if not isinstance(node, Directory):
            raise fail(errno.ENOTDIR)
        yield ".", stat.S_IFDIR, 0
        yield "..", stat.S_IFDIR, 0
        with self._kernel.lock:
            children = [(name, stat.S_IFMT(stat_of(child).mode)) for name, child in node.children.items()]
        for name, kind in children:
            if path != "/" or name in _TOP:
                yield name, kind, 0

    def open(self, path: str, flags: int) -> int:
        node = self._node(path)
        if not isinstance(node, File):
            raise fail(errno.EISDIR)
        uid, mode = _uid(), flags & os.O_ACCMODE
        if mode != os.O_WRONLY and not node.allows(uid, READ):
            raise fail(errno.EACCES)
        if mode != os.O_RDONLY and not (node.allows(uid, WRITE) and node.write is not None):
            raise fail(errno.EACCES)
        handle = next(self._handles)
        self._open[handle] = _Open(node)
        return handle

    def create(self, path: str, mode: int, fi: int) -> int:  # noqa: ARG002
        # Neither sysfs nor procfs lets anybody make files, nor do the devices and groups shown here.
        raise fail(errno.EACCES)

    mknod = create

    def mkdir(self, path: str, mode: int = 0) -> int:  # noqa: ARG002
        self._kernel.make_directory(path, _uid())
        return 0

    def rmdir(self, path: str) -> int:
        self._kernel.remove_directory(path, _uid())
        return 0

    def unlink(self, path: str) -> int:  # noqa: ARG002
        raise fail(errno.EPERM)

    def rename(self, old: str, new: str) -> int:  # noqa: ARG002
        raise fail(errno.EPERM)

    link = symlink = rename

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:  # noqa: ARG002
        opened = self._open[fh]
        if offset == 0 or not opened.used:
            opened.text, opened.used = self._kernel.read_node(opened.node, _caller(fh)), True
        return opened.text[offset : offset + size]

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:  # noqa: ARG002
        # As in kernfs one write is one store, wherever the file position is, and a page at most.
        data = data[:_PAGE]
        self._kernel.write_node(self._open[fh].node, data, _caller(fh))
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:  # noqa: ARG002
        self._node(path)
        return 0

    def chmod(self, path: str, mode: int) -> int:
        node = self._owned(path)
        node.mode = mode & 0o7777
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        node = self._owned(path)
        node.uid = node.uid if uid < 0 else uid
        node.gid = node.gid if gid < 0 else gid
        return 0

    def utimens(self, path: str, times: object = None) -> int:  # noqa: ARG002
        self._node(path)
        return 0

    def release(self, path: str, fh: int) -> int:  # noqa: ARG002
        opened = self._open.pop(fh, None)
        if opened is not None:
            self._kernel.close_node(opened.node, fh)
        return 0

    def _node(self, path: str) -> Node:
        node = self._kernel.tree.get(path)
        if node is None:
            raise fail(errno.ENOENT)
        return node

    def _owned(self, path: str) -> Node:
        node = self._node(path)
        if _uid() not in {0, node.uid}:
            raise fail(errno.EPERM)
        return node


def _uid() -> int:
    return int(mfusepy.fuse_get_context()[0])


def _caller(handle: int) -> Caller:
    uid, _gid, pid = mfusepy.fuse_get_context()
    return Caller(uid, pid, handle)


class Mount:
    """A mounted tree; see ``mount``."""

    def __init__(self, kernel: Kernel, mountpoint: Path) -> None:
        self.mountpoint = mountpoint
        self._operations = _Operations(kernel)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._serve, name="devicelab-fuse", daemon=True)
        self._start()

    def close(self) -> None:
        """Unmount and end the serving thread; whoever still has a file open gets errors. Harmless when called twice."""
        if self._thread.is_alive():
            self._operations.closing = True
            # The loop looks up after every request, so one is made.
            with contextlib.suppress(OSError):
                self.mountpoint.stat()
        self._thread.join(_READY_S)

    def _start(self) -> None:
        with _signals_as_they_were():
            self._thread.start()
            while self._thread.is_alive() and not self._operations.ready.wait(0.02):
                pass
        if not self._operations.ready.is_set():
            raise DeviceRefusedError(
                f"cannot mount the virtual board's /sys at {self.mountpoint}: {self._error}",
                hint="FUSE is needed: /dev/fuse, and the package fuse3 for ordinary users",
            )
        # "Ready" is said from within the kernel's first request. A program that this thread starts in the tree before
        # that is answered would wait for it with the interpreter's lock held, which the answer needs.
        self.mountpoint.stat()

    def _serve(self) -> None:
        try:
            # One thread: nodes answer at once, and under one lock, so more would only wait for each other.
            mfusepy.FUSE(
                self._operations,
                str(self.mountpoint),
                foreground=True,
                nothreads=True,
                allow_other=True,
                direct_io=True,
                attr_timeout=0,
                # Names may be remembered: whatever is done to one comes here by its path and fails if it is gone.
                entry_timeout=1.0,
                negative_timeout=0,
                fsname="devicelab",
            )
        except RuntimeError as error:
            self._error = error


@contextlib.contextmanager
def _signals_as_they_were() -> Iterator[None]:
    # libfuse takes over signals that have their default action; the process has other plans with them.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def mount(kernel: Kernel, mountpoint: Path) -> Mount:
    """Serve a kernel's tree at a directory, with the top directories ``sys``, ``proc`` and ``dev``, from a thread.

    Returns once the mount answers. The caller's user id, as the mounting user namespace sees it, decides what is
    permitted; reads bypass the page cache, so every read from the start of a file asks the node anew.

    Raises:
        DeviceRefusedError: FUSE is not there or not permitted.
    """
    return Mount(kernel, Path(mountpoint))
