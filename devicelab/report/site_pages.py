"""What the pages about nights say: the list of them, and each one; plain values that the templates escape."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devicelab.ground.times import duration
from devicelab.model.campaign import CampaignInfo, lasted_s
from devicelab.model.night import CellVerdict, Health, NightInfo, Quarantine, Task
from devicelab.report.clean import page_name
from devicelab.report.night_strip import hours, strips, todo
from devicelab.report.night_view import (
    STATUSES,
    VERDICTS,
    NightView,
    counted,
    figure_name,
    interval_text,
    release_command,
    shift_text,
)
from devicelab.report.units import clock, number
from devicelab.store.nights_overview import NightCounts

TONES = {
    "regression": "bad",
    "failed": "bad",
    "interrupted": "bad",
    "unreliable": "bad",
    "not comparable": "calm",
    "too noisy": "warn",
    "skipped": "warn",
    "running": "calm",
    "waiting": "calm",
    "improvement": "good",
    "unchanged": "plain",
    "complete": "good",
}
PHASES = {"before": "before a task", "after": "after a task", "asked": "on request"}
EXIT_CODES = {
    0: "fine",
    1: "a fault in devicelab",
    2: "configuration",
    3: "a device could not be reached",
    4: "a device refused",
    5: "a build failed",
    6: "a measurement is unreliable",
    7: "a check failed or something regressed",
    8: "a device could not be restored",
    130: "ended by hand",
}
_MAX_UNCHANGED = 400
_MAX_NAMED = 8
_FIGURES = (("battery_pct", "%"), ("hottest_c", "°C"), ("free_mib", "MiB"))


@dataclass(frozen=True)
class Places:
    """Where the pages are, from the root of the site; a link is empty if there is no such page.

    Attributes:
        nights: with their starts, Unix ns.
        devices, experiments, reports: those that have a page.
    """

    nights: Mapping[str, int]
    devices: frozenset[str]
    experiments: frozenset[str]
    reports: frozenset[str]

    def night(self, night: str | None) -> str:
        """A night's page."""
        return f"nights/{page_name(night)}.html" if night is not None and night in self.nights else ""

    def day(self, night: str | None) -> str:
        """A night's date; its id if there is no such page."""
        return clock(self.nights[night])[:10] if night is not None and night in self.nights else night or ""

    def device(self, device: str | None) -> str:
        """A device's page."""
        return f"devices/{page_name(device)}.html" if device is not None and device in self.devices else ""

    def experiment(self, experiment: str) -> str:
        """An experiment's page."""
        return f"experiments/{page_name(experiment)}.html" if experiment in self.experiments else ""

    def report(self, campaign: str | None) -> str:
        """A campaign's report."""
        return report_place(campaign) if campaign is not None and campaign in self.reports else ""


def report_place(campaign: str) -> str:
    """Where a campaign's report goes."""
    return f"campaigns/{page_name(campaign)}.html"


def night_page(
    view: NightView,
    places: Places,
    *,
    looks: Sequence[Health],
    flags: Sequence[tuple[str, str, str, int, str]],
    newer: NightInfo | None,
    older: NightInfo | None,
) -> dict[str, Any]:
    """A night: what needs somebody, verdicts, tasks, looks at devices, flags."""
    info = view.info
    return {
        "night": info.night,
        "farm": info.farm,
        "day": clock(info.started_unix_ns)[:10],
        "headline": view.headline,
        "tone": _tone(view),
        "banners": _banners(view),
        "newer": _around(newer, places),
        "older": _around(older, places),
        "tiles": _tiles(view),
        "failed": [
            {
                "claim": one.claim,
                "reasons": one.reasons,
                "experiment": one.experiment,
                "device": one.device,
                "device_href": places.device(one.device),
                "report": places.report(one.campaign),
                "campaign": one.campaign,
                "simulated": one.campaign in view.simulated,
            }
            for one in view.failed
        ],
        "quarantines": [quarantine_row(one, places) for one in view.quarantines],
        "strips": strips(view),
        "strips_from_to": hours(view),
        "reports": {name: places.report(name) for name in view.campaigns},
        "todo": todo(view),
        "experiments": [_experiment(view, name, places) for name in _experiments(view)],
        "tasks": [_task(view, task, places) for task in view.tasks],
        "health": _health(looks, places),
        "flags": [
            {"device": d, "href": places.device(d), "experiment": e, "code": code, "runs": n, "detail": detail}
            for d, e, code, n, detail in flags
        ],
        "facts": _facts(view),
        "jobs": info.job.jobs,
    }


