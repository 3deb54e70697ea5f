"""Nights for tests: a made-up history of any length with known shifts, inserted in bulk.

``fill(store, History(nights=365, cells=200))`` takes some seconds; short ones a few milliseconds.
"""

import datetime as dt
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import insert, update

from devicelab import __version__
from devicelab.model.campaign import BinaryInfo
from devicelab.model.experiment import Cell, Experiment, Finding, Measure
from devicelab.model.night import CellVerdict, Farm, Health, JobEntry, NightInfo, NightStatus, Quarantine, Task
from devicelab.model.plan import content_id
from devicelab.store import Store
from devicelab.store import schema as s
from devicelab.store.nights import to_row
from tests import hostile as texts
from tests import labdata

DAY_NS = 86_400 * 1_000_000_000
FIRST_UNIX_NS = int(dt.datetime(2026, 1, 1, 22, tzinfo=dt.UTC).timestamp()) * 1_000_000_000


def unchanged(_night: int, _device: str, _cell: int) -> float:
    return 1.0


def same_facts(_night: int, _device: str) -> dict[str, Any]:
    return {}


def same_binary(_night: int) -> str:
    return "b" * 64


@dataclass(frozen=True)
class History:
    """What the nights are made of; every campaign has all cells.

    Attributes:
        farm: its name.
        nights: how many, a day apart.
        first: index of the first one, to go on with a history.
        devices: each has one campaign a night.
        cells: of the experiment (``k`` = 1, 2, ...).
        repetitions: of each cell a night.
        experiment: its name.
        metric, unit, base: the figure; ``base`` is its value in cell 0, each further cell is 10 % larger.
        noise, night_noise: relative standard deviations of the runs of a night, and of the whole night of a device.
        factor: ``factor(night, device, cell)`` multiplies the figure: the planted shifts.
        facts: ``facts(night, device)`` changes the facts of that campaign (``kernel``, ``props``, ...).
        binary: ``binary(night)`` is the SHA-256 of the program measured with.
        invalid_every: each so-many-th run is flagged.
        simulated: virtual boards.
        seed: of everything that is random.
    """

    farm: str = "nightly"
    nights: int = 10
    first: int = 0
    devices: tuple[str, ...] = ("note10-a",)
    cells: int = 4
    repetitions: int = 5
    experiment: str = "klo_under_load"
    metric: str = "total_ns"
    unit: str = "ns"
    base: float = 3.1e6
    noise: float = 0.01
    night_noise: float = 0.003
    factor: Callable[[int, str, int], float] = unchanged
    facts: Callable[[int, str], dict[str, Any]] = same_facts
    binary: Callable[[int], str] = same_binary
    invalid_every: int = 0
    simulated: bool = False
    seed: int = 1
    job: Farm = field(init=False)

    def __post_init__(self) -> None:
        jobs = tuple(JobEntry(experiment=self.experiment, devices=device) for device in self.devices)
        object.__setattr__(self, "job", Farm(name=self.farm, jobs=jobs))


def cells(of: History) -> tuple[Cell, ...]:
    return tuple(Cell(levels={"load": "none", "k": k + 1}, measured="klo") for k in range(of.cells))


def experiment(of: History) -> Experiment:
    return Experiment(
        name=of.experiment,
        question="Does the time of an inference stay where it was?",
        factors={"k": tuple(range(1, of.cells + 1))},
        set={"load": "none"},
        repetitions=of.repetitions,
        measure=Measure(workload="klo", params={"network": "mobilenet-v1"}),
    )


