"""K as a contract: which K keeps the foreground's bound, judged by repetitions that it was not chosen from."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from devicelab.analyses import contract
from devicelab.model.experiment import Experiment
from tests.klodata import FrameResults, run_row

KS = (1, 4, 48)


def _campaign(
    p95_ms: dict[int, float], total_ms: dict[int, float], *, within_ms: float | None = 8, repetitions: int = 8
) -> FrameResults:
    rng = np.random.default_rng(3)
    runs: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    for repetition in range(repetitions):
        for k in KS:
            name = f"run{len(runs)}"
            runs.append(run_row(name, repetition, len(runs), {"k": k}))
            figures = {"foreground_p95_ns": p95_ms[k] * 1e6, "total_ns": total_ms[k] * 1e6}
            metrics += [
                {
                    "run_id": name,
                    "program": "measure",
                    "metric": figure,
                    "value": value * rng.lognormal(0, 0.03),
                    "unit": "ns",
                }
                for figure, value in figures.items()
            ]
    params = {} if within_ms is None else {"foreground_within_ms": within_ms}
    told = {"name": "c", "question": "?", "factors": {"k": KS}, "measure": {"workload": "klo", "params": params}}
    return FrameResults(Experiment.model_validate(told), pd.DataFrame(runs), pd.DataFrame(metrics))


def test_the_fastest_k_that_keeps_the_bound_is_named_with_what_it_costs() -> None:
    got = contract.answer(_campaign({1: 3, 4: 5, 48: 12}, {1: 11.5, 4: 10.5, 48: 10}))
    assert got.verdict == "yes"
    assert got.quantity == "k_contract"
    assert got.estimate == pytest.approx(5, rel=0.05)
    assert "K = 4" in got.reasons[0]
    assert "K = 48 is the fastest of all; keeping the bound costs" in got.reasons[1]


def test_where_no_k_keeps_it_the_answer_is_no_and_near_it_open() -> None:
    got = contract.answer(_campaign({1: 9, 4: 10, 48: 12}, {1: 11, 4: 10, 48: 10}))
    assert (got.verdict, "no K does" in got.reasons[0]) == ("no", True)
    assert contract.answer(_campaign({1: 8, 4: 8, 48: 8}, {1: 11, 4: 10, 48: 10})).verdict == "inconclusive"


def test_few_repetitions_carry_no_verdict_and_no_bound_no_answer() -> None:
    few = _campaign({1: 3, 4: 5, 48: 12}, {1: 11, 4: 10, 48: 10}, repetitions=4)
    assert contract.answer(few).verdict == "insufficient n"
    unbound = _campaign({1: 3, 4: 5, 48: 12}, {1: 11, 4: 10, 48: 10}, within_ms=None)
    assert contract.answer(unbound).verdict == "insufficient n"
    decides = next(one for one in contract.analyse(unbound) if one.claim.startswith("Does K decide"))
    assert (decides.verdict, decides.estimate) == ("yes", pytest.approx(4, rel=0.05))
