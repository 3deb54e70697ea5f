"""A KLO campaign arranged by condition, at the borders: odd levels of K, schedules that cannot be, few K."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from devicelab.analyses import klo
from devicelab.analyses.klo import data as klo_data
from devicelab.analyses.klo.checklist import k_ratio
from devicelab.analyses.klo.condition import Condition
from devicelab.analyses.klo.model import LaunchCosts
from devicelab.model.experiment import Experiment
from tests.klodata import FrameResults, Truth, campaign, run_row

TRUTH = Truth(np.full(12, 2_000.0), np.full(12, 9_000.0), LaunchCosts(1_000.0, 20_000.0, 9_000.0))


def arranged(rows: list[dict[str, Any]], totals: list[float], params: dict[str, Any], kernels: Any = None) -> Condition:
    """One condition of runs with these levels and total times, of a program that says how many kernels it has."""
    runs = [run_row(f"r{n}", row.pop("repetition", n), n, row) for n, row in enumerate(rows)]
    figures = [
        {"run_id": f"r{n}", "program": "measure", "metric": "total_ns", "value": value, "unit": "ns"}
        for n, value in enumerate(totals)
    ]
    of = Experiment.model_validate({"name": "e", "question": "?", "measure": {"workload": "klo", "params": params}})
    info = {"programs": {"measure": {} if kernels is None else {"kernels": kernels}}}
    (condition,) = klo_data.load(FrameResults(of, pd.DataFrame(runs), pd.DataFrame(figures), info=info)).conditions
    return condition


@pytest.mark.parametrize(
    ("k", "n", "flushed"),
    [(1, 12, 1), (11, 12, 11), (12, 12, 12), (13, 12, 12), (0, 12, 12), (-3, 12, 12), (0, None, 0), (13, None, 13)],
)
def test_k_of_all_kernels_or_more_or_none_is_one_flush(k: int, n: int | None, flushed: int) -> None:
    condition = arranged([{"k": k}], [5.0], {}, n)
    assert condition.runs["k_flushed"].tolist() == [flushed]
    assert condition.ks == ((flushed,) if flushed else ())
    assert condition.beyond == ((k,) if n and k > n else ())
    assert condition.n_kernels == n


@pytest.mark.parametrize(("said", "known"), [(1, 1), (0, None), (-2, None), ("12", None), (None, None)])
def test_a_program_says_how_many_kernels_it_has_with_a_whole_number(said: Any, known: int | None) -> None:
    assert arranged([{"k": 0}], [5.0], {}, said).n_kernels == known


def test_without_levels_the_measurements_own_settings_hold() -> None:
    plain = arranged([{}, {}], [5.0, 6.0], {"k": 4}, 12)
    assert plain.curve[4].tolist() == [5, 6]
    assert plain.policies == {}
    planned = arranged([{}, {}], [5.0, 6.0], {"policy": "static", "k": 4}, 12)
    assert planned.curve.empty
    assert planned.policies["static"].tolist() == [5, 6]


def test_of_two_runs_of_one_repetition_the_first_counts_and_times_of_nothing_do_not() -> None:
    rows = [{"k": 4, "policy": policy, "repetition": n} for policy in ("constant", "dynamic") for n in (0, 0, 1, 2)]
    condition = arranged(rows, [5.0, 6.0, 0.0, 1e-3] * 2, {}, 12)
    assert condition.curve[4].to_dict() == {0: 5, 2: 1e-3}
    assert condition.policies["dynamic"].to_dict() == {0: 5, 2: 1e-3}


@pytest.mark.parametrize(
    ("schedule", "lengths"),
    [
        ("3 4 5", (3, 4, 5)),
        ("3,4, 5", (3, 4, 5)),
        ([3, 9], (3, 9)),
        ("1", (1,)),
        ("0 12", None),
        ("12 0", None),
        ("3 -4 13", None),
        ("3 x", None),
        ("3 4.0", None),
        ("", None),
        (None, None),
    ],
)
def test_a_schedule_is_read_whole_or_not_at_all(schedule: Any, lengths: tuple[int, ...] | None) -> None:
    runs = pd.DataFrame([{"run_id": "a", "policy": "static"}, {"run_id": "b", "policy": "constant"}])
    runs["schedule"] = [schedule, "5 7"]
    found = klo_data._schedules(runs, campaign(TRUTH, {"k": (1,)}, repetitions=1, inferences=1))
    assert found == ({} if lengths is None else {"a": lengths})


def test_a_schedule_that_is_no_factor_is_the_measurements_own() -> None:
    of = {"name": "e", "question": "?", "measure": {"workload": "klo", "params": {"schedule": "6 6"}}}
    results = FrameResults(Experiment.model_validate(of), pd.DataFrame(), pd.DataFrame())
    runs = pd.DataFrame([{"run_id": "a", "policy": "static"}])
    assert klo_data._schedules(runs, results) == {"a": (6, 6)}


@pytest.mark.parametrize(
    ("ks", "compared", "overheads"),
    [((4,), [], []), ((2, 4), ["the"], [4]), ((1, 4), ["K", "the"], [1, 4]), ((1, 2, 4), ["K", "the"], [1, 4])],
)
def test_two_k_are_enough_to_ask_whether_the_best_is_faster(
    ks: tuple[int, ...], compared: list[str], overheads: list[int]
) -> None:
    """Than K = 1, if that was run, and than the framework's default; of both the launch overhead is said."""
    claims = [one.claim for one in klo.analyse(campaign(TRUTH, {"k": ks}, repetitions=6, inferences=2))]
    asked = "Is the measured best K faster than "
    assert [claim.removeprefix(asked).split()[0] for claim in claims if claim.startswith(asked)] == compared
    assert [claim for claim in claims if "overhead" in claim] == [
        f"Launch overhead at K = {k} (all runs)" for k in overheads
    ]


def condition(constant: int | None, k_set: tuple[int, ...], repetitions: int = 8) -> Any:
    return SimpleNamespace(constant_k=constant, k_set=k_set, curve=range(repetitions))


def test_the_ratio_of_two_k_has_the_widest_bounds_of_those_that_may_be_the_best() -> None:
    got = k_ratio(condition(4, (2, 4, 8)), condition(16, (12, 16, 24), 6))
    assert (got.estimate, got.low, got.high, got.n) == (4, 12 / 8, 24 / 2, 6)
    same = k_ratio(condition(4, (4,)), condition(4, (4,)))
    assert (same.estimate, same.low, same.high, same.n) == (1, 1, 1, 8)


@pytest.mark.parametrize(("before", "after"), [((), (4,)), ((4,), ()), ((), ())])
def test_a_k_without_a_set_of_those_that_may_be_the_best_has_no_bounds(
    before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    got = k_ratio(condition(4, before, 3), condition(8, after, 2))
    assert (got.estimate, got.low, got.high, got.n) == (2, None, None, 2)
    assert math.isnan(k_ratio(condition(None, before), condition(8, after)).estimate)
    assert math.isnan(k_ratio(condition(4, before), condition(None, after)).estimate)
