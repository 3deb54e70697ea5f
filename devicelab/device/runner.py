"""One device, one plan at a time: deploy, start the agent detached, follow its journal, come back after a loss."""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import stamina

from devicelab.device.build import Built, build_for
from devicelab.device.facts import Device, regain_root
from devicelab.errors import (
    ConfigError,
    DeviceBusyError,
    DeviceRefusedError,
    DeviceUnreachableError,
    LabError,
    RestoreError,
)
from devicelab.ground import registry
from devicelab.model.journal import Event, PlanEnd, PlanStart, RunRecord, RunStart, parse_line
from devicelab.model.plan import Plan, Run
from devicelab.transports._root import wrap as as_root

# How long a device that went away is waited for before the host gives up (the board goes on alone meanwhile).
FREE_KIB = re.compile(r"(\d+)\s+\d+%\s+/")
"""What an unprivileged user may still write, KiB, in the output of POSIX ``df -Pk``: the word before the percentage."""

_FULL_KIB = 64
PATIENCE_S = 300.0

# How often the host looks up while the journal says nothing: for an overdue run, and whether it shall stop.
_IDLE_S = 5.0
_STOP_S = 1.0
# One try to get a lost connection back.
_RECONNECT_S = 10.0

# A run that is overdue by so much makes the host ask whether the agent is still alive.
_OVERDUE_S = 60.0

# So long an agent may take from its start until it says that it is there: it reads its plan and waits for the lock.
_APPEAR_S = 10.0
_LOOK_S = 0.1

# A write to a node may block (a core that goes offline), but not for long.
_WRITE_MS = 2_000

# The longest line believed: a run's output is bounded by the agent, this bounds what a broken device can send.
_MAX_LINE = 256 << 20


class StopRequestedError(Exception):
    """Somebody asked that the work on this device ends early; the agent still works when this is raised."""


class AgentLostError(LabError):
    """The agent ended without finishing its plan: killed, crashed, or the device rebooted (exit code 3)."""

    exit_code = 3
    transient = True


@dataclass(frozen=True)
class Status:
    """What ``agent status`` says about a device.

    Attributes:
        alive: an agent is executing a plan (or holding a pin) now.
        holder: who holds an unexpired lease, ``None`` if nobody.
        remaining_s: of that lease.
        pending: things a dead agent left to be undone, for people.
        plan_id: of the plan the live or dead agent had.
        kept: what a pin holds on purpose until ``devicelab restore``, for people.
    """

    alive: bool = False
    holder: str | None = None
    remaining_s: float = 0.0
    pending: tuple[str, ...] = ()
    plan_id: str | None = None
    kept: tuple[str, ...] = ()

    def works_for(self, campaign: str | None) -> bool:
        """An agent executes a plan of this campaign now; a plan's id is its campaign's and a part of its own."""
        return self.alive and (self.plan_id or "").startswith(f"{campaign}-")


@dataclass
class JournalReader:
    """Cuts the journal's bytes into events. Damaged lines are counted and skipped, an unfinished one is waited for."""

    offset: int = 0
    damaged: list[str] = field(default_factory=list)
    _rest: bytes = b""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events completed by a chunk; ``offset`` is always behind the last complete line."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > _MAX_LINE:
            raise DeviceUnreachableError("the journal has a line without end; the device sends garbage")
        for line in lines:
            self.offset += len(line) + 1
            if line:
                try:
                    yield parse_line(line + b"\n")
                except ValueError as error:
                    self.damaged.append(f"at byte {self.offset - len(line) - 1}: {error}")

    def reopen(self) -> int:
        """Where to read on after the connection broke: what was not a complete line is read again."""
        self._rest = b""
        return self.offset


def plan_dir(device: Device, plan_id: str) -> str:
    """The plan's directory on the device."""
    return f"{device.facts.dir}/plans/{plan_id}"


def plans_there(device: Device, campaign: str) -> tuple[str, ...]:
    """Ids of a campaign's plans whose directories are still on the device."""
    argv = as_root(device.facts.root, ["ls", f"{device.facts.dir}/plans"])
    names = device.transport.run(argv).stdout.decode("utf-8", "replace").split()
    return tuple(sorted(name for name in names if re.fullmatch(rf"{re.escape(campaign)}-[0-9a-f]+", name)))


