"""The agent's journal: one JSON object a line, flushed when it is written, each with a checksum.

``line_sha256`` is the last key of every line; it is the SHA-256 of the line's bytes up to (not including) the text
``,"line_sha256"``. A line without newline, or whose checksum differs, was cut or damaged and is not used.
All ``*_ns`` times are CLOCK_MONOTONIC of the device unless the name says ``unix``.
"""

import base64
import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from devicelab.model.plan import Noun


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

    code: str
    detail: str
    remark: bool = False


class StepResult(Record):
    """What became of one step. ``errno`` is 0 or the number the kernel gave; ``before``/``after`` are texts read."""

    path: str | None = None
    do: tuple[str, ...] | None = None
    before: str | None = None
    after: str | None = None
    held: bool
    errno: int = 0
    exit_code: int | None = None
    output: str | None = None


class ProbeResult(Record):
    """Answer to an affinity probe: the CPUs granted, or the errno of the refusal."""

    cpus: tuple[int, ...]
    granted: tuple[int, ...] = ()
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
    granted: tuple[int, ...] = ()
    granted_end: tuple[int, ...] = ()
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
    t_ns: tuple[int, ...] = ()
    busy: dict[str, tuple[int | None, ...]] = Field(default_factory=dict)
    total: dict[str, tuple[int | None, ...]] = Field(default_factory=dict)
    nodes: dict[str, tuple[str | None, ...]] = Field(default_factory=dict)


class PlanStart(Record):
    """First line: who runs what, and two clocks read together so that times can be dated."""

    event: Literal["plan-start"]
    plan_id: str
    agent_version: str
    agent_pid: int
    boot_id: str
    t_ns: int
    t_unix_ns: int
    setup: tuple[StepResult, ...] = ()
    flags: tuple[Flag, ...] = ()


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
    busy: dict[str, int | None] = Field(default_factory=dict)
    total: dict[str, int | None] = Field(default_factory=dict)
    nodes: dict[str, str | None] = Field(default_factory=dict)


class RunRecord(Record):
    """A finished run with its evidence. ``status`` is ``done``, or ``failed`` if it could not be performed."""

    event: Literal["run"]
    run_id: str
    seq: int
    status: Literal["done", "failed"]
    flags: tuple[Flag, ...] = ()
    t_start_ns: int
    t_end_ns: int
    t_unix_ns: int
    window_start_ns: int = 0
    window_end_ns: int = 0
    steps: tuple[StepResult, ...] = ()
    probes: tuple[ProbeResult, ...] = ()
    gates: tuple[GateResult, ...] = ()
    programs: tuple[ProgramResult, ...] = ()
    witnesses: tuple[WitnessResult, ...] = ()
    samples: Samples = Samples()
    before: dict[str, str | None] = Field(default_factory=dict)
    after: dict[str, str | None] = Field(default_factory=dict)
    restore: tuple[StepResult, ...] = ()
    agent_cpu_ns: int = 0
    left_behind: int = 0


class PlanEnd(Record):
    """Last line: why the plan ended and what the final restore did."""

    event: Literal["plan-end"]
    reason: Literal["complete", "signal", "failure", "lease-lost"]
    t_ns: int
    runs_done: int
    restore: tuple[StepResult, ...] = ()
    flags: tuple[Flag, ...] = ()


Event = Annotated[PlanStart | RunStart | LiveSample | RunRecord | PlanEnd, Field(discriminator="event")]
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)
_MARK = b',"line_sha256":"'


def parse_line(line: bytes) -> Event:
    """One journal line as an event.

    Raises:
        ValueError: cut, damaged (checksum), not JSON, or not an event we know.
    """
    body, mark, tail = line.rstrip(b"\n").rpartition(_MARK)
    if not mark or tail[64:] != b'"}':
        raise ValueError("journal line is cut")
    if hashlib.sha256(body).hexdigest().encode() != tail[:64]:
        raise ValueError("journal line does not fit its checksum")
    try:
        data: Any = json.loads(body + b"}", parse_int=_int64, parse_constant=_no_number)
        if b"\\ud" in body.lower():
            json.dumps(data, ensure_ascii=False).encode()  # half a surrogate pair is no text that can be stored
        return _EVENT.validate_python(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"journal line is not an event: {error}") from error


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
