"""The agent's commands on a device: who holds it, what is left to undo, undo it, end the work at hand."""

import time
from dataclasses import dataclass
from typing import Any

from devicelab.device import reservation
from devicelab.device.facts import Device
from devicelab.errors import DeviceBusyError, DeviceRefusedError, DeviceUnreachableError, DistrustError, RestoreError
from devicelab.ground import budget
from devicelab.ground.safe_text import spoken
from devicelab.model.plan import Plan

# How long an agent may take from its start until it says that it is there: it reads its plan and waits for the lock.
_APPEAR_S = 10.0
_LOOK_S = 0.1

# An answer names what is pending or failed: some hundred nodes at most.
_MAX_ANSWER = 2 << 20
_MAX_ANSWER_VALUES = 50_000
_MAX_SAID = 4096


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


def state_dir(device: Device) -> str:
    """The directory of lease and undo journal on the device."""
    return f"{device.facts.dir}/state"


def ask(device: Device, *words: str, timeout_s: float = 60.0) -> tuple[int, dict[str, Any], str]:
    """Call an agent command that answers with one JSON object: (exit code, object, what it said on stderr).

    Raises:
        DeviceRefusedError: no such object came.
        DistrustError: more came than any agent says.
    """
    done = device.transport.run(device.argv(*words), timeout_s=timeout_s)
    said = budget.cut(spoken(done.stderr.decode("utf-8", "replace")), _MAX_SAID)
    if len(done.stdout) > _MAX_ANSWER:
        raise DistrustError(
            f"`agent {words[0]}` answers with {len(done.stdout) >> 10} KiB; no agent says so much",
            device=device.facts.name,
        )
    try:
        answer = budget.loads(done.stdout or b"{}", _MAX_ANSWER_VALUES)
    except ValueError:
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
    table = answer.get(name)
    return table if isinstance(table, dict) else {}


def _list(answer: dict[str, Any], name: str) -> list[Any]:
    words = answer.get(name)
    return words if isinstance(words, list) else []


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
        DeviceBusyError: somebody else holds it, or keeps it for himself.
        RestoreError: the undo did not work.
    """
    if device.reserved:
        reservation.against(reservation.parse(device.reserved, time.time()), device.facts.name)
    if device.idle:
        return ()
    now = status(device)
    if now.alive or (now.holder is not None and now.holder != holder):
        left = f" for {now.remaining_s:.0f} s more" if now.remaining_s else ""
        raise DeviceBusyError(
            f"held by {now.holder or 'another agent'}{left}",
            device=device.facts.name,
            hint="wait, or end that work where it was started; `devicelab devices` shows the holder",
        )
    if now.pending:
        restore(device)
    return now.pending


def stop(device: Device, plan: Plan | None = None) -> None:
    """End the live agent: it aborts its run, kills its loads and restores, and is waited for.

    With ``plan`` only the agent that executes it, or another plan of its campaign, also if it was started this moment
    and has not said yet that it is there; an agent that somebody else has started goes on.
    """
    deadline = time.monotonic() + _APPEAR_S
    while plan is not None:
        now = status(device)
        if now.works_for(plan.campaign):
            break
        if now.plan_id == plan.plan_id or time.monotonic() >= deadline:
            return
        time.sleep(_LOOK_S)
    ask(device, "stop", "--state", state_dir(device), timeout_s=180)
