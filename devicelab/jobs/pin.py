"""Pin a device and leave it pinned (``devicelab pin``), and give it back (``devicelab restore``)."""

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from devicelab import knobs
from devicelab.device import agent, reservation, runner
from devicelab.device.facts import Device, open_device, read_again
from devicelab.device.lab import DeviceEntry
from devicelab.errors import DeviceRefusedError, LabError, RestoreError
from devicelab.experiment.programs import Needs
from devicelab.ground import side_by_side, user
from devicelab.ground.interruption import Interruptible, interruptible
from devicelab.knobs.base import Setting
from devicelab.model.campaign import new_id
from devicelab.model.device import Facts
from devicelab.model.experiment import Level
from devicelab.model.journal import Event, PlanEnd, PlanStart, StepResult
from devicelab.model.plan import Plan

_NEEDS = Needs(("agent",))
# For a device to say how it is; the agent may have to be compiled for it first.
_ANSWER_S = 120.0


@dataclass(frozen=True)
class Pinned:
    """What a pin did: the settings planned, the steps with what was read before and after, what was not possible."""

    facts: Facts
    settings: dict[str, Setting]
    steps: tuple[StepResult, ...] = ()
    undone: tuple[str, ...] = ()

    @property
    def unmet(self) -> dict[str, tuple[str, ...]]:
        """What the device could not be brought to do, by word."""
        return {word: setting.unmet for word, setting in self.settings.items() if setting.unmet}


def settings_for(wants: dict[str, Level], facts: Facts) -> dict[str, Setting]:
    """What each wanted knob has to do on this device, in the order in which it is done.

    Raises:
        ConfigError: a word that nobody knows, or a level that makes no sense there.
    """
    for word in wants:
        knobs.families(word, facts)
    return knobs.settings(wants, facts)


def pin(
    entry: DeviceEntry, wants: dict[str, Level], *, dry_run: bool = False, signals: Interruptible | None = None
) -> Pinned:
    """Bring the device to the wanted levels and leave it so; the undo journal stays for ``restore``.

    All writes and their verification are done by one start of the agent. A signal undoes a pin that is being made;
    once the pin holds, a signal changes nothing any more (as long as the caller's ``signals`` are in force).

    Raises:
        DeviceRefusedError: nothing of it can be set here, or it did not hold (the device is restored then).
        RestoreError: it did not hold, and something could not be put back.
    """
    device = open_device(entry)
    try:
        chosen = settings_for(wants, device.facts)
        if dry_run:
            return Pinned(device.facts, chosen)
        steps = tuple(step for setting in chosen.values() for step in setting.steps)
        if not steps:
            reasons = "; ".join(reason for setting in chosen.values() for reason in setting.unmet)
            raise DeviceRefusedError(
                f"nothing to set: {reasons or 'all is as wanted'}",
                device=device.facts.name,
                hint=_WITHOUT_ROOT if reasons and device.facts.root == "none" else None,
            )
        undone = agent.make_ready(device, user.holder())
        if undone:
            device = read_again(device)
            chosen = settings_for(wants, device.facts)
            steps = tuple(step for setting in chosen.values() for step in setting.steps)
        campaign = new_id()
        plan = Plan(
            plan_id=f"{campaign}-pin",
            campaign=campaign,
            device=device.facts.name,
            holder=user.holder(),
            setup=steps,
            keep=True,
        )
        with nullcontext(signals) if signals is not None else interruptible() as heard:
            return Pinned(device.facts, chosen, _execute(device, plan, heard), undone)
    finally:
        device.transport.close()


def _execute(device: Device, plan: Plan, signals: Interruptible) -> tuple[StepResult, ...]:
    start: list[PlanStart] = []
    ends: list[PlanEnd] = []

    def see(event: Event) -> None:
        if isinstance(event, PlanStart):
            start.append(event)
        elif isinstance(event, PlanEnd):
            ends.append(event)

    try:
        end = runner.run_to_end(device, plan, see, signals, needs=_NEEDS)
        signals.ending = True
    except LabError:
        raise
    except BaseException:
        signals.ending = True
        # Nothing of a pin stays that nobody waits for any more: its agent undid it, or it is undone if that is over.
        if any(end.reason == "complete" for end in ends) or agent.status(device).pending:
            agent.restore(device)
        raise
    _check(start, end, device.facts.name)
    return tuple(step for event in start for step in event.setup)


