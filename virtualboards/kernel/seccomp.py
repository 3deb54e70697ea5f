"""The board's CPUs in affinity calls, and its kernel in uname: seccomp user notification on the four system calls.

A filter installed in the board's init hands these calls of everything inside to a supervisor outside, which answers
for the board's CPUs although the host has others. The host's real affinity is left alone.

The constants are of linux/seccomp.h, linux/filter.h and linux/audit.h; struct layouts are the same on both machines.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import struct
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

from devicelab.errors import DeviceRefusedError
from virtualboards.kernel.kernel import Kernel
from virtualboards.kernel.nodes import fail

_SET_MODE_FILTER, _FLAG_NEW_LISTENER = 1, 1 << 3
_RET_USER_NOTIF, _RET_ALLOW = 0x7FC00000, 0x7FFF0000
_PR_SET_NO_NEW_PRIVS = 38
_LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_OFFSET_NUMBER, _OFFSET_ARCH = 0, 4
_RECEIVE, _SEND, _ID_VALID = 0xC0502100, 0xC0182101, 0x40082102
_NOTICE = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_MASK_BYTES = 8
_NAME_BYTES = 65
"""Of each field of ``struct new_utsname``, the final zero counted."""
_OLDEST = (3, 10)
"""Programs that were linked for a newer kernel end at once on an older one, so none is shown that is."""

# By machine: audit architecture, number of seccomp(2), numbers of the calls answered.
_MACHINES = {
    "x86_64": (0xC000003E, 317, {"set": 203, "get": 204, "cpu": 309, "uname": 63}),
    "aarch64": (0xC00000B7, 277, {"set": 122, "get": 123, "cpu": 168, "uname": 160}),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _filter() -> bytes:
    rows: list[tuple[int, int, int, int]] = []
    for arch, _seccomp, calls in _MACHINES.values():
        numbers = tuple(calls.values())
        rows.append((_LOAD_WORD, 0, 0, _OFFSET_ARCH))
        # Another machine: over the number's load, the comparisons and the two returns.
        rows.append((_JUMP_EQUAL, 0, len(numbers) + 3, arch))
        rows.append((_LOAD_WORD, 0, 0, _OFFSET_NUMBER))
        rows += [(_JUMP_EQUAL, len(numbers) - index, 0, number) for index, number in enumerate(numbers)]
        rows += [(_RETURN, 0, 0, _RET_ALLOW), (_RETURN, 0, 0, _RET_USER_NOTIF)]
    rows.append((_RETURN, 0, 0, _RET_ALLOW))
    return b"".join(struct.pack("=HBBI", *row) for row in rows)


def install_filter() -> int:
    """Hand affinity calls of this process and all it will start to a supervisor; returns the listener to give it.

    Works as (namespace) root, else with ``no_new_privs`` set. Until a supervisor answers, such calls wait.

    Raises:
        DeviceRefusedError: the kernel or the machine has no seccomp user notification.
    """
    machine = os.uname().machine
    if machine not in _MACHINES:
        raise DeviceRefusedError(f"virtual boards run on {' and '.join(_MACHINES)} machines, not on {machine}")
    number = _MACHINES[machine][1]
    code = ctypes.create_string_buffer(_filter())
    program = _Program(len(code.raw) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long

    def install() -> int:
        return int(libc.syscall(number, _SET_MODE_FILTER, _FLAG_NEW_LISTENER, ctypes.byref(program)))

    listener = install()
    if listener < 0 and ctypes.get_errno() == errno.EACCES:
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        listener = install()
    if listener < 0:
        reason = os.strerror(ctypes.get_errno())
        raise DeviceRefusedError(
            f"cannot supervise affinity calls of a virtual board: {reason}",
            hint="seccomp user notification is needed (Linux 5.0), and no other such supervisor above this process",
        )
    os.set_inheritable(listener, False)
    return listener


class AffinitySupervisor:
    """Answers the affinity calls of a board's programs by its kernel's rules, from a thread of its own.

    ``machine`` is what ``uname -m`` says.
    """

    def __init__(self, kernel: Kernel, listener_fd: int, machine: str = "aarch64") -> None:
        self._kernel, self._listener = kernel, listener_fd
        release = kernel.spec.kernel if kernel.spec.version >= _OLDEST else os.uname().release
        self._names = ("Linux", "localhost", release, "#1 SMP PREEMPT", machine, "(none)")
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._serve, name="devicelab-affinity", daemon=True)
        self._calls = {
            (arch, number): name for arch, _seccomp, calls in _MACHINES.values() for name, number in calls.items()
        }

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def stop(self) -> None:
        """End; calls made from now on fail with ENOSYS. Harmless when called twice."""
        if self._listener < 0:
            return
        if self._thread.ident is not None:
            os.write(self._wake_write, b"x")
            self._thread.join()
        for fd in (self._listener, self._wake_read, self._wake_write):
            os.close(fd)
        self._listener = -1

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while True:
            events = dict(poll.poll())
            if self._wake_read in events or events.get(self._listener, 0) & (select.POLLHUP | select.POLLERR):
                return
            # The caller may have been killed meanwhile: ENOENT.
            with contextlib.suppress(FileNotFoundError, InterruptedError):
                notice = bytearray(_NOTICE.size)
                fcntl.ioctl(self._listener, _RECEIVE, notice)
                self._reply(bytes(notice))

    def _reply(self, notice: bytes) -> None:
        call_id, tid, _flags, number, arch, _ip, *arguments = _NOTICE.unpack(notice)
        value, error = 0, 0
        try:
            value = self._answer(self._calls[arch, number], call_id, tid, arguments)
        except OSError as refused:
            error = -(refused.errno or errno.EINVAL)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            # Whatever a program asks, this thread has to live: the calls of all others would wait for ever.
            traceback.print_exc()
            error = -errno.EINVAL
        fcntl.ioctl(self._listener, _SEND, _ANSWER.pack(call_id, value, error, 0))

    def _answer(self, call: str, call_id: int, tid: int, arguments: list[int]) -> int:
        first, length, address = arguments[:3]
        if call == "cpu":
            return self._getcpu(call_id, tid, first, length)
        if call == "uname":
            with self._memory(call_id, tid) as memory:
                fields = (name.encode()[: _NAME_BYTES - 1].ljust(_NAME_BYTES, b"\0") for name in self._names)
                _poke(memory, first, b"".join(fields))
            return 0
        with self._memory(call_id, tid) as memory:
            target = self._target(tid, ctypes.c_int32(first).value)
            if call == "set":
                self._may_change(tid, target)
                data = _peek(memory, address, min(length & 0xFFFFFFFF, _MASK_BYTES))
                self._kernel.set_affinity(target, int.from_bytes(data, "little"))
                return 0
            if length % _MASK_BYTES or length * 8 <= max(self._kernel.spec.cpus):
                raise fail(errno.EINVAL)
            mask = self._kernel.get_affinity(target)
            _poke(memory, address, mask.to_bytes(_MASK_BYTES, "little"))
            return _MASK_BYTES

    def _getcpu(self, call_id: int, tid: int, cpu_address: int, node_address: int) -> int:
        with self._memory(call_id, tid) as memory:
            if cpu_address:
                _poke(memory, cpu_address, self._kernel.cpu_of(tid).to_bytes(4, "little"))
            if node_address:
                _poke(memory, node_address, bytes(4))
        return 0

    @contextlib.contextmanager
    def _memory(self, call_id: int, tid: int) -> Iterator[int]:
        fd = os.open(f"/proc/{tid}/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            # Only now is it certain that the id still is the caller's and not a newcomer's.
            fcntl.ioctl(self._listener, _ID_VALID, struct.pack("=Q", call_id))
            yield fd
        finally:
            os.close(fd)

    def _target(self, tid: int, named: int) -> int:
        if named == 0:
            return tid
        if named < 0:
            raise fail(errno.EINVAL)
        target = self._kernel.outside(named, tid)
        if not target:
            raise fail(errno.ESRCH)
        return target

    def _may_change(self, tid: int, target: int) -> None:
        # The caller's effective user must be root or own the target (kernel/sched: check_same_owner).
        if target != tid:
            effective = _uids(tid)[1]
            if effective != 0 and effective not in _uids(target)[:2]:
                raise fail(errno.EPERM)


def _peek(memory: int, address: int, size: int) -> bytes:
    # An address of the upper half, which no program has, is no file offset at all.
    try:
        return os.pread(memory, size, address)
    except (OSError, OverflowError):
        raise fail(errno.EFAULT) from None


def _poke(memory: int, address: int, data: bytes) -> None:
    try:
        os.pwrite(memory, data, address)
    except (OSError, OverflowError):
        raise fail(errno.EFAULT) from None


def _uids(tid: int) -> tuple[int, ...]:
    try:
        lines = Path(f"/proc/{tid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
        line = next(line for line in lines if line.startswith("Uid:"))
    except (OSError, StopIteration):
        raise fail(errno.ESRCH) from None
    return tuple(int(word) for word in line.split()[1:])
