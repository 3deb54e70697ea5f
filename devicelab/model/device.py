"""Board kinds, devices and what was read from a device."""

import re
from functools import cached_property
from typing import Literal

from pydantic import Field, field_validator

from devicelab.model.plan import Noun
from devicelab.model.tree import Tree

RootMethod = Literal["none", "self", "su-c", "su-0", "adb-root", "sudo"]


class Recognise(Noun):
    """How a board kind is told from others.

    Attributes:
        props: property name → regular expressions, one of which must match the whole value (all names must fit).
        nodes: sysfs/proc/dev paths (shell patterns) that must exist.
        priority: the kind with the highest priority among those that fit is taken.
    """

    props: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    nodes: tuple[str, ...] = ()
    priority: int = 0

    @field_validator("props")
    @classmethod
    def _patterns(cls, props: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, patterns in props.items():
            for pattern in patterns:
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise ValueError(f"{name}: {pattern!r} is no regular expression: {error}") from error
        return props


class Cluster(Noun):
    """One CPU cluster as the board's documentation names it; frequencies are always read from the device.

    Attributes:
        name: for people and for levels ("big").
        cpus: their numbers.
        big: one of the fast ones; ``big`` in an experiment means all of these.
        dishonest_khz: table entries whose real clock differs from the label (SD855's lowest big points run at half of
            it); ``honest-min`` skips them.
    """

    name: str
    cpus: tuple[int, ...]
    big: bool = False
    dishonest_khz: tuple[int, ...] = ()


class Board(Noun):
    """A kind of board: ``devicelab/boards/<kind>.toml``.

    Attributes:
        kind: the file's name without ``.toml``.
        title: for people ("Galaxy Note10, Exynos 9825").
        recognise: how a device is known to be of this kind; a kind without it is taken only if lab.toml names it.
        clusters: optional; where absent, the device's cpufreq policies serve.
        gpu: knob family of the GPU (a module in ``devicelab/knobs``); found by looking if left out.
        thermal_zones: zone *types* (shell patterns) that stand for the silicon's temperature.
        daemons: vendor services that rewrite limits; stopped only if the experiment asks.
        reference: figures the labs noted, to compare with, never to compute with.
        notes: what one should know about this kind of board.
    """

    kind: str
    title: str
    recognise: Recognise = Recognise()
    clusters: tuple[Cluster, ...] = ()
    gpu: str | None = None
    thermal_zones: tuple[str, ...] = ()
    daemons: tuple[str, ...] = ()
    reference: dict[str, dict[str, float | int | str]] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @field_validator("clusters")
    @classmethod
    def _apart(cls, clusters: tuple[Cluster, ...]) -> tuple[Cluster, ...]:
        seen: dict[int, str] = {}
        for cluster in clusters:
            for cpu in cluster.cpus:
                if seen.setdefault(cpu, cluster.name) != cluster.name:
                    raise ValueError(f"CPU {cpu} is in {seen[cpu]!r} and in {cluster.name!r}")
        return clusters


class Facts(Noun):
    """What was read from one device, before anything was changed.

    Attributes:
        name: the device's name for people (from lab.toml, or its serial).
        address: ``adb:SERIAL``, ``adb:SERIAL@host:port``, ``ssh:user@host``, ``local:``.
        board: board kind recognised (or named in lab.toml).
        abi: ``arm64-v8a``, ``armeabi-v7a``, ``x86_64``, ``x86``, ``riscv64``.
        props: Android properties, or the like from ``/etc/os-release`` and ``uname`` elsewhere.
        boot_id: ``/proc/sys/kernel/random/boot_id``.
        root: how root is reached, ``none`` if it is not.
        root_said: why each way to root that was tried is none.
        simulated: the device says that it is a virtual board; shown wherever its results appear.
        dir: directory on the device that belongs to devicelab.
        nodes: the tree read by the agent.
    """

    name: str
    address: str
    board: Board
    abi: str
    os: Literal["android", "linux"]
    kernel: str
    boot_id: str
    root: RootMethod
    root_said: str = ""
    simulated: bool = False
    props: dict[str, str] = Field(default_factory=dict)
    dir: str
    nodes: tuple[object, ...] = Field(default=(), exclude=True, repr=False)

    @cached_property
    def tree(self) -> Tree:
        """The nodes read, by path."""
        return Tree(self.nodes)  # type: ignore[arg-type]

    @property
    def cpus_online(self) -> tuple[int, ...]:
        """CPUs the kernel says are online."""
        return self.tree.cpus("/sys/devices/system/cpu/online")

    @property
    def cpus_present(self) -> tuple[int, ...]:
        """CPUs that exist, online or not."""
        return self.tree.cpus("/sys/devices/system/cpu/present")
