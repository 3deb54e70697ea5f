"""Taking care of one device around a task: getting at it, looking at it, getting it back, giving it back."""

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeVar

from devicelab.device import agent, facts, reservation
from devicelab.device.facts import Device
from devicelab.device.lab import DeviceEntry
from devicelab.errors import DeviceBusyError, DeviceUnreachableError, LabError, RestoreError, StoreError
from devicelab.farm import health, recover
from devicelab.farm.hubs import OF_THIS_HOST, serial_of
from devicelab.ground import user
from devicelab.model.night import Farm, Health
from devicelab.store import Store

# How often a busy device is asked whether it is free.
_BUSY_LOOK_S = 5.0
RECONNECT_S = 30.0
"""What a reconnection may take where the farm's patience was spent already, or a reboot is thought of next."""

_T = TypeVar("_T")


class UnfitError(LabError):
    """The device is not fit for work, and waiting, reconnecting and rebooting did not help (exit code 4)."""

    exit_code = 4


class RebootedError(LabError):
    """Something could not be put back at first; a reboot did, and the device is as it was found (exit code 4)."""

    exit_code = 4
    transient = True


@dataclass
class Limits:
    """When a task ends early.

    Attributes:
        stop: set by whoever wants everything to end; the task may go on later.
        until_s: end of the night by this machine's ``time.monotonic``, which nobody sets; ``None``: there is none.
    """

    stop: threading.Event = field(default_factory=threading.Event)
    until_s: float | None = None

    @classmethod
    def ending_in(cls, stop: threading.Event, left_s: float | None) -> "Limits":
        """The end comes in so many seconds (``None``: never)."""
        return cls(stop, None if left_s is None else time.monotonic() + left_s)

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until the end comes; True: it came."""
        left = seconds if self.until_s is None else min(seconds, max(0.0, self.until_s - time.monotonic()))
        return self.stop.wait(left) or self.over()

    def over(self) -> bool:
        """The end came."""
        return self.stop.is_set() or (self.until_s is not None and time.monotonic() >= self.until_s)


@dataclass(frozen=True)
class Left:
    """A device that could not be given back: why, for people, and the exit code of that."""

    reason: str
    exit_code: int


def last_visit(entry: DeviceEntry, campaigns: Collection[str]) -> Left | None:
    """Visit a device that was lost: end an agent that still works on the campaigns, undo what is left.

    Returns:
        ``None`` if the device is as it was found.
    """
    try:
        device = facts.open_device(entry)
        try:
            put_back(device, campaigns)
        finally:
            device.transport.close()
    except LabError as error:
        return Left(error.message, error.exit_code)
    return None


def put_back(device: Device, campaigns: Collection[str]) -> None:
    """End the campaigns' agent if it still works, and undo what a dead one left.

    Raises:
        RestoreError: something could not be put back.
    """
    left = agent.status(device)
    if any(left.works_for(campaign) for campaign in campaigns):
        agent.stop(device)
        left = agent.status(device)
    if not left.alive and left.pending:
        agent.restore(device)


class Care:
    """One device during one task.

    Args:
        store: where looks at the device go.
        farm: with its patience and its rules.
        night: its id.
        task_id: for which the device is looked at.
        entry: the device.
        limits: when to end early.
    """

    def __init__(self, store: Store, farm: Farm, night: str, task_id: str, entry: DeviceEntry, limits: Limits) -> None:
        self.store, self.farm, self.night, self.task_id = store, farm, night, task_id
        self.entry, self.limits = entry, limits
        self._busy_until: float | None = None

    def open(self) -> Device:
        """The device in hand; reconnected or rebooted if it does not answer."""
        try:
            opened = facts.open_device(self.entry)
        except DeviceUnreachableError as error:
            first = error
        else:
            OF_THIS_HOST.saw()
            return opened
        self._look_at_usb()
        try:
            recover.reconnect(self.entry, min(RECONNECT_S, self.farm.patience_s), self.limits.wait)
            with OF_THIS_HOST.turn(serial_of(self.entry.address)):
                return facts.open_device(self.entry)
        except DeviceUnreachableError:
            last = self._seen()
            if last is None or not self._may_reboot():
                raise
        self._reboot(f"does not answer ({first.message})", last)
        return facts.open_device(self.entry)

    def patiently(self, device: Device, step: Callable[[], _T], patience_s: float | None = None) -> _T:
        """Do a step; if the way to the device is lost, wait for it (the farm's patience) and do the step once more."""
        patience_s = self.farm.patience_s if patience_s is None else patience_s
        try:
            return step()
        except DeviceBusyError:
            raise
        except DeviceUnreachableError:
            if self.limits.over() or not patience_s:
                raise
        self._look_at_usb()
        recover.reconnect(self.entry, patience_s, self.limits.wait, device.transport)
        with OF_THIS_HOST.turn(serial_of(self.entry.address)):
            facts.regain_root(device)
        return step()

    def wait_until_free(self, device: Device, campaign: str | None, *, asked_before: bool = False) -> bool:
        """Wait for whoever holds the device, up to the farm's limit in all; True: it is our own agent, still at work.

        Args:
            device: open.
            campaign: ours.
            asked_before: it was found free, and somebody else was faster: what was read of it then is void.

        Raises:
            DeviceBusyError: it is still held.
        """
        if device.idle and not asked_before and not device.reserved:
            return False
        deadline = self._busy_until = self._busy_until or time.monotonic() + self.farm.wait_busy_s
        if asked_before and time.monotonic() >= deadline:
            raise DeviceBusyError(
                f"taken again and again; waited {self.farm.wait_busy_s:.0f} s", device=self.entry.name
            )
        while True:
            found = agent.status(device)
            if found.works_for(campaign):
                return True
            left_s = deadline - time.monotonic()
            kept = reservation.of(device) if device.reserved else None
            if kept is not None:  # also our own: in many labs everybody, and the night, is one user
                if kept.until_unix_s - time.time() > left_s or self.limits.wait(min(_BUSY_LOOK_S, left_s)):
                    raise DeviceBusyError(kept.words(), device=self.entry.name)
                continue
            if not found.alive and found.holder in {None, user.holder()}:
                return False
            if left_s <= 0 or self.limits.wait(min(_BUSY_LOOK_S, left_s)):
                raise DeviceBusyError(
                    f"held by {found.holder or 'another agent'}; waited {self.farm.wait_busy_s:.0f} s",
                    device=self.entry.name,
                )

    def fit(self, device: Device, phase: Literal["before", "after"]) -> Device:
        """Look at the device, wait until it is cool, reboot it if it never is.

        Raises:
            UnfitError: it is not fit for work.
        """
        wanted = self.farm.health
        rules = health.rules_for(self.store, self.entry.name, wanted)
        seen = self._look(device, rules, phase)
        if health.too_hot(seen, wanted):
            cooled = health.cool(device, wanted, self.limits.wait)
            if not cooled and not self.limits.over() and self._may_reboot():
                self._reboot(f"it did not cool down within {wanted.cool_s:.0f} s", seen)
                cooled = health.cool(device, wanted, self.limits.wait)
            device = facts.read_again(device)
            seen = self._look(device, rules, phase)
        if not seen.ok and self.limits.over():
            return device  # no time was left to wait, so nothing is concluded from it
        self.store.add_health(seen)
        if not seen.ok:
            raise UnfitError("; ".join(seen.reasons), device=self.entry.name)
        return device

    def fit_afterwards(self, device: Device, patience_s: float | None = None) -> None:
        """The look after a task; see ``fit``."""
        self.patiently(device, lambda: self.fit(facts.read_again(device), "after"), patience_s)

    def leave(self, device: Device, campaign: str | None, patience_s: float | None = None) -> None:
        """Give the device back; by a reboot if it cannot be done otherwise.

        Raises:
            RestoreError: something could not be put back, not even by a reboot.
        """
        try:
            self.patiently(device, partial(put_back, device, (str(campaign),)), patience_s)
        except RestoreError as error:
            self.restore_by_reboot(device, error)

    def restore_by_reboot(self, device: Device, error: RestoreError) -> None:
        """Reboot the device, and undo what that did not.

        Raises:
            RestoreError: it may not be rebooted now, or that did not help either.
        """
        last = self._seen()
        if last is None or self.limits.over() or not self._may_reboot():
            raise error
        try:
            self._reboot(error.message, last)
            agent.restore(self.patiently(device, partial(facts.read_again, device)))
        except StoreError:
            raise
        except LabError as again:
            # Whatever it is: that something is not as it was found is worse.
            said = f"{error.message}; after a reboot: {again.message}"
            raise RestoreError(said, device=error.device, hint=error.hint) from again

    def note(self, reason: str, **figures: float) -> None:
        """Store a look in which the device was not fit."""
        seen = Health(
            device=self.entry.name, night=self.night, task_id=self.task_id, phase="before", ok=False,
            reasons=(reason,), figures=figures, at_unix_ns=time.time_ns(),
        )  # fmt: skip
        self.store.add_health(seen)

    def _look(self, device: Device, rules: health.Rules, phase: Literal["before", "after"]) -> Health:
        return health.look(device, rules, night=self.night, task_id=self.task_id, phase=phase)

    def _seen(self) -> Health | None:
        """The newest look at the device in which it answered."""
        return next((seen for seen in self.store.health(device=self.entry.name, limit=20) if seen.facts), None)

    def _look_at_usb(self) -> None:
        """Where the board is gone from its hub: say so, and who went with it; switch its port where that is allowed."""
        serial = serial_of(self.entry.address)
        gone = OF_THIS_HOST.words(serial)
        if not gone:
            return
        if not self.entry.replug or self._done_tonight("replugs") >= self.farm.max_reboots:
            self.note(gone)
            return
        # Stored first, so that a crash of ours does not make it two.
        self.note(f"{gone}; its port is switched off and on", replugs=1)
        self.note(f"{gone}; {OF_THIS_HOST.replug(serial)}")

    def _done_tonight(self, what: str) -> float:
        tonight = self.store.health(device=self.entry.name, night=self.night)
        return sum(seen.figures.get(what, 0) for seen in tonight)

    def _may_reboot(self) -> bool:
        return self.entry.may_reboot and self._done_tonight("reboots") < self.farm.max_reboots

    def _reboot(self, why: str, last: Health) -> None:
        """Reboot the device; that it was done is stored first, so that a crash of ours does not make it two."""
        self.note(f"rebooted: {why}", reboots=1)
        known = last.facts
        root = self.entry.root or known.get("root", "none")
        recover.reboot(self.entry, root=root, boot_id=known.get("boot_id", ""), wait=self.limits.wait)  # type: ignore[arg-type]
