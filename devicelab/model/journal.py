"""The agent's journal: one JSON object a line, flushed when it is written, each with a checksum.

``line_sha256`` is the last key of every line; it is the SHA-256 of the line's bytes up to (not including) the text
``,"line_sha256"``. A line without newline, or whose checksum differs, was cut or damaged and is not used.
All ``*_ns`` times are CLOCK_MONOTONIC of the device unless the name says ``unix``.
"""

import base64
import hashlib
import json
import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, FailFast, Field, TypeAdapter, ValidationError

from devicelab.ground import budget
from devicelab.model.plan import Noun

# The agent's own flags are a kilobyte at most, and 256 of them.
_MAX_DETAIL = 4096
_MAX_CODE = 100
_MAX_FLAGS = 4096
# Of further problems in a line only the number is told.
_SHOWN = 20


class Record(Noun):
    """Base of journal records: a newer agent may say more than we know, so unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Flag(Noun):
    """Why a run is not to be believed: a code for machines, a sentence with the figure for people.

    Codes set by the agent: ``write-failed`` ``probe-failed`` ``gate-timeout`` ``load-not-running`` ``load-died``
    ``affinity-refused`` ``affinity-changed`` ``program-failed`` ``timeout`` ``not-ready`` ``output-cut``
    ``interrupted`` ``agent-busy`` ``load-left-behind`` ``restore-failed``. Knobs, workloads and schedulers add theirs.

    A ``remark`` is said, and the run counts all the same.
    """

    code: Annotated[str, AfterValidator(lambda text: budget.cut(text, _MAX_CODE))]
    detail: Annotated[str, AfterValidator(lambda text: budget.cut(text, _MAX_DETAIL))]
    remark: bool = False


_T = TypeVar("_T")
Many = Annotated[tuple[_T, ...], FailFast()]
"""What a device sends a lot of: the first that is wrong is enough, a million complaints fill the memory."""

Flags = Annotated[tuple[Flag, ...], FailFast(), Field(max_length=_MAX_FLAGS)]


def _few(most: int) -> BeforeValidator:
    def counted(value: object) -> object:
        if isinstance(value, dict) and len(value) > most:
            raise ValueError(f"{len(value)} names, {most} are the most")
        return value

    return BeforeValidator(counted)


PerCpu = Annotated[dict[str, _T], _few(4096)]
PerNode = Annotated[dict[str, _T], _few(100_000)]
"""Maps from CPU numbers, or from paths, of no more than there can be: each that is wrong is a complaint of its own."""


class StepResult(Record):
    """What became of one step. ``errno`` is 0 or the number the kernel gave; ``before``/``after`` are texts read."""

    path: str | None = None
    do: Annotated[tuple[str, ...] | None, Field(max_length=1000)] = None
    before: str | None = None
    after: str | None = None
    held: bool
    errno: int = 0
    exit_code: int | None = None
    output: str | None = None


class ProbeResult(Record):
    """Answer to an affinity probe: the CPUs granted, or the errno of the refusal."""

    cpus: Many[int]
    granted: Many[int] = ()
    errno: int = 0


class GateResult(Record):
    """How a gate ended: the last value read, the time waited, and whether it was reached."""

    path: str
    value: int | None = None
    waited_ms: int
    reached: bool


class ProgramResult(Record):
    """What a program did.

    ``granted`` is the affinity the kernel reported just after the start, ``granted_end`` at the end; ``cpu_ns`` its
    own CPU time (user + system, with children). ``window_cpu_ns`` the part of it inside the observed window.
    ``exit_code`` is ``None`` if a signal ended it. Output that is not UTF-8 comes as ``stdout_b64``.
    """

    name: str
    role: Literal["load", "measure"]
    pid: int
    start_ns: int = 0
    end_ns: int = 0
    granted: Many[int] = ()
    granted_end: Many[int] = ()
    cpu_ns: int = 0
    window_cpu_ns: int = 0
    exit_code: int | None = None
    signal: int | None = None
    stdout: str | None = None
    stdout_b64: str | None = None
    stdout_sha256: str | None = None
    stdout_bytes: int = 0
    stderr_tail: str = ""

    def output(self) -> bytes:
        """The program's standard output as bytes, checked against its checksum.

        Raises:
            ValueError: the checksum does not fit.
        """
        data = base64.b64decode(self.stdout_b64) if self.stdout_b64 is not None else (self.stdout or "").encode()
        if self.stdout_sha256 is not None and hashlib.sha256(data).hexdigest() != self.stdout_sha256:
            raise ValueError(f"output of {self.name} does not fit its checksum")
        return data


class Phase(Record):
    """What the agent does in a run from ``t_ns`` on, until the next phase.

    ``pin`` (steps), ``verify`` (probes), ``gates``, ``idle`` (samples before anything works),
    ``loads``, ``settle``, ``start``, ``measure``, ``restore``.
    """

    name: str
    t_ns: int


class WitnessResult(Record):
    """Output of a witness command."""

    name: str
    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""


class Samples(Record):
    """Evidence sampled while the run's window lasted.

    ``t_ns`` has length n. ``busy`` and ``total`` map a CPU number (as text) to n counters of /proc/stat in ticks
    (``None`` while that CPU is offline). ``nodes`` maps a path to n texts (``None`` where it could not be read).
    """

    tick_hz: int = 100
    t_ns: Many[int] = ()
    busy: PerCpu[Many[int | None]] = Field(default_factory=dict)
    total: PerCpu[Many[int | None]] = Field(default_factory=dict)
    nodes: PerNode[Many[str | None]] = Field(default_factory=dict)


class Span(Record):
    """Ticks of each CPU between two instants: ``work`` is what tasks used, ``agent_ns`` the agent's share of it."""

    t_ns: int = 0
    span_ns: int
    agent_ns: int = 0
    work: dict[str, int] = Field(default_factory=dict)
    total: dict[str, int] = Field(default_factory=dict)


