"""What the pages about devices and experiments say: how they went over the nights."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from devicelab.analyses.base import Chart, Line
from devicelab.model.campaign import CampaignInfo
from devicelab.model.night import CellVerdict, Health, Quarantine
from devicelab.report import trend
from devicelab.report.clean import page_name
from devicelab.report.figure_view import chart_data
from devicelab.report.night_view import figure_name, interval_text, series_name, shift_text
from devicelab.report.site_pages import PHASES, TONES, Places, chart_id, look_row, quarantine_row
from devicelab.report.units import clock, interval, quantity, scale

MAX_CHARTS = 48
"""Charts on one page; an experiment with more has a page a device."""

_KEYS = ["device", "cell_id", "program", "metric"]
_MOVED = ("regression", "improvement")
_MAX_LOOKS = 60
_MAX_CAMPAIGNS = 100
_MAX_MARKED = 12
_SPARK_NIGHTS = 30
# Change points that the judgements of several nights place this near each other are one.
_NEAR_NIGHTS = 3


@dataclass(frozen=True)
class Series:
    """One figure of one cell on one device over the nights.

    Attributes:
        key: device, cell id, program and metric.
        cell, unit: for people.
        nights: a row a night, oldest first: ``night t_unix_ns median low high n``.
        verdicts: a row a night that judged it: ``night verdict shift_pct low_pct high_pct since``.
    """

    key: tuple[str, str, str, str]
    cell: str
    unit: str
    nights: pd.DataFrame
    verdicts: pd.DataFrame


def all_series(medians: pd.DataFrame, verdicts: pd.DataFrame, started: Mapping[str, int]) -> tuple[Series, ...]:
    """Of one experiment, by device, in the order of the cells.

    Args:
        medians: see ``StoreReader.night_medians``.
        verdicts: see ``StoreReader.verdict_frame``.
        started: Unix ns of each night that is shown; rows of other nights are left out.
    """
    kept = medians[medians["night"].isin(started)].assign(t_unix_ns=lambda frame: frame["night"].map(started))
    kept = kept.sort_values("t_unix_ns", kind="stable")
    judged = verdicts[verdicts["night"].isin(started)]
    of_key = dict(iter(judged.groupby(_KEYS, sort=False)))
    nothing = judged.iloc[:0]
    found = [
        Series(
            key=(str(key[0]), str(key[1]), str(key[2]), str(key[3])),
            cell=str(part["cell"].iloc[-1]),
            unit=str(part["unit"].iloc[-1]),
            nights=part,
            verdicts=of_key.get(key, nothing),
        )
        for key, part in kept.groupby(_KEYS, sort=False)
    ]
    return tuple(sorted(found, key=lambda one: (one.key[0], _natural(one.cell), one.key)))


def experiment_pages(
    name: str,
    question: str,
    series: Sequence[Series],
    started: Mapping[str, int],
    places: Places,
    simulated: frozenset[str],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and content of an experiment's page, and of one a device if it has many charts.

    Args:
        name: of the experiment.
        question: it asks.
        series: see ``all_series``.
        started: Unix ns of each night.
        places: what can be linked.
        simulated: devices whose figures are, wholly or in part.
    """
    split = len(series) > MAX_CHARTS
    own = places.experiment(name)
    devices = list(dict.fromkeys(one.key[0] for one in series))
    page_of = {device: f"experiments/{page_name(f'{name} on {device}')}.html" if split else own for device in devices}
    groups = {
        device: {
            "device": device,
            "href": places.device(device),
            "simulated": device in simulated,
            "charts": [_chart(one, places) for one in series if one.key[0] == device],
        }
        for device in devices
    }
    content = {"experiment": name, "question": question, "up": own, "nights": len(started)}
    rows = [_overview(one, page_of[one.key[0]], simulated) for one in series]
    # What moved stands first; the rest keeps its order.
    rows.sort(key=lambda row: list(TONES).index(row["verdict"]) if row["verdict"] in _MOVED else len(TONES))
    any_simulated = bool(simulated & set(devices))
    shown = [] if split else list(groups.values())
    yield own, {**content, "rows": rows, "groups": shown, "simulated": any_simulated, "device": ""}
    if split:
        for device, group in groups.items():
            page = {**content, "rows": [], "groups": [group], "device": device, "simulated": device in simulated}
            yield page_of[device], page


