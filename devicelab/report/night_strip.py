"""What a night was made of and what is to be done after it: a strip a board, and commands to copy."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from devicelab.model.campaign import CampaignInfo
from devicelab.report.night_view import NightView
from devicelab.report.units import clock

WIDTH = 1000
"""Of a strip, in units of its view box."""

_LEAST = 3.0  # what is shorter would not be seen
_MOST_TODO = 8


@dataclass(frozen=True)
class Piece:
    """A campaign of a board as a part of its strip: place, length, tone and what a pointer is told."""

    x: float
    width: float
    tone: str
    text: str
    report: str


@dataclass(frozen=True)
class Strip:
    """A board's night."""

    device: str
    pieces: tuple[Piece, ...]
    said: str


@dataclass(frozen=True)
class Todo:
    """What somebody should do, and the command for that ("" where there is none)."""

    text: str
    command: str = ""


def strips(view: NightView) -> tuple[Strip, ...]:
    """A strip for each board that measured something, over the time of the night."""
    begin, end = _span(view)
    known = [one for one in view.campaigns.values() if one.started_unix_ns < end and (one.ended_unix_ns or end) > begin]
    scale = WIDTH / max(1, end - begin)
    tones = {task.campaign: ("bad" if task.exit_code else "good") for task in view.tasks if task.campaign}
    found = []
    for device in view.devices:
        mine = sorted((one for one in known if one.device == device), key=lambda one: one.started_unix_ns)
        pieces = tuple(
            Piece(
                x=round(max(0, one.started_unix_ns - begin) * scale, 1),
                width=round(
                    max(_LEAST, (min(end, one.ended_unix_ns or end) - max(begin, one.started_unix_ns)) * scale), 1
                ),
                tone=tones.get(one.campaign, "calm") if one.status == "complete" else "bad",
                text=_told(one, end),
                report=one.campaign,
            )
            for one in mine
        )
        if pieces:
            found.append(Strip(device, pieces, _said([one.experiment for one in mine])))
    return tuple(found)


def _told(one: CampaignInfo, end: int) -> str:
    span = f"{clock(one.started_unix_ns)[11:16]} to {clock(one.ended_unix_ns or end)[11:16]}"
    runs = f"{one.runs_done} of {one.runs_planned} runs, {one.runs_invalid} invalid"
    return f"{one.experiment}, {span}: {runs}, {one.status}"


def hours(view: NightView) -> tuple[str, str]:
    """Begin and end of the strips, as times of day."""
    begin, end = _span(view)
    return clock(begin)[11:16], clock(end)[11:16]


def _span(view: NightView) -> tuple[int, int]:
    """Begin and end of the night; while it runs, to the last that its campaigns tell."""
    told = [one.ended_unix_ns or one.started_unix_ns for one in view.campaigns.values()]
    begin = view.info.started_unix_ns
    return begin, max(begin + 1, view.info.ended_unix_ns or max(told, default=begin))


def todo(view: NightView) -> tuple[Todo, ...]:
    """What the night asks for, the most urgent first; what quarantines ask for stands with them."""
    listed = list(_todo(view))
    more = len(listed) - _MOST_TODO
    return tuple(listed[:_MOST_TODO]) + ((Todo(f"and {more} more, below"),) if more > 0 else ())


def _todo(view: NightView) -> Iterator[Todo]:
    for check in view.failed:
        command = shlex.join(["devicelab", "report", check.campaign, "--open"])
        yield Todo(f"{check.experiment} on {check.device} failed its check “{check.claim}”. See why:", command)
    for verdict in view.verdicts:
        if verdict.verdict == "regression":
            tonight = _campaign(view, verdict.experiment, verdict.device)
            before = (
                shlex.join(["devicelab", "nights", verdict.baseline[-1]]) if verdict.baseline and not tonight else ""
            )
            command = shlex.join(["devicelab", "report", tonight, "--open"]) if tonight else before
            yield Todo(f"{verdict.experiment} on {verdict.device} regressed at {verdict.cell}. Look at it:", command)
    for task in view.tasks:
        if task.status == "failed":
            command = shlex.join(["devicelab", "doctor", "--board", task.device or task.selector])
            yield Todo(f"{task.experiment} on {task.device or task.selector} failed: {task.reason}. Check it:", command)
    if view.info.status == "interrupted":
        yield Todo("The night was interrupted. What is missing can be done:", "devicelab nightly --resume")


def _campaign(view: NightView, experiment: str, device: str) -> str:
    mine = (one for one in view.campaigns.values() if (one.experiment, one.device) == (experiment, device))
    return max((one.campaign for one in mine), default="")


def _said(experiments: list[str]) -> str:
    counts = {name: experiments.count(name) for name in dict.fromkeys(experiments)}
    return ", ".join(name + (f" {count} times" if count > 1 else "") for name, count in counts.items())
