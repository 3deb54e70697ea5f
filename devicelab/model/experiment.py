"""Experiments: factors and their levels, what is measured, how often, and what is concluded from it."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from devicelab.model.plan import Noun, content_id
from devicelab.model.search import Search
from devicelab.model.stop import Stop
from devicelab.model.tuning import Tuning

Level = str | int | float | bool

Seconds = Annotated[float, Field(ge=0, le=31 * 86_400)]
"""A length of time; the agent takes at most 31 days."""


Percent = Annotated[float, Field(ge=0, le=100)]

HOTTEST_C = 1000
Celsius = Annotated[float, Field(ge=-273, le=HOTTEST_C)]
"""A temperature; whatever is no number fits no bound."""


class Measure(Noun):
    """The measurement: a workload (a module in ``devicelab/workloads``) and its parameters.

    Parameters that are also factors are overridden by the cell's level.

    Attributes:
        workload: the module's name ("klo", "command", ...).
        params: its parameters; see each workload.
        cores: pin the measured program to these ("big", "4-7", "0x30"); left to the kernel if not given.
        timeout_s: a program that takes longer is killed, and its run flagged ``timeout``.
    """

    workload: str
    params: dict[str, Level | list[Level]] = Field(default_factory=dict)
    cores: str | None = None
    timeout_s: Seconds = 600.0


class Tenant(Noun):
    """One of several programs that share a GPU (or CPU): a workload with a priority, arrivals and targets.

    Attributes:
        name: unique in the experiment.
        priority: bigger is more important.
        workload, params: as in ``Measure``.
        arrivals: ``continuous``, ``fixed:RATE`` or ``poisson:RATE`` (requests per second), ``every:SECONDS``.
        deadline_ms: counted as missed beyond it (from the scheduled time).
        targets: figure → bound, such as ``p99_ms = "< 50"`` or ``share_pct = "> 30"``.
        copies: how many processes of it run (a level of the factor ``pressure`` may set it).
        cores: pin its processes to these ("big", "4-7", "0"); left to the kernel if not given.
        laxity_ms: slack a request has before it becomes urgent (not its deadline), for schedulers that take it.
        utilization_pct: share of the GPU it is to get, for schedulers that take it.
    """

    name: str
    priority: int = 0
    workload: str
    params: dict[str, Level | list[Level]] = Field(default_factory=dict)
    arrivals: str = "continuous"
    deadline_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    targets: dict[str, str] = Field(default_factory=dict)
    copies: int = 1
    cores: str | None = None
    laxity_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    utilization_pct: Annotated[float, Field(ge=0, le=100)] | None = None

    def identity(self) -> str:
        """Its content for a cell's id; keys that came later count only where they are given, so that ids stay."""
        later = {name for name in ("laxity_ms", "utilization_pct") if getattr(self, name) is None}
        return self.model_dump_json(exclude=later)


STANDALONE = "standalone"
"""Level of ``scheduler`` in which every tenant runs alone; ``standalone+NAME`` is alone under a scheduler."""


class Thermal(Noun):
    """Wait before every run until the board's thermal zones are within bounds and flat.

    Attributes:
        max_c: hottest allowed, degrees Celsius.
        min_c: coolest allowed, so that no run starts on a colder phone than the others.
        flat_within_c: temperature may change by so much within the window; not awaited if not given.
        window_s: length of that window.
        timeout_s: after so long the run is performed all the same, and flagged ``gate-timeout``.
    """

    max_c: Celsius | None = None
    min_c: Celsius | None = None
    flat_within_c: Annotated[float, Field(ge=0, le=1000)] | None = None
    window_s: Seconds = 5.0
    timeout_s: Seconds = 600.0


class Energy(Noun):
    """What a run uses, where energy is the question. Without it energy is measured all the same where it can be.

    Attributes:
        idle_s: the board is watched for so long before every run, so that a run's energy can be told net of that.
        required: the sweep stops with exit code 4 where nothing tells energy, and runs without it are invalid.
    """

    idle_s: Annotated[float, Field(ge=0, le=3600)] = 2.0
    required: bool = True


class Tracing(Noun):
    """Runs performed once more while the system's own tracer records; they enter no verdict.

    Attributes:
        when: ``flagged`` traces each cell in which a run was flagged, once more at the end of the sweep; ``always``
            each cell. Eight cells at most.
        tool: ``auto`` (perfetto from Android 10 on, else atrace, ftrace or simpleperf; on Linux ftrace as root, else
            perf), or one of these.
        most_mb: a trace is no larger.
        counts: traced runs count like others.
    """

    when: Literal["flagged", "always"]
    tool: Literal["auto", "perfetto", "atrace", "ftrace", "simpleperf", "perf"] = "auto"
    most_mb: Annotated[int, Field(ge=1, le=256)] = 16
    counts: bool = False