def device_page(
    device: str,
    places: Places,
    *,
    looks: Sequence[Health],
    quarantines: Sequence[Quarantine],
    campaigns: Sequence[CampaignInfo],
    verdicts: Sequence[CellVerdict],
    simulated: frozenset[str],
) -> dict[str, Any]:
    """A device: whether it works, health over time, quarantines, what moved on it, its campaigns.

    Everything newest first, as the store gives it.
    """
    kept = next((one for one in quarantines if one.released_unix_ns is None), None)
    phases = {look.phase for look in looks}
    return {
        "device": device,
        "board": next((info.board_title or info.board for info in campaigns), ""),
        "kept": quarantine_row(kept, places) if kept else None,
        "simulated": any(info.campaign in simulated for info in campaigns),
        "newest": look_row(looks[0]) if looks else None,
        "facts": sorted(looks[0].facts.items()) if looks else [],
        "changes": _changes(looks),
        "charts": list(_health_charts(looks)),
        "phases": [(style, said) for style, (phase, said) in enumerate(PHASES.items(), 1) if phase in phases],
        "looks": [{**look_row(look), "night_href": places.night(look.night)} for look in looks[:_MAX_LOOKS]],
        "all_looks": len(looks),
        "quarantines": [quarantine_row(one, places) for one in quarantines],
        "moved": [_moved(one, places) for one in verdicts],
        "campaigns": [
            {
                "campaign": info.campaign,
                "report": places.report(info.campaign),
                "experiment": info.experiment,
                "experiment_href": places.experiment(info.experiment),
                "night_href": places.night(info.night),
                "started": clock(info.started_unix_ns)[:16],
                "status": info.status,
                "tone": TONES.get(info.status, "calm"),
                "runs": f"{info.runs_done} of {info.runs_planned}",
                "invalid": info.runs_invalid,
                "simulated": info.campaign in simulated,
            }
            for info in campaigns[:_MAX_CAMPAIGNS]
        ],
        "all_campaigns": len(campaigns),
    }


def device_row(
    device: str, places: Places, looks: Sequence[Health], quarantines: Sequence[Quarantine], *, simulated: bool
) -> dict[str, Any]:
    """A device in a line, newest look first in ``looks``."""
    kept = next((one for one in quarantines if one.released_unix_ns is None), None)
    newest = looks[0] if looks else None
    state, tone, why = "not looked at", "calm", ""
    if newest is not None:
        state, tone = ("fit", "good") if newest.ok else ("not fit", "bad")
        why = "" if newest.ok else "; ".join(newest.reasons)
    if kept is not None:
        state, tone, why = "in quarantine", "bad", kept.reason
    return {
        "device": device,
        "href": places.device(device),
        "state": state,
        "tone": tone,
        "why": why,
        "look": look_row(newest) if newest else None,
        "simulated": simulated,
    }


def experiment_row(
    name: str, question: str, series: Sequence[Series], places: Places, *, simulated: bool
) -> dict[str, Any]:
    """An experiment in a line: how its figures stood in the newest night that judged them."""
    newest = [str(one.verdicts["verdict"].iloc[-1]) for one in series if len(one.verdicts)]
    return {
        "name": name,
        "href": places.experiment(name),
        "question": question,
        "devices": len({one.key[0] for one in series}),
        "cells": len({one.key[1] for one in series}),
        "counts": [{"verdict": v, "tone": tone, "n": newest.count(v)} for v, tone in TONES.items() if v in newest],
        "simulated": simulated,
    }


def _chart(one: Series, places: Places) -> dict[str, Any]:
    device, cell_id, program, metric = one.key
    nights = one.nights
    at = dict(zip(nights["night"], zip(nights["t_unix_ns"], nights["median"], strict=True), strict=True))
    marked = one.verdicts[(one.verdicts["verdict"] != "unchanged") & one.verdicts["night"].isin(at)]
    events = [
        trend.Event(at[night][0], at[night][1], verdict, f"{_day(at[night][0])}: {verdict} {_percent(shift)}".strip())
        for night, verdict, shift in _rows(marked)
    ]
    times, medians, low, high = (nights[name].tolist() for name in ("t_unix_ns", "median", "low", "high"))
    line = trend.Line(times, medians, low, high)
    divisor, shown_unit = scale(one.unit, [value for value in medians if np.isfinite(value)])
    known = [None if not np.isfinite(value) else value / divisor for value in (*medians, *low, *high)]
    many = len(times)
    told = Line(
        "median",
        tuple(time / 1e9 for time in times),
        tuple(known[:many]),
        tuple(known[many : 2 * many]),
        tuple(known[2 * many :]),
    )
    newest = _newest(one)
    title = f"{one.cell or cell_id} on {device}"
    figure = series_name(program, metric, one.unit)
    last = nights.iloc[-1]
    value = quantity(last["median"], one.unit)
    said = f"Median of the runs of each of {len(nights)} nights, the newest {value} on {_day(last['t_unix_ns'])}."
    return {
        "id": chart_id(*one.key),
        "cell": one.cell or cell_id,
        "figure": figure,
        "title": f"{figure}: {title}",
        "description": f"{said} {len(events)} of them are marked.",
        "zoom": chart_data(Chart("night", shown_unit or "value", (("", (told,)),), time=True)) if many > 1 else None,
        "chart": trend.chart([line], one.unit, events=events, breaks=_breaks(one, at)),
        "value": value,
        "bounds": interval(last["low"], last["high"], one.unit),
        "n": int(last["n"]),
        "verdict": newest.verdict if newest else "",
        "tone": TONES[newest.verdict] if newest else "calm",
        "shift": " ".join(filter(None, (shift_text(newest), interval_text(newest)))) if newest else "",
        "marked": [
            {
                "day": _day(at[night][0]),
                "href": places.night(str(night)),
                "verdict": verdict,
                "tone": TONES[verdict],
                "value": quantity(at[night][1], one.unit),
                "shift": _percent(shift),
            }
            for night, verdict, shift in _rows(marked.iloc[::-1].head(_MAX_MARKED))
        ],
        "more": max(0, len(marked) - _MAX_MARKED),
    }


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """So that k=10 comes after k=9."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+|[0-9]", text, re.ASCII)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _rows(verdicts: pd.DataFrame) -> Iterator[tuple[Any, Any, Any]]:
    return zip(verdicts["night"], verdicts["verdict"], verdicts["shift_pct"], strict=True)


def _newest(one: Series) -> CellVerdict | None:
    """The newest verdict, if the newest night has one."""
    if not len(one.verdicts) or one.verdicts["night"].iloc[-1] != one.nights["night"].iloc[-1]:
        return None
    row = one.verdicts.iloc[-1].to_dict()
    numbers = {name: row[name] if pd.notna(row[name]) else None for name in ("shift_pct", "low_pct", "high_pct")}
    kept = {name: row[name] for name in ("night", "cell_id", "cell", "device", "program", "metric", "unit", "verdict")}
    return CellVerdict(experiment="", **kept, **numbers)


def _breaks(one: Series, at: Mapping[Any, tuple[int, float]]) -> list[tuple[int, str]]:
    """Change points as the judgements placed them, the newest judgement's word first."""
    order = {night: place for place, night in enumerate(at)}
    kept: list[str] = []
    for since in dict.fromkeys(one.verdicts["since"].iloc[::-1]):
        if since in order and all(abs(order[since] - order[other]) > _NEAR_NIGHTS for other in kept):
            kept.append(str(since))
    return [(at[night][0], f"a change point: {_day(at[night][0])}") for night in kept]


