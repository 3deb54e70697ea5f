"""Searches on planted truth: the optimum, what it takes on fresh runs, constraints, two aims."""

import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from devicelab.analyses import searching
from devicelab.analyses.klo.model import LaunchCosts, constant_curve
from devicelab.errors import ConfigError
from devicelab.experiment import plan, racing
from devicelab.experiment.blocks import Block, End
from devicelab.model.experiment import Experiment, Finding
from devicelab.report.build import conclude
from tests.klodata import FrameResults, Truth, campaign, run_row

Figures = Callable[[dict[str, Any]], dict[str, float]]
MEASURED = {"workload": "klo", "params": {"backend": "emulated"}}
SMALL = {"k": [1, 2, 4, 8, 16], "load": ["none"]}
LARGE = {"k": [1, 2, 4, 8, 16, 32], "warmup": [1, 2, 3, 4, 5], "inferences": [1, 2, 3], "plain": [1, 2, 3]}


def of(levels: dict[str, Any]) -> dict[str, float]:
    """Best at k = 8, warmup = 4, inferences = 2, plain = 3."""
    slow = 0.05 * (math.log2(levels["k"]) - 3) ** 2 + 0.04 * abs(levels.get("warmup", 4) - 4)
    slow += 0.06 * (levels.get("inferences", 2) != 2) + 0.03 * (3 - levels.get("plain", 3))
    return {"total_ns": 1e7 * math.exp(slow), "neighbour_ns": 1e6 * levels["k"], "energy_mj": 50.0 / levels["k"]}


def searched(factors: dict[str, Any], truth: Figures = of, *, scatter: float = 0.01, **search: Any) -> FrameResults:
    """Everything that a search asks for, performed."""
    rule = {"minimise": "total_ns", **search}
    experiment = Experiment.model_validate(
        {"name": "s", "question": "?", "factors": factors, "measure": MEASURED, "search": rule, "analyses": []}
    )
    cells = {cell.cell_id: cell for cell in plan.cells(experiment)}
    levels = {cell: one.levels for cell, one in cells.items()}
    rng = np.random.default_rng(1)
    rows: list[dict[str, Any]] = []
    figures: list[dict[str, Any]] = []
    units = {"energy_mj": "mJ"}
    while True:
        results = FrameResults(experiment, _runs(rows), _metrics(figures), info={"simulated": False})
        step = searching.ask(results, levels)
        if isinstance(step, End):
            results.info["ended"] = step
            return results
        for n, cell in itertools.product(step.repetitions, step.cells):
            run = f"{cell}-{n}"
            rows.append({**run_row(run, n, len(rows), dict(levels[cell])), "cell_id": cell})
            noise = math.exp(0.05 * np.random.default_rng([3, n]).normal() + scatter * rng.normal())
            figures += [
                {"run_id": run, "program": "measure", "metric": name, "value": x * noise, "unit": units.get(name, "ns")}
                for name, x in truth(dict(levels[cell])).items()
            ]


def _runs(rows: list[dict[str, Any]]) -> pd.DataFrame:
    names = ("run_id", "cell_id", "cell", "repetition", "valid")
    return pd.DataFrame(rows) if rows else pd.DataFrame({name: [] for name in names})