class Check(Noun):
    """A claim that must hold, for CI and nights: ``metric`` over the runs of the cells that match ``where``.

    Attributes:
        name: shown in reports and JUnit.
        metric: a figure of the runs ("total_ns", "PROGRAM.metric" if several programs have it), or ``cpu_use_pct``, the
            CPU use of the whole device.
        where: factor → level; cells that match all of them. Empty: all cells.
        against: another selection of cells; the figure is then the ratio of ``where`` to it.
        bound: a comparison with a unit, such as "< 30 ms"; with ``against`` a ratio ("< 1.2") or its difference from 1
            ("< 5 %").
    """

    name: str
    metric: str
    where: dict[str, Level] = Field(default_factory=dict)
    against: dict[str, Level] | None = None
    bound: str


class Answer(Noun):
    """What answers the experiment's question: one quantity, compared between the levels of one factor.

    Attributes:
        quantity: a figure of the runs ("t_prod_mean_ns"), ``cpu_use_pct``, or what an analysis of the experiment
            concludes as a whole ("constant_k", "k_carried", "k_matters", "targets").
        by: the factor whose levels are compared; not needed for what an analysis concludes.
        against: what they are compared with: a level of ``by``, and of other factors where that cell has its own.
        where: only cells that match all of these levels.
        within_pct: a change up to this does not matter, percent (percentage points of a percentage).
    """

    quantity: str
    by: str = ""
    against: dict[str, Level] = Field(default_factory=dict)
    where: dict[str, Level] = Field(default_factory=dict)
    within_pct: Annotated[float, Field(ge=0, le=100)] = 2.0

    @model_validator(mode="after")
    def _consistent(self) -> "Answer":
        if bool(self.by) != bool(self.against) or (self.by and self.by not in self.against):
            raise ValueError(f"answer: against names the level of by that the others are compared with: {self.by!r}")
        return self


class Experiment(Noun):
    """One TOML in ``experiments/``.

    Attributes:
        name: the file's name without ``.toml``.
        question: what it answers, one sentence.
        answer: which claim answers it; see below. Without it no finding is the answer.
        factors: factor → levels. ``load`` ("none", "1000 5000 20", "45%"), ``placement`` ("free", "one-big",
            "one-per-core", "two-per-core", "n:4", or cores such as "4-7"), knob words (``cpu``, ``gpu``, ...),
            ``scheduler``, ``pressure``, ``measured_on`` (cores the measured program is pinned to, or ``free``), or any
            parameter of the measurement's workload.
        set: factors held at one level in every cell (the same words).
        lock: hold the board as still as it can be held in every cell: the same as ``lock = "on"`` in ``set``.
        exclude: partial cells that are left out.
        repetitions: runs of every cell, each a fresh process; not used with a stop rule.
        stop: go on until the experiment is answered, instead; see below.
        search: find the best of all combinations instead of running every one; see below.
        tuning: written by `devicelab tune` into the rounds of its search; not for files.
        give_up_after: so many runs in a row with the same flag, whatever the levels, end the sweep; 0: never.
        seed: of the shuffle; blocks of one repetition of every cell are shuffled each, so repetitions spread in time.
        measure: what is measured; without it (and without tenants) a run only loads for ``hold_s``.
        tenants: several programs at once, instead of ``measure``.
        duration_s: how long tenants work, seconds.
        windows: so many times in a row, each with arrivals of its own, without starting them again. All windows of one
            start are one repetition: its figures are taken over all of them, and starts alone are counted.
        pause_s: between two windows, seconds.
        settle_s: between "all loads were seen to run" and the start of the measurement, seconds.
        hold_s: observed time of runs that only load, seconds.
        cooldown_s: idle time after each run, seconds.
        sample_hz: how often clocks, temperatures and CPU use are sampled during a run; 0 turns it off.
        foreign_pct: a run is flagged ``foreign-load`` if programs that are not ours use more than this of all CPUs,
            before it begins or during it; 100 turns it off.
        foreign_core_pct: the same for what they use of any one CPU during the run.
        thermal: wait before every run; see below.
        energy: joules are the question; see below.
        trace: the system's tracer records runs more; see below.
        require: knob words that must be possible on the device; without them the sweep stops with exit code 4.
        push: files that are put on the device first, beside the TOML file or by their whole path: programs, models. In
            ``argv`` they are ``{dir}/NAME``; their checksums are kept with the campaign.
        analyses: modules in ``devicelab/analyses`` that turn the runs into findings.
        checks: bounds on figures; a failed one makes the exit code 7.
    """

    name: str = ""
    question: str
    answer: Answer | None = None
    factors: dict[str, tuple[Level, ...]] = Field(default_factory=dict)
    set: dict[str, Level] = Field(default_factory=dict)
    lock: bool = False
    exclude: tuple[dict[str, Level], ...] = ()
    repetitions: Annotated[int, Field(ge=1, le=100_000)] = 5
    stop: Stop | None = None
    search: Search | None = None
    tuning: Tuning | None = None
    give_up_after: Annotated[int, Field(ge=0, le=100_000)] = 10
    seed: int = 1
    measure: Measure | None = None
    tenants: tuple[Tenant, ...] = ()
    duration_s: Seconds = 60.0
    windows: Annotated[int, Field(ge=1, le=10_000)] = 1
    pause_s: Seconds = 1.0
    settle_s: Seconds = 0.5
    hold_s: Seconds = 5.0
    cooldown_s: Seconds = 0.0
    sample_hz: Annotated[float, Field(ge=0, le=100)] = 10.0
    foreign_pct: Percent = 20.0
    foreign_core_pct: Percent = 50.0
    thermal: Thermal | None = None
    energy: Energy | None = None
    trace: Tracing | None = None
    require: tuple[str, ...] = ()
    push: tuple[Path, ...] = ()
    analyses: tuple[str, ...] = ("load",)
    checks: tuple[Check, ...] = ()

    @field_validator("push")
    @classmethod
    def _each_name_once(cls, push: tuple[Path, ...]) -> tuple[Path, ...]:
        names = [path.name for path in push]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two of the files to push are called {twice!r}")
        return push

    @model_validator(mode="before")
    @classmethod
    def _locked(cls, data: object) -> object:
        if not isinstance(data, dict) or data.get("lock") is not True or "lock" in (data.get("factors") or {}):
            return data
        held = data.get("set") or {}
        return {**data, "set": {"lock": "on", **held}} if isinstance(held, dict) else data

    @property
    def workloads(self) -> tuple[str, ...]:
        """Names of the workloads that are measured, each once."""
        alone = () if self.measure is None else (self.measure.workload,)
        return tuple(dict.fromkeys((*alone, *(tenant.workload for tenant in self.tenants))))

    @property
    def span_s(self) -> float:
        """From the common start of the tenants to the end of their last window, seconds."""
        return self.windows * self.duration_s + (self.windows - 1) * self.pause_s

    @property
    def first_repetitions(self) -> int:
        """Repetitions of every cell that are planned without looking at a run: all, or the least of a stop rule."""
        if self.search is not None:
            return 1  # what a search really tries is asked for block by block
        return self.repetitions if self.stop is None else self.stop.min_repetitions

    @property
    def rule(self) -> Stop | None:
        """The stop rule; a search always has one."""
        return self.stop or (Stop() if self.search is not None else None)

    @model_validator(mode="after")
    def _consistent(self) -> "Experiment":
        if self.measure is not None and self.tenants:
            raise ValueError("an experiment has either [measure] or [[tenants]], not both")
        empty = [name for name, levels in self.factors.items() if not levels]
        if empty:
            raise ValueError(f"factor {empty[0]!r} has no levels")
        both = sorted(self.factors.keys() & self.set.keys())
        if both:
            raise ValueError(f"{both[0]!r} is both a factor and set to one level")
        programs: list[Measure | Tenant] = [*self.tenants, *([self.measure] if self.measure is not None else [])]
        said: list[Mapping[str, Level | Iterable[Level]]] = [self.factors, self.set, *self.exclude]
        for levels in (*said, *(program.params for program in programs)):
            for name, level in levels.items():
                if not _finite(level):
                    raise ValueError(f"{name!r} has a level that is no number: {level!r}")
        return self


