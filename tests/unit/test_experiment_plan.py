"""Every duration of an experiment's file is in its plan, in the unit the agent takes."""

from typing import Any

import pytest
from board_trees import CPU, facts

from devicelab.device import watch
from devicelab.experiment import plan
from devicelab.knobs import cpufreq
from devicelab.model.experiment import Cell, Experiment, Measure, Tenant
from devicelab.model.plan import Run
from devicelab.schedulers.base import Place

# No two of them alike, none a power of ten of another.
SECONDS = {"settle_s": 0.25, "hold_s": 3.5, "cooldown_s": 90.0}
KLO = Measure(workload="klo", params={"network": "mobilenet_v1"}, timeout_s=42.0)


def run(**more: Any) -> Run:
    experiment = Experiment.model_validate({"name": "x", "question": "?", **SECONDS, **more})
    (made,) = plan.runs_of([Cell(levels={}, measured="x")], range(1), experiment, Place(facts("sm8150")), "c")
    return made


def test_boards_settle_hold_and_cool_down_for_as_long_as_the_file_says() -> None:
    only_loads = run()
    assert (only_loads.settle_ms, only_loads.hold_ms, only_loads.cooldown_ms) == (250, 3_500, 90_000)


def test_what_is_measured_ends_by_itself_and_is_given_the_time_it_was_promised() -> None:
    (measured,) = run(measure=KLO).programs
    assert (run(measure=KLO).hold_ms, measured.timeout_ms) == (0, 42_000)
    tenants = tuple(Tenant(name=name, workload="cpu_tenant") for name in "ab")
    for tenant in run(tenants=tenants, duration_s=60.0).programs:
        assert 60_000 < tenant.timeout_ms <= 60_000 + 300_000  # the window, and a bounded tail


@pytest.mark.parametrize(("hertz", "period_ms"), [(10.0, 100), (4.0, 250), (0.5, 2_000), (0.0, 0)])
def test_samples_are_taken_as_often_as_the_file_says(hertz: float, period_ms: int) -> None:
    assert run(sample_hz=hertz).sampling.period_ms == period_ms


def test_the_least_time_of_a_run_is_all_that_the_plan_prescribes() -> None:
    assert plan.programmed_ms(run()) == 250 + 3_500 + 90_000
    assert plan.programmed_ms(run(measure=KLO)) == 250 + 90_000


def test_no_run_is_called_overdue_before_its_own_time_outs() -> None:
    longest = watch.longest_s(run(measure=KLO))
    assert longest >= 42.0 + 90.0 + 0.25
    longer = watch.longest_s(run(measure=KLO.model_copy(update={"timeout_s": 142.0})))
    assert longer - longest == pytest.approx(100.0)


def test_an_offline_policy_that_tells_nothing_has_the_cpus_up_to_the_next_one() -> None:
    gone = {
        f"{CPU}/cpufreq/policy{number}/{node}": None for number in (0, 4) for node in ("affected_cpus", "related_cpus")
    }
    found = {one.name: one.cpus for one in cpufreq.policies(facts("sm8150", change=gone))}
    assert found["policy0"] == (0, 1, 2, 3)
    assert found["policy4"] == (4, 5, 6)
    assert found["policy7"] == (7,)