def _metrics(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return (
        pd.DataFrame(rows) if rows else pd.DataFrame({n: [] for n in ("run_id", "program", "metric", "value", "unit")})
    )


def first(results: FrameResults) -> Finding:
    return conclude(results)[0]


def test_a_small_grid_is_tried_whole_and_its_best_is_measured_afresh() -> None:
    results = searched(SMALL)
    found = first(results)
    assert found.claim == "Best setting for total_ns: k = 8"
    assert (found.answer, found.n, found.interval) == (True, 6, "anytime")
    assert found.low < 1e7 * math.exp(0.02) and found.high > 1e7 * math.exp(-0.02)  # type: ignore[operator]  # noqa: PT018
    fresh = results.run_rows[results.run_rows["repetition"] >= racing.FRESH]
    assert set(fresh["k"]) == {8}
    assert len(fresh) == found.n


def test_a_large_grid_is_searched_with_a_fifth_of_its_runs() -> None:
    results = searched(LARGE)
    grid = len(plan.cells(results.experiment))
    assert grid == 270
    assert len(results.run_rows) < grid * 6 / 5
    best = results.run_rows[results.run_rows["repetition"] >= racing.FRESH].iloc[0]
    assert of(dict(best))["total_ns"] <= 1e7 * 1.03


def test_a_setting_that_breaks_a_constraint_is_not_the_best() -> None:
    results = searched(SMALL, constraints={"neighbour_ns": "< 6 ms"})
    found = [one for one in conclude(results) if one.analysis == "searching"]
    assert found[0].claim == "Best setting for total_ns: k = 4"
    assert (found[1].claim, found[1].verdict) == ("The best setting keeps neighbour_ns < 6 ms", "pass")
    assert found[0].reasons[0].startswith("5 of 5 settings were tried, 3 of them keep the constraints, in ")
    assert results.info["ended"].reason.endswith("; 5 were tried")
    none = searched(SMALL, constraints={"neighbour_ns": "< 1 us"})
    assert none.info["ended"].why == "cannot be judged"
    assert "constraints" in first(none).reasons[0]


def test_two_aims_have_a_front() -> None:
    results = searched(SMALL, minimise=["total_ns", "energy_mj"])
    (front,) = [one for one in conclude(results) if one.claim.startswith("Pareto front")]
    assert front.claim.endswith("2 of 5 settings that were tried")
    assert [reason.split(":")[0] for reason in front.reasons[:2]] == ["k = 8", "k = 16"]


def test_a_front_holds_what_keeps_the_constraints() -> None:
    results = searched(SMALL, minimise=["total_ns", "energy_mj"], constraints={"neighbour_ns": "< 10 ms"})
    (front,) = [one for one in conclude(results) if one.claim.startswith("Pareto front")]
    assert front.claim.endswith("1 of 4 settings that were tried and keep the constraints")
    assert [reason.split(":")[0] for reason in front.reasons[:1]] == ["k = 8"]


def test_a_figure_that_no_run_has_is_a_mistake_of_the_experiment() -> None:
    with pytest.raises(ConfigError, match="no_such"):
        searched(SMALL, minimise="no_such")


def test_a_search_that_was_ended_early_goes_on_with_the_block_it_was_in() -> None:
    results = searched(SMALL)
    levels = {cell.cell_id: cell.levels for cell in plan.cells(results.experiment)}
    rows = results.run_rows
    for kept in (3, len(rows) // 2, len(rows) - 2):
        part = FrameResults(results.experiment, rows.iloc[:kept], results.metric_rows, info=results.info)
        step = searching.ask(part, levels)
        assert isinstance(step, Block)
        asked = {(cell, n) for cell in step.cells for n in step.repetitions}
        assert (rows.iloc[kept]["cell_id"], rows.iloc[kept]["repetition"]) in asked
        assert asked <= set(zip(rows["cell_id"], rows["repetition"], strict=True))


def test_everything_in_one_flush_lies_beyond_every_k() -> None:
    """A K of 0 flushes once: it sorts last, and is the last of the three that are run before the model is asked."""
    order = [1, 2, 40, 10**6, 0]
    assert sorted([0, 10**6, 2, 40, 1], key=searching._k_of) == order
    factors = {"k": [0, 2, 8, 4, 1, 16]}
    experiment = Experiment.model_validate(
        {"name": "s", "question": "?", "factors": factors, "measure": MEASURED, "search": {"minimise": "total_ns"}}
    )
    levels = {cell.cell_id: cell.levels for cell in plan.cells(experiment)}
    step = searching.ask(FrameResults(experiment, _runs([]), _metrics([])), levels)
    assert isinstance(step, Block)
    assert {levels[cell]["k"] for cell in step.cells} == {1, 8, 0}


@pytest.mark.parametrize("repetition", [0, 1, racing.FRESH, 10**9])
def test_a_campaign_as_it_was_has_the_same_tables_with_fewer_rows(repetition: int) -> None:
    results = searched(SMALL)
    results.sample_tables["x"] = results.run_rows[["run_id"]].assign(program="measure", value=1)
    before = searching._Before(results, repetition)
    kept = set(results.run_rows.loc[results.run_rows["repetition"] < repetition, "run_id"])
    tables = [(results.runs(), before.runs()), (results.metrics(), before.metrics())]
    for whole, part in [*tables, (results.samples("x"), before.samples("x"))]:
        expected = whole[whole["run_id"].isin(kept)].reset_index(drop=True)
        pd.testing.assert_frame_equal(part, expected)
    assert before.evidence("x") == results.evidence("x")
    assert (before.campaign, before.experiment) == (results.campaign, results.experiment)


def test_without_a_search_nothing_is_found() -> None:
    results = searched(SMALL)
    plain = results.experiment.model_copy(update={"search": None})
    assert searching.analyse(FrameResults(plain, results.run_rows, results.metric_rows, info=results.info)) == ()


@pytest.mark.parametrize(
    ("factors", "search", "first_ones", "tried"),
    [
        ({"k": [1, 4, 16]}, {}, 3, 3),
        (SMALL, {"minimise": "energy_mj"}, 5, 5),
        (SMALL, {"minimise": "energy_mj", "exhaustive": 0}, 2, 2),
        (LARGE, {"trials": 9}, 3, 9),
        (LARGE, {}, 12, 40),
    ],
)
def test_what_a_search_will_do_is_said_before_and_kept(
    factors: dict[str, Any], search: dict[str, Any], first_ones: int, tried: int
) -> None:
    results = searched(factors, scatter=0.05, **search)
    cells = {cell.cell_id: cell.levels for cell in plan.cells(results.experiment)}
    said = searching.outlook(results.experiment, cells)
    assert (said.settings, said.first, said.tried, said.likely) == (len(cells), first_ones, tried, tried)
    rows = results.run_rows
    assert rows.loc[rows["repetition"] == 0, "cell_id"].nunique() == first_ones
    assert rows["cell_id"].nunique() <= tried
    assert len(rows) <= said.runs


def test_of_a_search_for_k_both_is_said_what_the_model_leaves_and_what_is_tried_without_it() -> None:
    results = searched(SMALL)
    cells = {cell.cell_id: cell.levels for cell in plan.cells(results.experiment)}
    said = searching.outlook(results.experiment, {**cells, **{f"c{k}": {"k": k, "load": "none"} for k in (3, 6, 12)}})
    assert (said.settings, said.first, said.likely, said.tried) == (8, 3, 6, 8)
    assert len(results.run_rows) <= searching.outlook(results.experiment, cells).runs


def test_what_a_search_needs_is_missed_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    results = searched(SMALL)
    cells = {f"c{n}": {"k": n, "plain": n % 3} for n in range(30)}
    with pytest.raises(ConfigError, match="searching 30 combinations needs Optuna"):
        searching.outlook(results.experiment, cells)


def looked(ks: int, others: int = 1, **search: Any) -> searching.Outlook:
    """What a search over so many K and levels of another factor will do."""
    of = {"name": "s", "question": "?", "measure": MEASURED, "search": {"minimise": "total_ns", **search}}
    cells = {f"c{k}-{n}": {"k": k, "plain": n} for k in range(1, ks + 1) for n in range(others)}
    return searching.outlook(Experiment.model_validate(of), cells)


@pytest.mark.parametrize(("ks", "first_ones", "likely"), [(4, 4, 4), (5, 3, 5), (6, 3, 6), (7, 3, 6), (40, 3, 6)])
def test_the_launch_model_is_asked_of_five_k_and_more(ks: int, first_ones: int, likely: int) -> None:
    said = looked(ks)
    assert (said.settings, said.first, said.tried, said.likely) == (ks, first_ones, ks, likely)


@pytest.mark.parametrize("other", [{"others": 2}, {"minimise": "energy_mj"}, {"minimise": ["energy_mj", "total_ns"]}])
def test_the_launch_model_knows_the_time_of_an_inference_by_k_alone(other: dict[str, Any]) -> None:
    said = looked(6, **other)
    assert said.first == said.likely == said.settings


@pytest.mark.parametrize(
    ("settings", "search", "tried"),
    [
        (24, {}, 24),  # all
        (25, {}, 8),  # a third
        (9, {"exhaustive": 9}, 9),
        (9, {"exhaustive": 8}, 3),
        (5, {"exhaustive": 0}, 2),  # two at least
        (120, {}, 40),
        (121, {}, 40),
        (30, {"trials": 9}, 9),
        (30, {"trials": 11}, 10),
    ],
)
def test_of_a_large_grid_a_third_is_tried_and_forty_settings_at_most(
    settings: int, search: dict[str, Any], tried: int
) -> None:
    said = looked(settings, minimise="energy_mj", **search)
    assert (said.settings, said.tried, said.likely) == (settings, tried, tried)


def test_the_launch_model_is_fitted_to_what_ran_before_and_asked_once_a_repetition() -> None:
    """Twelve kernels whose best K is 6: a search by the model tries the scouts and what is near its best."""
    truth = Truth(np.full(12, 2_000.0), np.full(12, 9_000.0), LaunchCosts(1_000.0, 20_000.0, 9_000.0))
    ks = (1, 2, 3, 4, 6, 0)
    results = campaign(truth, {"k": ks}, repetitions=3, inferences=2, measure=MEASURED, search={"minimise": "total_ns"})
    cells = {cell.cell_id: cell.levels for cell in plan.cells(results.experiment)}
    by_k = {levels["k"]: cell for cell, levels in cells.items()}
    results.run_rows["cell_id"] = results.run_rows["k"].map(by_k)
    predict = searching._k_model(results, cells)
    assert predict is not None
    totals = results.metric_rows[results.metric_rows["metric"] == "total_ns"].set_index("run_id")["value"]
    values: dict[str, dict[int, float]] = {cell: {} for cell in cells}
    for run in results.run_rows.to_dict("records"):
        values[run["cell_id"]][run["repetition"]] = totals[run["run_id"]]
    said = predict(values)
    assert said is not None
    expected = constant_curve(truth.p, truth.g, truth.costs)
    assert [said[by_k[k]] for k in ks] == pytest.approx([expected[(k or 12) - 1] for k in ks], rel=0.05)
    none = {cell: {} for cell in cells}
    assert predict(none) is None, "nothing ran, so nothing is predicted"
    assert predict(values) == said
    few = {cell: cells[cell] for cell in list(cells)[:4]}
    assert searching._k_model(results, few) is None