def _finite(level: Level | Iterable[Level]) -> bool:
    if isinstance(level, list | tuple):
        return all(map(_finite, level))
    return not isinstance(level, float) or math.isfinite(level)


class Cell(Noun):
    """One combination of levels; its id is a hash of its content and of what is measured."""

    levels: dict[str, Level]
    measured: str

    @property
    def cell_id(self) -> str:
        """Stable across processes and machines."""
        text = ",".join(f"{name}={self.levels[name]!r}" for name in sorted(self.levels))
        return content_id(self.measured, text)

    def label(self) -> str:
        """For people: ``load=1000 5000 20, k=4``."""
        return ", ".join(f"{name}={level}" for name, level in self.levels.items())


Verdict = Literal["yes", "no", "insufficient n", "pass", "fail", "inconclusive", "invalid", "cannot tell here", "info"]


class Finding(Noun):
    """What an analysis concludes: a claim, an estimate with its interval, a verdict and the reasons.

    Attributes:
        analysis: the module that made it.
        claim: the question or statement, one sentence.
        verdict: see ``Verdict``.
        estimate, low, high: point and 95% interval in ``unit``; ``None`` with too little data.
        n: number of repetitions it rests on.
        reasons: sentences with figures.
        simulated: an emulated part or a virtual board had a share in it.
        answer: the one finding of a campaign that answers the experiment's question.
        interval: "fixed n": it holds for a number of repetitions that was fixed beforehand; "anytime": however often
            one looked at the data and whenever one stopped.
        quantity: for programs: what was compared, as ``Answer.quantity``; empty for what is no such claim.
        comparison: for programs: "LEVELS / LEVELS", what over what; empty as ``quantity``.
    """

    analysis: str
    claim: str
    verdict: Verdict
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = "1"
    n: int = 0
    reasons: tuple[str, ...] = ()
    simulated: bool = False
    answer: bool = False
    interval: Literal["fixed n", "anytime"] = "fixed n"
    quantity: str = ""
    comparison: str = ""


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """As a reader wants them: the answer, then the experiment's own checks, then the rest in their own order."""
    return tuple(sorted(findings, key=lambda one: (not one.answer, one.analysis != "checks")))