class Process(Record):
    """A process and the CPU time it used, with children that it waited for; ``cpu`` is where it ran last."""

    pid: int
    name: str
    cpu: int = -1
    cpu_ns: int = 0


class Others(Record):
    """Whose CPU time it was.

    ``before`` is a look while nothing of a run works yet (of this one, or of one at most 2 s earlier, 60 s if
    others used at most 5 % of all CPUs then and are not hidden); ``during`` lasts from just before the window to
    just behind it. Of the latter, by looks at every process: ``ours_ns`` the agent and all that it started,
    ``kernel_ns`` the kernel's threads, ``others_ns`` everybody else; ``heaviest`` names the first of those.
    ``hidden``: other users' processes cannot be seen, so that what they used is part of no sum.
    """

    tick_hz: int = 100
    hidden: bool = False
    before: Span | None = None
    during: Span | None = None
    ours_ns: int = 0
    kernel_ns: int = 0
    others_ns: int = 0
    heaviest: tuple[Process, ...] = ()


class PlanStart(Record):
    """First line: who runs what, and two clocks read together so that times can be dated."""

    event: Literal["plan-start"]
    plan_id: str
    agent_version: str
    agent_pid: int
    boot_id: str
    t_ns: int
    t_unix_ns: int
    setup: Many[StepResult] = ()
    flags: Flags = ()


class RunStart(Record):
    """A run begins (its steps come next). Written before the run, so progress shows while nothing is measured."""

    event: Literal["run-start"]
    run_id: str
    seq: int
    t_ns: int


class LiveSample(Record):
    """One live sample (plans with ``live`` only): busy and total ticks per CPU since boot."""

    event: Literal["sample"]
    run_id: str
    t_ns: int
    busy: PerCpu[int | None] = Field(default_factory=dict)
    total: PerCpu[int | None] = Field(default_factory=dict)
    nodes: PerNode[str | None] = Field(default_factory=dict)


class RunRecord(Record):
    """A finished run with its evidence. ``status`` is ``done``, or ``failed`` if it could not be performed.

    ``samples`` are of its window, ``idle`` of the time before anything of it worked, where that was asked for.
    """

    event: Literal["run"]
    run_id: str
    seq: int
    status: Literal["done", "failed"]
    flags: Flags = ()
    t_start_ns: int
    t_end_ns: int
    t_unix_ns: int
    window_start_ns: int = 0
    window_end_ns: int = 0
    phases: Many[Phase] = ()
    steps: Many[StepResult] = ()
    probes: Many[ProbeResult] = ()
    gates: Many[GateResult] = ()
    programs: Many[ProgramResult] = ()
    witnesses: Many[WitnessResult] = ()
    samples: Samples = Samples()
    idle: Samples = Samples()
    others: Others | None = None
    before: PerNode[str | None] = Field(default_factory=dict)
    after: PerNode[str | None] = Field(default_factory=dict)
    restore: Many[StepResult] = ()
    agent_cpu_ns: int = 0
    left_behind: int = 0


class PlanEnd(Record):
    """Last line: why the plan ended and what the final restore did."""

    event: Literal["plan-end"]
    reason: Literal["complete", "signal", "failure", "lease-lost"]
    t_ns: int
    runs_done: int
    restore: Many[StepResult] = ()
    flags: Flags = ()


Event = Annotated[PlanStart | RunStart | LiveSample | RunRecord | PlanEnd, Field(discriminator="event")]
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)
_MARK = b',"line_sha256":"'
_TAIL = len(_MARK) + 66
_SURROGATE = re.compile(rb"\\u[dD]")


def parse_line(line: bytes) -> Event:
    """One journal line as an event.

    Raises:
        ValueError: cut, damaged (checksum), not JSON, or not an event we know.
    """
    line = line.rstrip(b"\n")
    end = len(line) - _TAIL
    if end < 0 or line[end : end + len(_MARK)] != _MARK or not line.endswith(b'"}'):
        raise ValueError("journal line is cut")
    body = memoryview(line)[:end]  # a line may be long: it is not copied more often than it must be
    if hashlib.sha256(body).hexdigest().encode() != line[-66:-2]:
        raise ValueError("journal line does not fit its checksum")
    try:
        text = budget.within(b"".join((body, b"}")))
        data: Any = json.loads(text, parse_int=_int64, parse_constant=_no_number)
        if _SURROGATE.search(text):
            json.dumps(data, ensure_ascii=False).encode()  # half a surrogate pair is no text that can be stored
        del text
        return _EVENT.validate_python(data)
    except ValidationError as error:
        wrong = error.error_count()
        shown = str(error) if wrong < _SHOWN else f"{wrong} fields are wrong"
        raise ValueError(f"journal line is not an event: {budget.cut(shown, _MAX_DETAIL)}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"journal line is not an event: {budget.cut(str(error), _MAX_DETAIL)}") from error


def _int64(digits: str) -> int:
    # Counters, times and pids are 64 bits at most; what is longer would not fit what they are computed with.
    if len(digits) > 20 or not -(1 << 63) <= (value := int(digits)) < 1 << 63:
        raise ValueError("a number of more than 64 bits")
    return value


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")


def seal_line(event: dict[str, Any]) -> bytes:
    """The journal line for an event, with checksum and newline: what the agent writes, for tests and stand-ins."""
    body = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()[:-1]
    return body + _MARK + hashlib.sha256(body).hexdigest().encode() + b'"}\n'
