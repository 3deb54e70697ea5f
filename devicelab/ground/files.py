"""Files that appear whole or not at all, also in folders that others may write to."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """One process at a time that holds the file ``path``, which is made; the others wait. It ends with the process.

    Where the file system keeps no locks, nobody is kept waiting.

    Raises:
        OSError: the file cannot be made.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def synced(path: Path) -> None:
    """Put a file's content, or a folder's names, on the disk; not every file system can (folders over a network).

    Raises:
        OSError: the disk is full, or fails.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS}:
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """An empty neighbour of ``path`` to be filled, which takes its place at the end; gone if anything fails.

    After a power cut there is the old file or the whole new one, never an empty or torn one: the content is on the disk
    before the name is, and the name once this returns.

    Where a device or a pipe is named (``/dev/stdout``), that is what is filled.

    It is made anew, whatever lies there is not followed: in a folder like ``/tmp`` its name may have been foreseen.

    Raises:
        OSError: it cannot be made, or not take the place.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    try:
        descriptor = os.open(temporary, flags, 0o666)
    except FileExistsError:  # left by a process of ours that was killed; somebody else's cannot be removed there
        temporary.unlink()
        descriptor = os.open(temporary, flags, 0o666)
    os.close(descriptor)
    try:
        yield temporary
        synced(temporary)
        temporary.replace(path)
        synced(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
