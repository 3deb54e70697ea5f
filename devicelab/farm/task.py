"""One task of a night: one experiment, once, on one device. Any host may call it; what it does twice is done once.

The id of a campaign follows from night, task, attempt and device, and run ids follow from the campaign's: whoever goes
on with an unfinished campaign fetches what the board did meanwhile and does the rest.
"""

import contextlib
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial

from devicelab.device import facts
from devicelab.device.facts import Device
from devicelab.device.lab import DeviceEntry
from devicelab.errors import (
    BuildError,
    ConfigError,
    DeviceBusyError,
    DeviceRefusedError,
    DeviceUnreachableError,
    DistrustError,
    HostError,
    LabError,
    MeasurementError,
    RestoreError,
    StoreError,
)
from devicelab.experiment.remedies import remedies
from devicelab.farm import job, recover, schedule
from devicelab.farm.care import RECONNECT_S, Care, Limits, RebootedError, UnfitError
from devicelab.jobs import conductor
from devicelab.jobs.conductor import Progress, SweepResult
from devicelab.model.campaign import ENDED, CampaignInfo, new_id, unreliable
from devicelab.model.experiment import Experiment
from devicelab.model.night import Farm, Task, TaskStatus
from devicelab.model.plan import content_id
from devicelab.model.results import without_valid_run
from devicelab.store import Store

# Two that wait for the same device do not ask in step.
_POLITE_S = 0.5
# How often a host that lacked room is tried again.
_HOST_LOOK_S = 2.0

_LOG = logging.getLogger(__name__)


def campaign_id(night: str, task: Task, device: str) -> str:
    """The campaign of this attempt on this device; in the usual form, with the night's time in front."""
    stamp = re.search(r"\d{8}-\d{6}", night)
    tail = content_id(night, task.task_id, str(task.attempts), device, length=8)
    return f"{stamp[0]}-{tail}" if stamp else new_id(tail=tail)


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
    # Who was stopped for a while (SIGSTOP, a frozen host) may find that others went on without him.
    if not store.claim_task(night, task.task_id, "running", ended, campaign=attempt.task.campaign):
        return next(found for found in store.tasks(night) if found.task_id == task.task_id)
    return ended