def state_dir(device: Device) -> str:
    """The directory of lease and undo journal on the device."""
    return f"{device.facts.dir}/state"


def ask(device: Device, *words: str, timeout_s: float = 60.0) -> tuple[int, dict[str, Any], str]:
    """Call an agent command that answers with one JSON object: (exit code, object, what it said on stderr).

    Raises:
        DeviceRefusedError: no such object came.
    """
    done = device.transport.run(device.argv(*words), timeout_s=timeout_s)
    said = done.stderr.decode("utf-8", "replace").strip()
    try:
        answer = json.loads(done.stdout or b"{}")
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise DeviceRefusedError(
            f"`agent {words[0]}` gave no answer (exit code {done.exit_code}): {said[:500] or done.stdout[:200]!r}",
            device=device.facts.name,
        )
    return done.exit_code, answer, said


def status(device: Device) -> Status:
    """Who holds the device and what is left to undo there."""
    _, answer, _ = ask(device, "status", "--state", state_dir(device))
    lease, agent, undo = (_table(answer, name) for name in ("lease", "agent", "undo"))
    pending = _list(undo, "pending")
    kept = [*_list(undo, "kept"), *(_list(undo, "active") if agent.get("state") == "keeping" else [])]
    return Status(
        alive=bool(agent.get("alive")),
        holder=str(lease["holder"]) if lease.get("holder") and not lease.get("expired") else None,
        remaining_s=_seconds(lease.get("remaining_s")),
        pending=tuple(str(entry) for entry in pending),
        kept=tuple(str(entry) for entry in kept),
        plan_id=str(agent["plan_id"]) if agent.get("plan_id") else None,
    )


def _table(answer: dict[str, Any], name: str) -> dict[str, Any]:
    found = answer.get(name)
    return found if isinstance(found, dict) else {}


def _list(answer: dict[str, Any], name: str) -> list[Any]:
    found = answer.get(name)
    return found if isinstance(found, list) else []


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e9 else 0.0


def restore(device: Device) -> dict[str, Any]:
    """Replay the undo journal that a dead agent left; the agent's answer says what was put back.

    Raises:
        RestoreError: something could not be put back; it stays in the undo journal and is named.
    """
    code, answer, said = ask(device, "restore", "--state", state_dir(device), timeout_s=180)
    if code == RestoreError.exit_code:
        failed = ", ".join(map(str, _list(answer, "failed"))) or said or "see `devicelab devices`"
        raise RestoreError(
            f"could not be put back as it was found: {failed}",
            device=device.facts.name,
            hint="a reboot resets sysfs; then run `devicelab restore` again",
        )
    if code == DeviceUnreachableError.exit_code:
        raise DeviceBusyError(
            said or "an agent is at work there",
            device=device.facts.name,
            hint="wait until it is done, or end its work: devicelab restore --force",
        )
    if code != 0:
        raise DeviceRefusedError(f"restore failed (exit code {code}): {said}", device=device.facts.name)
    return answer


def make_ready(device: Device, holder: str) -> tuple[str, ...]:
    """Before work: nobody else may hold the device, and what a dead agent left is undone first.

    Returns:
        What was pending and is undone now.

    Raises:
        DeviceBusyError: somebody else holds it.
        RestoreError: the undo did not work.
    """
    if device.idle:
        return ()
    found = status(device)
    if found.alive or (found.holder is not None and found.holder != holder):
        left = f" for {found.remaining_s:.0f} s more" if found.remaining_s else ""
        raise DeviceBusyError(
            f"held by {found.holder or 'another agent'}{left}",
            device=device.facts.name,
            hint="wait, or end that work where it was started; `devicelab devices` shows the holder",
        )
    if found.pending:
        restore(device)
    return found.pending


def compiled(device: Device, programs: tuple[str, ...]) -> tuple[Built, ...]:
    """The programs for this device, built where they are missing.

    Raises:
        BuildError: one does not compile for it.
    """
    return tuple(build_for(name, device.facts) for name in programs)


