"""A night: the campaigns of one farm job, the tasks they come from, and what became of the devices."""

from typing import Literal

from pydantic import Field, model_validator

from devicelab.model.experiment import Level
from devicelab.model.plan import Noun

TaskStatus = Literal["waiting", "running", "complete", "failed", "skipped"]
NightStatus = Literal["running", "complete", "failed", "interrupted"]
NightVerdict = Literal["regression", "improvement", "unchanged", "too noisy", "not comparable"]


YEAR_S = 366 * 86400
"""No wait in a farm file is longer; what is larger is a mistake."""


class JobEntry(Noun):
    """One ``[[jobs]]`` table of a farm file: an experiment and the devices it shall run on.

    Attributes:
        experiment: name of one in ``experiments/``, or a path (relative to the farm file).
        devices: selector: a device's name (``note10-a``), ``board=note10``, ``tag=sd855`` (both: every device that
            fits), ``any 2 of tag=sd855`` (so many of them, whichever are free and well); several words with commas
            mean each of them.
        priority: bigger runs earlier, and is the last to be dropped when time runs out.
        repetitions: instead of the experiment's own.
        set: overrides as with ``devicelab sweep --set``.
        max_s: a task that takes longer is ended, and what it measured is kept.
    """

    experiment: str
    devices: str
    priority: int = 0
    repetitions: int | None = Field(default=None, ge=1)
    set: dict[str, Level | list[Level]] = Field(default_factory=dict)
    max_s: float | None = Field(default=None, gt=0, le=YEAR_S)


class HealthRules(Noun):
    """What a device needs before it gets work; ``None`` switches a rule off.

    Attributes:
        min_free_mib: free space in devicelab's folder on the device.
        min_battery_pct: charge (devices without a battery have none to check).
        max_c: hottest thermal zone allowed, degrees Celsius, after waiting up to ``cool_s``.
        cool_s: how long a hot device is waited for.
        root: root is needed.
    """

    min_free_mib: float | None = 64
    min_battery_pct: float | None = 15
    max_c: float | None = 60
    cool_s: float = Field(default=600, ge=0, le=YEAR_S)
    root: bool = False


class DoseRules(Noun):
    """A night's time goes where a change is undecided; without this table every cell is measured every night.

    Attributes:
        stable_after: a cell gets the maintenance dose after so many nights in a row that measured it and saw nothing.
        every: the maintenance dose: such a cell is measured in one night of so many, all its repetitions.
        again: cells whose change is undecided are measured once more in the same night, with the time that is left.
    """

    stable_after: int = Field(default=21, ge=3, le=400)
    every: int = Field(default=3, ge=1, le=30)
    again: bool = True


class Retention(Noun):
    """What is deleted from the store after a night; nothing unless it is said here.

    Attributes:
        nights: nights of this farm that are kept whole.
        max_gb: the store's size above which the oldest nights go (never the newest baseline).
        thin_samples_after_nights: raw samples of older nights are dropped, figures and evidence stay.
    """

    nights: int | None = Field(default=None, ge=1)
    max_gb: float | None = Field(default=None, gt=0)
    thin_samples_after_nights: int | None = Field(default=None, ge=1)


class Notify(Noun):
    """Who hears of a night.

    Attributes:
        urls_env: environment variable with Apprise URLs, blank-separated (they hold secrets, so no file of ours does).
        when: after every night; only when its exit code is not 0; or never at night, but once in the morning by
            `devicelab farm morning`.
    """

    urls_env: str = "DEVICELAB_NOTIFY"
    when: Literal["always", "failure", "morning"] = "failure"


