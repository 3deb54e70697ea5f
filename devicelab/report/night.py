"""A night's outcome for machines (JUnit XML) and for a chat (Markdown)."""

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree as ET

from devicelab.ground.times import duration
from devicelab.model.night import CellVerdict, Farm, Task
from devicelab.report.clean import markdown_text, one_line, printable
from devicelab.report.night_view import (
    VERDICTS,
    FailedCheck,
    NightView,
    counted,
    figure_name,
    interval_text,
    read_night,
    release_command,
    shift_text,
)
from devicelab.store.reading import StoreReader

_MAX_ITEMS = 16
_MAX_PER_KIND = 8
_MAX_TEXT = 160
_PLAIN_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def junit(reader: StoreReader, night: str | None = None) -> str:
    """JUnit XML as Jenkins and GitLab read it: a test case a task, and one a judged figure of a cell.

    A regression is a failure, and so is a task whose checks failed or whose measurement is unreliable; a failed task
    is an error; a skipped task, and a figure that could not be compared or was too noisy, are skipped. A task that was
    never done is an error once its night is over. The names are the same every night, so that a server shows each
    case's history.

    Args:
        reader: where the night is.
        night: id, unique prefix, or ``None`` for the newest.

    Raises:
        StoreError: no such night; the store cannot be read.
    """
    view = read_night(reader, night)
    root = ET.Element("testsuites", name=printable(view.info.farm))
    names = _Names()
    tasks = _suite(root, view, "tasks")
    for task in sorted(view.tasks, key=lambda task: (task.job, task.task_id)):
        _task(tasks, view, task, names)
    for experiment in sorted({verdict.experiment for verdict in view.verdicts}):
        suite = _suite(root, view, experiment)
        for verdict in view.verdicts:
            if verdict.experiment == experiment:
                _verdict(suite, verdict, names, view.info.job)
    for suite in root:
        _count(suite, list(suite.iter("testcase")))
    _count(root, list(root.iter("testcase")))
    root.attrib.pop("skipped")
    ET.indent(root)
    text: str = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def markdown(reader: StoreReader, night: str | None = None) -> str:
    """A summary for a chat: at most 25 lines, what is worst first, every text from a device or a file escaped.

    Raises:
        StoreError: no such night; the store cannot be read.
    """
    view = read_night(reader, night)
    simulated = " **(simulated)**" if view.simulated else ""
    lines = [f"## {markdown_text(view.info.night)}: {markdown_text(view.headline)}{simulated}", "", _counts(view), ""]
    kinds = [
        ("regressions", [_moved(view, one, "regression") for one in _of(view, "regression")]),
        ("failed checks", [_failed(one) for one in view.failed]),
        ("failed tasks", [_went(task) for task in view.tasks if task.status == "failed"]),
        ("doubtful tasks", [_went(task) for task in view.tasks if task.status == "complete" and task.exit_code]),
        ("quarantined devices", [_kept(one.device, one.reason) for one in view.quarantines]),
        ("skipped tasks", [_went(task) for task in view.tasks if task.status == "skipped" and not task.at_rest]),
        ("improvements", [_moved(view, one, "improvement") for one in _of(view, "improvement")]),
    ]
    left = _MAX_ITEMS
    for name, items in kinds:
        shown = min(len(items), _MAX_PER_KIND, left)
        lines += items[:shown]
        if len(items) > shown:
            lines.append(f"- … and {len(items) - shown} more {name}" if shown else f"- {len(items)} {name}")
        left -= shown
    return "\n".join(lines).rstrip() + "\n"


def headline(reader: StoreReader, night: str | None = None) -> str:
    """One line for a subject or a title: "nightly-20261122-220000-3f2a: 2 regressions (simulated)".

    Raises:
        StoreError: no such night; the store cannot be read.
    """
    view = read_night(reader, night)
    return one_line(f"{view.info.night}: {view.headline}{' (simulated)' if view.simulated else ''}")


