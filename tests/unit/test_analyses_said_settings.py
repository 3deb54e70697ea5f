"""What is said and drawn of searches, stop rules and energies, as it was read once (``tests/goldens.py``)."""

import itertools
from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as MplFigure
from test_analyses_searching import SMALL, searched
from test_analyses_sequential import FAST, SLOWER, adaptive

from devicelab.analyses import energy, searching, sequential, tracing
from devicelab.model.experiment import Experiment, Tracing
from devicelab.model.journal import Flag
from tests import goldens
from tests.klodata import FrameResults, run_row


@cache
def metered(settings: int = 23, repetitions: int = 8) -> FrameResults:
    """Settings that get faster and dearer, so that each is on the front, and two more that others beat."""
    rng = np.random.default_rng(4)
    rows, figures = [], []
    for n, place in itertools.product(range(repetitions), range(settings)):
        beaten = place >= settings - 2
        time_ms, joules = (20.0 + place, 1.0 + place) if beaten else (2.0 + 1.2 * place, 0.9 * 0.85**place)
        run = f"{place}-{n}"
        rows.append(run_row(run, n, len(rows), {"clock": 100 * place}))
        if place == 3 and n == 0:
            continue  # the meter had nothing for it
        for metric, value, unit in (
            ("total_ns", time_ms * 1e6, "ns"),
            ("energy_per_inference_j", joules, "J"),
            ("energy_net_per_inference_j", 0.7 * joules, "J"),
            ("energy_j", 30 * joules, "J"),
            ("energy_error_j", 1.5 * joules, "J"),
            ("power_mean_w", 1e3 * joules / time_ms, "W"),
            ("power_idle_w", 1.25, "W"),
        ):
            program = "measure" if metric == "total_ns" else "energy"
            noise = float(rng.lognormal(0, 0.003)) if metric in {"total_ns", "energy_per_inference_j"} else 1.0
            figures.append({"run_id": run, "program": program, "metric": metric, "value": value * noise, "unit": unit})
    of = {"name": "e", "question": "?", "factors": {"clock": [100 * n for n in range(settings)]}}
    told = {"meter": "battery", "scope": "whole device", "understood_as": "current is positive while charging"}
    info = {"simulated": True, "programs": {"energy": told}}
    return FrameResults(Experiment.model_validate(of), pd.DataFrame(rows), pd.DataFrame(figures), info=info)


def stopped() -> str:
    checks = [FAST, {**SLOWER, "bound": "< 5 %"}]
    found = [adaptive(times, checks=checks) for times in (1.3, 1.052)]
    return "".join(goldens.findings(sequential.analyse(one)) for one in found)


def sought() -> str:
    kept = {"neighbour_ns": "< 10 ms", "energy_mj": "> 10 mJ"}
    both = searched(SMALL, scatter=0.3, minimise=["total_ns", "energy_mj"], constraints=kept)
    return goldens.findings((*searching.analyse(searched(SMALL)), *searching.analyse(both)))


SAID: dict[str, Callable[[], str]] = {
    "energy": lambda: goldens.findings((*energy.analyse(metered()), energy.fastest_is_cheapest(metered()))),
    "energy-figures": lambda: goldens.figures(energy.figures(metered())),
    "searching": sought,
    "sequential": stopped,
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_said_and_drawn_of_settings_is_what_was_read(name: str, request: pytest.FixtureRequest) -> None:
    goldens.same(name, SAID[name](), write=request.config.option.write_goldens)


@pytest.mark.parametrize(("settings", "listed"), [(14, 12), (15, 13), (16, 13)])
def test_a_front_lists_a_dozen_settings_and_counts_the_others(settings: int, listed: int) -> None:
    _, front = energy.analyse(metered(settings))
    assert f"{settings - 2} of {settings} settings" in front.claim
    *shown, last = front.reasons
    assert len(shown) == listed
    assert last.startswith("medians")
    assert shown[-1].startswith(f"and {settings - 2 - 12} more") is (settings > 14)


@pytest.mark.parametrize(
    ("least", "most", "scale"),
    [(1.0, 8.0, "linear"), (1.0, 8.001, "log"), (0.0, 9.0, "linear"), (-1.0, 9.0, "linear"), (1e-9, 9.0, "log")],
)
def test_a_scale_is_logarithmic_beyond_eight_times_the_least(least: float, most: float, scale: str) -> None:
    """An energy may come out as nothing or less, which has no logarithm."""
    names = ("time_ms", "time_low_ms", "time_high_ms", "energy_j", "energy_low_j", "energy_high_j")
    for wide in (False, True):
        times = (max(least, 0.5), 8.001 * max(least, 0.5)) if wide else (1.0, 8.0)
        rows = [dict(zip(names, [t] * 3 + [e] * 3, strict=True)) for t, e in zip(times, (least, most), strict=True)]
        figure = MplFigure()
        energy._draw(figure, pd.DataFrame(rows).assign(front=[True, False], label=["a", "b"]))
        (axes,) = figure.axes
        assert (axes.get_xscale(), axes.get_yscale()) == ("log" if wide else "linear", scale)


# --- the tracer's cost ---------------------------------------------------------------------------------------------

TRACED, HOT = Flag(code="traced", detail="x"), Flag(code="hot", detail="y")


def traced(figure: str = "total_ns", *, when: str = "always", mark: bool = True) -> FrameResults:
    """Cells a and b in 1 ms and 4 ms, 10 and 30 % more with the tracer; a hot run that took for ever."""
    rows, figures = [], []
    for cell, base, slow in (("a", 1e6, 1.1), ("b", 4e6, 1.3)):
        last = (TRACED,) if mark else ()
        for n, (times, flags) in enumerate(((1.0, ()), (1.0, ()), (1.02, ()), (99.0, (HOT,)), (slow, last))):
            rows.append({**run_row(f"{cell}{n}", n, len(rows), {"k": cell}, flags), "cell_id": cell})
            for metric in (figure, "wall_ns"):
                value = base * times * (1 if metric == figure else 7)
                figures.append({"run_id": f"{cell}{n}", "program": "m", "metric": metric, "value": value, "unit": "ns"})
    of = Experiment.model_validate({"name": "t", "question": "?"}).model_copy(update={"trace": Tracing(when=when)})
    return FrameResults(of, pd.DataFrame(rows), pd.DataFrame(figures))


@pytest.mark.parametrize("figure", ["total_ns", "total_profiled_ns", "response_p50_ns", "wall_ns"])
def test_the_tracers_cost_is_what_traced_runs_take_more_than_the_valid_ones_of_their_cell(figure: str) -> None:
    (found,) = tracing.analyse(traced(figure))
    assert found.estimate == pytest.approx(20)
    assert (found.unit, found.n, found.verdict) == ("%", 2, "info")
    assert found.reasons == (f"{figure} of 2 traced runs over the median of their cells without the tracer",)


def test_without_traced_runs_or_their_figures_the_reason_is_said() -> None:
    assert tracing.analyse(traced(mark=False))[0].reasons == ("none was traced",)
    flagged = tracing.analyse(traced(mark=False, when="flagged"))
    assert flagged[0].reasons == ("no run was flagged, so none was traced",)
    results = traced()
    none = FrameResults(results.experiment, results.run_rows, results.metric_rows[:0])
    assert tracing.analyse(none)[0].reasons == ("2 runs were traced; no figure of theirs can be compared",)
    untraced = results.experiment.model_copy(update={"trace": None})
    assert tracing.analyse(FrameResults(untraced, results.run_rows, results.metric_rows)) == ()
