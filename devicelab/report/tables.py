"""The tables of a page: facts, conditions, figures of the runs, invalid runs; plain texts, escaped by the template."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from devicelab.experiment.conditions import RunConditions, cpu_order, span
from devicelab.ground.times import duration
from devicelab.model.experiment import Finding
from devicelab.model.glossary import ANALYSES, VERDICTS, figure_words
from devicelab.model.results import Results
from devicelab.model.scheduler_files import scheduler_files
from devicelab.report import frames
from devicelab.report.units import between, clock, interval, quantity

_MAX_BARS = 16
_MAX_ROWS = 5_000
_MAX_FIGURES = 8


@dataclass(frozen=True)
class TableView:
    """A table as the template wants it; ``numeric`` names the columns that are set flush right."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[str, ...] = ()


@dataclass(frozen=True)
class FindingView:
    """A finding with its numbers as text."""

    verdict: str
    tone: str
    claim: str
    reasons: tuple[str, ...]
    estimate: str
    interval: str
    n: int
    analysis: str
    simulated: bool
    answer: bool = False
    sign: str = ""


@dataclass(frozen=True)
class ConditionView:
    """What held in the runs of one cell. ``cores`` are heights of bars in percent, empty on devices with many CPUs."""

    cell: str
    valid: int
    invalid: int
    use: str
    use_range: str
    cores: tuple[int, ...]
    cores_text: str
    clocks: tuple[str, ...]
    temps: tuple[str, ...]
    granted: str
    others: tuple[str, ...]


def finding_views(findings: Sequence[Finding]) -> list[FindingView]:
    """The findings in their order."""
    return [
        FindingView(
            verdict=one.verdict,
            tone=VERDICTS[one.verdict].tone,
            sign=VERDICTS[one.verdict].sign,
            claim=one.claim,
            reasons=one.reasons,
            estimate=quantity(one.estimate, one.unit) if one.estimate is not None else "",
            interval=interval(one.low, one.high, one.unit),
            n=one.n,
            analysis=one.analysis,
            simulated=one.simulated,
            answer=one.answer,
        )
        for one in findings
    ]


def finding_groups(findings: Sequence[Finding]) -> list[tuple[str, str, list[FindingView]]]:
    """The findings by the analysis that made them: its name for an id, a title for people, and the findings."""
    groups: dict[str, list[Finding]] = {}
    for one in findings:
        groups.setdefault(one.analysis, []).append(one)
    return [(name, ANALYSES.get(name, name), finding_views(group)) for name, group in groups.items()]


def facts(results: Results) -> list[tuple[str, str]]:
    """Terms and values of "what ran on what", empty ones left out."""
    info = results.info
    listed = [
        ("Device", f"{info.get('device', '')} ({info.get('address', '')})"),
        ("Board", f"{info.get('board_title') or ''} ({info.get('board', '')})"),
        ("System", f"{info.get('os', '')}, {info.get('os_build', '')}"),
        ("Kernel", f"{info.get('kernel', '')}, {info.get('abi', '')}, root: {info.get('root', '')}"),
        ("GPU driver", str(info.get("gpu_driver", ""))),
        ("Started", _when(info.get("start_unix_ns"))),
        ("Ended", _when(info.get("end_unix_ns"))),
        ("Repetitions", f"{_repetitions(results)}, order shuffled with seed {info.get('seed')}"),
        ("Command", str(info.get("command", ""))),
        ("Night", str(info.get("night") or "")),
        ("devicelab", str(info.get("version", ""))),
    ]
    varied = results.experiment.factors  # what a program said of its first run holds for all, but for these
    for program, said in dict(info.get("programs") or {}).items():
        told = (f"{name}: {value}" for name, value in said.items() if name not in varied and value != "")
        listed.append((f"Program {program}", ", ".join(told)))
    return [(term, value.strip(" ,")) for term, value in listed if value.strip(" ,()")]


