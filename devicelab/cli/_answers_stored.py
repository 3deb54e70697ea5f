"""What ``--json`` prints of what is stored, planned and configured; see ``_answers``."""

from typing import Any

from pydantic import ConfigDict, Field

from devicelab.analyses.klo.model import LaunchCosts
from devicelab.cli._answers_device import Answer
from devicelab.compare.campaigns import Shift, TargetShift
from devicelab.compare.changes import Change
from devicelab.device.reservation import Reservation
from devicelab.farm.standing import Standing
from devicelab.jobs.whereabouts import Place
from devicelab.model.campaign import CampaignInfo
from devicelab.model.experiment import Finding
from devicelab.model.night import CellVerdict, Quarantine
from devicelab.model.schedule import MadeFor
from devicelab.report.headline import Headline
from devicelab.report.watch import Board


class Report(Answer):
    """``report``."""

    campaign: str
    device: str
    status: str
    simulated: bool
    runs: int
    invalid: int
    report: str
    answer: Headline
    findings: list[Finding]


class Program(Answer):
    """A program that was compiled."""

    program: str
    abi: str
    path: str
    sha256: str
    size_bytes: int
    toolchain: str
    compiler_version: str
    flags: list[str]
    cached: bool
    seconds: float
    loads_libraries: bool
    note: str


class Build(Answer):
    """``build``."""

    built: list[Program]


class Compared(Answer):
    """``compare A B``."""

    a: str
    b: str
    changes: list[Change]
    only_a: list[str]
    only_b: list[str]
    shifts: list[Shift]
    targets: list[TargetShift]
    simulated: bool
    answer: str


class ComparedMany(Answer):
    """``compare A B C``: more than two campaigns."""

    comparisons: list[Compared]


class Config(Answer):
    """``config``."""

    places: list[Place]


class Imported(Answer):
    """``import``."""

    campaign: str
    new: int
    known: int
    damaged: int
    report: str
    findings: list[Finding]


class Night(Answer):
    """``nightly``."""

    night: str
    farm: str
    status: str
    exit_code: int
    tasks: list[dict[str, Any]]
    verdicts: list[CellVerdict]
    quarantined: list[Quarantine]
    out: dict[str, str]
    not_given_back: dict[str, str]
    failed_checks: list[str]


class Slot(Answer):
    """When a task of a night is to run."""

    task_id: str
    device: str
    start_s: float
    end_s: float


class Dropped(Answer):
    """A task for which a night has no time."""

    task_id: str
    reason: str


class NightPlan(Answer):
    """``nightly --dry-run``."""

    tasks: list[dict[str, Any]]
    slots: list[Slot]
    dropped: list[Dropped]
    out: dict[str, str]
    end_s: float
    ends_unix_s: float | None


class NightRow(Answer):
    """A night of ``nights``."""

    night: str
    farm: str
    status: str
    exit_code: int | None
    started_unix_ns: int
    ended_unix_ns: int | None
    counts: dict[str, int]


class Nights(Answer):
    """``nights``."""

    nights: list[NightRow]


class OneNight(NightRow):
    """``nights NIGHT``."""

    verdicts: list[CellVerdict]


class Pin(Answer):
    """``pin``."""

    device: str
    dry_run: bool
    steps: list[dict[str, Any]]
    results: list[dict[str, Any]]
    unmet: dict[str, list[str]]


class Restore(Answer):
    """``restore``: what the agent put back (docs/reference/agent.md)."""

    model_config = ConfigDict(extra="allow", frozen=True)
    device: str


class Reserve(Answer):
    """``reserve``."""

    device: str
    reservation: Reservation | None
    released: bool


class Site(Answer):
    """``site``: how many pages were written, kept and removed."""

    index: str
    written: int
    kept: int
    removed: int
    problems: list[str]


class Export(Answer):
    """``export``: files, and rows of samples that were dropped before."""

    campaign: str
    files: list[str]
    dropped_samples: dict[str, int]


class Trace(Answer):
    """``trace``."""

    campaign: str
    runs: list[str]
    trace: str


class Watch(Answer):
    """``watch``."""

    at: str
    night: str
    tasks: list[tuple[str, int]]
    boards: list[Board]
    ended: list[CampaignInfo]


class FarmStatus(Answer):
    """``farm status``."""

    status: list[Standing]


class FarmMorning(Answer):
    """``farm morning``."""

    title: str
    body: str
    exit_code: int


class FarmInstall(Answer):
    """``farm install``: the files, or with ``--cron`` a line for crontab."""

    crontab: str | None
    files: list[str]


class Batches(Answer):
    """A choice of batches with its time."""

    makespan_ns: float
    overhead_ns: float
    k: int | None = None
    batches: list[int] | None = None


class KloModel(Answer):
    """``klo model``."""

    n: int
    t_prod_ns: float
    t_ker_ns: float
    costs: dict[str, float]
    curve: list[dict[str, float]]
    best_constant: Batches
    best_schedule: Batches
    near_optimal: dict[str, Any]
    formulas: dict[str, float | None]
    floor_ns: float
    speedup_over_k1: float


class PlannedCondition(Answer):
    """What the model recommends under one condition; ``set`` are the words for ``--set``."""

    label: str
    k: int
    makespan_ns: float
    batches: list[int]
    schedule_ns: float
    costs: LaunchCosts
    costs_from: str
    made_for: MadeFor
    remarks: list[str]
    set: list[str]


class KloPlan(Answer):
    """``klo plan``."""

    conditions: list[PlannedCondition]


class Quarantines(Answer):
    """``quarantine list``."""

    quarantines: list[Quarantine]


class Released(Answer):
    """``quarantine release``."""

    device: str
    released: bool
    note: str


class Campaigns(Answer):
    """``store list``."""

    campaigns: list[CampaignInfo]


class CellRow(Answer):
    """A cell with its runs."""

    cell: str
    runs: int
    invalid: int


class Shown(Answer):
    """``store show``: the campaign's own keys, its cells and findings."""

    model_config = ConfigDict(extra="allow", frozen=True)
    campaign: str
    device: str
    status: str
    cells: list[CellRow]
    findings: list[Finding]


class StoreCheck(Answer):
    """``store check``."""

    ok: bool
    campaigns: int
    runs: int
    blobs: int
    problems: list[str]


class Pruned(Answer):
    """``store prune``."""

    dry_run: bool
    deleted: dict[str, str]
    thinned: list[str]
    bytes: int
    rows: int
    used_bytes: int
    short_bytes: int


class Vacuumed(Answer):
    """``store vacuum``."""

    freed_bytes: int


class SimBoards(Answer):
    """``sim up`` and ``sim list``: virtual boards and machines, each with what it is."""

    boards: list[dict[str, Any]] = Field(default_factory=list)
    machines: list[dict[str, Any]] = Field(default_factory=list)


class SimKind(Answer):
    """A kind of virtual board."""

    kind: str
    title: str
    abi: str
    su: str


class SimKinds(Answer):
    """``sim kinds``."""

    kinds: list[SimKind]


class SimDown(Answer):
    """``sim down``."""

    ended: list[str]


class SimFault(Answer):
    """``sim fault``."""

    faults: list[dict[str, Any]]
    armed: Any


class SimStats(Answer):
    """``sim stats``: what a virtual board counted."""

    model_config = ConfigDict(extra="allow", frozen=True)