def index_page(
    nights: Sequence[NightInfo],
    counts: Mapping[str, NightCounts],
    places: Places,
    *,
    devices: Sequence[dict[str, Any]],
    experiments: Sequence[dict[str, Any]],
    headlines: Mapping[str, tuple[str, str]],
) -> dict[str, Any]:
    """The list of nights, newest first, by month; the newest night of each farm on top.

    ``headlines`` are text and tone of those nights.
    """
    newest: dict[str, NightInfo] = {}
    for info in nights:
        newest.setdefault(info.farm, info)
    rows = [_night_row(info, counts[info.night], places) for info in nights]
    months: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        months.setdefault(row["day"][:7], []).append(row)
    return {
        "farms": sorted(newest),
        "newest": [
            {**_night_row(info, counts[info.night], places), "headline": head, "tone": tone}
            for info in newest.values()
            for head, tone in [headlines[info.night]]
        ],
        "months": [{"month": month, "nights": found} for month, found in months.items()],
        "nights": len(nights),
        "devices": devices,
        "experiments": experiments,
        "simulated": any(counts[info.night].simulated for info in nights),
        "all_simulated": all(counts[info.night].simulated for info in nights),
    }


def night_tone(view: NightView) -> tuple[str, str]:
    """A night's headline, and how alarming it is."""
    return view.headline, _tone(view)


def look_row(look: Health) -> dict[str, Any]:
    """One look at a device."""
    known = {name for name, _ in _FIGURES}
    others = [f"{name} {number(value)}" for name, value in look.figures.items() if name not in known]
    return {
        "at": clock(look.at_unix_ns),
        "phase": PHASES[look.phase],
        "ok": look.ok,
        "reasons": look.reasons,
        "figures": [
            f"{number(look.figures[name], 3)}\N{NO-BREAK SPACE}{unit}" if name in look.figures else "–"
            for name, unit in _FIGURES
        ],
        "others": ", ".join(others),
    }


def verdict_row(verdict: CellVerdict, places: Places, *, simulated: bool, href: str) -> dict[str, Any]:
    """One judged figure of a cell."""
    return {
        "verdict": verdict.verdict,
        "tone": TONES[verdict.verdict],
        "cell": verdict.cell or verdict.cell_id,
        "device": verdict.device,
        "figure": figure_name(verdict),
        "shift": shift_text(verdict),
        "interval": interval_text(verdict),
        "n": f"{verdict.n} / {verdict.n_baseline}",
        "since": places.day(verdict.since),
        "since_href": places.night(verdict.since),
        "device_href": places.device(verdict.device),
        "reasons": (*(f"likely cause: {cause}" for cause in verdict.causes), *verdict.reasons),
        "again": {None: "", True: "measured again: the same", False: "measured again: it was not so"}[
            verdict.confirmed
        ],
        "simulated": simulated,
        "href": href,
    }


def quarantine_row(one: Quarantine, places: Places) -> dict[str, Any]:
    """One quarantine; the command that ends it while it lasts."""
    lasts = one.released_unix_ns is None
    return {
        "device": one.device,
        "href": places.device(one.device),
        "reason": one.reason,
        "since": clock(one.since_unix_ns),
        "released": "" if one.released_unix_ns is None else clock(one.released_unix_ns),
        "note": one.note,
        "night": places.day(one.night),
        "night_href": places.night(one.night),
        "lasts": lasts,
        "command": release_command(one.device) if lasts else "",
    }


