"""What the two halves of a virtual board agree on: the outer one (adb, sandbox, lifecycle) and the inner one (kernel).

Everything here is standard library only: a board's host process has to stay small.

Order of events in a board's host process (one process a board, in user and mount namespaces of its own):

1. ``load_spec`` or ``spec_from_capture``, then ``Kernel(spec, seed=...)``: no threads yet, nothing mounted.
2. The board's init process is forked (new pid namespace). It calls ``seccomp.install_filter()`` before it starts
   anything and hands the listener up by ``SCM_RIGHTS``.
3. ``mount(kernel, mountpoint)`` serves the tree from a thread; the sandbox binds ``sys`` over ``/sys``, each file of
   ``proc`` over its real counterpart and each entry of ``dev`` into ``/dev``.
4. ``kernel.attach_processes(...)``, ``kernel.start()``, ``AffinitySupervisor(kernel, fd).start()``.

Callers' ids: the FUSE server runs inside the board's user namespace, so the uid it is told is the board's (0 for root,
2000 for the shell), while pids are the host's. Pids from the seccomp listener are the host's as well.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Su = Literal["none", "magisk", "su-0", "adb-root"]
SU_FLAVOURS: tuple[Su, ...] = ("none", "magisk", "su-0", "adb-root")

SHELL_UID = 2000
"""Android's ``shell`` user and group, as which adbd runs commands."""

KERNEL_FAULTS = ("thermal", "daemon", "offline", "isolate")
"""Faults that ``Kernel.inject`` performs; the others belong to the adb daemon and the sandbox."""


@dataclass(frozen=True)
class BoardSpec:
    """What the outer half has to know of a board kind; the inner half's own class has more fields.

    Attributes:
        kind: file stem in ``virtualboards/kinds`` (or the captured device's kind).
        title: for people ("Galaxy Note10, Exynos 9825 (virtual)").
        props: Android properties, as ``getprop`` shows them, without ``init.svc.*``.
        services: vendor daemon → running at boot; shown as ``init.svc.<name>``.
        su: how root is reached.
        abi: ``ro.product.cpu.abi`` of the real board; the sandbox says the host's where it cannot run that one.
        kernel: release, as ``uname -r`` says it.
        has_shell_v2: adbd offers the feature ``shell_v2`` (API level 24 and later).
    """

    kind: str
    title: str
    props: dict[str, str] = field(default_factory=dict)
    services: dict[str, bool] = field(default_factory=dict)
    su: Su = "none"
    abi: str = "arm64-v8a"
    has_shell_v2: bool = True
    kernel: str = "4.14.113"


class Mount(Protocol):
    """A mounted tree."""

    def close(self) -> None:
        """Unmount and end the serving thread. Harmless when called twice."""
        ...


class Kernel(Protocol):
    """The part of ``virtualboards.kernel.Kernel`` that the outer half calls; safe to call from any thread."""

    def start(self) -> None:
        """Start the clockwork (heat, daemons, accounting)."""
        ...

    def stop(self) -> None:
        """End the clockwork. Harmless when called twice."""
        ...

    def attach_processes(self, processes: Callable[[], Iterable[int]]) -> None:
        """Tell how to list the host pids of everything in the board (init included)."""
        ...

    def inject(self, fault: str, **args: float | str) -> None:
        """Perform one of ``KERNEL_FAULTS``; ``ValueError`` for arguments it does not know, ``OSError`` if it cannot."""
        ...

    def check(self, fault: str, **args: float | str) -> None:
        """Raise ``ValueError`` for what ``inject`` would."""
        ...

    def service(self, name: str, running: bool) -> None:
        """A vendor daemon was started or stopped; names of no interest are ignored."""
        ...

    def services(self) -> dict[str, bool]:
        """Vendor daemons the kernel half plays, and whether they run (some come back by themselves)."""
        ...

    def reboot(self) -> None:
        """New boot id; every node back at its value after boot."""
        ...

    def battery(self) -> dict[str, int | bool | str]:
        """For ``dumpsys battery``: ``level`` (percent), ``temperature`` (0.1 °C), ``voltage`` (mV), ``status`` ...

        ``status``, ``health`` are Android's numbers; ``ac_powered``, ``usb_powered``, ``present`` booleans;
        ``technology`` text.
        """
        ...

    def thermal(self) -> dict[str, object]:
        """For ``dumpsys thermalservice``.

        ``status`` (0-6) and ``temperatures``: a list of dicts ``name``, ``value`` (°C), ``type`` (Android's
        ``TemperatureType``: 0 CPU, 1 GPU, 2 battery, 3 skin), ``status``.
        """
        ...


class AffinitySupervisor(Protocol):
    """Answers ``sched_setaffinity`` and ``sched_getaffinity`` of the board's processes from a thread."""

    def start(self) -> None:
        """Start answering."""
        ...

    def stop(self) -> None:
        """End. Harmless when called twice."""
        ...


MountFunction = Callable[[Kernel, Path], Mount]
"""``virtualboards.kernel.mount``: mounts the tree with top directories ``sys``, ``proc``, ``dev`` at a directory."""
