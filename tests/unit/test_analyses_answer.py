"""Every experiment that comes with devicelab is answered by exactly one finding; planted truth is answered right."""

import json
import sqlite3
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devicelab.analyses import answer
from devicelab.analyses.klo.model import LaunchCosts
from devicelab.errors import ConfigError
from devicelab.experiment import files
from devicelab.model.experiment import Check, Experiment, Finding
from devicelab.model.journal import Flag
from devicelab.report.build import conclude
from devicelab.report.summary import markdown
from devicelab.store import Store
from tests.klodata import Board, FrameResults, Levels, Truth, campaign
from tests.labdata import begin
from tests.tenantdata import campaign as tenants_campaign

TRUTH = Truth(np.full(8, 20_000.0), np.full(8, 14_000.0), LaunchCosts(4_000.0, 30_000.0, 15_000.0))
BY_LOAD = {"quantity": "t_prod_mean_ns", "by": "load", "against": {"load": "none"}}
LOADED = "1000 5000 20"


def loaded(times: float) -> Board:
    return Board(slower=lambda levels: times if levels.get("load", "none") != "none" else 1.0)


def few_levels(experiment: Experiment) -> dict[str, tuple[Any, ...]]:
    """Two levels of each factor at most, the one the answer compares with among them."""
    base = experiment.answer.against if experiment.answer is not None else {}
    chosen = {}
    for name, levels in experiment.factors.items():
        kept = [level for level in levels if level == base.get(name)]
        chosen[name] = tuple(kept + [level for level in levels if level not in kept][: 2 - len(kept)])
    return chosen


@cache
def planted(name: str) -> FrameResults:
    """A campaign in which the load, the slowest clock and sharing double every time."""
    experiment = files.load(name)
    if experiment.tenants:

        def response(scheduler: str, _: str, rng: np.random.Generator, n: int) -> np.ndarray:
            return rng.normal(10.0 if scheduler == "native" else 5.0, 0.1, n)

        return tenants_campaign(experiment.model_copy(update={"repetitions": 6}), response, requests=50)

    def slower(levels: Levels) -> float:
        busy, slow = levels.get("load", "none") != "none", levels.get("cpu") not in {None, "max"}
        return (2.0 if busy else 1.0) * (2.0 if slow else 1.0)

    board = Board(slower=slower, gpu_slower=lambda levels: 2.0 if levels.get("gpu") == "min" else 1.0)
    made = campaign(TRUTH, few_levels(experiment), board=board, repetitions=experiment.repetitions, inferences=2)
    return FrameResults(experiment, made.run_rows, made.metric_rows, made.sample_tables, made.info, made.records)


@pytest.mark.parametrize("name", files.known())
def test_a_shipped_experiment_asks_a_question_and_one_finding_is_the_answer(name: str) -> None:
    experiment = files.load(name)
    assert experiment.question.endswith("?")
    found = conclude(planted(name))
    answers = [one for one in found if one.answer]
    assert len(answers) == 1
    assert found[0] is answers[0]
    assert answers[0].quantity
    assert answers[0].reasons
    assert answers[0].verdict not in {"info", "invalid"}


@pytest.mark.parametrize("name", ["quick", "klo_under_load", "t_prod_under_load", "klo_full_night"])
def test_whether_load_changes_t_prod_is_answered_by_the_ratio_at_the_same_k(name: str) -> None:
    experiment = files.load(name)
    (found,) = answer.analyse(planted(name))
    assert found.verdict == "yes"
    assert found.low is not None
    assert found.high is not None
    assert found.low < 2.0 < found.high
    assert found.unit == "times that when idle"
    assert found.n == experiment.repetitions
    assert any("K = 1: 2." in reason or "K = 1: 1.9" in reason for reason in found.reasons)


@pytest.mark.parametrize("name", files.known())
def test_a_campaign_without_a_valid_run_has_an_answer_that_says_so(name: str) -> None:
    results = planted(name)
    flags = [(Flag(code="load-died", detail="pid 8"),)] * len(results.run_rows)
    rows = results.run_rows.assign(valid=False, flags=flags)
    none = FrameResults(results.experiment, rows, results.metric_rows, results.sample_tables, results.info)
    (found,) = [one for one in conclude(none) if one.answer]
    assert found.verdict in {"insufficient n", "invalid", "cannot tell here"}, "open, with its reason"


def of(results: FrameResults, **fields: Any) -> Finding:
    experiment = results.experiment.model_copy(
        update={"answer": Experiment.model_validate({"question": "?", "answer": fields or BY_LOAD}).answer}
    )
    (found,) = answer.analyse(
        FrameResults(
            experiment, results.run_rows, results.metric_rows, results.sample_tables, results.info, results.records
        )
    )
    return found


FACTORS = {"load": ("none", LOADED), "placement": ("one-per-core",), "k": (1, 4)}


def test_no_change_is_an_answer_and_too_few_repetitions_are_none() -> None:
    assert of(campaign(TRUTH, FACTORS, repetitions=8)).verdict == "no"
    few = of(campaign(TRUTH, FACTORS, board=loaded(3.0), repetitions=5))
    assert few.verdict == "insufficient n"
    assert few.low is None