def deploy(
    device: Device, programs: tuple[str, ...], plan: Plan | None = None, files: tuple[str, ...] = ()
) -> tuple[Built, ...]:
    """Build what is missing and push what differs (by SHA-256), together with the plan, over one connection.

    ``files`` are scripts in ``devicelab/workloads/scripts``.

    Raises:
        BuildError: a program does not compile for this device.
    """
    built = compiled(device, programs)
    pairs = [
        (item.path, f"{device.facts.dir}/bin/{item.program}", 0o755)
        for item in built
        if device.sums.get(item.program) != item.sha256
    ]
    scripts = {name: registry.script(name) for name in files}
    sums = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in scripts.items()}
    pairs += [
        (path, f"{device.facts.dir}/bin/{name}", 0o644)
        for name, path in scripts.items()
        if device.sums.get(name) != sums[name]
    ]
    with TemporaryDirectory(prefix="devicelab-") as temporary:
        if plan is not None:
            local = Path(temporary) / "plan.json"
            local.write_text(plan.to_json(), encoding="utf-8")
            pairs.append((local, f"{plan_dir(device, plan.plan_id)}/plan.json", 0o644))
        if pairs:
            device.transport.push_many(pairs)
    device.sums.update({item.program: item.sha256 for item in built} | sums)
    return built


def start(device: Device, plan: Plan) -> None:
    """Start the agent on a deployed plan; it lives on whatever happens to this process or the cable."""
    where = plan_dir(device, plan.plan_id)
    argv = device.argv("run", f"{where}/plan.json", "--state", state_dir(device), "--out", where)
    device.transport.start(argv, log=f"{where}/agent.log")


def attend(
    device: Device,
    plan: Plan,
    on_event: Callable[[Event], None],
    *,
    patience_s: float = PATIENCE_S,
    stop: Callable[[], bool] | None = None,
) -> PlanEnd:
    """Follow a plan's journal from its beginning to its end, through lost connections.

    Every event is handed over once, in order. Nothing is asked of the device while a run lasts no longer than it may.
    ``stop`` is asked every second; signals reach the main thread alone, so other threads are ended that way.

    Raises:
        StopRequestedError: ``stop`` said so; the agent still works.
        AgentLostError: the agent ended without the plan's end (the events it journalled were handed over).
        DeviceUnreachableError: the device did not come back within ``patience_s``; the board goes on alone.
    """
    reader = JournalReader()
    watch = _Watch(plan, min(_OVERDUE_S, patience_s))
    end: PlanEnd | None = None
    while True:
        try:
            for chunk in _follow(device, plan, reader.reopen(), _IDLE_S if stop is None else _STOP_S):
                if stop is not None and stop():
                    raise StopRequestedError
                for event in reader.feed(chunk):
                    watch.see(event)
                    on_event(event)
                    if isinstance(event, PlanEnd):
                        end = event
                # The follower ends when the agent has let go of the device; the next plan would find it busy before.
                if watch.overdue() or (end is not None and (plan.keep or not chunk)):
                    break
        except DeviceUnreachableError:
            pass
        if end is not None:
            _complain_about_damage(device, reader)
            return end
        found = _after_silence(device, patience_s, stop)
        if found.alive:
            watch.breathe()
            continue
        drained = drain(device, plan, on_event, reader)
        if drained is not None:
            return drained
        raise AgentLostError(
            _last_words(device, plan) or "the agent ended before its plan did",
            device=device.facts.name,
            hint="`devicelab sweep --resume` does what is missing",
        )


def stop(device: Device, plan: Plan | None = None) -> None:
    """End the live agent: it aborts its run, kills its loads and restores, and is waited for.

    With ``plan`` only the agent that executes it, or another plan of its campaign, also if it was started this moment
    and has not said yet that it is there; an agent that somebody else has started goes on.
    """
    deadline = time.monotonic() + _APPEAR_S
    while plan is not None:
        found = status(device)
        if found.works_for(plan.campaign):
            break
        if found.plan_id == plan.plan_id or time.monotonic() >= deadline:
            return
        time.sleep(_LOOK_S)
    ask(device, "stop", "--state", state_dir(device), timeout_s=180)


def drain(
    device: Device, plan: Plan, on_event: Callable[[Event], None], reader: JournalReader | None = None
) -> PlanEnd | None:
    """What an agent that has ended journalled, without waiting for more: all of it, or what ``reader`` has not seen."""
    reader = reader or JournalReader()
    for chunk in _follow(device, plan, reader.reopen()):
        for event in reader.feed(chunk):
            on_event(event)
            if isinstance(event, PlanEnd):
                return event
        if not chunk:
            break
    return None


