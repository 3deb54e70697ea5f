"""The plan: what the agent will do on a device, as data that a person can read.

A plan is written as one JSON file, pushed to the device and executed there by ``native/agent.cpp`` alone. All times
are integers with their unit in the name; lists of CPUs are lists of CPU numbers. ``docs/reference/agent.md`` describes
the same format for readers of the C++ side.
"""

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

PLAN_VERSION: Literal[1] = 1


class Noun(BaseModel):
    """Base of the frozen nouns: immutable, and a key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


Verify = Literal["exact", "first-int", "at-most", "word", "none"]


class Floor(Noun):
    """A number of another node below which a write is not done; a run in whose window it is reached ends there.

    Attributes:
        path: the node, an integer text (a battery's charge in percent).
        min_value: the least number. A node that cannot be read counts as below it.
    """

    path: str
    min_value: int


class Write(Noun):
    """One write to a node, journalled before it happens and read back after.

    Attributes:
        path: absolute path of the node on the device.
        value: the text to write (a newline is added by the agent).
        why: one phrase for people ("pin policy4 to 1612800 kHz: max first, going down").
        expect: the text that must be read back; ``None`` means ``value`` itself.
        verify: how the text read back is compared: ``exact`` (without surrounding blanks), ``first-int`` (the first
            integer in it, for nodes such as Mali's ``dvfs_max_lock`` that read "locked / user"), ``at-most`` (the first
            integer in it is not above the one written: limits that read as the *effective* limit, which heat lowers
            further), ``word`` (one of its blank-separated words, brackets stripped), ``none``. The undo is compared in
            the same way with the text it wrote. Compared again and again for ``verify_ms``, since some
            nodes land late.
        verify_ms: how long the comparison is tried before the write counts as not held.
        restore: the text that undoes the write; ``None`` means the text read before it.
        hold: keep the file open until the undo (PM-QoS devices such as ``/dev/cluster0_freq_min``: the request lives
            as long as the file is open).
        floor: not done below this, see there; the run is flagged ``below-floor``.
        required: a failure makes the run invalid; otherwise it is only noted.
    """

    kind: Literal["write"] = "write"
    path: str
    value: str
    why: str
    expect: str | None = None
    verify: Verify = "exact"
    verify_ms: int = 200
    restore: str | None = None
    hold: bool = False
    floor: Floor | None = None
    required: bool = True


class Command(Noun):
    """A command run on the device as a step, with the command that undoes it (never through a shell).

    Attributes:
        do: argv to run now.
        undo: argv that undoes it, journalled before ``do`` runs; ``None`` if there is nothing to undo.
        why: one phrase for people.
        survives_reboot: the effect outlives a reboot (a settings value), so the undo is due even after one.
        required: exit code other than 0 makes the run invalid; otherwise it is only noted.
        timeout_ms: after that the command's process group is killed and the step failed.
    """

    kind: Literal["command"] = "command"
    do: tuple[str, ...]
    undo: tuple[str, ...] | None = None
    why: str
    env: dict[str, str] = Field(default_factory=dict)
    survives_reboot: bool = False
    required: bool = True
    timeout_ms: int = 30_000


Step = Annotated[Write | Command, Field(discriminator="kind")]


class Gate(Noun):
    """Wait before a run until a node's number lies in a band and is flat.

    Attributes:
        path: node to read, an integer text (thermal zones: millidegrees Celsius).
        max_value: wait until the reading is at most this (``None``: no upper bound).
        min_value: wait until the reading is at least this (``None``: no lower bound).
        flat_within: the readings of the last ``window_ms`` must not differ by more (``None``: not asked).
        window_ms: see ``flat_within``.
        timeout_ms: give up then; the run goes on and is flagged ``gate-timeout``.
        why: one phrase for people.
    """

    path: str
    max_value: int | None = None
    min_value: int | None = None
    flat_within: int | None = None
    window_ms: int = 5_000
    timeout_ms: int = 600_000
    why: str


class Probe(Noun):
    """A real affinity call made after the steps: is the kernel willing to place a task on exactly these CPUs?

    Core isolation (core_ctl) refuses although ``online`` says 1; only the call itself tells.
    """

    cpus: tuple[int, ...]
    why: str


Role = Literal["load", "measure"]


class Program(Noun):
    """A program the agent starts in a run.

    Attributes:
        name: unique in the run; names the program in the journal.
        role: ``load`` runs beside the measurement and is ended with SIGKILL; ``measure`` is waited for.
        argv: program and arguments, executed directly. ``{dir}`` at the start of a word stands for the directory the
            plan's binaries were pushed to.
        env: variables set for it.
        env_scrub: names or prefixes ending in ``*`` removed from the inherited environment first.
        cpus: affinity to set before exec (``None``: as inherited). The granted mask is recorded and watched.
        nice: niceness to set, of the process and of its session (autogroups weigh sessions); 0: as inherited.
        cgroups: ``cgroup.procs`` files to join before exec (cpusets, schedtune).
        barrier: the program announces ``READY`` on the descriptor in ``DEVICELAB_READY_FD`` and then reads from the
            one in ``DEVICELAB_GO_FD`` a line with the common start time in CLOCK_MONOTONIC nanoseconds.
        timeout_ms: for ``measure`` programs: killed then, run flagged ``timeout``.
        ready_timeout_ms: for ``barrier`` programs: not ready by then, run flagged ``not-ready``.
        max_output_bytes: stdout beyond that is cut and the run flagged ``output-cut``.

    At the end of the run every process that descends from a program, or that runs a binary named by a word that starts
    with ``{dir}/``, is ended, wherever it lives (another session, su).
    """

    name: str
    role: Role
    argv: tuple[str, ...]
    env: dict[str, str] = Field(default_factory=dict)
    env_scrub: tuple[str, ...] = ()
    cpus: tuple[int, ...] | None = None
    nice: int = 0
    cgroups: tuple[str, ...] = ()
    barrier: bool = False
    timeout_ms: int = 600_000
    ready_timeout_ms: int = 120_000
    max_output_bytes: int = 64 << 20


class Sampling(Noun):
    """What the agent reads while the measurement runs.

    Attributes:
        period_ms: time between two samples (100: 10 Hz). 0 turns sampling off.
        nodes: nodes read at every sample (frequencies, temperatures); keep them few.
        around: nodes read once before the loads start and once after the measurement (time_in_state, cooling states).
        idle_ms: sample for so long before the loads start as well, while nothing of the run works.
    """

    period_ms: int = 100
    idle_ms: int = 0
    nodes: tuple[str, ...] = ()
    around: tuple[str, ...] = ()


class Witness(Noun):
    """A command run while the measurement runs, whose output proves the treatment (a scheduler's list of live pids).

    Runs after every ``barrier`` program was released (or 500 ms after the start of the measurement). ``{pid:NAME}`` as
    a word of ``argv`` becomes the pid of program NAME. Its exit code and output go into the journal, to be judged on
    the host.
    """

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = Field(default_factory=dict)
    timeout_ms: int = 10_000


class Run(Noun):
    """One repetition of a cell: steps, gates, loads, settle, measurement, samples, kill, restore.

    Attributes:
        run_id: unique, derived from campaign, cell and repetition, so that a run is stored exactly once.
        cell_id: hash of the cell's content.
        repetition: counted from 0.
        steps: performed in order; all are undone after the run, in reverse.
        attached: performed when the measured programs are there (``{pid:NAME}`` is one's pid) and have not begun;
            undone like ``steps``.
        gates: waited for after the steps and before the loads.
        probes: affinity calls, after the steps.
        programs: loads and measurements. Without a ``measure`` program the run lasts ``hold_ms``.
        settle_ms: between "all loads were seen to run" and the start of the measurement.
        hold_ms: length of the observed window of a run without a ``measure`` program.
        cooldown_ms: idle time after the restore.
    """

    run_id: str
    cell_id: str
    repetition: int
    steps: tuple[Step, ...] = ()
    attached: tuple[Command, ...] = ()
    gates: tuple[Gate, ...] = ()
    probes: tuple[Probe, ...] = ()
    programs: tuple[Program, ...] = ()
    witnesses: tuple[Witness, ...] = ()
    sampling: Sampling = Sampling()
    settle_ms: int = 500
    hold_ms: int = 0
    cooldown_ms: int = 0


class Plan(Noun):
    """A block of runs for one device.

    Attributes:
        holder: who holds the lease ("user@host pid 4711 campaign 01J…"); shown to others who ask.
        lease_ttl_s: the lease ends by itself so long after its last renewal (the agent renews while it runs).
        setup: steps done once before the first run and undone after the last one.
        keep: leave the effect of ``setup`` in force at the end (``devicelab pin``); the undo journal stays for
            ``agent restore``.
        live: write a ``sample`` event to the journal at every sample (``devicelab load``); off in measurements, so
            that nothing crosses the cable.
        stop_on_failure: end the plan after the first run that could not be performed at all.
    """

    plan_version: Literal[1] = PLAN_VERSION
    plan_id: str
    campaign: str
    device: str
    holder: str
    lease_ttl_s: int = 900
    setup: tuple[Step, ...] = ()
    keep: bool = False
    live: bool = False
    stop_on_failure: bool = False
    runs: tuple[Run, ...] = ()

    def to_json(self) -> str:
        """The plan as the JSON text the agent reads (UTF-8, defaults written out)."""
        return self.model_dump_json(indent=1)


def content_id(*parts: str, length: int = 16) -> str:
    """A short stable id: the first ``length`` hex digits of SHA-256 over the parts."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:length]
