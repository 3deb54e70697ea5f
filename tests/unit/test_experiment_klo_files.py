"""The experiments on kernel launch overhead that come with devicelab."""

from pathlib import Path

import pytest

from devicelab.experiment import files, plan, programs
from devicelab.ground import registry
from devicelab.model.experiment import Experiment
from devicelab.workloads import klo

NAMES = (
    "load_calibration",
    "placement",
    "t_prod_under_load",
    "k_constant",
    "k_policies",
    "lut_frequency",
    "k_cross_frequency",
    "gpu_frequency",
    "klo_full_night",
    "klo_under_load",
    "acl_under_load",
)
MOBILENET_V1_KERNELS = 29


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def experiment(name: str) -> Experiment:
    return files.load(name)


def test_an_experiment_opens_with_its_question(name: str, experiment: Experiment) -> None:
    text = (Path(registry.data_dir("experiments")) / f"{name}.toml").read_text(encoding="utf-8")
    assert text.startswith("# Question: ")
    assert experiment.question.endswith("?")


def test_its_factors_analyses_and_levels_are_known(experiment: Experiment) -> None:
    cells = plan.cells(experiment)
    assert cells
    for analysis in experiment.analyses:
        assert callable(registry.analysis(analysis).analyse)
    programs.check(experiment, cells)


def test_it_has_repetitions_enough_for_intervals(experiment: Experiment) -> None:
    assert experiment.repetitions >= 6


def test_a_schedule_or_a_planner_is_one_cell_of_a_condition(experiment: Experiment) -> None:
    if "policy" not in experiment.factors:
        return
    conditions = {
        tuple((word, level) for word, level in cell.levels.items() if word not in {"policy", "k"})
        for cell in plan.cells(experiment)
    }
    for policy in ("static", "dynamic"):
        chosen = [cell for cell in plan.cells(experiment) if cell.levels["policy"] == policy]
        assert len(chosen) == len(conditions)
        assert {cell.levels["k"] for cell in chosen} == {0}


def test_every_schedule_fits_its_network(experiment: Experiment) -> None:
    if experiment.measure is None or "schedule" not in experiment.measure.params:
        return
    params = klo.Params.model_validate(experiment.measure.params)
    assert params.network == "mobilenet_v1"
    assert sum(params.schedule) == MOBILENET_V1_KERNELS


def test_the_night_varies_clocks_one_at_a_time_and_holds_every_placement() -> None:
    cells = plan.cells(files.load("klo_full_night"))
    levels = [cell.levels for cell in cells]
    assert 150 < len(cells) < 250
    assert not any(one["cpu"] == "honest-min" and one["gpu"] == "min" for one in levels)
    assert all(one["load"] == "none" for one in levels if one["gpu"] == "min")
    placements = {one["placement"] for one in levels if one["load"] == "1000 5000 20" and one["cpu"] == "max"}
    assert placements == {"free", "one-per-core", "one-big", "two-per-core", "n:4"}