def _check(start: Sequence[PlanStart], end: PlanEnd, device: str) -> None:
    """The pin is in force, and the agent says so in its last word.

    Raises:
        RestoreError: the agent undid it, and could not put everything back.
        DeviceRefusedError: the agent undid it.
    """
    flags = [*(flag for event in start for flag in event.flags), *end.flags]
    why = "; ".join(dict.fromkeys(f"{flag.code}: {flag.detail}" for flag in flags))
    for flag in end.flags:
        if flag.code == "restore-failed":
            raise RestoreError(
                f"the pin did not hold, and could not be put back as it was found: {flag.detail}",
                device=device,
                hint="`devicelab restore` tries again; a reboot resets sysfs",
            )
    if flags or end.reason != "complete":
        reasons = {"signal": "it was ended by a signal", "lease-lost": "somebody else took the device by force"}
        raise DeviceRefusedError(
            f"nothing is pinned, the agent undid it: {why or reasons.get(end.reason, end.reason)}", device=device
        )


_WITHOUT_ROOT = (
    "these settings need root; without it Android 11 and later can hold a performance mode: "
    "--knob performance_mode=fixed"
)


def give_back(entry: DeviceEntry, *, force: bool = False) -> dict[str, Any]:
    """Undo what a pin or a dead agent left on the device; what was put back, as the agent says it.

    A live agent that only holds a pin is ended first, with ``force`` also one that measures (its host may be gone, and
    it would go on alone to the end of its plan).

    Raises:
        DeviceBusyError: an agent is measuring there. RestoreError: something could not be put back.
    """
    device = open_device(entry)
    try:
        found = agent.status(device)
        if found.alive and (force or (found.plan_id or "").endswith("-pin")):
            agent.stop(device)
        return agent.restore(device)
    finally:
        device.transport.close()


def capture_patterns() -> tuple[str, ...]:
    """What ``devicelab capture`` reads beyond the knobs' nodes: whole subtrees that describe a board."""
    return (
        "/sys/devices/system/cpu/**",
        "/sys/class/thermal/*/type",
        "/sys/class/thermal/*/temp",
        "/sys/class/thermal/*/*",
        "/sys/class/devfreq/*/*",
        "/sys/class/kgsl/*/*",
        "/sys/class/kgsl/*/devfreq/*",
        "/sys/class/power_supply/*/*",
        "/sys/devices/platform/*.mali/*",
        "/sys/kernel/gpu/*",
        "/sys/power/*",
        "/sys/module/cpu_boost/parameters/*",
        "/sys/module/msm_performance/parameters/*",
        "/sys/kernel/msm_performance/parameters/*",
        "/dev/cpuset/*/cpus",
        "/dev/stune/*/*",
        "/dev/cpuctl/*/cpu.uclamp.*",
        "/proc/cpuinfo",
        "/proc/version",
        "/proc/sys/kernel/sched_*",
    )


def healths(entries: Sequence[DeviceEntry]) -> Iterator[tuple[DeviceEntry, dict[str, Any]]]:
    """Each device with its ``health``, all asked at once, as they answer; one that does not in time says so."""
    for entry, found in side_by_side.asked(health, entries, deadline_s=_ANSWER_S):
        late = {"usable": False, "error": f"does not answer within {_ANSWER_S:.0f} s", "hint": "look at the device"}
        yield entry, found or late


def health(entry: DeviceEntry) -> dict[str, Any]:
    """What a device is and whether it can be used now; an error is part of the answer, not raised."""
    try:
        device = open_device(entry)
    except LabError as error:
        return {"usable": False, "error": error.message, "hint": error.hint}
    try:
        facts, found = device.facts, agent.status(device)
        kept = reservation.parse(device.reserved, time.time())
        ours = kept is None or kept.who == reservation.me()
        return {
            "usable": not found.alive and not found.pending and found.holder is None and ours,
            "reserved": kept.words() if kept is not None else "",
            "board": facts.board.kind,
            "title": facts.board.title,
            "abi": facts.abi,
            "root": facts.root,
            "kernel": facts.kernel,
            "simulated": facts.simulated,
            "holder": found.holder,
            "busy": found.alive,
            "to_restore": list(found.pending),
            "pinned": list(found.kept),
        }
    except LabError as error:
        return {"usable": False, "error": error.message, "hint": error.hint}
    finally:
        device.transport.close()