def _overview(one: Series, page: str, simulated: frozenset[str]) -> dict[str, Any]:
    newest = _newest(one)
    last = one.nights.iloc[-1]
    recent = one.nights["median"].tolist()[-_SPARK_NIGHTS:]
    device, cell_id, program, metric = one.key
    return {
        "cell": one.cell or cell_id,
        "href": f"{page}#{chart_id(*one.key)}",
        "device": device,
        "figure": series_name(program, metric, one.unit),
        "value": quantity(last["median"], one.unit),
        "day": _day(last["t_unix_ns"]),
        "verdict": newest.verdict if newest else "",
        "tone": TONES[newest.verdict] if newest else "calm",
        "shift": shift_text(newest) if newest else "",
        "spark": trend.spark(recent),
        "spark_label": f"the last {len(recent)} nights",
        "simulated": device in simulated,
    }


def _health_charts(looks: Sequence[Health]) -> Iterator[dict[str, Any]]:
    """Temperature, charge and free space over time, before and after tasks apart."""
    for name, title, unit, floor, ceiling in (
        ("hottest_c", "Hottest thermal zone", "°C", None, None),
        ("battery_pct", "Battery", "%", 0.0, 100.0),
        ("free_mib", "Free space in devicelab's folder", "MiB", 0.0, None),
    ):
        lines = []
        for style, phase in enumerate(PHASES, 1):
            shown = [look for look in reversed(looks) if look.phase == phase and name in look.figures]
            if shown:
                times = [look.at_unix_ns for look in shown]
                lines.append(trend.Line(times, [look.figures[name] for look in shown], style=style))
        drawn = trend.chart(lines, unit, floor=floor, ceiling=ceiling) if lines else None
        if drawn is not None:
            values = np.concatenate([np.asarray(line.values) for line in lines])
            text = f"{len(values)} looks, from {values.min():.4g} to {values.max():.4g} {unit}."
            yield {"id": f"h-{name}", "title": title, "chart": drawn, "description": text}


def _changes(looks: Sequence[Health]) -> list[dict[str, str]]:
    """Facts that became others, newest first."""
    changes = []
    known: dict[str, str] = {}
    for look in reversed(looks):
        for name, value in look.facts.items():
            if known.get(name, value) != value:
                changes.append({"at": clock(look.at_unix_ns), "name": name, "old": known[name], "new": value})
            known[name] = value
    return changes[::-1]


def _moved(one: CellVerdict, places: Places) -> dict[str, Any]:
    page = places.experiment(one.experiment)
    return {
        "night": places.day(one.night),
        "night_href": places.night(one.night),
        "verdict": one.verdict,
        "tone": TONES[one.verdict],
        "experiment": one.experiment,
        "href": page and f"{page}#{chart_id(one.device, one.cell_id, one.program, one.metric)}",
        "cell": one.cell or one.cell_id,
        "figure": figure_name(one),
        "shift": " ".join(filter(None, (shift_text(one), interval_text(one)))),
        "causes": one.causes,
    }


def _day(unix_ns: float) -> str:
    return clock(unix_ns)[:10]


def _percent(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:+.1f}\N{NO-BREAK SPACE}%".replace("-", "−")  # noqa: PLR0124 - NaN