def factors(results: Results) -> TableView:
    """Factors and their levels, and what was held."""
    experiment = results.experiment
    rows = [(name, ", ".join(str(level) for level in levels), "varied") for name, levels in experiment.factors.items()]
    rows += [(name, str(level), "held") for name, level in experiment.set.items()]
    if experiment.measure is not None:
        measure = experiment.measure
        rows += [("measured", measure.workload, "workload")]
        rows += [(name, str(value), "parameter") for name, value in measure.params.items()]
    return TableView("Factors and what was measured.", ("Name", "Levels", "Role"), tuple(rows))


def binaries(results: Results) -> TableView:
    """Programs that were pushed, and the files of schedulers installed there, by hash."""
    rows = [(name, sha256) for name, sha256 in dict(results.info.get("binaries") or {}).items()]
    for scheduler, files in scheduler_files(results).items():
        rows += [(f"{scheduler}: {name}", sha256) for name, sha256 in files.items()]
    return TableView("Programs on the device, by the SHA-256 of the file.", ("Program", "SHA-256"), tuple(rows))


def dropped_samples(results: Results) -> str:
    """Which raw samples were dropped from the database on request, a sentence; empty if none were."""
    dropped = dict(results.info.get("dropped_samples") or {})
    if not dropped:
        return ""
    listed = ", ".join(f"{name} ({rows} rows)" for name, rows in dropped.items())
    return f"To save space, these raw samples were dropped from the database: {listed}."


def condition_views(results: Results, conditions: Mapping[str, RunConditions]) -> list[ConditionView]:
    """A row a cell, from its valid runs; from all its runs where none is valid."""
    runs = results.runs()
    if runs.empty:
        return []
    labels = _labels(results, runs)
    views = []
    for cell_id in frames.cell_order(results, runs):
        mine = runs[runs["cell_id"] == cell_id]
        valid = int(mine["valid"].sum())
        shown = mine[mine["valid"]] if valid else mine
        held = [conditions[run_id] for run_id in shown["run_id"] if run_id in conditions]
        views.append(_condition(labels[cell_id], valid, len(mine) - valid, held))
    return views


def _condition(label: str, valid: int, invalid: int, held: Sequence[RunConditions]) -> ConditionView:
    whole = [one.cpu_pct["all"] for one in held if "all" in one.cpu_pct]
    names = cpu_order({cpu for one in held for cpu in one.cpu_pct} - {"all"})
    cores = {cpu: float(np.median([one.cpu_pct[cpu] for one in held if cpu in one.cpu_pct])) for cpu in names}
    text = ", ".join(f"CPU {cpu}: {use:.0f} %" for cpu, use in cores.items())
    if len(cores) > _MAX_BARS:
        text = f"{len(cores)} CPUs, {between(min(cores.values()), max(cores.values()), 'pct', 2)}"
    granted = Counter(cpu_text(cpus) for one in held for cpus in one.granted.values() if cpus)
    return ConditionView(
        cell=label,
        valid=valid,
        invalid=invalid,
        use=quantity(float(np.median(whole)), "pct", 3) if whole else "not sampled",
        use_range=between(min(whole), max(whole), "pct", 3) if len(whole) > 1 else "",
        cores=tuple(round(use) for use in cores.values()) if len(cores) <= _MAX_BARS else (),
        cores_text=text,
        clocks=_spans(held, "clocks_khz", "khz"),
        temps=_spans(held, "temps_c", "°C"),
        granted="; ".join(granted) or "–",
        others=_others(held),
    )


def _others(held: Sequence[RunConditions]) -> tuple[str, ...]:
    """CPU use of programs that are not ours, of all CPUs: before the runs and during them; who was the heaviest."""
    found = []
    for word in ("before", "during"):
        use = [getattr(one.foreign, word)["all"] for one in held if "all" in getattr(one.foreign, word)]
        if use:
            found.append(f"{word}: {between(min(use), max(use), 'pct', 2)}")
    heaviest = [item for one in held for item in one.foreign.heaviest]
    if heaviest:
        process, percent = max(heaviest, key=lambda item: item[1])
        if percent >= 1:
            found.append(f"{process.name} {percent:.0f} % of a core")
    return tuple(found) or ("not looked for",)


