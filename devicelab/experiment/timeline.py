"""What happened in a run, in order: clocks, heat, power, CPU use as series; phases, programs, lost pins as spans.

All times are the device's CLOCK_MONOTONIC in ns, so that the frames of a run and those of a program that reads the same
clock fit on one time line.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from devicelab.experiment import energy
from devicelab.experiment.conditions import cpu_order, reading

SERIES = ("t_ns", "quantity", "name", "value", "unit")
"""Columns of ``series``: time, what it is, of which part, its value and the unit of that."""

SPANS = ("start_ns", "end_ns", "lane", "name", "detail")
"""Columns of ``spans``: from when to when, on which lane, what it is called and what else is known of it."""

_BUSY = re.compile(r"[0-9]{1,4}")
_KHZ = re.compile(r"[1-9][0-9]{0,9}")
# Drivers that measure a clock read a little beside what was set.
_SLACK = 0.02


def series(record: Mapping[str, Any]) -> pd.DataFrame:
    """Sampled quantities of a run from its evidence (``Results.evidence``), one row a reading.

    ``quantity`` is ``cpu clock`` or ``gpu clock`` (kHz), ``temperature`` (C), ``power`` (W; of a meter's rails over the
    time since the sample before) or ``cpu use`` (pct, likewise). Samples from before the run worked come first, where
    there are any. Readings that are no numbers are left out.
    """
    rows: list[tuple[int, str, str, float, str]] = []
    for name in ("idle", "samples"):
        samples = record.get(name) or {}
        times = [int(t) for t in samples.get("t_ns") or ()]
        rows += _nodes(times, samples.get("nodes") or {})
        rows += _use(times, samples.get("busy") or {}, samples.get("total") or {})
        for rail, t_ns, watts in energy.powers(times, samples.get("nodes") or {}, record.get("before") or {}):
            rows.append((t_ns, "power", rail, watts, "W"))
    return pd.DataFrame(rows, columns=list(SERIES))


def spans(record: Mapping[str, Any]) -> pd.DataFrame:
    """What the agent did in a run and which programs ran, from its evidence; a run's own span comes first.

    Lanes: ``agent`` (the run and, inside it, its phases: ``pin verify gates idle loads settle start measure restore``),
    ``load NAME`` and ``measure NAME``.
    """
    start, end = int(record["t_start_ns"]), int(record["t_end_ns"])
    flags = "; ".join(f"{flag['code']}: {flag['detail']}" for flag in record.get("flags") or ())
    rows: list[tuple[int, int, str, str, str]] = [(start, end, "agent", f"run {record['run_id']}", flags)]
    phases = [(str(one["name"]), int(one["t_ns"])) for one in record.get("phases") or ()]
    for (name, begins), (_, ends) in itertools.pairwise([*phases, ("", end)]):
        since = min(max(begins, start), end)
        rows.append((since, min(max(since, ends), end), "agent", name, ""))
    for program in record.get("programs") or ():
        if program.get("start_ns") and program.get("end_ns", 0) >= program["start_ns"]:
            cpus = ",".join(str(cpu) for cpu in program.get("granted") or ())
            lane = f"{program['role']} {program['name']}"
            rows.append((program["start_ns"], program["end_ns"], lane, program["name"], f"CPUs {cpus}" if cpus else ""))
    return pd.DataFrame(rows, columns=list(SPANS))


def pins_lost(record: Mapping[str, Any]) -> pd.DataFrame:
    """When a clock was not where the run's steps had put it: ``start_ns end_ns name wanted_khz seen_khz``.

    From sample to sample; a policy counts as pinned where both its limits were written to one frequency. Of a GPU this
    is not told: its clock reads 0 while it sleeps.
    """
    limits: dict[str, dict[str, str]] = {}
    for step in record.get("steps") or ():
        folder, _, name = str(step.get("path") or "").rpartition("/")
        if name in {"scaling_min_freq", "scaling_max_freq"} and step.get("held"):
            limits.setdefault(folder, {})[name] = str(step.get("after") or "").strip()
    samples = record.get("samples") or {}
    times = [int(t) for t in samples.get("t_ns") or ()]
    rows = []
    for folder, both in limits.items():
        path = f"{folder}/scaling_cur_freq"
        told = reading(path, (samples.get("nodes") or {}).get(path, ()))
        if (
            told is None
            or len(set(both.values())) != 1
            or len(both) != 2
            or not _KHZ.fullmatch(wanted := both.popitem()[1])
        ):
            continue
        for (start, seen), (end, _) in itertools.pairwise(zip(times, told.readings, strict=False)):
            if seen is not None and abs(seen - int(wanted)) > _SLACK * int(wanted):
                rows.append((start, end, told.name, int(wanted), round(seen)))
    return pd.DataFrame(rows, columns=["start_ns", "end_ns", "name", "wanted_khz", "seen_khz"])


def _nodes(times: Sequence[int], nodes: Mapping[str, Sequence[object]]) -> Iterator[tuple[int, str, str, float, str]]:
    for path, texts in nodes.items():
        if (told := reading(path, texts)) is None:
            continue
        for t_ns, value in zip(times, told.readings, strict=False):
            if value is not None:
                yield t_ns, told.quantity, told.name, value, told.unit


def _use(
    times: Sequence[int], busy: Mapping[str, Sequence[int | None]], total: Mapping[str, Sequence[int | None]]
) -> Iterator[tuple[int, str, str, float, str]]:
    for cpu in cpu_order(name for name in busy.keys() & total.keys() if _BUSY.fullmatch(name)):
        ticks = list(zip(times, busy[cpu], total[cpu], strict=False))
        for (_, busy0, total0), (t_ns, busy1, total1) in itertools.pairwise(ticks):
            if None in {busy0, total0, busy1, total1}:
                continue
            passed = int(total1 or 0) - int(total0 or 0)
            ran = int(busy1 or 0) - int(busy0 or 0)
            if passed > 0:
                yield t_ns, "cpu use", f"cpu{cpu}", 100 * min(max(ran, 0), passed) / passed, "pct"
