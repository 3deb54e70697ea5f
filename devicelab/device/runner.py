"""One device, one plan at a time: deploy, start the agent detached, follow its journal, come back after a loss."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from devicelab.device import agent, files
from devicelab.device.build import Built, build_for
from devicelab.device.facts import Device, regain_root
from devicelab.device.journal_reader import JournalReader
from devicelab.device.watch import Watch, most_events
from devicelab.errors import (
    ConfigError,
    DeviceBusyError,
    DeviceRefusedError,
    DeviceUnreachableError,
    LabError,
)
from devicelab.experiment.programs import Needs
from devicelab.ground.interruption import Interruptible
from devicelab.ground.safe_text import spoken
from devicelab.model.journal import Event, PlanEnd
from devicelab.model.plan import Plan
from devicelab.transports._pace import Pace
from devicelab.transports._root import wrap as as_root
from devicelab.transports.base import Parcel

FREE_KIB = re.compile(r"(\d+)\s+\d+%\s+/")
"""What an unprivileged user may still write, KiB, in the output of POSIX ``df -Pk``: the word before the percentage."""

_FULL_KIB = 64

PATIENCE_S = 300.0
"""How long a device that went away is waited for before the host gives up (the board goes on alone meanwhile)."""

# While the journal says nothing, the host looks this often whether a run is overdue, or whether it shall stop.
_IDLE_S = 5.0
_STOP_S = 1.0
# One try to get a lost connection back.
_RECONNECT_S = 10.0

# When a run is overdue by this much, the host asks whether the agent is still alive.
_OVERDUE_S = 60.0


class StopRequestedError(Exception):
    """Somebody asked that the work on this device ends early; the agent still works when this is raised."""


class AgentLostError(LabError):
    """The agent ended without finishing its plan: killed, crashed, or the device rebooted (exit code 3)."""

    exit_code = 3
    transient = True


# A trace of some megabytes over a slow cable.
_FETCH_S = 300.0


def plan_dir(device: Device, plan_id: str) -> str:
    """The plan's directory on the device."""
    return f"{device.facts.dir}/plans/{plan_id}"


def plans_there(device: Device, campaign: str) -> tuple[str, ...]:
    """Ids of a campaign's plans whose directories are still on the device."""
    argv = as_root(device.facts.root, ["ls", f"{device.facts.dir}/plans"])
    names = device.transport.run(argv).stdout.decode("utf-8", "replace").split()
    return tuple(sorted(name for name in names if re.fullmatch(rf"{re.escape(campaign)}-[0-9a-f]+", name)))


def compiled(device: Device, programs: tuple[str, ...]) -> tuple[Built, ...]:
    """The programs for this device, built where they are missing.

    Raises:
        BuildError: one does not compile for it.
    """
    # The agent was built as the device was opened.
    return tuple(device.agent if name == "agent" else build_for(name, device.facts) for name in programs)


def deploy(device: Device, needs: Needs) -> tuple[Built, ...]:
    """Build what is missing and push what differs (by SHA-256).

    Raises:
        BuildError: a program does not compile for this device.
        ConfigError: the interpreter that lab.toml names is needed and does not run there.
    """
    built, lacking, sums = _lacking(device, needs)
    if lacking:
        device.transport.push_many(lacking)
    device.sums.update(sums)
    return built


def _lacking(device: Device, needs: Needs) -> tuple[tuple[Built, ...], list[tuple[Path, str, int]], dict[str, str]]:
    """Programs as they were built, files that differ on the device, and the checksums of all."""
    built = compiled(device, needs.native)
    pairs = [
        (item.path, f"{device.facts.dir}/bin/{item.program}", 0o755)
        for item in built
        if device.sums.get(item.program) != item.sha256
    ]
    if needs.python:
        _look_for_python(device)
    others = files.wanted(needs)
    sums = {one.name: one.sha256 for one in others}
    pairs += [
        (one.path, f"{device.facts.dir}/bin/{one.name}", one.mode)
        for one in others
        if device.sums.get(one.name) != one.sha256
    ]
    return built, pairs, {item.program: item.sha256 for item in built} | sums


def _look_for_python(device: Device) -> None:
    python = device.place.python
    done = device.transport.run([python, "-c", ""])
    if done.exit_code:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ConfigError(
            f"the interpreter {python!r} does not run there{''.join(f': {line[:200]}' for line in said)}",
            device=device.facts.name,
            hint=f'lab.toml: [devices.{device.facts.name}] python = "/path/to/python3"',
        )


