"""A night against the nights before it: a verdict for every figure of every cell on every device.

``docs/method/nights.md`` has the formulas and their sources. Not an analysis of a campaign: it reads many.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from devicelab.compare.nights import words
from devicelab.compare.nights.assess import MIN_NIGHTS, Panel, assess
from devicelab.compare.nights.causes import Surroundings, differences
from devicelab.compare.nights.data import Past, read, worse
from devicelab.compare.nights.stats import locations, shift
from devicelab.compare.nights.words import Case
from devicelab.model.night import CellVerdict

if TYPE_CHECKING:
    from devicelab.store.reading import StoreReader

_COMMON, _COMMON_LEAST = 0.8, 5
"""Share and least number of a device's figures that move the same way for the device itself to be suspected."""

_Changes = defaultdict[int, tuple[str, ...]]

ORDER = ("regression", "too noisy", "not comparable", "improvement", "unchanged")
"""Verdicts as a person wants to see them, worst first."""


def judge(reader: "StoreReader", night: str, *, baseline_nights: int) -> tuple[CellVerdict, ...]:
    """Verdicts of a night, worst first.

    Campaigns of tasks that confirm others are the second measurement of their cells: a shift that they do not show
    again is not declared. Flagged runs never enter.

    Args:
        reader: the store.
        night: id of the night; it may still be running.
        baseline_nights: how many earlier nights it is compared with.

    Raises:
        StoreError: no such night, or the store cannot be read.
        ValueError: no baseline night at all.
    """
    if baseline_nights < 1:
        raise ValueError(f"baseline_nights must be 1 or more, not {baseline_nights}")
    past = read(reader, reader.night(night))
    if not past.keys:
        return ()
    verdicts = [words.verdict(case) for case in _with_company(_cases(past, max(MIN_NIGHTS, baseline_nights)))]
    return tuple(sorted(verdicts, key=rank))


def suspicious(verdicts: Sequence[CellVerdict]) -> tuple[CellVerdict, ...]:
    """Those whose cells are to be measured again before a regression is declared.

    Regressions, and figures that are worse by more than counts without being sure of it; none that were measured
    again already, or are established by many nights.
    """
    return tuple(
        one
        for one in verdicts
        if one.confirmed is None
        and not one.established
        and (one.verdict == "regression" or (one.verdict == "too noisy" and _worse(one)))
    )


def rank(verdict: CellVerdict) -> tuple[int, float, str, str, str]:
    """Sorts verdicts worst first: by verdict, then by the size of the shift."""
    size = -abs(verdict.shift_pct) if verdict.shift_pct is not None else 0.0
    return ORDER.index(verdict.verdict), size, verdict.device, verdict.cell, verdict.metric


def _worse(verdict: CellVerdict) -> bool:
    way = worse(verdict.metric, verdict.unit)
    if verdict.shift_pct is None or verdict.threshold_pct is None or way is None:
        return False
    return abs(verdict.shift_pct) >= verdict.threshold_pct and (verdict.shift_pct > 0) == (way == "more")


def _cases(past: Past, b: int) -> list[Case]:
    """Compress every series to the nights that measured it and may be compared, assess all at once."""
    has = past.nights_with_data()
    tonight = len(past.nights) - 1
    chosen: list[list[int]] = []
    causes: list[tuple[str, ...]] = []
    usable_at: list[tuple[set[int], _Changes]] = []
    changed = {group: _changes(of, tonight) for group, of in past.surroundings.items()}
    for i, key in enumerate(past.keys):
        told, by_program = changed[key.device, key.experiment]
        earlier = [c for c in np.flatnonzero(has[i]).tolist() if c != tonight]
        same = [c for c in earlier if not told[c]]
        if len(same) >= MIN_NIGHTS or not earlier:
            chosen.append([*same, tonight])
            causes.append(())
        else:
            chosen.append([*earlier, tonight])
            causes.append(next((told[c] for c in reversed(earlier) if told[c]), ()))
        equal = {c for c in chosen[-1] if not by_program[c]}
        usable_at.append((equal if len(equal - {tonight}) >= MIN_NIGHTS else set(chosen[-1]), by_program))
    width = max(len(columns) for columns in chosen)
    values = np.full((len(chosen), width, past.values.shape[2]), np.nan)
    usable = np.zeros((len(chosen), width), dtype=bool)
    last = np.array([len(columns) - 1 for columns in chosen])
    for i, columns in enumerate(chosen):
        values[i, : len(columns)] = past.values[i, columns]
        usable[i, : len(columns)] = [column in usable_at[i][0] for column in columns]
    scale, values = words.scaled(values, last)
    panel = Panel.of(values, b)
    compared = np.array([not cause for cause in causes])
    assessed = assess(panel, last, usable=usable, compared=compared)
    again = locations(words.rescaled(past.again, scale))
    columns_of = np.arange(width)
    alone = shift(again[:, None], np.where(assessed.base, panel.levels, np.nan))
    cases = []
    for i, key in enumerate(past.keys):
        base = [chosen[i][c] for c in columns_of[assessed.base[i]].tolist()]
        window = [chosen[i][c] for c in range(max(0, int(assessed.first[i])), int(last[i]) + 1)]
        begin = int(assessed.begins[i])
        cases.append(
            Case(
                night=past.nights[-1],
                key=key,
                worse=worse(key.metric, key.unit),
                nights=past.nights,
                has=has[i],
                values=past.values[i],
                again=past.again[i],
                base=tuple(base),
                window=tuple(window),
                scale=str(scale.kind[i]),
                assessment=assessed.at(i),
                again_shift=float(alone[i]),
                platform=causes[i],
                programs=tuple(dict.fromkeys(cause for c in base for cause in usable_at[i][1][c])),
                since=past.nights[chosen[i][begin]] if begin >= 0 else None,
            )
        )
    return cases


def _changes(of: Mapping[int, Surroundings], tonight: int) -> tuple[_Changes, _Changes]:
    """What was not the same as tonight, of platform and programs, by column; nothing where nothing is known."""
    platform: _Changes = defaultdict(tuple)
    programs: _Changes = defaultdict(tuple)
    now = of.get(tonight)
    if now is not None:
        platform.update((column, differences(then.platform, now.platform)) for column, then in of.items())
        programs.update((column, differences(then.programs, now.programs)) for column, then in of.items())
    return platform, programs


def _with_company(cases: list[Case]) -> list[Case]:
    """Say of each figure whether nearly everything on its device moved the same way this night."""
    by_device: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if np.isfinite(case.assessment.tonight):
            by_device[case.key.device].append(case)
    common: dict[str, tuple[int, int, float]] = {}
    for device, of in by_device.items():
        shifts = np.array([case.assessment.tonight for case in of])
        for sign in (1.0, -1.0):
            along = int((sign * shifts > [case.assessment.tonight_sd for case in of]).sum())
            if len(of) >= _COMMON_LEAST and along >= _COMMON * len(of):
                common[device] = (along, len(of), float(np.median(shifts)))
    return [replace(case, company=common.get(case.key.device)) for case in cases]
