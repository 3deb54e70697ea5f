"""The search for a pressure that discriminates: rungs, the second look, and an end that says so."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from devicelab.errors import ConfigError
from devicelab.jobs import press
from devicelab.model.experiment import Experiment
from tests.klodata import FrameResults
from tests.tenantdata import campaign, experiment

LADDER = ("copies:2", "copies:4", "copies:8")


def base() -> Experiment:
    return experiment(factors={"scheduler": ("native",), "pressure": ("copies:1",)})


def measured(of: Experiment, hurt: Mapping[tuple[str, bool], float], number: int) -> FrameResults:
    """A round in which native sharing slows the important tenant by what (pressure, second look) says."""
    fresh = of.seed != base().seed
    parts = []
    for pressure in of.factors["pressure"]:
        slow = hurt.get((str(pressure), fresh), hurt.get((str(pressure), False), 1.0))

        def response(scheduler: str, tenant: str, rng: np.random.Generator, n: int, slow: float = slow) -> np.ndarray:
            return (slow if scheduler == "native" and tenant == "high" else 1.0) * rng.normal(5, 0.05, n)

        one = of.model_copy(update={"factors": {**of.factors, "pressure": (pressure,)}})
        parts.append(campaign(one, response, requests=100, seed=number))
    first = parts[0]
    runs = pd.concat([one.run_rows for one in parts], ignore_index=True)
    keep = ~runs["run_id"].duplicated()  # a tenant that nobody presses ran alone once for all of them
    metrics = pd.concat([one.metric_rows for one in parts], ignore_index=True)
    requests = pd.concat([one.sample_tables["requests"] for one in parts], ignore_index=True)
    first.experiment, first.run_rows = of, runs[keep].reset_index(drop=True)
    first.metric_rows = metrics.drop_duplicates(["run_id", "program", "metric"], ignore_index=True)
    first.sample_tables["requests"] = requests.drop_duplicates(["run_id", "program", "scheduled_ns"], ignore_index=True)
    first.campaign = f"20261130-10000{number}-abcdef"
    return first


def climb(hurt: Mapping[tuple[str, bool], float], *, at_once: bool = False) -> tuple[press.Step, list[FrameResults]]:
    rounds: list[FrameResults] = []
    while True:
        step = press.next_step(base(), LADDER, rounds, at_once=at_once)
        if step.experiment is None:
            return step, rounds
        rounds.append(measured(step.experiment, hurt, len(rounds)))


@pytest.mark.parametrize("at_once", [False, True])
def test_the_first_pressure_that_hurts_is_found_and_looked_at_once_more(at_once: bool) -> None:
    step, rounds = climb({("copies:4", False): 1.6, ("copies:8", False): 4.0}, at_once=at_once)
    assert step.found == "copies:4"
    assert "P50 1.60 [" in step.why
    assert len(rounds) == (2 if at_once else 3)
    assert rounds[-1].experiment.seed != rounds[0].experiment.seed
    assert step.rungs[-1].fresh


def test_a_rung_that_hurt_by_chance_is_refuted_and_the_climb_goes_on() -> None:
    step, _ = climb({("copies:2", False): 1.5, ("copies:2", True): 1.0, ("copies:8", False): 2.0})
    assert step.found == "copies:8"


def test_where_nothing_hurts_the_question_cannot_be_answered_and_that_is_said() -> None:
    step, rounds = climb({})
    assert step.found == ""
    assert "no scheduler can be judged here" in step.why
    assert [one.experiment.factors["pressure"] for one in rounds] == [(one,) for one in LADDER]
    assert [row[-1] for row in press.rows(step)] == [""] * 3


def test_a_campaign_of_something_else_is_no_rung() -> None:
    other = campaign(experiment(), lambda _s, _t, rng, n: rng.normal(5, 0.1, n))
    with pytest.raises(ConfigError, match="no round of this climb"):
        press.next_step(base(), LADDER, (other,))
