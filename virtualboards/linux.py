"""The few Linux calls that Python 3.11 lacks: namespaces, mounts, and descriptors of other processes."""

import ctypes
import os
import struct
from pathlib import Path

from devicelab.errors import DeviceRefusedError

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

_PR_SET_NAME = 15
_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_CAP_SYS_ADMIN = 21
_PR_SET_CHILD_SUBREAPER = 36
_SYS_PIDFD_GETFD = 438
"""Same number on every architecture (Linux 5.6)."""

_IN_DELETE, _IN_DELETE_SELF, _IN_MOVE_SELF = 0x200, 0x400, 0x800
_IDS = 65536
_KEPT = MS_NOSUID | MS_NODEV | os.ST_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def unshare(flags: int) -> None:
    """``unshare(2)``. Raises ``OSError``."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    """``mount(2)``. Raises ``OSError`` with the target as file name."""
    data = options.encode() or None
    _check(_libc.mount(source.encode(), os.fsencode(target), kind.encode() or None, flags, data), str(target))


def bind(source: Path | str, target: Path, *, read_only: bool = False) -> None:
    """Show ``source`` (a file or a tree with what is mounted in it) at ``target``, which must exist."""
    mount(str(source), target, flags=MS_BIND | MS_REC)
    if read_only:
        # A bind mount takes no flags at first; what the original forbids may not be allowed again by a remount.
        kept = os.statvfs(target).f_flag & _KEPT
        mount("", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | kept)


def unmount(target: Path) -> None:
    """Take a mount away, as soon as nobody uses it any more. Raises ``OSError``."""
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), "umount2")


def call_this(name: str) -> None:
    """Give this process another name (15 bytes of it count)."""
    _check(_libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0), "prctl")


def pivot_root(root: Path) -> None:
    """Make ``root`` (a mount point) the root directory and let go of the old one."""
    os.chdir(root)
    _check(_libc.pivot_root(b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/")


def die_with_parent(signal: int) -> None:
    """Have the kernel send ``signal`` to this process when its parent ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0), "prctl")


def never_mount_again() -> None:
    """Take CAP_SYS_ADMIN from every program that this process and its children will execute."""
    _check(_libc.prctl(_PR_CAPBSET_DROP, _CAP_SYS_ADMIN, 0, 0, 0), "prctl")


def adopt_orphans() -> None:
    """Become the parent of descendants whose parent ends (``PR_SET_CHILD_SUBREAPER``)."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def descriptor_of(pidfd: int, fd: int) -> int:
    """A duplicate of another process's descriptor, close-on-exec. Raises ``OSError``."""
    return _check(_libc.syscall(_SYS_PIDFD_GETFD, pidfd, fd, 0), "pidfd_getfd")


def watch_removals(directory: Path) -> int:
    """A descriptor that becomes readable when something is removed from ``directory``, or it itself is (inotify)."""
    fd = _check(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify_init1")
    _check(_libc.inotify_add_watch(fd, os.fsencode(directory), _IN_DELETE | _IN_DELETE_SELF | _IN_MOVE_SELF), "inotify")
    return fd


def enter_user_namespace(extra: int) -> None:
    """Become root of a new user namespace, and of the new namespaces ``extra``, with 65536 user ids to give away.

    The calling process must have one thread only.

    Raises:
        DeviceRefusedError: this machine does not let us; the message names what is missing.
    """
    commands = [] if os.geteuid() == 0 else [_map_command("uid"), _map_command("gid")]
    target = os.getpid()
    ready_r, ready_w = os.pipe()
    helper = os.fork()
    if helper == 0:
        # The maps have to be written by somebody who stayed outside.
        os.close(ready_w)
        os._exit(_write_maps(target, commands) if os.read(ready_r, 1) else 1)
    os.close(ready_r)
    try:
        unshare(CLONE_NEWUSER | extra)
        os.write(ready_w, b"x")
    except OSError as error:
        raise DeviceRefusedError(
            f"this machine does not let us create namespaces: {error.strerror}",
            hint="virtual boards need user namespaces (user.max_user_namespaces > 0, "
            "kernel.apparmor_restrict_unprivileged_userns = 0; in a container: --privileged or CAP_SYS_ADMIN)",
        ) from error
    finally:
        os.close(ready_w)
        status = os.waitpid(helper, 0)[1]
    if status:
        raise DeviceRefusedError(
            "the user ids of the new namespace could not be mapped",
            hint="check that newuidmap and newgidmap work for this user (package uidmap, /etc/subuid, /etc/subgid)",
        )
    os.setgid(0)
    os.setuid(0)


def _write_maps(target: int, commands: list[list[str]]) -> int:
    import subprocess

    try:
        for command in commands:
            subprocess.run([*command[:1], str(target), *command[1:]], check=True, stdin=subprocess.DEVNULL)
        if not commands:
            for kind in ("uid", "gid"):
                Path(f"/proc/{target}/{kind}_map").write_text(f"0 0 {_IDS}\n", encoding="ascii")
    except (OSError, subprocess.CalledProcessError):
        return 1
    return 0


def _map_command(kind: str) -> list[str]:
    """``newuidmap`` (to be given the pid) that maps root to the caller and the rest to the caller's subordinate ids."""
    import shutil

    program = shutil.which(f"new{kind}map")
    if program is None:
        raise DeviceRefusedError(
            f"new{kind}map is not installed, and an ordinary user needs it to start a virtual board",
            hint="install the package uidmap, or run as root",
        )
    own = os.getuid() if kind == "uid" else os.getgid()
    start = _subordinate(Path(f"/etc/sub{kind}"))
    if start is None:
        raise DeviceRefusedError(
            f"this user has no {_IDS} subordinate ids in /etc/sub{kind}",
            hint=f"as root: usermod --add-sub{kind}s 100000-165535 USER",
        )
    return [program, "0", str(own), "1", "1", str(start), str(_IDS - 1)]


def _subordinate(path: Path) -> int | None:
    import pwd

    try:
        names = {str(os.getuid()), pwd.getpwuid(os.getuid()).pw_name}
    except KeyError:
        names = {str(os.getuid())}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        owner, _, span = line.partition(":")
        start, _, count = span.partition(":")
        if owner in names and start.isdecimal() and count.isdecimal() and int(count) >= _IDS - 1:
            return int(start)
    return None


def loopback_up() -> None:
    """Switch on ``lo`` in a new network namespace."""
    import fcntl
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        # SIOCSIFFLAGS with IFF_UP | IFF_RUNNING
        fcntl.ioctl(sock, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
