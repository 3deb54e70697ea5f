"""Somebody else's program under several K: answers on campaigns of known truth."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from devicelab.analyses import opencl_app
from devicelab.analyses.klo.model import LaunchCosts, best_constant
from devicelab.model.experiment import Finding
from devicelab.model.journal import Flag
from tests.klodata import Board, FrameResults, Truth, campaign

# Gaps between batches cost most: few batches are best.
MATTERS = Truth(np.full(24, 2_000.0), np.full(24, 14_000.0), LaunchCosts(1_000.0, 30_000.0, 15_000.0))
# The host is the bottleneck and a flush costs nothing.
FLAT = Truth(np.full(24, 20_000.0), np.full(24, 1_000.0), LaunchCosts(1.0, 1.0, 1.0))


def measured(truth: Truth, own_flushes: int, *, repetitions: int = 7) -> FrameResults:
    results = campaign(truth, {"k": (1, 2, 4, 8)}, repetitions=repetitions, inferences=6, noise=0.01)
    own = pd.DataFrame(
        [
            {"run_id": run, "program": "measure", "metric": "own_flushes", "value": float(own_flushes), "unit": "1"}
            for run in results.runs()["run_id"]
        ]
    )
    return dataclasses.replace(results, metric_rows=pd.concat([results.metric_rows, own], ignore_index=True))


def claims(results: FrameResults) -> dict[str, Finding]:
    return {finding.claim.removesuffix(" (all runs)"): finding for finding in opencl_app.analyse(results)}


def test_where_k_matters_the_best_one_and_its_saving_over_the_programs_own_are_told() -> None:
    found = claims(measured(MATTERS, own_flushes=24))
    assert found["Does K matter here?"].verdict == "yes"
    best = found["Best K"].estimate
    expected = best_constant(MATTERS.p, MATTERS.g, MATTERS.costs)[0]
    assert best == min((1, 2, 4, 8), key=lambda k: abs(np.log(k / expected)))
    saved = found["Would another K be faster than the program's own?"]
    assert saved.verdict == "yes"
    assert saved.estimate is not None
    assert saved.estimate < 0.9
    assert "about every 1 kernels; compared with K = 1" in saved.reasons[0]
    assert found["Kernels of an inference"].estimate == 24
    assert found["T_ker (mean of a kernel)"].estimate == pytest.approx(14_000, rel=0.05)


def test_a_program_that_has_the_best_k_already_is_told_so() -> None:
    best = claims(measured(MATTERS, own_flushes=24))["Best K"].estimate
    assert best is not None
    found = claims(measured(MATTERS, own_flushes=round(24 / best)))
    assert found["Would another K be faster than the program's own?"].verdict == "no"


def test_where_k_is_indifferent_the_answer_is_no() -> None:
    assert claims(measured(FLAT, own_flushes=0))["Does K matter here?"].verdict == "no"


def test_few_repetitions_give_no_verdict() -> None:
    found = claims(measured(MATTERS, own_flushes=24, repetitions=3))
    assert found["Does K matter here?"].verdict == "insufficient n"


def test_the_answer_is_no_only_if_every_condition_says_so() -> None:
    factors = {"cpu": ("max", "min"), "k": (1, 2, 4, 8)}
    every = campaign(FLAT, factors, repetitions=7, inferences=6, noise=0.01, run_noise=0.001)
    assert opencl_app.answer(every).verdict == "no"
    hot = Board(flags=lambda levels, n: (Flag(code="hot", detail="70 C"),) if levels["cpu"] == "min" and n > 2 else ())
    half = campaign(FLAT, factors, board=hot, repetitions=7, inferences=6, noise=0.01, run_noise=0.001)
    assert opencl_app.answer(half).verdict == "insufficient n"