class _Attempt:
    """One try of a task on a device."""

    def __init__(self, store: Store, farm: Farm, night: str, task: Task, entry: DeviceEntry, limits: Limits) -> None:
        self.store, self.farm, self.night, self.entry, self.limits = store, farm, night, entry, limits
        self.care = Care(store, farm, night, task.task_id, entry, limits)
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
        self.ends = time.monotonic() + longest if longest is not None else None

    def _campaign(self, task: Task) -> CampaignInfo | None:
        found = (info for info in self.store.campaigns(night=self.night, device=self.entry.name))
        return next((info for info in found if info.campaign == task.campaign), None)

    def perform(self, experiment: Experiment, on_progress: Callable[[Progress], None] | None) -> Task:
        """The task as it is afterwards; every trouble of the device is dealt with."""
        if self.known is not None and self.known.status in ENDED:
            known = self.known.campaign
            return self._judged(without_valid_run(self.store.results(known), self.store.cells(known)))
        try:
            device = self.care.open()
            try:
                return self._work(device, experiment, on_progress)
            finally:
                device.transport.close()
        except StoreError:
            raise
        except LabError as error:
            return self._failed(error)
        except Exception as error:  # noqa: BLE001 - one device's bug spares the others; the log has the traceback
            if (lacking := HostError.of(error)) is not None:
                return self._failed(lacking)
            _LOG.exception("task %s on %s", self.task.task_id, self.entry.name)
            return self._ended("failed", f"a bug in devicelab: {type(error).__name__}: {error}", 1)

    def _work(self, device: Device, experiment: Experiment, on_progress: Callable[[Progress], None] | None) -> Task:
        care, campaign = self.care, self.task.campaign
        ours = care.patiently(device, partial(care.wait_until_free, device, campaign))
        self._raise_if_taken_out()
        if not ours:
            device = care.patiently(device, partial(care.fit, device, "before"))
        if self.limits.over():
            return self._cut(None)
        try:
            done = self._measured(device, experiment, on_progress)
            if done.interrupted:
                care.leave(device, campaign)
        except (LabError, OSError) as error:
            known = error if isinstance(error, LabError) else HostError.of(error)
            if known is not None:
                self._after_trouble(device, known)
            raise
        if done.interrupted and self.limits.stop.is_set():
            return self._cut(done)
        return self._looked_after(device, self._cut(done) if done.interrupted else self._judged(done.invalid_cells))

    def _measured(
        self, device: Device, experiment: Experiment, on_progress: Callable[[Progress], None] | None
    ) -> SweepResult:
        """Measure; where somebody else took the device in the last moment, wait for him and measure then."""
        full_until: float | None = None
        while True:
            try:
                return self._measure(device, experiment, on_progress)
            except DeviceBusyError:
                free = partial(self.care.wait_until_free, device, self.task.campaign, asked_before=True)
                self.care.patiently(device, free)
                self._raise_if_taken_out()
                if self.limits.wait(_POLITE_S):
                    raise
            except OSError as error:
                # A full disk of this host is waited for as a lost cable is; the board goes on alone meanwhile.
                lacking = HostError.of(error)
                full_until = full_until or time.monotonic() + self.farm.patience_s
                if lacking is None or time.monotonic() >= full_until or self.limits.wait(_HOST_LOOK_S):
                    raise

    def _measure(
        self, device: Device, experiment: Experiment, on_progress: Callable[[Progress], None] | None
    ) -> SweepResult:
        perform = partial(
            conductor.perform,
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
        try:
            return perform()
        except DeviceBusyError:
            raise
        except DeviceUnreachableError:
            if self.limits.over():
                raise
            # The campaign was patient already, unless its time (max_s) ended while the cable was out.
            late = self.ends is not None and time.monotonic() >= self.ends
        recover.reconnect(
            self.entry,
            self.farm.patience_s if late else min(RECONNECT_S, self.farm.patience_s),
            self.limits.wait,
            device.transport,
        )
        facts.regain_root(device)
        return perform()

    def _over(self) -> bool:
        return self.limits.over() or (self.ends is not None and time.monotonic() >= self.ends)

    def _raise_if_taken_out(self) -> None:
        """Somebody may have taken the device out while it was waited for."""
        for found in self.store.quarantines(device=self.entry.name, active=True):
            raise DeviceBusyError(f"in quarantine: {found.reason}", device=self.entry.name)

    # What became of it.

    def _after_trouble(self, device: Device, error: LabError) -> None:
        """Give the device back if it answers, and see whether the trouble is its own.

        Raises:
            UnfitError: the device is not fit for work.
            RestoreError: something could not be put back, not even by a reboot.
            RebootedError: a reboot put everything back.
        """
        patience_s = 0.0 if isinstance(error, DeviceUnreachableError) else self.farm.patience_s
        try:
            if isinstance(error, RestoreError):
                self.care.restore_by_reboot(device, error)
            else:
                self.care.leave(device, self.task.campaign, patience_s)
            if not self.limits.over() and not isinstance(error, DeviceBusyError):
                self.care.fit_afterwards(device, patience_s)
        except DeviceUnreachableError:
            if not isinstance(error, DeviceUnreachableError):
                raise
        if isinstance(error, RestoreError):
            raise RebootedError(f"{error.message}; a reboot did it", device=error.device) from error

    def _looked_after(self, device: Device, ended: Task) -> Task:
        """The measured task, once the device was looked at.

        One that is not fit any more gets no further work, and what it measured is there all the same: no other device
        measures it again.
        """
        try:
            self.care.fit_afterwards(device)
        except StoreError:
            raise
        except LabError as error:
            if not isinstance(error, UnfitError):
                self.care.note(error.message)
            reason = f"{ended.reason or ended.status}; afterwards: {error.message}"
            if self.limits.over():
                return ended.model_copy(update={"reason": reason})
            if isinstance(error, RestoreError | UnfitError | DistrustError | DeviceUnreachableError):
                self._quarantine(error)
            return ended.model_copy(update={"reason": reason, "exit_code": error.exit_code})
        return ended

    def _quarantine(self, error: LabError) -> None:
        lost = "lost in the night: " if isinstance(error, DeviceUnreachableError) else ""
        self.store.quarantine(self.entry.name, f"{lost}{error.message}", self.night)

    def _failed(self, error: LabError) -> Task:
        """Whose fault it was decides what comes next: another try, another device, or nothing."""
        if self.limits.over() and not isinstance(error, RestoreError):
            if isinstance(error, DeviceUnreachableError | DeviceRefusedError):
                self.care.note(error.message)  # so that it is visited once more at the end
            return self._cut(None, error)
        if isinstance(error, RestoreError | UnfitError | DistrustError):
            self._quarantine(error)
            if isinstance(error, RestoreError):
                self.care.note(error.message)
                return self._ended("failed", error.message, error.exit_code)
            return self._elsewhere(error)
        if isinstance(error, DeviceBusyError):
            self.care.note(error.message)
            return self._elsewhere(error, otherwise="skipped")
        if isinstance(error, DeviceUnreachableError):
            reached = any(seen.facts for seen in self.store.health(device=self.entry.name, night=self.night))
            self.care.note(error.message)
            if reached:
                self._quarantine(error)
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
            # The code stays with the task while it waits: there may be no other device.
            moved = self._ended("waiting", f"{self.entry.name}: {error.message}", error.exit_code)
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
        if done is not None and (done.invalid == done.runs or unreliable(done.runs, done.invalid)):
            flagged = "none valid" if done.invalid == done.runs else f"{done.invalid} flagged"
            return self._ended("complete", f"ended after max_s: {said}, {flagged}", MeasurementError.exit_code)
        return self._ended("complete", f"ended after max_s: {said}")

    def _judged(self, invalid_cells: Collection[str]) -> Task:
        if invalid_cells:
            shown = "; ".join(list(invalid_cells)[:3])
            reason = f"{len(invalid_cells)} cells have no valid run: {shown}"
            return self._ended("complete", reason, MeasurementError.exit_code)
        info = self._campaign(self.task)
        if info is not None and info.status == "unreliable":
            return self._ended("complete", self._why_unreliable(info), MeasurementError.exit_code)
        return self._ended("complete")

    def _why_unreliable(self, info: CampaignInfo) -> str:
        """How many runs are flagged, with what most of them, and what helps."""
        runs = self.store.results(info.campaign).runs()
        codes = Counter(code for flags in runs.loc[~runs["valid"], "flags"] for code in {flag.code for flag in flags})
        (most, count), *_ = codes.most_common(1) or [("no reason", 0)]
        return "; ".join((f"{info.reason}, {count} of them {most}", *remedies([most])))

    def _ended(self, status: TaskStatus, reason: str = "", exit_code: int = 0) -> Task:
        if status in {"failed", "skipped"}:
            with contextlib.suppress(StoreError):
                self._close_campaign(reason)
        return self.task.model_copy(update={"status": status, "reason": reason, "exit_code": exit_code})

    def _close_campaign(self, reason: str) -> None:
        """A campaign nobody will go on with is not left looking as if it were."""
        info = self._campaign(self.task)
        if info is not None and info.status not in ENDED:
            self.store.finish_campaign(info.campaign, "failed", reason)
