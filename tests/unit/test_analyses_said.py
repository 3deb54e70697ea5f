"""Everything that the analyses say and draw of planted campaigns, as it was read once (``tests/goldens.py``)."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

from devicelab.analyses import answer, checks, contract, klo, load, lut, opencl_app, placement
from devicelab.analyses.klo import data as klo_data
from devicelab.analyses.klo.model import LaunchCosts
from devicelab.analyses.klo.model.fit import NAMES
from devicelab.analyses.lut import plan as planned
from devicelab.model.journal import Flag
from tests import goldens
from tests.klodata import Board, FrameResults, Levels, Truth, campaign

POLICY = "/sys/devices/system/cpu/cpufreq/policy{}/scaling_cur_freq"
GPU = "/sys/class/kgsl/kgsl-3d0/gpuclk"
TRUTH = Truth(np.linspace(2_000, 4_000, 12), np.linspace(14_000, 9_000, 12), LaunchCosts(1_000.0, 30_000.0, 15_000.0))


def slower(levels: Levels) -> float:
    return (6.0 if levels["load"] != "none" else 1.0) * (2.5 if levels["cpu"] == "min" else 1.0)


def flags(levels: Levels, repetition: int) -> tuple[Flag, ...]:
    bad = levels["load"] != "none" and levels["cpu"] == "min" and repetition == 6 and levels["k"] == 4
    return (Flag(code="load-died", detail="pid 8"),) if bad else ()


@cache
def launched() -> FrameResults:
    """Loads, placements, clocks, policies and K, with whatever a run can be asked for beside them."""
    results = campaign(
        TRUTH,
        {
            "load": ("none", "1000 5000 20"),
            "placement": ("one-per-core",),
            "cpu": ("min", "max"),
            "policy": ("constant", "static", "dynamic"),
            "k": (1, 2, 4, 0),
        },
        board=Board(slower=slower, flags=flags),
        repetitions=7,
        inferences=4,
        measure={"workload": "klo", "params": {"foreground_hz": 60, "foreground_within_ms": 4}},
        answer={"quantity": "t_prod_mean_ns", "by": "load", "against": {"load": "none"}, "within_pct": 5},
        checks=(
            {"name": "fast", "metric": "total_ns", "where": {"load": "none", "policy": "constant"}, "bound": "< 1 ms"},
            {"name": "calm", "metric": "cpu_use_pct", "where": {"load": "none"}, "bound": "< 10 %"},
            {
                "name": "near",
                "metric": "t_prod_mean_ns",
                "where": {"load": "1000 5000 20"},
                "against": {"load": "none"},
                "bound": "< 300 %",
            },
        ),
    )
    more = []
    for run in results.run_rows.to_dict("records"):
        more.append((run["run_id"], "own_flushes", 5.0, "1"))
        wait = 1e6 * (1 + (run["k"] or 12) * 0.9 + 0.05 * run["repetition"])
        more.append((run["run_id"], "foreground_p95_ns", wait, "ns"))
        at = [2_000_000, 2_400_000] if run["cpu"] == "max" else [800_000, 900_000]
        nodes = {POLICY.format(number): [str(khz)] * 21 for number, khz in zip((0, 4), at, strict=True)}
        results.records[run["run_id"]]["samples"]["nodes"] = {**nodes, GPU: ["600000000"] * 21}
    rows = pd.DataFrame(more, columns=["run_id", "metric", "value", "unit"]).assign(program="measure")
    results.metric_rows = pd.concat([results.metric_rows, rows], ignore_index=True)
    return results


def _ends(ends: tuple[float, float] | None) -> str:
    return "no bounds" if ends is None else " to ".join(map(goldens.number, ends))


def conditions(results: FrameResults) -> str:
    """What the runs of each condition say together."""
    lines = []
    for one in klo_data.load(results).conditions:
        profile = one.profile
        assert profile is not None
        fit = profile.fit
        lines += [
            f"{one.label}: N {one.n_kernels}, K {one.ks}, chosen {one.chosen_k}",
            f"  constant {one.constant_k} of {one.k_set}",
            f"  manual {one.manual_k} {goldens.series(one.manual)}; chosen {goldens.series(one.chosen.values())}",
            f"  driver: early {goldens.number(one.driver.early.estimate)}, at once {one.driver.at_once}",
            *(f"  {name} {goldens.number(getattr(fit.costs, name))} {_ends(fit.intervals[name])}" for name in NAMES),
            f"  told {fit.identified}",
            f"  growth {goldens.number(fit.growth.estimate)}, off by {goldens.number(fit.residual_pct)} %",
            f"  t_prod {goldens.series(profile.t_prod_ns)}",
            f"  t_ker {goldens.series(profile.t_ker_ns)}",
            f"  curve {goldens.series(profile.curve_ns)}",
        ]
    return "\n".join(lines) + "\n"


def within(bound_ms: float) -> FrameResults:
    """The same runs, with another bound for the foreground."""
    of = launched().experiment
    assert of.measure is not None
    params = {**of.measure.params, "foreground_within_ms": bound_ms}
    other = of.model_copy(update={"measure": of.measure.model_copy(update={"params": params})})
    return replace(launched(), experiment=other)


def table() -> str:
    """The launch cost table, and what is planned with it and with each condition's own fit."""
    found = lut.measure(launched())
    lines = [str(found.model_dump(exclude={"entries", "devicelab"}))]
    for entry in found.entries:
        costs = [goldens.number(getattr(entry, name)) for name in (*NAMES, "flush_per_kernel_ns", "residual_pct")]
        lines.append(
            f"{entry.levels} {entry.cpu_khz} {entry.gpu_clock} {' '.join(costs)} {entry.runs} {entry.not_identified}"
        )
        lines += [f"  {name} {_ends(ends)}" for name, ends in entry.intervals_ns.items()]
    for one in (*planned.plan(launched()), *planned.plan(launched(), found)):
        times = f"{goldens.number(one.makespan_ns)} and {goldens.number(one.schedule_ns)} ns"
        lines += [f"{one.label}: K = {one.k}, {times}, from {one.costs_from}, {one.remarks}", *one.settings()]
    return "\n".join(lines) + "\n"


SAID: dict[str, Callable[[], str]] = {
    "klo": lambda: goldens.findings(klo.analyse(launched())),
    "klo-answers": lambda: goldens.findings(one(launched()) for one in klo.ANSWERS.values()),
    "klo-conditions": lambda: conditions(launched()),
    "klo-figures": lambda: goldens.figures(klo.figures(launched())),
    "lut": lambda: goldens.findings(lut.analyse(launched())) + goldens.figures(lut.figures(launched())),
    "load": lambda: goldens.findings(load.analyse(launched())) + goldens.figures(load.figures(launched())),
    "placement": lambda: (
        goldens.findings(placement.analyse(launched())) + goldens.figures(placement.figures(launched()))
    ),
    "opencl_app": lambda: goldens.findings((*opencl_app.analyse(launched()), opencl_app.answer(launched()))),
    "contract": lambda: goldens.findings((*contract.analyse(launched()), contract.answer(launched()))),
    "contract-none": lambda: goldens.findings(contract.analyse(within(1.5))[:1]),
    "lut-table": table,
    "answer": lambda: goldens.findings(answer.analyse(launched())) + goldens.figures(answer.figures(launched())),
    "checks": lambda: goldens.findings(checks.analyse(launched())),
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_said_and_drawn_is_what_was_read(name: str, request: pytest.FixtureRequest) -> None:
    goldens.same(name, SAID[name](), write=request.config.option.write_goldens)
