"""What ``--json`` prints of devices and of what is done on them; see ``_answers``."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from devicelab.device.choose import Blind
from devicelab.ground.finding import LeftOut
from devicelab.jobs.doctor import Checked
from devicelab.jobs.plugins import Examined
from devicelab.model.device import Cluster
from devicelab.model.experiment import Finding
from devicelab.model.journal import Flag
from devicelab.report.headline import Headline


class Answer(BaseModel):
    """Base of the answers: what is not named here is not printed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DeviceRow(Answer):
    """A device as ``devices`` lists it; what only an answering device tells is left out of the others."""

    name: str
    address: str
    state: str
    board: str | None
    tags: list[str]
    usable: bool
    error: str | None = None
    hint: str | None = None
    reserved: str = ""
    title: str = ""
    abi: str = ""
    root: str = ""
    kernel: str = ""
    simulated: bool = False
    holder: Any = None
    busy: bool = False
    to_restore: list[str] = []
    pinned: list[str] = []


class Devices(Answer):
    """``devices``."""

    devices: list[DeviceRow]
    unavailable: list[Blind]
    unready: list[str]
    left_out: list[LeftOut]


class Policy(Answer):
    """A cpufreq policy of ``facts``."""

    name: str
    cpus: list[int]
    online: bool
    table_khz: list[int]
    min_khz: int | None
    max_khz: int | None


class DeviceFacts(Answer):
    """``facts``: what is known of a device, and every node that was read; more keys as devices tell more."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str
    address: str
    abi: str
    kernel: str
    root: str
    simulated: bool
    board: dict[str, Any]
    nodes: dict[str, dict[str, Any]]
    clusters: list[Cluster]
    policies: list[Policy]
    not_known: list[str]


class Capture(Answer):
    """``capture``."""

    capture: str
    device: str
    nodes: int


class Doctor(Answer):
    """``doctor``."""

    ok: bool
    checks: list[Checked]


class Plugins(Answer):
    """``doctor --plugins``."""

    ok: bool
    plugins: list[Examined]


class Load(Answer):
    """``load``."""

    device: str
    board: str
    simulated: bool
    args: list[int]
    copies: int
    cores: list[int]
    duration_s: float
    cpu_pct: float
    cpu_pct_by_core: dict[str, float]
    cores_pct: float
    load_pct: float
    wanted_pct: float | None
    others_pct: float
    left_behind: int
    agent_pct: float
    flags: list[Flag]
    interrupted: bool
    ran: bool


class Reason(Answer):
    """Why runs do not count, with what helps."""

    flag: str
    runs: int
    detail: str
    remedy: str | None


class Sweep(Answer):
    """``sweep`` and ``klo app``."""

    campaign: str
    device: str
    board: str
    simulated: bool
    runs: int
    planned: int
    invalid: int
    invalid_cells: list[str]
    unreliable: bool
    reasons: list[Reason]
    report: str | None
    answer: Headline | None
    findings: list[Finding]
    unmet: dict[str, list[str]]
    undone: list[str]
    interrupted: bool
    ended: str
    undecided: list[str]


class SweepPlan(Answer):
    """``sweep --dry-run``: the plans as the agent would get them (docs/reference/agent.md)."""

    plans: list[dict[str, Any]]
    unmet: dict[str, list[str]]
    undecided: dict[str, int | None]
    search: dict[str, Any] | None


class Bundle(Answer):
    """``--bundle``: of ``sweep``; ``tune`` and ``press`` say why, too, and what is known so far."""

    bundle: str
    campaign: str
    runs: int
    why: str | None = None
    best: str | None = None
    going_on: list[str] | None = None
    unrun: list[str] | None = None
    pressure: str | None = None
    rungs: list[list[str]] | None = None


class Tune(Answer):
    """``tune``."""

    why: str
    best: str | None = None
    going_on: list[str] | None = None
    unrun: list[str] | None = None
    last: Sweep | None = None


class Press(Answer):
    """``press``."""

    why: str
    pressure: str | None
    rungs: list[list[str]]