def send(device: Device, needs: Needs, plan: Plan) -> Parcel:
    """Build what is missing and copy what differs to the device, with the plan; ``start`` puts it in its place.

    Raises:
        BuildError, ConfigError: see ``deploy``.
    """
    _, lacking, _ = _lacking(device, needs)
    with TemporaryDirectory(prefix="devicelab-") as temporary:
        local = Path(temporary) / "plan.json"
        local.write_text(plan.to_json(), encoding="utf-8")
        return device.transport.send([*lacking, (local, f"{plan_dir(device, plan.plan_id)}/plan.json", 0o644)])


def start(device: Device, plan: Plan, parcel: Parcel, idle_s: float = _IDLE_S) -> Iterator[bytes]:
    """Start the agent on a plan and follow its journal, over one connection.

    It lives on whatever happens to this process or the cable.
    """
    where = plan_dir(device, plan.plan_id)
    argv = device.argv("run", f"{where}/plan.json", "--state", agent.state_dir(device), "--out", where)
    journal = device.transport.start(
        argv, log=f"{where}/agent.log", parcel=parcel, follower=_follower(device, plan, 0), idle_s=idle_s
    )
    folder = f"{device.facts.dir}/bin/"
    device.sums.update({to.removeprefix(folder): sum_ for _, to, sum_, _ in parcel.files if to.startswith(folder)})
    return journal


def run_to_end(
    device: Device,
    plan: Plan,
    see: Callable[[Event], None],
    signals: Interruptible,
    *,
    needs: Needs | None = None,
    patience_s: float = PATIENCE_S,
    stop: Callable[[], bool] | None = None,
) -> PlanEnd:
    """Have the agent perform a plan, and follow it to its end; whatever ends that early ends the agent's work, too.

    Args:
        device: where.
        plan: what to do.
        see: handed every event once, in order.
        signals: told that the work is being ended, so that no further signal hurries that.
        needs: what to build and push first; ``None``: the plan was begun before, and its journal is followed.
        patience_s: see ``attend``.
        stop: see ``attend``.

    Raises:
        BuildError: a program does not compile for this device.
        LabError: see ``attend``; the agent may still work.
        KeyboardInterrupt, StopRequestedError: the agent was ended; it has given the device back, and what it journalled
            until then was handed over. Likewise whatever ``see`` raised.
    """
    reader = _reader(device, plan)
    begun = needs is None
    journal: Iterator[bytes] | None = None
    try:
        if needs is not None:
            parcel = send(device, needs, plan)
            begun = True
            journal = start(device, plan, parcel, _idle_s(stop))
        return attend(device, plan, see, patience_s=patience_s, stop=stop, reader=reader, journal=journal)
    except DeviceBusyError:
        if needs is not None:
            with contextlib.suppress(LabError):
                _clean_unbegun(device, plan)
        raise
    except LabError:
        raise
    except BaseException:  # a wish to end, or a mistake of ours or of who is told: no agent goes on for nobody
        signals.ending = True
        if begun:
            agent.stop(device, plan)
            with contextlib.suppress(LabError):
                drain(device, plan, see, reader)
        raise


def attend(
    device: Device,
    plan: Plan,
    on_event: Callable[[Event], None],
    *,
    patience_s: float = PATIENCE_S,
    stop: Callable[[], bool] | None = None,
    reader: JournalReader | None = None,
    journal: Iterator[bytes] | None = None,
) -> PlanEnd:
    """Follow a plan's journal from its beginning to its end, through lost connections.

    ``journal`` is what ``start`` gave, if the agent was started just now: it needs no connection of its own then.
    Every event is handed over once, in order. Nothing is asked of the device while a run lasts no longer than it may.
    ``stop`` is asked every second; signals reach the main thread alone, so other threads are ended that way.

    Raises:
        StopRequestedError: ``stop`` said so; the agent still works.
        AgentLostError: the agent ended without the plan's end (the events it journalled were handed over).
        DeviceUnreachableError: the device did not come back within ``patience_s``; the board goes on alone.
        DistrustError: what comes is no journal of the plan, or the agent gets nowhere and says that it works.
    """
    reader = reader or _reader(device, plan)
    watch = Watch(plan, min(_OVERDUE_S, patience_s), patience_s)
    end: PlanEnd | None = None
    while True:
        try:
            followed = journal or _follow(device, plan, reader.reopen(), _idle_s(stop))
            journal = None
            for chunk in followed:
                if stop is not None and stop():
                    raise StopRequestedError
                for event in reader.feed(chunk):
                    watch.see(event)
                    began = time.monotonic()
                    on_event(event)
                    watch.waited(time.monotonic() - began)
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
        status = _after_silence(device, patience_s, stop)
        if status.alive:
            if status.plan_id != plan.plan_id:
                _raise_if_refused(device, _log(device, plan))
            watch.breathe(device.facts.name)
            continue
        drained = drain(device, plan, on_event, reader)
        if drained is not None:
            return drained
        raise AgentLostError(
            _last_words(device, plan) or "the agent ended before its plan did",
            device=device.facts.name,
            hint="`devicelab sweep --resume` does what is missing",
        )


