"""Background load: the level of a cell and its placement as programs for the agent."""

from collections.abc import Sequence

from devicelab import knobs
from devicelab.errors import ConfigError
from devicelab.experiment.conditions import cpu_use_pct
from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import Flag, ProgramResult, RunRecord
from devicelab.model.plan import Program
from devicelab.workloads import overhead
from devicelab.workloads.base import CommandLine, Context

WORDS = ("load", "placement")

HELD_PCT = 1.0
"""A held use that is further from its goal than this, in points, was not held."""

_LEAST_NS = 10**9


def programs(level: Level, placement: str, facts: Facts) -> tuple[Program, ...]:
    """The background load of a cell as programs.

    Args:
        level: ``none`` or the arguments of ``overhead`` ("1000 5000 20").
        placement: ``free`` (one process, no affinity), ``one-big``, ``one-per-core``, ``two-per-core``, ``n:4`` (four
            processes, no affinity), or cores ("big", "4-7", "0x30": one process pinned to each).
        facts: the device's, with the CPUs that will be online then (``knobs.assume``).

    Raises:
        ConfigError: not such a level or placement, or CPUs that are not there.
    """
    if level == "none":
        return ()
    params = overhead.parse_level(str(level))
    line = overhead.command(params, Context())
    return place(line, placement, facts)


def place(line: CommandLine, placement: str, facts: Facts) -> tuple[Program, ...]:
    """Copies of a load's command line, placed as ``programs`` says."""
    spots: list[tuple[int, ...] | None]
    kind, _, count = placement.partition(":")
    if placement == "free":
        spots = [None]
    elif kind == "n" and count.isdecimal() and 0 < int(count) <= 1024:
        spots = [None] * int(count)
    elif placement == "one-big":
        spots = [(_one_big(facts),)]
    elif placement == "one-per-core":
        spots = [(cpu,) for cpu in facts.cpus_online]
    elif placement == "two-per-core":
        spots = [(cpu,) for cpu in facts.cpus_online for _ in range(2)]
    else:
        try:
            spots = [(cpu,) for cpu in knobs.resolve_cores(placement, facts)]
        except ConfigError as error:
            hint = "placements: free, one-big, one-per-core, two-per-core, n:COUNT, or cores such as 4-7, big, 0x30"
            raise ConfigError(f"no such placement {placement!r}: {error.message}", hint=hint) from error
    return at(line, spots)


def at(line: CommandLine, spots: Sequence[tuple[int, ...] | None]) -> tuple[Program, ...]:
    """A load's command line once for each spot: the CPUs a process is pinned to, or ``None``."""
    return tuple(
        Program(name=f"load{number}", role="load", argv=line.argv, env=line.env, cpus=cpus)
        for number, cpus in enumerate(spots)
    )


def flags(level: Level, record: RunRecord) -> tuple[Flag, ...]:
    """``load-not-held`` where the kernel counted another CPU time for a process than the use that it was to hold.

    Args:
        level: the cell's level of ``load``.
        record: of the run; in a window below a second the load's own period counts too much.
    """
    load = overhead.parse_level(level) if isinstance(level, str) and "%" in level else None
    window_ns = record.window_end_ns - record.window_start_ns
    if not isinstance(load, overhead.Hold) or window_ns < _LEAST_NS:
        return ()
    had = [(one, 100 * one.window_cpu_ns / window_ns) for one in record.programs if one.role == "load"]
    off = [(one, pct) for one, pct in had if abs(pct - load.use_pct) > HELD_PCT]
    return tuple(
        Flag(
            code="load-not-held",
            detail=f"{one.name} was to hold {load.use_pct:g} % of a core, and the kernel counted {pct:.1f} % for it"
            f"{_around(one, record)}",
        )
        for one, pct in off
    )


def _around(one: ProgramResult, record: RunRecord) -> str:
    """How busy the cores were that it might run on, by /proc/stat."""
    use = cpu_use_pct(record.samples)
    cores = [use[name] for cpu in one.granted if (name := str(cpu)) in use]
    return f"; its cores were {sum(cores) / len(cores):.0f} % busy in all" if cores else ""


def _one_big(facts: Facts) -> int:
    """The first big core that is online.

    Raises:
        ConfigError: all of them are offline.
    """
    big = knobs.resolve_cores("big", facts)
    for cpu in big:
        if cpu in facts.cpus_online:
            return cpu
    raise ConfigError(
        f"placement 'one-big': every big core ({', '.join(map(str, big))}) is offline",
        device=facts.name,
        hint='bring them online with cores = "all-online"',
    )