def _spans(held: Sequence[RunConditions], field: str, unit: str) -> tuple[str, ...]:
    names = cpu_order({name for one in held for name in getattr(one, field)})
    spans = []
    for name in names:
        both = span([getattr(one, field)[name] for one in held if name in getattr(one, field)])
        if both is not None:
            short = name.replace("thermal_zone", "zone ").replace("policy", "policy ")
            spans.append(f"{short}: {between(*both, unit)}")
    return tuple(spans) or ("–",)


def metric_table(results: Results) -> TableView:
    """Median and range over the valid runs, a row a cell, a column a figure."""
    runs = results.runs()
    valid = runs[runs["valid"]]
    merged = results.metrics().merge(valid[["run_id", "cell_id"]], on="run_id").dropna(subset="value")
    if merged.empty:
        return TableView("", (), ())
    programs = len(set(merged["program"])) > 1
    keys = list(dict.fromkeys(zip(merged["program"], merged["metric"], merged["unit"], strict=True)))[:_MAX_FIGURES]
    grouped = merged.groupby(["cell_id", "program", "metric", "unit"], sort=False)["value"]
    spread = {key: (part.median(), part.min(), part.max()) for key, part in grouped}
    labels = _labels(results, runs)
    rows = []
    for cell_id in frames.cell_order(results, valid):
        row = [labels[cell_id], str(int((valid["cell_id"] == cell_id).sum()))]
        for key in keys:
            if (cell_id, *key) in spread:
                median, low, high = spread[cell_id, *key]
                ends = f" ({between(low, high, key[2])})" if low != high else ""
                told = 0.0 if abs(median) < 1e-3 * (high - low) else median  # no exponents beside a wide range
                row.append(f"{quantity(told, key[2])}{ends}")
            else:
                row.append("–")
        rows.append(tuple(row))
    cut = f" The first {_MAX_ROWS} cells." if len(rows) > _MAX_ROWS else ""
    titles = [(program, figure_words(metric, unit)) for program, metric, unit in keys]
    names = tuple(f"{program}: {title}" if programs else title for program, title in titles)
    more = " More figures are in the CSV of all runs." if len(keys) == _MAX_FIGURES else ""
    return TableView(
        f"Figures of the runs, one value a run: median (lowest to highest) of the n valid runs.{cut}{more}",
        ("Cell", "n", *names),
        tuple(rows[:_MAX_ROWS]),
        ("n", *names),
    )


def reason_table(results: Results) -> TableView:
    """How often each flag was raised."""
    runs = results.runs()
    counts = Counter(flag.code for flags in runs["flags"] for flag in {f.code: f for f in flags}.values())
    failed = int(((runs["status"] == "failed") & (runs["flags"].map(len) == 0)).sum()) if "status" in runs else 0
    rows = [(code, str(count)) for code, count in counts.most_common()]
    rows += [("could not be performed", str(failed))] if failed else []
    return TableView("Reasons, by the number of runs that have them.", ("Reason", "Runs"), tuple(rows), ("Runs",))


def invalid_table(results: Results) -> TableView:
    """Every invalid run with its reasons."""
    runs = results.runs()
    bad = runs[~runs["valid"]]
    rows = tuple(
        (
            run_id,
            cell,
            str(repetition),
            "; ".join(f"{flag.code}: {flag.detail}" for flag in flags) or "could not be performed",
        )
        for run_id, cell, repetition, flags in zip(
            bad["run_id"], bad["cell"], bad["repetition"], bad["flags"], strict=True
        )
    )
    cut = f" The first {_MAX_ROWS}." if len(rows) > _MAX_ROWS else ""
    return TableView(f"Invalid runs.{cut}", ("Run", "Cell", "Repetition", "Reasons"), rows[:_MAX_ROWS], ("Repetition",))