def clean(device: Device, plan: Plan) -> None:
    """Remove a plan's directory from the device, once everything in it is stored."""
    argv = as_root(device.facts.root, ["rm", "-rf", plan_dir(device, plan.plan_id)])
    device.transport.run(argv)


def _follow(device: Device, plan: Plan, offset: int, idle_s: float = _IDLE_S) -> Iterator[bytes]:
    journal = f"{plan_dir(device, plan.plan_id)}/journal.jsonl"
    # Whole lines: an agent that runs out of space takes back the part of a line that it could still write.
    follower = device.argv("follow", journal, str(offset), "--lines", "--state", state_dir(device))
    return device.transport.follow(journal, offset=offset, idle_s=idle_s, follower=follower)


def _after_silence(device: Device, patience_s: float, stop: Callable[[], bool] | None) -> Status:
    def again(error: Exception) -> bool:
        return isinstance(error, DeviceUnreachableError) and not (stop is not None and stop())

    for attempt in stamina.retry_context(on=again, attempts=None, timeout=patience_s, wait_initial=0.5, wait_max=10.0):
        with attempt:
            if attempt.num > 1:
                device.transport.reconnect(timeout_s=_RECONNECT_S)
            regain_root(device)
            return status(device)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _last_words(device: Device, plan: Plan) -> str:
    """Why the agent refused to start, from its log; raises the fitting error if the log tells the kind."""
    log = f"{plan_dir(device, plan.plan_id)}/agent.log"
    done = device.transport.run(as_root(device.facts.root, ["cat", log]))
    text = done.stdout[-4096:].decode("utf-8", "replace").strip()
    last = text.splitlines()[-1] if text else ""
    if "busy:" in text:
        raise DeviceBusyError(last, device=device.facts.name)
    if "plan invalid:" in text:
        raise ConfigError(f"the agent does not take the plan: {last}", device=device.facts.name)
    if not last:
        _raise_if_full(device)
    return f"the agent ended before its plan did; its last words: {last}" if last else ""


def _raise_if_full(device: Device) -> None:
    """An agent on a full disk can leave neither the plan's end nor a last word."""
    argv = as_root(device.facts.root, ["df", "-Pk", device.facts.dir])
    free = FREE_KIB.search(device.transport.run(argv).stdout.decode("utf-8", "replace"))
    if free and int(free[1]) < _FULL_KIB:
        raise DeviceRefusedError(
            f"the agent ended before its plan did: No space left on device in {device.facts.dir}",
            device=device.facts.name,
            hint="free space there, then `devicelab sweep --resume` goes on",
        )


def _complain_about_damage(device: Device, reader: JournalReader) -> None:
    if reader.damaged:
        raise AgentLostError(
            f"{len(reader.damaged)} damaged journal lines ({reader.damaged[0]}); their runs are not stored",
            device=device.facts.name,
            hint="`devicelab sweep --resume` does them again",
        )


class _Watch:
    """Knows until when silence is normal."""

    def __init__(self, plan: Plan, grace_s: float) -> None:
        self._runs = {run.run_id: run for run in plan.runs}
        self._grace_s = grace_s
        self._until = time.monotonic() + grace_s

    def see(self, event: Event) -> None:
        self._until = time.monotonic() + self._grace_s
        if isinstance(event, RunStart) and event.run_id in self._runs:
            self._until += longest_s(self._runs[event.run_id])
        elif isinstance(event, PlanStart | RunRecord):
            self._until += max((run.cooldown_ms for run in self._runs.values()), default=0) / 1000

    def breathe(self) -> None:
        self._until = max(self._until, time.monotonic() + self._grace_s)

    def overdue(self) -> bool:
        return time.monotonic() > self._until


def longest_s(run: Run) -> float:
    """The longest a run may last by its own time-outs, seconds."""
    steps = sum(_WRITE_MS + step.verify_ms if step.kind == "write" else step.timeout_ms for step in run.steps)
    gates = sum(gate.timeout_ms for gate in run.gates)
    measured = [p for p in run.programs if p.role == "measure"]
    ready = max((p.ready_timeout_ms for p in measured if p.barrier), default=0)
    programs = max((p.timeout_ms for p in measured), default=run.hold_ms)
    return (steps + gates + ready + programs + run.settle_ms + run.cooldown_ms) / 1000