def _tone(view: NightView) -> str:
    if view.info.status == "running":
        return "calm"
    bad = any(map(view.info.job.alarms, view.verdicts)) or view.task_counts["failed"] or view.info.exit_code
    if bad or view.info.status != "complete":
        return "bad"
    return "warn" if view.task_counts["skipped"] or view.quarantines else "good"


def _banners(view: NightView) -> list[dict[str, str]]:
    banners = []
    if view.simulated:
        whole = len(view.simulated) == len(view.campaigns)
        what = "All results of this night come" if whole else "Some results of this night (marked below) come"
        text = f"{what} from virtual boards or emulated parts. They test the method and say nothing about real silicon."
        banners.append({"tone": "warn", "head": "Simulated.", "text": text})
    if view.info.status == "running":
        text = (
            "The page shows what is stored so far; if no process works on it any more, devicelab nightly --resume does."
        )
        banners.append({"tone": "warn", "head": "Still running.", "text": text})
    elif view.info.status != "complete":
        text = "Not everything that was planned was done; what was measured is kept and judged."
        banners.append({"tone": "bad", "head": f"The night was {view.info.status}.", "text": text})
    return banners


def _around(info: NightInfo | None, places: Places) -> dict[str, str] | None:
    if info is None:
        return None
    return {"href": places.night(info.night), "day": clock(info.started_unix_ns)[:10]}


def _tiles(view: NightView) -> list[dict[str, str]]:
    code = view.info.exit_code
    done = f"{view.task_counts['complete']} of {len(view.tasks)}"
    said = "not ended" if code is None else f"exit code: {EXIT_CODES.get(code, 'unknown')}"
    tiles = [("–" if code is None else str(code), said), (done, "tasks complete")]
    tiles += [
        (str(view.verdict_counts[name]), counted(name, view.verdict_counts[name]))
        for name in VERDICTS
        if view.verdict_counts[name] or name == "regression"
    ]
    tiles.append((str(len(view.devices)), "devices" if len(view.devices) != 1 else "device"))
    if view.duration_s is not None:
        tiles.append((duration(view.duration_s), "from start to end"))
    return [{"value": value, "label": label} for value, label in tiles]


def _experiments(view: NightView) -> list[str]:
    """Experiments with something judged; those with the worst verdicts first."""
    counts: dict[str, Counter[str]] = {}
    for verdict in view.verdicts:
        counts.setdefault(verdict.experiment, Counter())[verdict.verdict] += 1
    return sorted(counts, key=lambda name: ([-counts[name][verdict] for verdict in VERDICTS[:-1]], name))


def _experiment(view: NightView, name: str, places: Places) -> dict[str, Any]:
    verdicts = [verdict for verdict in view.verdicts if verdict.experiment == name]
    page = places.experiment(name)
    rows = [
        verdict_row(
            one,
            places,
            simulated=view.is_simulated(one),
            href=page and f"{page}#{chart_id(one.device, one.cell_id, one.program, one.metric)}",
        )
        for one in verdicts
    ]
    counts = Counter(one.verdict for one in verdicts)
    unchanged = [row for row in rows if row["verdict"] == "unchanged"]
    return {
        "name": name,
        "href": page,
        "id": f"e-{page_name(name)}",
        "counts": [{"verdict": counted(v, counts[v]), "tone": TONES[v], "n": counts[v]} for v in VERDICTS if counts[v]],
        "rows": [row for row in rows if row["verdict"] not in {"unchanged", "not comparable"}],
        "apart": [row for row in rows if row["verdict"] == "not comparable"],
        "unchanged": unchanged[:_MAX_UNCHANGED],
        "more": max(0, len(unchanged) - _MAX_UNCHANGED),
    }


def chart_id(device: str, cell_id: str, program: str, metric: str) -> str:
    """The anchor of a cell's chart."""
    return "c-" + page_name(f"{device}\n{cell_id}\n{program}\n{metric}")[-10:]