def test_a_load_that_interrupts_now_and_then_changes_t_prod_though_no_median_shows_it() -> None:
    results = campaign(TRUTH, FACTORS, repetitions=8, inferences=4)
    busy = set(results.run_rows.loc[results.run_rows["load"] != "none", "run_id"])
    mean = results.metric_rows["metric"].eq("t_prod_mean_ns") & results.metric_rows["run_id"].isin(busy)
    results.metric_rows.loc[mean, "value"] *= 1.8
    found = of(results)
    assert found.verdict == "yes"
    assert found.estimate == pytest.approx(1.8, rel=0.03)
    assert found.claim == "Does the load change T_prod?"


def test_a_change_at_one_k_alone_is_not_averaged_into_a_no() -> None:
    """Half as long at one K and twice as long at the other is no change in the mean."""

    def opposite(levels: Levels) -> float:
        return {1: 0.5, 4: 2.0}[levels["k"]] if levels["load"] != "none" else 1.0

    found = of(campaign(TRUTH, FACTORS, board=Board(slower=opposite), repetitions=8))
    assert found.estimate == pytest.approx(1.0, abs=0.02)
    assert found.verdict == "inconclusive"
    assert any("K = 1" in reason and "not in the mean" in reason for reason in found.reasons)


def test_a_lost_run_does_not_move_the_ratio_to_that_of_the_other_cells() -> None:
    """T_prod trebles at K = 1 alone; a repetition that lost its loaded run there counts that cell all the same."""

    def first(levels: Levels) -> float:
        return 3.0 if levels["load"] != "none" and levels["k"] == 1 else 1.0

    def lost(levels: Levels, repetition: int) -> tuple[Flag, ...]:
        died = levels["load"] != "none" and levels["k"] == 1 and repetition in {2, 5}
        return (Flag(code="load-died", detail="pid 8"),) if died else ()

    got = of(campaign(TRUTH, FACTORS, board=Board(slower=first, flags=lost), repetitions=8))
    assert got.estimate == pytest.approx(3.0**0.5, rel=0.02)
    assert got.low is not None
    assert got.low > 1.6


def test_the_strongest_of_many_loads_needs_repetitions_for_all_of_them() -> None:
    """Seven comparisons at once: no interval of six repetitions covers all of them."""
    factors = {"load": ("none", *(f"{n} 1000 20" for n in range(1, 8))), "k": (4,)}
    got = of(campaign(TRUTH, factors, repetitions=6, inferences=2, board=loaded(2.0)))
    assert got.verdict == "insufficient n"
    assert of(campaign(TRUTH, factors, repetitions=10, inferences=2, board=loaded(2.0))).verdict == "yes"


def test_a_percentage_is_compared_in_points() -> None:
    results = campaign(TRUTH, {"load": ("none", LOADED)}, repetitions=8, inferences=2)
    found = of(results, quantity="cpu_use_pct", by="load", against={"load": "none"})
    assert found.verdict == "yes"
    assert found.estimate == pytest.approx(38, abs=3)
    assert found.unit == "points"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{ quantity = "t_prod_median_ns", by = "load" }', "against"),
        ('{ quantity = "total_ns", by = "load", against = { load = "lots" } }', "lots"),
        ('{ quantity = "total_ns", by = "loud", against = { loud = "none" } }', "loud"),
        ('{ quantity = "constant_kk" }', "constant_k"),
    ],
)
def test_an_answer_that_can_never_be_given_is_refused_when_it_is_read(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        f'question = "?"\nanswer = {line}\nanalyses = ["klo"]\n[factors]\nload = ["none", "{LOADED}"]\n'
        '[measure]\nworkload = "klo"\n'
    )
    with pytest.raises(ConfigError, match=said):
        files.load(str(file))


def test_the_answer_comes_first_then_the_experiments_own_checks() -> None:
    results = campaign(
        TRUTH,
        FACTORS,
        board=loaded(2.0),
        repetitions=6,
        inferences=2,
        answer=BY_LOAD,
        checks=(Check(name="c", metric="total_ns", bound="< 10 s"),),
        analyses=("load", "klo"),
    )
    found = conclude(results)
    assert [one.analysis for one in found[:3]] == ["answer", "checks", "load"]
    text = markdown(results, found)
    assert text.index("| **answer: yes**") < text.index("| **pass**")


def test_the_store_keeps_which_finding_is_the_answer_and_older_databases_open(tmp_path: Path) -> None:
    place = tmp_path / "runs.db"
    found = Finding(analysis="answer", claim="?", verdict="yes", answer=True, quantity="k", comparison="a / b")
    other = Finding(analysis="klo", claim="?", verdict="info")
    with Store.open(place) as store:
        name = begin(store, files.load("quick"))
        store.add_findings(name, [found, other])
        assert store.findings(name) == (found, other)
    with sqlite3.connect(place) as database:
        for column in ("answer", "interval", "quantity", "comparison"):
            database.execute(f"ALTER TABLE findings DROP COLUMN {column}")
        database.execute("UPDATE alembic_version SET version_num = '0002'")
        data = json.loads(database.execute("SELECT experiment_json FROM campaigns").fetchone()[0])
        del data["answer"]
        database.execute("UPDATE campaigns SET experiment_json = ?", (json.dumps(data),))
    with Store.open(place) as store:
        assert [one.answer for one in store.findings(name)] == [False, False]
        assert store.experiment(name).answer is None