def night_id(of: History, night: int) -> str:
    begun = dt.datetime.fromtimestamp(start_ns(night) // 1_000_000_000, dt.UTC)
    return f"{of.farm}-{begun:%Y%m%d-%H%M%S}-{night:04x}"


def campaign_id(night: int, device: int) -> str:
    begun = dt.datetime.fromtimestamp(start_ns(night) // 1_000_000_000, dt.UTC)
    return f"{begun:%Y%m%d-%H%M%S}-{device:04x}"


def start_ns(night: int) -> int:
    return FIRST_UNIX_NS + night * DAY_NS


def fill(store: Store, of: History | None = None) -> tuple[str, ...]:
    """Insert the nights with a task, a campaign, two looks at each device and all runs; their ids, oldest first."""
    of = of or History()
    rng = np.random.default_rng([of.seed, of.first])
    names = store._metric_numbers({("measure", of.metric, of.unit): None})
    with store._writer.begin() as connection:
        numbers = store._cell_numbers(connection, cells(of))
        cell_numbers = [numbers[cell.cell_id] for cell in cells(of)]
    ids = []
    for night in range(of.first, of.first + of.nights):
        ids.append(night_id(of, night))
        put_night(store, of, night)
        for place, device in enumerate(of.devices):
            _campaign(store, of, night, place, device, cell_numbers, names["measure", of.metric, of.unit], rng)
    return tuple(ids)


def put_night(store: Store, of: History, night: int, status: NightStatus = "complete", exit_code: int = 0) -> str:
    """The night alone, with its tasks and looks at the devices (their campaigns come from elsewhere); its id."""
    info = NightInfo(
        night=night_id(of, night),
        farm=of.farm,
        status=status,
        started_unix_ns=start_ns(night),
        ended_unix_ns=None if status == "running" else start_ns(night) + DAY_NS // 4,
        exit_code=None if status == "running" else exit_code,
        job=of.job,
        host="lab-host",
    )
    tasks = []
    with store._writer.begin() as connection:
        connection.execute(insert(s.nights).values(to_row(s.nights, info)))
        for place, device in enumerate(of.devices):
            task = Task(
                task_id=content_id(info.night, str(place)),
                job=place,
                experiment=of.experiment,
                selector=device,
                device=device,
                status="complete",
                campaign=campaign_id(night, place),
                attempts=1,
            )
            tasks.append(task)
            rows = [to_row(s.health, look(of, night, place, phase)) for phase in ("before", "after")]
            connection.execute(insert(s.health), rows)
    store.put_tasks(info.night, tasks)
    return info.night


def look(of: History, night: int, place: int, phase: str = "before", **changes: Any) -> Health:
    """What a device looked like in a night: warmer and with less charge after the task."""
    after = phase == "after"
    fields: dict[str, Any] = {
        "device": of.devices[place],
        "night": night_id(of, night),
        "task_id": content_id(night_id(of, night), str(place)),
        "phase": phase,
        "ok": True,
        "figures": {
            "free_mib": 2048.0 - night,
            "battery_pct": 88.0 - 25 * after + (night * 7 + place * 3) % 11,
            "hottest_c": 31.0 + 8 * after + (night * 5 + place) % 6,
            "uptime_s": 3600.0 * (night + 1),
        },
        "facts": {
            "serial": f"R58M{place:04d}",
            "board": "note10",
            "os_build": "samsung/d1/d1:12/SP1A",
            "kernel": "4.14.113",
            "clock_tables": "c" * 16,
        },
        "at_unix_ns": start_ns(night) + (DAY_NS // 4 if after else 0) + place * 1_000_000_000,
        **changes,
    }
    return Health(**fields)


def add_quarantine(store: Store, of: Quarantine) -> None:
    """A quarantine at a given time."""
    with store._writer.begin() as connection:
        connection.execute(insert(s.quarantines).values(to_row(s.quarantines, of)))


def adopt(store: Store, night: str, campaign: str) -> None:
    """Make a stored campaign one of the night's."""
    with store._writer.begin() as connection:
        connection.execute(update(s.campaigns).where(s.campaigns.c.campaign == campaign).values(night=night))


def verdict(of: History, night: int, cell: int = 0, device: int = 0, **changes: Any) -> CellVerdict:
    """How a cell moved; unchanged unless told otherwise."""
    one = cells(of)[cell]
    fields: dict[str, Any] = {
        "night": night_id(of, night),
        "experiment": of.experiment,
        "cell_id": one.cell_id,
        "cell": one.label(),
        "device": of.devices[device],
        "program": "measure",
        "metric": of.metric,
        "unit": of.unit,
        "verdict": "unchanged",
        "shift_pct": 0.2,
        "low_pct": -0.9,
        "high_pct": 1.3,
        "p_value": 0.6,
        "q_value": 0.8,
        "threshold_pct": 3.0,
        "n": of.repetitions,
        "n_baseline": 7 * of.repetitions,
        "baseline": tuple(night_id(of, earlier) for earlier in range(max(0, night - 7), night)),
        **changes,
    }
    return CellVerdict(**fields)


def eventful(store: Store, nights: int = 12, *, simulated: bool = False, report: bool = True) -> History:
    """Nights in which things happen: the newest one has a regression, a failed and a skipped task, a quarantine."""
    step = nights - 3

    def factor(night: int, device: str, cell: int) -> float:
        return 1.09 if device == "note10-a" and cell == 1 and night >= step else 1.0

    of = History(
        nights=nights,
        devices=("note10-a", "note10-b", "sd855-1"),
        repetitions=7,
        factor=factor,
        invalid_every=13,
        simulated=simulated,
    )
    ids = fill(store, of)
    for night in range(nights):
        store.put_verdicts(ids[night], [*_judged(of, night, step)])
    newest = nights - 1
    tasks = list(store.tasks(ids[-1]))
    tasks[1] = tasks[1].model_copy(
        update={"status": "failed", "attempts": 2, "reason": "the device went away twice and was rebooted once"}
    )
    extra = {"job": 3, "experiment": "policies", "selector": "any 1 of tag=sd855"}
    tasks.append(
        Task(task_id="left-over", status="skipped", reason="no time was left before the deadline 07:00", **extra)
    )
    store.put_tasks(ids[-1], tasks)
    reasons = ("the hottest zone is at 71 °C, allowed are 60 °C", "the battery is at 9 %, needed are 15 %")
    figures = {"free_mib": 1900.0, "battery_pct": 9.0, "hottest_c": 71.0}
    store.add_health(look(of, newest, 1, "after", ok=False, reasons=reasons, figures=figures))
    since = start_ns(newest) + DAY_NS // 5
    add_quarantine(store, Quarantine(device="note10-b", reason=reasons[0], night=ids[-1], since_unix_ns=since))
    add_quarantine(
        store,
        Quarantine(
            device="sd855-1",
            reason="root is gone",
            night=ids[1],
            since_unix_ns=start_ns(1) + 9_000_000_000,
            released_unix_ns=start_ns(2),
            note="Magisk put back",
        ),
    )
    with store._writer.begin() as connection:
        done = s.nights.c.night == ids[-1]
        connection.execute(update(s.nights).where(done).values(exit_code=7))
    if report:
        adopt(store, ids[-1], labdata.fill(store, labdata.experiment(repetitions=3), name="note10-a"))
        task = store.tasks(ids[-1])[0]
        mine = next(info for info in store.campaigns(night=ids[-1]) if info.runs_planned == 18)
        store.put_tasks(ids[-1], [task.model_copy(update={"campaign": mine.campaign})])
    return of


def hostile(store: Store) -> History:
    """A night in which every text that may come from outside is hostile."""
    names = (texts.EVERY, "../../x", "@everyone", "con")
    of = History(nights=2, devices=names, experiment=texts.EVERY, cells=2)
    nights = fill(store, of)
    for number, night in enumerate(nights):
        extra = {"causes": (texts.EVERY,), "reasons": (texts.EVERY,), "cell": texts.EVERY, "unit": "ns"}
        moved = {"verdict": "regression", "since": nights[0], "program": texts.EVERY}
        verdicts = [
            verdict(of, number, 0, device).model_copy(update={**moved, **extra}) for device in range(len(names))
        ]
        store.put_verdicts(night, verdicts)
        bad = {"status": "failed", "reason": texts.EVERY, "selector": texts.EVERY}
        store.put_tasks(night, [task.model_copy(update=bad) for task in store.tasks(night)])
        looked = look(of, number, 0, ok=False, reasons=(texts.EVERY,), facts={texts.EVERY: texts.EVERY})
        store.add_health(looked.model_copy(update={"figures": {texts.EVERY: 1.0, "hottest_c": 40.0}}))
    store.quarantine(texts.EVERY, texts.EVERY, nights[-1])
    store.quarantine("../../x", texts.SCRIPT, nights[-1])
    campaign = store.night_campaigns(nights[-1])[0].campaign
    store.add_findings(campaign, [Finding(analysis="a", claim=texts.EVERY, verdict="fail", reasons=(texts.EVERY,))])
    return of


def _judged(of: History, night: int, step: int) -> list[CellVerdict]:
    """One verdict of every kind somewhere."""
    nothing = {"shift_pct": None, "low_pct": None, "high_pct": None, "n_baseline": 0, "baseline": ()}
    found = []
    for device in range(len(of.devices)):
        for cell in range(of.cells):
            changes: dict[str, Any] = {}
            if night == 0:
                changes = {"verdict": "not comparable", "reasons": ("there is no earlier night",), **nothing}
            elif device == 0 and cell == 1 and night >= step:
                moved = {"shift_pct": 9.1, "low_pct": 8.02, "high_pct": 10.3, "p_value": 1e-5, "q_value": 1e-3}
                why = {"causes": ("binary klo: bbbbbbbb became dddddddd",), "reasons": ("beyond the threshold of 3 %",)}
                since = night_id(of, step)
                changes = {"verdict": "regression", "confirmed": True, "since": since, **moved, **why}
            elif device == 1 and cell == 2 and night % 5 == 4:
                changes = {"verdict": "improvement", "shift_pct": -4.2, "low_pct": -5.5, "high_pct": -3.1}
            elif device == 2 and cell == 3 and night % 3 == 2:
                wide = {"low_pct": -9.0, "high_pct": 12.0, "reasons": ("the interval is wider than the threshold",)}
                changes = {"verdict": "too noisy", **wide}
            elif device == 2 and night == step:
                changes = {"verdict": "not comparable", "causes": ("OS build: SP1A became TP1A",), **nothing}
            found.append(verdict(of, night, cell, device, **changes))
    return found


def _campaign(
    store: Store,
    of: History,
    night: int,
    place: int,
    device: str,
    cell_numbers: Sequence[int],
    name: int,
    rng: np.random.Generator,
) -> None:
    whole = rng.normal(1.0, of.night_noise)
    shape = [of.base * (1 + 0.1 * cell) * of.factor(night, device, cell) * whole for cell in range(of.cells)]
    values = np.asarray(shape) * rng.normal(1.0, of.noise, (of.repetitions, of.cells))
    facts = labdata.facts(name=device, address=f"adb:{device}", **of.facts(night, device))
    identity = campaign_id(night, place)
    begun = start_ns(night)
    count = of.repetitions * of.cells
    bad = [bool(of.invalid_every and i % of.invalid_every == of.invalid_every - 1) for i in range(count)]
    row = {
        "campaign": identity,
        "status": "complete",
        "reason": "",
        "device": device,
        "address": facts.address,
        "board": facts.board.kind,
        "board_title": facts.board.title,
        "experiment": of.experiment,
        "question": experiment(of).question,
        "night": night_id(of, night),
        "simulated": of.simulated,
        "started_unix_ns": begun,
        "ended_unix_ns": begun + DAY_NS // 8,
        "runs_planned": count,
        "runs_done": count,
        "runs_invalid": sum(bad),
        "command": "devicelab nightly farm.toml",
        "version": __version__,
        "seed": 1,
        "host": "lab-host",
        "experiment_json": json.dumps(experiment(of).model_dump(mode="json")),
        "facts_json": json.dumps(facts.model_dump(mode="json")),
    }
    with store._writer.begin() as connection:
        number = connection.execute(insert(s.campaigns).values(row).returning(s.campaigns.c.id)).scalar_one()
        store._link_cells(connection, number, cells(of))
        store._link_binaries(connection, number, [BinaryInfo(name="klo", sha256=of.binary(night))])
        runs = [
            {
                "campaign": number,
                "cell": cell_numbers[i % of.cells],
                "run_id": f"{identity}-{i:05d}",
                "repetition": i // of.cells,
                "seq": i,
                "status": "done",
                "valid": not bad[i],
                "simulated": of.simulated,
                "t_unix_ns": begun + i * 1_000_000_000,
                "duration_ns": 900_000_000,
            }
            for i in range(count)
        ]
        last = connection.exec_driver_sql("SELECT COALESCE(MAX(id), 0) FROM runs").scalar_one()
        connection.execute(insert(s.runs), [{**run, "id": last + 1 + i} for i, run in enumerate(runs)])
        flat = values.ravel()
        metrics = [{"run": last + 1 + i, "name": name, "value": float(flat[i])} for i in range(count)]
        connection.execute(insert(s.metrics), metrics)
        flags = [
            {"run": last + 1 + i, "position": 0, "code": "throttled", "detail": "policy4 fell to 1209600 kHz"}
            for i in range(count)
            if bad[i]
        ]
        if flags:
            connection.execute(insert(s.flags), flags)