def _task(view: NightView, task: Task, places: Places) -> dict[str, Any]:
    campaign: CampaignInfo | None = view.campaigns.get(task.campaign or "")
    return {
        "status": "at rest" if task.at_rest else task.status,
        "tone": "calm" if task.at_rest else TONES[task.status],
        "shares": [] if task.at_rest else _shares(view, task),
        "experiment": task.experiment,
        "experiment_href": places.experiment(task.experiment),
        "device": task.device or "",
        "device_href": places.device(task.device),
        "selector": task.selector,
        "job": task.job + 1,
        "attempts": task.attempts,
        "again": task.confirms is not None,
        "reason": task.reason,
        "campaign": task.campaign or "",
        "report": places.report(task.campaign),
        "stored": campaign is not None,
        "runs": f"{campaign.runs_done} of {campaign.runs_planned}" if campaign else "",
        "invalid": campaign.runs_invalid if campaign else 0,
        "simulated": (task.campaign or "") in view.simulated,
    }


def _shares(view: NightView, task: Task) -> list[str]:
    """How much its cells got, and why; those that got more by their names, as far as they are few."""
    names = {one.cell_id: one.cell for one in view.verdicts}
    said = []
    for one in task.shares:
        known = [names[cell] for cell in one.cells if cell in names][:_MAX_NAMED]
        named = "; ".join(known) if one.times > 1 else ""
        said.append(f"{one.text()}{named and f' ({named})'}")
    return said


def _health(looks: Sequence[Health], places: Places) -> list[dict[str, Any]]:
    """Devices that were not fit first, each device's looks in their order."""
    by_device: dict[str, list[Health]] = {}
    for look in sorted(looks, key=lambda look: (look.device, look.at_unix_ns)):
        by_device.setdefault(look.device, []).append(look)
    order = sorted(by_device, key=lambda device: (all(look.ok for look in by_device[device]), device))
    return [
        {"device": device, "href": places.device(device), **look_row(look)}
        for device in order
        for look in by_device[device]
    ]


def _facts(view: NightView) -> list[tuple[str, str]]:
    info, job = view.info, view.info.job
    ended = clock(info.ended_unix_ns) + " UTC" if info.ended_unix_ns is not None else ""
    budget = duration(job.budget_s) if job.budget_s is not None else ""
    listed = [
        ("Night", info.night),
        ("Farm", info.farm),
        ("Host", info.host),
        ("Started", clock(info.started_unix_ns) + " UTC"),
        ("Ended", ended),
        ("Time budget", budget),
        ("Deadline", job.deadline or ""),
        ("Compared with", f"up to {job.baseline_nights} earlier nights"),
    ]
    return [(term, value) for term, value in listed if value]


def _night_row(info: NightInfo, counts: NightCounts, places: Places) -> dict[str, Any]:
    code = info.exit_code
    long = lasted_s(info.started_unix_ns, info.ended_unix_ns)
    bad = bool(code) or info.status in {"failed", "interrupted"}
    return {
        "night": info.night,
        "farm": info.farm,
        "href": places.night(info.night),
        "day": clock(info.started_unix_ns)[:10],
        "status": info.status,
        "code": "–" if code is None else str(code),
        "code_text": info.status if code is None else EXIT_CODES.get(code, "unknown"),
        "code_tone": "calm" if info.status == "running" else "bad" if bad else "good",
        "verdicts": [{"verdict": name, "tone": TONES[name], "n": counts.verdicts.get(name, 0)} for name in VERDICTS],
        "tasks": f"{counts.tasks.get('complete', 0)} of {sum(counts.tasks.values())}",
        "undone": [f"{counts.tasks[name]} {name}" for name in STATUSES[:-1] if counts.tasks.get(name)],
        "devices": len(counts.devices),
        "duration": duration(long) if long is not None else "",
        "simulated": counts.simulated,
    }
