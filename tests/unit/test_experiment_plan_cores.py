"""Programs are placed on the CPUs that are online once the knob ``cores`` has acted."""

from typing import Any

import pytest
from board_trees import CPU, Texts, facts

from devicelab.errors import ConfigError
from devicelab.experiment import plan
from devicelab.model.device import Facts
from devicelab.model.experiment import Cell, Experiment, Level, Measure, Tenant
from devicelab.model.plan import Run
from devicelab.schedulers.base import Place

LOAD = "1000 5000 20"
BIG_OFFLINE: Texts = {f"{CPU}/online": "0-3\n", **{f"{CPU}/cpu{cpu}/online": "0\n" for cpu in range(4, 8)}}


def run(device: Facts, levels: dict[str, Level], **more: Any) -> Run:
    experiment = Experiment.model_validate({"name": "x", "question": "?", "hold_s": 1.0, **more})
    (made,) = plan.runs_of([Cell(levels=levels, measured="x")], range(1), experiment, Place(device), "c")
    return made


def cpus(of: Run) -> list[tuple[int, ...] | None]:
    return [program.cpus for program in of.programs]


def test_loads_go_to_the_cores_that_are_brought_online_first() -> None:
    levels: dict[str, Level] = {"cores": "all-online", "load": LOAD, "placement": "one-per-core"}
    found = run(facts("sm8150", change=BIG_OFFLINE), levels)
    assert cpus(found) == [(cpu,) for cpu in range(8)]


@pytest.mark.parametrize(
    ("placement", "spots"), [("one-per-core", [0, 1, 2, 3]), ("two-per-core", [0, 0, 1, 1, 2, 2, 3, 3])]
)
def test_no_load_goes_to_a_core_that_is_taken_away(placement: str, spots: list[int]) -> None:
    found = run(facts("sm8150"), {"cores": "0-3", "load": LOAD, "placement": placement})
    assert cpus(found) == [(cpu,) for cpu in spots]


def test_one_big_takes_a_big_core_that_is_online() -> None:
    change: Texts = {f"{CPU}/online": "0-3,5-7\n", f"{CPU}/cpu4/online": "0\n"}
    assert cpus(run(facts("sm8150", change=change), {"load": LOAD, "placement": "one-big"})) == [(5,)]
    held: dict[str, Level] = {"cores": "0-3,6", "load": LOAD, "placement": "one-big"}
    assert cpus(run(facts("sm8150"), held)) == [(6,)]


def test_one_big_without_a_big_core_online_says_what_to_do() -> None:
    with pytest.raises(ConfigError) as caught:
        run(facts("sm8150", change=BIG_OFFLINE), {"load": LOAD, "placement": "one-big"})
    assert 'cores = "all-online"' in str(caught.value)


def test_measured_programs_and_tenants_on_all_cores_get_those_that_will_be_online() -> None:
    device = facts("sm8150", change=BIG_OFFLINE)
    measure = Measure(workload="klo", cores="all")
    assert cpus(run(device, {"cores": "all-online"}, measure=measure)) == [tuple(range(8))]
    tenant = Tenant(name="a", workload="cpu_tenant", cores="all")
    levels: dict[str, Level] = {"cores": "0-1", "scheduler": "native"}
    assert cpus(run(facts("sm8150"), levels, tenants=(tenant,), duration_s=1.0)) == [(0, 1)]


def test_the_clock_of_a_policy_that_is_busy_while_offline_is_sampled_all_the_same() -> None:
    silent: Texts = {path: None for path in facts("sm8150").tree if path.startswith(f"{CPU}/cpufreq/policy7/")}
    device = facts("sm8150", change={**silent, f"{CPU}/online": "0-6\n", f"{CPU}/cpu7/online": "0\n"})
    assert f"{CPU}/cpufreq/policy7/scaling_cur_freq" in run(device, {"cores": "all-online"}).sampling.nodes