def drain(
    device: Device, plan: Plan, on_event: Callable[[Event], None], reader: JournalReader | None = None
) -> PlanEnd | None:
    """What an agent that has ended journalled, without waiting for more: all of it, or what ``reader`` has not seen."""
    reader = reader or _reader(device, plan)
    pace = Pace(f"the journal of plan {plan.plan_id}", device.facts.name)
    for chunk in _follow(device, plan, reader.reopen()):
        pace.came(len(chunk))
        for event in reader.feed(chunk):
            on_event(event)
            if isinstance(event, PlanEnd):
                return event
        if not chunk:
            break
    return None


def fetch(device: Device, path: str, most_bytes: int) -> bytes:
    """A file that a plan left on the device, up to so many bytes; empty if there is none."""
    argv = as_root(device.facts.root, ["head", "-c", str(most_bytes), path])
    done = device.transport.run(argv, timeout_s=_FETCH_S)
    return done.stdout if done.exit_code == 0 else b""


def clean(device: Device, plan: Plan) -> None:
    """Remove a plan's directory from the device, once everything in it is stored."""
    argv = as_root(device.facts.root, ["rm", "-rf", plan_dir(device, plan.plan_id)])
    device.transport.run(argv)


def _idle_s(stop: Callable[[], bool] | None) -> float:
    return _IDLE_S if stop is None else _STOP_S


def _journal(device: Device, plan: Plan) -> str:
    return f"{plan_dir(device, plan.plan_id)}/journal.jsonl"


def _clean_unbegun(device: Device, plan: Plan) -> None:
    """Remove the directory of a plan that the agent did not take; a journal tells that another agent did."""
    script = '[ -e "$1/journal.jsonl" ] || rm -rf "$1"'
    device.transport.run(as_root(device.facts.root, ["sh", "-c", script, "sh", plan_dir(device, plan.plan_id)]))


def _follower(device: Device, plan: Plan, offset: int) -> list[str]:
    # Whole lines: an agent that runs out of space takes back the part of a line that it could still write.
    words = ("follow", _journal(device, plan), str(offset), "--lines", "--state", agent.state_dir(device))
    return device.argv(*words)


def _follow(device: Device, plan: Plan, offset: int, idle_s: float = _IDLE_S) -> Iterator[bytes]:
    follower = _follower(device, plan, offset)
    return device.transport.follow(_journal(device, plan), offset=offset, idle_s=idle_s, follower=follower)


def _reader(device: Device, plan: Plan) -> JournalReader:
    return JournalReader(device.facts.name, most_events(plan))


def _after_silence(device: Device, patience_s: float, stop: Callable[[], bool] | None) -> agent.Status:
    import stamina  # with asyncio, at the one place that waits for a device to come back

    def again(error: Exception) -> bool:
        return isinstance(error, DeviceUnreachableError) and not (stop is not None and stop())

    for attempt in stamina.retry_context(on=again, attempts=None, timeout=patience_s, wait_initial=0.5, wait_max=10.0):
        with attempt:
            if attempt.num > 1:
                device.transport.reconnect(timeout_s=_RECONNECT_S)
            regain_root(device)
            return agent.status(device)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _log(device: Device, plan: Plan) -> str:
    """What the agent said when it was started on the plan, the end of it."""
    log = f"{plan_dir(device, plan.plan_id)}/agent.log"
    done = device.transport.run(as_root(device.facts.root, ["cat", log]))
    return spoken(done.stdout[-4096:].decode("utf-8", "replace"))


def _raise_if_refused(device: Device, log: str) -> None:
    last = log.splitlines()[-1] if log else ""
    if "busy:" in log:
        raise DeviceBusyError(last, device=device.facts.name)
    if "plan invalid:" in log:
        raise ConfigError(f"the agent does not take the plan: {last}", device=device.facts.name)


def _last_words(device: Device, plan: Plan) -> str:
    """Why the agent refused to start, from its log; raises the fitting error if the log tells the kind."""
    log = _log(device, plan)
    _raise_if_refused(device, log)
    last = log.splitlines()[-1] if log else ""
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
            f"{reader.lost} damaged journal lines ({reader.damaged[0]}); their runs are not stored",
            device=device.facts.name,
            hint="`devicelab sweep --resume` does them again",
        )
