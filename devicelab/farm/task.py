"""One task of a night: one experiment, once, on one device. Any host may call it; what it does twice is done once.

The id of a campaign follows from night, task, attempt and device, and run ids follow from the campaign's: whoever goes
on with an unfinished campaign fetches what the board did meanwhile and does the rest.
"""

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

from devicelab import facts, runner
from devicelab import sweep as sweeping
from devicelab.errors import (
    BuildError,
    ConfigError,
    DeviceBusyError,
    DeviceRefusedError,
    DeviceUnreachableError,
    LabError,
    MeasurementError,
    RestoreError,
    StoreError,
)
from devicelab.facts import Device
from devicelab.farm import health, job, recover, schedule
from devicelab.lab import DeviceEntry
from devicelab.model.campaign import CampaignInfo
from devicelab.model.experiment import Experiment
from devicelab.model.night import Farm, Health, Task, TaskStatus
from devicelab.model.plan import content_id
from devicelab.store import Store
from devicelab.sweep import Progress, SweepResult

_LOG = logging.getLogger(__name__)

# How often a busy device is asked whether it is free.
_BUSY_LOOK_S = 5.0
# What a reconnection may take before a reboot is thought of, beyond the farm's patience inside a task.
_RECONNECT_S = 30.0


class UnfitError(LabError):
    """The device is not fit for work, and waiting, reconnecting and rebooting did not help (exit code 4)."""

    exit_code = 4


@dataclass
class Limits:
    """When a task ends early.

    Attributes:
        stop: set by whoever wants everything to end; the task may go on later.
        until_unix_s: end of the night; ``None``: there is none.
    """

    stop: threading.Event = field(default_factory=threading.Event)
    until_unix_s: float | None = None

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until the end comes; True: it came."""
        left = seconds if self.until_unix_s is None else min(seconds, max(0.0, self.until_unix_s - time.time()))
        return self.stop.wait(left) or self.over()

    def over(self) -> bool:
        """The end came."""
        return self.stop.is_set() or (self.until_unix_s is not None and time.time() >= self.until_unix_s)


def campaign_id(night: str, task: Task, device: str) -> str:
    """The campaign of this attempt on this device; in the usual form, with the night's time in front."""
    stamp = re.search(r"\d{8}-\d{6}", night)
    when = stamp[0] if stamp else time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return f"{when}-{content_id(night, task.task_id, str(task.attempts), device, length=8)}"