def run_table(results: Results) -> TableView:
    """All runs in the order they were performed, with up to four of their figures."""
    runs = results.runs()
    metrics = results.metrics()
    names = list(dict.fromkeys(zip(metrics["metric"], metrics["unit"], strict=True)))[:4]
    values = {
        name: dict(zip(part["run_id"], part["value"], strict=True))
        for name in names
        for part in [metrics[(metrics["metric"] == name[0]) & (metrics["unit"] == name[1])]]
    }
    shown = runs.head(_MAX_ROWS)
    rows = tuple(
        (
            run_id,
            clock(t_unix_ns),
            cell,
            str(repetition),
            quantity(duration_ns, "ns", 3),
            "valid" if valid else "invalid",
            *(quantity(values[name].get(run_id), name[1]) for name in names),
        )
        for run_id, t_unix_ns, cell, repetition, duration_ns, valid in zip(
            *(shown[column] for column in ("run_id", "t_unix_ns", "cell", "repetition", "duration_ns", "valid")),
            strict=True,
        )
    )
    cut = f" The first {_MAX_ROWS} of {len(runs)}; the CSV has all." if len(runs) > _MAX_ROWS else ""
    figures = tuple(figure_words(*name) for name in names)
    return TableView(
        f"Times are UTC, by the device's clock.{cut}",
        ("Run", "Time", "Cell", "Repetition", "Duration", "State", *figures),
        rows,
        ("Repetition", "Duration", *figures),
    )


def tiles(results: Results) -> list[tuple[str, str]]:
    """The few numbers on top: value and label."""
    runs = results.runs()
    invalid = int((~runs["valid"]).sum())
    planned = results.info.get("runs_planned")
    done = f"{len(runs)} of {planned}" if planned and planned != len(runs) else str(len(runs))
    shown = [(done, "runs stored"), (str(invalid), "invalid runs"), (str(runs["cell_id"].nunique()), "cells")]
    started, ended = results.info.get("start_unix_ns"), results.info.get("end_unix_ns")
    if started and ended:
        shown.append((duration((ended - started) / 1e9), "from start to end"))
    shown.append((str(results.info.get("board_title") or results.info.get("board", "")), "board"))
    return shown


def cpu_text(cpus: Sequence[int]) -> str:
    """CPU numbers as the kernel writes lists: "0-3,7"."""
    if not cpus:
        return ""
    ordered = sorted(cpus)
    starts = [ordered[0], *(b for a, b in pairwise(ordered) if b != a + 1)]
    ends = [*(a for a, b in pairwise(ordered) if b != a + 1), ordered[-1]]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def _labels(results: Results, runs: pd.DataFrame) -> dict[str, str]:
    """Cell id → label by the factors that vary."""
    labels = frames.group_labels(runs, frames.varied(results))
    return dict(zip(runs["cell_id"], labels, strict=True))


def _repetitions(results: Results) -> str:
    """How many there were of each cell; with a stop rule also why there were no more."""
    stop, runs = results.experiment.rule, results.runs()
    if stop is None:
        return f"{results.experiment.repetitions} of each cell"
    counts = runs.groupby("cell_id").size() if len(runs) else runs
    ends = dict.fromkeys(map(str, (counts.min(), counts.max()))) if len(runs) else ()
    taken = f"{' to '.join(ends)} of each cell" if ends else "none"
    why = results.info.get("reason") or "ended early"
    if results.experiment.search is not None:
        return f"{taken}, searched for the best: {why}"
    return f"{taken}, until {stop.until} (at most {stop.max_repetitions}): {why}"


def _when(unix_ns: int | None) -> str:
    return f"{clock(unix_ns)} UTC" if unix_ns else ""


def csv_of_runs(results: Results) -> pd.DataFrame:
    """All runs with their figures as columns, for downloading."""
    runs = results.runs()
    flat: dict[str, Any] = {"flags": [" ".join(flag.code for flag in flags) for flags in runs["flags"]]}
    wide = results.metrics()
    if wide.empty:
        return runs.assign(**flat)
    wide["column"] = wide["metric"] + "_" + wide["unit"].where(wide["unit"] != "1", "")
    wide["column"] = wide["column"].str.rstrip("_")
    if len(set(wide["program"])) > 1:
        wide["column"] = wide["program"] + "." + wide["column"]
    table = wide.pivot_table(index="run_id", columns="column", values="value", aggfunc="first")
    return runs.assign(**flat).merge(table, left_on="run_id", right_index=True, how="left")