class Farm(Noun):
    """A farm file, ``farm.toml``: what runs every night.

    Attributes:
        name: of the series; nights of one name are compared with each other.
        jobs: what to run, where.
        budget_s: the night ends after so long; ``None``: when everything is done.
        deadline: local clock time ``HH:MM`` by which the night ends; with a budget, whichever comes first.
        wait_busy_s: how long a busy device is waited for.
        patience_s: how long a device that went away is waited for, before it is rebooted or given up.
        max_reboots: of one device in one night, to get it back; machines over ssh only if lab.toml says ``reboot``.
        attempts: how often a task is tried (on the same or an equal device) before it counts as failed.
        baseline_nights: how many earlier complete nights the new one is compared with.
        confirm: cells that look like a regression are measured again in the same night before one is declared.
        alarm: which regressions end a night with exit code 7: each that a night's look ``called``, or those that are
            ``established`` alone (some nights later, and hardly ever without a change).
        dose, health, retention, notify: see there.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    jobs: tuple[JobEntry, ...] = Field(min_length=1)
    budget_s: float | None = Field(default=None, gt=0, le=YEAR_S)
    deadline: str | None = Field(default=None, pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    wait_busy_s: float = Field(default=900, ge=0, le=YEAR_S)
    patience_s: float = Field(default=300, ge=0, le=YEAR_S)
    max_reboots: int = Field(default=1, ge=0, le=5)
    attempts: int = Field(default=2, ge=1, le=5)
    baseline_nights: int = Field(default=7, ge=1)
    confirm: bool = True
    alarm: Literal["called", "established"] = "called"
    dose: DoseRules | None = None
    health: HealthRules = HealthRules()
    retention: Retention = Retention()
    notify: Notify = Notify()

    def alarms(self, verdict: "CellVerdict") -> bool:
        """Whether a verdict is a regression that the farm ends with exit code 7 for."""
        return verdict.verdict == "regression" and (verdict.established or self.alarm == "called")

    @model_validator(mode="after")
    def _jobs_differ(self) -> "Farm":
        seen: set[str] = set()
        for number, job in enumerate(self.jobs, 1):
            key = job.model_dump_json(exclude={"priority"})
            if key in seen:
                raise ValueError(f"job {number} ({job.experiment} on {job.devices}) is there twice")
            seen.add(key)
        return self


class Share(Noun):
    """What some cells get of a night.

    Attributes:
        times: how often their repetitions are measured tonight: 0, 1 or 2.
        cells: their ids.
        why: in words.
    """

    times: int = Field(ge=0, le=2)
    cells: tuple[str, ...]
    why: str

    def text(self) -> str:
        """Such as "3 cells twice: undecided: total_ns may be moving"."""
        many = "" if len(self.cells) == 1 else "s"
        return f"{len(self.cells)} cell{many} {('at rest', 'once', 'twice')[self.times]}: {self.why}"


class Task(Noun):
    """One experiment to be run once on one device: what a job becomes when its selector is resolved.

    Attributes:
        task_id: derived from the night, the job's number and the place in it, so that a retry is the same task.
        job: number of the job in the farm file, from 0.
        experiment: its name.
        selector: as written; a task of ``any N of …`` may be moved to another device that fits.
        device: where it runs or ran; ``None`` while it waits for any that fits.
        status: ``skipped`` when no time or no device was left, with the reason.
        campaign: of the newest attempt.
        attempts: so far.
        priority: of the job.
        confirms: the task whose suspicious cells this one measures again, if it does.
        cells: ids of the cells that are measured; empty: all of the experiment's.
        exit_code: what a sweep with this end would have exited with; 0 while the task runs, and while it waits unless a
            device did not take it.
        shares: with a dose, how much each cell gets tonight, and why.
    """

    task_id: str
    job: int
    experiment: str
    selector: str
    device: str | None = None
    status: TaskStatus = "waiting"
    reason: str = ""
    campaign: str | None = None
    attempts: int = 0
    priority: int = 0
    confirms: str | None = None
    cells: tuple[str, ...] = ()
    exit_code: int = 0
    shares: tuple[Share, ...] = ()

    @property
    def at_rest(self) -> bool:
        """Skipped since nothing of it needs measuring tonight."""
        return self.status == "skipped" and bool(self.shares) and not any(share.times for share in self.shares)

    @property
    def undecided(self) -> bool:
        """It measures cells whose change is undecided."""
        return any(share.times > 1 for share in self.shares)


class NightInfo(Noun):
    """One night as the store keeps it.

    Attributes:
        night: id, sortable by time (``nightly-20261122-220000-3f2a``).
        farm: name of the series.
        status: ``running`` until it ended; a killed process leaves it ``running``, ``--resume`` goes on.
        started_unix_ns, ended_unix_ns: host's clock.
        exit_code: what ``devicelab nightly`` ended with.
        job: the farm file as it was.
        host: where the night was conducted.
    """

    night: str
    farm: str
    status: NightStatus
    started_unix_ns: int
    ended_unix_ns: int | None = None
    exit_code: int | None = None
    job: Farm
    host: str = ""


class Health(Noun):
    """A look at a device before or after a task.

    Attributes:
        device: its name.
        night, task_id: for which it was looked at; ``None`` outside a night.
        phase: before or after the task, or on request.
        ok: fit for work.
        reasons: why not, one short sentence each.
        figures: what was seen, with units in the names (``free_mib``, ``battery_pct``, ``hottest_c``, ``uptime_s``).
        facts: what ought not to change between nights (``serial``, ``board``, ``os_build``, ``kernel``,
            ``gpu_driver``, ``clock_tables`` as a hash).
        at_unix_ns: host's clock.
    """

    device: str
    night: str | None = None
    task_id: str | None = None
    phase: Literal["before", "after", "asked"] = "asked"
    ok: bool
    reasons: tuple[str, ...] = ()
    figures: dict[str, float] = Field(default_factory=dict)
    facts: dict[str, str] = Field(default_factory=dict)
    at_unix_ns: int


class Quarantine(Noun):
    """A device that gets no work until somebody releases it.

    Attributes:
        device: its name.
        reason: why, one sentence.
        night: in which it happened.
        since_unix_ns, released_unix_ns: ``None`` while it lasts.
        note: what the person who released it said.
    """

    device: str
    reason: str
    night: str | None = None
    since_unix_ns: int
    released_unix_ns: int | None = None
    note: str = ""


class CellVerdict(Noun):
    """How one figure of one cell on one device moved against the baseline nights.

    Attributes:
        night: the one judged.
        experiment, cell_id, cell, device, program, metric, unit: what is compared; ``cell`` is the label for people.
        verdict: one of five.
        shift_pct: Hodges–Lehmann shift of the nights that decide (this one alone, or with those just before it)
            against the baseline's, percent of the baseline; positive means larger. ``None`` if nothing can be said.
        low_pct, high_pct: 95 % bootstrap interval of the shift.
        p_value, q_value: of a shift in any of the windows tried, and after Benjamini–Hochberg over the night's figures.
        threshold_pct: smallest shift that counts here, learned from nights in which nothing changed.
        n, n_baseline: repetitions of the nights that decide and of the baseline.
        baseline: nights compared with.
        causes: what changed between (board, OS build, driver, binary), named as the likely cause.
        reasons: why the verdict is what it is.
        since: night in which a change point was found, if one was.
        confirmed: the cell was measured again in the same night and said the same; ``None`` if it was not measured
            again.
        evidence: that its level changed, as it stands after looking every night (``devicelab.compare.nights.held``);
            36500 establish a change.
        established: a change that holds however often one looked; others were found by this night's look.
    """

    night: str
    experiment: str
    cell_id: str
    cell: str
    device: str
    program: str
    metric: str
    unit: str
    verdict: NightVerdict
    shift_pct: float | None = None
    low_pct: float | None = None
    high_pct: float | None = None
    p_value: float | None = None
    q_value: float | None = None
    threshold_pct: float | None = None
    n: int = 0
    n_baseline: int = 0
    baseline: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    since: str | None = None
    confirmed: bool | None = None
    evidence: float | None = None
    established: bool = False