def run_task(
    store: Store,
    farm: Farm,
    night: str,
    task: Task,
    entry: DeviceEntry,
    *,
    experiment: Experiment | None = None,
    limits: Limits | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Task:
    """Try a waiting task once on a device: probe, measure, probe again, recover or quarantine where it must be.

    Args:
        store: everything is written there as it happens: the task's state, health, quarantine, runs.
        farm: what the task belongs to.
        night: its id.
        task: as it waits; ``task.campaign`` goes on if it is this device's and unfinished.
        entry: the device.
        experiment: the job's, if it was read already.
        limits: when to end early.
        on_progress: told after every run, from this thread.

    Returns:
        The task as it is stored now: ``complete``, ``failed``, ``skipped``, or ``waiting`` for another attempt. If
        somebody else has claimed it meanwhile, as that one left it. A device whose newest ``Health`` of the night is
        not ``ok``, or which is in quarantine, shall get no more work tonight.

    Raises:
        StoreError: the results database fails.
    """
    attempt = _Attempt(store, farm, night, task, entry, limits or Limits())
    if not store.claim_task(night, task.task_id, "waiting", attempt.task):
        return next(found for found in store.tasks(night) if found.task_id == task.task_id)
    ended = attempt.perform(experiment or job.experiment_of(farm.jobs[task.job]), on_progress)
    store.put_tasks(night, [ended])
    return ended


def give_back(entry: DeviceEntry, campaigns: Collection[str]) -> str:
    """A last visit to a device that was lost: end an agent that still works on the campaigns, undo what is left.

    Returns:
        Why it could not be done, for people; empty if the device is as it was found.
    """
    try:
        device = facts.open_device(entry)
        try:
            left = runner.status(device)
            if left.alive and any((left.plan_id or "").startswith(f"{campaign}-") for campaign in campaigns):
                runner.stop(device)
            elif not left.alive and left.pending:
                runner.restore(device)
        finally:
            device.transport.close()
    except LabError as error:
        return error.message
    return ""


class _Attempt:
    """One try of a task on a device."""

    def __init__(self, store: Store, farm: Farm, night: str, task: Task, entry: DeviceEntry, limits: Limits) -> None:
        self.store, self.farm, self.night, self.entry, self.limits = store, farm, night, entry, limits
        self.rules = farm.health
        self.known = self._campaign(task)
        begun = task.model_copy(
            update={
                "status": "running",
                "device": entry.name,
                "attempts": task.attempts + 1,
                "reason": "",
                "exit_code": 0,
            }
        )
        campaign = self.known.campaign if self.known is not None else campaign_id(night, begun, entry.name)
        self.task = begun.model_copy(update={"campaign": campaign})
        longest = farm.jobs[task.job].max_s
        self.ends = time.time() + longest if longest is not None else None

    def _campaign(self, task: Task) -> CampaignInfo | None:
        found = (info for info in self.store.campaigns(night=self.night, device=self.entry.name))
        return next((info for info in found if info.campaign == task.campaign), None)

    def perform(self, experiment: Experiment, on_progress: Callable[[Progress], None] | None) -> Task:
        """The task as it is afterwards; every trouble of the device is dealt with."""
        if self.known is not None and self.known.status == "complete":
            return self._ended("complete")
        try:
            return self._work(experiment, on_progress)
        except StoreError:
            raise
        except LabError as error:
            return self._failed(error)
        except Exception as error:  # noqa: BLE001 - one device's bug spares the others; the log has the traceback
            _LOG.exception("task %s on %s", self.task.task_id, self.entry.name)
            return self._ended("failed", f"a bug in devicelab: {type(error).__name__}: {error}", 1)

    def _work(self, experiment: Experiment, on_progress: Callable[[Progress], None] | None) -> Task:
        device = self._open()
        try:
            ours = self._wait_until_free(device)
            if not ours:
                device = self._fit(device, "before")
            if self.limits.over():
                return self._cut(None)
            try:
                done = sweeping.perform(
                    experiment,
                    device,
                    self.store,
                    campaign=self.task.campaign,
                    only=self.task.cells,
                    night=self.night,
                    stop=self._over,
                    patience_s=self.farm.patience_s,
                    on_progress=on_progress,
                )
            except LabError as error:
                self._after_trouble(device, error)
                raise
            if done.interrupted and self.limits.stop.is_set():
                return self._cut(done)
            self._fit(facts.read_again(device), "after")
            return self._cut(done) if done.interrupted else self._judged(done)
        finally:
            device.transport.close()

    def _over(self) -> bool:
        return self.limits.over() or (self.ends is not None and time.time() >= self.ends)

    # Getting at the device.

    def _open(self) -> Device:
        """The device in hand; reconnected or rebooted if it does not answer."""
        try:
            return facts.open_device(self.entry)
        except DeviceUnreachableError as error:
            first = error
        try:
            recover.reconnect(self.entry, min(_RECONNECT_S, self.farm.patience_s), self.limits.wait)
            return facts.open_device(self.entry)
        except DeviceUnreachableError:
            last = self._seen()
            if last is None or not self._may_reboot():
                raise
        self._reboot(f"does not answer ({first.message})", last)
        return facts.open_device(self.entry)

    def _wait_until_free(self, device: Device) -> bool:
        """Wait for whoever holds the device, up to the farm's limit; True: it is our own agent, still at work.

        Raises:
            DeviceBusyError: it is still held.
        """
        if device.idle:
            return False
        deadline = time.monotonic() + self.farm.wait_busy_s
        while True:
            found = runner.status(device)
            if found.alive and (found.plan_id or "").startswith(f"{self.task.campaign}-"):
                return True
            if not found.alive and found.holder in {None, sweeping.holder()}:
                return False
            left_s = deadline - time.monotonic()
            if left_s <= 0 or self.limits.wait(min(_BUSY_LOOK_S, left_s)):
                raise DeviceBusyError(
                    f"held by {found.holder or 'another agent'}; waited {self.farm.wait_busy_s:.0f} s",
                    device=self.entry.name,
                )

    def _fit(self, device: Device, phase: Literal["before", "after"]) -> Device:
        """Look at the device, wait until it is cool, reboot it if it never is.

        Raises:
            UnfitError: it is not fit for work.
        """
        rules = health.rules_for(self.store, self.entry.name, self.rules)
        seen = self._look(device, rules, phase)
        if health.too_hot(seen, self.rules):
            cooled = health.cool(device, self.rules, self.limits.wait)
            if not cooled and not self.limits.over() and self._may_reboot():
                self._reboot(f"it did not cool down within {self.rules.cool_s:.0f} s", seen)
                cooled = health.cool(device, self.rules, self.limits.wait)
            device = facts.read_again(device)
            seen = self._look(device, rules, phase)
        if not seen.ok and self.limits.over():
            return device  # no time was left to wait, so nothing is concluded from it
        self.store.add_health(seen)
        if not seen.ok:
            raise UnfitError("; ".join(seen.reasons), device=self.entry.name)
        return device

    def _look(self, device: Device, rules: health.Rules, phase: Literal["before", "after"]) -> Health:
        return health.look(device, rules, night=self.night, task_id=self.task.task_id, phase=phase)

    def _seen(self) -> Health | None:
        """The newest look at the device in which it answered."""
        return next((seen for seen in self.store.health(device=self.entry.name, limit=20) if seen.facts), None)

    def _may_reboot(self) -> bool:
        tonight = self.store.health(device=self.entry.name, night=self.night)
        done = sum(seen.figures.get("reboots", 0) for seen in tonight)
        return self.entry.may_reboot and done < self.farm.max_reboots

    def _reboot(self, why: str, last: Health) -> None:
        """Reboot the device; that it was done is stored first, so that a crash of ours does not make it two."""
        self._note(f"rebooted: {why}", reboots=1)
        known = last.facts
        root = self.entry.root or known.get("root", "none")
        recover.reboot(self.entry, root=root, boot_id=known.get("boot_id", ""), wait=self.limits.wait)  # type: ignore[arg-type]

    def _note(self, reason: str, **figures: float) -> None:
        """Store a look in which the device was not fit."""
        seen = Health(
            device=self.entry.name, night=self.night, task_id=self.task.task_id, phase="before", ok=False,
            reasons=(reason,), figures=figures, at_unix_ns=time.time_ns(),
        )  # fmt: skip
        self.store.add_health(seen)

    # What became of it.

    def _after_trouble(self, device: Device, error: LabError) -> None:
        """Give the device back if it answers, and see whether the trouble is its own.

        Raises:
            UnfitError: the device is not fit for work.
            RestoreError: something could not be put back, not even by a reboot.
        """
        try:
            if isinstance(error, RestoreError):
                self._restore_by_reboot(device, error)
            else:
                left = runner.status(device)
                if left.alive and (left.plan_id or "").startswith(f"{self.task.campaign}-"):
                    runner.stop(device)
                elif not left.alive and left.pending:
                    runner.restore(device)
            if not self.limits.over() and not isinstance(error, DeviceBusyError):
                self._fit(facts.read_again(device), "after")
        except DeviceUnreachableError:
            if not isinstance(error, DeviceUnreachableError):
                raise

    def _restore_by_reboot(self, device: Device, error: RestoreError) -> None:
        last = self._seen()
        if last is None or not self._may_reboot():
            raise error
        self._reboot(error.message, last)
        runner.restore(facts.read_again(device))

    def _failed(self, error: LabError) -> Task:
        """Whose fault it was decides what comes next: another try, another device, or nothing."""
        if self.limits.over() and not isinstance(error, RestoreError):
            return self._cut(None, error)
        if isinstance(error, RestoreError | UnfitError):
            self.store.quarantine(self.entry.name, error.message, self.night)
            if isinstance(error, RestoreError):
                self._note(error.message)
                return self._ended("failed", error.message, error.exit_code)
            return self._elsewhere(error)
        if isinstance(error, DeviceBusyError):
            self._note(error.message)
            return self._elsewhere(error, otherwise="skipped")
        if isinstance(error, DeviceUnreachableError):
            reached = any(seen.facts for seen in self.store.health(device=self.entry.name, night=self.night))
            self._note(error.message)
            if reached:
                self.store.quarantine(self.entry.name, f"lost in the night: {error.message}", self.night)
            return self._elsewhere(error, otherwise="failed" if reached else "skipped")
        if isinstance(error, DeviceRefusedError):
            return self._elsewhere(error)
        if error.transient:
            return self._again(error)
        if isinstance(error, ConfigError | BuildError | MeasurementError):
            return self._ended("failed", error.message, error.exit_code)
        return self._elsewhere(error)

    def _again(self, error: LabError) -> Task:
        """Another try on the same device."""
        if self.task.attempts >= self.farm.attempts:
            return self._ended("failed", f"{error.message} (attempt {self.task.attempts})", error.exit_code)
        return self._ended("waiting", error.message)

    def _elsewhere(self, error: LabError, otherwise: TaskStatus = "failed") -> Task:
        """Another try on an equal device, if the selector allows; one that never began does not count."""
        begun = self._campaign(self.task) is not None
        if schedule.movable(self.task) and (not begun or self.task.attempts < self.farm.attempts):
            self._close_campaign(error.message)
            moved = self._ended("waiting", f"{self.entry.name}: {error.message}")
            return moved.model_copy(update={"device": None, "attempts": self.task.attempts - (not begun)})
        return self._ended(otherwise, error.message, error.exit_code)

    def _cut(self, done: SweepResult | None, error: LabError | None = None) -> Task:
        """Ended early: to go on later if somebody asked for the end, else by the clock."""
        said = f"{done.runs} of {done.planned} runs stored" if done is not None else "not begun"
        if error is not None:
            said = error.message
        if self.limits.stop.is_set():
            ended = self._ended("waiting", f"interrupted: {said}")
            return ended.model_copy(update={"attempts": self.task.attempts - 1})
        if self.limits.over():
            return self._ended("skipped", f"the night's time ran out: {said}")
        return self._ended("complete", f"ended after max_s: {said}")

    def _judged(self, done: SweepResult) -> Task:
        if done.invalid_cells:
            shown = "; ".join(done.invalid_cells[:3])
            reason = f"{len(done.invalid_cells)} cells have no valid run: {shown}"
            return self._ended("complete", reason, MeasurementError.exit_code)
        return self._ended("complete")

    def _ended(self, status: TaskStatus, reason: str = "", exit_code: int = 0) -> Task:
        if status in {"failed", "skipped"}:
            with contextlib.suppress(StoreError):
                self._close_campaign(reason)
        return self.task.model_copy(update={"status": status, "reason": reason, "exit_code": exit_code})

    def _close_campaign(self, reason: str) -> None:
        """A campaign nobody will go on with is not left looking as if it were."""
        info = self._campaign(self.task)
        if info is not None and info.status != "complete":
            self.store.finish_campaign(info.campaign, "failed", reason)