class _Names:
    """Test cases of one class need different names."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], int] = {}

    def own(self, classname: str, name: str) -> tuple[str, str]:
        key = printable(classname), one_line(name)
        self._taken[key] = self._taken.get(key, 0) + 1
        return key if self._taken[key] == 1 else (key[0], f"{key[1]} ({self._taken[key]})")


def _suite(root: ET.Element, view: NightView, name: str) -> ET.Element:
    began = dt.datetime.fromtimestamp(view.info.started_unix_ns // 1_000_000_000, dt.UTC)
    suite = ET.SubElement(root, "testsuite", name=printable(f"{view.info.farm}.{name}"))
    suite.set("timestamp", began.strftime("%Y-%m-%dT%H:%M:%S"))
    suite.set("hostname", printable(view.info.host))
    properties = ET.SubElement(suite, "properties")
    said = {
        "night": view.info.night,
        "status": view.info.status,
        "exit_code": "" if view.info.exit_code is None else str(view.info.exit_code),
        "simulated": "true" if view.simulated else "false",
        "devices": ", ".join(view.devices),
        "quarantined": ", ".join(one.device for one in view.quarantines),
    }
    for key, value in said.items():
        ET.SubElement(properties, "property", name=key, value=printable(value))
    return suite


def _task(suite: ET.Element, view: NightView, task: Task, names: _Names) -> None:
    again = " (measured again)" if task.confirms else ""
    classname, name = names.own(f"tasks.{task.experiment}", f"job {task.job + 1} on {task.selector}{again}")
    case = ET.SubElement(suite, "testcase", classname=classname, name=name)
    campaign = view.campaigns.get(task.campaign or "")
    if campaign is not None and campaign.ended_unix_ns is not None:
        case.set("time", f"{max(0, campaign.ended_unix_ns - campaign.started_unix_ns) / 1e9:.3f}")
    over = view.info.status != "running"
    details = [f"status: {task.status}", f"device: {task.device or 'none'}", f"attempts: {task.attempts}"]
    if campaign is not None:
        runs = f"{campaign.runs_done} of {campaign.runs_planned} runs, {campaign.runs_invalid} invalid"
        details.append(f"campaign: {campaign.campaign}, {runs}")
    if task.status == "failed":
        _part(case, "error", "failed", task.reason or "the task failed", details)
    elif task.status == "skipped":
        _part(case, "skipped", None, task.reason or "the task was skipped", details)
    elif task.status in {"waiting", "running"}:
        said = f"the night ended while the task was {task.status}" if over else f"the task is {task.status}"
        _part(case, "error" if over else "skipped", "unfinished" if over else None, task.reason or said, details)
    elif checks := [one for one in view.failed if one.campaign == task.campaign]:
        details += [*filter(None, [task.reason]), *(f"{one.claim}: {one.reasons}" for one in checks)]
        _part(case, "failure", "check", f"failed: {checks[0].claim}", details)
    elif task.exit_code:
        _part(case, "failure", f"exit-code-{task.exit_code}", task.reason or f"exit code {task.exit_code}", details)
    else:
        _part(case, "system-out", None, task.reason, details)


def _verdict(suite: ET.Element, verdict: CellVerdict, names: _Names, farm: Farm) -> None:
    classname = f"{verdict.experiment}.{verdict.device}"
    case = ET.SubElement(suite, "testcase")
    for key, text in zip(
        ("classname", "name"), names.own(classname, f"{verdict.cell}: {verdict.program} {verdict.metric}"), strict=True
    ):
        case.set(key, text)
    said = " ".join(filter(None, (verdict.verdict, shift_text(verdict), interval_text(verdict))))
    details = [
        f"{verdict.n} repetitions against {verdict.n_baseline} of {len(verdict.baseline)} nights",
        *(["no baseline"] if not verdict.baseline else []),
        *([f"smallest shift that counts: {verdict.threshold_pct:.3g} %"] if verdict.threshold_pct is not None else []),
        *([f"moved since {verdict.since}"] if verdict.since else []),
        *(f"likely cause: {cause}" for cause in verdict.causes),
        *verdict.reasons,
    ]
    if verdict.confirmed is not None:
        details.append("measured again: it said the same" if verdict.confirmed else "measured again: it was not so")
    if farm.alarms(verdict):
        _part(case, "failure", "regression", said, details)
    elif verdict.verdict in {"regression", "too noisy", "not comparable"}:
        _part(case, "skipped", None, said, details)
    else:
        _part(case, "system-out", None, said, details)


def _part(case: ET.Element, tag: str, kind: str | None, message: str, details: Iterable[str]) -> None:
    part = ET.SubElement(case, tag)
    if tag != "system-out":
        part.set("message", one_line(message))
    if kind is not None:
        part.set("type", kind)
    part.text = printable("\n".join([*([message] if message else []), *details]))


def _count(element: ET.Element, cases: Sequence[ET.Element]) -> None:
    element.set("tests", str(len(cases)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(sum(case.find(tag) is not None for case in cases)))
    element.set("time", f"{sum(float(case.get('time', 0)) for case in cases):.3f}")


def _counts(view: NightView) -> str:
    tasks = f"{view.task_counts['complete']} of {len(view.tasks)} tasks complete"
    many = view.verdict_counts
    judged = ", ".join(f"{many[name]} {counted(name, many[name])}" for name in VERDICTS if many[name])
    code = "still running" if view.info.exit_code is None else f"exit code {view.info.exit_code}"
    long = f" after {duration(view.duration_s)}" if view.duration_s is not None else ""
    devices = len(view.devices)
    parts = [f"{code}{long}", tasks, f"{devices} device{'s' if devices != 1 else ''}", judged or "nothing judged"]
    return "; ".join(parts)


def _of(view: NightView, name: str) -> list[CellVerdict]:
    return [verdict for verdict in view.verdicts if verdict.verdict == name]


def _moved(view: NightView, verdict: CellVerdict, word: str) -> str:
    where = f"{_short(verdict.experiment)} on {_short(verdict.device)}, {_short(verdict.cell)}"
    said = (
        f"- **{word}** {where}: {_short(figure_name(verdict))} {shift_text(verdict)} {interval_text(verdict)}".rstrip()
    )
    more = [
        *(["measured again"] if verdict.confirmed else []),
        *([f"since {_short(verdict.since)}"] if verdict.since and verdict.since != view.info.night else []),
        *(f"likely cause: {_short(cause)}" for cause in verdict.causes[:1]),
        *(["simulated"] if view.is_simulated(verdict) else []),
    ]
    return "; ".join([said, *more])


def _went(task: Task) -> str:
    where = f"{_short(task.experiment)} on {_short(task.device or task.selector)}"
    return f"- **{task.status}** {where}" + (f": {_short(task.reason)}" if task.reason else "")


def _failed(one: FailedCheck) -> str:
    why = f": {_short(one.reasons)}" if one.reasons else ""
    return f"- **check failed** {_short(one.experiment)} on {_short(one.device)}, {_short(one.claim)}{why}"


def _kept(device: str, reason: str) -> str:
    # In code nothing can be escaped: an odd name is told without the command, which its page has.
    command = f" (`{release_command(device)}`)" if _PLAIN_NAME.fullmatch(device) else ""
    return f"- **quarantined** {_short(device)}: {_short(reason)}{command}"


def _short(text: str) -> str:
    line = one_line(text)
    return markdown_text(line if len(line) <= _MAX_TEXT else line[: _MAX_TEXT - 1] + "…")
